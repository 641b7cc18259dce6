"""The reference that the model's tests compare with: diffusers' own pipeline on the same weights."""

import pytest
import torch
from diffusers.pipelines.wan.pipeline_wan_i2v import WanImageToVideoPipeline


@pytest.fixture(scope="session")
def pipeline(miniature_folder):
    """`WanImageToVideoPipeline` in float32; whoever loads LoRAs into it takes them out again."""
    pipeline = WanImageToVideoPipeline.from_pretrained(miniature_folder, dtype=torch.float32)
    pipeline.set_progress_bar_config(disable=True)
    return pipeline
