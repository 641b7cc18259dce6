"""The clips as a table: the same rows as the grid, with their numbers beside each other."""

from PySide6.QtCore import QModelIndex, QPersistentModelIndex, QRect, Qt
from PySide6.QtGui import QPainter
from PySide6.QtWidgets import (
    QAbstractItemView,
    QHeaderView,
    QStyledItemDelegate,
    QStyleOptionViewItem,
    QTableView,
    QWidget,
)

from wan_studio.domain.clip_record import ClipRecord
from wan_studio.models.clip_view_model import COLUMNS, RECORD_ROLE, ClipViewModel, Column
from wan_studio.views.clip_list import elided_name
from wan_studio.views.clips.delegate import paint_stars, state_look
from wan_studio.views.theme import GRID, icon, numeric_font, tone

_ROW_HEIGHT = 32
_WIDTHS = {
    Column.NAME: 160,
    Column.STATE: 136,
    Column.LENGTH: 72,
    Column.SIZE: 108,
    Column.RATE: 88,
    Column.TRAINS: 64,
    Column.RATING: 96,
    Column.DATASET: 104,
}


class _CellDelegate(QStyledItemDelegate):
    """Draws ratings as stars and states with their sign; the rest as Qt does."""

    def paint(
        self, painter: QPainter, option: QStyleOptionViewItem, index: QModelIndex | QPersistentModelIndex
    ) -> None:
        """Draw the cell."""
        record: ClipRecord | None = index.data(RECORD_ROLE)
        column = COLUMNS[index.column()]
        if record is None or column not in (Column.RATING, Column.STATE):
            if record is not None and record.rejected:
                painter.setOpacity(0.5)
            super().paint(painter, option, index)
            painter.setOpacity(1.0)
            return
        box: QRect = option.rect  # type: ignore[attr-defined]
        plain = QStyleOptionViewItem(option)
        self.initStyleOption(plain, index)
        plain.text = ""  # type: ignore[attr-defined]
        widget = option.widget  # type: ignore[attr-defined]
        widget.style().drawControl(widget.style().ControlElement.CE_ItemViewItem, plain, painter, widget)
        if column is Column.RATING:
            paint_stars(painter, box.left() + GRID, box.center().y() - 7, record.rating)
            return
        text, tone_name, icon_name = state_look(record)
        icon(icon_name, tone_name).paint(painter, box.left() + GRID, box.center().y() - 8, 16, 16)
        painter.setPen(tone(tone_name))
        words = box.adjusted(GRID + 22, 0, -4, 0)
        shown = painter.fontMetrics().elidedText(text, Qt.TextElideMode.ElideRight, words.width())
        painter.drawText(words, Qt.AlignmentFlag.AlignVCenter | Qt.AlignmentFlag.AlignLeft, shown)

    def initStyleOption(  # noqa: N802 - Qt's name
        self, option: QStyleOptionViewItem, index: QModelIndex | QPersistentModelIndex
    ) -> None:
        """A name that is too long keeps its range."""
        super().initStyleOption(option, index)
        if COLUMNS[index.column()] is Column.NAME:
            room = option.rect.width() - 3 * GRID  # type: ignore[attr-defined]
            option.text = elided_name(option.fontMetrics, option.text, room)  # type: ignore[attr-defined]


class ClipTable(QTableView):
    """Rows with columns that sort."""

    def __init__(self, model: ClipViewModel) -> None:
        super().__init__()
        self.setModel(model)
        self.setItemDelegate(_CellDelegate(self))
        self.setFont(numeric_font())
        self.setSelectionBehavior(QAbstractItemView.SelectionBehavior.SelectRows)
        self.setSelectionMode(QAbstractItemView.SelectionMode.ExtendedSelection)
        self.setVerticalScrollMode(QAbstractItemView.ScrollMode.ScrollPerPixel)
        self.setEditTriggers(QAbstractItemView.EditTrigger.NoEditTriggers)
        self.setShowGrid(False)
        self.setWordWrap(False)
        self.setTabKeyNavigation(False)
        self.setCornerButtonEnabled(False)
        # Else the style draws a frame where the two scroll bars meet.
        self.setCornerWidget(QWidget(self))
        self.verticalHeader().hide()
        self.verticalHeader().setDefaultSectionSize(_ROW_HEIGHT)
        self.verticalHeader().setSectionResizeMode(QHeaderView.ResizeMode.Fixed)
        header = self.horizontalHeader()
        header.setHighlightSections(False)
        header.setSectionsClickable(True)
        header.setSortIndicatorClearable(True)
        header.setStretchLastSection(True)
        header.setDefaultAlignment(Qt.AlignmentFlag.AlignLeft | Qt.AlignmentFlag.AlignVCenter)
        for at, column in enumerate(COLUMNS):
            self.setColumnWidth(at, _WIDTHS.get(column, 120))
        self.setAccessibleName("Clips, as a table")
        self.show_order(*model.order)
        self.setSortingEnabled(True)

    def show_order(self, column: Column | None, is_descending: bool) -> None:  # noqa: FBT001 - a setter
        """Mark the column by which the rows are ordered."""
        header = self.horizontalHeader()
        header.blockSignals(True)  # noqa: FBT003 - Qt's
        order = Qt.SortOrder.DescendingOrder if is_descending else Qt.SortOrder.AscendingOrder
        header.setSortIndicator(-1 if column is None else COLUMNS.index(column), order)
        header.blockSignals(False)  # noqa: FBT003 - Qt's
