"""Put a run together: turns, data, experts with their LoRAs, optimizers; new, or as a checkpoint left them."""

from collections.abc import Generator, Mapping
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field, replace
from typing import Any

import msgspec
import torch
from diffusers.models.transformers.transformer_wan import WanTransformer3DModel
from torch import Tensor
from torch.nn import Parameter
from torch.optim import Optimizer

from trainer.data.batches import BatchPlan, BatchSource, entries_of
from trainer.model.assemble import ServedExperts
from trainer.model.experts import Experts
from trainer.model.lora import add_lora, load_lora_state, lora_parameters, lora_settings, lora_state
from trainer.objective.timesteps import NoiseInterval, TimestepDistribution, expert_interval
from trainer.objective.turns import ExpertTurns, TurnSettings
from trainer.output.checkpoint import TrainingState
from trainer.protocol.job import Expert, JobSpec
from trainer.recipes.cache_dataset import cache_latents, cache_prompts
from trainer.recipes.draws import Draw, DrawSource, Place, draw
from trainer.recipes.load_experts import load_experts
from trainer.recipes.prompts import captions_nothing_preserves
from trainer.recipes.run_context import RunContext
from trainer.runtime.ema import WeightAverage
from trainer.runtime.optim import doubtful_learning_rate, make_optimizer
from trainer.runtime.out_of_memory import Doing, MemoryWork, watching_memory
from trainer.runtime.pace import Pace
from trainer.runtime.prefetch import OneAhead
from trainer.runtime.schedule import LearningRateSchedule
from trainer.runtime.seeding import derived_seed


@dataclass(slots=True)
class Learner:
    """What one expert trains with.

    Attributes:
        learning_rate: Before the schedule.
        average: Moving average of the parameters; None when it is off.
    """

    parameters: list[Parameter]
    optimizer: Optimizer
    learning_rate: float
    schedule: LearningRateSchedule
    timesteps: TimestepDistribution
    interval: NoiseInterval
    average: WeightAverage | None


@dataclass(slots=True)
class Parts:
    """What trains, once everything is loaded.

    Attributes:
        learners: Of the experts that this process trains.
        draws: What each micro-batch trains on, the next one made ahead; a context manager.
        micro_batches: Micro-batches of an optimizer step, over all processes.
        done_step: Optimizer steps that are done, in this process or before.
        saved_step: Step of the newest checkpoint; 0 for none.
    """

    context: RunContext
    experts: Experts
    served: ServedExperts
    turns: ExpertTurns
    batches: BatchSource
    learners: dict[Expert, Learner]
    draws: OneAhead[Place, Draw]
    micro_batches: int
    changed_learning_rate: float | None = None
    done_step: int = 0
    saved_step: int = 0
    pace: Pace = field(default_factory=Pace)


def turns_of(job: JobSpec) -> ExpertTurns:
    """The experts' turns that the job asks for."""
    multistage = job.multistage
    most_steps = {expert: multistage.override(expert, "steps") for expert in Expert}
    settings = TurnSettings(multistage.stages, multistage.switch_every, multistage.high_share, most_steps)
    return ExpertTurns(settings, job.training.steps)


def prepare(context: RunContext, turns: ExpertTurns, saved: TrainingState | None = None) -> Parts:
    """Cache the data, load the experts with a fresh LoRA and optimizer each.

    Args:
        context: The run.
        turns: Of its experts.
        saved: The checkpoint that the run goes on from.
    """
    job = context.job
    before = saved.micro_batches or job.training.gradient_accumulation if saved is not None else None
    micro_batches = context.team.batches_of_step(job.training.gradient_accumulation, before)

    def cache() -> None:
        cache_prompts(context)
        cache_latents(context)

    context.everyone.after_first(cache)
    warn_of_settings(context)
    batches = batches_of(context)
    return put_together(context, turns, Data(batches, batches, micro_batches))


@dataclass(frozen=True, slots=True)
class Data:
    """What a run's steps are made from.

    Attributes:
        known: All training batches, from which 4-bit weights learn what they meet.
        drawn: Those that the steps take.
        micro_batches: Of an optimizer step, over all processes.
    """

    known: BatchSource
    drawn: BatchSource
    micro_batches: int


def put_together(context: RunContext, turns: ExpertTurns, data: Data) -> Parts:
    """Load the experts with a fresh LoRA and optimizer each; latents and text are there."""
    job = context.job
    trained = turns.experts if context.pair is None else (context.pair.expert,)
    # A preview needs both experts, also when only one of them trains; the first process renders it.
    needed = tuple(Expert) if job.sample.rows and context.everyone.is_first else trained

    def dress(expert: Expert, transformer: WanTransformer3DModel) -> None:
        if expert in turns.experts:
            seed = derived_seed(job.training.seed, "lora", expert.value)
            add_lora(transformer, lora_settings(job, expert), seed)

    with watching_memory(MemoryWork(Doing.LOADING)):
        loaded = load_experts(sparing(context), needed, data.known, dress)
    learners = {expert: learner_of(job, loaded.experts, turns, expert) for expert in trained}
    aims = {expert: (learner.interval, learner.timesteps) for expert, learner in learners.items()}
    return Parts(
        context=context,
        experts=loaded.experts,
        served=loaded.served,
        turns=turns,
        batches=data.drawn,
        learners=learners,
        draws=draws_of(DrawSource(context, turns, data.drawn, aims, data.micro_batches)),
        micro_batches=data.micro_batches,
    )


