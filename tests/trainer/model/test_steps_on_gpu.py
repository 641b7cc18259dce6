"""Whole training steps on a real GPU: each way to store and compute experts against plain ones in bfloat16."""

from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any, ClassVar

import pytest
import torch
from torch.nn.attention import SDPBackend, sdpa_kernel

from tests.trainer.small_experts import (
    MemorySource,
    distance,
    expert_inputs,
    is_same,
    one_step,
    plain_expert,
    put_lora,
)
from trainer.model.assemble import Assembly, assemble_expert, serve
from trainer.model.block.attention import attend, attend_gradient, fastest_kernel
from trainer.model.block.passes import compilation
from trainer.model.expert_plan import ExpertPlan
from trainer.model.frozen.quantized_cache import CachedBlock
from trainer.model.frozen.weights import why_no_float8_products
from trainer.model.lora import LoraSettings, lora_dropout
from trainer.model.miniature import MiniatureConfig, build_expert
from trainer.model.random_base import RandomSource
from trainer.protocol.job import Expert
from trainer.runtime.device import release_memory

pytestmark = [pytest.mark.gpu, pytest.mark.skipif(not torch.cuda.is_available(), reason="needs CUDA")]

MIB = 2**20
LAYERS = 4
SHAPE = MiniatureConfig(heads=8, head_dim=128, layers=1, ffn_dim=2816, text_dim=256)
SIZE = (5, 40, 40)
"""Latent frames, height and width: 2000 tokens."""
RANK = 64
"""Of the branches that recover what 4 bits lose."""
LEVELS = 4
"""Of noise, at which a clip is learnt."""
ROUNDING = 0.02
"""Between two orders of computing in bfloat16, relative to the whole."""


@pytest.fixture
def device():
    release_memory()
    yield torch.device("cuda", torch.cuda.current_device())
    torch.cuda.synchronize()


def random_weights(device, layers=LAYERS) -> MemorySource:
    """Random weights of an expert, the same each time and in whatever order they are read."""
    with torch.device("meta"):
        config = dict(build_expert(SHAPE).config)
    drawn = RandomSource(device, layers, config)
    return MemorySource({name: drawn.tensor(name) for name in drawn.shapes}, drawn.config, seed=0)


@pytest.fixture(scope="module")
def source() -> MemorySource:
    return random_weights(torch.device("cuda", torch.cuda.current_device()))


@dataclass
class Run:
    """An expert that is served, and what steps are computed from."""

    transformer: Any
    served: Any
    inputs: dict[str, Any]

    def step(self, context=None):
        return one_step(self.transformer, self.inputs, context)


class Quantized:
    """Quantized weights that were made before: recovery takes seconds."""

    made: ClassVar[dict[Any, Any]] = {}

    def __init__(self, source, plan) -> None:
        self.key = (id(source), plan.mode, plan.recovery_rank)

    def load_block(self, index) -> CachedBlock:
        return CachedBlock(self.made.get((*self.key, index)))

    def store_block(self, index, tensors) -> None:
        self.made[*self.key, index] = {name: dict(parts) for name, parts in tensors.items()}


@pytest.fixture(scope="module", autouse=True)
def forgotten_at_the_end():
    yield
    Quantized.made.clear()


def run_of(source, device, plan, lora=None, size=SIZE) -> Run:
    """The same LoRA and inputs each time."""
    in_ram = plan.resident_blocks is not None
    cache: Any = None if plan.mode == "none" else Quantized(source, plan)
    expert = assemble_expert(source, Assembly(plan, device, torch.bfloat16, in_ram=in_ram, cache=cache))
    put_lora(expert.transformer, lora or LoraSettings(rank=16), deviation=0.02)
    served = serve({Expert.HIGH: expert}, plan, device, pytest.fail)
    inputs = expert_inputs(expert.transformer, size=size, text_tokens=512)
    return Run(expert.transformer, served, inputs)


