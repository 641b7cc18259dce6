"""The tools for LoRA files, by the command that calls them, compared with full matrices."""

from dataclasses import replace
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file

from trainer.__main__ import main
from trainer.model.layouts import expert_config, open_base
from trainer.model.lora import lora_target_shapes
from trainer.output.lora_file import LoraFileSpec, LoraFormat, read_lora_file, write_lora_file
from trainer.output.lora_metadata import LoraMetadata
from trainer.protocol.job import Expert

ABOUT = LoraMetadata(
    "orbit",
    Expert.HIGH,
    0.9,
    4,
    2.0,
    500,
    trigger="0rbit",
    base_fingerprint="ba5e",
    interval=(0.9, 1.0),
    details={"wan_studio.settings": "{}"},
)


@pytest.fixture(scope="module")
def shapes(miniature_folder):
    return lora_target_shapes(expert_config(open_base(str(miniature_folder)), Expert.HIGH))


@pytest.fixture
def make(tmp_path, shapes):
    """Write a LoRA of the miniature; returns its path."""

    def write(name: str, seed: int = 0, about: LoraMetadata | None = ABOUT, **options) -> Path:
        rank = options.get("rank", 4)
        generator = torch.Generator().manual_seed(seed)
        state = {}
        for path, (rows, columns) in shapes.items():
            state[f"{path}.lora_A.weight"] = torch.randn(rank, columns, generator=generator)
            state[f"{path}.lora_B.weight"] = torch.randn(rows, rank, generator=generator)
        file_format: LoraFormat = options.get("format", "original")
        spec = LoraFileSpec(options.get("dtype", "fp32"), rank, 2.0, file_format, about)
        write_lora_file(tmp_path / name, state, spec)
        return tmp_path / name

    return write


def effect(path: Path) -> dict[str, torch.Tensor]:
    """What the file adds to each weight."""
    state = read_lora_file(path).state
    return {
        key.removesuffix(".lora_A.weight"): state[key.replace("lora_A", "lora_B")].double()
        @ state[key].double()
        for key in state
        if "lora_A" in key
    }


def assert_effect(path: Path, expected: dict[str, torch.Tensor], tolerance: float = 1e-5) -> None:
    found = effect(path)
    assert found.keys() == expected.keys()
    for module, change in expected.items():
        assert (found[module] - change).norm() <= tolerance * change.norm()


def lora(*words) -> int:
    return main(["lora", *map(str, words)])


@pytest.mark.parametrize("to", ["original", "diffusers", "kohya"])
@pytest.mark.parametrize("source", ["original", "diffusers", "kohya"])
def test_converting_keeps_the_lora_and_what_it_says(make, tmp_path, capsys, miniature_folder, source, to):
    path, out = make("in.safetensors", format=source), tmp_path / "new" / "out.safetensors"
    assert lora("convert", path, out, "--format", to, "--base", miniature_folder) == 0
    lines = capsys.readouterr().out.splitlines()
    assert lines[0] == str(out)
    assert "20 of its 20 layers" in lines[1]
    assert read_lora_file(out).format == to
    assert_effect(out, effect(path), 1e-6)
    assert read_lora_file(out).metadata == ABOUT


def test_converting_to_another_number_type(make, tmp_path):
    path, out = make("in.safetensors"), tmp_path / "out.safetensors"
    assert lora("convert", path, out, "--dtype", "fp16") == 0
    assert {str(tensor.dtype) for tensor in load_file(out).values()} == {"torch.float16"}
    assert read_lora_file(out).format == "original"
    assert_effect(out, effect(path), 2e-3)


