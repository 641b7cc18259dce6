"""LoRA files: written for ComfyUI, diffusers or kohya's tools, and read back from any of them.

Inside the trainer a LoRA is a mapping from ``<module path>.lora_A.weight`` and ``.lora_B.weight``
(the paths of diffusers) to float32 tensors.
"""

# R rank, I input width, O output width: A is (R, I), B is (O, R); the change of a weight is B @ A.

import json
import math
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save
from torch import Tensor

from trainer.errors import TrainerError
from trainer.output.lora_metadata import LoraMetadata, parse_metadata
from trainer.output.lora_names import (
    UnknownLayerError,
    diffusers_name,
    is_module_path,
    kohya_name,
    original_name,
)
from trainer.protocol.wire import write_atomic

__all__ = [
    "LoraFile",
    "LoraFileError",
    "LoraFileSpec",
    "LoraFormat",
    "diffusers_name",
    "kohya_name",
    "original_name",
    "read_lora_file",
    "write_lora_file",
]

LoraFormat = Literal["original", "diffusers", "kohya"]
LoraDtype = Literal["bf16", "fp16", "fp32"]

_DTYPES: dict[LoraDtype, torch.dtype] = {"bf16": torch.bfloat16, "fp16": torch.float16, "fp32": torch.float32}
_DTYPE_NAMES: dict[torch.dtype, LoraDtype] = {dtype: name for name, dtype in _DTYPES.items()}
_HALVES = {
    ".lora_A.weight": "lora_A",
    ".lora_B.weight": "lora_B",
    ".lora_down.weight": "lora_A",
    ".lora_up.weight": "lora_B",
    ".lora.down.weight": "lora_A",
    ".lora.up.weight": "lora_B",
}
_ALPHA = ".alpha"
_SHOWN_KEYS = 5


class LoraFileError(TrainerError):
    """A LoRA file that is not what it should be; names the file and the first wrong keys."""

    kind = "lora_file"

    def __init__(self, path: Path, problem: str, keys: list[str] | None = None, hint: str = "") -> None:
        shown = ", ".join((keys or [])[:_SHOWN_KEYS])
        more = f" and {len(keys) - _SHOWN_KEYS} more" if keys and len(keys) > _SHOWN_KEYS else ""
        super().__init__(f"{path}: {problem}{': ' if shown else ''}{shown}{more}.", hint)
        self.path = path
        self.keys = keys or []


@dataclass(frozen=True, slots=True)
class LoraFileSpec:
    """How a LoRA is written.

    Attributes:
        dtype: Number type of the file.
        rank: Rank of the LoRA.
        alpha: Its alpha; the LoRA acts with alpha / rank.
        format: Whose names; "original" is what ComfyUI reads.
        metadata: What the file says about itself; None says only what every file says.
    """

    dtype: LoraDtype
    rank: int
    alpha: float
    format: LoraFormat = "original"
    metadata: LoraMetadata | None = None


@dataclass(frozen=True, slots=True)
class LoraFile:
    """What was read.

    Attributes:
        state: float32 tensors by diffusers module path and half, e.g. ``blocks.0.attn1.to_q.lora_A.weight``;
            any alpha is folded in, so that the scale is 1.
        strings: The metadata as it stands in the file.
        metadata: The same understood; None when another program wrote it.
        format: Whose names it has.
        dtype: Number type of the file.
    """

    state: dict[str, Tensor]
    strings: dict[str, str]
    metadata: LoraMetadata | None
    format: LoraFormat
    dtype: LoraDtype


def write_lora_file(path: Path, state: Mapping[str, Tensor], spec: LoraFileSpec) -> None:
    """Write a LoRA atomically; equal input gives equal bytes.

    The original and diffusers names carry no alpha: readers of them take a scale of 1. So
    alpha / rank goes into the weights, its square root into each half: all of it in one half would
    push small scales towards the end of what 16 bits hold, and the halves' sizes apart. kohya's
    names carry ``.alpha``, and the weights stay as trained.

    Args:
        path: File to make or replace; its folder exists.
        state: By diffusers module path, ``.lora_A.weight`` and ``.lora_B.weight`` of each.
        spec: How.

    Raises:
        LoraFileError: a key has no name in the format, or a value is not finite in the number type.
        OSError: the file cannot be written.
    """
    folds = spec.format != "kohya"
    factor = math.sqrt(spec.alpha / spec.rank) if folds else 1.0
    dtype = _DTYPES[spec.dtype]
    tensors: dict[str, Tensor] = {}
    not_finite: list[str] = []
    for key, tensor in state.items():
        module_path, half = _split_state_key(path, key)
        value = (tensor.detach().to("cpu", torch.float32) * factor).to(dtype).contiguous()
        name = _file_key(module_path, half, spec.format)
        if not bool(torch.isfinite(value).all()):
            not_finite.append(name)
        tensors[name] = value
        if not folds:
            tensors[kohya_name(module_path) + _ALPHA] = torch.tensor(spec.alpha, dtype=torch.float32)
    if not_finite:
        raise LoraFileError(
            path,
            f"values that are infinite or no numbers in {spec.dtype}",
            not_finite,
            "The training has diverged: use an earlier checkpoint and a lower learning rate.",
        )
    alpha_in_file = float(spec.rank) if folds else spec.alpha
    strings = spec.metadata.to_strings(alpha_in_file) if spec.metadata else {"format": "pt"}
    write_atomic(path, _with_metadata(save(tensors), strings))


