"""Flow matching: x_t = (1 - sigma) x0 + sigma noise, and the model predicts noise - x0.

Shape suffixes: B batch, C channels, T latent frames, H and W latent height and width.
"""

from torch import Tensor

from trainer.objective.timesteps import TRAINING_TIMESTEPS


def add_noise(clean_BCTHW: Tensor, noise_BCTHW: Tensor, timesteps_B: Tensor) -> Tensor:
    """The clip's latents at the given timesteps (0..1000); float32."""
    sigma = (timesteps_B.float() / TRAINING_TIMESTEPS).view(-1, 1, 1, 1, 1)
    return (1.0 - sigma) * clean_BCTHW.float() + sigma * noise_BCTHW.float()


def velocity_target(clean_BCTHW: Tensor, noise_BCTHW: Tensor) -> Tensor:
    """What the model should predict: noise - clean, float32."""
    return noise_BCTHW.float() - clean_BCTHW.float()
