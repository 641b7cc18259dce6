"""K held with J or L, as in editing programs: a tap steps one frame, holding both plays in slow motion."""

from PySide6.QtCore import QCoreApplication, QEvent, QObject, Qt, QTimer
from PySide6.QtGui import QKeyEvent
from PySide6.QtWidgets import QWidget

from wan_studio.bridge.playback import Playback

_HELD_MILLISECONDS = 250
"""A key that is down for longer is held, and was not tapped."""
_STOP = Qt.Key.Key_K
_WAYS = {Qt.Key.Key_J: -1, Qt.Key.Key_L: 1}


class HeldKeys(QObject):
    """Knows which of the three keys are down while its widget is on screen."""

    def __init__(self, playback: Playback, widget: QWidget) -> None:
        super().__init__(widget)
        self._playback = playback
        self._down: set[int] = set()
        self._way = 0
        self._held = QTimer(self)
        self._held.setSingleShot(True)
        self._held.setInterval(_HELD_MILLISECONDS)
        self._held.timeout.connect(self._on_held)
        widget.installEventFilter(self)
        self._widget = widget

    def press(self, way: int) -> None:
        """J (-1) or L (1): faster each time; with K held one frame, and slow motion from then on."""
        if _STOP not in self._down:
            self._playback.shuttle(way)
            return
        self._playback.step(way)
        self._way = way
        self._held.start()

    def eventFilter(self, watched: QObject, event: QEvent) -> bool:
        """Nothing is taken away from anybody; a shortcut's key arrives as an override, and is let go as a key."""
        kind = event.type()
        if watched is self._widget and kind in (QEvent.Type.Show, QEvent.Type.Hide):
            self._listen(on=kind == QEvent.Type.Show)
        elif kind in (QEvent.Type.ShortcutOverride, QEvent.Type.KeyPress, QEvent.Type.KeyRelease):
            if isinstance(event, QKeyEvent) and not event.isAutoRepeat():
                self._note(event.key(), is_down=kind != QEvent.Type.KeyRelease)
        elif kind == QEvent.Type.ApplicationStateChange:
            # Keys that are let go over another program are not told of.
            self._forget()
        return False

    def _listen(self, *, on: bool) -> None:
        application = QCoreApplication.instance()
        if application is None:
            return
        application.removeEventFilter(self)
        if on:
            application.installEventFilter(self)
        else:
            self._forget()

    def _note(self, key: int, *, is_down: bool) -> None:
        if is_down:
            self._down.add(key)
            return
        self._down.discard(key)
        if self._way and (key == _STOP or _WAYS.get(Qt.Key(key)) == self._way):
            self._end()

    def _on_held(self) -> None:
        if self._way and _STOP in self._down:
            self._playback.play_slowly(self._way)

    def _end(self) -> None:
        self._held.stop()
        self._way = 0
        self._playback.stop()

    def _forget(self) -> None:
        self._down.clear()
        if self._way:
            self._end()
