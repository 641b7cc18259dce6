"""Checkpoints: the LoRA pair ready to use, and the state from which a run goes on exactly.

A checkpoint is written into a hidden folder and appears under its name by one rename, so that no
reader ever sees half of one. Tensors lie in safetensors, the rest in JSON; nothing is pickled.
"""

import contextlib
import hashlib
import math
import os
import shutil
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import msgspec
from msgspec import Struct
from safetensors import SafetensorError
from safetensors.torch import load_file, save_file
from torch import Tensor

from trainer.errors import TrainerError
from trainer.protocol.job import Expert
from trainer.protocol.run_folder import PIN_NAME, RunFolder
from trainer.protocol.wire import write_json

STATE_FORMAT = 3
READABLE_FORMATS = (1, 2, 3)
"""Format 1 has no averages, and gives an optimizer's tuples back as lists; up to 2, the job's accumulation
tells the micro-batches."""

UNFINISHED = ".unfinished"
REPLACED = ".replaced"
REMOVED = ".removed"

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
        learning_rate: The rate that a command has set for every expert; None while the job's own hold.
        loras: Float32 LoRA tensors of each expert that trains; the weights themselves, not their average.
        optimizers: Each expert's optimizer state.
        averages: Each expert's moving average of its LoRA; empty when none is kept.
        micro_batches: Micro-batches of a step, over all processes; None where the job's accumulation tells.
    """

    step: int
    learning_rate: float | None
    loras: Mapping[Expert, Mapping[str, Tensor]]
    optimizers: Mapping[Expert, OptimizerState]
    averages: Mapping[Expert, Mapping[str, Tensor]] = field(default_factory=dict)
    micro_batches: int | None = None

    @property
    def expected_bytes(self) -> int:
        """About what a checkpoint of it takes on disk, with the LoRA files of up to float32."""
        tensors, _ = _split(self, _same)
        loras = (tensor for lora in self.loras.values() for tensor in lora.values())
        return sum(tensor.nbytes for tensor in (*tensors.values(), *loras))


class StateFile(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """``state.json``: numbers, and the digest of every other file of the checkpoint."""

    step: int
    learning_rate: float | None
    optimizers: dict[str, Any]
    digests: dict[str, str]
    micro_batches: int | None = None
    format: int = STATE_FORMAT


def save_checkpoint(run: RunFolder, state: TrainingState, write_loras: Callable[[Path], None]) -> Path:
    """Write a checkpoint; one of the same step is replaced, and stays pinned if it was.

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
    unfinished = _hidden(final, UNFINISHED)
    try:
        remove_unfinished(run)
        unfinished.mkdir(parents=True)
        write_loras(unfinished)
        tensors, optimizers = _split(state, _storable)
        save_file(tensors, unfinished / "state.safetensors")
        written = sorted(unfinished.glob("*.safetensors"))
        for path in written:
            _flush(path)
        digests = {path.name: _digest(path) for path in written}
        write_json(
            unfinished / "state.json",
            StateFile(
                step=state.step,
                learning_rate=state.learning_rate,
                optimizers=optimizers,
                digests=digests,
                micro_batches=state.micro_batches,
            ),
        )
        _put_in_place(run, state.step, unfinished)
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
    except (OSError, msgspec.DecodeError, UnicodeDecodeError, SafetensorError) as error:
        raise CheckpointDamagedError(folder, str(error)) from error
    if file.format not in READABLE_FORMATS:
        raise CheckpointDamagedError(folder, f"its format {file.format} is not known to this version")
    try:
        return _joined(file, tensors)
    except (KeyError, ValueError) as error:
        raise CheckpointDamagedError(folder, f"its parts do not fit together ({error})") from error


def newest_checkpoint(
    run: RunFolder, on_damaged: Callable[[CheckpointDamagedError], None]
) -> TrainingState | None:
    """The newest checkpoint that is whole; damaged ones are reported and passed over.

    For the trainer that holds the run: what a crash left half done is cleared away first.
    """
    remove_unfinished(run)
    for step in reversed(run.checkpoint_steps()):
        try:
            return load_checkpoint(run.checkpoint(step))
        except CheckpointDamagedError as error:
            on_damaged(error)
    return None


def prune_checkpoints(run: RunFolder, keep: int) -> list[int]:
    """Remove all but the newest `keep` of the checkpoints that are not pinned; returns the steps removed."""
    removed: list[int] = []
    for step in [step for step in run.checkpoint_steps() if not run.is_pinned(step)][:-keep]:
        folder = run.checkpoint(step)
        away = _hidden(folder, REMOVED)
        try:
            # Gone at once for every reader, and whole until then.
            folder.rename(away)
        except OSError:
            # Held open by another program (Windows): the next pruning takes it.
            continue
        if (away / PIN_NAME).exists():
            # Pinned at this very moment.
            away.rename(folder)
            continue
        shutil.rmtree(away, ignore_errors=True)
        removed.append(step)
    return removed


def remove_unfinished(run: RunFolder) -> None:
    """Clear away what a crash in the middle of a save or a removal left behind."""
    for replaced in run.checkpoints_folder.glob(f".*{REPLACED}"):
        final = replaced.with_name(replaced.name.removeprefix(".").removesuffix(REPLACED))
        if not final.exists():
            # The crash fell between the two renames of a replacement.
            with contextlib.suppress(OSError):
                replaced.rename(final)
    for ending in (UNFINISHED, REPLACED, REMOVED):
        for leftover in run.checkpoints_folder.glob(f".*{ending}"):
            shutil.rmtree(leftover, ignore_errors=True)


