from contextlib import ExitStack
from dataclasses import replace
from itertools import pairwise

import numpy as np
import pytest
import torch
from diffusers.schedulers.scheduling_flow_match_euler_discrete import FlowMatchEulerDiscreteScheduler
from PIL import Image

from trainer.model.experts import ExpertNotLoadedError, Experts
from trainer.model.layouts import open_base
from trainer.model.load import load_expert, load_text_encoder, load_vae, sampling_scheduler
from trainer.model.lora import (
    LoraSettings,
    add_lora,
    load_lora_state,
    lora_disabled,
    lora_state,
    lora_strength,
)
from trainer.model.sampling import DenoiseRequest, denoise, first_noise
from trainer.model.text import encode_prompts
from trainer.model.vae import decode_latents, encode_condition
from trainer.protocol.job import Expert

CPU = torch.device("cpu")
PROMPT, NEGATIVE = "camera orbits around a red sphere", "blurry"
FRAMES, HEIGHT, WIDTH, STEPS = 9, 32, 48, 7
IMAGE = np.random.default_rng(0).integers(0, 256, (HEIGHT, WIDTH, 3), dtype=np.uint8)


@pytest.fixture(scope="module")
def base(miniature_folder):
    return open_base(str(miniature_folder))


@pytest.fixture(scope="module")
def vae(base):
    return load_vae(base, CPU)


def make_experts(base, dtype=torch.float32):
    """Both experts, each with a trained LoRA of its own."""
    transformers = {expert: load_expert(base, expert, dtype, CPU) for expert in Expert}
    for seed, transformer in enumerate(transformers.values()):
        add_lora(transformer, LoraSettings(rank=4), seed)
        generator = torch.Generator().manual_seed(seed)
        load_lora_state(
            transformer,
            {
                name: torch.randn(tensor.shape, generator=generator) * 0.2
                for name, tensor in lora_state(transformer).items()
            },
        )
    return Experts(transformers, base.boundary_ratio)


@pytest.fixture(scope="module")
def experts(base):
    return make_experts(base)


@pytest.fixture(scope="module")
def request_of_pipeline(base, vae):
    encoder = load_text_encoder(base, torch.float32, CPU)
    prompt, negative = encode_prompts(encoder, [PROMPT, NEGATIVE])
    return DenoiseRequest(
        condition_CTHW=encode_condition(vae, IMAGE, FRAMES),
        prompt_LD=prompt,
        negative_LD=negative,
        steps=STEPS,
        guidance_high=3.5,
        guidance_low=2.0,
        seed=42,
    )


@pytest.fixture
def pipeline_with_loras(pipeline, experts):
    """The pipeline with the experts' LoRAs, loaded the way that users load them."""
    for expert, second in ((Expert.HIGH, False), (Expert.LOW, True)):
        state = lora_state(experts.transformer(expert))
        pipeline.load_lora_weights(
            {f"transformer.{name}": tensor for name, tensor in state.items()},
            adapter_name=expert.value,
            load_into_transformer_2=second,
        )
    yield pipeline
    pipeline.unload_lora_weights()


def run_pipeline(pipeline, request, output_type="latent"):
    pipeline.scheduler = type(pipeline.scheduler).from_config(pipeline.scheduler.config, flow_shift=5.0)
    return pipeline(
        image=Image.fromarray(IMAGE),
        prompt=PROMPT,
        negative_prompt=NEGATIVE,
        height=HEIGHT,
        width=WIDTH,
        num_frames=FRAMES,
        num_inference_steps=request.steps,
        guidance_scale=request.guidance_high,
        guidance_scale_2=request.guidance_low,
        generator=torch.Generator().manual_seed(request.seed),
        output_type=output_type,
    ).frames[0]


def run(base, experts, request, on_step=lambda done, total: None):
    return denoise(experts, sampling_scheduler(base, "unipc", 5.0), request, on_step)


def test_with_loras_the_latents_are_bit_for_bit_the_pipelines(
    base, experts, request_of_pipeline, pipeline_with_loras
):
    latents = run(base, experts, request_of_pipeline)
    assert latents.shape == (16, 3, 4, 6)
    assert torch.equal(latents, run_pipeline(pipeline_with_loras, request_of_pipeline))


def test_with_loras_the_frames_are_bit_for_bit_the_pipelines(
    base, vae, experts, request_of_pipeline, pipeline_with_loras
):
    frames = decode_latents(vae, run(base, experts, request_of_pipeline))
    images = run_pipeline(pipeline_with_loras, request_of_pipeline, output_type="pil")
    assert np.array_equal(frames, np.stack([np.asarray(image) for image in images]))


