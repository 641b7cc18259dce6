"""Tools for LoRA files of any origin: convert, resize, scale, merge, and say what is inside.

Every tool reads, changes, writes under a temporary name, verifies, and only then gives the file its
name. A file whose layers have the sizes of Wan 2.2 I2V A14B is checked against that model's own list
of layers; any other against the base model that is named, or else against the file it was made from.
"""

import contextlib
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass, replace
from functools import cache
from pathlib import Path
from uuid import uuid4

from torch import Tensor

from trainer.model.a14b_config import A14B_I2V_CONFIG, MODEL_NAME
from trainer.model.layouts import expert_config, open_base
from trainer.model.load import base_weights
from trainer.model.lora import complete_dora, lora_target_shapes
from trainer.output.export import with_strength, write_verified
from trainer.output.lora_edit import (
    Layers,
    LoraEditError,
    change_norms,
    changed_shapes,
    is_plain,
    layers_of,
    merged,
    padded,
    rank_in,
    resized,
    scaled,
    scaled_state,
    state_of,
)
from trainer.output.lora_file import (
    LoraDtype,
    LoraFile,
    LoraFileError,
    LoraFileSpec,
    LoraFormat,
    original_name,
    read_lora_file,
)
from trainer.output.lora_metadata import MERGED_KEY, RESIZED_KEY, LoraMetadata, OtherMetadata
from trainer.output.verify import verify_lora_file
from trainer.protocol.job import Expert

SUFFIX = ".safetensors"
Shapes = Mapping[str, tuple[int, int]]


@dataclass(frozen=True, slots=True)
class Outcome:
    """Where a tool writes, and how.

    Attributes:
        path: The file to make; its folder is made if needed.
        format: Whose key names; None keeps those of the (first) file read.
        dtype: Number type; None keeps that of the (first) file read.
        base: Base model to check against; empty decides by the layers' sizes.
        force: Replace a file that is there, and merge LoRAs of different experts.
    """

    path: Path
    format: LoraFormat | None = None
    dtype: LoraDtype | None = None
    base: str = ""
    force: bool = False


@dataclass(frozen=True, slots=True)
class MergeRequest:
    """Two LoRAs to add up: strength_a x first + strength_b x second.

    Attributes:
        rank: Of the result, by singular values; None keeps both whole, at the ranks' sum.
    """

    first: Path
    second: Path
    strength_a: float = 1.0
    strength_b: float = 1.0
    rank: int | None = None


@dataclass(frozen=True, slots=True)
class _Source:
    """A file that was read."""

    path: Path
    file: LoraFile

    @property
    def layers(self) -> Layers:
        """Its layers' factors; raises `LoraFileError` for a DoRA or LoKr."""
        return layers_of(self.path, self.file.state)

    @property
    def expert(self) -> Expert | None:
        """Whose LoRA it is: by its metadata, else by its name, as other trainers tell it."""
        if self.file.metadata is not None:
            return self.file.metadata.expert
        return next((expert for expert in Expert if expert.value in self.path.name.lower()), None)


def convert_lora(source: Path, outcome: Outcome) -> list[str]:
    """The same LoRA with other names or another number type.

    Returns:
        The path of the file made, then what there is to say of it, a line each.

    Raises:
        TrainerError: the file cannot be read, does not fit the model, or cannot be written.
    """
    read = _read(source)
    state = state_of(padded(read.layers)) if is_plain(read.file.state) else read.file.state
    if read.file.type == "dora" and outcome.base:
        # diffusers gives DoRA's magnitudes another meaning than ComfyUI: the base's weights tell the one
        # from the other.
        if read.expert is None:
            raise LoraEditError(
                f"{source} does not tell whose DoRA it is.",
                "Let its name contain high_noise or low_noise.",
            )
        own_shapes = changed_shapes(state)
        _, shapes = _model_of(own_shapes, outcome.base)
        if unfit := [module for module, shape in own_shapes.items() if shapes.get(module) != shape]:
            raise LoraFileError(source, f"layers that do not fit {outcome.base}", unfit)
        state = complete_dora(state, base_weights(open_base(outcome.base), read.expert))
    return _write(read, state, _metadata(read), outcome)


