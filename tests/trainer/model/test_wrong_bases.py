"""What is wrong with a base is told in a sentence that names the file."""

import shutil

import pytest
import torch
from safetensors.torch import load_file, save_file

from tests import base_layouts as layouts
from trainer.model.base_errors import (
    AmbiguousPartError,
    BaseFolderError,
    BaseModelError,
    DamagedFileError,
    MiniatureMixedError,
    MissingPartError,
    NoBaseError,
    PartNotFoundError,
    PartNotLoadedError,
    SameExpertError,
    UnknownExpertError,
    UnsafeFileError,
    WrongModelError,
    WrongPartError,
)
from trainer.model.layouts import open_base
from trainer.model.load import load_expert
from trainer.model.miniature import MiniatureConfig, build_miniature
from trainer.protocol.job import Expert, ModelSection

EXPERTS = "diffusion_models"


@pytest.fixture(scope="module")
def source(tmp_path_factory):
    return build_miniature(tmp_path_factory.mktemp("source") / "base", MiniatureConfig(heads=1, head_dim=128))


@pytest.fixture(scope="module")
def whole_comfy(source, tmp_path_factory):
    return layouts.comfy_folder(source, tmp_path_factory.mktemp("comfy") / "models")


@pytest.fixture
def comfy(whole_comfy, tmp_path):
    return shutil.copytree(whole_comfy, tmp_path / "models")


@pytest.fixture
def release(source, tmp_path):
    return layouts.release_folder(source, tmp_path / "release")


def refusal(base, kind, **parts):
    with pytest.raises(BaseModelError) as caught:
        open_base(ModelSection(base=str(base), **parts))
    assert type(caught.value) is kind, caught.value
    assert caught.value.kind == "base_model"
    assert caught.value.message.endswith(".")
    assert caught.value.hint
    return caught.value


def change(file, edit):
    tensors = load_file(file)
    edit(tensors)
    save_file(tensors, file)


def high_of(folder):
    return folder / EXPERTS / layouts.HIGH_NAME


def low_of(folder):
    return folder / EXPERTS / layouts.LOW_NAME


def as_wan_2_1(tensors):
    tensors["blocks.0.cross_attn.k_img.weight"] = torch.zeros(128, 128)
    tensors["img_emb.proj.0.weight"] = torch.zeros(4)


def with_channels(channels):
    def edit(tensors):
        tensors["patch_embedding.weight"] = torch.zeros(128, channels, 1, 2, 2)

    return edit


WRONG_MODELS = [
    (as_wan_2_1, "Wan 2.1"),
    (with_channels(16), "text-to-video"),
    (with_channels(48), "5B"),
    (with_channels(52), "52 channels instead of 36"),
]


@pytest.mark.parametrize(("edit", "found"), WRONG_MODELS)
def test_a_file_of_another_model_is_refused(comfy, edit, found):
    change(high_of(comfy), edit)
    error = refusal(high_of(comfy), WrongModelError)
    assert str(high_of(comfy)) in error.message
    assert found in error.message


@pytest.mark.parametrize(("edit", "found"), WRONG_MODELS)
def test_a_folder_with_nothing_but_other_models_is_refused(comfy, edit, found):
    low_of(comfy).unlink()
    change(high_of(comfy), edit)
    assert found in refusal(comfy, WrongModelError).message


def test_other_models_beside_the_pair_do_not_matter(comfy):
    for name, edit in (
        ("wan2.1_i2v_high", as_wan_2_1),
        ("wan2.2_t2v_high_noise_14B_fp16", with_channels(16)),
    ):
        other = comfy / EXPERTS / f"{name}.safetensors"
        shutil.copy(high_of(comfy), other)
        change(other, edit)
    (comfy / EXPERTS / "torn.safetensors").write_bytes(b"torn")
    save_file({"x": torch.zeros(1)}, comfy / EXPERTS / "flux.safetensors")
    base = open_base(str(comfy))
    assert base.expert_source(Expert.HIGH).place == high_of(comfy)


