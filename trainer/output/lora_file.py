"""LoRA files: written for ComfyUI, diffusers or kohya's tools, and read back from any of them.

Inside the trainer a LoRA is a mapping from diffusers module path and part to float32 tensors:

LoRA  ``<path>.lora_A.weight`` and ``.lora_B.weight``; the change of the weight W is D = B A
DoRA  the same and ``<path>.lora_magnitude_vector``, as diffusers has it: W' = m (W + D) / |W + D|, and
      ``<path>.dora_scale``, as ComfyUI has it: W' = d (W + D) / |W|; lengths are of rows
LoKr  ``<path>.lokr_w1`` and ``.lokr_w2``, either of them also as ``_a`` and ``_b`` whose product it is;
      D is the Kronecker product of the two
"""

# R rank, I input width, O output width: A is (R, I), B is (O, R), d and m have one value a row.

import json
import math
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save
from torch import Tensor

from trainer.errors import TrainerError
from trainer.output.lora_metadata import LoraMetadata, OtherMetadata, adapter_scale, parse_metadata
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
    "LoraType",
    "diffusers_name",
    "kohya_name",
    "original_name",
    "parts_by_module",
    "read_lora_file",
    "type_of",
    "write_lora_file",
]

LoraFormat = Literal["original", "diffusers", "kohya"]
LoraDtype = Literal["bf16", "fp16", "fp32"]
LoraType = Literal["lora", "dora", "lokr"]

_DTYPES: dict[LoraDtype, torch.dtype] = {"bf16": torch.bfloat16, "fp16": torch.float16, "fp32": torch.float32}
_DTYPE_NAMES: dict[torch.dtype, LoraDtype] = {dtype: name for name, dtype in _DTYPES.items()}
_SUFFIXES = {
    ".lora_A.weight": "lora_A",
    ".lora_B.weight": "lora_B",
    ".lora_down.weight": "lora_A",
    ".lora_up.weight": "lora_B",
    ".lora.down.weight": "lora_A",
    ".lora.up.weight": "lora_B",
    ".dora_scale": "dora_scale",
    ".lora_magnitude_vector": "lora_magnitude_vector",
    ".lora_magnitude_vector.weight": "lora_magnitude_vector",
    ".lokr_w1": "lokr_w1",
    ".lokr_w1_a": "lokr_w1_a",
    ".lokr_w1_b": "lokr_w1_b",
    ".lokr_w2": "lokr_w2",
    ".lokr_w2_a": "lokr_w2_a",
    ".lokr_w2_b": "lokr_w2_b",
    ".alpha": "alpha",
}
_HALVES = ("lora_A", "lora_B")
_MAGNITUDES = ("dora_scale", "lora_magnitude_vector")
_SHOWN_KEYS = 5
_WAN21_HINT = "Layers of an image encoder are Wan 2.1's; Wan 2.2 has none."


class LoraFileError(TrainerError):
    """A LoRA file that is not what it should be; names the file and the first wrong keys."""

    kind = "lora_file"

    def __init__(self, path: Path, problem: str, keys: list[str] | None = None, hint: str = "") -> None:
        shown = ", ".join((keys or [])[:_SHOWN_KEYS])
        more = f" and {len(keys) - _SHOWN_KEYS} more" if keys and len(keys) > _SHOWN_KEYS else ""
        super().__init__(f"{path}: {problem}{': ' if shown else ''}{shown}{more}.", hint)
        self.path = path
        self.problem = problem
        self.keys = keys or []

    def about(self, path: Path) -> "LoraFileError":
        """The same, said of another path: of the file that a temporary one was made from or for."""
        return LoraFileError(path, self.problem, self.keys, self.hint)


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
    metadata: LoraMetadata | OtherMetadata | None = None


