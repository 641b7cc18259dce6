"""Previews: what the LoRA pair makes of a first frame and a prompt, as small videos."""

from contextlib import ExitStack
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import msgspec
import numpy as np
from diffusers.models.transformers.transformer_wan import WanTransformer3DModel
from numpy.typing import NDArray

from trainer.data.batches import CONDITION
from trainer.errors import TrainerError
from trainer.model.experts import Experts
from trainer.model.load import sampling_scheduler
from trainer.model.lora import LoraSettings, add_lora, lora_settings, lora_strength, start_from
from trainer.model.sampling import DenoiseRequest, OnStep
from trainer.output.lora_file import read_lora_file
from trainer.output.preview_files import write_preview
from trainer.protocol.events import Phase, PreviewSaved, WorkMeasured
from trainer.protocol.job import Expert, JobSpec, SampleRow, SampleSection
from trainer.protocol.run_folder import RunFolder, lora_file_name
from trainer.recipes.cache_dataset import cache_latents, cache_prompts, preview_condition_key
from trainer.recipes.export_lora import checkpoint_step
from trainer.recipes.load_experts import load_experts
from trainer.recipes.memory_advice import advised
from trainer.recipes.parts import batches_of
from trainer.recipes.preview_clip import Decoding, denoised_and_decoded
from trainer.recipes.run_context import RunContext, open_context
from trainer.runtime.control import Control, StopRequested
from trainer.runtime.device import choose_device, release_memory
from trainer.runtime.out_of_memory import ClipSize, Doing, MemoryRanOutError, MemoryWork, watching_memory
from trainer.runtime.reporter import Reporter

PREVIEW_FRAMES_PER_SECOND = 16


class PreviewError(TrainerError):
    """The previews asked for cannot be made."""

    kind = "preview"


@dataclass(frozen=True, slots=True)
class PreviewSource:
    """Which LoRAs previews are made with.

    Attributes:
        high: Step of the checkpoint that the high-noise expert's LoRA is from.
        low: The same for the low-noise expert.
        strength: How strong both act.
    """

    high: int
    low: int
    strength: float = 1.0

    @property
    def is_plain(self) -> bool:
        """Whether it is one checkpoint as it is."""
        return self.high == self.low and self.strength == 1.0

    @property
    def step(self) -> int:
        """The later of the two steps."""
        return max(self.high, self.low)

    def folder(self, run: RunFolder) -> Path:
        """Where the previews go: mixtures lie beside the checkpoints' own previews."""
        if self.is_plain:
            return run.previews(self.high)
        short = f"{self.strength:.2f}"
        told = short if float(short) == self.strength else repr(self.strength)
        strength = "" if self.strength == 1.0 else f"_strength_{told}"
        return run.previews_folder / f"high_{self.high:06d}_low_{self.low:06d}{strength}"


@dataclass(frozen=True, slots=True)
class PreviewRequest:
    """What to render later; None takes the newest checkpoint, or for an expert that of `step`."""

    step: int | None = None
    high: int | None = None
    low: int | None = None
    strength: float = 1.0


@dataclass(frozen=True, slots=True)
class RowSettings:
    """How one row is rendered: its own values, and the section's where it has none."""

    seed: int
    steps: int
    guidance_high: float
    guidance_low: float
    negative_prompt: str


