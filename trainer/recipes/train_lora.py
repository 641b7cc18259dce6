"""Train both experts' LoRAs, from job to last checkpoint; read it from top to bottom.

1. open the base and the newest checkpoint, 2. cache prompts and clips, 3. load the experts and put
LoRAs on them, 4. step: one expert's turn at a time, each on timesteps of its own side of the
boundary, 5. save, validate and preview when due or asked, 6. end. Where two processes share out the experts,
`train_apart` has 4 and 5.

Everything random is a function of the job's seed and the step, so a resumed run repeats what an
uninterrupted one would have done; on a CPU, to the bit.
"""

import os
from collections.abc import Generator
from contextlib import contextmanager
from pathlib import Path

from trainer.model.lora_weights import start_from
from trainer.objective.turns import ExpertTurns
from trainer.output.checkpoint import TrainingState, newest_checkpoint
from trainer.output.lora_file import read_lora_file
from trainer.protocol.events import Hello, Phase, RunFinished
from trainer.protocol.job import PROTOCOL_VERSION, Expert, JobSpec
from trainer.protocol.run_folder import RunFolder
from trainer.recipes.memory_advice import advised
from trainer.recipes.optimizer_step import take_optimizer_step
from trainer.recipes.parts import Parts, averaged, change_learning_rate, prepare, restore, turns_of
from trainer.recipes.run_context import RunContext, open_context
from trainer.recipes.train_apart import train_apart
from trainer.recipes.upkeep import is_due, pause, preview, save
from trainer.recipes.validate import validate
from trainer.runtime.control import Control, StopRequested
from trainer.runtime.device import choose_device, device_name, release_memory
from trainer.runtime.distributed import (
    ExpertsShareError,
    FirstHasEndedError,
    Team,
    join_team,
    leave_team,
)
from trainer.runtime.optim import drop_gradients
from trainer.runtime.out_of_memory import Doing, MemoryRanOutError
from trainer.runtime.pair import Pair, SecondControl
from trainer.runtime.reporter import Reporter
from trainer.runtime.version import TRAINER_VERSION

STEPS_BETWEEN_COMPARISONS = 50
"""Several processes compare their LoRAs, which must be the same, this often."""


def train_lora(run: RunFolder, job: JobSpec, reporter: Reporter, control: Control) -> None:
    """The whole run, new or resumed: from the newest whole checkpoint if there is one.

    Raises:
        TrainerError: the run cannot go on; its message says why and what to do.
    """
    team = join_team()
    try:
        train_in(team, run, job, reporter, control)
    finally:
        leave_team()


def train_in(team: Team, run: RunFolder, job: JobSpec, reporter: Reporter, control: Control) -> None:
    """The whole run, as one of the processes that train it together; errors as above."""
    device = choose_device(team.gpu(job.job.gpu, job.job.more_gpus))
    turns = turns_of(job)
    saved = newest_checkpoint(run, lambda damage: reporter.warn(damage.message, damage.hint))
    first_step = saved.step if saved else 0
    reporter.say(
        Hello(
            protocol_version=PROTOCOL_VERSION,
            trainer_version=TRAINER_VERSION,
            pid=os.getpid(),
            device=device_name(device) if team.size == 1 else f"{team.size} x {device_name(device)}",
            first_step=first_step,
            total_steps=turns.total_steps,
        )
    )
    try:
        if shares_experts(team, job):
            pair = Pair(team, run, reporter, first_step)
            with pair.together():
                told = control if pair.is_first else SecondControl(run, pair, pair.reporter)
                context = open_context(run, job, device, pair.reporter, told, pair)
                finished = train_from(context, turns, saved)
        else:
            context = open_context(run, job, device, reporter, control, team)
            finished = train_from(context, turns, saved)
    except StopRequested:
        # While caching, or while waiting for room on the disk: what is saved is what was done.
        reporter.say(RunFinished(reason="stopped", step=max(run.checkpoint_steps(), default=0)))
        return
    except FirstHasEndedError:
        return
    reporter.say(
        RunFinished(reason="completed" if finished == turns.total_steps else "stopped", step=finished)
    )


def shares_experts(team: Team, job: JobSpec) -> bool:
    """Whether each process trains one expert.

    Raises:
        ExpertsShareError: the job wants that, but it cannot be.
    """
    if team.size == 1 or job.job.gpu_share != "experts":
        return False
    if team.size != 2:
        raise ExpertsShareError(f"there are {team.size} GPUs for two experts")
    if job.multistage.stages != "both":
        raise ExpertsShareError("the run trains one expert only")
    return True


