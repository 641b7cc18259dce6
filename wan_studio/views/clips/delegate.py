"""How a clip looks in the grid: its poster, its length, its name and its worst problem."""

from dataclasses import dataclass

from PySide6.QtCore import QModelIndex, QPersistentModelIndex, QRect, QSize, Qt
from PySide6.QtGui import QColor, QFontMetrics, QPainter, QPainterPath, QPixmap
from PySide6.QtWidgets import QStyle, QStyledItemDelegate, QStyleOptionViewItem

from wan_studio.domain.checks import Level
from wan_studio.domain.clip_look import STRIP_FRAMES
from wan_studio.domain.clip_record import ClipRecord
from wan_studio.models.clip_list_model import ClipRole
from wan_studio.models.clip_view_model import RECORD_ROLE
from wan_studio.views.clip_list import elided_name
from wan_studio.views.theme import GRID, ToneName, icon, numeric_font, tone, tones

TILE = QSize(192, 176)
_POSTER_HEIGHT = 108
_STARS_WIDTH = 40
LEVEL_TONES: dict[Level, ToneName] = {Level.NOTE: "muted", Level.WARNING: "warn", Level.BLOCKER: "bad"}
LEVEL_ICONS: dict[Level, str] = {
    Level.NOTE: "info",
    Level.WARNING: "warning-circle",
    Level.BLOCKER: "x-circle",
}


@dataclass(frozen=True, slots=True)
class Scrub:
    """A tile that is looked through.

    Attributes:
        clip_id: Whose it is.
        place: How far into it, from 0 to 1.
    """

    clip_id: str
    place: float


