"""One caption at a time: shown, saved as it is typed, kept apart from what others write, and brought back."""

from pathlib import Path

import msgspec
from PySide6.QtCore import QObject, QTimer

from wan_studio.bridge.caption_index import CaptionIndex
from wan_studio.bridge.workbench import Workbench
from wan_studio.domain.caption import TRIGGER_PLACEHOLDER
from wan_studio.services.caption_history import CaptionVersion
from wan_studio.undo.caption_edits import edit_captions
from wan_studio.undo.edits import edit_project
from wan_studio.views.captions.desk_top import DeskTop
from wan_studio.views.wording import error_texts

SAVE_AFTER_MILLISECONDS = 200
_LOOK_EVERY_MILLISECONDS = 1000


class CaptionSheet(QObject):
    """The chosen clip's caption on the page.

    Attributes:
        clip_id: Whose caption it is.
        is_shown: Whether the page is in view.
    """

    def __init__(self, bench: Workbench, index: CaptionIndex, top: DeskTop) -> None:
        super().__init__(top)
        self._session = bench.session
        self._library = bench.library
        self._desk = bench.captions
        self._index = index
        self._top = top
        self._editor = top.editor
        self.clip_id = ""
        self.is_shown = False
        self._is_dirty = False
        self._in_editor = ""
        self._shows_guess = False
        self._save_timer = QTimer(self)
        self._save_timer.setSingleShot(True)
        self._save_timer.setInterval(SAVE_AFTER_MILLISECONDS)
        self._save_timer.timeout.connect(self.save)
        self._look_timer = QTimer(self)
        self._look_timer.setInterval(_LOOK_EVERY_MILLISECONDS)
        self._look_timer.timeout.connect(self.look)
        self._connect()

    @property
    def text(self) -> str:
        """What stands in the editor."""
        return self._editor.text

    def set_shown(self, *, is_shown: bool) -> None:
        """The page comes into view, or goes out of it."""
        self.is_shown = is_shown
        if is_shown:
            self._look_timer.start()
        else:
            self.save()
            self._look_timer.stop()
            self._top.player.playback.stop()
            self._top.player.release()

    def show_clip(self, clip_id: str) -> None:
        """Show the caption of another clip."""
        if clip_id != self.clip_id:
            self.save()
            if self._top.shows_history:
                self.close_panel()
        self.clip_id = clip_id
        clip = self._session.clip
        if clip is None or clip.id != clip_id:
            return
        self._top.say("")
        self._renew_names()
        self._show_caption()
        self._show_video(play=True)
        self._on_changed_outside(clip_id)

    def close_panel(self) -> None:
        """Back from a panel to the clip."""
        self._top.show_clip()
        self._editor.setFocus()

    def save(self) -> None:
        """Make what was typed an undo step, and let it be written."""
        self._save_timer.stop()
        if not self._is_dirty or not self._session.is_open:
            return
        self._is_dirty = False
        if any(clip.id == self.clip_id for clip in self._session.project.clips):
            text = f"Edit caption of {self._name_of(self.clip_id)}"
            self.edit(text, {self.clip_id: self._editor.text}, is_typing=True)

    def edit(self, text: str, after: dict[str, str], *, is_typing: bool = False) -> None:
        """Change captions in one undoable step."""
        edit_captions(self._session, self._desk, text, after, is_typing=is_typing)

    def insert_trigger(self) -> None:
        """Put `[trigger]` at the cursor."""
        if not self._editor.isReadOnly():
            self._editor.insertPlainText(TRIGGER_PLACEHOLDER)
            self._editor.setFocus()

    def show_training_view(self, *, on: bool) -> None:
        """Play the clip as it is, or exactly what the model will see of it."""
        self._top.clip.set_training(on=on)
        self._show_video()

    def open_history(self) -> None:
        """Show the caption's earlier versions."""
        self.save()
        clip_id = self.clip_id
        if not clip_id:
            return

        def on_done(versions: list[CaptionVersion]) -> None:
            if clip_id == self.clip_id:
                self._top.show_history()
                self._top.history.show_versions(versions, self._desk.text_of(clip_id))

        self._desk.load_versions(clip_id, on_done)

    def look(self) -> None:
        """See whether the file was changed outside."""
        if not self._is_dirty and self.clip_id and self._desk.is_saved:
            self._desk.look_again((self.clip_id,))
            if self._session.is_open:
                # A drive that comes back, or a folder that may be written again, is told.
                self._renew_names()

    def renew_reading(self) -> None:
        """Say anew how the caption trains."""
        if not self._session.is_open or not self.clip_id or not self.is_shown:
            return
        clip = self._session.clip
        if clip is None or clip.id != self.clip_id:
            return
        project = self._session.project
        self._editor.set_trigger(project.dataset_trigger(clip.dataset))
        default = project.dataset_settings(clip.dataset).default_caption
        self._editor.setPlaceholderText(
            f"{default}\nDefault caption: will be used"
            if default
            else "What does the clip show, and what moves?"
        )
        is_readable = not self._library.facts_of(clip.id).caption_problem
        reading = self._index.read(clip.id, self._editor.text) if is_readable else None
        self._top.reading.show_reading(reading, self._index.counter)

    def _connect(self) -> None:
        top = self._top
        self._editor.edited.connect(self._on_edited)
        self._editor.commit_wanted.connect(self.save)
        top.trigger_wanted.connect(self.insert_trigger)
        top.history_wanted.connect(self.open_history)
        top.replace.close_wanted.connect(self.close_panel)
        top.history.close_wanted.connect(self.close_panel)
        top.history.restore_wanted.connect(self._on_restore)
        top.outside.reload_wanted.connect(lambda: self._settle(reload=True))
        top.outside.keep_wanted.connect(lambda: self._settle(reload=False))
        top.outside.diff_wanted.connect(self._on_diff)
        top.clip.view_wanted.connect(lambda on: self.show_training_view(on=on))
        self._session.project_changed.connect(self.renew_reading)
        self._session.project_changed.connect(self._on_project_changed)
        self._library.clip_changed.connect(self._on_clip_changed)
        self._desk.captions_changed.connect(self._on_captions_changed)
        self._desk.saved_changed.connect(top.show_saved)
        self._desk.saved_changed.connect(self._on_saved)
        top.name.renamed.connect(self._rename)
        self._desk.changed_outside.connect(self._on_changed_outside)
        self._desk.write_failed.connect(self._on_write_failed)
        self._index.counter_changed.connect(self.renew_reading)
        self._index.entries_changed.connect(self._renew_label)

    def _renew_names(self) -> None:
        """Say whose caption it is, and where its file is."""
        clip = self._session.clip
        if clip is None or clip.id != self.clip_id:
            return
        self._top.show_name(clip, self._index.label_of(clip.id))
        clip_id = clip.id

        def on_done(place: tuple[str, str]) -> None:
            if clip_id == self.clip_id:
                self._top.show_file(*place)

        self._desk.load_place(clip_id, on_done)

    def _renew_label(self) -> None:
        clip = self._session.clip if self._session.is_open else None
        if clip is not None and clip.id == self.clip_id:
            self._top.show_name(clip, self._index.label_of(clip.id))

    def _rename(self, title: str) -> None:
        clip = self._session.clip
        if clip is not None:
            changed = msgspec.structs.replace(clip, title=title)
            edit_project(self._session, "Rename clip", self._session.project.with_clip(changed))

    def _on_saved(self, is_saved: bool) -> None:  # noqa: FBT001 - a slot
        if is_saved:
            # The attempt has shown where it can be written.
            self._renew_names()

    def _show_video(self, *, play: bool = False) -> None:
        facts = self._library.facts_of(self.clip_id)
        clip = self._session.clip
        if facts.source is None or clip is None:
            self._top.clip.show_message(facts.unreadable or "Looking at the clip")
        else:
            self._top.clip.show_clip(self._session.project, clip, facts.source, play=play)

    def _on_project_changed(self) -> None:
        """Another trim, crop or number of frames plays another loop."""
        clip = self._session.clip if self._session.is_open else None
        if self.is_shown and clip is not None and clip.id == self.clip_id:
            self._show_video()

    def _show_caption(self) -> None:
        facts = self._library.facts_of(self.clip_id)
        self._editor.setReadOnly(bool(facts.caption_problem) or facts.caption is None)
        is_other = self.clip_id != self._in_editor
        self._in_editor = self.clip_id
        if is_other or (self._shows_guess and not facts.caption_problem):
            self._top.banner.dismiss()
        self._shows_guess = bool(facts.caption_problem)
        if facts.caption_problem:
            self._show_guess(facts.caption_problem)
        elif is_other:
            self._editor.show_text(facts.caption or "")
        elif not self._is_dirty:
            self._editor.set_text(facts.caption or "")
        self.renew_reading()

    def _show_guess(self, problem: str) -> None:
        clip_id = self.clip_id
        self._top.banner.show_message(problem, tone_name="warn")

        def on_done(guess: tuple[str, str]) -> None:
            text, encoding = guess
            if clip_id != self.clip_id or not self._editor.isReadOnly():
                return
            self._editor.set_text(text)
            if encoding:
                convert = ("Convert to UTF-8", lambda: self._desk.convert(clip_id, encoding))
                hint = "Shown as it probably reads. Converting keeps the file's bytes in the history."
                self._top.banner.show_message(
                    problem.split(" Look at it")[0], hint, tone_name="warn", action=convert
                )

        self._desk.load_guess(clip_id, on_done)

    def _on_edited(self) -> None:
        if self._editor.isReadOnly():
            return
        self._is_dirty = True
        self._top.say("")
        self._save_timer.start()
        self.renew_reading()

    def _on_captions_changed(self, clip_ids: frozenset[str]) -> None:
        if self.clip_id in clip_ids and self.is_shown:
            self._show_caption()
            self._top.history.set_now(self._editor.text)
        self._top.replace.renew()

    def _on_clip_changed(self, clip_id: str) -> None:
        if clip_id == self.clip_id and self.is_shown:
            self._show_caption()
            strip = self._top.player.strip
            source = self._library.source_of(clip_id)
            if source is not None and (strip is None or strip.source != source):
                self._show_video()

    def _on_changed_outside(self, clip_id: str) -> None:
        if clip_id != self.clip_id:
            return
        if self._desk.theirs(clip_id) is None:
            self._top.outside.hide()
        else:
            self._top.outside.show_for(Path(self._session.project.clip(clip_id).caption_file).name)

    def _settle(self, *, reload: bool) -> None:
        """Take what the file says, or write over it what the editor says."""
        theirs = self._desk.theirs(self.clip_id)
        if theirs is None:
            return
        mine = self._editor.text
        self._save_timer.stop()
        self._is_dirty = False
        self._desk.settle(self.clip_id)
        self._top.outside.hide()
        self.close_panel()
        if reload:
            self.edit("Reload caption", {self.clip_id: theirs})
        else:
            self._desk.change({self.clip_id: mine}, "Kept over a change from outside")

    def _on_diff(self) -> None:
        theirs = self._desk.theirs(self.clip_id)
        if theirs is not None:
            self._top.show_history()
            self._top.history.show_outside(self._editor.text, theirs)

    def _on_restore(self, text: str) -> None:
        self.edit("Restore caption", {self.clip_id: text})
        self.close_panel()

    def _on_write_failed(self, clip_id: str, error: Exception) -> None:
        message, hint = error_texts(error)
        retry = ("Try again", lambda: self._desk.change({clip_id: self._desk.text_of(clip_id)}))
        self._top.banner.show_message(message, hint, tone_name="bad", action=retry)

    def _name_of(self, clip_id: str) -> str:
        return self._session.project.clip(clip_id).name
