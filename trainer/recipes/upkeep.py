"""What is done between optimizer steps: save, preview, pause."""

import time
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from torch import Tensor

from trainer.model.lora import lora_settings, lora_state
from trainer.model.lora_weights import lora_file_state
from trainer.output.checkpoint import OptimizerState, TrainingState, prune_checkpoints, save_checkpoint
from trainer.output.lora_file import LoraFileSpec, write_lora_file
from trainer.protocol.events import CheckpointRemoved, CheckpointSaved, Paused, Phase, Unpaused, WorkMeasured
from trainer.protocol.job import Expert
from trainer.protocol.run_folder import lora_file_name
from trainer.recipes.describe_lora import lora_metadata
from trainer.recipes.parts import Parts, averaged
from trainer.recipes.render_previews import render_previews
from trainer.runtime.device import release_memory
from trainer.runtime.disk_guard import wait_for_room


def is_due(step: int, every: int) -> bool:
    """Whether something that happens every so many steps, 0 for never, happens after this one."""
    return every > 0 and step % every == 0


@dataclass(frozen=True, slots=True)
class ExpertState:
    """All that a checkpoint holds of one expert, on the CPU, so that another process can write it.

    Attributes:
        lora: The weights in training.
        average: Their moving average; None when none is kept.
        file: The tensors of the LoRA file: the average, where there is one, as other programs read it.
    """

    lora: Mapping[str, Tensor]
    optimizer: OptimizerState
    average: Mapping[str, Tensor] | None
    file: Mapping[str, Tensor]

    @property
    def shown(self) -> Mapping[str, Tensor]:
        """What previews are made with."""
        return self.lora if self.average is None else self.average


def expert_state(parts: Parts, expert: Expert) -> ExpertState:
    """The state of an expert that this process trains."""
    learner = parts.learners[expert]
    transformer = parts.experts.transformer(expert)
    lora = lora_state(transformer)
    average = None if learner.average is None else learner.average.state()
    file = lora_file_state(transformer, lora if average is None else average)
    return ExpertState(lora, _on_cpu(learner.optimizer.state_dict()), average, file)


def _on_cpu(value: Any) -> Any:
    """Nested values with their tensors in RAM."""
    match value:
        case Tensor():
            return value.detach().cpu()
        case dict():
            return {key: _on_cpu(each) for key, each in value.items()}
        case list():
            return [_on_cpu(each) for each in value]
        case _:
            return value


def save(parts: Parts, step: int, others: Mapping[Expert, ExpertState] | None = None) -> None:
    """Write a checkpoint and prune old ones.

    Args:
        parts: The run.
        step: Optimizer steps done.
        others: Of the experts that another process trains.
    """
    context = parts.context
    watch = context.meter.begin()
    context.control.save = False
    states = {expert: expert_state(parts, expert) for expert in parts.learners} | dict(others or {})
    state = TrainingState(
        step=step,
        learning_rate=parts.changed_learning_rate,
        loras={expert: one.lora for expert, one in states.items()},
        optimizers={expert: one.optimizer for expert, one in states.items()},
        averages={expert: one.average for expert, one in states.items() if one.average is not None},
        micro_batches=parts.micro_batches,
    )
    with context.reporter.phase(Phase.SAVING):
        folder = wait_for_room(
            lambda: save_checkpoint(
                context.run, state, lambda folder: write_loras(parts, states, step, folder)
            ),
            context.run.path,
            context.reporter,
            context.control,
            step=step,
            needed_bytes=state.expected_bytes,
        )
    path = folder.relative_to(context.run.path).as_posix()
    context.reporter.say(CheckpointSaved(step=step, path=path))
    parts.saved_step = step
    for removed in prune_checkpoints(context.run, context.job.save.keep):
        context.reporter.say(CheckpointRemoved(step=removed))
    cost = watch.stop()
    parts.pace.save_seconds = cost.seconds
    context.meter.add(WorkMeasured(work="saving"), cost)
    context.meter.tell_news()


def write_loras(parts: Parts, states: Mapping[Expert, ExpertState], step: int, folder: Path) -> None:
    """Write each expert's LoRA, its average where there is one, as a file that other programs can use."""
    job = parts.context.job
    for expert, state in states.items():
        settings = lora_settings(job, expert)
        # Without a date, so that a resumed run ends with the very bytes of an uninterrupted one.
        metadata = lora_metadata(
            job,
            base_fingerprint=parts.context.base.fingerprint,
            boundary=parts.experts.boundary,
            expert=expert,
            steps_total=step,
            steps_of_expert=parts.turns.steps_taken(expert, step),
        )
        spec = LoraFileSpec(
            dtype=job.save.dtype, rank=settings.rank, alpha=settings.trained_alpha, metadata=metadata
        )
        write_lora_file(folder / lora_file_name(expert), state.file, spec)


def preview(parts: Parts, step: int) -> None:
    """Render the previews; their failure is a warning, training goes on."""
    parts.context.control.preview = False
    if not parts.context.job.sample.rows:
        return
    began = time.monotonic()
    with averaged(parts):
        render_previews(parts.context, parts.experts, step)
    parts.pace.preview_seconds = time.monotonic() - began


def pause(parts: Parts, step: int) -> None:
    """Wait, with the state saved and unused memory given back, until told to go on or to stop."""
    context = parts.context
    release_memory()
    context.reporter.say(Paused(step=step, reason="Paused as asked; the state is saved."))
    context.control.wait_while_paused()
    if not context.control.stop:
        context.reporter.say(Unpaused(step=step))
