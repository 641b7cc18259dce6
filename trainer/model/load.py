"""Loads the parts of a base model, frozen, each to its device in its number type."""

from collections.abc import Callable, Generator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Literal, TypeVar

import torch
from diffusers.models.autoencoders.autoencoder_kl_wan import AutoencoderKLWan
from diffusers.models.transformers.transformer_wan import WanTransformer3DModel
from diffusers.schedulers.scheduling_unipc_multistep import UniPCMultistepScheduler
from safetensors import SafetensorError, safe_open
from torch import Tensor, nn
from transformers import T5Tokenizer, UMT5EncoderModel

from trainer.model.layouts import (
    DIFFUSERS_WEIGHTS,
    EXPERT_FOLDERS,
    BaseModel,
    BaseModelError,
    check_safetensors,
    checked_weights,
    expert_config,
    weight_shapes,
)
from trainer.model.sampling import EulerSampler, Sampler
from trainer.model.text import TextEncoder
from trainer.protocol.job import Expert

__all__ = [
    "PartNotLoadedError",
    "base_weights",
    "expert_config",
    "load_expert",
    "load_text_encoder",
    "load_vae",
    "sampling_scheduler",
]

M = TypeVar("M", bound=nn.Module)


class PartNotLoadedError(BaseModelError):
    """A part's files are there, but the model cannot be made from them."""

    def __init__(self, folder: Path, problem: str) -> None:
        super().__init__(
            f"{folder} cannot be loaded: {problem}.",
            "Its files may be of another model or another version: download the folder again.",
        )


def load_expert(
    base: BaseModel, expert: Expert, dtype: torch.dtype, device: torch.device
) -> WanTransformer3DModel:
    """Load one expert, frozen.

    Weights go to the device one by one, so that the CPU never holds the whole expert.

    Args:
        base: From `open_base`.
        expert: Which of the two.
        dtype: Of the weights, whatever the files have. As the model wants it, norms, modulation
            tables and the time embedding stay in float32.
        device: Where the expert will compute.

    Raises:
        BaseModelError: the files do not make this model.
    """
    folder = base.folder / EXPERT_FOLDERS[expert]
    _check_weights(WanTransformer3DModel, folder)
    return _load_frozen(WanTransformer3DModel, folder, dtype, device)


def base_weights(base: BaseModel, expert: Expert) -> Callable[[str], Tensor]:
    """A reader of an expert's weights from disk, one at a time, by the path of their layer.

    Raises:
        BaseModelError: the files are missing or damaged; the reader raises it too.
    """
    folder = base.folder / EXPERT_FOLDERS[expert]
    file_of = {
        name: file for file in checked_weights(folder, DIFFUSERS_WEIGHTS) for name in check_safetensors(file)
    }

    def weight_of(path: str) -> Tensor:
        name = f"{path}.weight"
        with _loading(folder), safe_open(file_of[name], framework="pt") as file:
            return file.get_tensor(name)

    return weight_of


def load_vae(base: BaseModel, device: torch.device) -> AutoencoderKLWan:
    """Load the VAE, frozen, in float32: it is small, and its errors would stay in every cached latent.

    Raises:
        BaseModelError: the files do not make this model.
    """
    folder = base.folder / "vae"
    _check_weights(AutoencoderKLWan, folder)
    return _load_frozen(AutoencoderKLWan, folder, torch.float32, device)


def load_text_encoder(base: BaseModel, dtype: torch.dtype, device: torch.device) -> TextEncoder:
    """Load the tokenizer and the text encoder, frozen.

    Raises:
        BaseModelError: the files do not make them.
    """
    with _loading(base.folder / "tokenizer"):
        tokenizer = T5Tokenizer.from_pretrained(base.folder / "tokenizer", local_files_only=True)
    return TextEncoder(tokenizer, _load_frozen(UMT5EncoderModel, base.folder / "text_encoder", dtype, device))


def sampling_scheduler(base: BaseModel, sampler: Literal["unipc", "euler"], shift: float) -> Sampler:
    """The sampler over flow noise levels; both have the same levels for the same steps and shift.

    Args:
        base: Gives UniPC's settings that are not fixed here.
        sampler: UniPC, which Wan uses, or Euler.
        shift: Flow shift, above 0; larger ones spend more steps at high noise.

    Raises:
        BaseModelError: the scheduler's config cannot be read.
    """
    if sampler == "euler":
        return EulerSampler(shift)
    folder = base.folder / "scheduler"
    with _loading(folder):
        config: Any = UniPCMultistepScheduler.load_config(folder, local_files_only=True)
        scheduler = UniPCMultistepScheduler.from_config(
            # Named even if the config has them: folders whose scheduler is of another class lack them.
            config,
            prediction_type="flow_prediction",
            use_flow_sigmas=True,
            use_dynamic_shifting=False,
            flow_shift=shift,
        )
    if not isinstance(scheduler, UniPCMultistepScheduler):
        raise PartNotLoadedError(folder, "its config makes no scheduler")
    return scheduler


@contextmanager
def _loading(folder: Path) -> Generator[None]:
    """Tell which folder a library's error is about, and keep the global generator as it was.

    Models draw random weights when they are made, even those that loading overwrites.
    """
    try:
        with torch.random.fork_rng(devices=[]):
            yield
    except torch.OutOfMemoryError:
        raise
    except (OSError, ValueError, KeyError, TypeError, RuntimeError, SafetensorError) as error:
        problem = str(error).strip().splitlines() or [type(error).__name__]
        raise PartNotLoadedError(folder, problem[0].rstrip(".")) from error


def _check_weights(kind: type[nn.Module], folder: Path) -> None:
    """Compare the files' headers with the model that the config describes.

    Beforehand, because diffusers gives missing weights random values or none, depending on how it loads.
    """
    loader: Any = kind
    with _loading(folder), torch.device("meta"):
        wanted = loader.from_config(loader.load_config(folder, local_files_only=True)).state_dict()
    found = weight_shapes(folder)
    if missing := sorted(wanted.keys() - found.keys()):
        raise PartNotLoadedError(folder, f"{len(missing)} of its weights are missing, first {missing[0]}")
    for name, tensor in wanted.items():
        if found[name] != tuple(tensor.shape):
            raise PartNotLoadedError(
                folder, f"{name} has the shape {found[name]} instead of {tuple(tensor.shape)}"
            )


def _load_frozen(kind: type[M], folder: Path, dtype: torch.dtype, device: torch.device) -> M:
    loader: Any = kind
    with _loading(folder):
        model, info = loader.from_pretrained(
            folder,
            dtype=dtype,
            device_map={"": device},
            local_files_only=True,
            use_safetensors=True,
            output_loading_info=True,
        )
    if missing := sorted(info["missing_keys"]):
        raise PartNotLoadedError(folder, f"{len(missing)} of its weights are missing, first {missing[0]}")
    return model.requires_grad_(requires_grad=False)