@contextmanager
def repeatable_attention(run):
    """Attention whose gradient is added up in the same order each time."""
    for plans in run.served.plans.values():
        for plan in plans:
            plan.kernel = "plain"
    with sdpa_kernel(SDPBackend.MATH):
        yield


# ---- Numbers ----------------------------------------------------------------------------------


def losses_of(source, device, mode, steps=20):
    """Of a LoRA that learns one clip at a few noise levels in turn, from the same beginning."""
    run = run_of(source, device, ExpertPlan(mode=mode, recovery_rank=RANK), LoraSettings(rank=16))
    parameters = [one for one in run.transformer.parameters() if one.requires_grad]
    optimizer = torch.optim.AdamW(parameters, lr=3e-3)
    generator = torch.Generator(device).manual_seed(0)
    clean, *noises = torch.randn(1 + LEVELS, 1, 16, *SIZE, generator=generator, device=device)
    losses = []
    for number in range(steps):
        noise, level = noises[number % LEVELS], (number % LEVELS + 0.5) / LEVELS
        run.inputs["hidden_states"][:, :16] = ((1 - level) * clean + level * noise).bfloat16()
        run.inputs["timestep"] = torch.full((1,), level * 1000, device=device)
        (predicted,) = run.transformer(**run.inputs)
        loss = (predicted.float() - (noise - clean)).square().mean()
        loss.backward()
        optimizer.step()
        optimizer.zero_grad()
        losses.append(loss.detach())
    return torch.stack(losses)


@pytest.fixture(scope="module")
def plain_losses(source):
    return losses_of(source, torch.device("cuda", torch.cuda.current_device()), "none")


@pytest.mark.parametrize(
    ("mode", "bound", "bound_of_learnt"),
    [
        ("float8", 0.01, 0.02),
        ("float8_compute", 0.01, 0.02),
        ("nf4", 0.03, 0.05),
        ("nf4_recovered", 0.03, 0.05),
    ],
)
def test_a_lora_learns_as_with_plain_weights(source, device, plain_losses, mode, bound, bound_of_learnt):
    if mode == "float8_compute" and (reason := why_no_float8_products(device)):
        pytest.skip(reason)
    losses = losses_of(source, device, mode)
    off = float(((losses - plain_losses) / plain_losses).abs().max())
    learnt, plainly_learnt = (
        float(one[:LEVELS].mean() - one[-LEVELS:].mean()) for one in (losses, plain_losses)
    )
    print(f"{mode}: learnt {learnt:.4f} instead of {plainly_learnt:.4f}, losses off by {off:.3%} at most")
    assert plainly_learnt > 0.02 * float(plain_losses[0]), "nothing was learnt"
    assert off < bound
    assert learnt == pytest.approx(plainly_learnt, rel=bound_of_learnt)


def test_rounding_costs_what_it_should_and_recovery_gives_back_some_of_it(source, device):
    def step(mode):
        return run_of(source, device, ExpertPlan(mode=mode, recovery_rank=RANK)).step()

    modes = ["float8", "nf4", "nf4_recovered"]
    if not why_no_float8_products(device):
        modes.append("float8_compute")
    plain = step("none")
    found = {mode: step(mode) for mode in modes}
    outputs = {mode: distance(out, plain[0]) for mode, (out, _) in found.items()}
    gradients = {mode: distance(given, plain[1]) for mode, (_, given) in found.items()}
    print(outputs, gradients)
    assert outputs["nf4_recovered"] < outputs["nf4"]
    assert gradients["nf4_recovered"] < gradients["nf4"]
    assert max(gradients["float8"], gradients.get("float8_compute", 0.0)) < 0.1
    assert gradients["float8"] < gradients["nf4"] < 0.4


