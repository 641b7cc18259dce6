"""What differs on a GPU: where weights and inputs lie, bfloat16, noise drawn on the CPU."""

import numpy as np
import pytest
import torch
from diffusers.pipelines.wan.pipeline_wan_i2v import WanImageToVideoPipeline
from PIL import Image

from trainer.model.experts import Experts
from trainer.model.layouts import open_base
from trainer.model.load import load_expert, load_text_encoder, load_vae, sampling_scheduler
from trainer.model.lora import (
    LoraSettings,
    add_lora,
    load_lora_state,
    lora_disabled,
    lora_dropout,
    lora_parameters,
    lora_state,
)
from trainer.model.sampling import DenoiseRequest, denoise
from trainer.model.text import encode_prompts, pad_rows
from trainer.model.vae import decode_latents, encode_clip, encode_condition
from trainer.protocol.job import Expert
from trainer.runtime.device import choose_device, compute_dtype, peak_reserved_bytes

pytestmark = [pytest.mark.gpu, pytest.mark.skipif(not torch.cuda.is_available(), reason="needs CUDA")]

FRAMES = np.random.default_rng(0).integers(0, 256, (9, 32, 48, 3), dtype=np.uint8)


@pytest.fixture(scope="module")
def device():
    return choose_device(0)


@pytest.fixture(scope="module")
def base(miniature_folder):
    return open_base(str(miniature_folder))


def trained_experts(base, device, **options):
    dtype = compute_dtype(device)
    experts = Experts({one: load_expert(base, one, dtype, device) for one in Expert}, 0.9, **options)
    for seed, transformer in enumerate(experts.transformers.values()):
        add_lora(transformer, LoraSettings(rank=4), seed)
        generator = torch.Generator().manual_seed(seed)
        state = lora_state(transformer)
        load_lora_state(
            transformer,
            {name: torch.randn(one.shape, generator=generator) * 0.1 for name, one in state.items()},
        )
    return experts


def gradients(base, device, **options):
    experts = trained_experts(base, device, **options)
    generator = torch.Generator().manual_seed(0)
    noisy, condition = torch.randn(2, 1, 16, 3, 4, 6, generator=generator)
    text = torch.randn(1, 512, 64, generator=generator)
    predicted = experts.predict(Expert.HIGH, noisy, condition, torch.tensor([950.0]), text)
    predicted.float().square().mean().backward()
    parameters = lora_parameters(experts.transformer(Expert.HIGH))
    return torch.cat([parameter.grad.flatten().cpu() for parameter in parameters])


def test_everything_lies_on_the_gpu_and_only_the_lora_is_trained_in_float32(base, device):
    experts = trained_experts(base, device)
    assert (experts.device, experts.dtype) == (device, torch.bfloat16)
    for transformer in experts.transformers.values():
        tensors = [*transformer.parameters(), *transformer.buffers()]
        assert {tensor.device for tensor in tensors} == {device}
        assert all(one.requires_grad and one.dtype == torch.float32 for one in lora_parameters(transformer))
    assert peak_reserved_bytes(device) > 0


def test_a_lora_begins_alike_on_gpu_and_cpu(base, device):
    states = []
    for place in (device, torch.device("cpu")):
        expert = load_expert(base, Expert.HIGH, torch.bfloat16, place)
        add_lora(expert, LoraSettings(rank=4), 7)
        states.append(lora_state(expert))
    assert all(torch.equal(tensor, states[1][name]) for name, tensor in states[0].items())


@pytest.mark.parametrize("checkpointing", [False, True])
def test_gradients_in_bfloat16_are_close_to_the_cpus(base, device, checkpointing):
    given = gradients(base, device, gradient_checkpointing=checkpointing)
    wanted = gradients(base, torch.device("cpu"))
    assert (given - wanted).norm() < 0.05 * wanted.norm()


@pytest.mark.parametrize("kind", ["lora", "dora", "lokr"])
def test_every_type_begins_as_the_base_and_drops_the_same_when_checkpointed(base, device, kind):
    generator = torch.Generator().manual_seed(0)
    noisy, condition = torch.randn(2, 1, 16, 3, 4, 6, generator=generator)
    text = torch.randn(1, 512, 64, generator=generator)
    found = []
    for checkpointing in (False, True):
        transformer = load_expert(base, Expert.HIGH, compute_dtype(device), device)
        experts = Experts({Expert.HIGH: transformer}, 0.9, gradient_checkpointing=checkpointing)
        inputs = (Expert.HIGH, noisy, condition, torch.tensor([950.0]), text)
        with torch.no_grad():
            before = experts.predict(*inputs)
            add_lora(transformer, LoraSettings(rank=4, type=kind, dropout=0.5), 1)
            assert torch.equal(experts.predict(*inputs), before)
        state = lora_state(transformer)
        drawn = torch.Generator().manual_seed(1)
        load_lora_state(
            transformer,
            {name: one + 0.1 * torch.randn(one.shape, generator=drawn) for name, one in state.items()},
        )
        random = torch.cuda.get_rng_state(device)
        with lora_dropout(transformer, 4):
            experts.predict(*inputs).float().square().mean().backward()
        assert torch.equal(torch.cuda.get_rng_state(device), random)
        found.append(torch.cat([one.grad.flatten() for one in lora_parameters(transformer)]))
    assert (found[0] - found[1]).norm() < 0.01 * found[0].norm()


def test_latents_and_text_are_close_to_the_cpus_and_come_back_to_the_cpu(base, device):
    places = (device, torch.device("cpu"))
    here, there = (encode_clip(load_vae(base, place), FRAMES) for place in places)
    assert here.x0_CTHW.device.type == "cpu"
    # Convolutions on a GPU round to TF32 by default.
    assert (here.x0_CTHW - there.x0_CTHW).abs().max() < 0.02
    assert (here.y_CTHW - there.y_CTHW).abs().max() < 0.02
    rows = [encode_prompts(load_text_encoder(base, torch.float32, one), ["a red cube"])[0] for one in places]
    assert torch.allclose(*rows, atol=1e-3)
    assert rows[0].device.type == "cpu"


def test_disabled_loras_leave_the_pipelines_latents_and_frames(base, device):
    pipeline = WanImageToVideoPipeline.from_pretrained(base.folder, dtype=torch.bfloat16)
    pipeline.register_modules(vae=load_vae(base, device))
    pipeline.to(device)
    options = {"image": Image.fromarray(FRAMES[0]), "height": 32, "width": 48, "num_frames": 9}
    rows = encode_prompts(load_text_encoder(base, torch.bfloat16, device), ["a red cube", ""])
    embeddings = [pad_rows(one)[None].to(device) for one in rows]
    video = pipeline(
        **options,
        prompt_embeds=embeddings[0],
        negative_prompt_embeds=embeddings[1],
        num_inference_steps=6,
        guidance_scale=3.5,
        guidance_scale_2=2.0,
        generator=torch.Generator().manual_seed(1),
        output_type="pil",
    ).frames[0]
    experts, vae = trained_experts(base, device), load_vae(base, device)
    request = DenoiseRequest(encode_condition(vae, FRAMES[0], 9), *rows, 6, 3.5, 2.0, 1)
    high, low = experts.transformers.values()
    with lora_disabled(high), lora_disabled(low):
        latents = denoise(experts, sampling_scheduler(base, "unipc", 5.0), request, lambda done, total: None)
    frames = decode_latents(vae, latents).astype(int)
    expected = np.stack([np.asarray(image) for image in video]).astype(int)
    assert np.abs(frames - expected).max() <= 1
