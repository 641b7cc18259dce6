"""How a clip looks in the grid: its poster, its length, its name and its worst problem."""

from PySide6.QtCore import QModelIndex, QPersistentModelIndex, QRect, QSize, Qt
from PySide6.QtGui import QColor, QFontMetrics, QPainter, QPainterPath, QPixmap
from PySide6.QtWidgets import QStyle, QStyledItemDelegate, QStyleOptionViewItem

from wan_studio.domain.checks import Level, Problem
from wan_studio.domain.clip import SourceVideo
from wan_studio.domain.project import ProjectClip
from wan_studio.models.clip_list_model import ClipRole
from wan_studio.views.theme import GRID, ToneName, icon, numeric_font, tone, tones

TILE = QSize(192, 176)
_POSTER_HEIGHT = 108
LEVEL_TONES: dict[Level, ToneName] = {Level.NOTE: "muted", Level.WARNING: "warn", Level.BLOCKER: "bad"}
LEVEL_ICONS: dict[Level, str] = {
    Level.NOTE: "info",
    Level.WARNING: "warning-circle",
    Level.BLOCKER: "x-circle",
}


class ClipDelegate(QStyledItemDelegate):
    """Draws one tile; all that it draws is looked up in the model."""

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
        self._paint_poster(painter, poster_box, index.data(ClipRole.POSTER))
        source: SourceVideo | None = index.data(ClipRole.SOURCE)
        if source is not None and not source.is_image:
            clip: ProjectClip = index.data(ClipRole.CLIP)
            self._paint_length(painter, poster_box, _used_seconds(source, clip))
        self._paint_texts(painter, tile, index)
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

    def _paint_length(self, painter: QPainter, box: QRect, seconds: float) -> None:
        text = f"{seconds:.1f} s"
        painter.setFont(numeric_font(9.5))
        width = painter.fontMetrics().horizontalAdvance(text) + 12
        chip = QRect(box.right() - width - 5, box.bottom() - 25, width, 20)
        painter.setPen(Qt.PenStyle.NoPen)
        painter.setBrush(QColor(0, 0, 0, 170))
        painter.drawRoundedRect(chip, 4, 4)
        painter.setPen(QColor("#ffffff"))
        painter.drawText(chip, Qt.AlignmentFlag.AlignCenter, text)

    def _paint_texts(
        self, painter: QPainter, tile: QRect, index: QModelIndex | QPersistentModelIndex
    ) -> None:
        font = numeric_font()
        painter.setFont(font)
        name_box = QRect(tile.left() + GRID, tile.top() + _POSTER_HEIGHT + 5, tile.width() - 2 * GRID, 22)
        painter.setPen(tone("text"))
        middle = Qt.AlignmentFlag.AlignVCenter | Qt.AlignmentFlag.AlignLeft
        elide = Qt.TextElideMode.ElideMiddle
        painter.drawText(
            name_box, middle, QFontMetrics(font).elidedText(str(index.data()), elide, name_box.width())
        )
        line = name_box.translated(0, 23)
        problems: tuple[Problem, ...] = index.data(ClipRole.PROBLEMS)
        if index.data(ClipRole.REJECTED):
            text, tone_name, icon_name = "Rejected", "muted", "prohibit"
        elif problems:
            worst = problems[0]
            more = f" +{len(problems) - 1}" if len(problems) > 1 else ""
            text, tone_name, icon_name = (
                worst.short + more,
                LEVEL_TONES[worst.level],
                LEVEL_ICONS[worst.level],
            )
        elif index.data(ClipRole.SOURCE) is None:
            text, tone_name, icon_name = "Looking at it", "muted", "circle"
        else:
            text, tone_name, icon_name = "Ready", "good", "check-circle"
        icon(icon_name, tone_name).paint(painter, line.left(), line.top() + 3, 16, 16)
        painter.setPen(tone(tone_name))
        painter.drawText(line.adjusted(22, 0, 0, 0), middle, text)


def _used_seconds(source: SourceVideo, clip: ProjectClip) -> float:
    trim = clip.trim or source.whole_range
    end = min(trim.end_frame, source.frame_count)
    return source.seconds_at(end) - source.seconds_at(min(trim.start_frame, source.frame_count - 1))
