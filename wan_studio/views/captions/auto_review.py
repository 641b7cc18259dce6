"""What the model proposes, clip by clip: beside the present caption, to be edited, accepted or skipped."""

from PySide6.QtCore import QModelIndex, Signal
from PySide6.QtGui import QKeyEvent, Qt
from PySide6.QtWidgets import QListView, QPlainTextEdit, QStackedWidget, QWidget

from wan_studio.domain.text_diff import diff
from wan_studio.models.change_list_model import ChangeRole
from wan_studio.models.proposal_list_model import ProposalListModel, ProposalRow
from wan_studio.views.captions.diff_view import ChangeRowDelegate, DiffView
from wan_studio.views.theme import GRID
from wan_studio.views.widgets import ElidedLabel, EmptyState, button, column, label, row
from wan_studio.views.wording import count

_LIST_WIDTH = 250


class AutoReview(QWidget):
    """The list at the left, one proposal at the right.

    Signals:
        clip_chosen: The user looks at this clip's proposal. arg: clip id
        edited: A proposal says something else. args: clip id, text
        accept_wanted: These become the captions. arg: list of clip ids
        skip_wanted: These do not. arg: list of clip ids
        again_wanted: Drop these, so that they are described anew. arg: list of clip ids
        bring_back_wanted: Show again what was settled.
    """

    clip_chosen = Signal(str)
    edited = Signal(str, str)
    accept_wanted = Signal(object)
    skip_wanted = Signal(object)
    again_wanted = Signal(object)
    bring_back_wanted = Signal()

    def __init__(self) -> None:
        super().__init__()
        self.model = ProposalListModel(self)
        self._shown = ""
        self._is_showing = False
        self._build()

    def show_rows(self, rows: list[ProposalRow], settled: int) -> None:
        """Show what waits, and how many were settled before."""
        shown, at = self._shown, self.list.currentIndex().row()
        self.model.show_rows(rows)
        self._stack.setCurrentIndex(0 if not rows else 1)
        self._back.setText(f"Bring back {count(settled, 'settled one')}")
        self._back.setVisible(settled > 0)
        self._empty_back.setVisible(settled > 0)
        wanted = self.model.row_of(shown)
        if wanted < 0 and shown:
            # Settled: on to what took its place.
            wanted = min(max(at, 0), len(rows) - 1)
        elif wanted < 0:
            wanted = next((at for at, one in enumerate(rows) if one.can_be_accepted), -1)
        if wanted >= 0:
            self._go_to(wanted)
        else:
            self._show_nothing()
        self._renew_buttons()

    def select(self, clip_id: str) -> None:
        """Go to a clip's proposal, if it has one."""
        at = self.model.row_of(clip_id)
        if at >= 0 and clip_id != self._shown:
            self._go_to(at)

    def accept_shown(self) -> None:
        """Accept the proposal that is looked at."""
        if self._accept.isEnabled() and self._shown:
            self.accept_wanted.emit([self._shown])

    def keyPressEvent(self, event: QKeyEvent) -> None:
        """Space turns the tick of the shown proposal, Delete skips it, Return accepts it; all from the list."""
        if self.list.hasFocus():
            index = self.list.currentIndex()
            match event.key():
                case Qt.Key.Key_Space:
                    ticked = (
                        Qt.CheckState(index.data(Qt.ItemDataRole.CheckStateRole)) is Qt.CheckState.Checked
                    )
                    wanted = Qt.CheckState.Unchecked if ticked else Qt.CheckState.Checked
                    self.model.setData(index, wanted, Qt.ItemDataRole.CheckStateRole)
                    return
                case Qt.Key.Key_Delete if self._shown:
                    self.skip_wanted.emit([self._shown])
                    return
                case Qt.Key.Key_Return | Qt.Key.Key_Enter:
                    self.accept_shown()
                    return
                case _:
                    pass
        super().keyPressEvent(event)

    def _build(self) -> None:
        self.list = QListView()
        self.list.setModel(self.model)
        self.list.setItemDelegate(ChangeRowDelegate(self.list))
        self.list.setUniformItemSizes(True)
        self.list.setAccessibleName("Proposed captions")
        self.list.setFixedWidth(_LIST_WIDTH)
        self.list.selectionModel().currentChanged.connect(self._on_current_changed)
        self.model.dataChanged.connect(self._on_data_changed)
        self._old = label("Present caption, and what would change", "muted")
        self.diff = DiffView("Difference from the present caption")
        self.diff.setMinimumHeight(48)
        self._head = ElidedLabel("Proposed caption", "muted")
        self.editor = QPlainTextEdit()
        self.editor.setAccessibleName("Proposed caption")
        self.editor.setMinimumHeight(56)
        self.editor.setTabChangesFocus(True)
        self.editor.textChanged.connect(self._on_edited)
        self._again = button(
            "Drop", self._on_again, tip="Drop this proposal: the next start describes the clip anew"
        )
        self._skip = button(
            "Skip", lambda: self.skip_wanted.emit([self._shown]), tip="Keep what is there (Delete)"
        )
        self._accept = button(
            "Accept", self.accept_shown, icon_name="check", tip="Make it the caption (Return)"
        )
        right = column(
            self._old,
            self.diff,
            self._head,
            self.editor,
            row(self._again, None, self._skip, self._accept),
            gap=GRID // 2,
        )
        right.setStretch(1, 1)
        right.setStretch(3, 1)
        middle = row(self.list, right)
        middle.setStretch(1, 1)
        self._back = button("", self.bring_back_wanted.emit, role="link")
        self._accept_empty = button("", self._on_accept_empty)
        self._accept_ticked = button("", self._on_accept_ticked, role="primary")
        full = QWidget()
        layout = column(middle, row(self._back, None, self._accept_empty, self._accept_ticked))
        layout.setStretch(0, 1)
        full.setLayout(layout)
        self._empty_back = button("Bring back settled ones", self.bring_back_wanted.emit)
        empty = EmptyState(
            "sparkle",
            "Nothing to review",
            "Captions that the model proposes wait here until you accept or skip them.",
            self._empty_back,
        )
        self._stack = QStackedWidget()
        self._stack.addWidget(empty)
        self._stack.addWidget(full)
        self.setLayout(column(self._stack))
        self._empty_back.hide()

    def _go_to(self, at: int) -> None:
        index = self.model.index(at)
        if self.list.currentIndex() != index:
            self.list.setCurrentIndex(index)
        else:
            self._show(self.model.rows[at])

    def _on_current_changed(self, current: QModelIndex) -> None:
        clip_id = current.data(ChangeRole.CLIP_ID)
        if clip_id is None:
            return
        is_other = clip_id != self._shown
        self._show(self.model.rows[current.row()])
        if is_other:
            self.clip_chosen.emit(clip_id)

    def _show(self, shown: ProposalRow) -> None:
        one = shown.proposal
        is_other = shown.clip_id != self._shown
        self._shown = shown.clip_id
        self._is_showing = True
        if is_other or self.editor.toPlainText() != one.text:
            self.editor.setPlainText(one.text)
        self.editor.setReadOnly(bool(one.problem))
        self.editor.setPlaceholderText(one.problem)
        self._is_showing = False
        before = (shown.before or "").strip()
        self._old.setVisible(bool(before) and not one.problem)
        self.diff.setVisible(bool(before) and not one.problem)
        if before:
            self.diff.show_parts(diff(shown.before or "", one.text))
        head = "Proposed caption"
        if one.problem:
            head = "No caption could be made"
        elif not one.is_whole:
            head = "Proposed caption, which reached its longest length; the sentence that was cut off is gone"
        self._head.set_text(head)
        self._renew_buttons()

    def _show_nothing(self) -> None:
        self._shown = ""
        self._is_showing = True
        self.editor.clear()
        self.editor.setReadOnly(True)
        self.editor.setPlaceholderText("Choose a clip to see why it was not described.")
        self._is_showing = False
        self._old.hide()
        self.diff.hide()

    def _on_data_changed(self) -> None:
        at = self.model.row_of(self._shown)
        if at >= 0:
            self._show(self.model.rows[at])
        self._renew_buttons()

    def _on_edited(self) -> None:
        if not self._is_showing and self._shown:
            self.edited.emit(self._shown, self.editor.toPlainText())

    def _on_again(self) -> None:
        self.again_wanted.emit([self._shown])

    def _on_accept_empty(self) -> None:
        self.accept_wanted.emit([one.clip_id for one in self.model.rows if one.is_for_empty])

    def _on_accept_ticked(self) -> None:
        self.accept_wanted.emit([one.clip_id for one in self.model.ticked])

    def _renew_buttons(self) -> None:
        ticked, empty = self.model.counts
        at = self.model.row_of(self._shown)
        self._skip.setEnabled(at >= 0)
        self._again.setEnabled(at >= 0)
        self._accept.setEnabled(at >= 0 and self.model.rows[at].can_be_accepted)
        self._accept_ticked.setText(f"Accept {ticked} ticked")
        self._accept_ticked.setEnabled(ticked > 0)
        self._accept_empty.setText(f"Accept all for clips without a caption ({empty})")
        self._accept_empty.setEnabled(empty > 0)