def test_resizing_is_the_best_of_its_rank_and_reports_what_is_lost(make, tmp_path, capsys):
    path, out = make("in.safetensors"), tmp_path / "out.safetensors"
    assert lora("resize", path, out, "--rank", 2) == 0
    expected, errors = {}, {}
    for module, change in effect(path).items():
        left, values, right = torch.linalg.svd(change, full_matrices=False)
        expected[module] = (left[:, :2] * values[:2]) @ right[:2]
        errors[module] = float((change - expected[module]).norm() / change.norm())
    assert_effect(out, expected)
    said = capsys.readouterr().out
    assert f"mean {sum(errors.values()) / len(errors):.4%}, largest {max(errors.values()):.4%}" in said
    metadata = read_lora_file(out).metadata
    assert metadata is not None
    assert (metadata.rank, metadata.alpha) == (2, 2.0)
    assert metadata.details == {"wan_studio.settings": "{}", "wan_studio.resized_from": "4"}
    assert read_lora_file(out).strings["ss_network_alpha"] == "2"


def test_scaling_twice_multiplies_the_strengths(make, tmp_path):
    path, middle, out = make("in.safetensors"), tmp_path / "half.safetensors", tmp_path / "out.safetensors"
    assert lora("scale", path, middle, "--strength", "0.5") == 0
    assert lora("scale", middle, out, "--strength", "-3") == 0
    assert_effect(out, {module: -1.5 * change for module, change in effect(path).items()})
    assert read_lora_file(out).strings["wan_studio.strength"] == "-1.5"


def test_merging_is_the_exact_sum(make, tmp_path):
    other = replace(ABOUT, name="fire", trigger="f1re", steps=100, interval=(0.8, 1.0))
    first, second = make("a.safetensors"), make("b.safetensors", 1, other, rank=3, format="kohya")
    out = tmp_path / "sum_high_noise.safetensors"
    assert lora("merge", first, second, out, "--strength-a", "0.5", "--strength-b", "-2") == 0
    a, b = effect(first), effect(second)
    assert_effect(out, {module: 0.5 * a[module] - 2 * b[module] for module in a})
    written = read_lora_file(out)
    assert written.state["blocks.0.attn1.to_q.lora_A.weight"].shape[0] == 7
    assert written.metadata == LoraMetadata(
        "sum",
        Expert.HIGH,
        0.9,
        7,
        7.0,
        600,
        trigger="0rbit, f1re",
        base_fingerprint="ba5e",
        interval=(0.8, 1.0),
        details={"modelspec.merged_from": "a.safetensors, b.safetensors"},
    )


def test_merging_to_a_rank_is_the_best_of_that_rank(make, tmp_path, capsys):
    first, second, out = make("a.safetensors"), make("b.safetensors", 1), tmp_path / "out.safetensors"
    assert lora("merge", first, second, out, "--rank", 3) == 0
    a, b = effect(first), effect(second)
    expected = {}
    for module in a:
        left, values, right = torch.linalg.svd(a[module] + b[module], full_matrices=False)
        expected[module] = (left[:, :3] * values[:3]) @ right[:3]
    assert_effect(out, expected)
    assert "relative error per layer" in capsys.readouterr().out


@pytest.mark.parametrize("told_by", ["metadata", "name"])
def test_loras_of_different_experts_are_merged_only_when_forced(make, tmp_path, capsys, told_by):
    low = replace(ABOUT, expert=Expert.LOW) if told_by == "metadata" else None
    first, second = make("a.safetensors"), make("b_low_noise.safetensors", 1, low)
    out = tmp_path / "out.safetensors"
    assert lora("merge", first, second, out) == 1
    assert "low_noise" in capsys.readouterr().err
    assert not out.exists()
    assert lora("merge", first, second, out, "--force") == 0
    # Whose it is, nobody can say any more.
    assert read_lora_file(out).metadata is None
    assert "a.safetensors" in read_lora_file(out).strings["modelspec.merged_from"]


