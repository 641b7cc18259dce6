"""A checkpoint's LoRA files as files to hand over: named, converted, verified, never overwriting."""

import contextlib
import re
from collections.abc import Callable, Generator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from itertools import count
from pathlib import Path
from uuid import uuid4

from torch import Tensor

from trainer.errors import TrainerError
from trainer.output.lora_edit import rank_in, scaled_state
from trainer.output.lora_file import (
    LoraDtype,
    LoraFileError,
    LoraFileSpec,
    LoraFormat,
    parts_by_module,
    read_lora_file,
    write_lora_file,
)
from trainer.output.lora_metadata import STRENGTH_KEY, LoraMetadata
from trainer.output.verify import VerifiedLora, verify_lora_file
from trainer.protocol.job import Expert

_FORBIDDEN_IN_NAMES = re.compile(r'[\\/:*?"<>|\x00-\x1f]')


Complete = Callable[[Expert, dict[str, Tensor]], dict[str, Tensor]]


class ExportError(TrainerError):
    """The LoRA files cannot be handed over."""

    kind = "export"


@dataclass(frozen=True, slots=True)
class ExportOptions:
    """How the files are made.

    Attributes:
        format: Whose key names; "original" is what ComfyUI reads.
        dtype: Number type; None keeps that of the checkpoint's files.
        strength: Folded into the weights: the exported LoRA at 1 acts as the trained one at this strength.
    """

    format: LoraFormat = "original"
    dtype: LoraDtype | None = None
    strength: float = 1.0


def export_name(name: str, expert: Expert, number: int = 1) -> str:
    """File name of an expert's LoRA; from the second number on, the number follows the name."""
    return f"{name}{f'-{number}' if number > 1 else ''}_{expert.value}.safetensors"


def export_pair(
    checkpoints: Mapping[Expert, Path],
    target_shapes: Mapping[Expert, Mapping[str, tuple[int, int]]],
    folder: Path,
    name: str,
    options: ExportOptions = ExportOptions(),
    complete: Complete | None = None,
) -> list[Path]:
    """Write the LoRA of each expert and verify it against the model before it gets its name.

    A file that is there already and differs is never overwritten: both files of the pair then get
    the next free number. Files that are there and are the same are left as they are.

    Args:
        checkpoints: LoRA files of one or both experts.
        target_shapes: (output width, input width) of every trained layer of each, by module path.
        folder: Made if needed.
        name: ``<name>_high_noise.safetensors`` and ``<name>_low_noise.safetensors``.
        options: Format, number type and strength.
        complete: Adds to a DoRA what the format says of it and the checkpoint's does not, with the base's
            weights.

    Returns:
        The files, high noise first.

    Raises:
        LoraFileError: a checkpoint's file is missing, damaged, or does not fit the model; or the number
            type cannot hold it.
        LoraEditError: the strength is 0 or no finite number.
        ExportError: the name is no file name, there is nothing to export, or the folder cannot be
            written; nothing is left behind.
    """
    if not name or _FORBIDDEN_IN_NAMES.search(name) or name.strip(" .") != name:
        raise ExportError(
            f'"{name}" cannot be part of a file name.', "Choose a name without slashes, colons or quotes."
        )
    experts = [expert for expert in Expert if expert in checkpoints]
    if not experts:
        raise ExportError("There is no LoRA to export.", "Choose a checkpoint that has one.")
    written: dict[Expert, Path] = {}
    try:
        folder.mkdir(parents=True, exist_ok=True)
        for expert in experts:
            temporary = folder / f".{expert.value}.{uuid4().hex[:8]}.tmp"
            written[expert] = temporary
            state, spec = _prepared(checkpoints[expert], expert, name, options)
            state = complete(expert, state) if complete is not None else state
            with _errors_about(checkpoints[expert]):
                write_verified(temporary, state, spec, target_shapes[expert])
        return _take_names(written, folder, name)
    except OSError as error:
        raise ExportError(
            f"The folder {folder} cannot be written: {(error.strerror or str(error)).lower()}.",
            "Choose another folder, or make room on the disk.",
        ) from error
    finally:
        for temporary in written.values():
            with contextlib.suppress(OSError):
                temporary.unlink(missing_ok=True)


