"""What can be measured on this machine, what a measurement gives, and both in words."""

from typing import Annotated, Literal

import msgspec
from msgspec import Meta

from trainer.model.block.activations import Keep
from trainer.model.expert_plan import ExpertPlan
from trainer.model.frozen.quantizer import Mode
from trainer.runtime.device import GIB

Side = Annotated[int, Meta(ge=16, multiple_of=16)]
Positive = Annotated[int, Meta(ge=1)]
NonNegative = Annotated[int, Meta(ge=0)]


Measurable = Literal["step", "latents", "text", "preview", "decode"]
TEXT_MODES = ("none", "float8")


class Case(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """One thing to measure; the names are those of the job where it has them.

    Attributes:
        work: step: training steps. latents: the VAE encodes one clip and its condition. text: UMT5-XXL
            encodes one prompt of 512 tokens. preview: denoising steps with guidance, both experts in turn,
            then decoding. decode: that alone.
        width: Of the bucket in pixels, as `height`.
        frames: 4n+1.
        mode: As ``quantization.transformer``; for text as ``quantization.text_encoder``, none or float8.
        vae: As ``quantization.vae``.
        keep: As ``training.kept_activations``, or everything.
        resident: Blocks that stay on the GPU; None all.
        low_vram: As ``model.low_vram``: two experts share them.
        cap: Size of the card to emulate, in GiB; 0 is none.
        experts: 2 switches the expert at every step.
        layers: Blocks of an expert; the real model has 40.
        steps: Timed, after one that is not; of a preview, denoising steps.
    """

    work: Measurable = "step"
    width: Side = 512
    height: Side = 512
    frames: Positive = 41
    mode: Mode = "float8_compute"
    keep: Keep = "attention"
    kept_blocks: NonNegative = 0
    resident: NonNegative | None = None
    low_vram: bool = True
    offload: bool = False
    chunks: Positive = 1
    cap: Annotated[float, Meta(ge=0.0)] = 0.0
    experts: Annotated[int, Meta(ge=1, le=2)] = 1
    rank: Positive = 16
    batch: Positive = 1
    layers: Positive = 40
    steps: Positive = 3
    vae: Literal["none", "bf16"] = "none"

    def __post_init__(self) -> None:
        if self.frames % 4 != 1:
            raise ValueError(f"{self.frames} frames are not 4n+1")
        if self.work == "text" and self.mode not in TEXT_MODES:
            raise ValueError(f"the text encoder is stored in mode {' or '.join(TEXT_MODES)}")

    @property
    def latent_shape(self) -> tuple[int, int, int, int, int]:
        """Of the latents, (B, 16, T, H, W)."""
        return self.batch, 16, (self.frames - 1) // 4 + 1, self.height // 8, self.width // 8

    @property
    def tokens(self) -> int:
        """Of one clip."""
        _, _, frames, height, width = self.latent_shape
        return frames * (height // 2) * (width // 2)

    @property
    def plan(self) -> ExpertPlan:
        """How the experts compute."""
        return ExpertPlan(
            mode=self.mode,
            resident_blocks=self.resident,
            low_vram=self.low_vram,
            checkpoint_offloading=self.offload,
            feed_forward_chunks=self.chunks,
            keep=self.keep,
            kept_blocks=self.kept_blocks,
            compiled=True,
        )

    def words(self) -> str:
        """The case in few words."""
        size = f"{self.width}x{self.height}x{self.frames}"
        if self.work not in ("step", "preview"):
            parts = [self.work, self.mode if self.work == "text" else size]
            return ", ".join(parts + ([f"cap {self.cap:g} GiB"] if self.cap else []))
        kind = [f"keep {self.keep}"] if self.work == "step" else [f"preview of {self.steps} steps"]
        parts = [size, self.mode, *kind]
        parts += [f"{self.kept_blocks} blocks everything"] if self.kept_blocks else []
        parts += [f"resident {self.resident}"] if self.resident is not None else []
        parts += [] if self.low_vram else ["both experts stay"]
        parts += ["checkpoints in RAM"] if self.offload else []
        parts += [f"chunks {self.chunks}"] if self.chunks > 1 else []
        parts += [f"cap {self.cap:g} GiB"] if self.cap else []
        parts += ["experts in turn"] if self.experts > 1 and self.work == "step" else []
        return ", ".join(parts)


class Measured(msgspec.Struct, frozen=True, kw_only=True):
    """What a case gave; memory in bytes.

    Attributes:
        seconds: Median of a step, a clip or a prompt; of a preview, a denoising step.
        all_seconds: Of each that was timed.
        first_seconds: Of the first, in which passes are compiled; of a preview, the whole first one.
        decode_seconds: Of a preview: loading the VAE and decoding.
        floor: Least seconds that the step could take here; 0 where it was not measured.
        peaks: Most bytes allocated by phase: forward, backward, optimizer; loading and the work itself.
        allocated: Most bytes allocated.
        reserved: Most bytes reserved, which is what a card must have.
        moved: Bytes copied to the GPU in one step.
        late: Blocks of the last step that the computation waited for.
        loss: Of the last step.
        resident: What stays on the GPU throughout, by name.
        ram: Bytes of blocks and activations in RAM.
        outside: GPU memory that is neither free nor PyTorch's, at the end: CUDA, libraries, other programs.
        error: A sentence when it could not be measured.
    """

    case: Case
    tokens: int
    device: str
    seconds: float = 0.0
    all_seconds: tuple[float, ...] = ()
    first_seconds: float = 0.0
    decode_seconds: float = 0.0
    floor: float = 0.0
    peaks: dict[str, int] = {}
    allocated: int = 0
    reserved: int = 0
    moved: int = 0
    late: int = 0
    loss: float = 0.0
    resident: dict[str, int] = {}
    ram: int = 0
    outside: int = 0
    error: str = ""

    @property
    def ratio(self) -> float:
        """Measured seconds over the floor; 0 without one."""
        return self.seconds / self.floor if self.floor else 0.0


def line_of(result: Measured) -> str:
    """A result as one line of a table."""
    if result.error:
        return f"{result.case.words()}: {result.error}"
    floor = f", {result.ratio:.2f} x the floor of {result.floor:.2f} s" if result.floor else ""
    peaks = ", ".join(f"{phase} {size / GIB:.1f}" for phase, size in result.peaks.items())
    memory = (
        f"; allocated {result.allocated / GIB:.2f} GiB, reserved {result.reserved / GIB:.2f} GiB ({peaks})"
        if result.reserved
        else ""
    )
    moved = f"; {result.moved / GIB:.1f} GiB to the GPU a step, {result.late} late" if result.moved else ""
    return (
        f"{result.case.words()}: {result.seconds:.3f} s a {_UNITS[result.case.work]}{floor}{memory}{moved}; "
        f"{_last_words(result)}"
    )


_UNITS = {
    "step": "step",
    "latents": "clip",
    "text": "prompt",
    "preview": "denoising step",
    "decode": "clip",
}


def _last_words(result: Measured) -> str:
    match result.case.work:
        case "step":
            return f"loss {result.loss:.4f}, first step {result.first_seconds:.1f} s"
        case "preview":
            return f"decoding {result.decode_seconds:.2f} s, first preview {result.first_seconds:.1f} s"
        case _:
            return f"the first took {result.first_seconds:.1f} s"


def explain(result: Measured) -> list[str]:
    """What stays resident, a line each, largest first."""
    lines = [
        f"{size / GIB:8.3f} GiB  {name}"
        for name, size in sorted(result.resident.items(), key=lambda one: -one[1])
    ]
    rest = result.allocated - sum(result.resident.values())
    lines.append(f"{rest / GIB:8.3f} GiB  activations, gradients and work at the peak")
    lines.append(f"{result.ram / GIB:8.3f} GiB  of RAM: blocks and activations that wait there")
    return lines
