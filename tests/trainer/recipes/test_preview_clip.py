"""Previews that do not fit whole are decoded in tiles, and nothing else changes."""

from contextlib import nullcontext

import numpy as np
import pytest
import torch

from trainer.model.layouts import open_base
from trainer.model.load import load_vae
from trainer.model.vae import decode_latents, encode_clip
from trainer.recipes import preview_clip

CPU = torch.device("cpu")


@pytest.fixture(scope="module")
def base(miniature_folder):
    return open_base(str(miniature_folder))


def clip(side: int = 64) -> np.ndarray:
    ramp = np.linspace(0, 255, side, dtype=np.uint8)
    frame = np.stack(
        [np.tile(ramp, (side, 1)), np.tile(ramp[:, None], (1, side)), np.full((side, side), 90)], -1
    )
    return np.repeat(frame[None].astype(np.uint8), 5, axis=0)


def test_a_preview_that_fits_is_decoded_as_a_whole(base):
    vae = load_vae(base, CPU)
    latents = encode_clip(vae, clip()).x0_CTHW
    whole = preview_clip._decoded_whole(vae, latents)
    assert whole is not None
    assert np.array_equal(whole, decode_latents(vae, latents))


def test_where_memory_does_not_suffice_tiles_are_decoded_and_told(base, monkeypatch):
    asked: list[bool] = []
    latents = encode_clip(load_vae(base, CPU), clip()).x0_CTHW
    decode = preview_clip.decode_latents

    def short_of_memory(vae, latents_CTHW):
        asked.append(vae.use_tiling)
        if not vae.use_tiling:
            raise torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 4.00 GiB.")
        return decode(vae, latents_CTHW)

    monkeypatch.setattr(preview_clip, "decode_latents", short_of_memory)
    monkeypatch.setattr(preview_clip, "denoise", lambda *_: latents)

    class OnCpu:
        device = CPU
        vacated = nullcontext

    rendered = preview_clip.denoised_and_decoded(base, OnCpu(), None, None, None)
    assert asked == [False, True]
    assert rendered.in_tiles
    # The clip is no larger than a tile, so it is the same picture.
    assert np.array_equal(rendered.frames_FHWC, decode(load_vae(base, CPU), latents))


def test_other_errors_while_decoding_are_not_taken_for_a_lack_of_memory(base):
    with pytest.raises(RuntimeError, match="size"):
        preview_clip._decoded_whole(load_vae(base, CPU), torch.zeros(15, 2, 8, 8))


def test_a_vae_in_bfloat16_gives_nearly_the_same_latents_and_frames(base):
    exact, half = load_vae(base, CPU), load_vae(base, CPU, torch.bfloat16)
    of_exact, of_half = encode_clip(exact, clip()), encode_clip(half, clip())
    for one, other in ((of_exact.x0_CTHW, of_half.x0_CTHW), (of_exact.y_CTHW, of_half.y_CTHW)):
        assert other.dtype is torch.float32
        error = (one - other).norm() / one.norm()
        assert 0 < error < 0.03
    frames = [decode_latents(vae, of_exact.x0_CTHW).astype(int) for vae in (exact, half)]
    assert np.abs(frames[0] - frames[1]).mean() < 3
