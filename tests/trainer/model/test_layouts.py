import json
import shutil
import sys

import pytest
import torch
from safetensors.torch import load_file, save_file

from trainer.model import fingerprints, layouts
from trainer.model.base_errors import (
    BaseFolderError,
    BaseModelError,
    DamagedFileError,
    MissingPartError,
    WrongModelError,
)
from trainer.model.layouts import open_base, resources_folder
from trainer.model.miniature import build_miniature
from trainer.model.weight_files import check_safetensors


@pytest.fixture
def base_folder(miniature_folder, tmp_path):
    return shutil.copytree(miniature_folder, tmp_path / "base")


def edit_json(path, **changes):
    content = json.loads(path.read_text()) | changes
    path.write_text(json.dumps({key: value for key, value in content.items() if value != "gone"}))


def refusal(folder):
    with pytest.raises(BaseModelError) as caught:
        open_base(str(folder))
    assert caught.value.kind == "base_model"
    assert caught.value.hint
    return caught.value


def split_weights(part, name):
    """Into two shards with an index, as large models are stored."""
    tensors = load_file(part / name)
    stem = name.removesuffix(".safetensors")
    names = sorted(tensors)
    weight_map = {}
    for number, chosen in enumerate((names[::2], names[1::2]), start=1):
        shard = f"{stem}-0000{number}-of-00002.safetensors"
        save_file({key: tensors[key] for key in chosen}, part / shard)
        weight_map |= dict.fromkeys(chosen, shard)
    (part / f"{name}.index.json").write_text(json.dumps({"metadata": {}, "weight_map": weight_map}))
    (part / name).unlink()


def test_a_whole_folder_opens_with_its_boundary_and_fingerprints(miniature_folder):
    base = open_base(str(miniature_folder))
    assert base.folder == miniature_folder
    assert base.boundary_ratio == 0.9
    prints = [base.fingerprint, base.vae_fingerprint, base.text_fingerprint]
    assert len(set(prints)) == 3
    assert all(len(one) == 32 for one in prints)


def test_a_copy_elsewhere_has_the_same_fingerprints(miniature_folder, base_folder):
    original, copy = open_base(str(miniature_folder)), open_base(str(base_folder))
    assert copy.fingerprint == original.fingerprint
    assert copy.vae_fingerprint == original.vae_fingerprint
    assert copy.text_fingerprint == original.text_fingerprint


@pytest.mark.parametrize(
    ("part", "changed"),
    [
        ("vae", {"fingerprint", "vae_fingerprint"}),
        ("text_encoder", {"fingerprint", "text_fingerprint"}),
        ("tokenizer", {"fingerprint", "text_fingerprint"}),
        ("transformer", {"fingerprint"}),
        ("transformer_2", {"fingerprint"}),
    ],
)
def test_a_change_to_a_part_shows_in_its_own_fingerprint_only(base_folder, part, changed):
    before = open_base(str(base_folder))
    if part == "tokenizer":
        edit_json(base_folder / part / "tokenizer.json", version="1.1")
    else:
        file = next((base_folder / part).glob("*.safetensors"))
        tensors = load_file(file)
        name = sorted(tensors)[0]
        tensors[name].view(-1)[0] += 1
        save_file(tensors, file)
    after = open_base(str(base_folder))
    names = ("fingerprint", "vae_fingerprint", "text_fingerprint")
    assert {name for name in names if getattr(before, name) != getattr(after, name)} == changed


