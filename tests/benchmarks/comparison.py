"""A peer's training step and ours in one process on one device: seconds, memory, ratios.

The model, its LoRA and its way to save memory are the peer's own code; noise, loss, clipping and optimizer
are those of our own measurements on both sides, so nothing but the models differs. Data loaders, caches and
saving are outside. Weights, latents and text are random, at the shapes of the real model.
"""

# B batch, C channels, T latent frames, H/W latent height and width, S text tokens, D width of the text

import argparse
import statistics
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import NamedTuple

import torch
from torch import Tensor, nn

from trainer.errors import TrainerError
from trainer.model.a14b_config import A14B_I2V_CONFIG
from trainer.objective.flow_matching import add_noise, velocity_target
from trainer.objective.losses import item_losses
from trainer.recipes.measure import Bench
from trainer.recipes.measure_case import Case, line_of
from trainer.recipes.measure_floor import TEXT_TOKENS, timed
from trainer.recipes.measure_verb import read_case
from trainer.runtime.device import CONTEXT_GIB, GIB, choose_device, device_name, release_memory
from trainer.runtime.optim import make_optimizer, take_step

CONDITION_CHANNELS = A14B_I2V_CONFIG["in_channels"] - A14B_I2V_CONFIG["out_channels"]
LEFTOVER_BYTES = 256 * 2**20
"""More than this still allocated after a peer is gone would be counted as ours, and is said."""


class Peer(NamedTuple):
    """A peer's model, ready to train.

    Attributes:
        predict: The velocity (B, 16, T, H, W) from noisy latents (B, 16, T, H, W), condition
            (B, 20, T, H, W), timesteps (B,) in 0..1000 and text (B, S, D); the first two float32, the text
            bfloat16, all on the device.
        parameters: What is trained.
    """

    predict: Callable[[Tensor, Tensor, Tensor, Tensor], Tensor]
    parameters: list[nn.Parameter]


@dataclass(frozen=True, slots=True)
class Timing:
    """What one side took at one size; memory in bytes, 0 on a CPU.

    Attributes:
        seconds: Median of a step; 0 when it could not be measured.
        error: Why it could not.
    """

    seconds: float = 0.0
    allocated: int = 0
    reserved: int = 0
    error: str = ""


class PeerStep:
    """Training steps of a peer's model at one size; the same data in each, fresh noise."""

    def __init__(
        self, peer: Peer, optimizer: torch.optim.Optimizer, case: Case, device: torch.device
    ) -> None:
        self._peer, self._optimizer = peer, optimizer
        self._generator = torch.Generator(device).manual_seed(0)
        batch, _, frames, height, width = case.latent_shape
        self._clean_BCTHW = self._drawn(*case.latent_shape)
        self._condition_BCTHW = self._drawn(batch, CONDITION_CHANNELS, frames, height, width)
        self._text_BSD = self._drawn(batch, TEXT_TOKENS, A14B_I2V_CONFIG["text_dim"]).bfloat16()
        self._timesteps_B = torch.full((batch,), 500.0, device=device)
        self.loss = torch.zeros(())

    def take(self) -> None:
        """One step: noise, prediction, loss, gradient, optimizer."""
        noise_BCTHW = self._drawn(*self._clean_BCTHW.shape)
        noisy_BCTHW = add_noise(self._clean_BCTHW, noise_BCTHW, self._timesteps_B)
        predicted_BCTHW = self._peer.predict(
            noisy_BCTHW, self._condition_BCTHW, self._timesteps_B, self._text_BSD
        )
        loss = item_losses(predicted_BCTHW, velocity_target(self._clean_BCTHW, noise_BCTHW)).mean()
        loss.backward()
        take_step(self._optimizer, self._peer.parameters, 1.0)
        self.loss = loss.detach()

    def _drawn(self, *shape: int) -> Tensor:
        return torch.randn(shape, generator=self._generator, device=self._generator.device)


