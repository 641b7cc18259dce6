"""Choose the part of each clip that trains, to the frame, and see exactly what the model will see."""

from collections.abc import Callable

from PySide6.QtWidgets import QHBoxLayout, QStackedWidget, QWidget

from wan_studio.bridge.batch_search import BatchKind
from wan_studio.bridge.workbench import Workbench
from wan_studio.domain.checks import Step
from wan_studio.domain.clip import SourceVideo, TrimRange
from wan_studio.domain.clip_motion import neighbouring_cut
from wan_studio.domain.clip_ranges import ranges_of_source, snapped
from wan_studio.domain.frame_sampling import valid_frame_count
from wan_studio.models.clip_list_model import ClipListModel
from wan_studio.views.page import Page, Primary
from wan_studio.views.theme import GRID
from wan_studio.views.trim.batches import Batches
from wan_studio.views.trim.cropping import Cropping
from wan_studio.views.trim.edits import TrimEdits
from wan_studio.views.trim.panel import TrimPanel
from wan_studio.views.trim.ranges import Ranges
from wan_studio.views.trim.shown_clip import flip_note, sample_of, size_of, valid_trim
from wan_studio.views.trim.stage import TrimStage
from wan_studio.views.trim.study import ClipStudy
from wan_studio.views.widgets import EmptyState, button

_EMPTY, _BODY, _BATCH = range(3)


