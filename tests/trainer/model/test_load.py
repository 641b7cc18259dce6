import json
import shutil
import weakref

import pytest
import torch
from diffusers.models.transformers.transformer_wan import WanTransformer3DModel
from safetensors.torch import load_file, save_file

from trainer.model.base_errors import BaseModelError, PartNotLoadedError
from trainer.model.layouts import open_base
from trainer.model.load import (
    empty_model,
    expert_config,
    fill,
    load_expert,
    load_text_encoder,
    load_vae,
    sampling_scheduler,
)
from trainer.model.weight_files import SafetensorsFile
from trainer.protocol.job import Expert

CPU = torch.device("cpu")


@pytest.fixture
def copied_folder(miniature_folder, tmp_path):
    return shutil.copytree(miniature_folder, tmp_path / "base")


def weights_file(folder, part):
    return folder / part / "diffusion_pytorch_model.safetensors"


@pytest.mark.parametrize(("expert", "part"), [(Expert.HIGH, "transformer"), (Expert.LOW, "transformer_2")])
def test_each_expert_gets_the_weights_of_its_own_folder(miniature_folder, expert, part):
    base = open_base(str(miniature_folder))
    loaded = load_expert(base, expert, torch.float32, CPU).state_dict()
    stored = load_file(weights_file(miniature_folder, part))
    assert loaded.keys() == stored.keys()
    assert all(torch.equal(loaded[name], stored[name]) for name in stored)


def test_the_two_experts_differ(miniature_folder):
    high = load_file(weights_file(miniature_folder, "transformer"))
    low = load_file(weights_file(miniature_folder, "transformer_2"))
    assert not torch.equal(high["proj_out.weight"], low["proj_out.weight"])


def test_files_in_half_precision_become_float32_when_asked_for(copied_folder):
    file = weights_file(copied_folder, "transformer")
    halved = {name: tensor.half() for name, tensor in load_file(file).items()}
    save_file(halved, file)
    expert = load_expert(open_base(str(copied_folder)), Expert.HIGH, torch.float32, CPU)
    for name, parameter in expert.named_parameters():
        assert parameter.dtype == torch.float32, name
        assert torch.equal(parameter, halved[name].float()), name


def test_an_expert_in_bfloat16_keeps_its_float32_islands(miniature_folder):
    expert = load_expert(open_base(str(miniature_folder)), Expert.LOW, torch.bfloat16, CPU)
    assert expert.blocks[0].attn1.to_q.weight.dtype == torch.bfloat16
    assert expert.patch_embedding.weight.dtype == torch.bfloat16
    assert expert.proj_out.weight.dtype == torch.bfloat16
    assert expert.blocks[0].scale_shift_table.dtype == torch.float32
    assert expert.blocks[0].norm2.weight.dtype == torch.float32
    assert expert.condition_embedder.time_embedder.linear_1.weight.dtype == torch.float32


def test_nothing_of_the_base_wants_gradients(miniature_folder):
    base = open_base(str(miniature_folder))
    parts = [
        load_expert(base, Expert.HIGH, torch.float32, CPU),
        load_expert(base, Expert.LOW, torch.bfloat16, CPU),
        load_vae(base, CPU),
        load_text_encoder(base, torch.float32, CPU).model,
    ]
    for part in parts:
        assert not any(parameter.requires_grad for parameter in part.parameters())
        assert not part.training


def test_the_vae_is_float32_even_if_its_files_are_not(copied_folder):
    file = weights_file(copied_folder, "vae")
    save_file({name: tensor.bfloat16() for name, tensor in load_file(file).items()}, file)
    vae = load_vae(open_base(str(copied_folder)), CPU)
    assert {parameter.dtype for parameter in vae.parameters()} == {torch.float32}


def test_a_missing_weight_is_named_instead_of_made_up(copied_folder):
    file = weights_file(copied_folder, "transformer_2")
    tensors = load_file(file)
    del tensors["blocks.1.attn2.to_k.weight"]
    save_file(tensors, file)
    base = open_base(str(copied_folder))
    with pytest.raises(
        BaseModelError, match=r"transformer_2 cannot.*1 of its.*blocks\.1\.attn2\.to_k\.weight"
    ):
        load_expert(base, Expert.LOW, torch.float32, CPU)


def test_weights_of_another_shape_are_refused_with_the_folder_named(copied_folder):
    file = weights_file(copied_folder, "transformer")
    tensors = load_file(file)
    tensors["proj_out.bias"] = torch.zeros(7)
    save_file(tensors, file)
    with pytest.raises(
        PartNotLoadedError, match=r"transformer cannot be loaded: proj_out\.bias has the shape \(7,\)"
    ):
        load_expert(open_base(str(copied_folder)), Expert.HIGH, torch.float32, CPU)


