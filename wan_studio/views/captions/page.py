"""Write what each clip shows, in the `.txt` beside it, and see what it trains as."""

from collections.abc import Callable

from PySide6.QtCore import QEvent
from PySide6.QtGui import QGuiApplication, QKeyEvent, Qt
from PySide6.QtWidgets import QHBoxLayout, QStackedWidget, QWidget

from wan_studio.bridge.caption_index import CaptionIndex
from wan_studio.bridge.spell_check import SpellCheck
from wan_studio.bridge.workbench import Workbench
from wan_studio.domain.caption_replace import CaptionChange, InsertTrigger, changes_of
from wan_studio.domain.checks import Step
from wan_studio.models.caption_list_model import CaptionListModel
from wan_studio.views.actions import tip_with_key
from wan_studio.views.captions.automatic import AutomaticCaptions
from wan_studio.views.captions.caption_list import CaptionListPane
from wan_studio.views.captions.default_caption import DefaultCaption
from wan_studio.views.captions.desk_top import DeskTop
from wan_studio.views.captions.editor import CaptionEditor
from wan_studio.views.captions.replace_panel import Scope
from wan_studio.views.captions.sheet import CaptionSheet
from wan_studio.views.captions.spell_menu import SpellMenu
from wan_studio.views.page import Page, Primary
from wan_studio.views.theme import GRID
from wan_studio.views.widgets import EmptyState, button, column

_LIST_WIDTH = 280


