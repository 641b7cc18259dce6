"""Measure training steps of the real shapes on this machine: seconds, memory by phase, ratio to the floor.

Random weights, latents and text; everything between them is the trainer's own: experts, LoRA, losses,
optimizer. A smaller card is emulated by a limit on what torch may reserve.
"""

# B batch, T latent frames, H/W latent height and width, S text tokens

import gc
import statistics
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from typing import Annotated, Any

import msgspec
import torch
from msgspec import Meta
from torch import Tensor

from trainer.model.assemble import AssembledExpert, Assembly, ServedExperts, assemble_expert, serve
from trainer.model.block.activations import Keep
from trainer.model.expert_plan import ExpertPlan
from trainer.model.experts import Experts
from trainer.model.frozen.quantizer import Mode
from trainer.model.lora import LoraSettings, add_lora, lora_parameters
from trainer.model.random_expert import RandomSource
from trainer.objective.flow_matching import add_noise, velocity_target
from trainer.objective.losses import item_losses
from trainer.protocol.job import Expert
from trainer.recipes.measure_floor import TEXT_TOKENS, ExpertShape, block_times, floor_seconds, timed
from trainer.runtime.device import release_memory
from trainer.runtime.optim import make_optimizer, take_step

GIB = 2**30
CONTEXT_GIB = 1.0
"""What CUDA and the desktop take of a card before torch may reserve anything."""

Side = Annotated[int, Meta(ge=16, multiple_of=16)]
Positive = Annotated[int, Meta(ge=1)]
NonNegative = Annotated[int, Meta(ge=0)]


class Case(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """One thing to measure; the names are those of the job where it has them.

    Attributes:
        width: Of the bucket in pixels, as `height`.
        frames: 4n+1.
        mode: As ``quantization.transformer``.
        keep: As ``training.kept_activations``, or everything.
        resident: Blocks that stay on the GPU; None all.
        cap: Size of the card to emulate, in GiB; 0 is none.
        experts: 2 switches the expert at every step.
        layers: Blocks of an expert; the real model has 40.
        steps: Timed, after one that is not.
    """

    width: Side = 512
    height: Side = 512
    frames: Positive = 41
    mode: Mode = "float8_compute"
    keep: Keep = "attention"
    kept_blocks: NonNegative = 0
    resident: NonNegative | None = None
    offload: bool = False
    chunks: Positive = 1
    cap: Annotated[float, Meta(ge=0.0)] = 0.0
    experts: Annotated[int, Meta(ge=1, le=2)] = 1
    rank: Positive = 16
    batch: Positive = 1
    layers: Positive = 40
    steps: Positive = 3

    def __post_init__(self) -> None:
        if self.frames % 4 != 1:
            raise ValueError(f"{self.frames} frames are not 4n+1")

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
            low_vram=True,
            checkpoint_offloading=self.offload,
            feed_forward_chunks=self.chunks,
            keep=self.keep,
            kept_blocks=self.kept_blocks,
            compiled=True,
        )

    def words(self) -> str:
        """The case in few words."""
        parts = [f"{self.width}x{self.height}x{self.frames}", self.mode, f"keep {self.keep}"]
        parts += [f"{self.kept_blocks} blocks everything"] if self.kept_blocks else []
        parts += [f"resident {self.resident}"] if self.resident is not None else []
        parts += ["checkpoints in RAM"] if self.offload else []
        parts += [f"chunks {self.chunks}"] if self.chunks > 1 else []
        parts += [f"cap {self.cap:g} GiB"] if self.cap else []
        parts += ["experts in turn"] if self.experts > 1 else []
        return ", ".join(parts)


class Measured(msgspec.Struct, frozen=True, kw_only=True):
    """What a case gave; memory in bytes.

    Attributes:
        seconds: Median of a step.
        all_seconds: Of each timed step.
        first_seconds: Of the first, in which passes are compiled.
        floor: Least seconds that the step could take here; 0 where it was not measured.
        peaks: Most bytes allocated by phase: forward, backward, optimizer.
        allocated: Most bytes allocated.
        reserved: Most bytes reserved, which is what a card must have.
        moved: Bytes copied to the GPU in one step.
        late: Blocks of the last step that the computation waited for.
        loss: Of the last step.
        resident: What stays on the GPU throughout, by name.
        ram: Bytes of blocks and activations in RAM.
        error: A sentence when it could not be measured.
    """

    case: Case
    tokens: int
    device: str
    seconds: float = 0.0
    all_seconds: tuple[float, ...] = ()
    first_seconds: float = 0.0
    floor: float = 0.0
    peaks: dict[str, int] = {}
    allocated: int = 0
    reserved: int = 0
    moved: int = 0
    late: int = 0
    loss: float = 0.0
    resident: dict[str, int] = {}
    ram: int = 0
    error: str = ""

    @property
    def ratio(self) -> float:
        """Measured seconds over the floor; 0 without one."""
        return self.seconds / self.floor if self.floor else 0.0


