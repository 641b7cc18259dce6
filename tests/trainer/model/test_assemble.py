"""Experts as they are stored and served: wherever blocks and activations wait, the numbers are the same."""

from collections import Counter
from dataclasses import replace

import pytest
import torch

from tests.trainer.small_experts import (
    CPU,
    SMALL,
    distance,
    expert_inputs,
    expert_weights,
    is_same,
    one_step,
    plain_expert,
    put_lora,
    small_expert,
)
from trainer.model.assemble import Assembly, assemble_expert, block_layout, lies_in_ram, serve
from trainer.model.block.groups import GROUPS
from trainer.model.expert_plan import ExpertPlan, expert_plan
from trainer.model.frozen.linear import FrozenLinear
from trainer.model.frozen.quantized_cache import QuantizedCache, QuantizedKey
from trainer.model.frozen.recovery import RecoveredWeight
from trainer.model.frozen.weights import DenseWeight, Float8Weight
from trainer.model.lora import LoraSettings
from trainer.model.random_base import RandomSource
from trainer.protocol.job import (
    Expert,
    JobSection,
    JobSpec,
    ModelSection,
    QuantizationSection,
    TrainingSection,
)

LAYERS = 3
DEEP = replace(SMALL, layers=LAYERS)
TWO = replace(SMALL, layers=2)


@pytest.fixture(scope="module")
def sources():
    return {expert: expert_weights(DEEP, seed) for seed, expert in enumerate(Expert)}


def load_both(sources, plan, in_ram, lora=None):
    """Both experts with their LoRAs."""
    loaded = {}
    for seed, (expert, source) in enumerate(sources.items()):
        loaded[expert] = small_expert(source, plan, in_ram=in_ram)
        put_lora(loaded[expert].transformer, lora, seed)
    return loaded


def serve_anew(loaded, **fields):
    """Set experts up, whatever they were set up for before."""
    for expert in loaded.values():
        for block in expert.transformer.blocks:
            block.__dict__.pop("forward", None)
    return serve(loaded, ExpertPlan(mode="float8", **fields), CPU, pytest.fail)


@pytest.fixture(scope="module")
def loaded(sources):
    """Both experts with their masters in RAM."""
    return load_both(sources, ExpertPlan(mode="float8"), in_ram=True)


def steps_in_turn(loaded, served, turns="hhlhl"):
    """Steps of either expert, as `Expert.value` begins, each announced during the one before."""
    found = []
    for number, turn in enumerate(turns):
        expert = Expert.HIGH if turn == "h" else Expert.LOW
        transformer = loaded[expert].transformer
        found.append(one_step(transformer, expert_inputs(transformer, seed=number)))
        following = turns[number + 1 : number + 2]
        if following:
            served.announce(Expert.HIGH if following == "h" else Expert.LOW)
    return found


@pytest.fixture(scope="module")
def in_place(sources):
    """The steps when everything stays where it computes."""
    loaded = load_both(sources, ExpertPlan(mode="float8"), in_ram=False)
    return steps_in_turn(loaded, serve_anew(loaded))


@pytest.mark.parametrize("resident", [0, 1, LAYERS - 1, LAYERS])
@pytest.mark.parametrize("low_vram", [False, True])
@pytest.mark.parametrize("offloading", [False, True])
def test_wherever_blocks_and_activations_wait_the_numbers_are_the_same(
    loaded, in_place, resident, low_vram, offloading
):
    served = serve_anew(loaded, resident_blocks=resident, low_vram=low_vram, checkpoint_offloading=offloading)
    found = steps_in_turn(loaded, served)
    assert all(is_same(given, expected) for given, expected in zip(found, in_place, strict=True))
    assert (served.store.traffic.bytes_out > 0) == offloading
    slots = {id(one.slots): one.slots for one in served.streamed.values()}.values()
    assert len(slots) == (1 if low_vram else 2)
    assert all(len(one.resident) == resident for one in slots)
    assert all(len(one.ring) == min(2, LAYERS - resident) for one in slots)
    # All comes in time but the very first block.
    assert sum(one.traffic.late_copies for one in slots) == 1
    assert served.store.traffic.late_copies == 0


