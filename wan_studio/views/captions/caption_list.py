"""The clips at the left: a search, filters, and a row each with the beginning of its caption."""

from PySide6.QtCore import (
    QItemSelection,
    QItemSelectionModel,
    QModelIndex,
    QPersistentModelIndex,
    QRect,
    QSize,
    Qt,
    QTimer,
    Signal,
)
from PySide6.QtGui import QColor, QKeyEvent, QPainter, QPixmap
from PySide6.QtWidgets import (
    QAbstractItemView,
    QLineEdit,
    QMenu,
    QStyle,
    QStyledItemDelegate,
    QStyleOptionViewItem,
    QToolButton,
    QVBoxLayout,
    QWidget,
)

from wan_studio.domain.caption_search import CaptionEntry, CaptionQueryError, parse_query
from wan_studio.models.caption_list_model import CaptionListModel, CaptionRole
from wan_studio.views.actions import tip_with_key
from wan_studio.views.clip_list import ClipListView, elided_name
from wan_studio.views.theme import GRID, ToneName, icon, tone, tones
from wan_studio.views.widgets import ElidedLabel, row, set_role, tool_button

_ROW_HEIGHT = 52
_FILTERS = (
    ("Needs attention", "lint:any"),
    ("No caption", "caption:none"),
    ("Trigger not named", "trigger:missing"),
    ("More than 100 tokens", "tokens:>100"),
    ("Cannot be read", "file:unreadable"),
    ("All clips", ""),
)
_HELP = (
    'Words, "a phrase", AND OR NOT and brackets; caption:none, trigger:missing, tokens:>100, words:<5, '
    "name:castle*, lint:motion, file:unreadable, clip:rejected"
)


