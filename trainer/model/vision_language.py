"""A model of the Qwen-VL family, from a folder or the Hub: looked at before it is loaded, and never its own code."""

import json
import math
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import psutil
import torch
import transformers
from safetensors import SafetensorError, safe_open

from trainer.errors import TrainerError
from trainer.model.hub import cached_folder, downloaded_folder
from trainer.protocol.base_names import is_hub_name
from trainer.runtime.device import GIB, device_name

Quantization = Literal["none", "int8", "nf4"]

NEEDED = ("*.json", "*.safetensors", "*.txt")
"""Of a repository; code, pictures and pickled weights stay there."""

_CLASSES = {
    "qwen2_vl": "Qwen2VLForConditionalGeneration",
    "qwen2_5_vl": "Qwen2_5_VLForConditionalGeneration",
    "qwen3_vl": "Qwen3VLForConditionalGeneration",
}
_FAMILY = "Qwen2-VL, Qwen2.5-VL or Qwen3-VL"
_WORK_BYTES = GIB
"""Beside the weights: the frames on their way through the model, the words so far, and the libraries."""
_BYTES = {"int8": 1.0, "nf4": 0.52}
"""Of one quantized weight, with its scales."""


class CaptionModelError(TrainerError):
    """What was named is no model that can describe clips, or not all of one."""

    kind = "caption_model"

    def __init__(self, model: str, problem: str, hint: str = "") -> None:
        super().__init__(
            f"{model} cannot describe clips: {problem}.", hint or f"Choose the folder of a {_FAMILY} model."
        )


class CaptionMemoryError(TrainerError):
    """The model does not fit into memory."""

    kind = "out_of_memory"

    def __init__(self, problem: str, hint: str) -> None:
        super().__init__(problem, hint)


@dataclass(frozen=True, slots=True)
class VisionLanguageModel:
    """What it takes to describe a clip.

    Attributes:
        model: One of the family's `...ForConditionalGeneration`, in evaluation mode.
        tokenizer: Of its text.
        image_processor: Scales, normalizes and cuts up one frame at a time.
        kind: Its `model_type`, e.g. "qwen2_5_vl".
    """

    model: Any
    tokenizer: Any
    image_processor: Any
    kind: str


def model_folder(name: str, on_bytes: Callable[[int, int], object] | None = None) -> Path:
    """The folder of a model: as it was named, or from the Hub's local cache, else downloaded into it.

    Args:
        name: A folder, or a repository.
        on_bytes: Told of a download's bytes: those that are there, and all.

    Raises:
        CaptionModelError: there is no such folder.
        HubError: it could not be downloaded.
    """
    folder = Path(name).expanduser()
    if folder.is_dir():
        return folder
    if not is_hub_name(name):
        raise CaptionModelError(name, "there is no such folder")
    cached = cached_folder(name, NEEDED)
    if cached is not None and not _missing_file(cached):
        return cached
    return downloaded_folder(name, NEEDED, on_bytes)


def load_vision_language(
    folder: Path, name: str, device: torch.device, quantization: Quantization
) -> VisionLanguageModel:
    """Load the model onto the device.

    Args:
        folder: Where it lies.
        name: What the user calls it.
        device: Where it shall compute.
        quantization: Of the language model's linears; its eyes, embeddings and head stay in 16 bits.

    Raises:
        CaptionModelError: it is another kind of model, or not whole.
        CaptionMemoryError: it does not fit.
    """
    kind = checked_kind(folder, name)
    dtype = _fitting_dtype(folder, name, device, quantization)
    options: dict[str, Any] = {
        "dtype": dtype,
        "device_map": {"": device},
        "local_files_only": True,
        "use_safetensors": True,
        # The family's classes are part of transformers: nothing that came with the weights is run.
        "trust_remote_code": False,
        "attn_implementation": "sdpa",
        "output_loading_info": True,
    }
    if quantization != "none":
        options["quantization_config"] = _quantization_config(quantization, dtype)
    try:
        model, report = getattr(transformers, _CLASSES[kind]).from_pretrained(folder, **options)
        tokenizer = transformers.AutoTokenizer.from_pretrained(
            folder, local_files_only=True, trust_remote_code=False
        )
        image_processor = transformers.AutoImageProcessor.from_pretrained(
            folder, local_files_only=True, trust_remote_code=False
        )
    except torch.OutOfMemoryError as error:
        raise _too_large(name, device, None) from error
    except (OSError, ValueError, RuntimeError, ImportError, KeyError, SafetensorError) as error:
        problem = (str(error).strip().splitlines() or [type(error).__name__])[0].rstrip(".")
        raise CaptionModelError(name, f"it cannot be loaded ({problem})", _AGAIN) from error
    missing = sorted(report["missing_keys"])
    if missing:
        raise CaptionModelError(name, f"its files lack {len(missing)} weights, such as {missing[0]}", _AGAIN)
    return VisionLanguageModel(model.eval(), tokenizer, image_processor, kind)