def test_the_text_encoder_and_tokenizer_come_as_stored(miniature_folder):
    encoder = load_text_encoder(open_base(str(miniature_folder)), torch.bfloat16, CPU)
    stored = load_file(miniature_folder / "text_encoder" / "model.safetensors")
    assert encoder.model.dtype == torch.bfloat16
    assert torch.equal(encoder.model.shared.weight, stored["shared.weight"].bfloat16())
    assert encoder.tokenizer("")["input_ids"] == [1]


@pytest.mark.parametrize("shift", [3.0, 5.0, 8.0])
def test_the_sampler_has_the_flow_noise_levels_of_the_shift(miniature_folder, shift):
    scheduler = sampling_scheduler(open_base(str(miniature_folder)), "unipc", shift)
    scheduler.set_timesteps(7)
    linear = torch.linspace(1, 0.001, 8, dtype=torch.float64)[:-1]
    expected = shift * linear / (1 + (shift - 1) * linear)
    assert torch.allclose(scheduler.sigmas[:-1].double(), expected, atol=2e-6)
    assert scheduler.sigmas[-1] == 0


def test_a_folder_whose_scheduler_is_of_another_class_samples_with_unipc_all_the_same(
    miniature_folder, copied_folder
):
    other = {"_class_name": "FlowMatchEulerDiscreteScheduler", "num_train_timesteps": 1000, "shift": 3.0}
    (copied_folder / "scheduler" / "scheduler_config.json").write_text(json.dumps(other))
    scheduler = sampling_scheduler(open_base(str(copied_folder)), "unipc", 5.0)
    usual = sampling_scheduler(open_base(str(miniature_folder)), "unipc", 5.0)
    for one in (scheduler, usual):
        one.set_timesteps(9)
    assert torch.equal(scheduler.sigmas, usual.sigmas)
    assert torch.equal(scheduler.timesteps, usual.timesteps)
    assert scheduler.config["prediction_type"] == "flow_prediction"


def test_the_config_of_each_expert_can_be_had(miniature_folder):
    config = expert_config(open_base(str(miniature_folder)), Expert.LOW)
    assert (config["in_channels"], config["out_channels"], config["num_layers"]) == (36, 16, 2)


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16, torch.float16])
def test_an_expert_has_the_types_and_values_that_diffusers_own_loading_gives(miniature_folder, dtype):
    ours = load_expert(open_base(str(miniature_folder)), Expert.HIGH, dtype, CPU)
    theirs = WanTransformer3DModel.from_pretrained(miniature_folder, subfolder="transformer", dtype=dtype)
    for kind in ("named_parameters", "named_buffers"):
        expected = dict(getattr(theirs, kind)())
        loaded = dict(getattr(ours, kind)())
        assert loaded.keys() == expected.keys()
        for name, tensor in expected.items():
            assert loaded[name].dtype == tensor.dtype, name
            assert torch.equal(loaded[name], tensor), name


def test_a_part_of_an_expert_can_be_filled_by_itself(miniature_folder):
    source = open_base(str(miniature_folder)).expert_source(Expert.LOW)
    model = empty_model(WanTransformer3DModel, source)
    assert all(parameter.is_meta for parameter in model.parameters())
    fill(model.blocks[1], source, "blocks.1.", torch.bfloat16, CPU)
    stored = load_file(weights_file(miniature_folder, "transformer_2"))
    assert torch.equal(model.blocks[1].ffn.net[2].weight, stored["blocks.1.ffn.net.2.weight"].bfloat16())
    assert model.blocks[1].scale_shift_table.dtype == torch.float32
    assert all(parameter.is_meta for parameter in model.blocks[0].parameters())


def test_weights_are_read_one_after_another(copied_folder, monkeypatch):
    file = weights_file(copied_folder, "transformer")
    save_file({name: tensor.half() for name, tensor in load_file(file).items()}, file)
    alive, most = weakref.WeakSet(), 0
    read = SafetensorsFile.read

    def counted(self, name):
        nonlocal most
        tensor = read(self, name)
        alive.add(tensor.untyped_storage())
        most = max(most, len(alive))
        return tensor

    monkeypatch.setattr(SafetensorsFile, "read", counted)
    expert = load_expert(open_base(str(copied_folder)), Expert.HIGH, torch.float32, CPU)
    assert len(list(expert.parameters())) > 50
    # The one at hand, and the one that it is replaced with.
    assert most <= 2
