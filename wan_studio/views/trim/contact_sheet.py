"""All frames that train of a clip, side by side, as the model sees them."""

import math

from PySide6.QtCore import QRectF, Qt, Signal
from PySide6.QtGui import QColor, QMouseEvent, QPainter, QPaintEvent, QPen
from PySide6.QtWidgets import QWidget

from wan_studio.views.player.player import Player
from wan_studio.views.theme import numeric_font, tone, tones

_GAP = 6
_LABEL = 14


class ContactSheet(QWidget):
    """A grid of the training view's frames; the player holds their pictures.

    Signals:
        position_chosen: A picture was clicked. arg: its place in the sample
    """

    position_chosen = Signal(int)

    def __init__(self, player: Player) -> None:
        super().__init__()
        self.setAccessibleName("Contact sheet of the trained frames")
        self._player = player
        player.window_filled.connect(lambda *_: self.update())
        player.position_changed.connect(lambda _: self.update())

    @property
    def kept_count(self) -> int:
        """Pictures that are there already."""
        strip = self._player.strip
        frames = strip.frames if strip is not None else ()
        return sum(self._player.kept_picture(frame) is not None for frame in frames)

    def mousePressEvent(self, event: QMouseEvent) -> None:
        """Go to the picture under the pointer."""
        for position, box in enumerate(self._boxes()):
            if box.contains(event.position()):
                self.position_chosen.emit(position)

    def paintEvent(self, event: QPaintEvent) -> None:  # noqa: ARG002
        """Draw what is there; the rest follows as it is decoded."""
        painter = QPainter(self)
        painter.setRenderHint(QPainter.RenderHint.Antialiasing)
        painter.setRenderHint(QPainter.RenderHint.SmoothPixmapTransform)
        painter.setPen(Qt.PenStyle.NoPen)
        painter.setBrush(QColor(tones().video))
        painter.drawRoundedRect(self.rect(), 8, 8)
        strip = self._player.strip
        if strip is None:
            return
        painter.setFont(numeric_font(9))
        here = self._player.playback.position
        for position, (frame, box) in enumerate(zip(strip.frames, self._boxes(), strict=False)):
            picture = box.adjusted(0, 0, 0, -_LABEL)
            image = self._player.kept_picture(frame)
            if image is None:
                painter.fillRect(picture, QColor(255, 255, 255, 18))
            else:
                painter.drawImage(picture, image)
            painter.setPen(QColor("#c8ced6"))
            painter.drawText(
                box.adjusted(0, picture.height(), 0, 0), Qt.AlignmentFlag.AlignCenter, f"{position + 1}"
            )
            if position == here:
                painter.setBrush(Qt.BrushStyle.NoBrush)
                painter.setPen(QPen(tone("accent"), 2.5))
                painter.drawRect(picture)

    def _boxes(self) -> list[QRectF]:
        """Where each picture lies: as large as all of them fit."""
        strip = self._player.strip
        if strip is None or strip.trained_size is None:
            return []
        count = len(strip.frames)
        aspect = strip.trained_size.width / strip.trained_size.height
        room_x, room_y = max(self.width() - _GAP, 1), max(self.height() - _GAP, 1)
        best, across = 0.0, 1
        for columns in range(1, count + 1):
            rows = math.ceil(count / columns)
            wide = min(room_x / columns - _GAP, (room_y / rows - _GAP - _LABEL) * aspect)
            if wide > best:
                best, across = wide, columns
        rows = math.ceil(count / across)
        high = best / aspect + _LABEL
        left = (self.width() - across * (best + _GAP) + _GAP) / 2
        top = (self.height() - rows * (high + _GAP) + _GAP) / 2
        return [
            QRectF(left + (at % across) * (best + _GAP), top + (at // across) * (high + _GAP), best, high)
            for at in range(count)
        ]
