"""Write what each clip shows, in the `.txt` beside it, and see what it trains as."""

from collections.abc import Callable
from pathlib import Path

import msgspec
from PySide6.QtCore import QEvent, QItemSelectionModel, Qt, QTimer
from PySide6.QtWidgets import (
    QHBoxLayout,
    QLineEdit,
    QPlainTextEdit,
    QSplitter,
    QStackedWidget,
    QVBoxLayout,
    QWidget,
)

from wan_studio.bridge.background import run_in_background
from wan_studio.bridge.workbench import Workbench
from wan_studio.domain.caption import TRIGGER_PLACEHOLDER, trains_as
from wan_studio.domain.checks import Step
from wan_studio.models.clip_list_model import ClipListModel, ClipRole
from wan_studio.services.caption_store import write_caption
from wan_studio.undo.edits import edit_project
from wan_studio.views.actions import tip_with_key
from wan_studio.views.captions.highlighter import TriggerHighlighter
from wan_studio.views.clip_list import ClipListView, ClipRowDelegate
from wan_studio.views.page import Page, Primary
from wan_studio.views.player.player import Player, whole_strip
from wan_studio.views.theme import GRID
from wan_studio.views.widgets import Banner, ElidedLabel, EmptyState, button, column, label, row, set_role
from wan_studio.views.wording import error_texts

SAVE_AFTER_MILLISECONDS = 400


