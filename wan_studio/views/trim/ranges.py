"""Splitting a clip, further ranges of its video, and one clip's cut given to others."""

from collections.abc import Sequence
from typing import Protocol

from wan_studio.bridge.project_session import ProjectSession
from wan_studio.domain.clip import SourceVideo, TrimRange
from wan_studio.domain.clip_motion import scenes_in
from wan_studio.domain.clip_ranges import snapped
from wan_studio.domain.frame_sampling import valid_frame_count
from wan_studio.views.trim.edits import TrimEdits
from wan_studio.views.trim.stage import TrimStage


class _Shown(Protocol):
    """The clip that is looked at."""

    @property
    def source(self) -> SourceVideo | None: ...

    @property
    def trim(self) -> TrimRange: ...


class Ranges:
    """What turns one clip into several, and carries a cut over."""

    def __init__(self, session: ProjectSession, shown: _Shown, stage: TrimStage, edits: TrimEdits) -> None:
        self._session = session
        self._shown = shown
        self._stage = stage
        self._edits = edits

    def split(self) -> None:
        """Two clips: up to the frame on screen, and from it on."""
        frame, trim = self._stage.player.source_frame, self._shown.trim
        if trim.start_frame < frame < trim.end_frame:
            parts = [TrimRange(trim.start_frame, frame), TrimRange(frame, trim.end_frame)]
            self._edits.split(parts, "Split clip")
        else:
            self._stage.show_state("Put the playhead inside the range to split it there.")

    def split_at_cuts(self) -> None:
        """A clip for each scene of the range."""
        scenes = scenes_in(self._shown.trim, self._stage.timeline.content.cuts)
        if len(scenes) > 1:
            self._edits.split(scenes, f"Split into {len(scenes)} clips at cuts")
        elif self._stage.timeline.content.motion is None:
            self._stage.show_state("The cuts are not known yet; try again in a moment.")
        else:
            self._stage.show_state("There is no cut inside the range.")

    def add(self) -> None:
        """A further clip of the same video, from the frame on screen, as long as what trains."""
        source, frame = self._shown.source, self._stage.player.source_frame
        if source is not None and not source.is_image:
            wanted = valid_frame_count(self._session.project.settings.datasets.num_frames)
            added = snapped(source, TrimRange(frame, source.frame_count), wanted)
            self._edits.split([self._shown.trim, added], "Add range")

    def copy(self) -> None:
        """Remember trim and crop."""
        if self._shown.source is not None:
            self._edits.copy(self._shown.source)
            self._stage.show_state("Trim and crop are copied; Ctrl+Alt+V gives them to the selected clips.")

    def paste(self, selected: Sequence[str]) -> None:
        """Give them to the selected clips, or to the one that is looked at."""
        if not self._edits.can_paste:
            self._stage.show_state("Copy a trim and crop first, with Ctrl+Alt+C.")
            return
        shown = self._session.clip_id
        self._edits.paste(selected if shown in selected else [shown])