def render_previews(
    context: RunContext, experts: Experts, step: int, source: PreviewSource | None = None
) -> list[Path]:
    """Render every row; a row that fails is a warning, and the others follow.

    Args:
        context: The run.
        experts: Both, with the weights to show; without dropout, whatever training does.
        step: Optimizer steps done; 0 before the first.
        source: Which checkpoints' LoRAs the experts have; None while training.

    Returns:
        The videos made.
    """
    source = source or PreviewSource(step, step)
    sample = context.job.sample
    settings = [row_settings(sample, row, step) for row in sample.rows]
    total = sum(one.steps for one in settings)
    videos: list[Path] = []
    before = 0
    with context.reporter.phase(Phase.PREVIEWING, total, "denoising steps") as report, ExitStack() as stack:
        for transformer in experts.transformers.values():
            stack.enter_context(lora_strength(transformer, source.strength))
        for number, (row, own) in enumerate(zip(sample.rows, settings, strict=True)):

            def on_step(done: int, _: int, before: int = before, row: SampleRow = row) -> None:
                context.control.raise_if_stopped()
                report.progress(before + done, row.prompt)

            before += own.steps
            size = ClipSize(row.size.width, row.size.height, row.num_frames)
            try:
                with watching_memory(MemoryWork(Doing.PREVIEWING, size=size)):
                    frames = render_row(context, experts, row, own, on_step)
                told = told_settings(context.job, row, own, source)
                files = write_preview(
                    source.folder(context.run), number, frames, PREVIEW_FRAMES_PER_SECOND, told
                )
            except StopRequested:
                # Whoever called sees `control.stop`; what is finished stays.
                break
            except MemoryRanOutError as ran_out:
                go_on_without(context, number, ran_out)
                continue
            except (TrainerError, RuntimeError, ValueError, OSError) as error:
                context.reporter.warn(
                    f"The preview of row {number + 1} could not be made: {error}",
                    "It can be made later from a checkpoint; nothing else is affected.",
                )
                release_memory()
                continue
            videos.append(files.video)
            if source.is_plain:
                context.reporter.say(
                    PreviewSaved(
                        step=step,
                        row=number,
                        video=files.video.relative_to(context.run.path).as_posix(),
                        poster=files.poster.relative_to(context.run.path).as_posix(),
                        prompt=row.prompt,
                    )
                )
    release_memory()
    return videos


def go_on_without(context: RunContext, number: int, ran_out: MemoryRanOutError) -> None:
    """Say that memory did not suffice for a row, counted from 0, and give back what its attempt holds."""
    ran_out.let_go()
    context.reporter.warn(
        f"The preview of row {number + 1} could not be made: {ran_out}",
        "Give the row fewer frames or a smaller size; nothing else is affected.",
        ran_out.report,
    )
    release_memory()


def render_row(
    context: RunContext, experts: Experts, row: SampleRow, settings: RowSettings, on_step: OnStep
) -> NDArray[np.uint8]:
    """Denoise and decode one row, and tell what that took; uint8 (F, H, W, 3)."""
    watch = context.meter.begin()
    sample = context.job.sample
    is_guided = max(settings.guidance_high, settings.guidance_low) > 1.0
    sampler = sampling_scheduler(context.base, sample.sampler, sample.shift)
    request = DenoiseRequest(
        condition_CTHW=context.cache.load(preview_condition_key(context, row))[CONDITION],
        prompt_LD=context.text_rows(row.prompt),
        negative_LD=context.text_rows(settings.negative_prompt) if is_guided else None,
        steps=settings.steps,
        guidance_high=settings.guidance_high,
        guidance_low=settings.guidance_low,
        seed=settings.seed,
    )
    rendered = denoised_and_decoded(
        context.base, experts, sampler, request, on_step, Decoding(context.vae_dtype, sample.in_tiles)
    )
    if rendered.in_tiles and not sample.in_tiles:
        context.reporter.warn(
            f"A preview of {row.size.width} x {row.size.height} did not fit as a whole and was decoded in tiles.",
            "Seams may be seen in it; what is trained is not affected. Smaller previews have none.",
        )
    work = WorkMeasured(
        work="preview",
        width=row.size.width,
        height=row.size.height,
        frames=row.num_frames,
        passes=sum(request.predictions(experts.expert_for(float(at))) for at in sampler.timesteps),
    )
    context.meter.add(work, replace(watch.stop(), decode_seconds=rendered.decode_seconds))
    context.meter.tell_news()
    return rendered.frames_FHWC