def test_with_loras_disabled_the_latents_are_bit_for_bit_the_bare_pipelines(
    base, experts, request_of_pipeline, pipeline
):
    with ExitStack() as stack:
        for transformer in experts.transformers.values():
            stack.enter_context(lora_disabled(transformer))
        latents = run(base, experts, request_of_pipeline)
    assert torch.equal(latents, run_pipeline(pipeline, request_of_pipeline))
    assert (run(base, experts, request_of_pipeline) - latents).abs().mean() > 0.01


def test_at_half_strength_the_latents_are_the_pipelines_at_half_weight(
    base, experts, request_of_pipeline, pipeline_with_loras
):
    with ExitStack() as stack:
        for transformer in experts.transformers.values():
            stack.enter_context(lora_strength(transformer, 0.5))
        latents = run(base, experts, request_of_pipeline)
    for expert, part in (
        (Expert.HIGH, pipeline_with_loras.transformer),
        (Expert.LOW, pipeline_with_loras.transformer_2),
    ):
        part.set_adapters([expert.value], weights=[0.5])
    assert torch.allclose(latents, run_pipeline(pipeline_with_loras, request_of_pipeline), atol=1e-5)


def test_without_guidance_the_latents_are_the_pipelines_and_no_negative_is_needed(
    base, experts, request_of_pipeline, pipeline_with_loras
):
    request = replace(request_of_pipeline, guidance_high=1.0, guidance_low=1.0)
    expected = run_pipeline(pipeline_with_loras, request)
    assert torch.equal(run(base, experts, request), expected)
    assert torch.equal(run(base, experts, replace(request, negative_LD=None)), expected)


def test_bfloat16_gives_bit_for_bit_the_latents_of_the_pipeline_in_bfloat16(
    base, request_of_pipeline, pipeline
):
    experts = Experts({one: load_expert(base, one, torch.bfloat16, CPU) for one in Expert}, 0.9)
    full = {"transformer": pipeline.transformer, "transformer_2": pipeline.transformer_2}
    pipeline.register_modules(
        transformer=experts.transformer(Expert.HIGH), transformer_2=experts.transformer(Expert.LOW)
    )
    try:
        expected = run_pipeline(pipeline, request_of_pipeline)
    finally:
        pipeline.register_modules(**full)
    assert torch.equal(run(base, experts, request_of_pipeline), expected)


def straight_euler(experts, request, shift):
    """Euler over shifted levels, from the formulas alone: no sampler, no guidance helper, no padding helper."""
    text = torch.zeros(2, 1, 512, 64)
    for row, rows in zip(text, (request.prompt_LD, request.negative_LD), strict=True):
        row[0, : len(rows)] = rows
    shape = request.condition_CTHW.shape
    x = torch.randn((1, *shape), generator=torch.Generator().manual_seed(request.seed))
    mask = torch.zeros(1, 4, *shape[1:])
    mask[:, :, 0] = 1
    even = [1 - step * 0.999 / request.steps for step in range(request.steps)]
    sigmas = [shift * s / (1 + (shift - 1) * s) for s in even] + [0.0]
    for sigma, sigma_next in pairwise(sigmas):
        expert = Expert.HIGH if sigma >= 0.9 else Expert.LOW
        guidance = request.guidance_high if expert is Expert.HIGH else request.guidance_low
        inputs = torch.cat([x, mask, request.condition_CTHW[None]], dim=1)
        with torch.no_grad():
            with_prompt, without = (
                experts.transformer(expert)(
                    hidden_states=inputs,
                    timestep=torch.tensor([1000 * sigma]),
                    encoder_hidden_states=one,
                    return_dict=False,
                )[0]
                for one in text
            )
        x = x + (sigma_next - sigma) * (without + guidance * (with_prompt - without))
    return x[0]


@pytest.mark.parametrize("shift", [5.0, 3.0])
def test_euler_is_a_straight_loop_over_the_shifted_levels(base, experts, request_of_pipeline, shift):
    scheduler = sampling_scheduler(base, "euler", shift)
    latents = denoise(experts, scheduler, request_of_pipeline, lambda done, total: None)
    expected = straight_euler(experts, request_of_pipeline, shift)
    torch.testing.assert_close(latents, expected, atol=1e-4, rtol=1e-4)
    assert (latents - run(base, experts, request_of_pipeline)).abs().mean() > 1e-3
    again = denoise(experts, scheduler, request_of_pipeline, lambda done, total: None)
    assert torch.equal(again, latents)


def test_euler_follows_diffusers_own_scheduler_over_the_same_levels(base):
    ours = sampling_scheduler(base, "euler", 5.0)
    ours.set_timesteps(6)
    theirs = FlowMatchEulerDiscreteScheduler(shift=5.0)
    theirs.set_timesteps(sigmas=np.linspace(1, 0.001, 7)[:-1].tolist())
    assert torch.allclose(ours.timesteps, theirs.timesteps, atol=1e-3)
    x = y = torch.randn(1, 16, 2, 4, 4)
    for one, other in zip(ours.timesteps, theirs.timesteps, strict=True):
        velocity = torch.randn(x.shape)
        x = ours.step(velocity, one, x)[0]
        y = theirs.step(velocity, other, y, return_dict=False)[0]
        torch.testing.assert_close(x, y, atol=1e-5, rtol=1e-5)


