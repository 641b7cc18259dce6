from trainer.protocol.events import (
    CheckpointRemoved,
    CheckpointSaved,
    CommandObeyed,
    Hello,
    MemoryReport,
    Paused,
    Phase,
    PhaseFinished,
    PhaseProgress,
    PhaseStarted,
    PreviewSaved,
    RunFailed,
    RunFinished,
    StepDone,
    UnknownEvent,
    Unpaused,
    ValidationDone,
    Warned,
    WorkMeasured,
)
from trainer.protocol.job import PROTOCOL_VERSION, Expert
from wan_studio.domain.run_state import Outcome, RunState, apply_all

HELLO = Hello(protocol_version=PROTOCOL_VERSION, trainer_version="1", pid=1, device="cpu", total_steps=20)


def step(number: int, expert: Expert = Expert.HIGH, loss: float = 0.5) -> StepDone:
    return StepDone(
        step=number,
        expert=expert,
        loss=loss,
        timesteps=(900.0,),
        learning_rate=1e-4,
        grad_norm=1.0,
        seconds=2.0,
        seconds_left=(20 - number) * 2.0,
    )


def test_a_run_waits_until_its_first_event():
    assert RunState().outcome is Outcome.WAITING
    assert apply_all(RunState(), [HELLO]).outcome is Outcome.RUNNING


def test_steps_move_the_training_phase_and_keep_each_experts_loss():
    events = [HELLO, PhaseStarted(phase=Phase.TRAINING, total=20), step(1), step(2, Expert.LOW, 0.25)]
    state = apply_all(RunState(), events)
    assert (state.step, state.total_steps, state.seconds_left) == (2, 20, 36.0)
    assert [(point.step, point.expert, point.loss) for point in state.losses] == [
        (1, Expert.HIGH, 0.5),
        (2, Expert.LOW, 0.25),
    ]
    (phase,) = state.phases
    assert (phase.done, phase.total) == (2, 20)


def test_a_preview_inside_training_is_an_inner_phase():
    state = apply_all(
        RunState(),
        [
            HELLO,
            PhaseStarted(phase=Phase.TRAINING, total=20),
            step(1),
            PhaseStarted(phase=Phase.PREVIEWING, total=8),
            PhaseProgress(phase=Phase.PREVIEWING, done=3, total=8, seconds_left=5.0, message="row 1"),
        ],
    )
    assert [phase.phase for phase in state.phases] == [Phase.TRAINING, Phase.PREVIEWING]
    assert (state.phases[1].done, state.phases[1].message) == (3, "row 1")
    state = apply_all(state, [PhaseFinished(phase=Phase.PREVIEWING, seconds=1.0)])
    assert [phase.phase for phase in state.phases] == [Phase.TRAINING]
    assert state.finished_phases == (Phase.PREVIEWING,)


def test_a_resumed_run_forgets_the_steps_after_its_checkpoint():
    crashed = apply_all(RunState(), [HELLO, *(step(n) for n in range(1, 16))])
    again = Hello(
        protocol_version=PROTOCOL_VERSION,
        trainer_version="1",
        pid=2,
        device="cpu",
        first_step=10,
        total_steps=20,
    )
    state = apply_all(crashed, [again, step(11, Expert.LOW, 0.1)])
    assert [point.step for point in state.losses] == list(range(1, 12))
    assert (state.step, state.outcome) == (11, Outcome.RUNNING)


def test_a_dead_trainer_without_a_last_event_has_crashed_with_its_last_words():
    state = apply_all(RunState(), [HELLO, step(7)]).with_dead_trainer("loading\nCUDA out of memory\n\n")
    assert state.outcome is Outcome.CRASHED
    assert "step 7" in state.summary
    assert "CUDA out of memory" in state.summary
    assert "Resume" in state.hint


def test_a_dead_trainer_changes_nothing_after_the_last_event():
    finished = apply_all(RunState(), [HELLO, RunFinished(reason="completed", step=20)])
    assert finished.with_dead_trainer("noise at exit") == finished
    failed = apply_all(RunState(), [HELLO, RunFailed(kind="bug", message="It broke.", hint="Tell us.")])
    assert failed.with_dead_trainer("traceback") == failed
    assert (failed.outcome, failed.summary, failed.hint) == (Outcome.FAILED, "It broke.", "Tell us.")


def test_a_run_that_never_began_and_said_nothing_still_waits():
    assert RunState().with_dead_trainer("").outcome is Outcome.WAITING
    assert RunState().with_dead_trainer("No module named torch").outcome is Outcome.CRASHED


def test_stopping_says_where_to_go_on():
    state = apply_all(RunState(), [HELLO, step(5), RunFinished(reason="stopped", step=5)])
    assert state.outcome is Outcome.STOPPED
    assert "step 5" in state.summary
    assert state.has_ended


def test_a_pause_is_not_an_end():
    state = apply_all(RunState(), [HELLO, Paused(step=5, reason="The disk is full.")])
    assert (state.outcome, state.summary, state.has_ended) == (Outcome.PAUSED, "The disk is full.", False)
    state = apply_all(state, [Unpaused(step=5)])
    assert (state.outcome, state.summary) == (Outcome.RUNNING, "")