def checked_kind(folder: Path, name: str) -> str:
    """The model's `model_type`, if it is one of the family and its files are all there.

    Raises:
        CaptionModelError: it is not.
    """
    try:
        config = json.loads((folder / "config.json").read_text("utf-8"))
        kind = config.get("model_type")
    except FileNotFoundError as error:
        raise CaptionModelError(name, "there is no config.json in it") from error
    except (OSError, ValueError, AttributeError) as error:
        raise CaptionModelError(name, "its config.json cannot be read", _AGAIN) from error
    if kind not in _CLASSES:
        raise CaptionModelError(name, f"it is a {kind or 'nameless'} model, not {_FAMILY}")
    stored = (config.get("quantization_config") or {}).get("quant_method", "")
    if stored and stored != "bitsandbytes":
        raise CaptionModelError(
            name,
            f"its weights are stored in the {stored} format, which is not read here",
            "Choose the model as it was released; it can be quantized while it is loaded.",
        )
    missing = _missing_file(folder)
    if missing:
        raise CaptionModelError(name, f"{missing} is missing", _AGAIN)
    return str(kind)


def weight_bytes(folder: Path, quantization: Quantization, bytes_each: int = 2) -> int:
    """What the weights take once they are loaded; shapes come from the files' heads, no weight is read.

    Args:
        folder: Of the model.
        quantization: Of the language model's linears.
        bytes_each: Of a weight that is not quantized.
    """
    return round(sum(size_of(one, shape, quantization, bytes_each) for one, shape in _shapes(folder)))


def size_of(weight: str, shape: tuple[int, ...], quantization: Quantization, bytes_each: int) -> float:
    """What one weight takes, in bytes."""
    is_linear = len(shape) == 2 and weight.endswith("proj.weight") and "visual" not in weight
    each = _BYTES[quantization] if quantization != "none" and is_linear else bytes_each
    return math.prod(shape) * each


_AGAIN = "Download it again, all of its files."


def _shapes(folder: Path) -> Iterator[tuple[str, tuple[int, ...]]]:
    """Name and shape of each weight."""
    for path in sorted(folder.glob("*.safetensors")):
        with safe_open(path, framework="pt") as file:
            # No mapping: it has `keys` alone.
            for weight in file.keys():  # noqa: SIM118
                yield weight, tuple(file.get_slice(weight).get_shape())


def _missing_file(folder: Path) -> str:
    """A file that the model cannot do without; empty when all are there."""
    index = folder / "model.safetensors.index.json"
    if index.is_file():
        try:
            shards = set(json.loads(index.read_text("utf-8"))["weight_map"].values())
        except (OSError, ValueError, KeyError, AttributeError):
            return "a readable model.safetensors.index.json"
        for shard in sorted(map(str, shards)):
            if not (folder / shard).is_file():
                return shard
    elif not (folder / "model.safetensors").is_file():
        return "model.safetensors"
    for needed in ("config.json", "preprocessor_config.json"):
        if not (folder / needed).is_file():
            return needed
    if not (folder / "tokenizer.json").is_file() and not (folder / "vocab.json").is_file():
        return "tokenizer.json"
    return ""


def _fitting_dtype(folder: Path, name: str, device: torch.device, quantization: Quantization) -> torch.dtype:
    """The number type to compute in, if the model then fits.

    Raises:
        CaptionMemoryError: it does not.
        CaptionModelError: a file is damaged.
    """
    try:
        needed = weight_bytes(folder, quantization) + _WORK_BYTES
        if device.type == "cuda":
            free, _ = torch.cuda.mem_get_info(device)
            if needed > free:
                raise _too_large(name, device, (needed, free))
            has_bf16 = torch.cuda.get_device_capability(device)[0] >= 8
            return torch.bfloat16 if has_bf16 else torch.float16
        free = psutil.virtual_memory().available
        if needed > free:
            raise _too_large(name, device, (needed, free))
        # Most CPUs are faster with whole numbers than with halves of them.
        whole = weight_bytes(folder, quantization, bytes_each=4) + _WORK_BYTES
        return torch.float32 if whole < 0.8 * free else torch.bfloat16
    except SafetensorError as error:
        raise CaptionModelError(name, f"a file of it is damaged ({error})", _AGAIN) from error


def _too_large(name: str, device: torch.device, sizes: tuple[int, int] | None) -> CaptionMemoryError:
    where = f"the memory of {device_name(device)}" if device.type == "cuda" else "RAM"
    told = ""
    if sizes is not None:
        told = f": it takes about {sizes[0] / GIB:.1f} GiB, and {sizes[1] / GIB:.1f} GiB are free"
    return CaptionMemoryError(
        f"{name} does not fit into {where}{told}.",
        "Choose 4 bits or 8 bits, choose a smaller model, or close what else uses that memory.",
    )


def _quantization_config(quantization: Quantization, dtype: torch.dtype) -> transformers.BitsAndBytesConfig:
    # What sees is small and suffers most; the head decides every word. By its place, and by its name alone,
    # as older versions of transformers want it.
    kept = ["model.visual", "visual", "lm_head"]
    if quantization == "int8":
        return transformers.BitsAndBytesConfig(load_in_8bit=True, llm_int8_skip_modules=kept)
    return transformers.BitsAndBytesConfig(
        load_in_4bit=True,
        bnb_4bit_quant_type="nf4",
        bnb_4bit_compute_dtype=dtype,
        bnb_4bit_use_double_quant=True,
        llm_int8_skip_modules=kept,
    )
