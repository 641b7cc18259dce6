import numpy as np
import pytest
import torch
from PIL import Image

from trainer.model.image_condition import expert_input
from trainer.model.layouts import open_base
from trainer.model.load import load_vae
from trainer.model.vae import ClipShapeError, decode_latents, encode_clip, encode_condition

MEAN = [-0.7571, -0.7089, -0.9113, 0.1075, -0.1745, 0.9653, -0.1517, 1.5508]
MEAN += [0.4134, -0.0715, 0.5517, -0.3632, -0.1922, -0.9497, 0.2503, -0.2921]
STD = [2.8184, 1.4541, 2.3275, 2.6558, 1.2196, 1.7708, 2.6052, 2.0743]
STD += [3.2687, 2.1526, 2.8652, 1.5579, 1.6382, 1.1253, 2.8251, 1.9160]


@pytest.fixture(scope="module")
def vae(miniature_folder):
    return load_vae(open_base(str(miniature_folder)), torch.device("cpu"))


def some_frames(count, height=32, width=48, seed=0):
    generator = np.random.default_rng(seed)
    return generator.integers(0, 256, (count, height, width, 3), dtype=np.uint8)


def latents_by_hand(vae, pixels_FHWC):
    """Independent: float64 pixels, half of the encoder's channels, one channel at a time."""
    pixels = torch.tensor(pixels_FHWC, dtype=torch.float32).permute(3, 0, 1, 2)[None]
    with torch.no_grad():
        moments = vae.encode(pixels).latent_dist.parameters[0]
    return torch.stack([(moments[channel] - MEAN[channel]) / STD[channel] for channel in range(16)])


def test_a_clip_becomes_the_normalised_mean_of_its_posterior(vae):
    frames = some_frames(9)
    latents = encode_clip(vae, frames)
    assert latents.x0_CTHW.shape == (16, 3, 4, 6)
    assert latents.x0_CTHW.dtype == torch.float32
    expected = latents_by_hand(vae, frames.astype(np.float64) / 127.5 - 1)
    assert torch.allclose(latents.x0_CTHW, expected, atol=1e-5)


def test_the_condition_is_the_first_frame_followed_by_encoded_grey(vae):
    frames = some_frames(9)
    pixels = np.zeros((9, 32, 48, 3))
    pixels[0] = frames[0].astype(np.float64) / 127.5 - 1
    condition = encode_clip(vae, frames).y_CTHW
    assert torch.allclose(condition, latents_by_hand(vae, pixels), atol=1e-5)
    assert torch.equal(condition, encode_condition(vae, frames[0], 9))


def test_the_condition_is_not_the_first_frames_latent_followed_by_zeros(vae):
    condition = encode_condition(vae, some_frames(1)[0], 9)
    assert condition[:, 1:].abs().mean() > 0.05


def test_an_image_is_its_own_condition(vae):
    latents = encode_clip(vae, some_frames(1))
    assert latents.x0_CTHW.shape == (16, 1, 4, 6)
    assert torch.equal(latents.x0_CTHW, latents.y_CTHW)


@pytest.mark.parametrize("num_frames", [1, 5, 13])
def test_mask_and_condition_are_bit_for_bit_those_of_the_diffusers_pipeline(vae, pipeline, num_frames):
    frame = some_frames(1, 48, 32, seed=num_frames)[0]
    image = pipeline.video_processor.preprocess(Image.fromarray(frame), height=48, width=32)
    generator = torch.Generator().manual_seed(3)
    noise, condition = pipeline.prepare_latents(
        image, 1, 16, 48, 32, num_frames, torch.float32, torch.device("cpu"), generator
    )
    joined = expert_input(noise, encode_condition(vae, frame, num_frames)[None])
    assert torch.equal(joined, torch.cat([noise, condition], dim=1))


def test_decoding_gives_bit_for_bit_the_frames_of_the_diffusers_pipeline(vae, pipeline):
    latents = torch.randn(16, 3, 4, 6, generator=torch.Generator().manual_seed(1))
    frames = decode_latents(vae, latents)
    assert frames.shape == (9, 32, 48, 3)
    assert frames.dtype == np.uint8
    mean, std = torch.tensor(MEAN).view(1, 16, 1, 1, 1), torch.tensor(STD).view(1, 16, 1, 1, 1)
    with torch.no_grad():
        decoded = vae.decode(latents[None] / (1.0 / std) + mean).sample
    images = pipeline.video_processor.postprocess_video(decoded, output_type="pil")[0]
    assert np.array_equal(frames, np.stack([np.asarray(image) for image in images]))
    assert frames.std() > 1


def test_encoding_twice_gives_the_same_and_needs_no_gradients(vae):
    frames = some_frames(5)
    first, second = encode_clip(vae, frames), encode_clip(vae, frames)
    assert torch.equal(first.x0_CTHW, second.x0_CTHW)
    assert not first.x0_CTHW.requires_grad
    assert not first.x0_CTHW.is_inference()


@pytest.mark.parametrize(
    ("count", "height", "width"), [(4, 32, 32), (2, 32, 32), (5, 24, 32), (5, 32, 40), (0, 32, 32)]
)
def test_frames_that_the_model_cannot_take_are_refused_in_words(vae, count, height, width):
    with pytest.raises(ClipShapeError, match=f"{count} frames of {width} x {height}"):
        encode_clip(vae, np.zeros((count, height, width, 3), dtype=np.uint8))