@pytest.mark.parametrize("tool", [("convert",), ("resize", "--rank", "2"), ("scale", "--strength", "2")])
def test_a_file_that_is_there_is_replaced_only_when_forced(make, tmp_path, capsys, tool):
    path, out = make("in.safetensors"), tmp_path / "out.safetensors"
    out.write_text("mine")
    assert lora(tool[0], path, out, *tool[1:]) == 1
    assert str(out) in capsys.readouterr().err
    assert out.read_text() == "mine"
    assert lora(tool[0], path, out, *tool[1:], "--force") == 0
    assert len(read_lora_file(out).state) == 40
    # Also itself, which is read before it is written.
    assert lora(tool[0], path, path, *tool[1:], "--force") == 0
    assert_effect(path, effect(out), 0.0)
    assert sorted(file.name for file in tmp_path.iterdir()) == ["in.safetensors", "out.safetensors"]


def test_what_cannot_be_done_names_the_file_and_leaves_nothing(make, tmp_path, capsys, miniature_folder):
    path, out = make("in.safetensors"), tmp_path / "out.safetensors"
    spoilt = tmp_path / "spoilt.safetensors"
    tensors = load_file(path)
    tensors["diffusion_model.blocks.7.ffn.0.lora_A.weight"] = torch.ones(4, 64)
    tensors["diffusion_model.blocks.7.ffn.0.lora_B.weight"] = torch.ones(128, 4)
    save_file(tensors, spoilt)
    older = tmp_path / "wan21.safetensors"
    save_file({"diffusion_model.blocks.0.cross_attn.k_img.lora_A.weight": torch.ones(1, 1)}, older)
    (tmp_path / "file").write_text("")
    for words, said in [
        (("convert", tmp_path / "gone.safetensors", out), ["gone.safetensors", "is not there"]),
        (
            ("convert", spoilt, out, "--base", miniature_folder),
            ["spoilt.safetensors", "blocks.7.ffn.net.0.proj"],
        ),
        (("convert", older, out), ["wan21.safetensors", "blocks.0.cross_attn.k_img", "Wan 2.1"]),
        (("convert", path, tmp_path / "out.ckpt"), ["out.ckpt", ".safetensors"]),
        (("convert", path, tmp_path / "file" / "out.safetensors"), ["cannot be written"]),
        (("resize", path, out, "--rank", "0"), ["rank"]),
        (("scale", path, out, "--strength", "0"), ["strength"]),
        (("merge", path, older, out), ["wan21.safetensors"]),
        (("info", tmp_path), [tmp_path.name]),
        (("convert", path, out, "--base", tmp_path / "nowhere"), ["nowhere"]),
    ]:
        assert lora(*words) == 1, words
        error = capsys.readouterr().err
        assert all(word in error for word in said), error
        assert not out.exists()
    assert not list(tmp_path.glob(".*"))


def test_ranks_that_differ_from_layer_to_layer_become_one(make, tmp_path):
    path, out = make("in.safetensors"), tmp_path / "out.safetensors"
    tensors = load_file(path)
    key = "diffusion_model.blocks.1.ffn.2.lora_{}.weight"
    tensors[key.format("A")], tensors[key.format("B")] = (
        tensors[key.format("A")][:2].clone(),
        tensors[key.format("B")][:, :2].clone(),
    )
    save_file(tensors, path, {"software": "another", "ss_network_dim": "dynamic"})
    assert lora("convert", path, out, "--format", "kohya") == 0
    assert_effect(out, effect(path), 1e-6)
    assert {tensor.shape[0] for name, tensor in load_file(out).items() if "lora_down" in name} == {4}
    strings = read_lora_file(out).strings
    assert (strings["software"], strings["ss_network_dim"], strings["ss_network_alpha"]) == (
        "another",
        "4",
        "4",
    )


def test_info_says_what_a_file_is(make, capsys, miniature_folder):
    path = make("in.safetensors", dtype="bf16", format="diffusers")
    assert lora("info", path, "--base", miniature_folder) == 0
    lines = capsys.readouterr().out.splitlines()
    norms = {module: float(change.norm()) for module, change in effect(path).items()}
    total = sum(norm**2 for norm in norms.values()) ** 0.5
    assert lines[:9] == [
        f"file: {path}",
        "type: lora",
        "format: diffusers",
        "number type: bf16",
        "expert: high_noise",
        "rank: 4",
        "weights: 40 in 20 layers",
        f"model: {miniature_folder}, 20 of its 20 layers",
        "inert: no",
    ]
    assert lines[9].startswith(f"norm of the change: {total:.6g};")
    feed_forward = (norms["blocks.0.ffn.net.2"] + norms["blocks.1.ffn.net.2"]) / 2
    assert f"mean norm of ffn.2: {feed_forward:.6g}" in lines
    assert "trigger = 0rbit" in lines