class CaptionsPage(Page):
    """Clips at the left, the looping clip above its caption at the right."""

    step = Step.CAPTIONS
    title = "Captions"
    subtitle = "A caption is the .txt file beside its clip. It is saved as soon as you stop typing."

    def __init__(self, bench: Workbench) -> None:
        super().__init__(bench)
        self._desk = bench.captions
        self._index = CaptionIndex(bench.session, bench.library, lambda: not bench.captions.is_saved, self)
        self._model = CaptionListModel(self._index, bench.library, self)
        self._empty_count = -1
        self._build()
        self._connect()

    @property
    def editor(self) -> CaptionEditor:
        """Where the caption is written."""
        return self._top.editor

    def handlers(self) -> dict[str, Callable[[], object]]:
        """What the keys do here."""
        return {
            "caption.next": self.select_next_attention,
            "caption.focus": self.editor.setFocus,
            "caption.search": self._focus_search,
            "caption.replace": self.open_replace,
            "caption.trigger": self._sheet.insert_trigger,
            "caption.trigger_all": self.add_trigger_to_selected,
            "caption.copy": self.copy_caption,
            "caption.paste": self.paste_caption,
            "caption.history": self._sheet.open_history,
            "caption.auto": self.open_automatic,
            "trim.view": lambda: self._sheet.show_training_view(on=not self._top.clip.shows_training),
            "caption.spelling": lambda: self._spelling.set_on(is_on=not self._spelling.is_on),
            "caption.misspelt": self.go_to_misspelt,
            "clip.rename": self._top.name.edit,
            "clip.next": lambda: self._step_clip(1),
            "clip.previous": lambda: self._step_clip(-1),
        }

    def primary(self) -> Primary | None:
        """The next clip without a caption; when there is none, on to the hardware."""
        left = len(self._empty_ids())
        if left:
            return Primary("Next without caption", hint=f"{left} left", icon_name="arrow-right")
        return Primary("Continue to hardware", icon_name="arrow-right")

    def run_primary(self) -> None:
        """The next clip without a caption; when there is none, on to the hardware."""
        self._sheet.save()
        empty = self._empty_ids()
        if empty:
            self._select_after(empty)
        else:
            self.step_wanted.emit(Step.HARDWARE)

    def enter(self) -> None:
        """Show the chosen clip; captions may have changed outside."""
        self._desk.look_again()
        self._sheet.set_shown(is_shown=True)
        self._on_clip_selected(self.session.clip_id)
        self._default.renew()
        self.editor.setFocus()

    def leave(self) -> None:
        """Save, and play no more."""
        self._sheet.set_shown(is_shown=False)
        self._top.remember_sizes()

    def shut_down(self) -> None:
        """End the decoder."""
        self._top.player.shut_down()

    def keyPressEvent(self, event: QKeyEvent) -> None:
        """Escape goes back from a panel to the clip, and from the caption to the player; there Space plays."""
        if event.key() == Qt.Key.Key_Escape and not self._top.shows_clip:
            self._sheet.close_panel()
        elif event.key() == Qt.Key.Key_Escape:
            self._top.player.setFocus()
        elif event.key() == Qt.Key.Key_Space and self._top.player.hasFocus():
            self._top.player.playback.toggle()
        else:
            super().keyPressEvent(event)

    def changeEvent(self, event: QEvent) -> None:
        """Back from another program: files may have changed there."""
        super().changeEvent(event)
        if event.type() == QEvent.Type.ActivationChange and self.isActiveWindow() and self.isVisible():
            self._sheet.look()

    def select_next_attention(self) -> None:
        """Look at the next clip whose caption needs it; of those that the list shows."""
        self._sheet.save()
        entries = self._index.entries
        ids = [i for i in self._model.ids if entries[i].needs_attention and i != self._sheet.clip_id]
        if ids:
            self._select_after(ids)
        else:
            self._top.say("No other caption needs attention")

    def open_replace(self) -> None:
        """Show the panel for changes of many captions, with what is marked in the editor."""
        self._sheet.save()
        self._top.replace.trigger = self.session.project.trigger
        found = self.editor.textCursor().selectedText()
        self._top.show_replace()
        self._top.replace.open_with(found)

    def open_automatic(self) -> None:
        """Show the panel in which a model describes clips."""
        self._sheet.save()
        self._automatic.open()

    def go_to_misspelt(self) -> None:
        """Go to the next wrong word of the caption, and open its menu."""
        if not self.editor.go_to_misspelt():
            words = "No wrong word" if self._spelling.is_ready else self._spelling.problem
            self._top.say(words if self._spelling.is_on or words else "Spell check is off")

    def add_trigger_to_selected(self) -> None:
        """Put `[trigger]` first in the selected captions that do not name it."""
        self._sheet.save()
        found = changes_of(
            InsertTrigger(self.session.project.trigger), self._desk.texts_of(self._list.selected_ids)
        )
        count = len(found)
        texts = {change.clip_id: change.after for change in found}
        self._sheet.edit(f"Add [trigger] to {count} caption{'' if count == 1 else 's'}", texts)
        self._top.say(f"[trigger] added to {count}" if count else "Nothing to add [trigger] to")

    def copy_caption(self) -> None:
        """Put the whole caption on the clipboard."""
        QGuiApplication.clipboard().setText(self._sheet.text)
        self._top.say("Copied")

    def paste_caption(self) -> None:
        """Let the selected captions say what is on the clipboard."""
        self._sheet.save()
        text = QGuiApplication.clipboard().text()
        ids = self._list.selected_ids or [self._sheet.clip_id]
        if text:
            words = f"Paste {len(ids)} captions" if len(ids) > 1 else "Paste caption"
            self._sheet.edit(words, dict.fromkeys(ids, text))

    def _build(self) -> None:
        self._list = CaptionListPane(self._model)
        self._default = DefaultCaption(self.session)
        side = QWidget()
        side.setFixedWidth(_LIST_WIDTH)
        automatic = button(
            "Automatic captions", self.open_automatic, tip=tip_with_key("caption.auto"), icon_name="sparkle"
        )
        layout = column(self._list, automatic, self._default, gap=GRID)
        layout.setStretch(0, 1)
        side.setLayout(layout)
        self._top = DeskTop(self.bench, self._captions_in, self._names)
        self._sheet = CaptionSheet(self.bench, self._index, self._top)
        self._automatic = AutomaticCaptions(self.bench, self._top, lambda: self._list.selected_ids)
        self._spelling = SpellCheck(self.bench, self)
        self._top.editor.use_spelling(self._spelling, SpellMenu(self._spelling, self.session))
        body = QWidget()
        across = QHBoxLayout(body)
        across.setContentsMargins(0, 0, 0, 0)
        across.setSpacing(2 * GRID)
        across.addWidget(side)
        across.addWidget(self._top, 1)
        empty = EmptyState(
            "chat-centered-text",
            "No clips yet",
            "Add clips first; then write here what each one shows.",
            button("Go to clips", lambda: self.step_wanted.emit(Step.CLIPS)),
        )
        self._stack = QStackedWidget()
        self._stack.addWidget(empty)
        self._stack.addWidget(body)
        self.add(self._stack, 1)

    def _connect(self) -> None:
        top = self._top
        self._list.clip_chosen.connect(self.session.select_clip)
        self._list.list.selectionModel().selectionChanged.connect(top.replace.renew)
        self._list.list.selectionModel().selectionChanged.connect(self._automatic.renew)
        self._model.modelReset.connect(top.replace.renew)
        top.replace_wanted.connect(self.open_replace)
        top.replace.apply_wanted.connect(self._on_apply)
        self.session.clip_selected.connect(self._on_clip_selected)
        self.session.project_changed.connect(self._default.renew)
        self._desk.captions_changed.connect(top.replace.renew)
        self._index.entries_changed.connect(self._on_entries_changed)
        self._index.words_changed.connect(lambda: top.show_words(self._index.words))

    def _on_clip_selected(self, clip_id: str) -> None:
        if not self.session.is_open or not self.isVisible():
            return
        self._stack.setCurrentIndex(1 if self.session.project.clips else 0)
        self._list.show_clip(clip_id)
        self._sheet.show_clip(clip_id)

    def _on_entries_changed(self) -> None:
        if self._model.row_of(self._sheet.clip_id) >= 0:
            self._list.show_clip(self._sheet.clip_id)
        left = len(self._empty_ids())
        if left != self._empty_count:
            self._empty_count = left
            self.primary_changed.emit()

    def _on_apply(self, text: str, changes: list[CaptionChange]) -> None:
        # What was typed since the preview is not taken back.
        still = {one.clip_id: one.after for one in changes if self._desk.text_of(one.clip_id) == one.before}
        self._sheet.edit(text, still)
        self._top.say(f"{len(still)} changed; Ctrl+Z takes it back")

    def _focus_search(self) -> None:
        self._list.search.setFocus()
        self._list.search.selectAll()

    def _step_clip(self, step: int) -> None:
        """To the neighbour in the list, as it is filtered."""
        self._sheet.save()
        ids = self._model.ids
        at = self._model.row_of(self._sheet.clip_id)
        wanted = at + step if at >= 0 else (0 if step > 0 else len(ids) - 1)
        while 0 <= wanted < len(ids):
            if not self._index.entries[ids[wanted]].is_rejected:
                self.session.select_clip(ids[wanted])
                return
            wanted += step

    def _select_after(self, ids: list[str]) -> None:
        order = {clip.id: place for place, clip in enumerate(self.session.project.clips)}
        here = order.get(self._sheet.clip_id, -1)
        self.session.select_clip(next((one for one in ids if order[one] > here), ids[0]))
        self.editor.setFocus()

    def _captions_in(self, scope: Scope) -> dict[str, str]:
        ids = {
            "all": lambda: [clip.id for clip in self.session.project.clips],
            "found": lambda: self._model.ids,
            "selected": lambda: self._list.selected_ids,
        }[scope]()
        return self._desk.texts_of(ids)

    def _names(self) -> dict[str, str]:
        return {clip_id: entry.name for clip_id, entry in self._index.entries.items()}

    def _empty_ids(self) -> list[str]:
        return [
            clip_id
            for clip_id, entry in self._index.entries.items()
            if entry.is_empty
            and entry.is_readable
            and not entry.is_rejected
            and not self.bench.library.facts_of(clip_id).unreadable
            and not (clip_id == self._sheet.clip_id and self._sheet.text.strip())
        ]


def make_page(bench: Workbench) -> Page:
    """The page."""
    return CaptionsPage(bench)