def resize_lora(source: Path, outcome: Outcome, rank: int) -> list[str]:
    """The LoRA at another rank, as near to it as that rank can come; returns as `convert_lora`."""
    read = _read(source)
    layers, errors = resized(read.layers, rank)
    metadata = _metadata(read)
    if isinstance(metadata, LoraMetadata):
        details = {**metadata.details, RESIZED_KEY: str(rank_in(read.file.state))}
        metadata = replace(metadata, rank=rank, alpha=float(rank), details=details)
    else:
        metadata = replace(metadata, rank=rank)
    return [*_write(read, state_of(layers), metadata, outcome), *_error_lines(errors)]


def scale_lora(source: Path, outcome: Outcome, strength: float) -> list[str]:
    """The LoRA with its strength folded in: at 1 it acts as before at `strength`; returns as `convert_lora`."""
    read = _read(source)
    metadata = _metadata(read)
    if isinstance(metadata, LoraMetadata):
        metadata = with_strength(metadata, strength)
    return _write(read, scaled_state(source, read.file.state, strength), metadata, outcome)


def merge_loras(request: MergeRequest, outcome: Outcome) -> list[str]:
    """The sum of two LoRAs of one expert; returns as `convert_lora`.

    Raises:
        LoraEditError: they are of different experts and that is not forced, or of different models.
    """
    first, second = _read(request.first), _read(request.second)
    different = None not in (first.expert, second.expert) and first.expert != second.expert
    if different and not outcome.force:
        raise LoraEditError(
            f"{first.path} is for the {first.expert} expert and {second.path} for {second.expert}.",
            "Merge high noise with high noise and low noise with low noise, or use --force.",
        )
    layers = merged(scaled(first.layers, request.strength_a), scaled(second.layers, request.strength_b))
    errors: dict[str, float] = {}
    if request.rank is not None:
        layers, errors = resized(layers, request.rank)
    state = state_of(layers)
    metadata = _merged_metadata(first, second, rank_in(state), outcome.path)
    lines = _write(first, state, metadata, outcome)
    return [*lines, *(_error_lines(errors) if errors else [])]


def describe_file(source: Path, base: str = "") -> list[str]:
    """What a LoRA file is and holds, a line each, its metadata last.

    Raises:
        TrainerError: the file cannot be read, or does not fit the model.
    """
    read = _read(source)
    state = read.file.state
    own_shapes = changed_shapes(state)
    model, shapes = _model_of(own_shapes, base)
    ranks = Counter(tensor.shape[0] for key, tensor in state.items() if key.endswith("lora_A.weight"))
    if len(ranks) < 2:
        verify_lora_file(source, shapes, allow_partial=True)
    norms = change_norms(state)
    is_inert = bool(norms) and not any(norms.values())
    rank_words = ", ".join(f"{rank} ({count} layers)" for rank, count in sorted(ranks.items()))
    return [
        f"file: {source}",
        f"type: {read.file.type}",
        f"format: {read.file.format}",
        f"number type: {read.file.dtype}",
        f"expert: {read.expert or 'unknown'}",
        f"rank: {rank_words if len(ranks) > 1 else rank_in(state)}",
        f"weights: {len(state)} in {len(own_shapes)} layers",
        f"model: {model}, {len(set(own_shapes) & set(shapes))} of its {len(shapes)} layers"
        if model
        else "model: not A14B by its sizes; name its base with --base to check it",
        f"inert: {'yes, it changes nothing' if is_inert else 'no'}",
        *_norm_lines(norms),
        *(f"{key} = {value}" for key, value in sorted(read.file.strings.items())),
    ]


def _read(path: Path) -> _Source:
    return _Source(path, read_lora_file(path))


def _metadata(read: _Source) -> LoraMetadata | OtherMetadata:
    """The file's own metadata, for a file whose alpha is folded in."""
    return read.file.metadata or OtherMetadata(read.file.strings, rank_in(read.file.state))


