"""From a checkpoint to files for other programs: convert, verify against the model, hand over."""

from dataclasses import dataclass, field
from pathlib import Path

from trainer.errors import TrainerError
from trainer.model.layouts import expert_config, open_base
from trainer.model.load import base_weights
from trainer.model.lora import complete_dora, lora_settings, lora_target_shapes
from trainer.output.export import ExportOptions, export_pair
from trainer.protocol.job import Expert
from trainer.protocol.run_folder import RunFolder, lora_file_name


class NoCheckpointError(TrainerError):
    """The run has no checkpoint, or not this one."""

    kind = "no_checkpoint"

    def __init__(self, run: Path, step: int | None, available: list[int]) -> None:
        which = "no checkpoint yet" if step is None else f"no checkpoint of step {step}"
        known = f"It has: {', '.join(map(str, available))}." if available else "Train until the first save."
        super().__init__(f"{run} has {which}.", known)


@dataclass(frozen=True, slots=True)
class ExportRequest:
    """What to export; None takes the newest checkpoint, the run's exports folder, the run's name."""

    step: int | None = None
    folder: Path | None = None
    name: str | None = None
    options: ExportOptions = field(default_factory=ExportOptions)


def export_lora(run: RunFolder, request: ExportRequest) -> list[Path]:
    """Write a checkpoint's LoRA files, each verified against the model's own list of layers.

    Returns:
        The files written, high noise first.

    Raises:
        TrainerError: no such checkpoint, a file that does not fit the model, values that the number type
            cannot hold, a strength of 0, or a folder that cannot be written.
        WireError: there is no run here.
    """
    job = run.read_job()
    step = checkpoint_step(run, request.step)
    base = open_base(job.model)
    checkpoint = run.checkpoint(step)
    found = {
        expert: checkpoint / lora_file_name(expert)
        for expert in Expert
        if (checkpoint / lora_file_name(expert)).exists()
    }
    target_shapes = {
        expert: lora_target_shapes(expert_config(base, expert), lora_settings(job, expert))
        for expert in found
    }
    return export_pair(
        found,
        target_shapes,
        request.folder or run.exports_folder,
        request.name or job.job.name,
        request.options,
        # diffusers gives DoRA's magnitudes another meaning than ComfyUI, for which checkpoints are written.
        (lambda expert, state: complete_dora(state, base_weights(base, expert)))
        if request.options.format == "diffusers"
        else None,
    )


def checkpoint_step(run: RunFolder, wanted: int | None) -> int:
    """The wanted step, or the newest; raises `NoCheckpointError`."""
    available = run.checkpoint_steps()
    if not available or (wanted is not None and wanted not in available):
        raise NoCheckpointError(run.path, wanted, available)
    return available[-1] if wanted is None else wanted