def write_verified(
    path: Path,
    state: Mapping[str, Tensor],
    spec: LoraFileSpec,
    target_shapes: Mapping[str, tuple[int, int]],
    *,
    allow_partial: bool = False,
) -> VerifiedLora:
    """Write a LoRA file, read it back and check it against the model.

    Args:
        path: File to make or replace.
        state: As for `write_lora_file`.
        spec: As for `write_lora_file`.
        target_shapes: As for `verify_lora_file`.
        allow_partial: As for `verify_lora_file`.

    Raises:
        LoraFileError: it does not fit the model, or a layer came out without effect because its values are
            too small for the number type. The file is there all the same.
        OSError: the file cannot be written.
    """
    write_lora_file(path, state, spec)
    verified = verify_lora_file(path, target_shapes, allow_partial=allow_partial)
    before, after = _effective(state), _effective(read_lora_file(path).state)
    if lost := sorted(before - after):
        raise LoraFileError(
            path,
            f"layers whose values are too small for {spec.dtype}: they would have no effect",
            lost,
            "Choose bf16 or fp32.",
        )
    return verified


@contextmanager
def _errors_about(path: Path) -> Generator[None]:
    """Say of `path` what is wrong with the temporary file made from it."""
    try:
        yield
    except LoraFileError as error:
        raise error.about(path) from error


def _prepared(
    source: Path, expert: Expert, name: str, options: ExportOptions
) -> tuple[dict[str, Tensor], LoraFileSpec]:
    """The weights to write and how."""
    lora = read_lora_file(source)
    metadata = lora.metadata
    if metadata is not None:
        if metadata.expert is not expert:
            raise ExportError(
                f"{source} is the LoRA of the {metadata.expert.value} expert, not of {expert.value}.",
                "The two files of this checkpoint have been exchanged.",
            )
        # The checkpoint's own time, so that a second export of it is recognised as the same.
        made = datetime.fromtimestamp(int(source.stat().st_mtime), UTC)
        metadata = replace(metadata, name=name, created=metadata.created or made)
    state = scaled_state(source, lora.state, options.strength)
    if options.strength != 1.0:
        metadata = metadata and with_strength(metadata, options.strength)
    rank = rank_in(state)
    # The file's alpha is folded in already: what is left to scale with is one.
    return state, LoraFileSpec(options.dtype or lora.dtype, rank, float(rank), options.format, metadata)


def with_strength(metadata: LoraMetadata, strength: float) -> LoraMetadata:
    """The metadata, telling of a strength folded into the weights, beside any folded in before."""
    try:
        before = float(metadata.details.get(STRENGTH_KEY, "1"))
    except ValueError:
        before = 1.0
    return replace(metadata, details={**metadata.details, STRENGTH_KEY: repr(before * strength)})


def _effective(state: Mapping[str, Tensor]) -> set[str]:
    """Layers with no part that is all zeros, by module path."""
    return {
        module
        for module, parts in parts_by_module(state).items()
        if all(bool(part.any()) for part in parts.values())
    }


def _take_names(written: Mapping[Expert, Path], folder: Path, name: str) -> list[Path]:
    for number in count(1):
        names = {expert: folder / export_name(name, expert, number) for expert in written}
        if all(_is_free_or_same(names[expert], written[expert]) for expert in written):
            for expert, temporary in written.items():
                if not names[expert].exists():
                    temporary.replace(names[expert])
            return list(names.values())
    raise AssertionError("numbers do not end")


def _is_free_or_same(path: Path, candidate: Path) -> bool:
    return not path.exists() or (
        path.stat().st_size == candidate.stat().st_size and path.read_bytes() == candidate.read_bytes()
    )