@dataclass(slots=True)
class Comparison:
    """Peers and ours at the same sizes; says each result as soon as it is there.

    Attributes:
        cases: The sizes, smallest first.
        modes: How our frozen weights compute, one after the other.
        ours: More of our case, in the words of ``python -m trainer measure --case``.
        untimed: Steps of a peer before those that count; ours takes one.
        timings: By size, then by path.
    """

    device: torch.device
    cases: list[Case]
    modes: list[str]
    ours: str
    untimed: int
    timings: dict[str, dict[str, Timing]] = field(default_factory=dict)

    def measure_peer(self, name: str, build: Callable[[], Peer]) -> None:
        """Build a peer, measure it at every size and let go of it.

        A peer that runs out of memory, or fails, is not tried at the larger sizes.
        """
        peer, optimizer, error = None, None, ""
        try:
            peer = build()
            optimizer = make_optimizer("adamw8bit", peer.parameters, 1e-4, weight_decay=1e-4)
        except RuntimeError as problem:
            error = f"{_what_happened(problem)} (while it was built)"
        if peer is not None and optimizer is not None:
            count = sum(one.numel() for one in peer.parameters)
            say(f"{name}: built, {count / 1e6:.1f} million parameters to train")
        for case in self.cases:
            if peer is not None and optimizer is not None and not error:
                timing = self._time(name, PeerStep(peer, optimizer, case, self.device), case)
            else:
                timing = Timing(error=error)
                say(f"{name}, {size_of(case)}: {error}")
            error = error or timing.error
            self.timings.setdefault(size_of(case), {})[name] = timing
        del peer, optimizer
        self._say_leftover(name)

    def measure_ours(self) -> None:
        """Measure ours at every size, in each mode; a ratio to every peer after each."""
        bench = Bench(self.device, say)
        for mode in self.modes:
            for case in self.cases:
                words = f"width={case.width},height={case.height},frames={case.frames},mode={mode}"
                words += f",layers={case.layers},steps={case.steps},rank={case.rank},cap={case.cap}"
                result = bench.measure(read_case(f"{words},{self.ours}", None))
                say(f"ours, {line_of(result)}")
                timing = Timing(result.seconds, result.allocated, result.reserved, result.error)
                path = f"ours, {mode}" + (f", {self.ours}" if self.ours else "")
                self._say_ratios(size_of(case), path, timing)
                self.timings[size_of(case)][path] = timing

    def say_table(self) -> None:
        """Everything once more as a table in Markdown, without what came before."""
        say("\n| size | path | s a step | allocated GiB | reserved GiB |\n| --- | --- | --- | --- | --- |")
        for size, paths in self.timings.items():
            for path, timing in paths.items():
                seconds = f"{timing.seconds:.3f}" if timing.seconds else timing.error.partition(":")[0]
                memory = f"{timing.allocated / GIB:.1f} | {timing.reserved / GIB:.1f}"
                say(f"| {size} | {path} | {seconds} | {memory} |")

    def _time(self, name: str, step: PeerStep, case: Case) -> Timing:
        release_memory()
        on_gpu = self.device.type == "cuda"
        try:
            _limit_memory(self.device, case.cap)
            if on_gpu:
                torch.cuda.reset_peak_memory_stats(self.device)
            first = timed(step.take, self.device)
            for _ in range(self.untimed - 1):
                step.take()
            seconds = [timed(step.take, self.device) for _ in range(case.steps)]
        except RuntimeError as problem:
            timing = Timing(error=_what_happened(problem))
            say(f"{name}, {size_of(case)}: {timing.error}")
            return timing
        finally:
            _limit_memory(self.device, 0.0)
        timing = Timing(
            statistics.median(seconds),
            torch.cuda.max_memory_allocated(self.device) if on_gpu else 0,
            torch.cuda.max_memory_reserved(self.device) if on_gpu else 0,
        )
        each = ", ".join(f"{one:.3f}" for one in seconds)
        memory = f"allocated {timing.allocated / GIB:.2f} GiB, reserved {timing.reserved / GIB:.2f} GiB"
        say(
            f"{name}, {size_of(case)}: {timing.seconds:.3f} s a step ({each}); {memory}; "
            f"loss {float(step.loss):.4f}, first step {first:.1f} s"
        )
        return timing

    def _say_ratios(self, size: str, path: str, ours: Timing) -> None:
        for name, peer in self.timings[size].items():
            if name.startswith("ours") or not (ours.seconds and peer.seconds):
                continue
            memory = (
                f", {ours.reserved / GIB:.1f} of {peer.reserved / GIB:.1f} GiB reserved"
                if peer.reserved
                else ""
            )
            say(f"RATIO {size}: {path} is {peer.seconds / ours.seconds:.2f} x as fast as {name}{memory}")

    def _say_leftover(self, name: str) -> None:
        release_memory()
        if self.device.type != "cuda":
            return
        left = torch.cuda.memory_allocated(self.device)
        if left > LEFTOVER_BYTES:
            say(f"{name}: {left / GIB:.2f} GiB of it are still allocated and would count as the next one's")


