"""Measure the work of training at the real shapes on this machine: seconds, memory by phase, ratio to the floor.

Random weights, latents and text; everything between them is the trainer's own: experts, LoRA, losses,
optimizer. A smaller card is emulated by a limit on what torch may reserve.
"""

# B batch, T latent frames, H/W latent height and width, S text tokens

import gc
import statistics
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from typing import Any

import msgspec
import torch
from torch import Tensor

from trainer.model.assemble import AssembledExpert, Assembly, ServedExperts, assemble_expert, serve
from trainer.model.experts import Experts
from trainer.model.lora import LoraSettings, add_lora, lora_parameters
from trainer.model.random_base import ModelConfigs, RandomSource
from trainer.objective.flow_matching import add_noise, velocity_target
from trainer.objective.losses import item_losses
from trainer.protocol.job import Expert
from trainer.recipes.measure_case import Case, Measured, line_of
from trainer.recipes.measure_floor import TEXT_TOKENS, ExpertShape, block_times, floor_seconds, timed
from trainer.recipes.measure_phases import decode, encode_latents, encode_text, make_previews
from trainer.runtime.device import device_name, emulate_card, outside_bytes, release_memory
from trainer.runtime.optim import make_optimizer, take_step


@dataclass(slots=True)
class Bench:
    """Experts of one mode with their LoRAs and optimizers, kept from case to case.

    Attributes:
        device: What is measured.
        say: Told what is going on, a line each.
        config: Of the model's parts, but for the experts' blocks.
    """

    device: torch.device
    say: Callable[[str], None]
    config: ModelConfigs = field(default_factory=ModelConfigs)
    loaded: dict[Expert, AssembledExpert] = field(default_factory=dict)
    optimizers: dict[Expert, Any] = field(default_factory=dict)
    key: tuple[Any, ...] = ()
    floors: dict[tuple[Any, ...], Any] = field(default_factory=dict)

    def measure(self, case: Case) -> Measured:
        """Measure one case; what goes wrong is told in the result."""
        result = Measured(case=case, tokens=case.tokens, device=device_name(self.device))
        try:
            fields = self._with_experts(case) if case.work in ("step", "preview") else self._alone(case)
            return replace_struct(result, **fields, outside=outside_bytes(self.device))
        except torch.OutOfMemoryError as error:
            return replace_struct(result, error=f"out of memory: {str(error).splitlines()[0]}")
        finally:
            emulate_card(self.device, 0.0)

    def _with_experts(self, case: Case) -> dict[str, Any]:
        """Measure what experts do."""
        served: ServedExperts | None = None
        try:
            self._load(case)
            floor = self._floor(case) if case.work == "step" else 0.0
            release_memory()
            emulate_card(self.device, case.cap)
            served = serve(self.loaded, case.plan, self.device, self.say)
            if case.work == "step":
                return {"floor": floor, **self._steps(case, served)}
            transformers = {name: one.transformer for name, one in self.loaded.items()}
            experts = Experts(transformers, boundary=0.9, vacated=served.vacated)
            fields = make_previews(case, experts, self.config, self.device)
            return fields | {"resident": self.resident(served), "ram": ram_of(served)}
        finally:
            if served is not None:
                self._clean(served)

    def _alone(self, case: Case) -> dict[str, Any]:
        """Measure what is done before the experts are loaded, or decoding by itself."""
        self._forget()
        emulate_card(self.device, case.cap)
        work = {"latents": encode_latents, "text": encode_text, "decode": decode}[case.work]
        try:
            return work(case, self.config, self.device)
        finally:
            release_memory()

    def _forget(self) -> None:
        self.loaded.clear()
        self.optimizers.clear()
        release_memory()
        self.key = ()

    def _load(self, case: Case) -> None:
        """Have the experts that the case needs."""
        key = (case.mode, case.layers, case.rank)
        if key != self.key:
            self._forget()
            self.key = key
        # A preview is made by both.
        count = 2 if case.work == "preview" else case.experts
        for expert in list(Expert)[:count]:
            if expert in self.loaded:
                continue
            source = RandomSource(self.device, case.layers, self.config.expert)
            # Always with masters in RAM, so that one expert serves cases of every number of resident blocks.
            assembly = Assembly(case.plan, self.device, torch.bfloat16, in_ram=True)
            made = assemble_expert(source, assembly)
            add_lora(made.transformer, LoraSettings(rank=case.rank), seed=0)
            self.optimizers[expert] = make_optimizer(
                "adamw8bit", lora_parameters(made.transformer), 1e-4, weight_decay=1e-4
            )
            # Last: what memory ran out for must not count as loaded.
            self.loaded[expert] = made
        for expert in list(Expert)[count:]:
            self.loaded.pop(expert, None)
            self.optimizers.pop(expert, None)

    def _floor(self, case: Case) -> float:
        if self.device.type != "cuda":
            return 0.0
        key = (case.tokens, case.mode == "float8_compute")
        if key not in self.floors:
            shape = ExpertShape.of(self.config.expert)
            self.floors[key] = block_times(case.tokens, case.mode, shape, self.device)
        kept = min(case.kept_blocks, case.layers)
        times = self.floors[key]
        return case.batch * (
            floor_seconds(times, case.keep, case.layers - kept) + floor_seconds(times, "everything", kept)
        )

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
        fields["ram"] = ram_of(served)
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
    config: ModelConfigs | None = None,
    on_result: Callable[[list[Measured]], None] | None = None,
) -> list[Measured]:
    """Measure one case after the other; each result is said as soon as it is there.

    Args:
        cases: What to measure.
        device: Where.
        say: Told a line for each.
        config: Of the model's parts, but for the experts' blocks; None takes the real model's.
        on_result: Given all results so far after each case.
    """
    bench = Bench(device, say, config or ModelConfigs())
    results: list[Measured] = []
    for case in cases:
        results.append(bench.measure(case))
        say(line_of(results[-1]))
        if on_result is not None:
            on_result(results)
    return results


def ram_of(served: ServedExperts) -> int:
    """Bytes of blocks and activations that wait in RAM."""
    memory = served.memory()
    return served.store.ram_bytes + (memory.ram_pinned + memory.ram_pageable if memory else 0)


def _pass_over(phase: str) -> None:
    del phase


def replace_struct(result: Measured, **fields: Any) -> Measured:
    """The result with other fields."""
    return msgspec.structs.replace(result, **fields)


def _bytes_of(tensors: Iterable[Tensor]) -> int:
    return sum(one.untyped_storage().nbytes() for one in tensors)
