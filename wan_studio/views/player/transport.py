"""The buttons under a player, and what the player's keys do."""

from collections.abc import Callable

from PySide6.QtWidgets import QAbstractButton, QApplication, QWidget

from wan_studio.views.actions import tip_with_key
from wan_studio.views.player.held_keys import HeldKeys
from wan_studio.views.player.player import Player
from wan_studio.views.theme import numeric_font, set_icon
from wan_studio.views.widgets import disable_with_reason, label, row, tool_button


class Transport(QWidget):
    """First, back, play, on, last, and the speed."""

    def __init__(self, player: Player) -> None:
        super().__init__()
        self._player = player
        self._keys = HeldKeys(player.playback, self)
        playback = player.playback
        self._play = tool_button("Play or pause", "play", playback.toggle)
        self._speed = label("", "muted")
        self._speed.setFont(numeric_font())
        self._speed.setMinimumWidth(56)
        self._buttons: list[QAbstractButton] = []
        for name, icon_name, handler in (
            ("play.first", "skip-back", lambda: playback.step(-playback.count)),
            ("play.step_back", "caret-left", lambda: playback.step(-1)),
            ("play.toggle", "", None),
            ("play.step_on", "caret-right", lambda: playback.step(1)),
            ("play.last", "skip-forward", lambda: playback.step(playback.count)),
        ):
            made = self._play if handler is None else tool_button(tip_with_key(name), icon_name, handler)
            made.setToolTip(tip_with_key(name))
            self._buttons.append(made)
        self._loop = tool_button(tip_with_key("play.loop"), "repeat", playback.toggle_looping)
        self._loop.setCheckable(True)
        self._loop.setChecked(playback.is_looping)
        playback.looping_changed.connect(self._loop.setChecked)
        self._buttons.append(self._loop)
        self.setLayout(row(*self._buttons, self._speed, gap=2))
        playback.speed_changed.connect(self._on_speed_changed)

    def handlers(self) -> dict[str, Callable[[], object]]:
        """What the player's keys do."""
        playback = self._player.playback
        return {
            "play.toggle": self._on_space,
            "play.stop": playback.stop,
            "play.back": lambda: self._keys.press(-1),
            "play.forward": lambda: self._keys.press(1),
            "play.slow_back": lambda: playback.play_slowly(-1),
            "play.slow_on": lambda: playback.play_slowly(1),
            "play.step_back": lambda: playback.step(-1),
            "play.step_on": lambda: playback.step(1),
            "play.jump_back": lambda: playback.step(-10),
            "play.jump_on": lambda: playback.step(10),
            "play.loop": playback.toggle_looping,
            "play.first": lambda: playback.step(-playback.count),
            "play.last": lambda: playback.step(playback.count),
        }

    def set_usable(self, reason: str) -> None:
        """Enable the buttons, or say in their tooltips why they do nothing."""
        disable_with_reason(self._buttons, reason)

    def _on_space(self) -> None:
        # Space presses a button that has the focus, as everywhere; else it plays.
        focused = QApplication.focusWidget()
        if isinstance(focused, QAbstractButton):
            focused.click()
        elif self._player.strip is not None:
            self._player.playback.toggle()

    def _on_speed_changed(self, speed: float) -> None:
        set_icon(self._play, "pause" if speed else "play")
        self._speed.setText(f"{speed:g}x" if speed not in (0, 1) else "")
