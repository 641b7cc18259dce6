"""Captions proposed by a vision-language model: ordered from a trainer process, kept in the project's folder."""

import contextlib
import hashlib
import shutil
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import msgspec
from msgspec import Struct

from trainer.protocol.captioning import CaptionClip, CaptionRequest, request_file
from trainer.protocol.events import CaptionFailed, CaptionMade
from trainer.protocol.run_folder import EventReader, RunFolder
from trainer.protocol.wire import WireError, read_json, to_json, write_json
from wan_studio.domain.auto_caption import (
    CaptionOptions,
    Proposal,
    chosen_frames,
    instructions_of,
    tidied,
)
from wan_studio.domain.clip import SourceVideo
from wan_studio.domain.dataset_builder import ClipFiles, DatasetPlan, Notes, build_datasets
from wan_studio.domain.frame_sampling import MODEL_FRAMES_PER_SECOND
from wan_studio.domain.project import Project, ProjectClip
from wan_studio.errors import AppError
from wan_studio.services.project_store import ProjectStore
from wan_studio.services.run_process import RunStartError, kill_run, process_runs, start_process
from wan_studio.services.trainer_runtime import trainer_command

_PATIENCE_SECONDS = 10.0
"""How long the last process may take to end."""

Proposals = dict[str, Proposal]
"""By clip id."""


class Kept(Struct, frozen=True, kw_only=True):
    """What is kept in the project's folder.

    Attributes:
        proposals: By clip id.
        until: Time of the last event that they come from; later ones have still to be taken in.
    """

    proposals: Proposals = {}
    until: float = 0.0

    def with_news(self, events: Sequence[CaptionMade | CaptionFailed], project: Project) -> "Kept":
        """The same with what a process has said since."""
        until = max((one.time for one in events), default=self.until)
        return Kept(
            proposals={**self.proposals, **proposals_of(events, project)}, until=max(until, self.until)
        )


class CaptioningBusyError(AppError):
    """Captions are being written for this project already."""

    def __init__(self) -> None:
        super().__init__(
            "Captions are being written for this project already, perhaps by another window.",
            "Wait until that is done, or stop it there.",
        )


@dataclass(frozen=True, slots=True)
class Order:
    """What is asked for.

    Attributes:
        clip_ids: Of the clips.
        known: Proposals that there are; clips that have one with the same key are not described again.
        sources: What is known of the clips' files; others are looked at.
    """

    clip_ids: Sequence[str]
    options: CaptionOptions
    known: Mapping[str, Proposal] = field(default_factory=Proposals)
    sources: Mapping[str, SourceVideo] = field(default_factory=dict[str, SourceVideo])


@dataclass(frozen=True, slots=True)
class BuiltOrder:
    """An order, resolved.

    Attributes:
        request: For the trainer; None where nothing is left to be described.
        problems: Clips that cannot be described, and why.
        done: How many have been described so already.
    """

    request: CaptionRequest | None
    problems: Proposals
    done: int


def build_order(project: Project, order: Order) -> BuiltOrder:
    """Find the frames of every clip that is still to be described; looks at files, writes nothing."""
    options = order.options
    clips: list[CaptionClip] = []
    problems: Proposals = {}
    done = 0
    wanted = frozenset(order.clip_ids)
    for clip in project.clips:
        if clip.id not in wanted:
            continue
        made = _caption_clip(project, clip, options, order.sources.get(clip.id))
        if isinstance(made, str):
            problems[clip.id] = Proposal(key="", problem=made)
            continue
        known = order.known.get(clip.id)
        if known is not None and known.key == made.key and not known.problem:
            done += 1
        else:
            clips.append(made)
    if not clips:
        return BuiltOrder(None, problems, done)
    request = CaptionRequest(
        model=options.model,
        instructions=instructions_of(options, project.goal, project.trigger.strip()),
        clips=tuple(clips),
        frame_pixels=options.frame_side**2,
        max_new_tokens=options.max_new_tokens,
        temperature=options.temperature,
        seed=project.settings.training.seed,
        quantization=options.memory,
        gpu=options.gpu,
    )
    return BuiltOrder(request, problems, done)


def start_captioning(folder: Path, request: CaptionRequest) -> RunFolder:
    """Start to describe clips in a new folder; returns at once.

    Raises:
        TrainerMissingError: there is no Python with torch.
        RunStartError: the folder cannot be written, or the process does not start.
    """
    run = RunFolder(folder)
    command = trainer_command("caption", str(request_file(run)), "--run-dir", str(run.path))
    try:
        run.commands_folder.mkdir(parents=True, exist_ok=True)
        write_json(request_file(run), request)
    except OSError as error:
        raise RunStartError(
            run,
            f"the folder cannot be written ({error.strerror or error}).",
            "Check its permissions and the free space.",
        ) from error
    start_process(run, command)
    return run


