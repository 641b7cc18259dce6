"""``python -m trainer measure``: cases from words, a line for each, and none that ends the others."""

import gc
import json

import msgspec
import pytest
import torch

from tests.trainer.small_experts import small_configs
from trainer.__main__ import main
from trainer.model import random_base
from trainer.model.a14b_config import A14B_I2V_CONFIG
from trainer.model.experts import Experts
from trainer.model.frozen.weights import Float8Weight
from trainer.protocol.job import Expert
from trainer.recipes import measure as recipe
from trainer.recipes.measure import Bench, measure
from trainer.recipes.measure_case import Case, Measured, explain, line_of
from trainer.recipes.measure_floor import BlockTimes, ExpertShape, floor_seconds
from trainer.recipes.measure_verb import CaseError, read_case

CPU = torch.device("cpu")
TINY = "layers=2,width=32,height=32,frames=5,steps=1,rank=2"


@pytest.fixture(scope="module", autouse=True)
def quick_collections():
    """Memory is given back after each case, for which the libraries' many objects need not be looked at."""
    gc.freeze()
    yield
    gc.unfreeze()


@pytest.fixture(scope="module")
def config():
    return small_configs()


@pytest.fixture
def small_model(monkeypatch, config):
    """The command measures a model in small."""
    monkeypatch.setattr(random_base, "A14B_I2V_CONFIG", config.expert)
    monkeypatch.setattr(random_base, "A14B_VAE_CONFIG", config.vae)
    monkeypatch.setattr(random_base, "A14B_TEXT_CONFIG", config.text)


def tiny_case(**fields) -> Case:
    sizes = {"layers": 2, "width": 32, "height": 32, "frames": 5, "steps": 1, "rank": 2}
    return Case(**(sizes | fields))