class ClipDelegate(QStyledItemDelegate):
    """Draws one tile; all that it draws is looked up in the model.

    Attributes:
        scrub: The tile under the pointer; None for none.
    """

    scrub: Scrub | None = None

    def sizeHint(self, option: QStyleOptionViewItem, index: QModelIndex | QPersistentModelIndex) -> QSize:
        """Every tile has one size."""
        del option, index
        return TILE

    def paint(
        self, painter: QPainter, option: QStyleOptionViewItem, index: QModelIndex | QPersistentModelIndex
    ) -> None:
        """Draw the tile."""
        painter.save()
        painter.setRenderHint(QPainter.RenderHint.Antialiasing)
        painter.setRenderHint(QPainter.RenderHint.SmoothPixmapTransform)
        tile: QRect = option.rect.adjusted(4, 4, -4, -4)  # type: ignore[attr-defined]
        state: QStyle.StateFlag = option.state  # type: ignore[attr-defined]
        is_selected = bool(state & QStyle.StateFlag.State_Selected)
        painter.setPen(Qt.PenStyle.NoPen)
        painter.setBrush(tone("accent") if is_selected else QColor(tones().surface))
        painter.drawRoundedRect(tile.adjusted(-2, -2, 2, 2) if is_selected else tile, 8, 8)
        if is_selected:
            painter.setBrush(QColor(tones().surface))
            painter.drawRoundedRect(tile, 7, 7)
        if index.data(ClipRole.REJECTED):
            painter.setOpacity(0.45)
        poster_box = QRect(tile.left(), tile.top(), tile.width(), _POSTER_HEIGHT)
        record: ClipRecord | None = index.data(RECORD_ROLE)
        is_scrubbed = self.scrub is not None and self.scrub.clip_id == index.data(ClipRole.ID)
        strip: QPixmap | None = index.data(ClipRole.STRIP) if is_scrubbed else None
        if strip is None or self.scrub is None:
            self._paint_poster(painter, poster_box, index.data(ClipRole.POSTER))
        else:
            self._paint_moment(painter, poster_box, strip, self.scrub.place)
        if record is not None:
            self._paint_chips(painter, poster_box, record)
            self._paint_texts(painter, tile, record)
        painter.restore()

    def _paint_poster(self, painter: QPainter, box: QRect, poster: QPixmap | None) -> None:
        shape = QPainterPath()
        shape.addRoundedRect(box.adjusted(0, 0, 0, 8), 7, 7)
        painter.save()
        painter.setClipPath(shape)
        painter.setClipRect(box, Qt.ClipOperation.IntersectClip)
        painter.fillRect(box, QColor(tones().video))
        if poster is None:
            icon("film-strip", "muted").paint(painter, box.center().x() - 14, box.center().y() - 14, 28, 28)
        else:
            scale = max(box.width() / poster.width(), box.height() / poster.height())
            width, height = box.width() / scale, box.height() / scale
            cut = QRect(
                round((poster.width() - width) / 2),
                round((poster.height() - height) / 2),
                round(width),
                round(height),
            )
            painter.drawPixmap(box, poster, cut)
        painter.restore()

    def _paint_moment(self, painter: QPainter, box: QRect, strip: QPixmap, place: float) -> None:
        """One picture of the strip, and a line that says how far into the clip it is."""
        wide = strip.width() // STRIP_FRAMES
        painter.fillRect(box, QColor(tones().video))
        painter.drawPixmap(box, strip, QRect(int(place * STRIP_FRAMES) * wide, 0, wide, strip.height()))
        painter.fillRect(QRect(box.left(), box.bottom() - 2, round(place * box.width()), 3), tone("accent"))

    def _paint_chips(self, painter: QPainter, box: QRect, record: ClipRecord) -> None:
        """On the picture: its length at the right, its data set at the left unless it is the main one."""
        painter.setFont(numeric_font(9.5))
        bottom = box.bottom() - 25
        if record.frames is not None:
            text = "Image" if record.frames == 1 else f"{record.used_seconds or 0.0:.1f} s"
            width = painter.fontMetrics().horizontalAdvance(text) + 12
            _paint_chip(painter, QRect(box.right() - width - 5, bottom, width, 20), text)
        if record.dataset:
            metrics = painter.fontMetrics()
            text = metrics.elidedText(record.dataset, Qt.TextElideMode.ElideRight, box.width() - 90)
            _paint_chip(
                painter, QRect(box.left() + 5, bottom, metrics.horizontalAdvance(text) + 12, 20), text
            )

    def _paint_texts(self, painter: QPainter, tile: QRect, record: ClipRecord) -> None:
        font = numeric_font()
        painter.setFont(font)
        name_box = QRect(tile.left() + GRID, tile.top() + _POSTER_HEIGHT + 5, tile.width() - 2 * GRID, 22)
        painter.setPen(tone("text"))
        middle = Qt.AlignmentFlag.AlignVCenter | Qt.AlignmentFlag.AlignLeft
        metrics = QFontMetrics(font)
        painter.drawText(name_box, middle, elided_name(metrics, record.label, name_box.width()))
        line = name_box.translated(0, 23)
        text, tone_name, icon_name = state_look(record)
        icon(icon_name, tone_name).paint(painter, line.left(), line.top() + 3, 16, 16)
        words = line.adjusted(22, 0, -_STARS_WIDTH if record.rating else 0, 0)
        painter.setPen(tone(tone_name))
        painter.drawText(words, middle, metrics.elidedText(text, Qt.TextElideMode.ElideRight, words.width()))
        if record.rating:
            stars = f"{record.rating}"
            width = metrics.horizontalAdvance(stars)
            painter.setPen(tone("text"))
            painter.drawText(line, Qt.AlignmentFlag.AlignVCenter | Qt.AlignmentFlag.AlignRight, stars)
            icon("star-fill", "warn").paint(painter, line.right() - width - 20, line.top() + 3, 15, 15)


def state_look(record: ClipRecord) -> tuple[str, ToneName, str]:
    """A clip's state: its words, tone and sign."""
    if record.rejected:
        return "Rejected", "muted", "prohibit"
    if record.problems:
        worst = record.problems[0]
        more = f" +{len(record.problems) - 1}" if len(record.problems) > 1 else ""
        return worst.short + more, LEVEL_TONES[worst.level], LEVEL_ICONS[worst.level]
    if "unknown" in record.traits:
        return "Looking at it", "muted", "circle"
    return "Ready", "good", "check-circle"


def paint_stars(painter: QPainter, left: int, top: int, rating: int) -> None:
    """Draw a rating as filled stars; none is nothing."""
    star = icon("star-fill", "warn")
    for at in range(rating):
        star.paint(painter, left + 16 * at, top, 14, 14)


def _paint_chip(painter: QPainter, box: QRect, text: str) -> None:
    painter.setPen(Qt.PenStyle.NoPen)
    painter.setBrush(QColor(0, 0, 0, 170))
    painter.drawRoundedRect(box, 4, 4)
    painter.setPen(QColor("#ffffff"))
    painter.drawText(box, Qt.AlignmentFlag.AlignCenter, text)
