"""The script that makes the miniature runs from end to end at toy size."""

import json
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]


@pytest.mark.slow
def test_a_smoke_run_writes_a_miniature_that_the_pipeline_opens(tmp_path: Path):
    command = [sys.executable, str(ROOT / "packaging/make_miniature.py"), "--smoke", "--device", "cpu"]
    subprocess.run([*command, "--out", str(tmp_path), "--minutes", "0.15"], check=True, timeout=240)
    metrics = json.loads((tmp_path / "metrics.json").read_text(encoding="utf-8"))
    assert metrics["vae_steps"] > 0
    assert metrics["measured"]["LoRA off again"] == metrics["measured"]["base, demo prompt"]
    for name in (
        "state_vae.safetensors",
        "state_experts.safetensors",
        "miniature.tar",
        "sheet.png",
        "log.txt",
    ):
        assert (tmp_path / name).stat().st_size > 0

    from diffusers import WanImageToVideoPipeline

    pipeline = WanImageToVideoPipeline.from_pretrained(tmp_path / "miniature", dtype="auto")
    assert pipeline.vae.config.latents_std != type(pipeline.vae)(base_dim=8).config.latents_std
    assert pipeline.vae.config.patch_size == 2
