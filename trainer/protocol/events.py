"""What the trainer says while it works: one event a line in ``events.jsonl``.

Events tolerate unknown fields, and the reader keeps and skips unknown events, so that an older
app can follow a newer trainer.
"""

from enum import StrEnum
from typing import Literal

import msgspec
from msgspec import Struct

from trainer.protocol.job import Expert


class Phase(StrEnum):
    """What the trainer is busy with."""

    LOADING = "loading"
    CACHING_TEXT = "caching_text"
    CACHING_LATENTS = "caching_latents"
    TRAINING = "training"
    REHEARSING = "rehearsing"
    VALIDATING = "validating"
    PREVIEWING = "previewing"
    SAVING = "saving"
    CAPTIONING = "captioning"


class MemoryReport(Struct, frozen=True, kw_only=True):
    """What GPU memory did not suffice for, and how it stood; sizes are 0 and bytes None where not known.

    Attributes:
        doing: "loading", "caching_text", "caching_latents", "forward", "backward", "update", "validating",
            "previewing" or "other"; no list that is closed, so that an older app reads a newer trainer's.
        width: Of the clip in pixels, as `height`.
        batch: Clips at once.
        needed_bytes: What was asked for in vain.
        allocated_bytes: In tensors of the trainer.
        reserved_bytes: Held by the trainer's PyTorch, those tensors included.
        total_bytes: The card's.
        others_bytes: What is neither free nor reserved: CUDA itself, libraries, and other programs.
    """

    doing: str
    expert: Expert | None = None
    width: int = 0
    height: int = 0
    frames: int = 0
    batch: int = 1
    needed_bytes: int | None = None
    allocated_bytes: int | None = None
    reserved_bytes: int | None = None
    total_bytes: int | None = None
    others_bytes: int | None = None


class EventBase(Struct, frozen=True, kw_only=True, tag_field="event"):
    """Common to all events.

    Attributes:
        time: Seconds since the epoch, set when the event is written.
    """

    time: float = 0.0


class Hello(EventBase, frozen=True, kw_only=True, tag="hello"):
    """First event of a trainer process; a resumed run has one more of them.

    Attributes:
        first_step: Optimizer steps already done: 0, or those of the checkpoint resumed from.
    """

    protocol_version: int
    trainer_version: str
    pid: int
    device: str
    first_step: int = 0
    total_steps: int = 0


class PhaseStarted(EventBase, frozen=True, kw_only=True, tag="phase_started"):
    """A phase begins; total 0 means that its length is not known."""

    phase: Phase
    total: int = 0
    unit: str = ""


class PhaseProgress(EventBase, frozen=True, kw_only=True, tag="phase_progress"):
    """How far the phase is.

    Attributes:
        seconds_left: Estimate for the phase; None until there is one.
        message: What is being worked on, e.g. a clip's name.
    """

    phase: Phase
    done: int
    total: int
    seconds_left: float | None = None
    message: str = ""


class PhaseFinished(EventBase, frozen=True, kw_only=True, tag="phase_finished"):
    """A phase is done."""

    phase: Phase
    seconds: float


class StepDone(EventBase, frozen=True, kw_only=True, tag="step_done"):
    """One optimizer step.

    Attributes:
        step: Steps done so far, this one included; counts both experts.
        loss: Mean plain loss of the step's samples: without loss weights, guidance or preservation.
        timesteps: The timesteps (0..1000) of the step's samples.
        item_losses: The plain loss of each sample, in the order of `timesteps`.
        preservation_loss: Mean preservation loss, unweighted; None where there was none.
        seconds: Duration of the step.
        seconds_left: Estimate to the end of the run.
        peak_vram_bytes: Peak of reserved GPU memory so far; 0 on a CPU.
    """

    step: int
    expert: Expert
    loss: float
    timesteps: tuple[float, ...]
    item_losses: tuple[float, ...] = ()
    preservation_loss: float | None = None
    learning_rate: float
    grad_norm: float
    seconds: float
    seconds_left: float | None = None
    peak_vram_bytes: int = 0


Work = Literal["loading", "text", "latents", "step", "validation", "preview", "saving"]


class WorkMeasured(EventBase, frozen=True, kw_only=True, tag="work_measured"):
    """What some work took on this machine, so that later runs can be forecast from it.

    A later one about the same work (see `subject`) takes the place of an earlier one.

    Attributes:
        work: loading: of one expert. text: encoding one prompt. latents: reading, encoding and storing one
            window of a clip with its condition. step: one optimizer step. validation: one held-out clip.
            preview: one row, decoded. saving: one checkpoint.
        expert: Whose work it was; None where both or none had a part in it.
        width: Of the clips in pixels, as `height`; 0 where there are none.
        batch: Clips at once.
        passes: Of a step: batches that this process computed one after the other for it
            (`training.gradient_accumulation`). Of a validation or preview: predictions, of
            which a guided denoising step takes two.
        preserved: Prompts of each batch whose output the step also held to the base's, a forward pass
            without and one with gradient each.
        count: How many were measured.
        seconds: Median of one, without the first where there are others.
        first_seconds: What the first took, with what had to be compiled or loaded for it; of loading, only
            where weights had to be quantized. 0 where that is not known.
        decode_seconds: Of a preview's `seconds`, what loading the VAE and decoding took.
        reserved_bytes: Most GPU memory that PyTorch held meanwhile, left-overs of earlier work included.
        allocated_bytes: Most GPU memory in tensors meanwhile.
        ram_bytes: Most RAM that the process held at the end of one of them, pinned memory included.
    """

    work: Work
    expert: Expert | None = None
    width: int = 0
    height: int = 0
    frames: int = 0
    batch: int = 1
    passes: int = 1
    preserved: int = 0
    count: int = 1
    seconds: float = 0.0
    first_seconds: float = 0.0
    decode_seconds: float = 0.0
    reserved_bytes: int = 0
    allocated_bytes: int = 0
    ram_bytes: int = 0

    @property
    def subject(self) -> tuple[object, ...]:
        """What it tells of: equal for measurements of which the later one counts."""
        size = (self.width, self.height, self.frames)
        return (self.work, self.expert, *size, self.batch, self.passes, self.preserved)


