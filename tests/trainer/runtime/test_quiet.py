import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[3]


@pytest.mark.slow
def test_building_and_loading_a_model_prints_nothing(tmp_path):
    program = f"""
from pathlib import Path
import torch
torch.set_num_threads(1)
from trainer.model.load import load_expert, load_text_encoder, load_vae, sampling_scheduler
from trainer.model.layouts import open_base
from trainer.model.lora import LoraSettings, add_lora
from trainer.model.miniature import build_miniature
from trainer.protocol.job import Expert

cpu = torch.device("cpu")
base = open_base(str(build_miniature(Path({str(tmp_path)!r}))))
add_lora(load_expert(base, Expert.HIGH, torch.float32, cpu), LoraSettings(rank=2), 0)
load_vae(base, cpu), load_text_encoder(base, torch.float32, cpu), sampling_scheduler(base, "unipc", 5.0)
"""
    ended = subprocess.run(
        [sys.executable, "-c", program], cwd=ROOT, capture_output=True, text=True, check=False
    )
    assert (ended.returncode, ended.stdout, ended.stderr) == (0, "", "")
