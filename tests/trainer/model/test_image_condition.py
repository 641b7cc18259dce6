import pytest
import torch

from trainer.model.image_condition import condition_mask, expert_input


def mask_by_pixel_frames(frames, height, width):
    """Independent: mark each pixel frame, repeat the first four times, fold by four."""
    marks = [1.0] * 4 + [0.0] * (frames - 1)
    rows = [marks[start : start + 4] for start in range(0, len(marks), 4)]
    return torch.tensor(rows).T[:, :, None, None].expand(4, len(rows), height, width)


@pytest.mark.parametrize("frames", [1, 5, 9, 81])
def test_the_mask_gives_the_first_latent_frame_and_nothing_else(frames):
    mask = condition_mask((frames - 1) // 4 + 1, 3, 2)
    assert torch.equal(mask, mask_by_pixel_frames(frames, 3, 2))
    assert mask[:, 0].min() == 1


def test_the_channels_are_noisy_then_mask_then_condition():
    noisy = torch.full((2, 16, 3, 4, 4), 5.0)
    condition = torch.full((2, 16, 3, 4, 4), 7.0)
    joined = expert_input(noisy, condition)
    assert joined.shape == (2, 36, 3, 4, 4)
    assert torch.equal(joined[:, :16], noisy)
    assert torch.equal(joined[:, 16:20], mask_by_pixel_frames(9, 4, 4).expand(2, -1, -1, -1, -1))
    assert torch.equal(joined[:, 20:], condition)


def test_the_mask_follows_the_number_type_of_the_latents():
    latents = torch.zeros(1, 16, 1, 2, 2, dtype=torch.bfloat16)
    assert expert_input(latents, latents).dtype == torch.bfloat16


def test_latents_and_condition_of_different_lengths_are_refused():
    with pytest.raises(ValueError, match="differ"):
        expert_input(torch.zeros(1, 16, 3, 4, 4), torch.zeros(1, 16, 2, 4, 4))