def start_for_project(store: ProjectStore, request: CaptionRequest) -> RunFolder:
    """The same in the project's folder, in place of what is there from the last time.

    Raises:
        CaptioningBusyError: captions are being written.
        AppError: as above.
    """
    run = captioning_run(store)
    deadline = time.monotonic() + _PATIENCE_SECONDS
    while run.is_alive() or process_runs(run):
        if time.monotonic() >= deadline:
            raise CaptioningBusyError
        time.sleep(0.05)
    shutil.rmtree(run.path, ignore_errors=True)
    # What Windows still holds open must not be read as news.
    with contextlib.suppress(OSError):
        run.events_file.unlink(missing_ok=True)
    return start_captioning(run.path, request)


def captioning_run(store: ProjectStore) -> RunFolder:
    """Where a project's captions are made."""
    return RunFolder(_folder(store) / "run")


def end_captioning(run: RunFolder) -> None:
    """End its process, at once."""
    kill_run(run)


def load_proposals(store: ProjectStore, project: Project) -> Kept:
    """What has been proposed so far; what a process has said since it was kept is taken in."""
    try:
        kept = read_json(_proposals_file(store), Kept)
    except WireError:
        kept = Kept()
    news = [
        one
        for one in EventReader(captioning_run(store).events_file).read_new()
        if isinstance(one, CaptionMade | CaptionFailed) and one.time > kept.until
    ]
    return kept.with_news(news, project)


def save_proposals(store: ProjectStore, kept: Kept) -> None:
    """Keep them.

    Raises:
        OSError: the folder cannot be written.
    """
    path = _proposals_file(store)
    path.parent.mkdir(parents=True, exist_ok=True)
    write_json(path, kept)


def proposals_of(events: Sequence[CaptionMade | CaptionFailed], project: Project) -> Proposals:
    """What the trainer's words become; clips that are not in the project any more are passed over."""
    clips = {clip.id: clip for clip in project.clips}
    made: Proposals = {}
    for event in events:
        clip = clips.get(event.clip)
        if clip is None:
            continue
        if isinstance(event, CaptionFailed):
            made[clip.id] = Proposal(key=event.key, problem=f"{event.message} {event.hint}".strip())
            continue
        text = tidied(event.text, project.dataset_trigger(clip.dataset), is_whole=event.is_whole)
        if text:
            made[clip.id] = Proposal(key=event.key, text=text, is_whole=event.is_whole)
        else:
            made[clip.id] = Proposal(key=event.key, problem="The model said nothing about this clip.")
    return made


def _caption_clip(
    project: Project, clip: ProjectClip, options: CaptionOptions, known: SourceVideo | None
) -> CaptionClip | str:
    """A clip with the frames that the model sees of it; a sentence where it has none."""
    # Here: the decoder behind it need not be there for the first window.
    from wan_studio.services.media_probe import UnreadableVideoError, probe

    try:
        source = known if known is not None and _is_current(known) else probe(Path(clip.source))
    except UnreadableVideoError as error:
        return str(error)
    settings = msgspec.structs.replace(
        project.dataset_settings(clip.dataset),
        flip_horizontal=False,
        flip_vertical=False,
        validation_share=0.0,
    )
    trigger = project.dataset_trigger(clip.dataset)
    accepted = msgspec.structs.replace(clip, rejected=False)
    plan = DatasetPlan("clips", "training", settings, "", (accepted,), project.settings.training.seed)
    notes = Notes()
    built = build_datasets(plan, ClipFiles({clip.id: source}, {}, {}), notes)
    if not built:
        return " ".join(notes.sentences)
    spec = built[0].section.clips[0]
    if len(spec.windows) == 1:
        stamps, rate = spec.windows[0], float(MODEL_FRAMES_PER_SECOND)
    else:
        stamps = tuple(sorted({stamp for window in spec.windows for stamp in window}))
        rate = (len(stamps) - 1) / max(1e-3, float((stamps[-1] - stamps[0]) * source.time_base))
    places = chosen_frames(len(stamps), options.frames)
    shown = tuple(stamps[place] for place in places)
    largest = max(spec.sizes, key=lambda size: size.width * size.height)
    spec = msgspec.structs.replace(spec, windows=(shown,), sizes=(largest,), caption="")
    rate = rate * (len(places) - 1) / (places[-1] - places[0]) if len(places) > 1 else 1.0
    told = instructions_of(options, project.goal, trigger)
    made = CaptionClip(
        id=clip.id,
        clip=spec,
        frames_per_second=max(rate, 0.01),
        instructions=told if trigger != project.trigger.strip() else "",
    )
    return msgspec.structs.replace(made, key=_key(made, told, options))


def _key(made: CaptionClip, told: str, options: CaptionOptions) -> str:
    """What a caption depends on, in a few letters; where it is computed does not matter."""
    which = msgspec.structs.replace(options, instructions={}, gpu=None)
    content = to_json([msgspec.structs.replace(made, id="", instructions=""), told, which])
    return hashlib.blake2b(content, digest_size=12).hexdigest()


def _is_current(source: SourceVideo) -> bool:
    try:
        found = Path(source.path).stat()
    except OSError:
        return False
    return (found.st_size, found.st_mtime_ns) == (source.size_bytes, source.modified_ns)


def _folder(store: ProjectStore) -> Path:
    return store.folder / "auto_captions"


def _proposals_file(store: ProjectStore) -> Path:
    return _folder(store) / "proposals.json"
