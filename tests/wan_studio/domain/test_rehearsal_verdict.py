"""What a rehearsal has shown, in a sentence or two."""

from tests.wan_studio.a14b_job import GIB, a14b_job, failed, hello, report, step_measured
from trainer.protocol.events import RunFailed, RunFinished, Warned, WorkMeasured
from trainer.protocol.job import Expert
from wan_studio.domain.fallback_ladder import next_plan
from wan_studio.domain.job_settings import extents_of, settings_of
from wan_studio.domain.machine import Machine
from wan_studio.domain.recommend import Planner
from wan_studio.domain.rehearsal_verdict import verdict_of
from wan_studio.domain.run_state import RunState, apply_all

DONE = RunFinished(reason="completed", step=0)
PREVIEW = WorkMeasured(
    work="preview", width=512, height=512, frames=41, seconds=9.0, reserved_bytes=round(8.1 * GIB)
)
FREE = round(22.8 * GIB)
STEPS = tuple(step_measured(expert, reserved=17.4) for expert in Expert)


def verdict(*events, job=None, free=FREE, plan=None):
    return verdict_of(job or a14b_job(), apply_all(RunState(), (hello(), *events)), free, plan)


def test_what_went_through_is_told_with_memory_and_pace():
    found = verdict(*STEPS, PREVIEW, DONE)
    assert found.fits
    assert found.words == (
        "Both experts trained at 512 x 512, 41 frames: 18.4 of 22.8 GiB, 7.1 s a step; a preview 9.1 GiB."
    )


def test_a_step_of_several_batches_takes_as_many_times_as_long():
    job = a14b_job(training={"gradient_accumulation": 4})
    assert "28.4 s a step" in verdict(*STEPS, DONE, job=job).words


def test_on_a_cpu_there_is_no_memory_to_tell_of():
    one = step_measured(Expert.HIGH, reserved=0.4, seconds=0.12)
    one = WorkMeasured(
        **{**{name: getattr(one, name) for name in one.__struct_fields__}, "reserved_bytes": 0}
    )
    assert verdict(one, DONE, free=None).words == (
        "The high-noise expert trained at 512 x 512, 41 frames: 0.12 s a step."
    )


def test_what_there_was_no_memory_for_is_told_with_the_next_plan():
    job, memory = a14b_job(), report("backward")
    nowhere = Planner(Machine(None, 16 * GIB, 12 * GIB), clips=extents_of(job))
    plan = next_plan(settings_of(job), memory, nowhere)
    found = verdict(failed(memory), job=job, plan=plan)
    assert not found.fits
    assert "in the backward pass of the high-noise expert" in found.words
    assert found.hint == "Next plan: 30% of the blocks waiting in RAM."
    assert found.changes == plan.changes
    assert "smaller clips" in verdict(failed(memory)).hint


def test_a_preview_without_room_is_told_beside_the_steps_that_had_it():
    warned = Warned(message="No room.", memory=report("previewing"), time=1001.0)
    found = verdict(*STEPS, warned, DONE)
    assert not found.fits
    assert found.words.startswith("Both experts trained at 512 x 512")
    assert found.words.endswith("Training would go on without previews.")


def test_other_failures_keep_the_trainers_words_and_a_crash_points_at_ram():
    found = verdict(RunFailed(kind="no_gpu", message="There is no GPU.", hint="Get one."))
    assert (found.words, found.hint, found.fits) == ("There is no GPU.", "Get one.", False)
    state = apply_all(RunState(), (hello(),)).with_dead_trainer("Killed")
    assert "RAM" in verdict_of(a14b_job(), state, None, None).hint
