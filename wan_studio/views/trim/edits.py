"""What the trimmer changes in the project: each a named step that can be undone."""

from collections.abc import Sequence
from uuid import uuid4

import msgspec

from trainer.protocol.job import CropBox
from wan_studio.bridge.background import run_in_background
from wan_studio.bridge.workbench import Workbench
from wan_studio.domain.clip import SourceVideo, TrimRange
from wan_studio.domain.clip_ranges import CopiedCut, copied_cut, split_clip, with_cut
from wan_studio.domain.project import ProjectClip
from wan_studio.services.caption_place import place_of, read_clip_caption, write_caption_at
from wan_studio.undo.edits import edit_project


class TrimEdits:
    """Edits of the clip that is looked at, and of several at once."""

    def __init__(self, bench: Workbench) -> None:
        self._bench = bench
        self._session = bench.session
        self._copied: CopiedCut | None = None

    def set_trim(self, source: SourceVideo, trim: TrimRange, what: str, merge_key: str = "") -> None:
        """Another range."""
        clip = self._session.clip
        if clip is not None:
            stored = None if trim == source.whole_range else trim
            changed = msgspec.structs.replace(clip, trim=stored)
            edit_project(self._session, what, self._session.project.with_clip(changed), merge_key)

    def set_crop(self, source: SourceVideo, crop: CropBox | None) -> None:
        """Another part of the picture."""
        clip = self._session.clip
        if clip is not None:
            stored = None if crop == source.whole_picture else crop
            changed = msgspec.structs.replace(clip, crop=stored)
            edit_project(self._session, "Crop", self._session.project.with_clip(changed))

    def split(self, ranges: Sequence[TrimRange], what: str) -> None:
        """The clip keeps the first range; each further one becomes a clip with the same caption."""
        clip = self._session.clip
        if clip is None or len(ranges) < 2:
            return
        ids = [uuid4().hex[:10] for _ in ranges[1:]]
        split = split_clip(self._session.project, clip, ranges, ids)
        edit_project(self._session, what, split.project)
        for added in split.added:
            self._copy_caption(clip, added)

    def toggle_rejected(self) -> None:
        """Leave the clip out of training, or take it back."""
        clip = self._session.clip
        if clip is not None:
            changed = msgspec.structs.replace(clip, rejected=not clip.rejected)
            word = "Reject" if changed.rejected else "Restore"
            edit_project(self._session, f"{word} clip", self._session.project.with_clip(changed))

    def change_datasets(self, what: str, values: dict[str, object]) -> None:
        """Settings of the data set that belong to the trimmer."""
        project = self._session.project
        settings = project.settings.with_values({"datasets": values})
        edit_project(self._session, what, msgspec.structs.replace(project, settings=settings))

    @property
    def can_paste(self) -> bool:
        """Whether something was copied."""
        return self._copied is not None

    def copy(self, source: SourceVideo) -> None:
        """Remember trim and crop of the clip."""
        clip = self._session.clip
        if clip is not None:
            self._copied = copied_cut(source, clip)

    def paste(self, clip_ids: Sequence[str]) -> int:
        """Give the copied trim and crop to these clips; how many took it."""
        if self._copied is None:
            return 0
        changed: list[ProjectClip] = []
        for clip_id in clip_ids:
            source = self._bench.library.source_of(clip_id)
            if source is not None:
                changed.append(with_cut(source, self._session.project.clip(clip_id), self._copied))
        what = "Paste trim and crop" + (f" to {len(changed)} clips" if len(changed) > 1 else "")
        self.replace_clips(what, changed)
        return len(changed)

    def replace_clips(self, what: str, clips: Sequence[ProjectClip]) -> None:
        """Several clips changed in one step; those that are gone meanwhile stay gone."""
        project = self._session.project
        for clip in clips:
            project = project.with_clip(clip)
        edit_project(self._session, what, project)

    def _copy_caption(self, clip: ProjectClip, added: ProjectClip) -> None:
        library, folder = self._bench.library, self._session.store.captions_folder

        def work() -> str:
            text = read_clip_caption(clip, folder).text
            place = place_of(added, folder)
            if text and not place.now.exists():
                write_caption_at(place, text)
            return text

        def on_done(text: str) -> None:
            if any(known.id == added.id for known in self._session.project.clips):
                library.caption_written(added.id, text)

        # A caption that cannot be read or written is shown as such at its clip.
        run_in_background(work, on_done, lambda _: None, urgent=True)
