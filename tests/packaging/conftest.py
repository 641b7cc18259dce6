"""Packaging's files import each other as a script's neighbours do."""

import sys
from pathlib import Path

import pytest

PACKAGING = Path(__file__).resolve().parents[2] / "packaging"


@pytest.fixture(autouse=True, scope="session")
def packaging_on_path():
    sys.path.insert(0, str(PACKAGING))
    yield
    sys.path.remove(str(PACKAGING))


@pytest.fixture(scope="module")
def one_thread():
    import torch

    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(threads)


@pytest.fixture(scope="module")
def config():
    """The smallest miniature that can learn."""
    from trainer.model.miniature import MiniatureConfig

    return MiniatureConfig(
        heads=1, head_dim=64, layers=2, ffn_dim=64, vae_dim=8, vae_multipliers=(1, 2, 2), vae_patch=2
    )