@pytest.mark.parametrize(
    ("part", "name", "found"),
    [
        ("vae", layouts.VAE_NAME, "it holds a VAE"),
        ("text_encoders", layouts.TEXT_NAME, "it holds a text encoder"),
    ],
)
def test_another_part_named_as_the_base_is_told_what_it_is(comfy, part, name, found):
    assert found in refusal(comfy / part / name, WrongModelError).message


def test_a_lora_named_as_an_expert_is_told_to_be_one(comfy, tmp_path):
    lora = tmp_path / "lora_high_noise.safetensors"
    save_file({"diffusion_model.blocks.0.self_attn.q.lora_A.weight": torch.zeros(2, 2)}, lora)
    assert "it holds a LoRA" in refusal(comfy, WrongModelError, high_noise=str(lora)).message
    assert "it holds a LoRA" in refusal(lora, WrongModelError).message


def test_weights_that_the_model_does_not_know_are_named(comfy):
    change(high_of(comfy), lambda tensors: tensors.update({"vace_blocks.0.weight": torch.zeros(2)}))
    error = refusal(comfy, WrongModelError)
    assert "1 weights of another model, first vace_blocks.0.weight" in error.message


@pytest.mark.parametrize("cut", [0, 6, 300, -100])
@pytest.mark.parametrize("which", ["base", "folder", "named"])
def test_an_experts_file_that_was_cut_off_is_named(comfy, cut, which):
    file = high_of(comfy)
    file.write_bytes(file.read_bytes()[:cut])
    if which == "named":
        error = refusal(low_of(comfy), DamagedFileError, high_noise=str(file))
    else:
        error = refusal(comfy if which == "folder" else file, DamagedFileError)
    assert str(file) in error.message


@pytest.mark.parametrize(
    ("folder", "name"), [("vae", layouts.VAE_NAME), ("text_encoders", layouts.TEXT_NAME)]
)
def test_other_parts_that_were_cut_off_are_named(comfy, folder, name):
    file = comfy / folder / name
    file.write_bytes(file.read_bytes()[:-10])
    assert str(file) in refusal(comfy, DamagedFileError).message


def test_a_weight_that_is_missing_is_named(comfy):
    change(low_of(comfy), lambda tensors: tensors.pop("blocks.1.cross_attn.k.weight"))
    with pytest.raises(
        PartNotLoadedError, match=r"low_noise.*1 of its weights.*blocks\.1\.attn2\.to_k\.weight"
    ):
        load_expert(open_base(str(comfy)), Expert.LOW, torch.float32, torch.device("cpu"))


def test_a_file_whose_name_does_not_tell_the_expert_is_asked_about(comfy):
    untold = high_of(comfy).rename(comfy / EXPERTS / "wan22_i2v.safetensors")
    for base in (comfy, untold):
        error = refusal(base, UnknownExpertError)
        assert str(untold) in error.message
        assert "model.high_noise and model.low_noise" in error.hint
    parts = {"high_noise": str(untold), "low_noise": str(low_of(comfy))}
    assert open_base(ModelSection(base=str(comfy), **parts)).expert_source(Expert.HIGH).place == untold
    one = open_base(ModelSection(base=str(untold), low_noise=str(low_of(comfy))))
    assert one.expert_source(Expert.HIGH).place == untold


def test_an_expert_without_the_other_is_told(comfy):
    low_of(comfy).unlink()
    for base in (comfy, high_of(comfy)):
        assert "No low-noise expert" in refusal(base, PartNotFoundError).message


def test_either_file_of_a_pair_finds_the_other_among_several_pairs(comfy):
    for file in (high_of(comfy), low_of(comfy)):
        shutil.copy(file, file.with_name(file.name.replace("fp16", "bf16")))
    error = refusal(comfy, AmbiguousPartError)
    assert layouts.HIGH_NAME in error.message
    assert "Choose one of the files" in error.hint
    for file in (high_of(comfy), low_of(comfy)):
        base = open_base(str(file))
        assert base.expert_source(Expert.HIGH).place == high_of(comfy)
        assert base.expert_source(Expert.LOW).place == low_of(comfy)