def _hidden(folder: Path, ending: str) -> Path:
    return folder.with_name(f".{folder.name}{ending}")


def _put_in_place(run: RunFolder, step: int, unfinished: Path) -> None:
    """Give a complete checkpoint its name; the one that it replaces is there until it has it."""
    final = run.checkpoint(step)
    if not final.exists():
        unfinished.rename(final)
        return
    replaced = _hidden(final, REPLACED)
    final.rename(replaced)
    try:
        if (replaced / PIN_NAME).exists():
            (unfinished / PIN_NAME).touch()
        unfinished.rename(final)
    except OSError:
        with contextlib.suppress(OSError):
            replaced.rename(final)
        raise
    shutil.rmtree(replaced, ignore_errors=True)


Store = Callable[[Tensor], Tensor]


def _split(state: TrainingState, store: Store) -> tuple[dict[str, Tensor], dict[str, Any]]:
    """Tensors under flat names, and the optimizers' numbers as JSON with the tensors left out."""
    tensors: dict[str, Tensor] = {}
    numbers: dict[str, Any] = {}
    for part, weights in (("lora", state.loras), ("average", state.averages)):
        for expert, named in weights.items():
            for name, tensor in named.items():
                tensors[f"{part}/{expert.value}/{name}"] = store(tensor)
    for expert, optimizer in state.optimizers.items():
        found: dict[str, Tensor] = {}
        numbers[expert.value] = {
            "state": _without_tensors(optimizer["state"], f"optimizer/{expert.value}", found),
            "param_groups": _marked(optimizer["param_groups"], f"group/{expert.value}", found),
        }
        tensors |= {name: store(tensor) for name, tensor in found.items()}
    return tensors, numbers


def _without_tensors(values: Mapping[Any, Any], path: str, tensors: dict[str, Tensor]) -> dict[str, Any]:
    """The nested mapping without its tensors, which go into `tensors` under their path.

    bitsandbytes keeps its quantized moments one mapping deeper than torch's own optimizers.
    """
    rest: dict[str, Any] = {}
    for key, value in values.items():
        if isinstance(value, Tensor):
            tensors[f"{path}/{key}"] = value
        elif isinstance(value, Mapping):
            rest[str(key)] = _without_tensors(value, f"{path}/{key}", tensors)
        else:
            rest[str(key)] = _marked(value, f"{path}/{key}", tensors)
    return rest


def _marked(value: Any, path: str, tensors: dict[str, Tensor]) -> Any:
    """The value in JSON's terms, with a mark on what JSON would change: `_unmarked` gives it back.

    Those are tuples, infinities (Prodigy's growth rate is one) and NaN, and tensors.
    """
    match value:
        case Tensor():
            tensors[path] = value
            return {"$tensor": path}
        case tuple():
            return {"$tuple": _marked(list(value), path, tensors)}
        case list():
            return [_marked(each, f"{path}/{index}", tensors) for index, each in enumerate(value)]
        case dict():
            return {key: _marked(each, f"{path}/{key}", tensors) for key, each in value.items()}
        case float() if not math.isfinite(value):
            return {"$number": str(value)}
        case _:
            return value


def _unmarked(value: Any, tensors: Mapping[str, Tensor]) -> Any:
    match value:
        case {"$tensor": path}:
            return tensors[path]
        case {"$tuple": values}:
            return tuple(_unmarked(values, tensors))
        case {"$number": text}:
            return float(text)
        case list():
            return [_unmarked(each, tensors) for each in value]
        case dict():
            return {key: _unmarked(each, tensors) for key, each in value.items()}
        case _:
            return value


def _joined(file: StateFile, tensors: Mapping[str, Tensor]) -> TrainingState:
    weights: dict[str, dict[Expert, dict[str, Tensor]]] = {"lora": {}, "average": {}}
    optimizers = {Expert(name): _unmarked(numbers, tensors) for name, numbers in file.optimizers.items()}
    for name, tensor in tensors.items():
        part, expert_name, *path = name.split("/")
        if part in weights:
            weights[part].setdefault(Expert(expert_name), {})["/".join(path)] = tensor
        elif part == "optimizer":
            values = optimizers[Expert(expert_name)]["state"]
            for key in path[:-1]:
                values = values[key]
            values[path[-1]] = tensor
    for optimizer in optimizers.values():
        # JSON knows only text as keys; torch numbers its parameters.
        optimizer["state"] = {int(index): values for index, values in optimizer["state"].items()}
    return TrainingState(
        step=file.step,
        learning_rate=file.learning_rate,
        loras=weights["lora"],
        optimizers=optimizers,
        averages=weights["average"],
        micro_batches=file.micro_batches,
    )


def _same(tensor: Tensor) -> Tensor:
    return tensor


def _storable(tensor: Tensor) -> Tensor:
    """A copy of its own on the CPU: safetensors refuses tensors that share memory."""
    return tensor.detach().to("cpu", copy=True).contiguous()


def _digest(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def _flush(path: Path) -> None:
    """See that the content is on the disk: the folder's rename must not get there before it."""
    # Opened for writing: Windows flushes no file that was opened for reading.
    with path.open("r+b") as file:
        os.fsync(file.fileno())