def _merged_metadata(first: _Source, second: _Source, rank: int, path: Path) -> LoraMetadata | OtherMetadata:
    """What is true of the sum; settings and data sets of its parts are not told as if they were its own."""
    parts = ", ".join(source.path.name for source in (first, second))
    known = [source.file.metadata for source in (first, second) if source.file.metadata is not None]
    same_expert = len({source.expert for source in (first, second)} - {None}) == 1
    if not known or not same_expert:
        return OtherMetadata({"modelspec.title": path.stem, MERGED_KEY: parts}, rank)
    intervals = [metadata.interval for metadata in known]
    triggers = dict.fromkeys(metadata.trigger for metadata in known if metadata.trigger)
    bases = {metadata.base_fingerprint for metadata in known}
    return LoraMetadata(
        name=path.stem.removesuffix(f"_{known[0].expert.value}"),
        expert=known[0].expert,
        boundary=known[0].boundary,
        rank=rank,
        alpha=float(rank),
        steps=sum(metadata.steps for metadata in known),
        trigger=", ".join(triggers),
        base_fingerprint=bases.pop() if len(bases) == 1 else "",
        interval=(
            min(interval[0] for interval in intervals if interval),
            max(interval[1] for interval in intervals if interval),
        )
        if all(intervals)
        else None,
        details={MERGED_KEY: parts},
    )


def _write(
    read: _Source, state: Mapping[str, Tensor], metadata: LoraMetadata | OtherMetadata, outcome: Outcome
) -> list[str]:
    """Write, verify, name; nothing is left behind when something is wrong."""
    out = outcome.path
    if out.suffix != SUFFIX:
        raise LoraEditError(f"{out} is no name for a LoRA file.", f"Let it end in {SUFFIX}.")
    if out.exists() and not outcome.force:
        raise LoraEditError(f"{out} is there already.", "Choose another name, or replace it with --force.")
    own_shapes = changed_shapes(state)
    model, shapes = _model_of(own_shapes, outcome.base)
    rank = rank_in(state)
    spec = LoraFileSpec(
        outcome.dtype or read.file.dtype, rank, float(rank), outcome.format or read.file.format, metadata
    )
    temporary = out.with_name(f".{out.name}.{uuid4().hex[:8]}.tmp")
    try:
        out.parent.mkdir(parents=True, exist_ok=True)
        verified = write_verified(temporary, state, spec, shapes, allow_partial=True)
        temporary.replace(out)
    except LoraFileError as error:
        raise error.about(read.path) from error
    except OSError as error:
        raise LoraEditError(
            f"{out} cannot be written: {(error.strerror or str(error)).lower()}.",
            "Choose another folder, or make room on the disk.",
        ) from error
    finally:
        with contextlib.suppress(OSError):
            temporary.unlink(missing_ok=True)
    checked = (
        f"checked against {model}: {len(own_shapes)} of its {len(shapes)} layers"
        if model
        else "not checked against a model: its sizes are not A14B's, and no --base was named"
    )
    return [
        str(out),
        f"rank {rank}, {spec.dtype}, {spec.format} names, {verified.keys} weights; {checked}",
        *(["It changes nothing: all its layers are inert."] if verified.is_inert else []),
    ]


def _model_of(own_shapes: Shapes, base: str) -> tuple[str, Shapes]:
    """The model to check against, by name, and its layers' shapes; without a name, the LoRA's own shapes."""
    if base:
        return base, lora_target_shapes(expert_config(open_base(base), Expert.HIGH))
    a14b = _a14b_shapes()
    if any(shape == a14b.get(module) for module, shape in own_shapes.items()):
        return MODEL_NAME, a14b
    return "", own_shapes


@cache
def _a14b_shapes() -> Shapes:
    return lora_target_shapes(A14B_I2V_CONFIG)


def _error_lines(errors: Mapping[str, float]) -> list[str]:
    worst = max(errors, key=lambda module: errors[module])
    mean = sum(errors.values()) / len(errors)
    return [
        f"relative error per layer: mean {mean:.4%}, largest {errors[worst]:.4%} ({original_name(worst)})"
    ]


def _norm_lines(norms: Mapping[str, float]) -> list[str]:
    """The norm of the whole change, and the mean of each of the ten kinds of layers, in the model's order."""
    if not norms:
        return ["norm of the change: that of a DoRA depends on the base's weights"]
    total = sum(norm * norm for norm in norms.values()) ** 0.5
    strongest = max(norms, key=lambda module: norms[module])
    by_kind: dict[str, list[float]] = {}
    for module, norm in norms.items():
        by_kind.setdefault(original_name(module).split(".", 2)[2], []).append(norm)
    return [
        f"norm of the change: {total:.6g}; strongest layer {original_name(strongest)}: {norms[strongest]:.6g}",
        *(f"mean norm of {kind}: {sum(found) / len(found):.6g}" for kind, found in by_kind.items()),
    ]