@pytest.mark.parametrize(
    "place", ["", "models", f"models/{EXPERTS}", f"models/{EXPERTS}/{layouts.LOW_NAME}", "models/vae"]
)
def test_any_folder_of_comfyui_leads_to_the_files(comfy, place):
    base = comfy.parent / place
    if place.endswith("vae"):
        # The folder of another part is a wrong choice, and says so.
        refusal(base, WrongModelError)
        return
    opened = open_base(str(base))
    assert opened.expert_source(Expert.HIGH).place == high_of(comfy)
    assert opened.vae_source().place == comfy / "vae" / layouts.VAE_NAME


def test_experts_in_a_folder_of_their_own_are_found(comfy):
    deeper = comfy / EXPERTS / "video" / "wan"
    deeper.mkdir(parents=True)
    for file in (high_of(comfy), low_of(comfy)):
        file.rename(deeper / file.name)
    for base in (comfy, deeper, deeper / layouts.LOW_NAME):
        assert open_base(str(base)).expert_source(Expert.LOW).place == deeper / layouts.LOW_NAME


def test_all_files_in_one_folder_are_a_base_too(comfy):
    for file in [*comfy.rglob("*.safetensors")]:
        file.rename(comfy / file.name)
    for name in (EXPERTS, "vae", "text_encoders"):
        (comfy / name).rmdir()
    assert open_base(str(comfy)).text_source().place == comfy / layouts.TEXT_NAME


@pytest.mark.parametrize(
    ("folder", "words"), [("vae", "VAE of Wan 2.1"), ("text_encoders", "text encoder UMT5-XXL")]
)
def test_a_part_that_is_nowhere_is_told_with_its_place(comfy, folder, words):
    shutil.rmtree(comfy / folder)
    error = refusal(comfy, PartNotFoundError)
    assert f"No {words}" in error.message
    assert str(comfy / folder) in error.hint


def test_the_vae_of_another_model_is_not_taken(comfy):
    vae = comfy / "vae" / layouts.VAE_NAME
    qwen = vae.rename(vae.with_name("qwen_image_vae.safetensors"))
    refusal(comfy, PartNotFoundError)
    open_base(ModelSection(base=str(comfy), vae=str(qwen)))


def test_the_vae_of_the_5b_model_is_refused(comfy):
    file = comfy / "vae" / "wan2.2_vae.safetensors"
    tensors = load_file(comfy / "vae" / layouts.VAE_NAME)
    tensors["conv2.weight"] = torch.zeros(48, 48, 1, 1, 1)
    save_file(tensors, file)
    assert open_base(str(comfy)).vae_source().place.name == layouts.VAE_NAME
    error = refusal(comfy, WrongPartError, vae=str(file))
    assert "48 latent channels (as Wan 2.2 5B has)" in error.message
    assert str(file) in error.message


def test_t5_is_no_umt5(comfy):
    file = comfy / "text_encoders" / "t5xxl_fp16.safetensors"
    tensors = load_file(comfy / "text_encoders" / layouts.TEXT_NAME)
    del tensors["encoder.block.1.layer.0.SelfAttention.relative_attention_bias.weight"]
    save_file(tensors, file)
    assert open_base(str(comfy)).text_source().place.name == layouts.TEXT_NAME
    assert "it holds T5" in refusal(comfy, WrongPartError, text_encoder=str(file)).message


def test_of_several_text_encoders_the_exact_one_is_taken(comfy):
    file = comfy / "text_encoders" / layouts.TEXT_NAME
    shutil.copy(file, file.with_name("umt5_xxl_fp8_e4m3fn_scaled.safetensors"))
    assert open_base(str(comfy)).text_source().place == file
    shutil.copy(file, file.with_name("umt5_xxl_bf16.safetensors"))
    assert "Set model.text_encoder" in refusal(comfy, AmbiguousPartError).hint


