"""The miniature that the trainer's tests share: the real classes in small, built once a session."""

from pathlib import Path

import pytest
import torch

torch.set_num_threads(1)


@pytest.fixture(scope="session")
def miniature_folder(tmp_path_factory) -> Path:
    """A miniature with random weights in the diffusers layout; only ever read it."""
    # Imported here: diffusers takes seconds, and most of the trainer's tests do without.
    from trainer.model.miniature import build_miniature

    return build_miniature(tmp_path_factory.mktemp("base") / "miniature")
