"""What stands in a clip's or a project's way, and how far each step of the wizard is."""

from collections.abc import Mapping
from dataclasses import dataclass
from enum import StrEnum

from wan_studio.domain.caption import TRIGGER_PLACEHOLDER, names
from wan_studio.domain.clip import SourceVideo
from wan_studio.domain.clip_look import ClipLook
from wan_studio.domain.frame_sampling import sampled_length
from wan_studio.domain.job_builder import FEWEST_FRAMES
from wan_studio.domain.project import Project, ProjectClip

FEW_CLIPS = 5
"""Fewer usable clips than this teach a LoRA little; the guides want 10 to 30."""


class Level(StrEnum):
    """How bad it is: a note, worth a look, or in the way of training."""

    NOTE = "note"
    WARNING = "warning"
    BLOCKER = "blocker"


@dataclass(frozen=True, slots=True)
class Problem:
    """One finding.

    Attributes:
        short: Two or three words for a chip.
        text: One sentence.
    """

    level: Level
    short: str
    text: str


@dataclass(frozen=True, slots=True)
class ClipFacts:
    """What is known of a clip from its files.

    Attributes:
        source: The probed video; None while unknown or unreadable.
        unreadable: Why it cannot be read; empty when it can or is not yet known.
        caption: Text of its `.txt`; None while unknown.
        caption_problem: Why the `.txt` cannot be read.
        is_missing: Whether the file is not where it was; `unreadable` says so, too.
        look: What its pictures told; None until they were looked at.
    """

    source: SourceVideo | None = None
    unreadable: str = ""
    caption: str | None = None
    caption_problem: str = ""
    is_missing: bool = False
    look: ClipLook | None = None

    @property
    def is_known(self) -> bool:
        """Whether the file was looked at."""
        return self.source is not None or bool(self.unreadable)


class Step(StrEnum):
    """The wizard's pages, in their order."""

    PROJECTS = "projects"
    GOAL = "goal"
    CLIPS = "clips"
    TRIM = "trim"
    CAPTIONS = "captions"
    HARDWARE = "hardware"
    TRAINING = "training"
    REVIEW = "review"
    MONITOR = "monitor"
    RESULTS = "results"


class Progress(StrEnum):
    """How far a step is."""

    OPEN = "open"
    DONE = "done"
    ATTENTION = "attention"
    BLOCKED = "blocked"
    RUNNING = "running"


@dataclass(frozen=True, slots=True)
class StepState:
    """How far a step is, and a word or count that says so."""

    progress: Progress = Progress.OPEN
    note: str = ""


def clip_problems(project: Project, clip: ProjectClip, facts: ClipFacts) -> tuple[Problem, ...]:
    """Everything worth saying about one clip, worst first; nothing for a rejected one."""
    if clip.rejected:
        return ()
    if facts.unreadable:
        return (Problem(Level.BLOCKER, "Missing" if facts.is_missing else "Unreadable", facts.unreadable),)
    found: list[Problem] = []
    trigger = project.dataset_trigger(clip.dataset)
    if facts.source is not None:
        found += _length_problems(project, clip, facts.source)
        if facts.source.is_hdr:
            found.append(
                Problem(
                    Level.NOTE, "HDR", "The picture is HDR: it is tone-mapped, and trains as Trim shows it."
                )
            )
    if facts.caption_problem:
        found.append(Problem(Level.WARNING, "Caption unreadable", facts.caption_problem))
    elif facts.caption is not None and not facts.caption.strip():
        default = project.dataset_settings(clip.dataset).default_caption.strip()
        if default:
            text = f'It has no caption; the default one is used: "{default}".'
            found.append(Problem(Level.NOTE, "Default caption", text))
        else:
            text = "It has no caption: the model is not told what moves."
            found.append(Problem(Level.WARNING, "No caption", text))
    elif facts.caption and trigger and not _names_trigger(facts.caption, trigger):
        text = f'The caption does not name the trigger word; "{trigger}" is put before it.'
        found.append(Problem(Level.NOTE, "No trigger", text))
    order = (Level.BLOCKER, Level.WARNING, Level.NOTE)
    return tuple(sorted(found, key=lambda problem: order.index(problem.level)))