@pytest.mark.parametrize("part", ["vae", "text_encoder"])
def test_parts_named_as_one_another_are_refused(comfy, part):
    error = refusal(comfy, WrongPartError, **{part: str(high_of(comfy))})
    assert "it holds one of the experts" in error.message


@pytest.mark.parametrize("part", ["high_noise", "low_noise", "vae", "text_encoder"])
def test_a_named_file_that_is_not_there_is_named(comfy, part):
    assert (
        str(comfy / "gone.safetensors")
        in refusal(comfy, MissingPartError, **{part: str(comfy / "gone.safetensors")}).message
    )


def test_one_file_cannot_be_both_experts(comfy):
    error = refusal(comfy, SameExpertError, high_noise=str(low_of(comfy)))
    assert str(low_of(comfy)) in error.message


def test_a_text_encoder_of_another_width_is_refused(comfy, tmp_path):
    wide = build_miniature(tmp_path / "wide", MiniatureConfig(heads=1, head_dim=128, text_dim=128))
    error = refusal(comfy, PartNotLoadedError, text_encoder=str(wide / "text_encoder"))
    assert "128 numbers of a token, and the high-noise expert wants 64" in error.message


def test_the_miniature_is_not_mixed_with_other_files(comfy):
    error = refusal("miniature", MiniatureMixedError, high_noise=str(high_of(comfy)))
    assert "low-noise expert does not fit" in error.message


def test_a_folder_with_several_files_named_as_an_expert_is_asked_about(comfy):
    error = refusal(comfy, AmbiguousPartError, high_noise=str(comfy / EXPERTS))
    assert "Set model.high_noise to one of the files" in error.hint


def test_a_folder_without_weights_named_as_an_expert_is_refused(comfy, tmp_path):
    (tmp_path / "empty").mkdir()
    assert (
        str(tmp_path / "empty")
        in refusal(comfy, MissingPartError, high_noise=str(tmp_path / "empty")).message
    )


@pytest.mark.parametrize(
    "name",
    [
        "high_noise_model",
        "low_noise_model",
        "Wan2.1_VAE.pth",
        "models_t5_umt5-xxl-enc-bf16.pth",
        "low_noise_model/diffusion_pytorch_model-00002-of-00002.safetensors",
    ],
)
def test_what_the_original_release_lacks_is_named(release, name):
    path = release / name
    shutil.rmtree(path) if path.is_dir() else path.unlink()
    assert str(path) in refusal(release, MissingPartError).message


@pytest.mark.parametrize("name", ["Wan2.1_VAE.pth", "models_t5_umt5-xxl-enc-bf16.pth"])
def test_a_pickled_file_of_the_release_that_was_cut_off_is_named(release, name):
    path = release / name
    path.write_bytes(path.read_bytes()[:-1000])
    assert str(path) in refusal(release, DamagedFileError).message


def test_a_pickled_file_with_more_than_tensors_is_not_opened(release):
    path = release / "Wan2.1_VAE.pth"
    torch.save({"conv1.weight": torch.zeros(1), "run": PartNotFoundError}, path)
    assert str(path) in refusal(release, UnsafeFileError).message


def test_the_release_of_text_to_video_is_refused(release):
    for expert in ("high_noise_model", "low_noise_model"):
        for shard in (release / expert).glob("*.safetensors"):
            tensors = load_file(shard)
            if "patch_embedding.weight" in tensors:
                tensors["patch_embedding.weight"] = torch.zeros(128, 16, 1, 2, 2)
                save_file(tensors, shard)
    assert "text-to-video" in refusal(release, WrongModelError).message


def test_no_base_at_all_is_not_the_folder_at_hand(comfy, monkeypatch):
    monkeypatch.chdir(comfy)
    assert "No base model is named" in refusal("", NoBaseError).message


def test_a_place_that_does_not_exist_is_no_repository(tmp_path):
    assert "does not exist" in refusal(tmp_path / "nowhere", BaseFolderError).message
