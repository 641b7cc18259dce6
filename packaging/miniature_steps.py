"""One optimizer step, replayed as a CUDA graph where that works: small kernels cost more to launch than to run."""

from __future__ import annotations

from collections import deque
from dataclasses import dataclass
from typing import TYPE_CHECKING

import torch
from torch import Tensor, nn

if TYPE_CHECKING:
    from collections.abc import Callable, Hashable, Sequence
    from contextlib import AbstractContextManager


@dataclass(frozen=True, slots=True)
class Habit:
    """How steps are taken.

    Attributes:
        graphs: Record each kind of step once and replay it; on CUDA only.
        quiet: Held while recording, so that no other thread talks to the GPU meanwhile.
        report: Takes a line now and then.
    """

    graphs: bool
    quiet: AbstractContextManager[object]
    report: Callable[[str], None]


@dataclass(frozen=True, slots=True)
class _Recording:
    graph: torch.cuda.CUDAGraph
    inputs: list[Tensor]
    values: Tensor


class Learner:
    """AdamW with gradients clipped to norm 1 over the weights of a module that learn.

    A step whose gradient is not finite changes nothing. On CUDA nothing waits for the GPU except for the
    step before the last, so that a box of time neither starves it nor runs ahead of it.
    """

    def __init__(
        self, module: nn.Module, habit: Habit, *, betas: tuple[float, float], weight_decay: float
    ) -> None:
        self._weights = [weight for weight in module.parameters() if weight.requires_grad]
        self._device = self._weights[0].device
        self._on_gpu = self._device.type == "cuda"
        self._rate = torch.zeros((), device=self._device)
        # A rate that lies in a tensor can change between replays.
        self._optimizer = torch.optim.AdamW(
            self._weights,
            lr=self._rate if self._on_gpu else 0.0,
            betas=betas,
            weight_decay=weight_decay,
            fused=self._on_gpu,
            capturable=self._on_gpu,
        )
        self._habit = habit
        self._graphs = habit.graphs and self._on_gpu
        self._recordings: dict[Hashable, _Recording] = {}
        self._under_way: deque[torch.cuda.Event] = deque()
        self._stream = torch.cuda.Stream(self._device) if self._graphs else None

    def step(
        self,
        kind: Hashable,
        inputs: Sequence[Tensor],
        rate: float,
        compute: Callable[..., tuple[Tensor, ...]],
    ) -> Tensor:
        """Learn once.

        Args:
            kind: Steps of one kind do the same work on inputs of the same shapes.
            inputs: Handed to `compute`, on the device.
            rate: Learning rate.
            compute: The loss, and behind it other numbers to know.

        Returns:
            What `compute` returned, detached; the next step may overwrite it.
        """
        if not self._on_gpu:
            for group in self._optimizer.param_groups:
                group["lr"] = rate
            return self._take(inputs, compute)
        self._rate.fill_(rate)
        if self._graphs and kind not in self._recordings:
            self._record(kind, inputs, compute)
        if self._graphs:
            recording = self._recordings[kind]
            for kept, given in zip(recording.inputs, inputs, strict=True):
                kept.copy_(given, non_blocking=True)
            recording.graph.replay()
            values = recording.values
        else:
            values = self._take([given.to(self._device) for given in inputs], compute)
        done = torch.cuda.Event()
        done.record()
        self._under_way.append(done)
        if len(self._under_way) > 2:
            self._under_way.popleft().synchronize()
        return values

    def _take(self, inputs: Sequence[Tensor], compute: Callable[..., tuple[Tensor, ...]]) -> Tensor:
        self._optimizer.zero_grad(set_to_none=True)
        values = compute(*inputs)
        values[0].backward()
        norm = nn.utils.clip_grad_norm_(self._weights, 1.0, foreach=True)
        if self._on_gpu:
            # The fused optimizer leaves such a step out by itself, without the CPU having to ask.
            setattr(self._optimizer, "found_inf", (~torch.isfinite(norm)).float())  # noqa: B010
            setattr(self._optimizer, "grad_scale", None)  # noqa: B010
            self._optimizer.step()
        elif torch.isfinite(norm):
            self._optimizer.step()
        return torch.stack([value.detach().float() for value in values])

    def _record(
        self, kind: Hashable, inputs: Sequence[Tensor], compute: Callable[..., tuple[Tensor, ...]]
    ) -> None:
        """Three ordinary steps, then the recording; where it fails, all steps are ordinary from now on."""
        assert self._stream is not None
        kept = [given.to(self._device).clone() for given in inputs]
        self._stream.wait_stream(torch.cuda.current_stream())
        with torch.cuda.stream(self._stream):
            for _ in range(3):
                self._take(kept, compute)
        torch.cuda.current_stream().wait_stream(self._stream)
        self._optimizer.zero_grad(set_to_none=True)
        pool = next(iter(self._recordings.values())).graph.pool() if self._recordings else None
        graph = torch.cuda.CUDAGraph()
        try:
            with (
                self._habit.quiet,
                torch.cuda.graph(graph, pool=pool, stream=self._stream, capture_error_mode="thread_local"),
            ):
                values = self._take(kept, compute)
        except RuntimeError as error:
            self._habit.report(f"no recording of {kind}: {error}"[:400])
            self._graphs = False
            self._recordings.clear()
            self._optimizer.zero_grad(set_to_none=True)
            return
        self._recordings[kind] = _Recording(graph, kept, values)