@dataclass(slots=True)
class Bench:
    """Experts of one mode with their LoRAs and optimizers, kept from case to case.

    Attributes:
        device: What is measured.
        say: Told what is going on, a line each.
        config: Of the experts, but for their blocks; None takes the real model's.
    """

    device: torch.device
    say: Callable[[str], None]
    config: Mapping[str, Any] | None = None
    loaded: dict[Expert, AssembledExpert] = field(default_factory=dict)
    optimizers: dict[Expert, Any] = field(default_factory=dict)
    key: tuple[Any, ...] = ()
    floors: dict[tuple[Any, ...], Any] = field(default_factory=dict)

    def measure(self, case: Case) -> Measured:
        """Measure one case; what goes wrong is told in the result."""
        name = torch.cuda.get_device_name(self.device) if self.device.type == "cuda" else "CPU"
        result = Measured(case=case, tokens=case.tokens, device=name)
        served: ServedExperts | None = None
        try:
            self._load(case)
            floor = self._floor(case)
            release_memory()
            self._limit(case.cap)
            served = serve(self.loaded, case.plan, self.device, self.say)
            return replace_struct(result, floor=floor, **self._steps(case, served))
        except torch.OutOfMemoryError as error:
            return replace_struct(result, error=f"out of memory: {str(error).splitlines()[0]}")
        finally:
            self._limit(0.0)
            if served is not None:
                self._clean(served)

    def _load(self, case: Case) -> None:
        """Have the experts that the case needs."""
        key = (case.mode, case.layers, case.rank)
        if key != self.key:
            self.loaded.clear()
            self.optimizers.clear()
            release_memory()
            self.key = key
        for expert in list(Expert)[: case.experts]:
            if expert in self.loaded:
                continue
            source = RandomSource(self.device, case.layers, self.config)
            # Always with masters in RAM, so that one expert serves cases of every number of resident blocks.
            assembly = Assembly(case.plan, self.device, torch.bfloat16, in_ram=True)
            made = assemble_expert(source, assembly)
            add_lora(made.transformer, LoraSettings(rank=case.rank), seed=0)
            self.optimizers[expert] = make_optimizer(
                "adamw8bit", lora_parameters(made.transformer), 1e-4, weight_decay=1e-4
            )
            # Last: what memory ran out for must not count as loaded.
            self.loaded[expert] = made
        for expert in list(Expert)[case.experts :]:
            self.loaded.pop(expert, None)
            self.optimizers.pop(expert, None)

    def _floor(self, case: Case) -> float:
        if self.device.type != "cuda":
            return 0.0
        key = (case.tokens, case.mode == "float8_compute")
        if key not in self.floors:
            shape = ExpertShape() if self.config is None else ExpertShape.of(self.config)
            self.floors[key] = block_times(case.tokens, case.mode, shape, self.device)
        kept = min(case.kept_blocks, case.layers)
        times = self.floors[key]
        return case.batch * (
            floor_seconds(times, case.keep, case.layers - kept) + floor_seconds(times, "everything", kept)
        )

    def _limit(self, cap_gib: float) -> None:
        if self.device.type != "cuda":
            return
        total = torch.cuda.get_device_properties(self.device).total_memory
        share = min((cap_gib - CONTEXT_GIB) * GIB / total, 1.0) if cap_gib else 1.0
        torch.cuda.set_per_process_memory_fraction(share, self.device)

    def _steps(self, case: Case, served: ServedExperts) -> dict[str, Any]:
        """Take the steps; the fields of the result that they give."""
        step = Step(self, case, served)
        on_gpu = self.device.type == "cuda"
        # The phases' memory in the first step, which is not timed for the result.
        first = timed(step.take_and_look if on_gpu else step.take, self.device)
        slots = {id(one.slots): one.slots.traffic for one in served.streamed.values()}.values()
        before = sum(one.bytes_moved for one in slots), sum(one.late_copies for one in slots)
        seconds = [timed(step.take, self.device) for _ in range(case.steps)]
        moved = (sum(one.bytes_moved for one in slots) - before[0]) // case.steps
        late = (sum(one.late_copies for one in slots) - before[1]) // case.steps
        fields: dict[str, Any] = {
            "seconds": statistics.median(seconds),
            "all_seconds": tuple(seconds),
            "first_seconds": first,
            "moved": moved,
            "late": late,
            "loss": float(step.loss),
            "resident": self.resident(served),
        }
        memory = served.memory()
        fields["ram"] = served.store.ram_bytes + (memory.ram_pinned + memory.ram_pageable if memory else 0)
        if on_gpu:
            fields["allocated"] = torch.cuda.max_memory_allocated(self.device)
            fields["reserved"] = torch.cuda.max_memory_reserved(self.device)
            fields["allocated"] = max(fields["allocated"], *step.peaks.values())
            fields["peaks"] = step.peaks
        return fields

    def resident(self, served: ServedExperts) -> dict[str, int]:
        """What stays on the device throughout, in bytes by name; the blocks' slots included."""
        memory = served.memory()
        found = {
            "resident blocks": memory.device_resident if memory else 0,
            "ring of streamed blocks": memory.device_ring if memory else 0,
        }
        for expert, assembled in self.loaded.items():
            lora = {id(one) for one in lora_parameters(assembled.transformer)}
            frozen = [one for one in assembled.transformer.parameters() if id(one) not in lora]
            states = [
                one
                for state in self.optimizers[expert].state.values()
                for one in state.values()
                if isinstance(one, Tensor) and one.device.type == self.device.type
            ]
            found |= {
                f"{expert.value}: embeddings, norms, head": _bytes_of(frozen),
                f"{expert.value}: LoRA": _bytes_of(lora_parameters(assembled.transformer)),
                f"{expert.value}: optimizer": _bytes_of(states),
            }
        return found

    def _clean(self, served: ServedExperts) -> None:
        served.release()
        for expert in self.loaded.values():
            for parameter in lora_parameters(expert.transformer):
                parameter.grad = None
            for block in expert.transformer.blocks:
                # The blocks' way to compute holds slots and activations.
                block.__dict__.pop("forward", None)
        gc.collect()
        release_memory()


