"""The clock of a player: which position of a sequence of frames is on screen now."""

from collections.abc import Sequence

from PySide6.QtCore import QElapsedTimer, QObject, QTimer, Signal

FASTEST = 8
SLOW = 0.25
"""Of real speed: slow motion."""
_TICK_MILLISECONDS = 12


class Playback(QObject):
    """Plays positions 0..n-1, each starting at a given second, forward or backward at any speed.

    A slow decoder drops frames, never time: each tick asks for the position that is due now.

    Signals:
        position_changed: Another position is on screen. arg: int
        speed_changed: It plays, stops or shuttles; 0 is standing still. arg: float
        looping_changed: Whether it begins again at the end. arg: bool
    """

    position_changed = Signal(int)
    speed_changed = Signal(float)
    looping_changed = Signal(bool)

    def __init__(self, parent: QObject | None = None) -> None:
        super().__init__(parent)
        self._starts: tuple[float, ...] = (0.0,)
        self._end = 0.0
        self._loop = (0, 1)
        self._is_looping = True
        self._position = 0
        self._speed = 0.0
        self._seconds = 0.0
        self._clock = QElapsedTimer()
        self._timer = QTimer(self)
        self._timer.setInterval(_TICK_MILLISECONDS)
        self._timer.timeout.connect(self.advance)

    @property
    def position(self) -> int:
        """Where it stands."""
        return self._position

    @property
    def speed(self) -> float:
        """Times real speed; negative is backward, 0 is still."""
        return self._speed

    @property
    def count(self) -> int:
        """Number of positions."""
        return len(self._starts)

    @property
    def seconds(self) -> float:
        """Start of the position on screen."""
        return self._starts[self._position]

    def set_sequence(self, starts: Sequence[float], end_seconds: float, position: int = 0) -> None:
        """Play another sequence, standing at `position`.

        Args:
            starts: Second at which each position starts, ascending; at least one.
            end_seconds: Where the last one ends.
            position: Clamped to the sequence.
        """
        self.stop()
        self._starts = tuple(starts) or (0.0,)
        self._end = end_seconds
        self._loop = (0, len(self._starts))
        self._position = min(max(position, 0), len(self._starts) - 1)
        self.position_changed.emit(self._position)

    def set_loop(self, first: int, end: int) -> None:
        """Loop inside [first, end) when it plays."""
        first = min(max(first, 0), self.count - 1)
        self._loop = (first, min(max(end, first + 1), self.count))

    @property
    def is_looping(self) -> bool:
        """Whether it begins again at the end of the loop; else it stops there."""
        return self._is_looping

    def toggle_looping(self) -> None:
        """Begin again at the end, or stop there."""
        self._is_looping = not self._is_looping
        self.looping_changed.emit(self._is_looping)

    def seek(self, position: int) -> None:
        """Stand at this position; it goes on playing from there if it plays."""
        position = min(max(position, 0), self.count - 1)
        self._seconds = self._starts[position]
        self._clock.restart()
        if position != self._position:
            self._position = position
            self.position_changed.emit(position)

    def play(self, speed: float = 1.0) -> None:
        """Play at a speed, from where it stands; from the loop's edge when it stands outside."""
        first, end = self._loop
        at_end = self._position >= end - 1 if speed > 0 else self._position <= first
        if not first <= self._position < end or (at_end and end - first > 1):
            self.seek(first if speed > 0 else end - 1)
        self._seconds = self._starts[self._position]
        self._clock.restart()
        self._timer.start()
        self._set_speed(speed)

    def stop(self) -> None:
        """Stand still."""
        self._timer.stop()
        self._set_speed(0)

    def toggle(self) -> None:
        """Play at real speed, or stop."""
        if self._speed:
            self.stop()
        else:
            self.play()

    def shuttle(self, direction: int) -> None:
        """J and L: each press in one direction doubles the speed up to eight times."""
        speed = self._speed * 2 if self._speed * direction >= 1 else direction
        self.play(max(-FASTEST, min(FASTEST, speed)))

    def play_slowly(self, direction: int) -> None:
        """K with J or L: slow motion."""
        self.play(SLOW * direction)

    def step(self, positions: int) -> None:
        """Stop, and go some positions on or back."""
        self.stop()
        self.seek(self._position + positions)

    def advance(self) -> None:
        """Go to the position that is due now; the timer calls it."""
        first, end = self._loop
        self._seconds += self._speed * self._clock.restart() / 1000.0
        start = self._starts[first]
        stop = self._starts[end] if end < self.count else self._end
        length = max(stop - start, 1e-3)
        if not start <= self._seconds < stop and not self._is_looping:
            self.stop()
            self.seek(end - 1 if self._seconds >= stop else first)
            return
        if not start <= self._seconds < stop:
            self._seconds = start + (self._seconds - start) % length
        position = self._position_at(self._seconds, first, end)
        if position != self._position:
            self._position = position
            self.position_changed.emit(position)

    def _position_at(self, seconds: float, first: int, end: int) -> int:
        low, high = first, end - 1
        while low < high:
            middle = (low + high + 1) // 2
            if self._starts[middle] <= seconds + 1e-9:
                low = middle
            else:
                high = middle - 1
        return low

    def _set_speed(self, speed: float) -> None:
        if speed != self._speed:
            self._speed = speed
            self.speed_changed.emit(speed)
