"""How one weight is stored: plain, or in float8 with a scale beside it, as ComfyUI's files have it.

There are two generations of such files. The old one has a tensor `scaled_fp8` and a `scale_weight` for
each layer; the new one has a `weight_scale` and names the number format, in a tensor `comfy_quant` or in
the file's metadata. Scales of inputs, which ComfyUI's float8 arithmetic uses, do not concern us.
"""

import json
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from trainer.model.base_errors import DamagedFileError
from trainer.model.weight_files import TensorFile

_MARKER = "scaled_fp8"
_METADATA = "_quantization_metadata"
_FORMAT = "comfy_quant"
_WEIGHT_SCALES = ("scale_weight", "weight_scale")
_IGNORED = ("scale_input", "input_scale", _FORMAT)
_UNKNOWN = ("weight_scale_2", "pre_quant_scale")
_FLOAT8 = (torch.float8_e4m3fn, torch.float8_e5m2)
_FORMATS = ("float8_e4m3fn", "float8_e5m2")
_FLOATS = (torch.float64, torch.float32, torch.float16, torch.bfloat16, *_FLOAT8)
_ELEMENTS_AT_ONCE = 2**23
_FORMAT_HINT = "Choose the model's fp16, bf16 or fp8_scaled file."


@dataclass(frozen=True, slots=True)
class StoredWeight:
    """Where a weight is and how it is read.

    Attributes:
        name: In the file.
        scale: Name of its scale in the file; empty for a weight without one.
    """

    file: TensorFile
    name: str
    scale: str = ""

    @property
    def shape(self) -> tuple[int, ...]:
        return self.file.entries[self.name].shape

    def read(self) -> Tensor:
        """The weight on the CPU: bfloat16 if the file has float8, else in the type of the file.

        Raises:
            DamagedFileError: the file cannot be read.
        """
        stored = self.file.read(self.name)
        if not self.scale:
            return stored.to(torch.bfloat16) if stored.dtype in _FLOAT8 else stored
        return _scaled(stored, self.file.read(self.scale))


def stored_weights(file: TensorFile) -> dict[str, StoredWeight]:
    """The weights of a file by their names in it; scales and markers are no weights.

    Raises:
        DamagedFileError: it has weights in a number format that cannot be read.
    """
    _check_formats(file)
    weights: dict[str, StoredWeight] = {}
    for name, entry in file.entries.items():
        layer, _, leaf = name.rpartition(".")
        if leaf in _UNKNOWN:
            raise DamagedFileError(file.path, f"has {name}, which is not understood", _FORMAT_HINT)
        if leaf == _MARKER or leaf in _WEIGHT_SCALES or leaf in _IGNORED:
            continue
        scale = next((one for kind in _WEIGHT_SCALES if (one := f"{layer}.{kind}") in file.entries), "")
        scale = scale if leaf == "weight" else ""
        wanted = _FLOAT8 if scale else _FLOATS
        if leaf in ("weight", "bias", "modulation") and entry.dtype not in wanted:
            kind = str(entry.dtype).removeprefix("torch.") if entry.dtype else "an unknown type"
            raise DamagedFileError(file.path, f"has {name} in {kind}, which is not understood", _FORMAT_HINT)
        if entry.dtype not in _FLOATS:
            continue  # such as the tokenizer's model within ComfyUI's text encoder
        weights[name] = StoredWeight(file, name, scale)
    return weights


def _scaled(values: Tensor, scale: Tensor) -> Tensor:
    """``values * scale``, computed in float32 and rounded to bfloat16.

    The scale may be one for all, one for each row, or one for each block within a row.
    """
    rows = values.shape[0]
    # (rows or 1, blocks, 1), against rows that are divided into their blocks.
    scale = scale.float().reshape(1 if scale.numel() == 1 else rows, -1, 1)
    blocks = values.reshape(rows, scale.shape[1], -1)
    scaled = torch.empty(blocks.shape, dtype=torch.bfloat16)
    # Some rows at a time: the whole in float32 would be four times the file's size, and slower.
    step = max(1, _ELEMENTS_AT_ONCE * rows // max(1, values.numel()))
    for start in range(0, rows, step):
        part = slice(start, start + step)
        scaled[part] = blocks[part].float().mul_(scale if scale.shape[0] == 1 else scale[part])
    return scaled.reshape(values.shape)


def _check_formats(file: TensorFile) -> None:
    for layer, described in _described_formats(file).items():
        kind = described.get("format") if isinstance(described, dict) else described
        if kind not in _FORMATS:
            raise DamagedFileError(
                file.path, f"has {layer} in the number format {kind}, which is not understood", _FORMAT_HINT
            )


def _described_formats(file: TensorFile) -> Mapping[str, Any]:
    formats: dict[str, Any] = {}
    try:
        if _METADATA in file.metadata:
            formats |= json.loads(file.metadata[_METADATA])["layers"]
        for name in file.entries:
            layer, _, leaf = name.rpartition(".")
            if leaf == _FORMAT:
                formats[layer] = json.loads(bytes(file.read(name).flatten().tolist()))
    except (ValueError, LookupError, TypeError) as error:
        raise DamagedFileError(
            file.path, "does not describe its number formats in a way that is understood", _FORMAT_HINT
        ) from error
    return formats