class CaptionListPane(QWidget):
    """The list with its search.

    Signals:
        clip_chosen: The user went to a clip. arg: clip id
    """

    clip_chosen = Signal(str)

    def __init__(self, model: CaptionListModel) -> None:
        super().__init__()
        self._model = model
        self._current = ""
        self._problem = self._hint = ""
        self.search = QLineEdit()
        self.search.setPlaceholderText("Search captions and clips")
        self.search.setAccessibleName("Search captions and clips")
        self.search.setClearButtonEnabled(True)
        self.search.setToolTip(f"{tip_with_key('caption.search')}\n{_HELP}")
        self.search.textChanged.connect(self._on_search_changed)
        self._filter = tool_button("Filters", "funnel")
        menu = QMenu(self)
        for words, query in _FILTERS:
            menu.addAction(words).triggered.connect(lambda _=False, query=query: self.search.setText(query))
        self._filter.setMenu(menu)
        self._filter.setPopupMode(QToolButton.ToolButtonPopupMode.InstantPopup)
        self._filter.setStyleSheet("QToolButton::menu-indicator { image: none; }")
        self._count = ElidedLabel("", "muted")
        self.list = ClipListView()
        self.list.setModel(model)
        self.list.setItemDelegate(CaptionRowDelegate(self.list))
        self.list.setAccessibleName("Clips")
        self.list.setUniformItemSizes(True)
        self.list.setSelectionMode(QAbstractItemView.SelectionMode.ExtendedSelection)
        self.list.selectionModel().currentChanged.connect(self._on_current_changed)
        self.list.selectionModel().selectionChanged.connect(self._renew_count)
        self._selected: list[str] = []
        model.modelAboutToBeReset.connect(self._keep_selection)
        model.modelReset.connect(self._restore_selection)
        # One search for a burst of keys.
        self._timer = QTimer(self)
        self._timer.setSingleShot(True)
        self._timer.setInterval(15)
        self._timer.timeout.connect(self._apply_search)
        layout = QVBoxLayout(self)
        layout.setContentsMargins(0, 0, 0, 0)
        layout.setSpacing(GRID // 2)
        head = row(self.search, self._filter, gap=GRID // 2)
        head.setStretch(0, 1)
        layout.addLayout(head)
        layout.addWidget(self._count)
        layout.addWidget(self.list, 1)
        self._renew_count()

    @property
    def selected_ids(self) -> list[str]:
        """The selected clips, in the list's order."""
        rows = sorted(index.row() for index in self.list.selectionModel().selectedIndexes())
        return [self._model.ids[row] for row in rows]

    @property
    def note(self) -> str:
        """What stands under the search."""
        return self._count.whole_text

    def show_clip(self, clip_id: str) -> None:
        """Mark this clip as the one that is looked at."""
        self._current = clip_id
        at = self._model.row_of(clip_id)
        if at >= 0 and self.list.currentIndex().row() != at:
            self.list.selectionModel().setCurrentIndex(
                self._model.index(at), QItemSelectionModel.SelectionFlag.ClearAndSelect
            )

    def keyPressEvent(self, event: QKeyEvent) -> None:
        """Escape in the search shows all clips again."""
        if event.key() == Qt.Key.Key_Escape and self.search.text():
            self.search.clear()
        else:
            super().keyPressEvent(event)

    def _on_search_changed(self) -> None:
        self._timer.start()

    def _apply_search(self) -> None:
        try:
            match = parse_query(self.search.text())
        except CaptionQueryError as error:
            self._problem = error.message
            self._hint = error.hint
            self._renew_count()
            return
        self._problem = ""
        self._model.set_match(match)

    def _keep_selection(self) -> None:
        self._selected = self.selected_ids

    def _restore_selection(self) -> None:
        chosen = QItemSelection()
        for clip_id in self._selected:
            at = self._model.row_of(clip_id)
            if at >= 0:
                chosen.select(self._model.index(at), self._model.index(at))
        selection = self.list.selectionModel()
        at = self._model.row_of(self._current)
        if at >= 0:
            if chosen.isEmpty():
                chosen.select(self._model.index(at), self._model.index(at))
            selection.setCurrentIndex(self._model.index(at), QItemSelectionModel.SelectionFlag.NoUpdate)
            selection.select(chosen, QItemSelectionModel.SelectionFlag.ClearAndSelect)
            self.list.scrollTo(self._model.index(at))
        self._renew_count()

    def _renew_count(self) -> None:
        if self._problem:
            set_role(self._count, "bad")
            self._count.set_text(self._problem)
            self._count.setToolTip(f"{self._problem} {self._hint}".strip())
            return
        shown, selected = len(self._model.ids), len(self.list.selectionModel().selectedIndexes())
        words = f"{shown} clip" if shown == 1 else f"{shown} clips"
        if self.search.text():
            words += " found"
        if selected > 1:
            words += f", {selected} selected"
        set_role(self._count, "muted")
        self._count.set_text(words)

    def _on_current_changed(self, current: QModelIndex) -> None:
        clip_id = current.data(CaptionRole.ID)
        if clip_id and clip_id != self._current:
            self._current = clip_id
            self.clip_chosen.emit(clip_id)


class CaptionRowDelegate(QStyledItemDelegate):
    """Draws one row: small poster, name, the beginning of the caption, and a sign where a look is due."""

    def sizeHint(self, option: QStyleOptionViewItem, index: QModelIndex | QPersistentModelIndex) -> QSize:
        """Every row has one height."""
        del option, index
        return QSize(160, _ROW_HEIGHT)

    def paint(
        self, painter: QPainter, option: QStyleOptionViewItem, index: QModelIndex | QPersistentModelIndex
    ) -> None:
        """Draw the row."""
        entry: CaptionEntry | None = index.data(CaptionRole.ENTRY)
        if entry is None:
            return
        painter.save()
        painter.setRenderHint(QPainter.RenderHint.Antialiasing)
        painter.setRenderHint(QPainter.RenderHint.SmoothPixmapTransform)
        box: QRect = option.rect.adjusted(0, 1, 0, -1)  # type: ignore[attr-defined]
        state: QStyle.StateFlag = option.state  # type: ignore[attr-defined]
        if state & QStyle.StateFlag.State_Selected:
            painter.setPen(Qt.PenStyle.NoPen)
            painter.setBrush(QColor(tones().accent_soft))
            painter.drawRoundedRect(box, 6, 6)
        if entry.is_rejected:
            painter.setOpacity(0.45)
        picture = QRect(box.left() + 5, box.top() + 6, 60, box.height() - 12)
        poster: QPixmap | None = index.data(CaptionRole.POSTER)
        painter.fillRect(picture, QColor(tones().video))
        if poster is not None:
            fitted = poster.size().scaled(picture.size(), Qt.AspectRatioMode.KeepAspectRatio)
            inner = QRect(0, 0, fitted.width(), fitted.height())
            inner.moveCenter(picture.center())
            painter.drawPixmap(inner, poster)
        words = QRect(
            picture.right() + 11, box.top() + 4, box.right() - picture.right() - 42, box.height() // 2 - 4
        )
        name = elided_name(painter.fontMetrics(), entry.name, words.width())
        self._draw_line(painter, words, name, "text")
        words.translate(0, words.height())
        is_good = entry.is_readable and not entry.is_empty
        self._draw_line(painter, words, str(index.data(CaptionRole.EXCERPT)), "muted" if is_good else "warn")
        sign = _sign(entry)
        if sign:
            icon(*sign).paint(painter, box.right() - 26, box.center().y() - 8, 18, 18)
        painter.restore()

    def _draw_line(self, painter: QPainter, box: QRect, text: str, tone_name: ToneName) -> None:
        painter.setPen(tone(tone_name))
        shown = painter.fontMetrics().elidedText(text, Qt.TextElideMode.ElideRight, box.width())
        painter.drawText(box, Qt.AlignmentFlag.AlignVCenter | Qt.AlignmentFlag.AlignLeft, shown)


def _sign(entry: CaptionEntry) -> tuple[str, ToneName] | None:
    if entry.is_rejected:
        return "prohibit", "muted"
    if not entry.is_readable:
        return "x-circle", "bad"
    return ("warning-circle", "warn") if entry.needs_attention else ("check-circle", "good")
