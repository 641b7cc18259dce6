"""The miniature that the trainer's tests share: the real classes in small, built once a session."""

from pathlib import Path

import pytest
import torch

from trainer.model.miniature import build_miniature

torch.set_num_threads(1)


@pytest.fixture(scope="session")
def miniature_folder(tmp_path_factory) -> Path:
    """A miniature with random weights in the diffusers layout; only ever read it."""
    return build_miniature(tmp_path_factory.mktemp("base") / "miniature")
