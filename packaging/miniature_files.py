"""The miniature's parts in training, and the files that they come from and go to."""

from __future__ import annotations

import json
import tarfile
from dataclasses import dataclass
from typing import TYPE_CHECKING

import torch
from diffusers import AutoencoderKLWan, UniPCMultistepScheduler, WanTransformer3DModel
from safetensors.torch import load_file, save_file
from transformers import T5TokenizerFast, UMT5EncoderModel

if TYPE_CHECKING:
    from pathlib import Path


@dataclass(slots=True)
class Parts:
    """The miniature in training, float32, on the device."""

    vae: AutoencoderKLWan
    high: WanTransformer3DModel
    low: WanTransformer3DModel
    tokenizer: T5TokenizerFast
    text: UMT5EncoderModel
    scheduler: UniPCMultistepScheduler

    @property
    def experts(self) -> tuple[WanTransformer3DModel, WanTransformer3DModel]:
        return self.high, self.low


def load_parts(folder: Path, device: torch.device) -> Parts:
    """Open a miniature's folder with the classes that the product uses."""
    return Parts(
        AutoencoderKLWan.from_pretrained(folder / "vae", torch_dtype=torch.float32).to(device),
        WanTransformer3DModel.from_pretrained(folder / "transformer", torch_dtype=torch.float32).to(device),
        WanTransformer3DModel.from_pretrained(folder / "transformer_2", torch_dtype=torch.float32).to(device),
        T5TokenizerFast.from_pretrained(folder / "tokenizer"),
        UMT5EncoderModel.from_pretrained(folder / "text_encoder", dtype=torch.float32).to(device).eval(),
        UniPCMultistepScheduler.from_pretrained(folder / "scheduler"),
    )


def write_state(parts: Parts, out: Path) -> None:
    """Float32 weights to go on from."""
    statistics = {
        "latents_mean": torch.tensor(parts.vae.config.latents_mean),
        "latents_std": torch.tensor(parts.vae.config.latents_std),
    }
    save_file({**on_cpu(parts.vae), **statistics}, out / "state_vae.safetensors")
    experts = {f"high.{name}": value for name, value in on_cpu(parts.high).items()}
    experts |= {f"low.{name}": value for name, value in on_cpu(parts.low).items()}
    save_file(experts, out / "state_experts.safetensors")


def on_cpu(module: torch.nn.Module) -> dict[str, torch.Tensor]:
    """The module's weights, copied."""
    return {name: value.detach().cpu().clone().contiguous() for name, value in module.state_dict().items()}


def take_up(parts: Parts, folder: Path) -> None:
    """Load what `write_state` wrote, or a miniature in the diffusers layout."""
    if (folder / "model_index.json").is_file():
        earlier = load_parts(folder, torch.device("cpu"))
        for name in ("vae", "high", "low", "text"):
            getattr(parts, name).load_state_dict(getattr(earlier, name).state_dict())
        config = earlier.vae.config
        parts.vae.register_to_config(latents_mean=config.latents_mean, latents_std=config.latents_std)
        return
    weights = load_file(folder / "state_vae.safetensors")
    parts.vae.register_to_config(
        latents_mean=[round(value, 4) for value in weights.pop("latents_mean").tolist()],
        latents_std=[round(value, 4) for value in weights.pop("latents_std").tolist()],
    )
    parts.vae.load_state_dict(weights)
    experts = load_file(folder / "state_experts.safetensors")
    for prefix, expert in (("high.", parts.high), ("low.", parts.low)):
        expert.load_state_dict(
            {name.removeprefix(prefix): value for name, value in experts.items() if name.startswith(prefix)}
        )


def forget_origin(config: Path) -> None:
    """Take out where the weights were loaded from: a folder of the machine that trained them."""
    values = json.loads(config.read_text(encoding="utf-8"))
    values.pop("_name_or_path", None)
    config.write_text(json.dumps(values, indent=2) + "\n", encoding="utf-8")


def write_miniature(parts: Parts, out: Path) -> None:
    """The shipped folder in float16, and a tar of it (a lent machine gives back few files)."""
    folder = out / "miniature"
    for name, module in (
        ("vae", parts.vae),
        ("transformer", parts.high),
        ("transformer_2", parts.low),
        ("text_encoder", parts.text),
    ):
        copy = type(module).from_pretrained(folder / name)
        copy.load_state_dict(on_cpu(module))
        if name == "vae":
            copy.register_to_config(
                latents_mean=module.config.latents_mean, latents_std=module.config.latents_std
            )
        copy.half().save_pretrained(folder / name)
        forget_origin(folder / name / "config.json")
    with tarfile.open(out / "miniature.tar", "w") as tar:
        tar.add(folder, arcname="miniature")
