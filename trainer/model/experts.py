"""The experts in use: which one a timestep belongs to, and what it predicts."""

# B batch, C channels, T latent frames, H/W latent height and width, L text rows, D text width

from collections.abc import Callable, Mapping
from contextlib import AbstractContextManager, nullcontext

import torch
from diffusers.models.transformers.transformer_wan import WanTransformer3DModel
from torch import Tensor

from trainer.errors import TrainerError
from trainer.model.image_condition import expert_input
from trainer.protocol.job import Expert

TIMESTEPS = 1000
"""Timesteps are noise levels times this: 0 is clean, 1000 pure noise."""


class ExpertNotLoadedError(TrainerError):
    """A prediction is wanted of an expert that this run did not load."""

    kind = "expert_not_loaded"

    def __init__(self, expert: Expert) -> None:
        super().__init__(
            f"The {expert.value.replace('_', '-')} expert is needed but was not loaded.",
            "Previews need both experts: load both, or turn previews off.",
        )


class Experts:
    """One or two transformers on one device, in one number type.

    Attributes:
        transformers: By expert.
        boundary: Noise level (0..1) from which on the high-noise expert is in charge.
    """

    def __init__(
        self,
        transformers: Mapping[Expert, WanTransformer3DModel],
        boundary: float,
        *,
        gradient_checkpointing: bool = False,
        vacated: Callable[[], AbstractContextManager[None]] = nullcontext,
    ) -> None:
        """Take the transformers as they are.

        Args:
            transformers: Frozen, with or without LoRA; at least one.
            boundary: 0..1.
            gradient_checkpointing: Keep no activations inside the blocks for the backward pass, but
                compute them again: about a third slower, a fraction of the memory, equal gradients.
            vacated: Context in which GPU memory that the experts can do without is free for something else;
                nothing may be predicted inside.
        """
        self.transformers = dict(transformers)
        self.boundary = boundary
        self.vacated = vacated
        for transformer in self.transformers.values():
            if gradient_checkpointing:
                transformer.enable_gradient_checkpointing()
            else:
                transformer.disable_gradient_checkpointing()

    def expert_for(self, timestep: float) -> Expert:
        """The expert in charge of the timestep (0..1000); the boundary itself is the high-noise expert's."""
        return Expert.HIGH if timestep >= self.boundary * TIMESTEPS else Expert.LOW

    def transformer(self, expert: Expert) -> WanTransformer3DModel:
        """The expert's transformer.

        Raises:
            ExpertNotLoadedError: this run did not load it.
        """
        try:
            return self.transformers[expert]
        except KeyError:
            raise ExpertNotLoadedError(expert) from None

    @property
    def device(self) -> torch.device:
        """Where the experts compute."""
        return self._any_weight.device

    @property
    def dtype(self) -> torch.dtype:
        """Number type that the experts take and give; their LoRA and norms keep float32."""
        return self._any_weight.dtype

    @property
    def _any_weight(self) -> Tensor:
        return next(iter(self.transformers.values())).patch_embedding.weight

    def predict(
        self,
        expert: Expert,
        noisy_BCTHW: Tensor,
        condition_BCTHW: Tensor,
        timesteps_B: Tensor,
        text_BLD: Tensor,
    ) -> Tensor:
        """The velocity (noise minus clean) that the expert sees in noisy latents.

        Inputs may be on any device in any float type; they are joined as given and then cast.

        Args:
            expert: Which of the two.
            noisy_BCTHW: (1 - s) clean + s noise, 16 channels.
            condition_BCTHW: Latents of the first frame and grey, 16 channels.
            timesteps_B: Noise levels s of the items, times 1000.
            text_BLD: Rows of the prompts, padded to 512.

        Returns:
            16 channels, in the experts' number type, on their device.

        Raises:
            ExpertNotLoadedError: this run did not load it.
        """
        transformer = self.transformer(expert)
        noisy_BCTHW = noisy_BCTHW.to(self.device)
        return transformer(
            hidden_states=expert_input(noisy_BCTHW, condition_BCTHW.to(noisy_BCTHW)).to(self.dtype),
            timestep=timesteps_B.to(self.device),
            encoder_hidden_states=text_BLD.to(self.device, self.dtype),
            return_dict=False,
        )[0]