class TrimPage(Page):
    """Player, timeline, and beside them what the chosen range means."""

    step = Step.TRIM
    title = "Trim"

    def __init__(self, bench: Workbench) -> None:
        super().__init__(bench)
        self._model = ClipListModel(bench.session, bench.library, self)
        self._source: SourceVideo | None = None
        self._trim = TrimRange(0, 1)
        self._edits = TrimEdits(bench)
        self._build()
        bench.session.clip_selected.connect(self._on_clip_selected)
        bench.session.project_changed.connect(self._on_project_changed)
        bench.library.clip_changed.connect(self._on_clip_changed)

    @property
    def source(self) -> SourceVideo | None:
        """The video that is shown, once it was looked at."""
        return self._source

    @property
    def trim(self) -> TrimRange:
        """The range that is shown."""
        return self._trim

    def handlers(self) -> dict[str, Callable[[], object]]:
        """What the keys do here."""
        return self._handlers

    def primary(self) -> Primary | None:
        """The next clip, and after the last one the captions."""
        if not self.session.is_open or not self.session.project.clips:
            return Primary("Go to clips")
        if self._stack.currentIndex() == _BATCH:
            return None
        if self._has_next():
            return Primary("Next clip", hint="Ctrl+Down", icon_name="arrow-right")
        return Primary("Continue to captions", icon_name="arrow-right")

    def run_primary(self) -> None:
        """The next clip, and after the last one the captions."""
        if not self.session.project.clips:
            self.step_wanted.emit(Step.CLIPS)
        elif not self._has_next() or not self.session.select_neighbour(1):
            self.step_wanted.emit(Step.CAPTIONS)

    def enter(self) -> None:
        """Show the chosen clip."""
        self._on_clip_selected(self.session.clip_id)
        self._player.setFocus()

    def leave(self) -> None:
        """Play no more, and give memory and processor back."""
        self._player.playback.stop()
        self._cropping.cancel()
        self._player.release()
        self._study.stop()
        self._batches.cancel()

    def shut_down(self) -> None:
        """End the decoders."""
        self._player.shut_down()

    def set_in(self) -> None:
        """The range begins with the frame on screen."""
        frame = self._player.source_frame
        end = self._trim.end_frame
        if self._source is not None and frame >= end:
            end = self._source.frame_count
        self._set_trim(frame, end, "Set in point")

    def set_out(self) -> None:
        """The range ends with the frame on screen."""
        end = self._player.source_frame + 1
        start = self._trim.start_frame if end > self._trim.start_frame else 0
        self._set_trim(start, end, "Set out point")

    def fit_to_trained_length(self) -> None:
        """From the in point, exactly as long as the trained frames last."""
        if self._source is not None:
            wanted = valid_frame_count(self.session.project.settings.datasets.num_frames)
            self._take(snapped(self._source, self._trim, wanted), "Fit selection")

    def snap(self) -> None:
        """From the in point, as long as the most frames that the range holds and the model takes."""
        if self._source is not None:
            self._take(snapped(self._source, self._trim), "Snap selection")

    def _on_suggested(self, trim: TrimRange) -> None:
        self._take(trim, "Trim to motion")
        self._seek(self._trim.start_frame)

    def show_training_view(self, *, on: bool) -> None:
        """Switch between the source and exactly what trains."""
        self._cropping.cancel()
        self._renew_view(self._player.source_frame, training=on)

    def show_contact_sheet(self, *, on: bool) -> None:
        """The trained frames side by side."""
        if on and not self._stage.shows_training:
            self.show_training_view(on=True)
        self._stage.show_sheet(on=on)

    def start_batch(self, kind: BatchKind) -> None:
        """Look for what a batch would change, and show it before it does."""
        self._player.playback.stop()
        self._batches.start(kind)
        self._show_part(_BATCH)

    def _show_part(self, part: int) -> None:
        self._stack.setCurrentIndex(part)
        self.primary_changed.emit()

    def _build(self) -> None:
        self._stage = TrimStage()
        self._player = self._stage.player
        self._timeline = self._stage.timeline
        self._panel = TrimPanel(self._model)
        self._cropping = Cropping(self.bench, self._stage, self._edits)
        self._study = ClipStudy(self.bench, self._stage)
        self._ranges = Ranges(self.session, self, self._stage, self._edits)
        self._batches = Batches(self.bench, self._edits, lambda: self._show_part(_BODY))
        body = QWidget()
        layout = QHBoxLayout(body)
        layout.setContentsMargins(0, 0, 0, 0)
        layout.setSpacing(2 * GRID)
        layout.addWidget(self._stage, 1)
        layout.addWidget(self._panel)
        empty = EmptyState(
            "scissors",
            "No clips yet",
            "Add clips first; then choose here which part of each one trains.",
            button("Go to clips", lambda: self.step_wanted.emit(Step.CLIPS)),
        )
        self._stack = QStackedWidget()
        for part in (empty, body, self._batches.sheet):
            self._stack.addWidget(part)
        self.add(self._stack, 1)
        self._handlers = self._make_handlers()
        self._connect()

    def _make_handlers(self) -> dict[str, Callable[[], object]]:
        return {
            **self._stage.handlers(),
            "trim.set_in": self.set_in,
            "trim.set_out": self.set_out,
            "trim.go_in": lambda: self._seek(self._trim.start_frame),
            "trim.go_out": lambda: self._seek(self._trim.end_frame - 1),
            "trim.clear_in": lambda: self._set_trim(0, self._trim.end_frame, "Clear in point"),
            "trim.clear_out": lambda: self._to_end(self._trim.start_frame, "Clear out point"),
            "trim.whole": lambda: self._to_end(0, "Use the whole clip"),
            "trim.nudge_back": lambda: self._nudge(-1),
            "trim.nudge_on": lambda: self._nudge(1),
            "trim.fit": self.fit_to_trained_length,
            "trim.snap": self.snap,
            "trim.motion": self._study.want_suggestion,
            "trim.previous_cut": lambda: self._to_cut(-1),
            "trim.next_cut": lambda: self._to_cut(1),
            "trim.split": self._ranges.split,
            "trim.split_at_cuts": self._ranges.split_at_cuts,
            "trim.add_range": self._ranges.add,
            "trim.crop": self._cropping.toggle,
            "trim.copy": self._ranges.copy,
            "trim.paste": lambda: self._ranges.paste(self._panel.selected_ids),
            "trim.still_ends": lambda: self.start_batch("still ends"),
            "trim.bars": lambda: self.start_batch("black bars"),
            "trim.stop_work": self._study.cancel_work,
            "trim.view": lambda: self.show_training_view(on=not self._stage.shows_training),
            "trim.sheet": lambda: self.show_contact_sheet(on=not self._stage.shows_sheet),
            "clip.reject": self._edits.toggle_rejected,
            "clip.next": lambda: self.session.select_neighbour(1),
            "clip.previous": lambda: self.session.select_neighbour(-1),
        }

    def _connect(self) -> None:
        stage, panel = self._stage, self._panel
        stage.view_wanted.connect(lambda view: self.show_training_view(on=view == "training"))
        stage.place_changed.connect(panel.show_place)
        stage.sheet_wanted.connect(lambda on: self.show_contact_sheet(on=on))
        stage.tools.action_wanted.connect(self._run)
        stage.timeline.seek_wanted.connect(self._seek)
        stage.timeline.trim_dragged.connect(self._on_trim_dragged)
        stage.timeline.trim_chosen.connect(lambda trim: self._take(trim, "Trim"))
        self._study.suggested.connect(self._on_suggested)
        panel.action_wanted.connect(self._run)
        panel.clip_chosen.connect(self.session.select_clip)
        panel.sampling_chosen.connect(
            lambda rule: self._edits.change_datasets("Change frame sampling", {"sampling": rule})
        )
        panel.flip_chosen.connect(
            lambda way, on: self._edits.change_datasets("Change mirrored copies", {f"flip_{way}": on})
        )

    def _run(self, name: str) -> None:
        self._handlers[name]()

    def _on_clip_selected(self, clip_id: str) -> None:
        has_clips = self.session.is_open and bool(self.session.project.clips)
        self._batches.cancel()
        self._show_part(_BODY if has_clips else _EMPTY)
        if has_clips and self.isVisible():
            self._load_clip(clip_id)

    def _load_clip(self, clip_id: str) -> None:
        clip = self.session.clip
        facts = self.bench.library.facts_of(clip.id) if clip is not None else None
        self._source = facts.source if facts is not None else None
        self._panel.show_name(clip.name if clip is not None else "", clip_id)
        if clip is None or self._source is None:
            self._stage.show_nothing((facts.unreadable if facts is not None else "") or "Looking at the clip")
            self._panel.clear()
            self._study.show(None, TrimRange(0, 1))
            return
        self._trim = valid_trim(clip, self._source)
        self._renew_view(self._trim.start_frame, training=self._stage.shows_training)
        self._cropping.show_clip(self._source, clip.crop)
        self._renew_readout()

    def _renew_view(self, frame: int, *, training: bool) -> None:
        """Show the whole source, or only the frames that train, standing near `frame`."""
        source = self._source
        if source is None:
            return
        if training:
            project = self.session.project
            size = size_of(project, self.session.clip, source)
            self._stage.show_trained(source, sample_of(project, source, self._trim), size, frame)
        else:
            self._stage.show_source(source, self._trim, frame)

    def _renew_readout(self) -> None:
        source, clip = self._source, self.session.clip
        if source is None or clip is None:
            return
        project = self.session.project
        sample, datasets = sample_of(project, source, self._trim), project.settings.datasets
        others = tuple(
            other.trim or source.whole_range
            for other in ranges_of_source(project, clip)
            if other.id != clip.id and not other.rejected
        )
        self._timeline.show_clip(source, self._trim, sample, others)
        self._study.show(source, self._trim, within_range=bool(others))
        note = flip_note(project, self.bench.library.facts_of(clip.id).caption or "")
        self._panel.show_range(source, self._trim, sample, size_of(project, clip, source), note)
        self._panel.show_settings(
            datasets.sampling, across=datasets.flip_horizontal, upside_down=datasets.flip_vertical
        )

    def _seek(self, frame: int) -> None:
        self._stage.seek(frame)

    def _to_cut(self, direction: int) -> None:
        """To the next cut, in or out point, first or last frame."""
        source = self._source
        if source is None:
            return
        edges = (0, self._trim.start_frame, self._trim.end_frame - 1, source.frame_count - 1)
        stops = (*edges, *self._timeline.content.cuts)
        frame = neighbouring_cut(self._player.source_frame, stops, direction)
        if frame is not None:
            self._seek(frame)

    def _on_trim_dragged(self, trim: TrimRange) -> None:
        self._trim = trim
        self._renew_readout()

    def _take(self, trim: TrimRange, what: str) -> None:
        self._set_trim(trim.start_frame, trim.end_frame, what)

    def _set_trim(self, start: int, end: int, what: str, merge_key: str = "") -> None:
        source = self._source
        if source is None or self.session.clip is None:
            return
        self._trim = TrimRange(max(0, start), min(end, source.frame_count))
        self._edits.set_trim(source, self._trim, what, merge_key)
        self._renew_readout()
        self._stage.loop(self._trim)

    def _to_end(self, start: int, what: str) -> None:
        if self._source is not None:
            self._set_trim(start, self._source.frame_count, what)

    def _nudge(self, frames: int) -> None:
        start, end = self._trim.start_frame + frames, self._trim.end_frame + frames
        if self._source is not None and start >= 0 and end <= self._source.frame_count:
            self._set_trim(start, end, "Move selection", f"nudge {self.session.clip_id}")

    def _on_project_changed(self) -> None:
        clip = self.session.clip if self.session.is_open else None
        if self._source is None or clip is None or not self.isVisible():
            return
        trim = valid_trim(clip, self._source)
        if trim != self._trim:
            self._trim = trim
            self._stage.loop(trim)
        if clip.crop != self._cropping.crop:
            self._cropping.show_clip(self._source, clip.crop)
        self._panel.show_name(clip.name, clip.id)
        self._renew_readout()
        if self._stage.shows_training:
            self._renew_view(self._player.source_frame, training=True)
        self.primary_changed.emit()

    def _on_clip_changed(self, clip_id: str) -> None:
        is_shown = clip_id == self.session.clip_id and self.isVisible()
        if is_shown and (self._source is None or self.bench.library.source_of(clip_id) != self._source):
            self._load_clip(clip_id)

    def _has_next(self) -> bool:
        clips = [clip for clip in self.session.project.clips if not clip.rejected]
        return bool(clips) and clips[-1].id != self.session.clip_id


def make_page(bench: Workbench) -> Page:
    """The page."""
    return TrimPage(bench)