def step_states(
    project: Project,
    facts: Mapping[str, ClipFacts],
    known_problems: Mapping[str, tuple[Problem, ...]] | None = None,
    *,
    fits: bool = True,
) -> dict[Step, StepState]:
    """How far each page is, from Goal to Training.

    Args:
        project: The open one.
        facts: What is known of its clips, by clip id.
        known_problems: Problems by clip id, where they were worked out before.
        fits: Whether the settings fit the machine, as far as that is known.
    """
    used = [clip for clip in project.clips if not clip.rejected]
    if known_problems is None:
        problems = {clip.id: clip_problems(project, clip, facts.get(clip.id, ClipFacts())) for clip in used}
    else:
        problems = {clip.id: known_problems.get(clip.id, ()) for clip in used}
    usable = [c for c in used if not any(p.level is Level.BLOCKER for p in problems[c.id])]
    trimmed = sum(clip.trim is not None for clip in used)
    captionless = sum(any(p.short in _CAPTION_PROBLEMS for p in problems[clip.id]) for clip in used)
    return {
        Step.GOAL: StepState(Progress.DONE),
        Step.CLIPS: _clips_state(len(usable), len(used)),
        Step.TRIM: StepState(
            Progress.DONE if used and trimmed else Progress.OPEN, f"{trimmed}/{len(used)}" if trimmed else ""
        ),
        Step.CAPTIONS: _captions_state(len(used), captionless),
        Step.HARDWARE: StepState(Progress.DONE if fits else Progress.ATTENTION),
        Step.TRAINING: StepState(Progress.DONE),
    }


_CAPTION_PROBLEMS = frozenset({"No caption", "Caption unreadable"})


def _clips_state(usable: int, used: int) -> StepState:
    if not used:
        return StepState(Progress.OPEN)
    if not usable:
        return StepState(Progress.BLOCKED, f"0/{used}")
    if usable < used or usable < FEW_CLIPS:
        return StepState(Progress.ATTENTION, f"{usable}/{used}" if usable < used else str(used))
    return StepState(Progress.DONE, str(used))


def _captions_state(used: int, captionless: int) -> StepState:
    if not used:
        return StepState(Progress.OPEN)
    if captionless:
        return StepState(Progress.ATTENTION, f"{used - captionless}/{used}")
    return StepState(Progress.DONE)


def _length_problems(project: Project, clip: ProjectClip, source: SourceVideo) -> list[Problem]:
    datasets = project.dataset_settings(clip.dataset)
    trim = clip.trim or source.whole_range
    if trim.end_frame > source.frame_count:
        text = f"The file now has {source.frame_count} frames; the trim ends at frame {trim.end_frame}."
        return [Problem(Level.BLOCKER, "Trim outside", text)]
    sample = sampled_length(source, trim, datasets.num_frames, datasets.sampling)
    if source.is_image:
        return []
    if sample.frames < min(FEWEST_FRAMES, sample.wanted_frames):
        return [Problem(Level.BLOCKER, "Too short", f"It is too short for {FEWEST_FRAMES} frames at 16 fps.")]
    if sample.frames < sample.wanted_frames:
        text = f"It trains with {sample.frames} frames: too short for {sample.wanted_frames} at 16 fps."
        return [Problem(Level.NOTE, f"{sample.frames} frames", text)]
    if sample.speed > 1.2 or sample.speed < 0.8:
        text = f"Its motion is learnt at {sample.speed:.2f} times its real speed."
        return [Problem(Level.WARNING, f"Speed {sample.speed:.2f}x", text)]
    return []


def _names_trigger(caption: str, trigger: str) -> bool:
    return TRIGGER_PLACEHOLDER in caption or names(caption, trigger)
