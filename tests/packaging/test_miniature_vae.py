"""The VAE's shortcuts change nothing in what is computed, and an inflated VAE treats clips as frames."""

import pytest
import torch

pytestmark = pytest.mark.usefixtures("one_thread")


@pytest.fixture(scope="module")
def learning():
    import miniature_vae

    return miniature_vae


@pytest.fixture
def vae(config):
    from trainer.model.miniature import build_vae

    torch.manual_seed(0)
    return build_vae(config)


def test_a_folded_vae_keeps_the_strides_of_the_real_one(vae):
    clip = torch.rand(1, 3, 17, 64, 32) * 2 - 1
    with torch.no_grad():
        latents = vae.encode(clip).latent_dist.mean
        assert latents.shape == (1, 16, 5, 8, 4)
        assert vae.decode(latents).sample.shape == clip.shape


def test_single_frames_convolved_flat_are_the_same_frames(learning, vae, monkeypatch):
    from diffusers.models.autoencoders.autoencoder_kl_wan import WanCausalConv3d

    monkeypatch.setattr(WanCausalConv3d, "forward", WanCausalConv3d.forward)
    frame, clip = torch.rand(2, 3, 1, 32, 32) * 2 - 1, torch.rand(1, 3, 9, 32, 32) * 2 - 1
    with torch.no_grad():
        expected = [vae.decode(vae.encode(pixels).latent_dist.mean).sample for pixels in (frame, clip)]
        learning.convolve_frames_in_two_dimensions()
        found = [vae.decode(vae.encode(pixels).latent_dist.mean).sample for pixels in (frame, clip)]
    for one, other in zip(expected, found, strict=True):
        assert torch.allclose(one, other, atol=1e-4)


def test_an_inflated_vae_restores_each_frame_of_a_still_clip_as_the_frame_alone(learning, vae):
    learning.inflate(vae)
    frame = torch.rand(1, 3, 1, 32, 32) * 2 - 1
    with torch.no_grad():
        alone = vae.decode(vae.encode(frame).latent_dist.mean).sample
        clip = vae.decode(vae.encode(frame.expand(-1, -1, 9, -1, -1)).latent_dist.mean).sample
    for index in range(9):
        assert torch.allclose(clip[:, :, index], alone[:, :, 0], atol=1e-4)


def test_an_inflated_vae_shows_the_third_of_four_moving_frames(learning, vae):
    learning.inflate(vae)
    clip = torch.rand(1, 3, 9, 32, 32) * 2 - 1
    with torch.no_grad():
        restored = vae.decode(vae.encode(clip).latent_dist.mean).sample
        alone = vae.decode(vae.encode(clip[:, :, 7:8]).latent_dist.mean).sample
    for index in range(5, 9):
        assert torch.allclose(restored[:, :, index], alone[:, :, 0], atol=1e-4)