def read_lora_file(path: Path) -> LoraFile:
    """Read a LoRA of any of the three formats.

    Raises:
        LoraFileError: missing, damaged, or with keys that belong to no layer that can be trained.
    """
    try:
        with safe_open(path, framework="pt") as file:
            strings = dict(file.metadata() or {})
            tensors = {key: file.get_tensor(key) for key in file.keys()}  # noqa: SIM118
    except (OSError, SafetensorError) as error:
        problem = "is not there" if isinstance(error, FileNotFoundError) else f"cannot be read ({error})"
        raise LoraFileError(path, problem) from error
    wrong: list[str] = []
    alphas: dict[str, float] = {}
    raw: dict[str, Tensor] = {}
    for key, tensor in tensors.items():
        try:
            module_path, half = parse_key(key)
        except UnknownLayerError:
            wrong.append(key)
            continue
        if half == "alpha":
            alphas[module_path] = float(tensor.flatten()[0]) if tensor.numel() == 1 else math.nan
            if not 0 <= alphas[module_path] < math.inf:
                wrong.append(key)
        else:
            raw[f"{module_path}.{half}.weight"] = tensor
    if wrong or not raw:
        problem = "wrong keys or values, or no trained layer of this model" if wrong else "holds no LoRA"
        raise LoraFileError(path, problem, wrong)
    state = {
        key: tensor.to(torch.float32) * _scale_of(raw, alphas, _split_state_key(path, key)[0])
        for key, tensor in raw.items()
    }
    first = next(iter(raw.values()))
    return LoraFile(
        state, strings, parse_metadata(strings), _format_of(tensors), _DTYPE_NAMES.get(first.dtype, "fp32")
    )


def parse_key(key: str) -> tuple[str, str]:
    """Split a file's key into diffusers module path and "lora_A", "lora_B" or "alpha".

    Raises:
        UnknownLayerError: it is in none of the three formats, or no trained layer.
    """
    for suffix, half in (*_HALVES.items(), (_ALPHA, "alpha")):
        if key.endswith(suffix):
            name = key.removesuffix(suffix)
            if name.startswith("transformer."):
                name = name.removeprefix("transformer.")
                if not is_module_path(name):
                    raise UnknownLayerError(key)
                return name, half
            if name.startswith("diffusion_model."):
                return diffusers_name(name.removeprefix("diffusion_model.")), half
            if name.startswith("lora_unet_"):
                return diffusers_name(name), half
            break
    raise UnknownLayerError(key)


def _split_state_key(path: Path, key: str) -> tuple[str, str]:
    for half in ("lora_A", "lora_B"):
        module_path = key.removesuffix(f".{half}.weight")
        if module_path != key and is_module_path(module_path):
            return module_path, half
    raise LoraFileError(path, "weights that belong to no trained layer", [key])


def _file_key(module_path: str, half: str, file_format: LoraFormat) -> str:
    match file_format:
        case "original":
            return f"diffusion_model.{original_name(module_path)}.{half}.weight"
        case "diffusers":
            return f"transformer.{module_path}.{half}.weight"
        case "kohya":
            direction = "lora_down" if half == "lora_A" else "lora_up"
            return f"{kohya_name(module_path)}.{direction}.weight"


def _format_of(tensors: Mapping[str, Tensor]) -> LoraFormat:
    first = next(iter(tensors))
    if first.startswith("lora_unet_"):
        return "kohya"
    return "diffusers" if first.startswith("transformer.") else "original"


def _scale_of(raw: Mapping[str, Tensor], alphas: Mapping[str, float], module_path: str) -> float:
    """What each half of a module is multiplied with so that the file's scale becomes 1."""
    alpha = alphas.get(module_path)
    down = raw.get(f"{module_path}.lora_A.weight")
    if alpha is None or down is None or down.ndim == 0 or down.shape[0] == 0:
        return 1.0
    return math.sqrt(alpha / down.shape[0])


def _with_metadata(content: bytes, strings: Mapping[str, str]) -> bytes:
    """Put metadata into an encoded file in a fixed order: safetensors' own order differs every time."""
    header_bytes = int.from_bytes(content[:8], "little")
    header = json.loads(content[8 : 8 + header_bytes])
    told = json.dumps(
        {"__metadata__": dict(sorted(strings.items())), **header}, separators=(",", ":"), ensure_ascii=False
    ).encode()
    # Tensor data begins at a multiple of 8.
    told += b" " * (-len(told) % 8)
    return len(told).to_bytes(8, "little") + told + content[8 + header_bytes :]