class ValidationDone(EventBase, frozen=True, kw_only=True, tag="validation_done"):
    """Loss of one expert on the held-out clips, always at the same noise and timesteps.

    Attributes:
        loss: Mean over clips and timesteps.
        timesteps: Where it was measured, 0..1000.
        timestep_losses: Mean over clips at each of them.
    """

    step: int
    expert: Expert
    loss: float
    timesteps: tuple[float, ...]
    timestep_losses: tuple[float, ...]


class CheckpointSaved(EventBase, frozen=True, kw_only=True, tag="checkpoint_saved"):
    """A checkpoint is complete on disk; the path is relative to the run folder."""

    step: int
    path: str


class CheckpointRemoved(EventBase, frozen=True, kw_only=True, tag="checkpoint_removed"):
    """An old checkpoint was pruned."""

    step: int


class PreviewSaved(EventBase, frozen=True, kw_only=True, tag="preview_saved"):
    """A preview video is complete on disk; paths are relative to the run folder."""

    step: int
    row: int
    video: str
    poster: str
    prompt: str = ""


class CaptionMade(EventBase, frozen=True, kw_only=True, tag="caption_made"):
    """A model has described a clip; nothing is written beside the clip.

    Attributes:
        clip: Its id in the request, as is `key`.
        text: What the model wrote, without its own marks.
        is_whole: Whether it came to an end by itself, and not by the most tokens that it may write.
    """

    clip: str
    key: str = ""
    text: str
    is_whole: bool = True
    seconds: float = 0.0


class CaptionFailed(EventBase, frozen=True, kw_only=True, tag="caption_failed"):
    """One clip could not be described; the others go on."""

    clip: str
    key: str = ""
    message: str
    hint: str = ""


class CommandObeyed(EventBase, frozen=True, kw_only=True, tag="command_obeyed"):
    """The answer to a command file."""

    command_id: str
    command: str
    message: str = ""


class Warned(EventBase, frozen=True, kw_only=True, tag="warned"):
    """Something went wrong that does not end the run.

    Attributes:
        memory: Where GPU memory ran out, e.g. in a preview; else None.
    """

    message: str
    hint: str = ""
    memory: MemoryReport | None = None


class Paused(EventBase, frozen=True, kw_only=True, tag="paused"):
    """The run waits, its state saved."""

    step: int
    reason: str = ""


class Unpaused(EventBase, frozen=True, kw_only=True, tag="unpaused"):
    """The run goes on after a pause."""

    step: int


class RunFinished(EventBase, frozen=True, kw_only=True, tag="run_finished"):
    """Last event of a run that ended well: all steps done, or stopped as asked with its state saved."""

    reason: Literal["completed", "stopped"]
    step: int


class RunFailed(EventBase, frozen=True, kw_only=True, tag="run_failed"):
    """Last event of a run that could not go on.

    Attributes:
        kind: Stable name of the cause, e.g. "unreadable_clip", "out_of_memory", "bug".
        message: What happened, to which file or field.
        hint: What to do.
        step: Optimizer steps that are done and saved.
        remedy: The setting, `section.field=value`, that a resume is most worth a try with; empty for none.
        memory: Where GPU memory ran out; else None.
    """

    kind: str
    message: str
    hint: str = ""
    step: int = 0
    remedy: str = ""
    memory: MemoryReport | None = None


class UnknownEvent(Struct, frozen=True):
    """A line that this version does not know; kept as it is."""

    line: bytes


Event = (
    Hello
    | PhaseStarted
    | PhaseProgress
    | PhaseFinished
    | StepDone
    | WorkMeasured
    | ValidationDone
    | CheckpointSaved
    | CheckpointRemoved
    | PreviewSaved
    | CaptionMade
    | CaptionFailed
    | CommandObeyed
    | Warned
    | Paused
    | Unpaused
    | RunFinished
    | RunFailed
)

_decoder = msgspec.json.Decoder(Event)


def decode_event(line: bytes) -> Event | UnknownEvent:
    """Decode one line of ``events.jsonl``; what is not known comes back as `UnknownEvent`."""
    try:
        return _decoder.decode(line)
    except (msgspec.DecodeError, UnicodeDecodeError):
        return UnknownEvent(line)