def test_a_block_computed_by_hand_is_near_diffusers_own(source, device):
    run = run_of(source, device, ExpertPlan(keep="nothing"))
    found = {"by hand": run.step()}
    for name, dtype in (("bfloat16", torch.bfloat16), ("float32", torch.float32)):
        plain = plain_expert(source, dtype, device)
        put_lora(plain, LoraSettings(rank=16), deviation=0.02)
        found[name] = one_step(plain, expert_inputs(plain, size=SIZE, text_tokens=512))
    for part in range(2):
        own = distance(found["bfloat16"][part], found["float32"][part])
        by_hand = distance(found["by hand"][part], found["float32"][part])
        print(f"diffusers' own {own:.4f}, by hand {by_hand:.4f}")
        assert by_hand < 1.5 * own + 1e-3


@pytest.mark.parametrize("kernel", ["cudnn", "flash", "plain"])
@pytest.mark.parametrize("keys", [2000, 512])
def test_every_kernel_of_attention_gives_the_same(device, kernel, keys):
    def drawn(count, seed):
        generator = torch.Generator(device).manual_seed(seed)
        return torch.randn(2, count, 8, 128, generator=generator, device=device)

    wide = (drawn(2000, 0), drawn(keys, 1), drawn(keys, 2))
    grad = drawn(2000, 3)
    query, key, value = (one.bfloat16() for one in wide)
    try:
        attended = attend(query, key, value, kernel)
        gradients = attend_gradient(grad.bfloat16(), query, key, value, attended)
    except RuntimeError as error:
        if kernel == "plain" or kernel == fastest_kernel(query):
            raise
        pytest.skip(f"not here: {str(error).splitlines()[0]}")
    with sdpa_kernel(SDPBackend.MATH):
        exact = attend(*wide, "plain")
        expected = attend_gradient(grad, *wide, exact)
    assert distance(attended.out_BLhd, exact.out_BLhd) < 0.01
    for given, wanted in zip(gradients, expected, strict=True):
        assert distance(given, wanted) < 0.02


def test_compiled_passes_give_what_they_give_as_they_are_written(device, monkeypatch):
    mode = "none" if why_no_float8_products(device) else "float8_compute"
    # Narrower: what is compiled depends on the shapes, and how long it takes does not.
    size, plan = (2, 16, 16), ExpertPlan(mode=mode, feed_forward_chunks=1, keep="nothing")
    run = run_of(random_weights(device, 1), device, plan, size=size)
    expected = run.step()
    told = []
    monkeypatch.setattr(compilation, "wanted", True)
    monkeypatch.setattr(compilation, "on_failure", told.append)
    given = run.step()
    if told:
        pytest.skip(told[0])
    assert compilation.wanted
    assert distance(given[0], expected[0]) < ROUNDING
    assert distance(given[1], expected[1]) < 2 * ROUNDING
    assert torch.isfinite(given[0]).all()


# ---- Wherever blocks and activations wait -----------------------------------------------------


@pytest.mark.parametrize("mode", ["none", "float8", "nf4", "nf4_recovered"])
def test_streaming_and_offloading_change_no_bit(source, device, mode):
    in_place = run_of(source, device, ExpertPlan(mode=mode, recovery_rank=RANK))
    with repeatable_attention(in_place):
        expected = in_place.step()
        assert is_same(in_place.step(), expected), "the step itself is not repeatable"
    for resident, offloading in ((0, True), (1, False), (LAYERS, True)):
        plan = ExpertPlan(
            mode=mode, recovery_rank=RANK, resident_blocks=resident, checkpoint_offloading=offloading
        )
        run = run_of(source, device, plan)
        with repeatable_attention(run):
            for _ in range(3):
                assert is_same(run.step(), expected), f"{resident} resident, offloading {offloading}"


