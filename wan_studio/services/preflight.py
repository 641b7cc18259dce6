"""Everything that is looked at before a run starts: what trains, what does not, what stands in the way."""

from dataclasses import dataclass
from pathlib import Path

from trainer.protocol.job import ModelSection
from wan_studio.domain.checks import Level, Step
from wan_studio.domain.job_builder import BuiltJob
from wan_studio.domain.machine import GIB, Machine
from wan_studio.domain.project import Project, Settings
from wan_studio.domain.recommend import Judgement
from wan_studio.errors import AppError
from wan_studio.services.base_models import check_base_model
from wan_studio.services.caption_place import CaptionFolderMissingError, read_clip_caption
from wan_studio.services.caption_store import CaptionEncodingError, CaptionFileError
from wan_studio.services.hardware_probe import disk_free_bytes
from wan_studio.services.job_preparation import Progress, prepare_job
from wan_studio.services.project_store import ProjectStore
from wan_studio.services.trainer_runtime import TrainerMissingError, find_trainer_python

_LEAST_FREE_BYTES = 2 * 2**30


@dataclass(frozen=True, slots=True)
class Check:
    """One line of the review; without a level it is as it should be.

    Attributes:
        page: Where it can be changed; None where no page is meant.
    """

    text: str
    level: Level | None = None
    hint: str = ""
    page: Step | None = None


@dataclass(frozen=True, slots=True)
class Preflight:
    """The outcome.

    Attributes:
        built: The job, when one could be made.
    """

    checks: tuple[Check, ...]
    built: BuiltJob | None

    @property
    def blockers(self) -> tuple[Check, ...]:
        """What stands in the way of a start."""
        return tuple(check for check in self.checks if check.level is Level.BLOCKER)

    @property
    def can_start(self) -> bool:
        """Whether a run may start."""
        return self.built is not None and not self.blockers


def run_preflight(project: Project, store: ProjectStore, on_progress: Progress | None = None) -> Preflight:
    """Make the job and look at everything around it; writes nothing."""
    checks: list[Check] = []
    built: BuiltJob | None = None
    try:
        built = prepare_job(project, store, on_progress)
    except AppError as error:
        checks.append(Check(error.message, Level.BLOCKER, error.hint))
        checks += _other_caption_checks(project, store.captions_folder, error)
    else:
        used = sum(not clip.rejected for clip in project.clips)
        trains = sum(clip.flip == "none" for clip in built.job.clips)
        level = None if trains == used else Level.WARNING
        checks.append(Check(f"{trains} of {used} clips train.", level))
        checks += [Check(note, Level.NOTE) for note in built.notes]
    checks.append(_model_check(project.settings.model))
    checks += _missing_file_checks(project.settings)
    checks.append(_trainer_check())
    checks.append(_disk_check(store.folder))
    return Preflight(tuple(checks), built)


def plan_check(judgement: Judgement, machine: Machine) -> Check:
    """What the run takes of this machine; one that does not fit may be meant for another, and stops nothing."""
    missing = judgement.missing
    if machine.gpu is None:
        return Check(
            missing.why_not, Level.WARNING, "The job can be trained on another machine.", Step.HARDWARE
        )
    hours = judgement.time.hours
    lasts = (
        ""
        if not judgement.time.runs
        else f", about {hours:.0f} h"
        if hours >= 1
        else f", about {60 * hours:.0f} min"
    )
    peak = (
        f"Peak {judgement.memory.peak.total / GIB:.1f} of {machine.gpu.free_bytes / GIB:.1f} GiB VRAM{lasts}."
    )
    if missing.is_none:
        return Check(peak, page=Step.HARDWARE)
    told = (("VRAM", missing.vram), ("RAM", missing.ram), ("disk space", missing.disk))
    sizes = " and ".join(f"{size / GIB:.1f} GiB of {name}" for name, size in told if size)
    hint = (
        missing.why_not
        or f"With head-room, {sizes} are missing. The Hardware page has a plan that fits, or ways out."
    )
    return Check(peak, Level.WARNING, hint, Step.HARDWARE)


def _other_caption_checks(project: Project, captions_folder: Path, told: AppError) -> list[Check]:
    """The captions that would stand in the way next: all are told at once, not one after another."""
    checks: list[Check] = []
    for clip in project.clips:
        if clip.rejected:
            continue
        try:
            read_clip_caption(clip, captions_folder)
        except CaptionFolderMissingError:
            continue  # Its clip is missing, too, and that is told.
        except (CaptionEncodingError, CaptionFileError) as error:
            if error.message != told.message:
                checks.append(Check(error.message, Level.BLOCKER, error.hint))
    return checks


def _model_check(model: ModelSection) -> Check:
    try:
        return Check(check_base_model(model))
    except AppError as error:
        return Check(error.message, Level.BLOCKER, error.hint)


def _missing_file_checks(settings: Settings) -> list[Check]:
    """The files that settings name and that are not there."""
    checks: list[Check] = []
    stages, target = settings.multistage.stages, settings.target
    for expert, path in (("high", target.start_high), ("low", target.start_low)):
        if path and stages in ("both", expert) and not Path(path).is_file():
            checks.append(
                Check(
                    f"The LoRA file that the {expert} noise expert starts from is missing: {path}",
                    Level.BLOCKER,
                    "Choose another on the Training page, or clear it.",
                )
            )
    for number, row in enumerate(settings.sample.rows if settings.sample.every else (), start=1):
        if row.image and not Path(row.image).is_file():
            checks.append(
                Check(
                    f"The picture of preview {number} is missing: {row.image}",
                    Level.BLOCKER,
                    "Choose another below, or take a clip's first frame.",
                )
            )
    return checks


def _trainer_check() -> Check:
    try:
        python = find_trainer_python()
    except TrainerMissingError as error:
        return Check(error.message, Level.BLOCKER, error.hint)
    return Check(f"The trainer runs with {python}.")


def _disk_check(folder: Path) -> Check:
    free_bytes = disk_free_bytes(folder)
    text = f"{free_bytes / 2**30:.1f} GB are free on the project's disk."
    if free_bytes < _LEAST_FREE_BYTES:
        return Check(text, Level.WARNING, "Checkpoints and previews may need more.")
    return Check(text)
