"""A run does not care in which files its base came: the LoRA is the same to the bit."""

import torch
from safetensors.torch import load_file

from tests import base_layouts as layouts
from tests.jobs import small_job
from trainer.model.miniature import MiniatureConfig, build_miniature
from trainer.protocol.job import Expert
from trainer.protocol.run_folder import RunFolder, lora_file_name
from trainer.recipes.train_lora import train_lora
from trainer.runtime.control import Control
from trainer.runtime.reporter import Reporter


def trained(folder, base):
    run = RunFolder(folder / "run")
    run.path.mkdir(parents=True)
    job = small_job(folder / "data", base, training={"steps": 4}, multistage={"switch_every": 1})
    with Reporter(run) as reporter:
        train_lora(run, job, reporter, Control(run, reporter))
    return {expert: load_file(run.checkpoint(4) / lora_file_name(expert)) for expert in Expert}


def test_a_run_on_comfyui_files_makes_the_very_lora_of_one_on_the_diffusers_folder(tmp_path):
    full = build_miniature(tmp_path / "full", MiniatureConfig(heads=1, head_dim=128))
    half = layouts.rounded_base(full, tmp_path / "half", torch.float16)
    files = layouts.comfy_folder(half, tmp_path / "models")
    from_folder = trained(tmp_path / "a", half)
    from_files = trained(tmp_path / "b", files / "diffusion_models" / layouts.LOW_NAME)
    for expert, weights in from_folder.items():
        assert weights.keys() == from_files[expert].keys()
        assert all(torch.equal(weights[name], from_files[expert][name]) for name in weights)
        assert any(weights[name].any() for name in weights if "lora_B" in name or "lora_up" in name)