def test_info_calls_an_untrained_lora_inert(tmp_path, capsys):
    path = tmp_path / "new_low_noise.safetensors"
    name = "diffusion_model.blocks.0.ffn.0.lora_{}.weight"
    save_file({name.format("A"): torch.ones(2, 3), name.format("B"): torch.zeros(4, 2)}, path)
    assert lora("info", path) == 0
    said = capsys.readouterr().out
    assert "inert: yes" in said
    assert "expert: low_noise" in said
    assert "not A14B" in said


def test_a_file_of_the_real_models_sizes_is_checked_against_its_list(tmp_path, capsys):
    path, out = tmp_path / "attention.safetensors", tmp_path / "out.safetensors"
    name = "lora_unet_blocks_{}_self_attn_q.lora_{}.weight"
    tensors = {
        name.format(block, half): torch.ones(shape)
        for block in (0, 39)
        for half, shape in (("down", (1, 5120)), ("up", (5120, 1)))
    }
    save_file(tensors, path)
    assert lora("convert", path, out, "--format", "original") == 0
    assert "Wan 2.2 I2V A14B: 2 of its 400 layers" in capsys.readouterr().out
    assert set(load_file(out)) == {
        f"diffusion_model.blocks.{block}.self_attn.q.lora_{half}.weight" for block in (0, 39) for half in "AB"
    }
    tensors |= {name.format(40, "down"): torch.ones(1, 5120), name.format(40, "up"): torch.ones(5120, 1)}
    save_file(tensors, path)
    assert lora("convert", path, tmp_path / "other.safetensors", "--format", "original") == 1
    assert "blocks.40.attn1.to_q" in capsys.readouterr().err


def test_a_dora_is_converted_with_its_bases_weights(make, tmp_path, capsys, miniature_folder):
    path = make("in.safetensors")
    tensors = load_file(path)
    scales = {
        key.replace("lora_B.weight", "dora_scale"): torch.rand(len(tensor), 1) + 0.5
        for key, tensor in tensors.items()
        if "lora_B" in key
    }
    dora = tmp_path / "dora_high_noise.safetensors"
    save_file({**tensors, **scales}, dora)
    there, back = tmp_path / "there_high_noise.safetensors", tmp_path / "back.safetensors"
    assert lora("convert", dora, there, "--format", "diffusers") == 1
    assert "base model" in capsys.readouterr().err
    assert lora("convert", dora, there, "--format", "diffusers", "--base", miniature_folder) == 0
    magnitudes = {key: tensor for key, tensor in load_file(there).items() if "magnitude" in key}
    assert len(magnitudes) == len(scales) == 20
    assert lora("convert", there, back, "--format", "original", "--base", miniature_folder) == 0
    found = load_file(back)
    assert all(
        torch.allclose(found[key].flatten(), scale.flatten(), rtol=1e-5) for key, scale in scales.items()
    )
    assert lora("info", dora, "--base", miniature_folder) == 0
    assert "type: dora" in capsys.readouterr().out
    assert lora("resize", dora, tmp_path / "x.safetensors", "--rank", "1") == 1
    assert "DoRA" in capsys.readouterr().err
    foreign = tmp_path / "foreign_high_noise.safetensors"
    save_file(
        {key.replace("blocks.1.", "blocks.9."): tensor for key, tensor in load_file(dora).items()}, foreign
    )
    assert lora("convert", foreign, tmp_path / "x.safetensors", "--base", miniature_folder) == 1
    error = capsys.readouterr().err
    assert "foreign_high_noise" in error
    assert "blocks.9." in error