@pytest.mark.parametrize("keep", ["nothing", "attention", "sums", "everything"])
@pytest.mark.parametrize("kept_blocks", [0, 2])
def test_whatever_is_kept_the_gradients_are_the_same(loaded, in_place, keep, kept_blocks):
    served = serve_anew(loaded, keep=keep, kept_blocks=kept_blocks, resident_blocks=1)
    found = steps_in_turn(loaded, served, "hh")
    assert all(is_same(given, expected) for given, expected in zip(found, in_place, strict=False))
    kept = [one.keep for one in served.plans[Expert.LOW]]
    assert kept == [keep] * (LAYERS - kept_blocks) + ["everything"] * kept_blocks


def test_a_whole_expert_computes_what_diffusers_own_does(sources):
    source = sources[Expert.HIGH]
    expert, plain = small_expert(source, in_ram=True), plain_expert(source)
    for transformer in (expert.transformer, plain):
        put_lora(transformer)
    serve({Expert.HIGH: expert}, ExpertPlan(resident_blocks=0, checkpoint_offloading=True), CPU, pytest.fail)
    given, expected = (one_step(one, expert_inputs(one, batch=2)) for one in (expert.transformer, plain))
    assert distance(given[0], expected[0]) < 1e-5
    for one, other in zip(given[1], expected[1], strict=True):
        assert distance(one, other) < 2e-5


def test_passes_without_gradients_are_served_between_steps(loaded, in_place):
    serve_anew(loaded, resident_blocks=1)
    transformer = loaded[Expert.HIGH].transformer
    inputs = expert_inputs(transformer)
    with torch.no_grad():
        (quiet,) = transformer(**inputs)
    assert torch.equal(quiet, in_place[0][0])
    # A target that is predicted while the step's own graph waits.
    parameters = [one for one in transformer.parameters() if one.requires_grad]
    (out,) = transformer(**inputs)
    with torch.no_grad():
        assert torch.equal(transformer(**inputs)[0], quiet)
    gradients = torch.autograd.grad(out.float().square().mean(), parameters)
    assert is_same((out, gradients), in_place[0])


# ---- Where weights lie ------------------------------------------------------------------------


def test_masters_lie_in_ram_where_blocks_are_streamed_and_are_what_computes(sources):
    loaded = small_expert(sources[Expert.HIGH], ExpertPlan(mode="float8", resident_blocks=1), in_ram=True)
    assert len(loaded.packed) == LAYERS
    for block, groups in zip(loaded.packed, loaded.groups, strict=True):
        start = block.host.data_N.data_ptr()
        for group in groups.values():
            for tensor in group.weight.stored.values():
                assert start <= tensor.data_ptr() < start + block.byte_count


@pytest.mark.parametrize(
    ("resident", "low_vram", "experts", "device", "expected"),
    [
        (None, True, 2, "cpu", False),
        (None, True, 2, "cuda", True),
        (None, True, 1, "cuda", False),
        (None, False, 2, "cuda", False),
        (LAYERS - 1, False, 1, "cpu", True),
        (LAYERS, False, 1, "cuda", False),
        (9, False, 1, "cuda", False),
    ],
)
def test_masters_are_wanted_for_streaming_and_for_idle_experts(resident, low_vram, experts, device, expected):
    plan = ExpertPlan(resident_blocks=resident, low_vram=low_vram)
    assert lies_in_ram(plan, LAYERS, experts, torch.device(device)) is expected