def test_checkpoints_and_previews_are_listed_once_and_in_order():
    state = apply_all(
        RunState(),
        [
            HELLO,
            CheckpointSaved(step=20, path="b"),
            CheckpointSaved(step=10, path="a"),
            CheckpointSaved(step=20, path="b"),
            CheckpointRemoved(step=10),
            PreviewSaved(step=10, row=0, video="old.mp4", poster="p"),
            PreviewSaved(step=10, row=0, video="new.mp4", poster="p"),
            PreviewSaved(step=10, row=1, video="other.mp4", poster="p"),
        ],
    )
    assert [checkpoint.step for checkpoint in state.checkpoints] == [20]
    assert [preview.video for preview in state.previews] == ["new.mp4", "other.mp4"]


def test_another_protocol_is_a_sentence_and_unknown_events_are_counted():
    newer = Hello(protocol_version=PROTOCOL_VERSION + 1, trainer_version="9", pid=1, device="cpu")
    state = apply_all(RunState(), [newer, UnknownEvent(b"{}"), Warned(message="Slow.")])
    assert f"protocol {PROTOCOL_VERSION + 1}" in state.hint
    assert state.unknown_events == 1
    assert [warning.message for warning in state.warnings] == ["Slow."]


def test_a_steps_samples_and_preservation_are_kept_with_its_loss():
    done = StepDone(
        step=1,
        expert=Expert.LOW,
        loss=0.3,
        timesteps=(100.0, 800.0),
        item_losses=(0.2, 0.4),
        preservation_loss=0.05,
        learning_rate=1e-4,
        grad_norm=1.0,
        seconds=1.0,
    )
    (point,) = apply_all(RunState(), [HELLO, done]).losses
    assert (point.timesteps, point.item_losses, point.preservation_loss) == ((100.0, 800.0), (0.2, 0.4), 0.05)


def validation(number: int) -> ValidationDone:
    return ValidationDone(
        step=number, expert=Expert.LOW, loss=0.1, timesteps=(500.0,), timestep_losses=(0.1,)
    )


def test_held_out_losses_are_kept_and_those_after_a_resumed_checkpoint_forgotten():
    before = apply_all(RunState(), [HELLO, validation(5), validation(10)])
    assert [done.step for done in before.validations] == [5, 10]
    again = Hello(protocol_version=1, trainer_version="1", pid=2, device="cpu", first_step=7, total_steps=20)
    assert [done.step for done in apply_all(before, [again]).validations] == [5]


def test_of_each_kind_of_work_the_latest_measurement_counts():
    def steps(expert: Expert, width: int, count: int) -> WorkMeasured:
        return WorkMeasured(
            work="step", expert=expert, width=width, height=32, frames=5, count=count, seconds=1.0
        )

    saving = WorkMeasured(work="saving", seconds=2.0)
    told = [
        steps(Expert.HIGH, 32, 3),
        saving,
        steps(Expert.LOW, 32, 4),
        steps(Expert.HIGH, 48, 5),
        steps(Expert.HIGH, 32, 6),
    ]
    state = apply_all(RunState(), [HELLO, *told])
    assert state.measured == tuple(told[1:])
    assert state.unknown_events == 0
    # It may go on with other settings of memory.
    assert apply_all(state, [HELLO]).measured == ()


def test_a_failure_for_want_of_memory_says_where_until_the_run_goes_on():
    memory = MemoryReport(doing="backward", expert=Expert.LOW, width=64, height=32, frames=5, needed_bytes=7)
    failed = apply_all(RunState(), [HELLO, RunFailed(kind="out_of_memory", message="Full.", memory=memory)])
    assert failed.memory == memory
    assert apply_all(failed, [HELLO]).memory is None


def test_a_failure_has_a_kind_until_the_run_goes_on():
    failed = apply_all(RunState(), [HELLO, RunFailed(kind="out_of_memory", message="No memory.", step=3)])
    assert (failed.outcome, failed.failure_kind) == (Outcome.FAILED, "out_of_memory")
    assert apply_all(failed, [HELLO]).failure_kind == ""
    finished = apply_all(RunState(), [HELLO, RunFinished(reason="stopped", step=3)])
    assert (finished.outcome, finished.failure_kind) == (Outcome.STOPPED, "")


def test_the_last_answer_to_a_command_is_kept():
    answer = CommandObeyed(command_id="1", command="set_learning_rate", message="5e-05 from now on.")
    assert apply_all(RunState(), [HELLO, step(1), answer, step(2)]).answer == answer


def test_many_events_at_once_give_the_same_state_as_one_by_one():
    again = Hello(protocol_version=1, trainer_version="1", pid=2, device="cpu", first_step=2, total_steps=20)
    events = [
        HELLO,
        step(1),
        step(2),
        validation(2),
        step(3),
        again,
        step(3, loss=0.1),
        validation(3),
        step(4),
    ]
    one_by_one = RunState()
    for event in events:
        one_by_one = apply_all(one_by_one, [event])
    assert apply_all(RunState(), events) == one_by_one
    assert [point.loss for point in one_by_one.losses] == [0.5, 0.5, 0.1, 0.5]


def test_previews_of_an_ended_run_that_were_cut_short_are_no_longer_under_way():
    ended = apply_all(RunState(), [HELLO, RunFinished(reason="completed", step=20)])
    rendering = apply_all(ended, [PhaseStarted(phase=Phase.PREVIEWING, total=4)])
    assert rendering.outcome is Outcome.COMPLETED
    dead = rendering.with_dead_trainer("")
    assert (dead.outcome, dead.phases) == (Outcome.COMPLETED, ())