def test_with_the_fastest_kernels_they_change_no_more_than_repeating_the_step_does(source, device):
    in_place = run_of(source, device, ExpertPlan(mode="float8"))
    expected, again = in_place.step(), in_place.step()
    streamed = run_of(
        source, device, ExpertPlan(mode="float8", resident_blocks=0, checkpoint_offloading=True)
    )
    given = streamed.step()
    assert torch.equal(given[0], expected[0])
    if is_same(again, expected):
        assert is_same(given, expected)
    assert distance(given[1], expected[1]) <= 3 * distance(again[1], expected[1]) + 1e-6


@pytest.mark.parametrize("kind", ["dora", "lokr"])
def test_dropout_draws_the_same_as_under_torchs_checkpoint(source, device, kind):
    settings = LoraSettings(rank=4, type=kind, dropout=0.3)
    plain = plain_expert(source, torch.bfloat16, device)
    put_lora(plain, settings, deviation=0.02)
    plain.enable_gradient_checkpointing()
    plan = ExpertPlan(resident_blocks=1, checkpoint_offloading=True)
    run = run_of(source, device, plan, settings)
    found = []
    for transformer in (plain, run.transformer):
        with sdpa_kernel(SDPBackend.MATH), lora_dropout(transformer, 3):
            step = one_step(transformer, run.inputs)
            found.append((step, torch.cuda.get_rng_state(device)))
    (expected, state), (given, given_state) = found
    assert torch.equal(given_state, state)
    # Rows of a joined weight are multiplied apart, on matrices that begin elsewhere in memory.
    assert distance(given[0], expected[0]) < ROUNDING
    assert distance(given[1], expected[1]) < ROUNDING


@pytest.mark.parametrize("mode", ["none", "float8", "float8_compute", "nf4", "nf4_recovered"])
def test_the_program_never_waits_for_the_gpu_in_a_step(source, device, mode):
    if mode == "float8_compute" and (reason := why_no_float8_products(device)):
        pytest.skip(reason)
    plan = ExpertPlan(mode=mode, recovery_rank=RANK, resident_blocks=1, checkpoint_offloading=True)
    run = run_of(source, device, plan)
    run.step()
    run.step()
    torch.cuda.synchronize()
    torch.cuda.set_sync_debug_mode("error")
    try:
        (out,) = run.transformer(**run.inputs)
        out.float().square().mean().backward()
    finally:
        torch.cuda.set_sync_debug_mode("default")


MANY_LAYERS = 12
CAP_MIB = 420
"""Beside embeddings and LoRA. All blocks would take 340 MiB, all that they can keep 500 MiB more."""


def test_with_all_streamed_and_offloaded_a_step_fits_a_small_card(device):
    everything_away = ExpertPlan(resident_blocks=0, checkpoint_offloading=True, feed_forward_chunks=2)
    run = run_of(random_weights(device, MANY_LAYERS), device, everything_away)
    expected = run.step()
    release_memory()
    total = torch.cuda.get_device_properties(device).total_memory
    taken = torch.cuda.memory_reserved(device)
    torch.cuda.set_per_process_memory_fraction((taken + CAP_MIB * MIB) / total, device)
    try:
        torch.cuda.reset_peak_memory_stats(device)
        before = torch.cuda.memory_allocated(device)
        given = run.step()
        peak = torch.cuda.max_memory_allocated(device) - before
        print(f"{peak / MIB:.0f} MiB beside what stays")
        assert distance(given[1], expected[1]) < ROUNDING
        # The same step needs more where everything is kept on the card.
        for plan in run.served.plans[Expert.HIGH]:
            plan.keep, plan.feed_forward_chunks = "everything", 1
        run.served.store.enabled = False
        with pytest.raises(torch.OutOfMemoryError):
            run.step()
        run.served.release()
        release_memory()
        # And after that it fits again.
        for plan in run.served.plans[Expert.HIGH]:
            plan.keep, plan.feed_forward_chunks = "attention", 2
        run.served.store.enabled = True
        assert distance(run.step()[1], expected[1]) < ROUNDING
    finally:
        torch.cuda.set_per_process_memory_fraction(1.0, device)
