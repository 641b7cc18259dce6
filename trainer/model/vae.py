"""Between pixels and normalised latents, with the Wan VAE."""

# B batch, F pixel frames, T latent frames, C channels, H/W height and width

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import torch
from diffusers.models.autoencoders.autoencoder_kl_wan import AutoencoderKLWan
from torch import Tensor

from trainer.errors import TrainerError

Frames = npt.NDArray[np.uint8]

FRAMES_PER_LATENT = 4
SIZE_MULTIPLE = 16
"""Of width and height in pixels: stride 8 of the VAE, patches of 2 of the experts."""


class ClipShapeError(TrainerError):
    """Frames that the model cannot take."""

    kind = "clip_shape"

    def __init__(self, frames: int, height: int, width: int) -> None:
        super().__init__(
            f"A clip of {frames} frames of {width} x {height} pixels cannot be encoded.",
            "Use 4n+1 frames (1, 5, 9, ...), and multiples of 16 for width and height.",
        )


@dataclass(frozen=True, slots=True)
class ClipLatents:
    """A clip as the experts see it, normalised float32 on the CPU.

    Attributes:
        x0_CTHW: Latents of the whole clip.
        y_CTHW: Latents of its first frame followed by grey, the condition.
    """

    x0_CTHW: Tensor
    y_CTHW: Tensor


def encode_clip(vae: AutoencoderKLWan, frames_FHWC: Frames) -> ClipLatents:
    """Encode a clip and its condition.

    Args:
        vae: On any device.
        frames_FHWC: RGB 0..255; 4n+1 frames, width and height multiples of 16.

    Raises:
        ClipShapeError: other numbers of frames or sizes.
    """
    frames, height, width, _ = frames_FHWC.shape
    _check_shape(frames, height, width)
    x0_CTHW = _encode_pixels(vae, _to_pixels(frames_FHWC))
    return ClipLatents(x0_CTHW, encode_condition(vae, frames_FHWC[0], frames))


def encode_condition(vae: AutoencoderKLWan, frame_HWC: Frames, num_frames: int) -> Tensor:
    """Latents (16, T, H, W) of a clip that begins with the frame and goes on in mid grey.

    The grey frames are encoded too: their latents are not zero, and they depend on the first frame.

    Args:
        vae: On any device.
        frame_HWC: RGB 0..255, width and height multiples of 16.
        num_frames: 4n+1, the first frame included.

    Raises:
        ClipShapeError: other numbers of frames or sizes.
    """
    height, width, _ = frame_HWC.shape
    _check_shape(num_frames, height, width)
    first_CFHW = _to_pixels(frame_HWC[np.newaxis])
    # Zero lies in the middle of the VAE's range of -1..1.
    grey_CFHW = first_CFHW.new_zeros(3, num_frames - 1, height, width)
    return _encode_pixels(vae, torch.cat([first_CFHW, grey_CFHW], dim=1))


@torch.no_grad()
def decode_latents(vae: AutoencoderKLWan, latents_CTHW: Tensor) -> Frames:
    """Decode normalised latents to RGB frames (F, H, W, 3) of 0..255."""
    latents_BCTHW = latents_CTHW[None].to(vae.device, torch.float32)
    mean, inverse_std = _normalisation(vae, latents_BCTHW)
    scaled_BCTHW = (latents_BCTHW / inverse_std + mean).to(vae.dtype)
    pixels_CFHW = vae.decode(scaled_BCTHW, return_dict=False)[0][0].float()
    unit_FHWC = (pixels_CFHW * 0.5 + 0.5).clamp(0, 1).permute(1, 2, 3, 0).float().cpu().numpy()
    return (unit_FHWC * 255).round().astype(np.uint8)


@torch.no_grad()
def _encode_pixels(vae: AutoencoderKLWan, pixels_CFHW: Tensor) -> Tensor:
    """Normalised mean of the posterior; a draw from it would differ from what inference sees."""
    pixels_BCFHW = pixels_CFHW[None].to(vae.device, vae.dtype)
    latents_BCTHW = vae.encode(pixels_BCFHW, return_dict=False)[0].mode().float()
    mean, inverse_std = _normalisation(vae, latents_BCTHW)
    return ((latents_BCTHW - mean) * inverse_std)[0].float().cpu()


def _normalisation(vae: AutoencoderKLWan, like_BCTHW: Tensor) -> tuple[Tensor, Tensor]:
    """The channels' mean and 1 / standard deviation, as factors, so that rounding equals the pipeline's."""
    mean = torch.tensor(vae.config["latents_mean"]).view(1, -1, 1, 1, 1).to(like_BCTHW)
    std = torch.tensor(vae.config["latents_std"]).view(1, -1, 1, 1, 1).to(like_BCTHW)
    return mean, 1.0 / std


def _to_pixels(frames_FHWC: Frames) -> Tensor:
    """RGB 0..255 to float32 (3, F, H, W) of -1..1."""
    unit_FHWC = torch.from_numpy(frames_FHWC.astype(np.float32) / 255.0)
    return (2.0 * unit_FHWC - 1.0).permute(3, 0, 1, 2).contiguous()


def _check_shape(frames: int, height: int, width: int) -> None:
    whole = frames >= 1 and (frames - 1) % FRAMES_PER_LATENT == 0
    if not whole or height < 1 or width < 1 or height % SIZE_MULTIPLE or width % SIZE_MULTIPLE:
        raise ClipShapeError(frames, height, width)
