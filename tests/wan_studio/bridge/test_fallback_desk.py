"""The window goes on with a run that ran out of memory: offered, or by itself where it saw it happen."""

import msgspec
import pytest

from tests.wan_studio.a14b_job import a14b_job, failed, hello, step_done
from trainer.protocol.events import CheckpointSaved, MemoryReport
from trainer.protocol.job import Expert
from trainer.protocol.run_folder import EventWriter, RunFolder
from wan_studio.bridge.background import wait_for_background
from wan_studio.bridge.workbench import Workbench
from wan_studio.domain.fallback_ladder import Rung
from wan_studio.services.fallback import attempts_of

UNKNOWN = MemoryReport(doing="forward", expert=Expert.HIGH, width=512, height=512, frames=41)


@pytest.fixture
def bench(qtbot, home, stand_in_trainer, machine_without_gpu):
    made = Workbench()
    yield made
    made.close()
    wait_for_background()


@pytest.fixture
def run(tmp_path):
    run = RunFolder(tmp_path / "runs" / "orbit-001")
    run.create(a14b_job(model={"checkpoint_offloading": False}))
    run.checkpoint(36).mkdir(parents=True)
    return run


def say(run, *events):
    writer = EventWriter(run.events_file)
    for event in events:
        writer.write(event)
    writer.close()


ENDED = (hello(), step_done(36), CheckpointSaved(step=36, path="checkpoints/step_000036"), failed(UNKNOWN))


def test_a_run_that_failed_is_offered_the_next_plan_and_resumes_when_asked(qtbot, bench, run):
    say(run, *ENDED)
    with qtbot.waitSignal(bench.fallback.offer_changed, timeout=10_000):
        bench.runs.show(run)
    offer = bench.fallback.offer
    assert (offer.plan.rungs, offer.saved_step) == ((Rung.CHECKPOINTS,), 36)
    bench.fallback.take()
    qtbot.waitUntil(lambda: "stand-in: resume" in run.log_tail(), timeout=10_000)
    assert "--set model.checkpoint_offloading=true" in run.log_tail()
    qtbot.waitUntil(lambda: bool(bench.runs.watched.attempts), timeout=10_000)
    assert bench.runs.watched.attempts[0].sentence == (
        "Resumed from step 36 with what the backward pass needs waiting in RAM."
    )
    assert bench.fallback.offer is None


def test_an_old_failure_is_never_gone_on_with_unasked(qtbot, bench, run):
    bench.continue_by_itself(is_wanted=True)
    say(run, *ENDED)
    with qtbot.waitSignal(bench.fallback.offer_changed, timeout=10_000):
        bench.runs.show(run)
    qtbot.wait(100)
    assert attempts_of(run) == ()


def test_one_that_fails_before_our_eyes_goes_on_by_itself_when_that_is_wished(qtbot, bench, run):
    bench.continue_by_itself(is_wanted=True)
    assert Workbench().fallback.continues_by_itself, "it is remembered"
    say(run, *ENDED[:-1])
    with run.hold_lock():
        bench.runs.show(run)
        qtbot.waitUntil(lambda: bench.runs.is_training and bench.runs.watched.is_read, timeout=10_000)
    say(run, ENDED[-1])
    qtbot.waitUntil(lambda: bool(attempts_of(run)), timeout=10_000)
    (attempt,) = attempts_of(run)
    assert attempt.by_itself
    qtbot.waitUntil(lambda: "stand-in: resume" in run.log_tail(), timeout=10_000)


def test_what_was_tried_is_not_offered_again(qtbot, bench, run):
    say(run, *ENDED)
    bench.runs.show(run)
    qtbot.waitUntil(lambda: bench.fallback.offer is not None, timeout=10_000)
    bench.fallback.take()
    qtbot.waitUntil(lambda: "stand-in: resume" in run.log_tail(), timeout=10_000)
    qtbot.waitUntil(lambda: bench.runs.watched.state.outcome.value == "completed", timeout=10_000)
    again = msgspec.structs.replace(hello(first_step=36), time=0.0)
    say(run, again, failed(UNKNOWN))
    qtbot.waitUntil(lambda: bench.fallback.offer is not None, timeout=10_000)
    assert bench.fallback.offer.plan.rungs == (Rung.BLOCKS,)