@dataclass(frozen=True, slots=True)
class LoraFile:
    """What was read.

    Attributes:
        state: float32 tensors by diffusers module path and part, e.g. ``blocks.0.attn1.to_q.lora_A.weight``;
            any alpha is folded in, so that the scale is 1. A DoRA has its magnitudes in the meaning of
            the file's format.
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

    @property
    def type(self) -> LoraType:
        """What kind of LoRA it is."""
        return type_of(part for parts in parts_by_module(self.state).values() for part in parts)


def write_lora_file(path: Path, state: Mapping[str, Tensor], spec: LoraFileSpec) -> None:
    """Write a LoRA atomically; equal input gives equal bytes.

    The original and diffusers names of a LoRA carry no alpha: readers of them take a scale of 1. So
    alpha / rank goes into the weights, its square root into each half: all of it in one half would
    push small scales towards the end of what 16 bits hold, and the halves' sizes apart. kohya's
    names carry ``.alpha``, and the weights stay as trained.

    A LoKr carries ``.alpha`` in both namings, but readers heed it only where a factor is split. So
    alpha / rank goes into the second factor, and ``.alpha`` says that nothing is left to scale.
    Magnitudes of a DoRA are float32 always: they scale whole rows, where rounding would be a bias.

    Args:
        path: File to make or replace; its folder exists.
        state: By diffusers module path and part; of a DoRA with its magnitudes in the format's meaning.
        spec: How.

    Raises:
        LoraFileError: a key has no name in the format, or a value is not finite in the number type.
        OSError: the file cannot be written.
    """
    _check_writable(path, state, spec)
    tensors: dict[str, Tensor] = {}
    not_finite: list[str] = []
    for module_path, parts in parts_by_module(state).items():
        for part, value in _parts_in_file(parts, spec).items():
            name = _file_key(module_path, part, spec.format)
            if not bool(torch.isfinite(value).all()):
                not_finite.append(name)
            tensors[name] = value
    if not_finite:
        raise LoraFileError(
            path,
            f"values that are infinite or no numbers in {spec.dtype}",
            not_finite,
            "The training has diverged: use an earlier checkpoint and a lower learning rate.",
        )
    scale_is_left = spec.format == "kohya" and type_of(map(_part_of, state)) != "lokr"
    alpha_in_file = spec.alpha if scale_is_left else float(spec.rank)
    strings = spec.metadata.to_strings(alpha_in_file) if spec.metadata else {"format": "pt"}
    write_atomic(path, _with_metadata(save(tensors), strings))


def read_lora_file(path: Path) -> LoraFile:
    """Read a LoRA, DoRA or LoKr of any of the three formats.

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
            module_path, part = parse_key(key)
        except UnknownLayerError:
            wrong.append(key)
            continue
        if part == "alpha":
            alphas[module_path] = float(tensor.flatten()[0]) if tensor.numel() == 1 else math.nan
            if not 0 <= alphas[module_path] < math.inf:
                wrong.append(key)
        else:
            raw[_state_key(module_path, part)] = tensor
    if wrong or not raw:
        problem = "wrong keys or values, or no trained layer of this model" if wrong else "holds no LoRA"
        raise LoraFileError(path, problem, wrong, _WAN21_HINT if any("_img" in key for key in wrong) else "")
    try:
        scale = adapter_scale(strings)
    except ValueError as error:
        raise LoraFileError(path, f"peft's settings in its metadata cannot be followed ({error})") from error
    state: dict[str, Tensor] = {}
    for module_path, parts in parts_by_module(raw).items():
        for part, tensor in _with_scale_of_one(parts, alphas.get(module_path), scale).items():
            state[_state_key(module_path, part)] = tensor
    weights = (tensor for key, tensor in raw.items() if _part_of(key) not in _MAGNITUDES)
    dtype = _DTYPE_NAMES.get(next(weights, torch.empty(0)).dtype, "fp32")
    return LoraFile(state, strings, parse_metadata(strings), _format_of(tensors), dtype)


def type_of(parts: Iterable[str]) -> LoraType:
    """The kind of LoRA that has these parts ("lora_A", "dora_scale", "lokr_w1", ...)."""
    kinds = set(parts)
    if any(part.startswith("lokr_") for part in kinds):
        return "lokr"
    return "dora" if kinds.intersection(_MAGNITUDES) else "lora"


def parts_by_module(state: Mapping[str, Tensor]) -> dict[str, dict[str, Tensor]]:
    """A state by diffusers module path and part."""
    modules: dict[str, dict[str, Tensor]] = {}
    for key, tensor in state.items():
        module_path = key.removesuffix(".weight").rsplit(".", 1)[0]
        modules.setdefault(module_path, {})[_part_of(key)] = tensor
    return modules


def parse_key(key: str) -> tuple[str, str]:
    """Split a file's key into diffusers module path and part ("lora_A", "dora_scale", "alpha", ...).

    Raises:
        UnknownLayerError: it is in none of the three formats, or no trained layer.
    """
    for suffix, part in _SUFFIXES.items():
        if key.endswith(suffix):
            name = key.removesuffix(suffix)
            if name.startswith("transformer."):
                name = name.removeprefix("transformer.")
                if not is_module_path(name):
                    raise UnknownLayerError(key)
                return name, part
            if name.startswith("diffusion_model."):
                return diffusers_name(name.removeprefix("diffusion_model.")), part
            if name.startswith("lora_unet_"):
                return diffusers_name(name), part
            break
    raise UnknownLayerError(key)


