"""Choose the part of each clip that trains, to the frame, and see exactly what the model will see."""

from collections.abc import Callable
from functools import partial
from pathlib import Path

import msgspec
from PySide6.QtCore import QItemSelectionModel
from PySide6.QtWidgets import (
    QButtonGroup,
    QFrame,
    QGridLayout,
    QHBoxLayout,
    QLabel,
    QRadioButton,
    QStackedWidget,
    QVBoxLayout,
    QWidget,
)

from trainer.protocol.job import TrainedSize
from wan_studio.bridge.workbench import Workbench
from wan_studio.domain.buckets import trained_size
from wan_studio.domain.checks import Step
from wan_studio.domain.clip import SourceVideo, TrimRange
from wan_studio.domain.frame_sampling import MODEL_FRAMES_PER_SECOND, FrameSample, SamplingRule, sample_frames
from wan_studio.domain.project import ProjectClip
from wan_studio.models.clip_list_model import ClipListModel, ClipRole
from wan_studio.undo.edits import edit_project
from wan_studio.views.actions import tip_with_key
from wan_studio.views.clip_list import ClipListView, ClipRowDelegate
from wan_studio.views.page import Page, Primary
from wan_studio.views.player.player import Player, Strip, whole_strip
from wan_studio.views.player.transport import Transport
from wan_studio.views.theme import GRID, numeric_font
from wan_studio.views.trim.timeline import Timeline
from wan_studio.views.widgets import ElidedLabel, EmptyState, button, label, row, set_role
from wan_studio.views.wording import time_code

_PANEL_WIDTH = 304


