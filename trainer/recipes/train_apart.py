"""Train each expert in a process, and on a GPU, of its own: the loop of one of the two.

Both walk the same turns and take only the steps of their own expert. A step needs nothing of the other
expert: what it draws is a function of job, step and micro-batch, and its rate of its own expert's steps. So
the order in which the two experts' steps happen is irrelevant to the numbers: each expert's LoRA, optimizer
and average end as in one process, to the bit. With equal shares the run takes half the steps' time.

They meet at checkpoints and previews, and when the first process calls because of a command: at the earliest
step that neither has passed. There the second hands its state over, and the first writes one ordinary
checkpoint, from which one process or two can go on. Each measures its own expert on the held-out clips, where
its own steps pass the step that this is due at, without waiting. The first process alone renders previews; a
run that has any loads the second expert there too, which waits in RAM and wears the LoRA handed over last.
"""

from collections.abc import Callable
from dataclasses import dataclass

from trainer.protocol.events import Phase, StepDone
from trainer.protocol.job import Expert
from trainer.recipes.parts import Parts, averaged, change_learning_rate, show_lora
from trainer.recipes.upkeep import ExpertState, expert_state, is_due, pause, preview, save
from trainer.recipes.validate import validate
from trainer.runtime.control import Control
from trainer.runtime.pair import Pair


@dataclass(frozen=True, slots=True)
class Arrival:
    """How a process comes to a meeting.

    Attributes:
        passed: The steps that it cannot go back behind: its last own one included.
        asked: Whether it comes before the meeting is due, because of a command.
    """

    passed: int
    asked: bool


def agreed_step(arrivals: list[Arrival], due: int) -> int:
    """The optimizer steps that both will have done at the meeting.

    Args:
        arrivals: The first process's, which alone can ask for a meeting before its time, and the second's.
        due: Where they meet anyway.
    """
    return max(one.passed for one in arrivals) if arrivals[0].asked else due


TakeStep = Callable[[Parts, int], StepDone]
"""Takes one optimizer step, of that number from 0."""


def train_apart(parts: Parts, pair: Pair, first_step: int, take_step: TakeStep) -> int:
    """Take this process's steps until all are done or a stop arrives; returns the steps that both have done.

    Args:
        parts: This process's.
        pair: What ties it to the other.
        first_step: Optimizer steps that are done.
        take_step: The recipe's.

    Raises:
        MemoryRanOutError: the GPU's memory did not suffice; what was saved before is what is kept.
        OtherFailedError: the other process failed.
        OtherLostError: the other process is gone.
        FirstHasEndedError: the first process has stopped or failed, and has said so itself.
    """
    walk = Walk(parts, pair, first_step, take_step)
    with parts.context.reporter.phase(Phase.TRAINING, parts.turns.total_steps, "steps") as report:
        report.progress(first_step)
        while walk.done < parts.turns.total_steps:
            walk.go_to_meeting()
            walk.look_after()
            if walk.control.stop:
                break
    return walk.done


class Walk:
    """One process's way through the turns.

    Attributes:
        done: Optimizer steps that both have done.
    """

    def __init__(self, parts: Parts, pair: Pair, first_step: int, take_step: TakeStep) -> None:
        self._parts = parts
        self._take_step = take_step
        self._pair = pair
        self.done = first_step
        self._passed = first_step
        self._validated = first_step

    @property
    def control(self) -> Control:
        """The wishes."""
        return self._parts.context.control

    def go_to_meeting(self) -> None:
        """Take own steps up to the next meeting, and agree with the other on what is wished there."""
        due = self._next_meeting()
        while (step := self._own_step_before(due)) is not None:
            if self._is_wanted():
                break
            self._take(step)
        self._pair.meet(self._is_wanted)
        arrivals = self._pair.gather(Arrival(self._passed, self._is_asked()))
        self.done = agreed_step(arrivals, due)
        while (step := self._own_step_before(self.done)) is not None:
            self._take(step)
            self._pair.listen()
        self._passed = self.done
        self._parts.done_step = self.done
        self._pair.meet(self._is_wanted)
        self._pair.settle(self.done)

    def look_after(self) -> None:
        """Save, validate and preview when due, asked for or at the end; wait when asked to pause."""
        job, control, done = self._parts.context.job, self.control, self.done
        self._agree_on_wishes()
        last = done == self._parts.turns.total_steps
        if control.learning_rate is not None:
            change_learning_rate(self._parts, control.learning_rate)
            control.learning_rate = None
        saved = last or is_due(done, job.save.every) or control.save or control.stop or control.pause
        wants_preview = control.preview or (last and job.sample.every) or is_due(done, job.sample.every)
        shown = bool(wants_preview and job.sample.rows) and not control.stop
        is_pausing = control.pause
        others = self._exchange() if saved or shown else {}
        if saved and self._pair.is_first:
            save(self._parts, done, others)
        if not control.stop:
            self._validate_up_to(done, last=last)
        if wants_preview and self._pair.is_first and not control.stop:
            preview(self._parts, done)
        if is_pausing and self._pair.is_first:
            pause(self._parts, done)
        # The second waits here, and learns of a stop that came meanwhile.
        self._agree_on_wishes()
        if control.stop and not saved:
            others = self._exchange()
            if self._pair.is_first:
                save(self._parts, done, others)

    def _next_meeting(self) -> int:
        """The optimizer steps after which both meet anyway."""
        job, total = self._parts.context.job, self._parts.turns.total_steps
        times = [job.save.every]
        if job.sample.rows and job.sample.every:
            times.append(job.sample.every)
        return min(total, *((self.done // every + 1) * every for every in times))

    def _own_step_before(self, end: int) -> int | None:
        """The next optimizer step, from 0, of this process's expert; None if it is not before `end`."""
        step = self._parts.turns.step_from(self._passed, self._parts.learners)
        return step if step is not None and step < end else None

    def _take(self, step: int) -> None:
        self._validate_up_to(step)
        told = self._take_step(self._parts, step)
        self._passed = step + 1
        self._parts.context.reporter.say(told)

    def _validate_up_to(self, step: int, *, last: bool = False) -> None:
        """Measure this process's expert for each due step that it has come to with its own steps."""
        every = self._parts.context.job.advanced.validation_every
        if not every:
            return
        due = [number for number in range(self._validated + 1, step + 1) if is_due(number, every)]
        if last and step not in due:
            due.append(step)
        self._validated = step
        for number in due:
            with averaged(self._parts):
                validate(self._parts.context, self._parts.experts, (self._pair.expert,), number)

    def _is_asked(self) -> bool:
        """Whether a command is there that takes both."""
        control = self.control
        changes = control.learning_rate is not None
        return control.stop or control.pause or control.save or control.preview or changes

    def _is_wanted(self) -> bool:
        """Hear what there is, between steps; whether both must meet before that is due."""
        self._pair.listen()
        self.control.look()
        if not self._pair.is_first:
            return self._pair.is_called()
        if self._is_asked():
            self._pair.call()
            return True
        return False

    def _agree_on_wishes(self) -> None:
        """Both have the first one's wishes."""
        self.control.take_over(self._pair.share(self.control.wishes))

    def _exchange(self) -> dict[Expert, ExpertState]:
        """The second hands its expert's state over; the first returns it, and shows it in previews from now on."""
        if not self._pair.is_first:
            self._pair.give(expert_state(self._parts, self._pair.expert))
            return {}
        state: ExpertState = self._pair.take()
        show_lora(self._parts, Expert.LOW, state.shown)
        return {Expert.LOW: state}