def train_from(context: RunContext, turns: ExpertTurns, saved: TrainingState | None) -> int:
    """Train from a checkpoint, or from the start; returns the optimizer steps done."""
    with advised(context.run, context.job):
        parts = prepare(context, turns, saved)
        with parts.draws:
            if saved is not None:
                restore(parts, saved)
            else:
                start(parts)
            if context.pair is not None:
                return train_apart(parts, context.pair, parts.done_step)
            return train(parts, parts.done_step)


def start(parts: Parts) -> None:
    """Before the first step: weights of an existing LoRA if one is named, and previews to compare with."""
    job = parts.context.job
    for expert in parts.turns.experts:
        path = job.target.start_high if expert is Expert.HIGH else job.target.start_low
        if path and expert in parts.experts.transformers:
            start_from(parts.experts.transformer(expert), read_lora_file(Path(path)).state)
            learner = parts.learners.get(expert)
            if learner is not None and learner.average is not None:
                learner.average.restart()
    if parts.context.everyone.is_first and job.sample.every and job.sample.at_start:
        preview(parts, 0)
    # Where each process has an expert, it measures that one.
    if parts.context.team.is_first and job.advanced.validation_every:
        validate(parts.context, parts.experts, tuple(parts.learners), 0)


def train(parts: Parts, first_step: int) -> int:
    """Take optimizer steps until all are done or a stop arrives; returns the steps done.

    Raises:
        MemoryRanOutError: the GPU's memory did not suffice; what was done before is saved.
    """
    control, team = parts.context.control, parts.context.team
    total = parts.turns.total_steps
    with (
        parts.context.reporter.phase(Phase.TRAINING, total, "steps") as report,
        kept_if_memory_runs_out(parts),
    ):
        report.progress(first_step)
        for step in range(first_step, total):
            parts.context.reporter.say(take_optimizer_step(parts, step))
            done = step + 1
            if done % STEPS_BETWEEN_COMPARISONS == 0:
                team.check_equal(parts.learners[parts.turns.expert_at(step)].parameters, done)
            control.look()
            control.take_over(team.share(control.wishes))
            if control.learning_rate is not None:
                change_learning_rate(parts, control.learning_rate)
                control.learning_rate = None
            last = done == total
            if is_anything_due(parts, done, last=last):
                if team.is_first:
                    look_after(parts, done, last=last)
                # The others wait here, and learn of a stop that came meanwhile.
                control.take_over(team.share(control.wishes))
            if control.stop:
                return done
    return total


def is_anything_due(parts: Parts, done: int, *, last: bool) -> bool:
    """Whether there is anything to do after this step but to go on."""
    job, control = parts.context.job, parts.context.control
    times = (job.save.every, job.advanced.validation_every, job.sample.every)
    asked = control.save or control.stop or control.pause or control.preview
    return last or asked or any(is_due(done, every) for every in times)


def look_after(parts: Parts, done: int, *, last: bool) -> None:
    """Save, validate and preview when due, asked for or at the end; wait when asked to pause."""
    job, control = parts.context.job, parts.context.control
    saved = last or is_due(done, job.save.every) or control.save or control.stop or control.pause
    if saved:
        save(parts, done)
    if not control.stop:
        look_at_progress(parts, done, last=last)
    if control.stop and not saved:
        # The stop came while previews were made.
        save(parts, done)
    if control.pause:
        pause(parts, done)


@contextmanager
def kept_if_memory_runs_out(parts: Parts) -> Generator[None]:
    """Save the last step that was completed, if that is not done, when memory runs out in the next one.

    Raises:
        MemoryRanOutError: as it came.
    """
    try:
        yield
    except MemoryRanOutError as ran_out:
        # The failed step must leave nothing: neither half a gradient nor the tensors that filled the memory.
        ran_out.let_go()
        parts.served.release()
        for learner in parts.learners.values():
            drop_gradients(learner.parameters)
        release_memory()
        # An update that broke off has changed some weights and not others: that is no state to keep.
        is_whole = ran_out.work.doing is not Doing.UPDATE
        if is_whole and parts.context.team.is_first and parts.done_step > parts.saved_step:
            save(parts, parts.done_step)
        raise


def look_at_progress(parts: Parts, done: int, *, last: bool) -> None:
    """Validate and preview when due, asked for, or at the end."""
    job = parts.context.job
    if (last and job.advanced.validation_every) or is_due(done, job.advanced.validation_every):
        with averaged(parts):
            validate(parts.context, parts.experts, parts.turns.experts, done)
    if parts.context.control.preview or (last and job.sample.every) or is_due(done, job.sample.every):
        preview(parts, done)