def test_an_experts_ten_linears_are_frozen_and_the_rest_is_as_it_was(sources):
    source = sources[Expert.HIGH]
    loaded, plain = small_expert(source), plain_expert(source)
    linears = {path for paths in GROUPS.values() for path in paths}
    for block in loaded.transformer.blocks:
        assert {path for path, one in block.named_modules() if isinstance(one, FrozenLinear)} == linears
    own = dict(loaded.transformer.named_parameters())
    for name, parameter in plain.named_parameters():
        if name in own:
            assert torch.equal(own[name], parameter)
            assert own[name].dtype == parameter.dtype
        else:
            assert name.split(".", 2)[2].removesuffix(".weight") in linears
    assert not any(one.requires_grad for one in loaded.transformer.parameters())
    assert not any(one.is_meta for one in loaded.transformer.parameters())


def test_progress_is_told_block_by_block_and_can_stop_the_loading(sources):
    told = []

    def look(done, total):
        told.append((done, total))
        if done == 2:
            raise KeyboardInterrupt

    source = expert_weights(DEEP)
    with pytest.raises(KeyboardInterrupt):
        assemble_expert(source, Assembly(ExpertPlan(), CPU, torch.float32), look)
    assert told == [(1, LAYERS), (2, LAYERS)]
    assert not any(name.startswith("blocks.2.") for name in source.reads)


def test_every_weight_is_read_once():
    source = expert_weights(DEEP)
    small_expert(source)
    biases = {name: count for name, count in source.reads.items() if count > 1}
    # The groups have the biases of their linears together, the linears their own.
    assert all(name.endswith("bias") and count == 2 for name, count in biases.items())
    assert set(source.reads) == set(source.shapes)


# ---- The cache of quantized weights -----------------------------------------------------------


def quantized_cache(folder, source, mode="nf4"):
    plan = ExpertPlan(mode=mode, recovery_rank=8)
    key = QuantizedKey(base="base", expert=Expert.HIGH, mode=mode, rank=8, dtype="float32")
    return plan, QuantizedCache(folder, key, block_layout(source, plan, torch.float32), pytest.fail)


def stored(loaded):
    return {
        (index, name, part): tensor
        for index, groups in enumerate(loaded.groups)
        for name, group in groups.items()
        for part, tensor in group.weight.stored.items()
    }


def read_linears(source):
    return {
        name
        for name in source.reads
        if name.startswith("blocks.") and name.endswith("weight") and "norm" not in name
    }


@pytest.mark.parametrize(
    ("mode", "in_ram"),
    [("float8", True), ("float8_compute", False), ("nf4", False), ("nf4_recovered", True)],
)
def test_the_second_load_takes_the_blocks_from_the_cache_and_not_from_the_source(tmp_path, mode, in_ram):
    source = expert_weights(TWO)
    plan, cache = quantized_cache(tmp_path, source, mode)
    first = small_expert(source, plan, cache=cache, in_ram=in_ram)
    assert len(read_linears(source)) == 2 * 10
    source.reads.clear()
    second = small_expert(source, plan, cache=cache, in_ram=in_ram)
    assert not read_linears(source)
    assert stored(first).keys() == stored(second).keys()
    for name, tensor in stored(first).items():
        assert torch.equal(tensor.view(torch.uint8), stored(second)[name].view(torch.uint8)), name
    for expert in (first, second):
        put_lora(expert.transformer)
        serve({"high": expert}, plan, CPU, pytest.fail)
    assert is_same(one_step(second.transformer), one_step(first.transformer))


def test_a_damaged_block_is_quantized_again_and_only_that(tmp_path):
    source = expert_weights(TWO)
    plan, cache = quantized_cache(tmp_path, source)
    first = small_expert(source, plan, cache=cache)
    expected = {name: tensor.clone() for name, tensor in stored(first).items()}
    path = cache.path_of(1)
    content = bytearray(path.read_bytes())
    content[-3] ^= 255
    path.unlink()
    path.write_bytes(content)
    source.reads.clear()
    second = small_expert(source, plan, cache=cache)
    assert {name.split(".")[1] for name in read_linears(source)} == {"1"}
    assert all(torch.equal(tensor, expected[name]) for name, tensor in stored(second).items())
    source.reads.clear()
    small_expert(source, plan, cache=cache)
    assert not read_linears(source)


