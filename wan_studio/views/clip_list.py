"""Lists of clips: one that follows the chosen clip, and how a clip looks in a narrow one."""

from PySide6.QtCore import QModelIndex, QPersistentModelIndex, QRect, QSize, Qt
from PySide6.QtGui import QColor, QFocusEvent, QFontMetrics, QPainter, QPixmap
from PySide6.QtWidgets import (
    QAbstractScrollArea,
    QListView,
    QStyle,
    QStyledItemDelegate,
    QStyleOptionViewItem,
)

from wan_studio.domain.checks import Level, Problem
from wan_studio.domain.clip_names import RANGE_MARK
from wan_studio.models.clip_list_model import ClipRole
from wan_studio.views.theme import ToneName, icon, tone, tones

_HEIGHT = 44
_MARKS: dict[Level, tuple[str, ToneName]] = {
    Level.NOTE: ("info", "muted"),
    Level.WARNING: ("warning-circle", "warn"),
    Level.BLOCKER: ("x-circle", "bad"),
}


def elided_name(metrics: QFontMetrics, label: str, width: int) -> str:
    """A clip's name that fits; the range behind it, which tells it from others of its file, stays whole."""
    name, dot, part = label.rpartition(RANGE_MARK)
    if not dot:
        return metrics.elidedText(label, Qt.TextElideMode.ElideMiddle, width)
    room = width - metrics.horizontalAdvance(dot + part)
    return metrics.elidedText(name, Qt.TextElideMode.ElideRight, max(room, 0)) + dot + part


class ClipListView(QListView):
    """A list of clips that leaves the choice of the clip to the user."""

    def focusInEvent(self, event: QFocusEvent) -> None:
        """Take the keys; Qt's own lists would choose their first row here, and every page would follow."""
        QAbstractScrollArea.focusInEvent(self, event)
        self.viewport().update()


class ClipRowDelegate(QStyledItemDelegate):
    """Draws one row: small poster, name, the worst problem's sign."""

    def sizeHint(self, option: QStyleOptionViewItem, index: QModelIndex | QPersistentModelIndex) -> QSize:
        """Every row has one height."""
        del option, index
        return QSize(160, _HEIGHT)

    def paint(
        self, painter: QPainter, option: QStyleOptionViewItem, index: QModelIndex | QPersistentModelIndex
    ) -> None:
        """Draw the row."""
        painter.save()
        painter.setRenderHint(QPainter.RenderHint.Antialiasing)
        painter.setRenderHint(QPainter.RenderHint.SmoothPixmapTransform)
        box: QRect = option.rect.adjusted(0, 1, 0, -1)  # type: ignore[attr-defined]
        state: QStyle.StateFlag = option.state  # type: ignore[attr-defined]
        if state & QStyle.StateFlag.State_Selected:
            painter.setPen(Qt.PenStyle.NoPen)
            painter.setBrush(QColor(tones().accent_soft))
            painter.drawRoundedRect(box, 6, 6)
        if index.data(ClipRole.REJECTED):
            painter.setOpacity(0.45)
        picture = QRect(box.left() + 5, box.top() + 5, 56, box.height() - 10)
        poster: QPixmap | None = index.data(ClipRole.POSTER)
        painter.fillRect(picture, QColor(tones().video))
        if poster is not None:
            fitted = poster.size().scaled(picture.size(), Qt.AspectRatioMode.KeepAspectRatio)
            inner = QRect(0, 0, fitted.width(), fitted.height())
            inner.moveCenter(picture.center())
            painter.drawPixmap(inner, poster)
        problems: tuple[Problem, ...] = index.data(ClipRole.PROBLEMS) or ()
        words = QRect(picture.right() + 11, box.top(), box.right() - picture.right() - 44, box.height())
        painter.setPen(tone("text"))
        shown = elided_name(painter.fontMetrics(), str(index.data()), words.width())
        painter.drawText(words, Qt.AlignmentFlag.AlignVCenter | Qt.AlignmentFlag.AlignLeft, shown)
        if index.data(ClipRole.REJECTED):
            name, tone_name = "prohibit", "muted"
        elif problems:
            name, tone_name = _MARKS[problems[0].level]
        else:
            name, tone_name = "check-circle", "good"
        icon(name, tone_name).paint(painter, box.right() - 26, box.center().y() - 8, 18, 18)
        painter.restore()