def _state_key(module_path: str, part: str) -> str:
    return f"{module_path}.{part}{'.weight' if part in _HALVES else ''}"


def _part_of(key: str) -> str:
    return key.removesuffix(".weight").rsplit(".", 1)[-1]


def _check_writable(path: Path, state: Mapping[str, Tensor], spec: LoraFileSpec) -> None:
    """Refuse what has no name in the format, or would be read as something else."""
    modules = parts_by_module(state)
    known = {_state_key(module_path, part) for module_path, parts in modules.items() for part in parts}
    wrong = [key for key in state if key not in known or _part_of(key) not in _SUFFIXES.values()]
    wrong += [key for key in state if not is_module_path(key.removesuffix(".weight").rsplit(".", 1)[0])]
    if wrong:
        raise LoraFileError(path, "weights that belong to no trained layer", wrong)
    if spec.format == "diffusers" and type_of(map(_part_of, state)) == "lokr":
        raise LoraFileError(
            path,
            "diffusers loads no LoKr for this model",
            hint="Write it with the original names, which ComfyUI reads.",
        )
    needed = _MAGNITUDES[spec.format == "diffusers"]
    lacking = [
        module_path
        for module_path, parts in modules.items()
        if needed not in parts and any(magnitude in parts for magnitude in _MAGNITUDES)
    ]
    if lacking:
        raise LoraFileError(
            path,
            f"{needed} of this DoRA takes the base model's weights to compute",
            lacking,
            "Convert it together with the base model that it was trained on.",
        )


def _parts_in_file(parts: Mapping[str, Tensor], spec: LoraFileSpec) -> dict[str, Tensor]:
    """A module's tensors as the format has them, in the file's number types."""
    scale = spec.alpha / spec.rank
    factors: dict[str, float]
    if type_of(parts) == "lokr":
        divided = [parts[name].shape[0] for name in ("lokr_w2_b", "lokr_w1_b") if name in parts]
        alpha = float(divided[0] if divided else spec.rank)
        factors = {"lokr_w2": scale, "lokr_w2_a": math.sqrt(scale), "lokr_w2_b": math.sqrt(scale)}
    else:
        alpha = spec.alpha if spec.format == "kohya" else None
        factors = {} if alpha is not None else dict.fromkeys(_HALVES, math.sqrt(scale))
    in_file: dict[str, Tensor] = {}
    for part, tensor in parts.items():
        value = tensor.detach().to("cpu", torch.float32)
        if part not in _MAGNITUDES:
            in_file[part] = (value * factors.get(part, 1.0)).to(_DTYPES[spec.dtype]).contiguous()
        elif part == _MAGNITUDES[spec.format == "diffusers"]:
            in_file[part] = value.contiguous()
    if alpha is not None:
        in_file["alpha"] = torch.tensor(alpha, dtype=torch.float32)
    return in_file


def _with_scale_of_one(
    parts: Mapping[str, Tensor], alpha: float | None, scale_without_alpha: float
) -> dict[str, Tensor]:
    """A module's tensors as read, with their scale folded in."""
    floats = {part: tensor.to(torch.float32) for part, tensor in parts.items()}
    # What a reader divides alpha by: of a LoKr, the rank of its split factor; whole factors have no scale.
    ranked = next((parts[one] for one in ("lora_A", "lokr_w2_b", "lokr_w1_b") if one in parts), None)
    scale = scale_without_alpha if "lora_A" in parts else 1.0
    if alpha is not None and ranked is not None and ranked.ndim and ranked.shape[0]:
        scale = alpha / ranked.shape[0]
    for part in (*_HALVES, "lokr_w2_a", "lokr_w2_b"):
        if part in floats:
            floats[part] = floats[part] * math.sqrt(scale)
    if "lokr_w2" in floats:
        floats["lokr_w2"] = floats["lokr_w2"] * scale
    return floats


def _file_key(module_path: str, part: str, file_format: LoraFormat) -> str:
    match file_format:
        case "original":
            return _state_key(f"diffusion_model.{original_name(module_path)}", part)
        case "diffusers":
            return _state_key(f"transformer.{module_path}", part)
        case "kohya":
            renamed: dict[str, str] = {"lora_A": "lora_down.weight", "lora_B": "lora_up.weight"}
            return f"{kohya_name(module_path)}.{renamed.get(part, part)}"


def _format_of(tensors: Mapping[str, Tensor]) -> LoraFormat:
    first = next(iter(tensors))
    if first.startswith("lora_unet_"):
        return "kohya"
    return "diffusers" if first.startswith("transformer.") else "original"


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
