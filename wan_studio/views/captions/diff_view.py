"""How changes look: what goes is struck out in red, what is new stands on green."""

from collections.abc import Iterable

from PySide6.QtCore import (
    QAbstractItemModel,
    QEvent,
    QModelIndex,
    QPersistentModelIndex,
    QPoint,
    QRect,
    QSize,
    Qt,
)
from PySide6.QtGui import QColor, QFont, QFontMetrics, QPainter, QTextCharFormat, QTextCursor
from PySide6.QtWidgets import (
    QPlainTextEdit,
    QStyle,
    QStyledItemDelegate,
    QStyleOptionViewItem,
)

from wan_studio.domain.text_diff import Part
from wan_studio.models.change_list_model import ChangeRole
from wan_studio.views.theme import GRID, icon, tone, tones

_ROW_HEIGHT = 46
_TICK = 22


class DiffView(QPlainTextEdit):
    """Two texts as one, to be read."""

    def __init__(self, name: str) -> None:
        super().__init__()
        self.setReadOnly(True)
        self.setAccessibleName(name)
        self._parts: tuple[Part, ...] = ()

    def show_parts(self, parts: Iterable[Part]) -> None:
        """Show these parts one after another."""
        self._parts = tuple(parts)
        self.clear()
        cursor = self.textCursor()
        for part in self._parts:
            cursor.insertText(part.text, _look(part.kind))
        cursor.movePosition(QTextCursor.MoveOperation.Start)
        self.setTextCursor(cursor)

    def changeEvent(self, event: QEvent) -> None:
        """The colours follow the scheme."""
        super().changeEvent(event)
        if event.type() == QEvent.Type.StyleChange and getattr(self, "_parts", ()):
            self.show_parts(self._parts)


class ChangeRowDelegate(QStyledItemDelegate):
    """Draws one change: a tick, the clip's name, and the words around the first place."""

    def sizeHint(self, option: QStyleOptionViewItem, index: QModelIndex | QPersistentModelIndex) -> QSize:
        """Every row has one height."""
        del option, index
        return QSize(200, _ROW_HEIGHT)

    def paint(
        self, painter: QPainter, option: QStyleOptionViewItem, index: QModelIndex | QPersistentModelIndex
    ) -> None:
        """Draw the row."""
        painter.save()
        box: QRect = option.rect.adjusted(4, 2, -4, -2)  # type: ignore[attr-defined]
        state: QStyle.StateFlag = option.state  # type: ignore[attr-defined]
        if state & QStyle.StateFlag.State_Selected:
            painter.fillRect(box, QColor(tones().sunken))
        is_ticked = Qt.CheckState(index.data(Qt.ItemDataRole.CheckStateRole)) is Qt.CheckState.Checked
        sign = icon("check-square", "accent") if is_ticked else icon("square", "muted")
        sign.paint(painter, box.left(), box.center().y() - 10, 20, 20)
        words = box.adjusted(_TICK + GRID, 0, 0, 0)
        painter.setPen(tone("muted"))
        upper = QRect(words.left(), words.top(), words.width(), words.height() // 2)
        painter.drawText(upper, Qt.AlignmentFlag.AlignVCenter | Qt.AlignmentFlag.AlignLeft, str(index.data()))
        if not is_ticked:
            painter.setOpacity(0.5)
        lower = QRect(words.left(), upper.bottom(), words.width(), words.height() // 2)
        _draw_parts(painter, lower, index.data(ChangeRole.PARTS))
        painter.restore()

    def editorEvent(
        self,
        event: QEvent,
        model: QAbstractItemModel,
        option: QStyleOptionViewItem,
        index: QModelIndex | QPersistentModelIndex,
    ) -> bool:
        """A click anywhere in the row turns the tick."""
        if event.type() == QEvent.Type.MouseButtonRelease:
            is_ticked = Qt.CheckState(index.data(Qt.ItemDataRole.CheckStateRole)) is Qt.CheckState.Checked
            wanted = Qt.CheckState.Unchecked if is_ticked else Qt.CheckState.Checked
            return model.setData(index, wanted, Qt.ItemDataRole.CheckStateRole)
        return super().editorEvent(event, model, option, index)


def _draw_parts(painter: QPainter, box: QRect, parts: tuple[Part, ...]) -> None:
    metrics: QFontMetrics = painter.fontMetrics()
    at = QPoint(box.left(), box.center().y() + metrics.ascent() // 2 - 1)
    for part in parts:
        room = box.right() - at.x()
        if room <= 0:
            return
        shown = metrics.elidedText(part.text, Qt.TextElideMode.ElideRight, room)
        width = metrics.horizontalAdvance(shown)
        font = QFont(painter.font())
        font.setStrikeOut(part.kind == "removed")
        painter.setFont(font)
        if part.kind == "added":
            painter.fillRect(
                QRect(at.x(), box.top() + 2, width, box.height() - 2), QColor(tones().accent_soft)
            )
        painter.setPen(tone({"removed": "bad", "added": "accent"}.get(part.kind, "text")))  # type: ignore[arg-type]
        painter.drawText(at, shown)
        at.setX(at.x() + width)
        if shown != part.text:
            return


def _look(kind: str) -> QTextCharFormat:
    look = QTextCharFormat()
    look.setForeground(tone({"removed": "bad", "added": "accent"}.get(kind, "text")))  # type: ignore[arg-type]
    if kind == "removed":
        look.setFontStrikeOut(True)
    elif kind == "added":
        look.setBackground(QColor(tones().accent_soft))
    return look