class TrimPage(Page):
    """Player, timeline, and beside them what the chosen range means."""

    step = Step.TRIM
    title = "Trim"

    def __init__(self, bench: Workbench) -> None:
        super().__init__(bench)
        self._model = ClipListModel(bench.session, bench.library, self)
        self._source: SourceVideo | None = None
        self._trim = TrimRange(0, 1)
        self._shows_training = False
        self._build()
        bench.session.clip_selected.connect(self._on_clip_selected)
        bench.session.project_changed.connect(self._on_project_changed)
        bench.library.clip_changed.connect(self._on_clip_changed)

    @property
    def trim(self) -> TrimRange:
        """The range that is shown."""
        return self._trim

    def handlers(self) -> dict[str, Callable[[], object]]:
        """What the keys do here."""
        return {
            **self._transport.handlers(),
            "trim.set_in": self.set_in,
            "trim.set_out": self.set_out,
            "trim.go_in": lambda: self._seek(self._trim.start_frame),
            "trim.go_out": lambda: self._seek(self._trim.end_frame - 1),
            "trim.clear_in": lambda: self._set_trim(0, self._trim.end_frame, "Clear in point"),
            "trim.clear_out": self._clear_out,
            "trim.nudge_back": lambda: self._nudge(-1),
            "trim.nudge_on": lambda: self._nudge(1),
            "trim.fit": self.fit_to_trained_length,
            "trim.view": lambda: self.show_training_view(on=not self._shows_training),
            "clip.reject": self._reject,
            "clip.next": lambda: self.session.select_neighbour(1),
            "clip.previous": lambda: self.session.select_neighbour(-1),
        }

    def primary(self) -> Primary | None:
        """The next clip, and after the last one the captions."""
        if not self.session.is_open or not self.session.project.clips:
            return Primary("Go to clips")
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
        """Play no more."""
        self._player.playback.stop()

    def shut_down(self) -> None:
        """End the decoder."""
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
        if self._source is None:
            return
        wanted = self.session.project.settings.datasets.num_frames
        start = self._source.seconds_at(self._trim.start_frame)
        # The end frame is out: it is the first one on screen after the last sixteenth of a second.
        last = self._source.frame_at(start + (wanted - 1) / MODEL_FRAMES_PER_SECOND)
        end = max(last + 1, self._trim.start_frame + 1)
        while end < self._source.frame_count and (
            self._source.seconds_at(end) - start < wanted / MODEL_FRAMES_PER_SECOND - 1e-6
        ):
            end += 1
        self._set_trim(self._trim.start_frame, end, "Fit selection")

    def show_training_view(self, *, on: bool) -> None:
        """Switch between the source and exactly what trains."""
        frame = self._player.source_frame
        self._shows_training = on
        self._training_button.setChecked(on)
        self._source_button.setChecked(not on)
        self._renew_strip(frame)

    def _build(self) -> None:
        self._player = Player("Player")
        self._timeline = Timeline()
        self._transport = Transport(self._player)
        self._where = label("", "muted")
        self._where.setFont(numeric_font())
        self._source_button = button("Source", lambda: self.show_training_view(on=False))
        self._training_button = button("Training view", lambda: self.show_training_view(on=True))
        for made in (self._source_button, self._training_button):
            made.setCheckable(True)
            made.setToolTip(tip_with_key("trim.view"))
        self._source_button.setChecked(True)
        bar = row(self._transport, self._where, None, self._source_button, self._training_button)
        left = QVBoxLayout()
        left.setSpacing(GRID)
        left.addWidget(self._player, 1)
        left.addLayout(bar)
        left.addWidget(self._timeline)
        body = QWidget()
        layout = QHBoxLayout(body)
        layout.setContentsMargins(0, 0, 0, 0)
        layout.setSpacing(2 * GRID)
        layout.addLayout(left, 1)
        layout.addWidget(self._build_panel())
        empty = EmptyState(
            "scissors",
            "No clips yet",
            "Add clips first; then choose here which part of each one trains.",
            button("Go to clips", lambda: self.step_wanted.emit(Step.CLIPS)),
        )
        self._stack = QStackedWidget()
        self._stack.addWidget(empty)
        self._stack.addWidget(body)
        self.add(self._stack, 1)
        self._player.position_changed.connect(self._on_position_changed)
        self._timeline.seek_wanted.connect(self._seek)
        self._timeline.trim_dragged.connect(self._on_trim_dragged)
        self._timeline.trim_chosen.connect(
            lambda trim: self._set_trim(trim.start_frame, trim.end_frame, "Trim")
        )

    def _build_points(self) -> QGridLayout:
        points = QGridLayout()
        points.setHorizontalSpacing(2 * GRID)
        points.setVerticalSpacing(2)
        points.setColumnStretch(2, 1)
        self._points: dict[str, tuple[QLabel, QLabel]] = {}
        for at, name in enumerate(("In", "Out", "Length")):
            when, which = label(""), label("", "muted")
            for column, part in enumerate((label(name, "muted"), when, which)):
                part.setFont(numeric_font())
                points.addWidget(part, at, column)
            self._points[name] = (when, which)
        return points

    def _build_panel(self) -> QFrame:
        self._name = ElidedLabel("", "section")
        points = self._build_points()
        self._readout = label("", "accent", wrap=True)
        self._readout.setFont(numeric_font(11.5, bold=True))
        self._warning = label("", "warn", wrap=True)
        self._real = QRadioButton("Real speed")
        self._real.setToolTip("The frames on screen at each sixteenth of a second from the in point.")
        self._whole = QRadioButton("Fit the whole range")
        self._whole.setToolTip("Frames spread evenly over the range; the motion is learnt faster or slower.")
        modes = QButtonGroup(self)
        rules: tuple[tuple[QRadioButton, SamplingRule], ...] = (
            (self._real, "real_speed"),
            (self._whole, "whole_range"),
        )
        for choice, rule in rules:
            modes.addButton(choice)
            choice.clicked.connect(partial(self._set_sampling, rule))
        set_in = button("Set in", self.set_in, tip=tip_with_key("trim.set_in"))
        set_out = button("Set out", self.set_out, tip=tip_with_key("trim.set_out"))
        fit = button("Fit", self.fit_to_trained_length, tip=tip_with_key("trim.fit"))
        reset = button("Use the whole clip", self._reset, role="link")
        self._list = ClipListView()
        self._list.setModel(self._model)
        self._list.setItemDelegate(ClipRowDelegate(self._list))
        self._list.setAccessibleName("Clips")
        self._list.setUniformItemSizes(True)
        self._list.selectionModel().currentChanged.connect(self._on_row_changed)
        panel = QFrame()
        panel.setObjectName("card")
        panel.setFixedWidth(_PANEL_WIDTH)
        layout = QVBoxLayout(panel)
        layout.setContentsMargins(2 * GRID, 2 * GRID, 2 * GRID, GRID)
        layout.setSpacing(GRID)
        layout.addWidget(self._name)
        layout.addLayout(points)
        layout.addWidget(self._readout)
        layout.addWidget(self._warning)
        layout.addLayout(row(set_in, set_out, fit, None))
        layout.addWidget(reset)
        layout.addSpacing(GRID)
        layout.addWidget(label("Frames are taken at", "muted"))
        layout.addWidget(self._real)
        layout.addWidget(self._whole)
        layout.addSpacing(GRID)
        layout.addWidget(self._list, 1)
        return panel

    def _on_clip_selected(self, clip_id: str) -> None:
        has_clips = self.session.is_open and bool(self.session.project.clips)
        self._stack.setCurrentIndex(1 if has_clips else 0)
        self.primary_changed.emit()
        if not has_clips or not self.isVisible():
            return
        at = self._model.row_of(clip_id)
        if at >= 0 and self._list.currentIndex().row() != at:
            self._list.selectionModel().setCurrentIndex(
                self._model.index(at), QItemSelectionModel.SelectionFlag.ClearAndSelect
            )
        self._load_clip()

    def _load_clip(self) -> None:
        clip = self.session.clip
        facts = self.bench.library.facts_of(clip.id) if clip is not None else None
        self._source = facts.source if facts is not None else None
        self._name.set_text(Path(clip.source).name if clip is not None else "")
        if clip is None or self._source is None:
            reason = facts.unreadable if facts is not None else ""
            self._player.show_strip(None, message=reason or "Looking at the clip")
            self._timeline.show_clip(None, TrimRange(0, 1), None)
            self._show_points(("", ""), ("", ""), ("", ""))
            self._readout.setText("")
            self._warning.setText("")
            self._where.setText("")
            return
        self._trim = _valid_trim(clip, self._source)
        self._renew_strip(self._trim.start_frame)
        self._renew_readout()

    def _renew_strip(self, frame: int) -> None:
        """Show the whole source, or only the frames that train, standing near `frame`."""
        source = self._source
        if source is None:
            return
        was_playing = self._player.playback.speed
        if self._shows_training:
            sample = self._sample(source)
            size = self._trained_size(source)
            starts = tuple(i / MODEL_FRAMES_PER_SECOND for i in range(len(sample.frames)))
            strip = Strip(source, sample.frames, starts, len(sample.frames) / MODEL_FRAMES_PER_SECOND, size)
            position = next((i for i, chosen in enumerate(sample.frames) if chosen >= frame), 0)
        else:
            strip, position = whole_strip(source), frame
        self._player.show_strip(strip, position)
        self._set_loop()
        self._on_position_changed(self._player.playback.position)
        if was_playing:
            self._player.playback.play(was_playing)

    def _renew_readout(self) -> None:
        source = self._source
        if source is None:
            return
        trim, sample = self._trim, self._sample(source)
        self._timeline.show_clip(source, trim, sample)
        start, end = source.seconds_at(trim.start_frame), source.seconds_at(trim.end_frame)
        self._show_points(
            (time_code(start), f"frame {trim.start_frame}"),
            (time_code(end), f"frame {trim.end_frame}"),
            (f"{end - start:.2f} s", f"{trim.frame_count} frames"),
        )
        frames = len(sample.frames)
        seconds = frames / MODEL_FRAMES_PER_SECOND
        self._readout.setText(f"{frames} frames at {MODEL_FRAMES_PER_SECOND} fps = {seconds:.2f} s")
        size = self._trained_size(source)
        notes = [f"Trains at {size.width} × {size.height}, speed {sample.speed:.2f}x."]
        is_odd = sample.is_shortened or not 0.8 <= sample.speed <= 1.2
        if sample.is_shortened:
            notes.append(
                f"The range is too short for {sample.wanted_frames} frames; it trains with {frames}."
            )
        if not 0.8 <= sample.speed <= 1.2:
            notes.append("Its motion is learnt at another speed than it has.")
        set_role(self._warning, "warn" if is_odd else "muted")
        self._warning.setText(" ".join(notes))
        rule = self.session.project.settings.datasets.sampling
        (self._real if rule == "real_speed" else self._whole).setChecked(True)

    def _show_points(self, *texts: tuple[str, str]) -> None:
        for (when, which), (time_text, frame_text) in zip(self._points.values(), texts, strict=True):
            when.setText(time_text)
            which.setText(frame_text)

    def _sample(self, source: SourceVideo) -> FrameSample:
        datasets = self.session.project.settings.datasets
        return sample_frames(source, self._trim, datasets.num_frames, datasets.sampling)

    def _trained_size(self, source: SourceVideo) -> TrainedSize:
        clip = self.session.clip
        crop = (clip.crop if clip is not None else None) or source.whole_picture
        resolution = max(self.session.project.settings.datasets.resolutions)
        return trained_size(crop, source.pixel_aspect, resolution)

    def _set_loop(self) -> None:
        if self._shows_training:
            self._player.playback.set_loop(0, self._player.playback.count)
        else:
            self._player.playback.set_loop(self._trim.start_frame, self._trim.end_frame)

    def _seek(self, frame: int) -> None:
        strip = self._player.strip
        if strip is not None:
            position = max((i for i, shown in enumerate(strip.frames) if shown <= frame), default=0)
            self._player.playback.step(position - self._player.playback.position)

    def _on_position_changed(self, position: int) -> None:
        if self._source is None:
            return
        frame = self._player.source_frame
        self._timeline.set_frame(frame)
        place = f"{time_code(self._source.seconds_at(frame))}   frame {frame} of {self._source.frame_count}"
        if self._shows_training:
            place = f"trained frame {position + 1} of {self._player.playback.count}   (source {frame})"
        self._where.setText(place)

    def _on_trim_dragged(self, trim: TrimRange) -> None:
        self._trim = trim
        self._renew_readout()

    def _set_trim(self, start: int, end: int, what: str) -> None:
        clip, source = self.session.clip, self._source
        if clip is None or source is None:
            return
        trim = TrimRange(max(0, start), min(end, source.frame_count))
        self._trim = trim
        stored = None if trim == source.whole_range else trim
        changed = self.session.project.with_clip(msgspec.structs.replace(clip, trim=stored))
        edit_project(self.session, what, changed)
        self._renew_readout()
        self._set_loop()

    def _clear_out(self) -> None:
        if self._source is not None:
            self._set_trim(self._trim.start_frame, self._source.frame_count, "Clear out point")

    def _reset(self) -> None:
        if self._source is not None:
            self._set_trim(0, self._source.frame_count, "Use the whole clip")

    def _nudge(self, frames: int) -> None:
        if self._source is None:
            return
        start, end = self._trim.start_frame + frames, self._trim.end_frame + frames
        if start >= 0 and end <= self._source.frame_count:
            self._set_trim(start, end, "Move selection")

    def _reject(self) -> None:
        clip = self.session.clip
        if clip is not None:
            changed = msgspec.structs.replace(clip, rejected=not clip.rejected)
            word = "Reject" if changed.rejected else "Restore"
            edit_project(self.session, f"{word} clip", self.session.project.with_clip(changed))

    def _set_sampling(self, rule: SamplingRule, *_: object) -> None:
        project = self.session.project
        settings = project.settings.with_values({"datasets": {"sampling": rule}})
        edit_project(
            self.session, "Change frame sampling", msgspec.structs.replace(project, settings=settings)
        )

    def _on_project_changed(self) -> None:
        clip = self.session.clip if self.session.is_open else None
        if self._source is None or clip is None or not self.isVisible():
            return
        trim = _valid_trim(clip, self._source)
        if trim != self._trim:
            self._trim = trim
            self._set_loop()
        self._renew_readout()
        if self._shows_training:
            self._renew_strip(self._player.source_frame)
        self.primary_changed.emit()

    def _on_clip_changed(self, clip_id: str) -> None:
        if clip_id != self.session.clip_id or not self.isVisible():
            return
        if self.bench.library.source_of(clip_id) != self._source or self._source is None:
            self._load_clip()

    def _on_row_changed(self) -> None:
        clip_id = self._list.currentIndex().data(ClipRole.ID)
        if clip_id:
            self.session.select_clip(clip_id)

    def _has_next(self) -> bool:
        clips = [clip for clip in self.session.project.clips if not clip.rejected]
        return bool(clips) and clips[-1].id != self.session.clip_id


def _valid_trim(clip: ProjectClip, source: SourceVideo) -> TrimRange:
    """The clip's range, as far as the file still has it."""
    trim = clip.trim or source.whole_range
    if trim.start_frame >= source.frame_count:
        return source.whole_range
    return TrimRange(trim.start_frame, min(trim.end_frame, source.frame_count))


def make_page(bench: Workbench) -> Page:
    """The page."""
    return TrimPage(bench)
