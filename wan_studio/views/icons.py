"""Icons of one family (Phosphor, as qtawesome ships it), drawn in our colours at any size.

The font is taken from qtawesome's files without importing qtawesome: that would load every family
and all of Qt's modules, a third of the time in which the window must be there.
"""

import json
from functools import cache
from importlib.util import find_spec
from pathlib import Path

from PySide6.QtCore import QPoint, QRect, QRectF, QSize, Qt
from PySide6.QtGui import QColor, QFont, QFontDatabase, QIcon, QIconEngine, QPainter, QPixmap

_DISABLED_OPACITY = 0.45


class GlyphEngine(QIconEngine):
    """Paints one glyph of the family."""

    def __init__(self, glyph: str, colour: QColor) -> None:
        super().__init__()
        self._glyph = glyph
        self._colour = QColor(colour)

    def paint(self, painter: QPainter, rect: QRect, mode: QIcon.Mode, state: QIcon.State) -> None:
        """Draw it into the rectangle."""
        del state
        painter.save()
        font = QFont(_family())
        font.setPixelSize(max(1, min(rect.width(), rect.height())))
        font.setStyleStrategy(QFont.StyleStrategy.PreferAntialias)
        painter.setFont(font)
        painter.setPen(self._colour)
        if mode is QIcon.Mode.Disabled:
            painter.setOpacity(painter.opacity() * _DISABLED_OPACITY)
        painter.drawText(QRectF(rect), Qt.AlignmentFlag.AlignCenter, self._glyph)
        painter.restore()

    def pixmap(self, size: QSize, mode: QIcon.Mode, state: QIcon.State) -> QPixmap:
        """It as a picture."""
        picture = QPixmap(size)
        if picture.isNull():
            # A button that is still laid out asks for a picture of no size; nothing can be drawn on it.
            return picture
        picture.fill(Qt.GlobalColor.transparent)
        painter = QPainter(picture)
        self.paint(painter, QRect(QPoint(0, 0), size), mode, state)
        painter.end()
        return picture

    def clone(self) -> QIconEngine:
        """A copy, as Qt asks for when an icon is changed."""
        return GlyphEngine(self._glyph, self._colour)


def glyph_icon(name: str, colour: QColor) -> QIcon:
    """The icon of this name; `KeyError` when the family has none."""
    return QIcon(GlyphEngine(chr(int(_charmap()[name], 16)), colour))


@cache
def _charmap() -> dict[str, str]:
    return json.loads(next(_font_folder().glob("phosphor-charmap*.json")).read_text(encoding="utf-8"))


@cache
def _family() -> str:
    number = QFontDatabase.addApplicationFont(str(next(_font_folder().glob("phosphor*.ttf"))))
    return QFontDatabase.applicationFontFamilies(number)[0]


@cache
def _font_folder() -> Path:
    spec = find_spec("qtawesome")
    if spec is None or spec.origin is None:
        raise ModuleNotFoundError("QtAwesome is missing. Install Wan Studio again.")
    return Path(spec.origin).parent / "fonts"