def test_weights_of_large_files_are_told_apart_by_samples(base_folder, monkeypatch):
    monkeypatch.setattr(fingerprints, "WHOLE_HASH_BYTES", 1000)
    before = open_base(str(base_folder)).vae_fingerprint
    assert open_base(str(base_folder)).vae_fingerprint == before
    file = base_folder / "vae" / "diffusion_pytorch_model.safetensors"
    content = bytearray(file.read_bytes())
    for position in range(len(content) // 2, len(content), 1000):
        content[position] ^= 1
    file.write_bytes(content)
    assert open_base(str(base_folder)).vae_fingerprint != before


def test_weights_in_several_files_open_too(base_folder):
    split_weights(base_folder / "transformer", "diffusion_pytorch_model.safetensors")
    split_weights(base_folder / "text_encoder", "model.safetensors")
    assert open_base(str(base_folder)).boundary_ratio == 0.9


def test_a_missing_shard_is_named(base_folder):
    split_weights(base_folder / "transformer", "diffusion_pytorch_model.safetensors")
    shard = base_folder / "transformer" / "diffusion_pytorch_model-00002-of-00002.safetensors"
    shard.unlink()
    assert str(shard) in refusal(base_folder).message


@pytest.mark.parametrize("content", ["{}", '{"weight_map": {}}', '{"weight_map": [1]}'])
def test_an_index_that_names_no_files_is_refused(base_folder, content):
    part = base_folder / "transformer"
    split_weights(part, "diffusion_pytorch_model.safetensors")
    (part / "diffusion_pytorch_model.safetensors.index.json").write_text(content)
    assert "names no weight files" in refusal(base_folder).message


def test_a_folder_that_does_not_exist_is_named(tmp_path):
    error = refusal(tmp_path / "nowhere")
    assert isinstance(error, BaseFolderError)
    assert str(tmp_path / "nowhere") in error.message


def test_a_file_that_is_empty_is_told(tmp_path):
    (tmp_path / "high.safetensors").write_bytes(b"")
    assert (
        "high.safetensors is no safetensors file or was cut off after 0 bytes"
        in refusal(tmp_path / "high.safetensors").message
    )


def test_a_name_that_no_folder_can_have_is_told():
    assert "x" * 5000 in refusal("x" * 5000).message


def test_the_home_folder_can_be_written_short(miniature_folder, monkeypatch):
    monkeypatch.setenv("HOME", str(miniature_folder.parent))
    monkeypatch.setenv("USERPROFILE", str(miniature_folder.parent))
    assert open_base("~/miniature").folder == miniature_folder


def test_a_folder_without_an_index_is_no_model(tmp_path):
    error = refusal(tmp_path)
    assert isinstance(error, WrongModelError)
    assert "no model_index.json" in error.message


def test_a_text_to_video_pipeline_is_refused(base_folder):
    edit_json(base_folder / "model_index.json", _class_name="WanPipeline")
    assert "names a WanPipeline instead of WanImageToVideoPipeline" in refusal(base_folder).message


@pytest.mark.parametrize("second", [[None, None], "gone"])
def test_wan_2_1_with_its_single_transformer_is_refused(base_folder, second):
    edit_json(base_folder / "model_index.json", transformer_2=second)
    error = refusal(base_folder)
    assert isinstance(error, WrongModelError)
    assert "Wan 2.1" in error.message


@pytest.mark.parametrize(
    ("changes", "found"),
    [
        ({"in_channels": 16}, "text-to-video"),
        ({"in_channels": 48}, "48 channels instead of 36"),
        ({"in_channels": "gone"}, "None channels instead of 36"),
        ({"image_dim": 1280, "added_kv_proj_dim": 5120}, "Wan 2.1"),
    ],
)
def test_an_expert_of_another_model_is_refused(base_folder, changes, found):
    edit_json(base_folder / "transformer_2" / "config.json", **changes)
    error = refusal(base_folder)
    assert isinstance(error, WrongModelError)
    assert found in error.message
    assert "transformer_2" in error.message


def test_the_vae_of_wan_2_2_5b_is_refused(base_folder):
    edit_json(base_folder / "vae" / "config.json", z_dim=48)
    assert "48 latent channels" in refusal(base_folder).message


@pytest.mark.parametrize(
    "part", ["transformer", "transformer_2", "vae", "text_encoder", "tokenizer", "scheduler"]
)
def test_a_missing_component_is_named(base_folder, part):
    shutil.rmtree(base_folder / part)
    error = refusal(base_folder)
    assert isinstance(error, MissingPartError)
    assert str(base_folder / part) in error.message


@pytest.mark.parametrize("part", ["transformer", "transformer_2", "vae", "text_encoder"])
@pytest.mark.parametrize("bytes_left", [0, 5, 100, -1000])
def test_a_download_that_was_cut_off_is_named(base_folder, part, bytes_left):
    file = next((base_folder / part).glob("*.safetensors"))
    file.write_bytes(file.read_bytes()[:bytes_left])
    error = refusal(base_folder)
    assert isinstance(error, DamagedFileError)
    assert str(file) in error.message


def test_weights_that_are_missing_altogether_are_named(base_folder):
    file = base_folder / "vae" / "diffusion_pytorch_model.safetensors"
    file.unlink()
    assert str(file) in refusal(base_folder).message


@pytest.mark.parametrize("content", [b"", b"{", b"[]", b"\xff\xfe\x00", b"null"])
@pytest.mark.parametrize("name", ["model_index.json", "transformer/config.json", "vae/config.json"])
def test_configs_that_are_no_json_objects_are_named(base_folder, name, content):
    (base_folder / name).write_bytes(content)
    error = refusal(base_folder)
    assert isinstance(error, DamagedFileError)
    assert str(base_folder / name) in error.message


@pytest.mark.parametrize(
    "header",
    [b"[]", b"{}x", b'{"a": 1}', b'{"a": {"shape": [1]}}', b'{"a": {"shape": 1, "data_offsets": [0, 4]}}'],
)
def test_a_header_that_makes_no_sense_is_refused(tmp_path, header):
    file = tmp_path / "wrong.safetensors"
    file.write_bytes(len(header).to_bytes(8, "little") + header + bytes(4))
    with pytest.raises(DamagedFileError, match=r"wrong\.safetensors is no safetensors file"):
        check_safetensors(file)


def test_a_header_tells_the_shapes_of_the_tensors(tmp_path):
    file = tmp_path / "some.safetensors"
    save_file({"a": torch.zeros(2, 3), "b": torch.zeros(())}, file, metadata={"format": "pt"})
    assert check_safetensors(file) == {"a": (2, 3), "b": ()}


@pytest.mark.parametrize("ratio", ["gone", None])
def test_an_index_without_a_boundary_gets_the_official_one(base_folder, ratio):
    edit_json(base_folder / "model_index.json", boundary_ratio=ratio)
    assert open_base(str(base_folder)).boundary_ratio == 0.9


@pytest.mark.parametrize("ratio", [0, 1.0, -0.5, 900, "0.9", True])
def test_a_boundary_that_is_no_fraction_is_refused(base_folder, ratio):
    edit_json(base_folder / "model_index.json", boundary_ratio=ratio)
    assert "boundary_ratio" in refusal(base_folder).message


def test_another_boundary_in_the_index_counts(base_folder):
    edit_json(base_folder / "model_index.json", boundary_ratio=0.875)
    assert open_base(str(base_folder)).boundary_ratio == 0.875


def test_the_name_miniature_opens_the_model_shipped_with_the_program(tmp_path, monkeypatch):
    folder = build_miniature(tmp_path / "miniature")
    monkeypatch.setenv("WAN_STUDIO_RESOURCES", str(tmp_path))
    assert open_base("miniature").folder == folder


def test_a_missing_miniature_is_told_by_its_folder(tmp_path, monkeypatch):
    monkeypatch.setenv("WAN_STUDIO_RESOURCES", str(tmp_path))
    assert str(tmp_path / "miniature") in refusal("miniature").message


def test_resources_are_found_in_every_layout(tmp_path, monkeypatch):
    monkeypatch.delenv("WAN_STUDIO_RESOURCES", raising=False)
    monkeypatch.setattr(layouts, "__file__", str(tmp_path / "trainer" / "model" / "layouts.py"))
    assert resources_folder() == tmp_path / "wan_studio" / "resources"
    (tmp_path / "resources").mkdir()
    assert resources_folder() == tmp_path / "resources"
    monkeypatch.setattr(sys, "_MEIPASS", str(tmp_path / "frozen"), raising=False)
    assert resources_folder() == tmp_path / "frozen" / "resources"
    monkeypatch.setenv("WAN_STUDIO_RESOURCES", str(tmp_path / "named"))
    assert resources_folder() == tmp_path / "named"
