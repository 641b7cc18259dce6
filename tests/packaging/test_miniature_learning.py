"""The shortcuts that make the miniature's training affordable change nothing in what is computed."""

import sys
from pathlib import Path

import numpy as np
import pytest
import torch

SCRIPTS = Path(__file__).resolve().parents[2] / "packaging"
CONFIG_SIZES = {"heads": 1, "head_dim": 64, "layers": 2, "ffn_dim": 64, "vae_dim": 8}


@pytest.fixture(scope="module", autouse=True)
def one_thread():
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(threads)


@pytest.fixture(scope="module")
def learning():
    sys.path.insert(0, str(SCRIPTS))
    import miniature_learning

    yield miniature_learning
    sys.path.remove(str(SCRIPTS))


@pytest.fixture(scope="module")
def config():
    from trainer.model.miniature import MiniatureConfig

    return MiniatureConfig(**CONFIG_SIZES, vae_multipliers=(1, 2, 2), vae_patch=2)


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


def test_text_with_short_padding_gives_the_experts_the_same_answer(learning, config):
    from trainer.model.miniature import build_expert, build_text_encoder, build_tokenizer

    torch.manual_seed(1)
    expert, tokenizer = build_expert(config), build_tokenizer()
    text = build_text_encoder(config, len(tokenizer)).eval()
    rows = learning.encode_prompts(tokenizer, text, ["orbit ohwx, a red sphere", ""])
    assert rows.shape[1] < 60
    assert not rows[:, -1].any()
    latents, moment = torch.randn(2, 36, 2, 4, 4), torch.tensor([950.0, 200.0])
    with torch.no_grad():
        whole = expert(latents, moment, learning.padded(rows), return_dict=False)[0]
        naive = expert(latents, moment, rows, return_dict=False)[0]
        learning.use_short_text(expert)
        short = expert(latents, moment, rows, return_dict=False)[0]
    assert learning.padded(rows).shape[1] == 512
    assert torch.allclose(short, whole, atol=2e-5)
    # Without the correction the answer is another: the padding has weight.
    assert not torch.allclose(naive, whole, atol=1e-3)


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


def test_each_experts_times_stay_on_its_side_of_the_boundary(learning):
    high = learning.draw_times(4000, high=True, device=torch.device("cpu"))
    low = learning.draw_times(4000, high=False, device=torch.device("cpu"))
    assert 0.9 <= high.min() < 0.902 < 0.998 < high.max() <= 1.0
    assert 0.0 <= low.min() < 0.01 < 0.89 < low.max() <= 0.9


def test_captions_name_the_motion_that_a_clip_shows(learning):
    import miniature_scenes

    library = object.__new__(miniature_scenes.TrackLibrary)
    library.scenes, library.zooms = ["a red cone", "a blue cube"], [False, True]
    generator = np.random.default_rng(0)

    def caption(**cut: object) -> str:
        return library.caption(miniature_scenes.ClipPlan(offset=0, **cut), generator)

    assert caption(track=0, direction=1, mirrored=False) == "turntable right, a red cone"
    assert caption(track=0, direction=1, mirrored=True) == "turntable left, a red cone"
    assert caption(track=0, direction=-1, mirrored=True) == "turntable right, a red cone"
    assert caption(track=1, direction=-1, mirrored=True) == "zoom out, a blue cube"
    still = {caption(track=0, direction=0, mirrored=False) for _ in range(200)}
    assert "" in still
    assert not any("turntable" in text or "zoom" in text for text in still)