# ---- Statistics, and steps that break off -----------------------------------------------------


@pytest.mark.parametrize("chunks", [1, 3])
def test_every_groups_input_is_told_once_a_pass_and_no_more_once_that_is_over(loaded, chunks):
    served = serve_anew(loaded, resident_blocks=1, feed_forward_chunks=chunks)
    transformer = loaded[Expert.HIGH].transformer
    rows_told = Counter()

    def look(name, x_NI):
        rows_told[name] += len(x_NI)

    served.gather(Expert.HIGH, look)
    inputs = expert_inputs(transformer)
    one_step(transformer, inputs)
    one_step(loaded[Expert.LOW].transformer)
    tokens = inputs["hidden_states"][0, 0].numel() // 4
    text_tokens = inputs["encoder_hidden_states"].shape[1]
    assert rows_told == {
        f"blocks.{index}.{name}": text_tokens if name == "cross_kv" else tokens
        for index in range(LAYERS)
        for name in GROUPS
    }
    served.gather(Expert.HIGH, None)
    rows_told.clear()
    one_step(transformer, inputs)
    assert not rows_told


def test_told_inputs_are_those_that_diffusers_own_linears_get(sources):
    source = sources[Expert.HIGH]
    plain, expert = plain_expert(source), small_expert(source)
    served = serve({Expert.HIGH: expert}, ExpertPlan(), CPU, pytest.fail)
    told, expected = {}, {}
    served.gather(Expert.HIGH, lambda name, x_NI: told.update({name: x_NI.clone()}))
    for index, block in enumerate(plain.blocks):
        for name, (path, *_) in GROUPS.items():
            key = f"blocks.{index}.{name}"
            block.get_submodule(path).register_forward_hook(
                lambda _, inputs, __, key=key: expected.update({key: inputs[0].flatten(0, 1).clone()})
            )
    with torch.no_grad():
        for one in (plain, expert.transformer):
            one(**expert_inputs(one, batch=2))
    assert set(told) == set(expected)
    for key, one in expected.items():
        assert distance(told[key], one) < 1e-5, key


@pytest.fixture(scope="module")
def with_dora(sources):
    """The same with a LoRA that is not computed by hand."""
    return load_both(sources, ExpertPlan(mode="float8"), in_ram=True, lora=LoraSettings(rank=4, type="dora"))


@pytest.mark.parametrize("in_backward", [False, True])
@pytest.mark.parametrize("low_vram", [False, True])
@pytest.mark.parametrize("kind", ["loaded", "with_dora"])
def test_after_a_step_that_broke_off_the_next_ones_are_as_if_nothing_had_been(
    monkeypatch, request, in_backward, low_vram, kind
):
    loaded = request.getfixturevalue(kind)
    fields = {"resident_blocks": 1, "checkpoint_offloading": True, "low_vram": low_vram}
    expected = steps_in_turn(loaded, serve_anew(loaded, **fields), "hl")
    served = serve_anew(loaded, **fields)
    own_dense, in_use = Float8Weight.dense, []

    def dense(weight, dtype):
        # The widest weights are used in each block, forward and backward: the second time is in the middle.
        if weight.in_features == DEEP.ffn_dim and (torch._C._current_graph_task_id() != -1) == in_backward:
            in_use.append(weight)
            if len(in_use) == 2:
                raise torch.OutOfMemoryError("no memory for this")
        return own_dense(weight, dtype)

    monkeypatch.setattr(Float8Weight, "dense", dense)
    with pytest.raises(torch.OutOfMemoryError):
        steps_in_turn(loaded, served, "h")
    monkeypatch.undo()
    served.release()
    assert served.store.ram_bytes == 0
    found = steps_in_turn(loaded, served, "hl")
    assert all(is_same(given, wanted) for given, wanted in zip(found, expected, strict=True))


# ---- Plans and random experts -----------------------------------------------------------------