def parser_of(description: str | None) -> argparse.ArgumentParser:
    """A parser with the options that every comparison takes."""
    parser = argparse.ArgumentParser(
        description=description, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--sizes", default="512,768", help="widths of squares, or like 832x480")
    parser.add_argument("--frames", type=int, default=41, help="of the clip, 4n+1")
    parser.add_argument("--layers", type=int, default=40, help="blocks of an expert; the real one has 40")
    parser.add_argument("--rank", type=int, default=16, help="of the LoRA, on ten linears of every block")
    parser.add_argument("--steps", type=int, default=3, help="that are timed; their median counts")
    parser.add_argument("--untimed", type=int, default=1, help="steps of a peer before those; ours takes 1")
    parser.add_argument("--mode", default="float8_compute", help="ours: float8_compute, none, nf4, ...")
    parser.add_argument(
        "--ours", default="", metavar="NAME=VALUE,...", help="more of our case, as in trainer measure --case"
    )
    parser.add_argument("--cap", type=float, default=0.0, metavar="GIB", help="emulate a card of this size")
    parser.add_argument("--gpu", type=int, default=0)
    return parser


def comparison_of(options: argparse.Namespace) -> Comparison:
    """What the options ask for; says on what it is measured.

    Raises:
        SystemExit: there is no such GPU, or a size or mode cannot be read.
    """
    try:
        return _comparison_of(options)
    except TrainerError as problem:
        raise SystemExit(str(problem)) from problem


def _comparison_of(options: argparse.Namespace) -> Comparison:
    device = choose_device(options.gpu)
    shared = f"frames={options.frames},layers={options.layers},rank={options.rank},steps={options.steps}"
    cases = []
    for size in options.sizes.split(","):
        width, _, height = size.partition("x")
        cases.append(read_case(f"width={width},height={height or width},{shared}", options.cap))
    modes = [mode for mode in options.mode.split(",") if mode]
    for mode in modes:
        # Read now, so that a slip is not found out after minutes of the peer's.
        read_case(f"mode={mode},{options.ours}", None)
    say(f"torch {torch.__version__}, {device_name(device)}; {options.layers} blocks, rank {options.rank}")
    cases.sort(key=lambda case: case.tokens)
    return Comparison(device, cases, modes, options.ours, max(options.untimed, 1))


def draw_weights(model: nn.Module, device: torch.device, dtype: torch.dtype) -> dict[str, Tensor]:
    """Random weights for a model without any, by name: as our own measurements draw theirs.

    Args:
        model: On the meta device.
        device: Where they are drawn and stay.
        dtype: Of all of them.
    """
    generator = torch.Generator(device).manual_seed(0)
    drawn = {}
    for name, parameter in model.named_parameters():
        made = torch.empty(parameter.shape, device=device, dtype=dtype)
        if name.endswith("bias"):
            made.zero_()
        elif "norm" in name:
            made.fill_(1.0)
        elif name.endswith(("scale_shift_table", "modulation")):
            made.normal_(0.0, made.shape[-1] ** -0.5, generator=generator)
        else:
            made.normal_(0.0, 0.02, generator=generator)
        drawn[name] = made
    return drawn


def trained(module: nn.Module) -> list[nn.Parameter]:
    """Its parameters that have gradients."""
    return [one for one in module.parameters() if one.requires_grad]


def size_of(case: Case) -> str:
    """Width, height and frames."""
    return f"{case.width}x{case.height}x{case.frames}"


def names_of(text: str, known: Sequence[str]) -> list[str]:
    """The names in a list with commas; ends the program at one that is not known."""
    names = [one.strip() for one in text.split(",") if one.strip()]
    unknown = [one for one in names if one not in known]
    if unknown:
        raise SystemExit(f"{', '.join(unknown)}: not one of {', '.join(known)}")
    return names


def say(line: str) -> None:
    """Print a line at once, also into a file."""
    print(line, flush=True)


def _limit_memory(device: torch.device, cap_gib: float) -> None:
    if device.type == "cuda":
        total = torch.cuda.get_device_properties(device).total_memory
        share = min((cap_gib - CONTEXT_GIB) * GIB / total, 1.0) if cap_gib else 1.0
        torch.cuda.set_per_process_memory_fraction(share, device)


def _what_happened(problem: RuntimeError) -> str:
    kind = "out of memory" if isinstance(problem, torch.OutOfMemoryError) else "failed"
    return f"{kind}: {next(iter(str(problem).splitlines()), type(problem).__name__)}"
