"""From a project on disk to a job: probes the clips, reads their captions, lets the domain decide."""

import os
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from pathlib import Path

from wan_studio.domain.clip import SourceVideo
from wan_studio.domain.job_builder import BuiltJob, build_job
from wan_studio.domain.project import MAIN, Project, ProjectClip
from wan_studio.services.caption_place import read_clip_caption
from wan_studio.services.media_probe import UnreadableVideoError, probe
from wan_studio.services.project_store import ProjectStore

Progress = Callable[[int, int, str], None]
"""Called with clips done, clips in all, and the name of the one just done."""


@dataclass(frozen=True, slots=True)
class ProbedClips:
    """What probing found, by clip id."""

    sources: dict[str, SourceVideo]
    errors: dict[str, UnreadableVideoError]


def probe_clips(project: Project, on_progress: Progress | None = None) -> ProbedClips:
    """Probe every clip that is not rejected, several at a time; unreadable ones come as their errors."""
    clips = [clip for clip in project.clips if not clip.rejected]
    sources: dict[str, SourceVideo] = {}
    errors: dict[str, UnreadableVideoError] = {}
    with ThreadPoolExecutor(max_workers=min(8, os.cpu_count() or 2)) as pool:
        for done, (clip, found) in enumerate(zip(clips, pool.map(_probed, clips), strict=True), start=1):
            if isinstance(found, SourceVideo):
                sources[clip.id] = found
            else:
                errors[clip.id] = found
            if on_progress is not None:
                on_progress(done, len(clips), Path(clip.source).name)
    return ProbedClips(sources, errors)


def prepare_job(
    project: Project,
    store: ProjectStore,
    on_progress: Progress | None = None,
    *,
    refuse_unreadable: bool = False,
) -> BuiltJob:
    """Make the job of a project; writes nothing.

    Args:
        project: What to train.
        store: Its folder: caches lie there.
        on_progress: Told about each probed clip.
        refuse_unreadable: Whether one unreadable clip is an error; otherwise it is left out, with a note.

    Raises:
        UnreadableVideoError: a clip cannot be read, and that was to be refused.
        CaptionEncodingError: a caption is in an unknown encoding.
        CaptionFileError: a caption cannot be read.
        NothingToTrainError: no clip is left.
    """
    probed = probe_clips(project, on_progress)
    if refuse_unreadable and probed.errors:
        raise next(iter(probed.errors.values()))
    captions = {
        clip_id: read_clip_caption(project.clip(clip_id), store.captions_folder).text
        for clip_id in probed.sources
    }
    built = build_job(
        project,
        probed.sources,
        captions,
        str(store.cache_folder),
        {clip_id: str(error) for clip_id, error in probed.errors.items()},
    )
    return replace(built, notes=(*built.notes, *_remarks(project, probed, captions)))


def _probed(clip: ProjectClip) -> SourceVideo | UnreadableVideoError:
    try:
        return probe(Path(clip.source))
    except UnreadableVideoError as error:
        return error


def _remarks(project: Project, probed: ProbedClips, captions: dict[str, str]) -> list[str]:
    """What does not stop the training but changes what is learnt."""
    remarks = [
        f"{source.name} is HDR: it trains without tone mapping, so its colours will be pale. "
        "Convert it to SDR for true colours."
        for source in probed.sources.values()
        if source.is_hdr
    ]
    for dataset in (MAIN, *(dataset.name for dataset in project.extra_datasets)):
        texts = [captions[clip.id] for clip in project.clips_of(dataset) if clip.id in captions]
        bare = sum(not text.strip() for text in texts)
        if bare and not project.dataset_settings(dataset).default_caption.strip():
            stand_in = "only the trigger word" if project.dataset_trigger(dataset) else "an empty prompt"
            clips = "1 clip" if bare == 1 else f"{bare} clips"
            place = f" of the data set {dataset}" if dataset else ""
            verb = "has" if bare == 1 else "have"
            remarks.append(f"{clips}{place} {verb} no caption and will train with {stand_in}.")
    return remarks
