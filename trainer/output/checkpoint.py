"""Checkpoints: the LoRA pair ready to use, and the state from which a run goes on exactly.

A checkpoint is written into a hidden folder and appears under its name by one rename, so that no
reader ever sees half of one. Tensors lie in safetensors, the rest in JSON; nothing is pickled.
"""

import hashlib
import os
import shutil
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import msgspec
from msgspec import Struct
from safetensors import SafetensorError
from safetensors.torch import load_file, save_file
from torch import Tensor

from trainer.errors import TrainerError
from trainer.protocol.job import Expert
from trainer.protocol.run_folder import RunFolder
from trainer.protocol.wire import write_json

STATE_FORMAT = 1

OptimizerState = dict[str, Any]
"""What `torch.optim.Optimizer.state_dict` returns."""


class CheckpointDamagedError(TrainerError):
    """A checkpoint cannot be read, or is not what was written."""

    kind = "damaged_checkpoint"

    def __init__(self, folder: Path, problem: str) -> None:
        super().__init__(f"The checkpoint {folder} is damaged: {problem}.", "An earlier one can be used.")


class CheckpointWriteError(TrainerError):
    """A checkpoint could not be written."""

    kind = "unwritable_checkpoint"

    def __init__(self, folder: Path, problem: str) -> None:
        super().__init__(
            f"The checkpoint {folder} could not be written: {problem}.",
            "Make room on the disk or allow writing there, then resume.",
        )


@dataclass(frozen=True, slots=True)
class TrainingState:
    """Everything that a resumed run needs beyond its job.

    Noise, timesteps, data order and the experts' turns are functions of seed and step, so the step
    stands for all of them.

    Attributes:
        step: Optimizer steps done.
        learning_rate: The rate in force (a command may have changed the job's).
        loras: Float32 LoRA tensors of each expert that trains.
        optimizers: Each expert's optimizer state.
    """

    step: int
    learning_rate: float
    loras: Mapping[Expert, Mapping[str, Tensor]]
    optimizers: Mapping[Expert, OptimizerState]