def test_both_samplers_have_the_same_levels_and_euler_keeps_float32(base):
    unipc, euler = (sampling_scheduler(base, name, 3.0) for name in ("unipc", "euler"))
    for one in (unipc, euler):
        one.set_timesteps(9)
    # UniPC gives the model whole timesteps, and its first level is a millionth below 1.
    assert (unipc.timesteps - euler.timesteps).abs().max() <= 1.0
    assert len(euler.timesteps) == 9
    assert euler.timesteps[0] == 1000
    (latents,) = euler.step(torch.ones(2, dtype=torch.bfloat16), euler.timesteps[0], torch.zeros(2))
    assert latents.dtype == torch.float32


def test_each_step_belongs_to_the_expert_of_its_noise_level(base, experts, request_of_pipeline, monkeypatch):
    asked = []
    predict = experts.predict

    def watched(expert, noisy, condition, timesteps, text):
        asked.append((float(timesteps), expert, float(text.abs().sum())))
        return predict(expert, noisy, condition, timesteps, text)

    monkeypatch.setattr(experts, "predict", watched)
    run(base, experts, replace(request_of_pipeline, steps=20, guidance_high=3.5, guidance_low=1.0))
    high = [one for one in asked if one[0] >= 900]
    low = [one for one in asked if one[0] < 900]
    # Shift 5 puts 8 of 20 steps at or above 0.9; only they are guided, hence asked twice.
    assert len(high) == 16
    assert len(low) == 12
    assert {one[1] for one in high} == {Expert.HIGH}
    assert {one[1] for one in low} == {Expert.LOW}
    assert len({one[2] for one in high}) == 2
    assert len({one[2] for one in low}) == 1


def test_each_guidance_value_matters_to_its_expert(base, experts, request_of_pipeline):
    usual = run(base, experts, request_of_pipeline)
    for change in ({"guidance_high": 5.0}, {"guidance_low": 5.0}, {"seed": 43}, {"steps": 6}):
        assert not torch.equal(run(base, experts, replace(request_of_pipeline, **change)), usual)


def test_the_same_request_gives_the_same_latents_even_with_a_used_scheduler(
    base, experts, request_of_pipeline
):
    scheduler = sampling_scheduler(base, "unipc", 5.0)
    torch.manual_seed(0)
    first = denoise(experts, scheduler, request_of_pipeline, lambda done, total: None)
    torch.manual_seed(1)
    second = denoise(experts, scheduler, request_of_pipeline, lambda done, total: None)
    assert torch.equal(first, second)
    assert not first.requires_grad


def test_progress_is_told_after_each_step(base, experts, request_of_pipeline):
    told = []
    run(base, experts, request_of_pipeline, lambda done, total: told.append((done, total)))
    assert told == [(step, STEPS) for step in range(1, STEPS + 1)]


def test_a_callback_that_raises_cancels_and_the_next_run_is_untouched(base, experts, request_of_pipeline):
    scheduler = sampling_scheduler(base, "unipc", 5.0)

    def cancel(done, total):
        if done == 3:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        denoise(experts, scheduler, request_of_pipeline, cancel)
    assert torch.is_grad_enabled()
    again = denoise(experts, scheduler, request_of_pipeline, lambda done, total: None)
    assert torch.equal(again, run(base, experts, request_of_pipeline))


def test_a_missing_expert_is_named(base, experts, request_of_pipeline):
    only_high = Experts({Expert.HIGH: experts.transformer(Expert.HIGH)}, 0.9)
    with pytest.raises(ExpertNotLoadedError, match="low-noise"):
        run(base, only_high, request_of_pipeline)


@pytest.mark.parametrize(
    ("change", "problem"),
    [({"steps": 0}, "0 steps"), ({"negative_LD": None}, "negative prompt")],
)
def test_requests_that_make_no_sense_are_refused(request_of_pipeline, change, problem):
    with pytest.raises(ValueError, match=problem):
        replace(request_of_pipeline, **change)


def test_the_first_noise_is_standard_and_depends_on_seed_and_size_only():
    small, large = torch.zeros(16, 3, 4, 6), torch.ones(16, 5, 16, 16)
    noise = first_noise(large, 7)
    assert noise.shape == (1, 16, 5, 16, 16)
    assert noise.mean().abs() < 0.03
    assert noise.std() == pytest.approx(1, abs=0.02)
    assert torch.equal(noise, first_noise(torch.zeros_like(large), 7))
    assert not torch.equal(first_noise(small, 7), first_noise(small, 8))
