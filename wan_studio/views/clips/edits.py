"""What can be done to several clips at once; each is one named step that can be undone."""

from collections.abc import Collection, Mapping
from dataclasses import dataclass
from pathlib import Path

import msgspec

from wan_studio.bridge.clip_index import ClipIndex
from wan_studio.bridge.clip_library import ClipLibrary
from wan_studio.bridge.project_session import ProjectSession
from wan_studio.domain.clip import TrimRange
from wan_studio.domain.clip_health import frames_for_all
from wan_studio.domain.clip_record import STILL_SECONDS
from wan_studio.domain.project import MAIN, Project, ProjectClip
from wan_studio.undo.edits import edit_project
from wan_studio.views.wording import count

_LEFT_STILL_SECONDS = 0.1
"""So much of a still start or end stays, so that the movement has a beginning."""


@dataclass(frozen=True, slots=True)
class ClipEdits:
    """Edits of the open project's clips."""

    session: ProjectSession
    library: ClipLibrary
    index: ClipIndex

    def reject(self, ids: Collection[str]) -> None:
        """Reject these, or take them back when the first one is rejected."""
        chosen = self._chosen(ids)
        if chosen:
            rejected = not chosen[0].rejected
            word = "Reject" if rejected else "Restore"
            self._change(f"{word} {count(len(chosen), 'clip')}", ids, {"rejected": rejected})

    def reject_all(self, ids: Collection[str], text: str = "") -> None:
        """Reject these whatever they are now."""
        self._change(text or f"Reject {count(len(ids), 'clip')}", ids, {"rejected": True})

    def rate(self, ids: Collection[str], rating: int) -> None:
        """Give these a rating; 0 takes it away."""
        what = count(len(ids), "clip")
        self._change(f"Rate {what} {rating}" if rating else f"Unrate {what}", ids, {"rating": rating})

    def rename(self, clip_id: str, title: str) -> None:
        """Call a clip so; empty is the name of its file, which stays as it is."""
        self._change("Rename clip", [clip_id], {"title": title})

    def remove(self, ids: Collection[str]) -> None:
        """Take these out of the project; their files stay."""
        if ids:
            project = self.session.project.without_clips(ids)
            edit_project(self.session, f"Remove {count(len(ids), 'clip')}", project)

    def assign(self, ids: Collection[str], dataset: str) -> None:
        """Put these into a data set."""
        name = dataset or "the main data set"
        self._change(f"Move {count(len(ids), 'clip')} to {name}", ids, {"dataset": dataset})

    def keep_best(self, ids: Collection[str]) -> None:
        """Of each group of clips that show the same, reject all but the best."""
        marks = self.index.marks
        groups = {marks[one].group for one in ids if one in marks}
        others = {one for one, mark in marks.items() if mark.group in groups and not mark.is_best}
        if others:
            self.reject_all(others, f"Reject {count(len(others), 'duplicate')}")

    def cut_still(self, ids: Collection[str]) -> None:
        """Trim a still start and end off."""
        changed: dict[str, ProjectClip] = {}
        for clip in self._chosen(ids):
            facts = self.library.facts_of(clip.id)
            if facts.source is None or facts.look is None or clip.trim is not None:
                continue
            source, look = facts.source, facts.look
            if not look.has_still_ends(STILL_SECONDS):
                continue
            start, end = 0, source.frame_count
            if look.still_head_seconds >= STILL_SECONDS:
                start = source.frame_at(look.still_head_seconds - _LEFT_STILL_SECONDS)
            if look.still_tail_seconds >= STILL_SECONDS:
                last = source.duration_seconds - look.still_tail_seconds + _LEFT_STILL_SECONDS
                end = source.frame_at(last) + 1
            if start < end:
                changed[clip.id] = msgspec.structs.replace(clip, trim=TrimRange(start, end))
        self._replace(f"Trim {count(len(changed), 'clip')} to the motion", changed)

    def crop_bars(self, ids: Collection[str]) -> None:
        """Crop black bars away."""
        changed: dict[str, ProjectClip] = {}
        for clip in self._chosen(ids):
            look = self.library.facts_of(clip.id).look
            if look is not None and look.picture is not None and clip.crop is None:
                changed[clip.id] = msgspec.structs.replace(clip, crop=look.picture)
        self._replace(f"Crop black bars off {count(len(changed), 'clip')}", changed)

    def fewer_frames(self, ids: Collection[str]) -> None:
        """Train as many frames as the shortest of these holds."""
        records = [record for one in ids if (record := self.index.record(one)) is not None]
        frames = frames_for_all(records)
        self._set_datasets(
            f"Train {frames} frames", records[0].dataset if records else MAIN, "num_frames", frames
        )

    def real_speed(self, ids: Collection[str]) -> None:
        """Train at real speed."""
        records = [record for one in ids if (record := self.index.record(one)) is not None]
        dataset = records[0].dataset if records else MAIN
        self._set_datasets("Train at real speed", dataset, "sampling", "real_speed")

    def relink(self, places: Mapping[str, Path]) -> None:
        """Take files from where they are now."""
        changed = {clip.id: _moved(clip, places[clip.id]) for clip in self._chosen(places)}
        self._replace(f"Find {count(len(changed), 'clip')} again", changed)

    def _chosen(self, ids: Collection[str]) -> list[ProjectClip]:
        wanted = set(ids)
        return [clip for clip in self.session.project.clips if clip.id in wanted]

    def _change(self, text: str, ids: Collection[str], values: dict[str, object]) -> None:
        changed = {clip.id: msgspec.structs.replace(clip, **values) for clip in self._chosen(ids)}
        self._replace(text, changed)

    def _replace(self, text: str, changed: Mapping[str, ProjectClip]) -> None:
        if changed:
            project = self.session.project
            clips = tuple(changed.get(clip.id, clip) for clip in project.clips)
            edit_project(self.session, text, msgspec.structs.replace(project, clips=clips))

    def _set_datasets(self, text: str, name: str, field: str, value: object) -> None:
        edit_project(self.session, text, with_dataset_value(self.session.project, name, field, value))


def with_dataset_value(project: Project, name: str, field: str, value: object) -> Project:
    """A copy of the project in which a field of a data set has another value.

    Raises:
        UnknownSettingError: the field means nothing there.
        SettingValueError: the value is out of range or of another kind.
    """
    dataset = project.dataset(name)
    if dataset is not None:
        return project.with_dataset(dataset.with_changes({field: value}))
    settings = project.settings.with_values({"datasets": {field: value}})
    return msgspec.structs.replace(project, settings=settings)


def _moved(clip: ProjectClip, place: Path) -> ProjectClip:
    """The clip at its new place; a caption that lay beside the file goes with it."""
    old, caption = Path(clip.source), Path(clip.caption_file)
    if caption.parent == old.parent and caption.name.startswith(old.stem):
        caption = place.with_name(place.stem + caption.name.removeprefix(old.stem))
    return msgspec.structs.replace(clip, source=str(place), caption_file=str(caption))