def render_checkpoint(run: RunFolder, request: PreviewRequest) -> list[Path]:
    """Render the previews of checkpoints of a run that is not training.

    Raises:
        TrainerError: no such checkpoint, the base cannot be loaded, or no preview came about.
        WireError: there is no run here.
        RunLockedError: the run is training.
    """
    job = run.read_job()
    if not job.sample.rows:
        raise PreviewError("The run's job has no preview rows.", "Add rows to SAMPLE in a new run.")
    source = find_source(run, request)
    device = choose_device(job.job.gpu)
    with run.hold_lock(), Reporter(run) as reporter, advised(run, job):
        context = open_context(run, job, device, reporter, Control(run, reporter))
        # A job that renders none while training has cached nothing for them.
        sample = msgspec.structs.replace(job.sample, every=max(1, job.sample.every))
        caching = replace(context, job=msgspec.structs.replace(job, sample=sample))
        cache_prompts(caching)
        cache_latents(caching)

        def dress(expert: Expert, transformer: WanTransformer3DModel) -> None:
            step = source.high if expert is Expert.HIGH else source.low
            path = run.checkpoint(step) / lora_file_name(expert)
            if path.exists():
                # Alpha is folded into the file's weights, so the scale here is one.
                add_lora(transformer, unscaled(lora_settings(job, expert)), seed=0)
                start_from(transformer, read_lora_file(path).state)

        with watching_memory(MemoryWork(Doing.LOADING)):
            loaded = load_experts(context, tuple(Expert), batches_of(context), dress)
        videos = render_previews(context, loaded.experts, source.step, source)
    if not videos:
        raise PreviewError("None of the previews could be made.", "The warnings in the run's events say why.")
    return videos


def find_source(run: RunFolder, request: PreviewRequest) -> PreviewSource:
    """The checkpoints that a request means.

    Raises:
        NoCheckpointError: the run has no such checkpoint.
        PreviewError: an expert is asked for that the checkpoint has no LoRA of.
    """
    steps: dict[Expert, int] = {}
    for expert, own in ((Expert.HIGH, request.high), (Expert.LOW, request.low)):
        steps[expert] = checkpoint_step(run, request.step if own is None else own)
        if own is not None and not (run.checkpoint(own) / lora_file_name(expert)).exists():
            raise PreviewError(
                f"The checkpoint of step {own} has no LoRA of the {expert.value.replace('_', '-')} expert.",
                "That expert did not train in this run.",
            )
    return PreviewSource(steps[Expert.HIGH], steps[Expert.LOW], request.strength)


def row_settings(sample: SampleSection, row: SampleRow, step: int) -> RowSettings:
    """A row's own values or the section's; a walking seed goes up by one with each round of previews.

    The rounds are counted by steps, so that a resumed run, and previews made later from a checkpoint,
    have the seeds of the uninterrupted one: the round at step 0 is number 0.
    """
    number = step // sample.every if sample.walk_seed and sample.every else 0

    def own(name: str) -> Any:
        value = getattr(row, name)
        return getattr(sample, name) if value is None else value

    return RowSettings(
        seed=row.seed + number,
        steps=own("steps"),
        guidance_high=own("guidance_high"),
        guidance_low=own("guidance_low"),
        negative_prompt=own("negative_prompt"),
    )


def unscaled(settings: LoraSettings) -> LoraSettings:
    """The same with alpha = rank."""
    return LoraSettings(
        rank=settings.rank,
        type=settings.type,
        only_if_contains=settings.only_if_contains,
        ignore_if_contains=settings.ignore_if_contains,
    )


def told_settings(
    job: JobSpec, row: SampleRow, settings: RowSettings, source: PreviewSource
) -> dict[str, object]:
    """What a preview was made with, for ``previews.json``."""
    return {
        "step": source.step,
        "high_step": source.high,
        "low_step": source.low,
        "strength": source.strength,
        "prompt": row.prompt,
        "negative_prompt": settings.negative_prompt,
        "image": row.image or job.clips[row.clip].source,
        "width": row.size.width,
        "height": row.size.height,
        "num_frames": row.num_frames,
        "seed": settings.seed,
        "sampler": job.sample.sampler,
        "steps": settings.steps,
        "guidance_high": settings.guidance_high,
        "guidance_low": settings.guidance_low,
        "shift": job.sample.shift,
    }
