import json
import struct

import pytest

from trainer.protocol.job import ModelSection
from wan_studio.errors import AppError
from wan_studio.services.base_models import absolute_model, check_base_model

HUB_NAME = "Wan-AI/Wan2.2-I2V-A14B-Diffusers"
PARTS = ("high_noise", "low_noise", "vae", "text_encoder")


def weights(path, cut=0):
    path.parent.mkdir(parents=True, exist_ok=True)
    header = json.dumps({"a": {"dtype": "F32", "shape": [2], "data_offsets": [0, 8]}}).encode()
    content = struct.pack("<Q", len(header)) + header + bytes(8)
    path.write_bytes(content[: len(content) - cut])
    return path


def diffusers_folder(folder):
    for name in ("transformer", "transformer_2", "text_encoder", "vae"):
        (folder / name).mkdir(parents=True)
    (folder / "model_index.json").write_text("{}")
    return folder


def release_folder(folder):
    for name in ("high_noise_model", "low_noise_model"):
        (folder / name).mkdir(parents=True)
    for name in ("Wan2.1_VAE.pth", "models_t5_umt5-xxl-enc-bf16.pth"):
        (folder / name).write_bytes(b"")
    return folder


def refusal(base, **parts):
    with pytest.raises(AppError) as caught:
        check_base_model(ModelSection(base=str(base), **parts))
    assert caught.value.message.endswith(".")
    return caught.value


def test_every_kind_of_base_passes(tmp_path):
    weights(tmp_path / "models" / "diffusion_models" / "wan" / "high.safetensors")
    for base in (
        "miniature",
        HUB_NAME,
        diffusers_folder(tmp_path / "diffusers"),
        release_folder(tmp_path / "release"),
        tmp_path / "models",
        tmp_path / "models" / "diffusion_models" / "wan" / "high.safetensors",
    ):
        assert "base model" in check_base_model(ModelSection(base=str(base)))


@pytest.mark.parametrize("name", ["model_index.json", "transformer_2", "text_encoder", "vae"])
def test_what_a_diffusers_folder_lacks_is_named(tmp_path, name):
    folder = diffusers_folder(tmp_path / "base")
    path = folder / name
    path.rmdir() if path.is_dir() else path.unlink()
    assert f"lacks {name}" in refusal(folder).message


@pytest.mark.parametrize("name", ["high_noise_model", "low_noise_model", "Wan2.1_VAE.pth"])
def test_what_the_original_release_lacks_is_named(tmp_path, name):
    folder = release_folder(tmp_path / "base")
    path = folder / name
    path.rmdir() if path.is_dir() else path.unlink()
    assert f"lacks {name}" in refusal(folder).message


def test_a_part_that_is_named_is_not_missed(tmp_path):
    folder = diffusers_folder(tmp_path / "base")
    (folder / "vae").rmdir()
    vae = weights(tmp_path / "wan_2.1_vae.safetensors")
    assert str(folder) in check_base_model(ModelSection(base=str(folder), vae=str(vae)))


def test_four_named_parts_need_no_base(tmp_path):
    parts = {part: str(weights(tmp_path / f"{part}.safetensors")) for part in PARTS}
    assert "one by one" in check_base_model(ModelSection(**parts))
    del parts["vae"]
    assert "miniature's parts do not fit" in refusal("miniature", **parts).message


@pytest.mark.parametrize("part", PARTS)
def test_a_named_part_that_is_not_there_is_told(tmp_path, part):
    place = str(tmp_path / "gone.safetensors")
    assert place in refusal(diffusers_folder(tmp_path / "base"), **{part: place}).message


@pytest.mark.parametrize("cut", [1, 9, 70, 1000])
def test_a_file_that_was_cut_off_is_named(tmp_path, cut):
    file = weights(tmp_path / "high.safetensors", cut)
    assert f"{file} is no safetensors file, or was cut off" in refusal(file).message
    assert str(file) in refusal(HUB_NAME, high_noise=str(file)).message


@pytest.mark.parametrize("header", [b"[]", b"{x", b'{"a": 1}', b'{"a": {"data_offsets": []}}'])
def test_a_header_that_makes_no_sense_is_refused(tmp_path, header):
    file = tmp_path / "high.safetensors"
    file.write_bytes(struct.pack("<Q", len(header)) + header)
    assert str(file) in refusal(file).message


def test_files_and_folders_without_weights_are_refused(tmp_path):
    (tmp_path / "notes.txt").write_text("hello")
    assert "no file of weights" in refusal(tmp_path / "notes.txt").message
    assert "holds no model" in refusal(tmp_path).message
    assert f"{tmp_path / 'nowhere'} does not exist" in refusal(tmp_path / "nowhere").message
    assert "Hugging Face" in refusal(tmp_path).hint
    assert "No base model is chosen" in refusal("").message


def test_paths_become_absolute_and_names_stay(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    weights(tmp_path / "a" / "b")
    model = absolute_model(ModelSection(base="a/b", vae="vae.safetensors"))
    assert model.base == str(tmp_path / "a" / "b")
    assert model.vae == str(tmp_path / "vae.safetensors")
    assert model.high_noise == ""
    for base in ("miniature", HUB_NAME):
        assert absolute_model(ModelSection(base=base)).base == base