def sparing(context: RunContext) -> RunContext:
    """The run as experts are loaded for it: one that is there for previews alone waits in RAM."""
    if context.pair is None:
        return context
    model = msgspec.structs.replace(context.job.model, low_vram=True)
    return replace(context, job=msgspec.structs.replace(context.job, model=model))


def draws_of(source: DrawSource) -> OneAhead[Place, Draw]:
    """The draws of a run in the order of its micro-batches, made on a thread of their own."""
    device, team = source.context.device, source.context.team
    is_gpu = device.type == "cuda"

    def make(place: Place) -> Draw:
        made = draw(source, place)
        return made.pinned() if is_gpu else made

    def following(place: Place) -> Place | None:
        if place.micro + team.size < source.micro_batches:
            return Place(place.step, place.micro + team.size)
        step = source.turns.step_from(place.step + 1, source.aims)
        return None if step is None else Place(step, team.rank)

    # The device belongs to the thread: pinning memory on another one would open a second context there.
    return OneAhead(make, following, lambda: torch.cuda.set_device(device) if is_gpu else None)


def learner_of(job: JobSpec, experts: Experts, turns: ExpertTurns, expert: Expert) -> Learner:
    """An expert's optimizer and all that goes with it: the common settings, or its own where it has any."""
    training, multistage = job.training, job.multistage

    def own(name: str) -> Any:
        value = multistage.override(expert, name)
        return getattr(training, name) if value is None else value

    transformer = experts.transformer(expert)
    parameters = lora_parameters(transformer)
    named = dict(zip(lora_state(transformer), parameters, strict=True))
    rate = own("learning_rate")
    return Learner(
        parameters=parameters,
        optimizer=make_optimizer(training.optimizer, parameters, rate, training.weight_decay),
        learning_rate=rate,
        schedule=LearningRateSchedule(training.lr_schedule, training.warmup_steps, turns.steps_of(expert)),
        timesteps=TimestepDistribution(own("timestep_type"), own("timestep_shift"), own("timestep_bias")),
        interval=expert_interval(expert, experts.boundary, multistage.boundary_overlap),
        average=WeightAverage(named, training.ema_decay) if training.ema_decay else None,
    )


def batches_of(context: RunContext) -> BatchSource:
    """Training batches, with their share of regularization batches where there are such clips."""
    training, vae = context.job.training, context.vae_fingerprint
    main = BatchPlan(entries_of(context.job, "training", vae), training.batch_size, training.seed)
    kept = entries_of(context.job, "regularization", vae)
    regularization = BatchPlan(kept, training.batch_size, training.seed) if kept else None
    return BatchSource(main, regularization, training.regularization_share)


def warn_of_settings(context: RunContext) -> None:
    """Say what in the job cannot do what its name promises."""
    if count := captions_nothing_preserves(context.job):
        context.reporter.warn(
            f"Output preservation has nothing to do for {count} captions: they do not contain the trigger word.",
            "Add the trigger word to them, or set a preservation prompt.",
        )
    training, multistage = context.job.training, context.job.multistage
    rates = [multistage.override(expert, "learning_rate") or training.learning_rate for expert in Expert]
    for doubt in dict.fromkeys(doubtful_learning_rate(training.optimizer, rate) for rate in rates):
        if doubt:
            context.reporter.warn(doubt)


def restore(parts: Parts, saved: TrainingState) -> None:
    """Put a checkpoint's LoRAs, optimizers, averages and learning rate in place."""
    parts.done_step = parts.saved_step = saved.step
    for expert, learner in parts.learners.items():
        load_lora_state(parts.experts.transformer(expert), saved.loras[expert])
        learner.optimizer.load_state_dict(saved.optimizers[expert])
        if learner.average is not None and expert in saved.averages:
            learner.average.load_state(saved.averages[expert])
    for expert in parts.turns.experts:
        show_lora(parts, expert, saved.averages.get(expert, saved.loras[expert]))
    if saved.learning_rate is not None:
        change_learning_rate(parts, saved.learning_rate)


def show_lora(parts: Parts, expert: Expert, weights: Mapping[str, Tensor]) -> None:
    """Put weights on an expert that is here for previews alone; nothing happens to any other."""
    if expert not in parts.learners and expert in parts.experts.transformers:
        load_lora_state(parts.experts.transformer(expert), weights)


def change_learning_rate(parts: Parts, learning_rate: float) -> None:
    """Train on with another rate, the same for every expert; the schedule still applies."""
    parts.changed_learning_rate = learning_rate
    for learner in parts.learners.values():
        learner.learning_rate = learning_rate


@contextmanager
def averaged(parts: Parts) -> Generator[None]:
    """With each expert's average in place of its weights, where there is one."""
    with ExitStack() as stack:
        for learner in parts.learners.values():
            if learner.average is not None:
                stack.enter_context(learner.average.swapped_in())
        yield