def test_a_line_for_each_case_and_the_same_for_programs(small_model, tmp_path, capsys):
    path = tmp_path / "results.json"
    cases = ["--case", f"{TINY},mode=float8", "--case", f"{TINY},mode=none,resident=0,offload=true,chunks=2"]
    assert main(["measure", *cases, "--json", str(path)]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert "torch" in lines[0]
    assert lines[1].startswith("32x32x5, float8, keep attention: ")
    assert lines[2].startswith("32x32x5, none, keep attention, resident 0, checkpoints in RAM, chunks 2: ")
    assert all(" s a step" in line and "loss " in line for line in lines[1:3])

    found = msgspec.convert(json.loads(path.read_text()), list[Measured])
    assert [line_of(one) for one in found] == lines[1:3]
    assert [one.case.mode for one in found] == ["float8", "none"]
    assert found[1].ram > found[0].ram > 0


def test_explain_lists_what_stays_largest_first(small_model, capsys):
    assert main(["measure", "--explain", "--case", TINY + ",mode=nf4,resident=1"]) == 0
    out = capsys.readouterr().out
    for name in ("resident blocks", "ring of streamed blocks", "high_noise: LoRA", "high_noise: optimizer"):
        assert name in out
    sizes = {"a": 1, "b": 3, "c": 2}
    result = Measured(case=tiny_case(), tokens=1, device="CPU", resident=sizes, allocated=7)
    assert [line.split()[-1] for line in explain(result)[:3]] == ["b", "c", "a"]


@pytest.mark.parametrize(
    ("words", "named"),
    [
        ("mode=int3", "int3"),
        ("colour=red", "colour"),
        ("width", "width has no value"),
        ("width=wide", "int"),
        ("resident=-1", ">= 0"),
        ("layers=0", ">= 1"),
        ("steps=0", ">= 1"),
        ("chunks=0", ">= 1"),
        ("batch=0", ">= 1"),
        ("experts=3", "<= 2"),
        ("width=40", "multiple of 16"),
        ("frames=6", "4n+1"),
        ("work=cooking", "cooking"),
        ("work=text,mode=nf4", "none or float8"),
    ],
)
def test_a_case_that_makes_no_sense_is_named_with_what_is_wrong(words, named, capsys):
    assert main(["measure", "--case", words]) != 0
    told = "".join(capsys.readouterr())
    assert f"--case {words} cannot be measured" in told
    assert named in told
    assert "--case width=768" in told, "and an example"


def test_a_cap_for_all_cases_gives_way_to_a_cases_own():
    assert read_case("", 12.0).cap == 12.0
    assert read_case("cap=16,resident=3", 12.0) == Case(cap=16.0, resident=3)
    with pytest.raises(CaseError):
        read_case("cap=-1", None)


def test_the_real_model_is_not_measured_on_a_cpu(capsys):
    assert main(["measure", "--case", "layers=3"]) != 0
    assert "no GPU" in "".join(capsys.readouterr())


def test_a_case_without_enough_memory_does_not_end_the_others(config, monkeypatch):
    lines, own = [], Float8Weight.forward
    refused = []

    def forward(self, x_NI, bias_O=None):
        if x_NI.shape[0] > 32 and x_NI.shape[0] != 512:
            refused.append(x_NI.shape[0])
            raise torch.OutOfMemoryError("CUDA out of memory.\nTried to allocate")
        return own(self, x_NI, bias_O)

    monkeypatch.setattr(Float8Weight, "forward", forward)
    cases = [tiny_case(mode="float8", resident=1, width=width) for width in (32, 160, 32)]
    first, large, last = measure(cases, CPU, lines.append, config)
    assert refused
    assert large.error == "out of memory: CUDA out of memory."
    assert "out of memory" in lines[1]
    assert not first.error
    assert not last.error
    assert last.seconds > 0
    assert last.loss > 0


def test_experts_are_made_once_for_the_cases_of_one_mode(config, monkeypatch):
    made, own = [], recipe.assemble_expert

    def assemble(source, assembly):
        made.append(assembly.plan.mode)
        return own(source, assembly)

    monkeypatch.setattr(recipe, "assemble_expert", assemble)
    cases = [
        tiny_case(mode="float8", layers=3),
        tiny_case(mode="float8", resident=0, layers=3),
        tiny_case(mode="float8", experts=2, layers=3),
        tiny_case(mode="nf4"),
    ]
    results = measure(cases, CPU, lambda line: None, config)
    assert made == ["float8", "float8", "nf4"]
    assert not any(one.error for one in results)
    # Three blocks go through a ring of two, and experts in turn share their memory.
    assert [one.moved > 0 for one in results] == [False, True, True, False]
    # The second expert's are told beside the first's, and leave with the case.
    assert any(name.startswith("low_noise") for name in results[2].resident)
    assert not any(name.startswith("low_noise") for name in results[3].resident)


def test_after_a_case_nothing_of_its_way_to_compute_is_left(config):
    bench = Bench(CPU, lambda line: None, config)
    bench.measure(tiny_case(mode="none", resident=0))
    for expert in bench.loaded.values():
        assert not any("forward" in vars(block) for block in expert.transformer.blocks)
        assert all(one.grad is None for one in expert.transformer.parameters())


def test_every_work_of_a_run_is_measured_and_told_in_its_own_words(small_model, tmp_path, capsys):
    path = tmp_path / "results.json"
    size = "width=32,height=32,frames=5"
    cases = [
        f"work=latents,{size},steps=2",
        "work=text,mode=none,steps=1",
        "work=text,mode=float8,steps=1",
        f"work=decode,{size},steps=2",
        f"work=preview,mode=float8,{TINY.replace('steps=1', 'steps=3')}",
    ]
    words = [word for case in cases for word in ("--case", case)]
    assert main(["measure", *words, "--json", str(path)]) == 0
    lines = capsys.readouterr().out.splitlines()[1:]
    units = ("a clip", "a prompt", "a prompt", "a clip", "a denoising step")
    assert all(f" s {unit}" in line for unit, line in zip(units, lines, strict=True))
    found = msgspec.convert(json.loads(path.read_text()), list[Measured])
    assert [one.case.work for one in found] == ["latents", "text", "text", "decode", "preview"]
    assert [len(one.all_seconds) for one in found] == [2, 1, 1, 2, 1]
    assert all(one.seconds > 0 and one.first_seconds > 0 and not one.error for one in found)
    # The whole of the first preview: three steps and the decoding.
    assert found[-1].decode_seconds > 0
    assert found[-1].ram > 0


def test_encoding_is_measured_without_experts_in_memory_and_previews_with_both(config):
    bench = Bench(CPU, lambda line: None, config)
    bench.measure(tiny_case(mode="float8"))
    assert len(bench.loaded) == 1
    bench.measure(Case(work="latents", width=32, height=32, frames=5, steps=1))
    assert not bench.loaded
    bench.measure(tiny_case(work="preview", mode="float8"))
    assert len(bench.loaded) == 2


def test_a_preview_of_three_steps_is_made_by_both_experts_with_guidance(config, monkeypatch):
    asked, own = [], Experts.predict

    def predict(self, expert, *rest):
        asked.append(expert)
        return own(self, expert, *rest)

    monkeypatch.setattr(Experts, "predict", predict)
    measure([tiny_case(work="preview", mode="float8", steps=3)], CPU, lambda line: None, config)
    # Shift 5: noise levels of 1, 0.91 and 0.71, each with and without the prompt; two previews.
    assert asked == [*[Expert.HIGH] * 4, *[Expert.LOW] * 2] * 2


def test_tokens_and_latents_are_those_of_the_bucket():
    case = Case(width=768, height=512, frames=81, batch=2)
    assert case.latent_shape == (2, 16, 21, 64, 96)
    assert case.tokens == 21 * 32 * 48


def test_the_floor_counts_what_a_step_must_compute():
    # One second each: seconds are products.
    ones = BlockTimes(*[1.0] * 8)
    # 6 square, 2 wide and 2 text products forward, 6 + 2 for the gradients, 4 times attention.
    assert floor_seconds(ones, "everything", 1) == 10 + 8 + 4
    again = {keep: floor_seconds(ones, keep, 1) - 22 for keep in ("nothing", "attention", "sums")}
    assert again == {"nothing": 11, "attention": 8, "sums": 4}
    assert floor_seconds(ones, "everything", 40) == 40 * 22
    assert ExpertShape() == ExpertShape.of(A14B_I2V_CONFIG) == (5120, 13824, 40, 40)


def test_two_experts_that_both_stay_have_twice_the_slots(config):
    bench = Bench(CPU, lambda _: None, config)
    shared, apart = (bench.measure(tiny_case(experts=2, low_vram=low)) for low in (True, False))
    assert not shared.error
    assert apart.resident["resident blocks"] == 2 * shared.resident["resident blocks"] > 0
    assert "both experts stay" in apart.case.words()