class CaptionsPage(Page):
    """Clips at the left, the looping clip above its caption at the right."""

    step = Step.CAPTIONS
    title = "Captions"
    subtitle = "A caption is the .txt file beside its clip. It is saved shortly after you stop typing."

    def __init__(self, bench: Workbench) -> None:
        super().__init__(bench)
        self._model = ClipListModel(bench.session, bench.library, self)
        self._clip_id = ""
        self._is_dirty = False
        self._timer = QTimer(self)
        self._timer.setSingleShot(True)
        self._timer.setInterval(SAVE_AFTER_MILLISECONDS)
        self._timer.timeout.connect(self.save)
        self._build()
        bench.session.clip_selected.connect(self._on_clip_selected)
        bench.session.project_changed.connect(self._renew)
        bench.library.clip_changed.connect(self._on_clip_changed)

    @property
    def editor(self) -> QPlainTextEdit:
        """Where the caption is written."""
        return self._editor

    def handlers(self) -> dict[str, Callable[[], object]]:
        """What the keys do here."""
        return {
            "caption.next_empty": self.select_next_empty,
            "caption.trigger": lambda: self._editor.insertPlainText(TRIGGER_PLACEHOLDER),
            "clip.next": lambda: self.session.select_neighbour(1),
            "clip.previous": lambda: self.session.select_neighbour(-1),
        }

    def primary(self) -> Primary | None:
        """The next clip without a caption; when there is none, on to the hardware."""
        if self._empty_ids():
            return Primary(
                "Next without caption", hint=f"{len(self._empty_ids())} left", icon_name="arrow-right"
            )
        return Primary("Continue to hardware", icon_name="arrow-right")

    def run_primary(self) -> None:
        """The next clip without a caption; when there is none, on to the hardware."""
        self.save()
        if self._empty_ids():
            self.select_next_empty()
        else:
            self.step_wanted.emit(Step.HARDWARE)

    def enter(self) -> None:
        """Show the chosen clip; captions may have changed outside."""
        self.bench.library.look_again()
        self._on_clip_selected(self.session.clip_id)
        self._renew()
        self._editor.setFocus()

    def leave(self) -> None:
        """Save, and play no more."""
        self.save()
        self._player.playback.stop()

    def changeEvent(self, event: QEvent) -> None:
        """The placeholder's colours follow the scheme."""
        super().changeEvent(event)
        if event.type() == QEvent.Type.StyleChange and hasattr(self, "_highlighter"):
            self._highlighter.recolour()

    def shut_down(self) -> None:
        """End the decoder."""
        self._player.shut_down()

    def select_next_empty(self) -> None:
        """Look at the next clip without a caption."""
        ids = self._empty_ids()
        if not ids:
            return
        after = [i for i in ids if self._model.row_of(i) > self._model.row_of(self._clip_id)]
        self.session.select_clip((after or ids)[0])
        self._editor.setFocus()

    def save(self) -> None:
        """Write the caption if it was changed."""
        self._timer.stop()
        if not self._is_dirty or not self.session.is_open:
            return
        clip = next((c for c in self.session.project.clips if c.id == self._clip_id), None)
        if clip is None:
            return
        self._is_dirty = False
        path, text = Path(clip.caption_file), self._editor.toPlainText()
        self.bench.library.caption_written(clip.id, text)

        def write() -> None:
            path.parent.mkdir(parents=True, exist_ok=True)
            write_caption(path, text)

        def on_done(_: None) -> None:
            self._saved.setText("" if self._is_dirty else "Saved")

        run_in_background(write, on_done, self._on_error, urgent=True)

    def _build(self) -> None:
        body = QWidget()
        layout = QHBoxLayout(body)
        layout.setContentsMargins(0, 0, 0, 0)
        layout.setSpacing(2 * GRID)
        layout.addWidget(self._build_list())
        layout.addLayout(self._build_editor(), 1)
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

    def _build_list(self) -> QWidget:
        self._list = ClipListView()
        self._list.setModel(self._model)
        self._list.setItemDelegate(ClipRowDelegate(self._list))
        self._list.setAccessibleName("Clips")
        self._list.setUniformItemSizes(True)
        self._list.selectionModel().currentChanged.connect(self._on_row_changed)
        self._default = QLineEdit()
        self._default.setAccessibleName("Default caption")
        self._default.setPlaceholderText("For clips without a caption")
        self._default.editingFinished.connect(self._on_default_edited)
        side = QWidget()
        side.setFixedWidth(272)
        layout = QVBoxLayout(side)
        layout.setContentsMargins(0, 0, 0, 0)
        layout.setSpacing(GRID)
        layout.addWidget(self._list, 1)
        layout.addWidget(label("Default caption", "muted"))
        layout.addWidget(self._default)
        return side

    def _build_editor(self) -> QVBoxLayout:
        self._player = Player("Clip")
        self._player.setMinimumHeight(160)
        self._editor = QPlainTextEdit()
        self._editor.setAccessibleName("Caption")
        self._editor.setTabChangesFocus(True)
        self._editor.setMinimumHeight(72)
        self._editor.textChanged.connect(self._on_text_changed)
        self._highlighter = TriggerHighlighter(self._editor.document())
        self._name = ElidedLabel("", "section")
        self._file = ElidedLabel("", "muted")
        self._saved = label("", "muted")
        self._trains_as = label("", wrap=True)
        self._trains_as.setTextInteractionFlags(Qt.TextInteractionFlag.TextSelectableByMouse)
        self._banner = Banner()
        insert = button(
            "Insert [trigger]",
            lambda: self._editor.insertPlainText(TRIGGER_PLACEHOLDER),
            tip=tip_with_key("caption.trigger"),
        )
        play = button("Play or pause", self._player.playback.toggle, icon_name="play")
        head = row(self._name, self._saved)
        head.setStretch(0, 1)
        tools = row(insert, play, None)
        trains = label("Trains as", "muted")
        lower = QWidget()
        lower.setLayout(column(head, self._editor, tools, trains, self._trains_as, self._file))
        splitter = QSplitter(Qt.Orientation.Vertical)
        splitter.addWidget(self._player)
        splitter.addWidget(lower)
        splitter.setStretchFactor(0, 3)
        splitter.setStretchFactor(1, 2)
        splitter.setChildrenCollapsible(False)
        right = column(self._banner, splitter)
        right.setStretch(1, 1)
        return right

    def _on_clip_selected(self, clip_id: str) -> None:
        if not self.session.is_open or not self.isVisible():
            return
        if clip_id != self._clip_id:
            self.save()
        self._stack.setCurrentIndex(1 if self.session.project.clips else 0)
        self._clip_id = clip_id
        clip = self.session.clip
        if clip is None or clip.id != clip_id:
            return
        at = self._model.row_of(clip_id)
        if at >= 0 and self._list.currentIndex().row() != at:
            self._list.selectionModel().setCurrentIndex(
                self._model.index(at), QItemSelectionModel.SelectionFlag.ClearAndSelect
            )
        self._name.set_text(Path(clip.source).name)
        self._file.set_text(clip.caption_file)
        self._banner.dismiss()
        self._saved.setText("")
        self._show_caption()
        self._show_video()

    def _show_video(self) -> None:
        facts = self.bench.library.facts_of(self._clip_id)
        clip = self.session.clip
        if facts.source is None or clip is None:
            self._player.show_strip(None, message=facts.unreadable or "Looking at the clip")
            return
        trim = clip.trim or facts.source.whole_range
        self._player.show_strip(whole_strip(facts.source), trim.start_frame)
        self._player.playback.set_loop(trim.start_frame, trim.end_frame)
        if not facts.source.is_image:
            self._player.playback.play()

    def _show_caption(self) -> None:
        facts = self.bench.library.facts_of(self._clip_id)
        self._editor.setReadOnly(bool(facts.caption_problem) or facts.caption is None)
        if facts.caption_problem:
            self._banner.show_message(facts.caption_problem, tone_name="warn")
        text = facts.caption or ""
        if not self._is_dirty and self._editor.toPlainText() != text:
            self._editor.blockSignals(True)  # noqa: FBT003 - Qt's own setter
            self._editor.setPlainText(text)
            self._editor.blockSignals(False)  # noqa: FBT003 - Qt's own setter
            self._highlighter.rehighlight()
        self._renew()

    def _renew(self) -> None:
        if not self.session.is_open:
            return
        project = self.session.project
        self._highlighter.set_trigger(project.trigger)
        default = project.settings.datasets.default_caption
        self._editor.setPlaceholderText(
            f"{default}  (default caption, will be used)"
            if default
            else "What does the clip show, and what moves?"
        )
        if not self._default.hasFocus():
            self._default.setText(default)
        prompt = trains_as(self._editor.toPlainText(), project.trigger, default)
        self._trains_as.setText(prompt or "Nothing: the clip would train with an empty prompt.")
        set_role(self._trains_as, "body" if prompt else "warn")
        self.primary_changed.emit()

    def _on_text_changed(self) -> None:
        if self._editor.isReadOnly():
            return
        facts = self.bench.library.facts_of(self._clip_id)
        if not self._is_dirty and self._editor.toPlainText() == (facts.caption or ""):
            return
        self._is_dirty = True
        self._saved.setText("")
        self._timer.start()
        self._renew()

    def _on_clip_changed(self, clip_id: str) -> None:
        if clip_id == self._clip_id and self.isVisible():
            self._show_caption()
            strip = self._player.strip
            source = self.bench.library.source_of(clip_id)
            if source is not None and (strip is None or strip.source != source):
                self._show_video()

    def _on_row_changed(self) -> None:
        clip_id = self._list.currentIndex().data(ClipRole.ID)
        if clip_id:
            self.session.select_clip(clip_id)

    def _on_default_edited(self) -> None:
        project = self.session.project
        settings = project.settings.with_values(
            {"datasets": {"default_caption": self._default.text().strip()}}
        )
        changed = msgspec.structs.replace(project, settings=settings)
        edit_project(self.session, "Change default caption", changed, merge_key="default_caption")

    def _on_error(self, error: Exception) -> None:
        self._is_dirty = True
        message, hint = error_texts(error)
        self._banner.show_message(message, hint, tone_name="bad", action=("Try again", self.save))

    def _empty_ids(self) -> list[str]:
        if not self.session.is_open:
            return []
        facts = self.bench.library.facts
        return [
            clip.id
            for clip in self.session.project.clips
            if not clip.rejected
            and clip.id in facts
            and facts[clip.id].caption is not None
            and not (facts[clip.id].caption or "").strip()
            and not (clip.id == self._clip_id and self._editor.toPlainText().strip())
        ]


def make_page(bench: Workbench) -> Page:
    """The page."""
    return CaptionsPage(bench)
