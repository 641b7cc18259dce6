"""The steps of two processes are told in the order of the steps, each once."""

from trainer.protocol.events import CheckpointSaved, RunFailed, StepDone, ValidationDone, Warned
from trainer.protocol.job import Expert
from trainer.protocol.run_folder import EventReader, RunFolder
from trainer.runtime.pair_reporters import FirstReporter, SecondReporter, StepOrder
from trainer.runtime.reporter import Reporter


def step(number: int, expert: Expert = Expert.HIGH, seconds_left: float | None = None) -> StepDone:
    return StepDone(
        step=number,
        expert=expert,
        loss=0.1,
        timesteps=(1.0,),
        learning_rate=1e-4,
        grad_norm=1.0,
        seconds=1.0,
        seconds_left=seconds_left,
    )


def validation(number: int, expert: Expert = Expert.HIGH) -> ValidationDone:
    return ValidationDone(step=number, expert=expert, loss=0.1, timesteps=(), timestep_losses=())


def told(events: list) -> list[tuple[str, int]]:
    return [(type(event).__name__, event.step) for event in events]


def test_a_step_waits_for_those_before_it():
    order = StepOrder(10)
    for number in (13, 11, 14):
        order.add(step(number))
    assert told(order.take_ready()) == [("StepDone", 11)]
    order.add(step(12, Expert.LOW))
    assert told(order.take_ready()) == [("StepDone", number) for number in (12, 13, 14)]
    assert order.take_ready() == []


def test_a_loss_on_held_out_clips_follows_its_step_and_one_of_a_told_step_comes_at_once():
    order = StepOrder(0)
    order.add(validation(0))
    order.add(validation(2, Expert.LOW))
    order.add(step(2))
    assert told(order.take_ready()) == [("ValidationDone", 0)]
    order.add(step(1))
    assert told(order.take_ready()) == [("StepDone", 1), ("StepDone", 2), ("ValidationDone", 2)]
    order.add(validation(2))
    assert told(order.take_ready()) == [("ValidationDone", 2)]


def test_a_step_that_was_lost_on_a_full_disk_holds_nothing_up_beyond_the_next_meeting():
    order = StepOrder(0)
    for number in (2, 3, 6):
        order.add(step(number))
    assert order.take_ready() == []
    assert told(order.take_up_to(4)) == [("StepDone", 2), ("StepDone", 3)]
    order.add(step(5))
    assert told(order.take_ready()) == [("StepDone", 5), ("StepDone", 6)]


def test_the_time_left_is_that_of_the_slower_process():
    order = StepOrder(0)
    for event in (step(1, Expert.HIGH, 10.0), step(2, Expert.LOW, 30.0), step(3, Expert.HIGH, 9.0)):
        order.add(event)
    assert [event.seconds_left for event in order.take_ready()] == [10.0, 30.0, 30.0]


def test_what_the_second_hands_on_is_said_by_the_first_in_its_place(tmp_path):
    run = RunFolder(tmp_path)
    with Reporter(run) as reporter:
        second = SecondReporter(tmp_path / "steps.jsonl")
        first = FirstReporter(reporter, tmp_path / "steps.jsonl", 0)
        first.say(step(3))
        second.say(step(1, Expert.LOW))
        second.warn("only for the log")
        second.say(step(2, Expert.LOW))
        first.say(CheckpointSaved(step=2, path="there"))
        assert first.fold() is None
        second.say(RunFailed(kind="bug", message="broken"))
        failed = first.fold()
        assert failed is not None
        assert failed.message == "broken"
        first.say(step(6))
        first.settle(6)
        second.close()
        second.close()
    events = EventReader(run.events_file).read_new()
    assert not any(isinstance(event, Warned | RunFailed) for event in events)
    numbered = [(type(event).__name__, event.step) for event in events]
    assert numbered == [("CheckpointSaved", 2), *(("StepDone", number) for number in (1, 2, 3, 6))]