class Step:
    """Training steps of one case."""

    def __init__(self, bench: Bench, case: Case, served: ServedExperts) -> None:
        self._bench, self._served = bench, served
        self._order = list(bench.loaded)
        self._done = 0
        device = bench.device
        self._experts = Experts({name: one.transformer for name, one in bench.loaded.items()}, boundary=0.9)
        generator = torch.Generator(device).manual_seed(0)

        def drawn(*shape: int) -> Tensor:
            return torch.randn(shape, generator=generator, device=device)

        width: Any = next(iter(bench.loaded.values())).transformer.config
        self._clean_BCTHW, self._condition_BCTHW = drawn(*case.latent_shape), drawn(*case.latent_shape)
        self._text_BSD = drawn(case.batch, TEXT_TOKENS, width.text_dim).bfloat16()
        self._timesteps_B = torch.full((case.batch,), 500.0, device=device)
        self._generator = generator
        self.loss = torch.zeros(())
        self.peaks: dict[str, int] = {}

    def take(self) -> None:
        """One step: noise, prediction, loss, gradient, optimizer."""
        self._take(None)

    def take_and_look(self) -> None:
        """One step, and the most bytes allocated in each of its phases."""
        device = self._bench.device

        def mark(phase: str) -> None:
            torch.cuda.synchronize(device)
            self.peaks[phase] = torch.cuda.max_memory_allocated(device)
            torch.cuda.reset_peak_memory_stats(device)

        torch.cuda.reset_peak_memory_stats(device)
        self._take(mark)

    def _take(self, mark: Callable[[str], None] | None) -> None:
        mark = mark or _pass_over
        expert = self._order[self._done % len(self._order)]
        self._done += 1
        noise_BCTHW = torch.randn(
            self._clean_BCTHW.shape, generator=self._generator, device=self._bench.device
        )
        noisy_BCTHW = add_noise(self._clean_BCTHW, noise_BCTHW, self._timesteps_B)
        predicted_BCTHW = self._experts.predict(
            expert, noisy_BCTHW, self._condition_BCTHW, self._timesteps_B, self._text_BSD
        )
        target_BCTHW = velocity_target(self._clean_BCTHW, noise_BCTHW)
        loss = item_losses(predicted_BCTHW, target_BCTHW).mean()
        mark("forward")
        loss.backward()
        following = self._order[self._done % len(self._order)]
        if following is not expert:
            self._served.announce(following)
        mark("backward")
        optimizer = self._bench.optimizers[expert]
        take_step(optimizer, lora_parameters(self._bench.loaded[expert].transformer), 1.0)
        self.loss = loss.detach()
        mark("optimizer")


def measure(
    cases: Iterable[Case],
    device: torch.device,
    say: Callable[[str], None],
    config: Mapping[str, Any] | None = None,
    on_result: Callable[[list[Measured]], None] | None = None,
) -> list[Measured]:
    """Measure one case after the other; each result is said as soon as it is there.

    Args:
        cases: What to measure.
        device: Where.
        say: Told a line for each.
        config: Of the experts, but for their blocks; None takes the real model's.
        on_result: Given all results so far after each case.
    """
    bench = Bench(device, say, config)
    results: list[Measured] = []
    for case in cases:
        results.append(bench.measure(case))
        say(line_of(results[-1]))
        if on_result is not None:
            on_result(results)
    return results


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
        f"{result.case.words()}: {result.seconds:.3f} s a step{floor}{memory}{moved}; loss {result.loss:.4f}, "
        f"first step {result.first_seconds:.1f} s"
    )


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


def _pass_over(phase: str) -> None:
    del phase


def replace_struct(result: Measured, **fields: Any) -> Measured:
    """The result with other fields."""
    return msgspec.structs.replace(result, **fields)


def _bytes_of(tensors: Iterable[Tensor]) -> int:
    return sum(one.untyped_storage().nbytes() for one in tensors)
