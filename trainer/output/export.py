"""A checkpoint's LoRA files as files to hand over: named, converted, verified, never overwriting."""

import contextlib
import re
from collections.abc import Mapping
from dataclasses import replace
from datetime import UTC, datetime
from itertools import count
from pathlib import Path
from uuid import uuid4

from trainer.errors import TrainerError
from trainer.output.lora_file import LoraFileSpec, LoraFormat, read_lora_file, write_lora_file
from trainer.output.verify import verify_lora_file
from trainer.protocol.job import Expert

_FORBIDDEN_IN_NAMES = re.compile(r'[\\/:*?"<>|\x00-\x1f]')


class ExportError(TrainerError):
    """The LoRA files cannot be handed over."""

    kind = "export"


def export_name(name: str, expert: Expert, number: int = 1) -> str:
    """File name of an expert's LoRA; from the second number on, the number follows the name."""
    return f"{name}{f'-{number}' if number > 1 else ''}_{expert.value}.safetensors"


def export_pair(
    checkpoints: Mapping[Expert, Path],
    target_shapes: Mapping[Expert, Mapping[str, tuple[int, int]]],
    folder: Path,
    name: str,
    file_format: LoraFormat = "original",
) -> list[Path]:
    """Write the LoRA of each expert and verify it against the model before it gets its name.

    A file that is there already and differs is never overwritten: both files of the pair then get
    the next free number. Files that are there and are the same are left as they are.

    Args:
        checkpoints: LoRA files of one or both experts.
        target_shapes: (output width, input width) of every trained layer of each, by module path.
        folder: Made if needed.
        name: ``<name>_high_noise.safetensors`` and ``<name>_low_noise.safetensors``.
        file_format: Whose key names; "original" is what ComfyUI reads.

    Returns:
        The files, high noise first.

    Raises:
        LoraFileError: a checkpoint's file is missing, damaged, or does not fit the model.
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
            _write(checkpoints[expert], temporary, expert, name, file_format)
            verify_lora_file(temporary, target_shapes[expert])
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


def _write(source: Path, target: Path, expert: Expert, name: str, file_format: LoraFormat) -> None:
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
    rank = next(tensor.shape[0] for key, tensor in lora.state.items() if key.endswith("lora_A.weight"))
    spec = LoraFileSpec(
        # The file's alpha is folded in already: what is left to scale with is one.
        dtype=lora.dtype,
        rank=rank,
        alpha=float(rank),
        format=file_format,
        metadata=metadata,
    )
    write_lora_file(target, lora.state, spec)


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