class StateFile(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """``state.json``: numbers, and the digest of every other file of the checkpoint."""

    step: int
    learning_rate: float
    optimizers: dict[str, Any]
    digests: dict[str, str]
    format: int = STATE_FORMAT


def save_checkpoint(run: RunFolder, state: TrainingState, write_loras: Callable[[Path], None]) -> Path:
    """Write a checkpoint; one of the same step is replaced.

    Args:
        run: Where.
        state: What a resume needs.
        write_loras: Writes the LoRA files, ready to use, into the folder that it is given.

    Returns:
        The checkpoint's folder.

    Raises:
        CheckpointWriteError: the disk is full or cannot be written; earlier checkpoints are untouched.
    """
    final = run.checkpoint(state.step)
    unfinished = final.with_name(f".{final.name}.unfinished")
    try:
        remove_unfinished(run)
        unfinished.mkdir(parents=True)
        write_loras(unfinished)
        tensors, optimizers = _split(state)
        save_file(tensors, unfinished / "state.safetensors")
        digests = {path.name: _digest(path) for path in sorted(unfinished.glob("*.safetensors"))}
        write_json(
            unfinished / "state.json",
            StateFile(
                step=state.step,
                learning_rate=state.learning_rate,
                optimizers=optimizers,
                digests=digests,
            ),
        )
        if final.exists():
            shutil.rmtree(final)
        unfinished.rename(final)
    except (OSError, SafetensorError) as error:
        shutil.rmtree(unfinished, ignore_errors=True)
        raise CheckpointWriteError(final, str(error)) from error
    return final


def load_checkpoint(folder: Path) -> TrainingState:
    """Read a checkpoint back and compare it with its digests.

    Raises:
        CheckpointDamagedError: a file is missing, cut short or changed.
    """
    try:
        file = msgspec.json.decode((folder / "state.json").read_bytes(), type=StateFile)
        for name, digest in file.digests.items():
            if _digest(folder / name) != digest:
                raise CheckpointDamagedError(folder, f"{name} is not what was written")
        tensors = load_file(folder / "state.safetensors")
    except (OSError, msgspec.DecodeError, SafetensorError) as error:
        raise CheckpointDamagedError(folder, str(error)) from error
    if file.format != STATE_FORMAT:
        raise CheckpointDamagedError(folder, f"its format {file.format} is not known to this version")
    return _joined(file, tensors)


def newest_checkpoint(
    run: RunFolder, on_damaged: Callable[[CheckpointDamagedError], None]
) -> TrainingState | None:
    """The newest checkpoint that is whole; damaged ones are reported and passed over."""
    for step in reversed(run.checkpoint_steps()):
        try:
            return load_checkpoint(run.checkpoint(step))
        except CheckpointDamagedError as error:
            on_damaged(error)
    return None


def prune_checkpoints(run: RunFolder, keep: int) -> list[int]:
    """Remove all but the newest `keep` checkpoints; returns the steps removed."""
    removed = run.checkpoint_steps()[:-keep]
    for step in removed:
        shutil.rmtree(run.checkpoint(step), ignore_errors=True)
    return removed


def remove_unfinished(run: RunFolder) -> None:
    """Remove what a crash in the middle of a save left behind."""
    for leftover in run.checkpoints_folder.glob(".*.unfinished"):
        shutil.rmtree(leftover, ignore_errors=True)


def _split(state: TrainingState) -> tuple[dict[str, Tensor], dict[str, Any]]:
    """Tensors under flat names, and the optimizers' numbers as JSON with the tensors left out."""
    tensors: dict[str, Tensor] = {}
    numbers: dict[str, Any] = {}
    for expert, lora in state.loras.items():
        for name, tensor in lora.items():
            tensors[f"lora/{expert.value}/{name}"] = _storable(tensor)
    for expert, optimizer in state.optimizers.items():
        numbers[expert.value] = {
            "state": _without_tensors(optimizer["state"], f"optimizer/{expert.value}", tensors),
            "param_groups": optimizer["param_groups"],
        }
    return tensors, numbers


def _without_tensors(values: Mapping[Any, Any], path: str, tensors: dict[str, Tensor]) -> dict[str, Any]:
    """The nested mapping without its tensors, which go into `tensors` under their path.

    bitsandbytes keeps its quantized moments one mapping deeper than torch's own optimizers.
    """
    rest: dict[str, Any] = {}
    for key, value in values.items():
        if isinstance(value, Tensor):
            tensors[f"{path}/{key}"] = _storable(value)
        elif isinstance(value, Mapping):
            rest[str(key)] = _without_tensors(value, f"{path}/{key}", tensors)
        else:
            rest[str(key)] = value
    return rest


def _joined(file: StateFile, tensors: Mapping[str, Tensor]) -> TrainingState:
    loras: dict[Expert, dict[str, Tensor]] = {}
    optimizers = {Expert(name): numbers for name, numbers in file.optimizers.items()}
    for name, tensor in tensors.items():
        part, expert_name, *path = name.split("/")
        if part == "lora":
            loras.setdefault(Expert(expert_name), {})["/".join(path)] = tensor
        else:
            values = optimizers[Expert(expert_name)]["state"]
            for key in path[:-1]:
                values = values[key]
            values[path[-1]] = tensor
    for optimizer in optimizers.values():
        # JSON knows only text as keys; torch numbers its parameters.
        optimizer["state"] = {int(index): values for index, values in optimizer["state"].items()}
    return TrainingState(file.step, file.learning_rate, loras, optimizers)


def _storable(tensor: Tensor) -> Tensor:
    """A copy of its own on the CPU: safetensors refuses tensors that share memory."""
    return tensor.detach().to("cpu", copy=True).contiguous()


def _digest(path: Path) -> str:
    with path.open("rb") as file:
        digest = hashlib.file_digest(file, "sha256").hexdigest()
        if os.name != "nt":
            # The rename must not reach the disk before the content does.
            os.fsync(file.fileno())
    return digest