NEEDED_BUT_MODEL = {"job": JobSection(name="any"), "datasets": (), "cache_folder": ""}
NEEDED = NEEDED_BUT_MODEL | {"model": ModelSection()}


def test_a_job_becomes_a_plan_word_for_word():
    job = JobSpec(
        **NEEDED_BUT_MODEL,
        model=ModelSection(
            layer_offloading=0.75,
            low_vram=False,
            checkpoint_offloading=True,
            feed_forward_chunks=4,
            compile=True,
        ),
        quantization=QuantizationSection(transformer="nf4_recovered", recovery_rank=12),
        training=TrainingSection(kept_activations="sums", kept_blocks=3),
    )
    assert expert_plan(job, 40) == ExpertPlan(
        mode="nf4_recovered",
        recovery_rank=12,
        resident_blocks=10,
        low_vram=False,
        checkpoint_offloading=True,
        feed_forward_chunks=4,
        keep="sums",
        kept_blocks=3,
        compiled=True,
    )
    without = JobSpec(
        **NEEDED,
        training=TrainingSection(gradient_checkpointing=False, kept_activations="nothing"),
    )
    assert expert_plan(without, 40).keep == "everything"
    dialled = JobSpec(**NEEDED_BUT_MODEL, model=ModelSection(layer_offloading=0.75, resident_blocks=60))
    assert expert_plan(dialled, 40).resident_blocks == 40


def test_the_last_blocks_keep_everything():
    plan = ExpertPlan(keep="nothing", kept_blocks=2)
    assert [plan.keep_of(index, 4) for index in range(4)] == ["nothing"] * 2 + ["everything"] * 2
    assert [ExpertPlan(kept_blocks=9).keep_of(0, 4)] == ["everything"]


def test_a_random_expert_has_the_shape_of_the_config_and_computes():
    source = RandomSource(CPU, 1, dict(expert_weights().config))
    expert = small_expert(source, dtype=torch.bfloat16)
    put_lora(expert.transformer)
    serve({"high": expert}, ExpertPlan(), CPU, pytest.fail)
    assert len(expert.transformer.blocks) == 1
    out, gradients = one_step(expert.transformer)
    assert torch.isfinite(out).all()
    assert all(one.abs().max() > 0 for one in gradients)
    assert isinstance(expert.groups[0]["widen"].weight, DenseWeight)
    rounded = small_expert(RandomSource(CPU, 1, dict(source.config)), ExpertPlan(mode="float8"))
    assert isinstance(rounded.groups[0]["widen"].weight, Float8Weight)


def test_a_random_expert_is_the_real_models_unless_told_otherwise():
    source = RandomSource(CPU)
    assert source.shapes["blocks.39.ffn.net.0.proj.weight"] == (13824, 5120)
    assert source.tensor("blocks.0.attn1.norm_q.weight").unique().tolist() == [1.0]
    assert not source.tensor("proj_out.bias").any()


def test_what_is_known_of_the_inputs_shapes_the_weight_that_gets_them_and_no_other(sources):
    source, plan = sources[Expert.HIGH], ExpertPlan(mode="nf4_recovered", recovery_rank=4)
    loud = torch.ones(DEEP.ffn_dim)
    loud[3] = 50.0
    blind = stored(small_expert(source, plan))
    knowing = stored(small_expert(source, plan, input_rms={"blocks.1.narrow": loud}))
    changed = {name[:2] for name, tensor in knowing.items() if not torch.equal(tensor, blind[name])}
    assert changed == {(1, "narrow")}

    def error_of_the_loud_channel(tensors):
        weight = RecoveredWeight(
            (128, DEEP.ffn_dim),
            {part: tensors[1, "narrow", part] for part in ("packed", "peaks", "down", "up")},
        )
        plain = source.tensors["blocks.1.ffn.net.2.weight"]
        return distance(weight.dense(torch.float32)[:, 3], plain[:, 3])

    assert error_of_the_loud_channel(knowing) < 0.3 * error_of_the_loud_channel(blind)
