"""What a run says becomes what the next forecast on this machine counts with."""

from dataclasses import replace

import msgspec
import pytest

from tests.wan_studio.a14b_job import CARD, GIB, a14b_job, failed, hello, report, step_measured
from tests.wan_studio.domain.machines import CARD as CARD_NOW
from tests.wan_studio.domain.machines import card, machine
from trainer.protocol.events import Warned, WorkMeasured
from trainer.protocol.job import MINIATURE, Expert
from wan_studio.domain.calibration import Calibration
from wan_studio.domain.calibration_intake import MeasuredWhere, measured_gpu, records_of
from wan_studio.domain.job_settings import extents_of, settings_of
from wan_studio.domain.machine import Machine, PlannedGpu
from wan_studio.domain.recommend import Planner
from wan_studio.domain.run_state import RunState, apply_all
from wan_studio.domain.step_plan import step_plan
from wan_studio.domain.vram_plan import Phase

WHERE = MeasuredWhere(CARD, "GPU-0", "2026-11-24", "0.1.0", 1000.0)
HERE = Machine(PlannedGpu(CARD, 24 * GIB, round(23.5 * GIB), (8, 9)), 128 * GIB, 120 * GIB, 900 * GIB)


def learnt(job, *events, where=WHERE):
    return records_of(job, apply_all(RunState(), [hello(where.process_started), *events]), where)


def judged(job, *records):
    planner = Planner(HERE, clips=extents_of(job), measured=tuple(records))
    return planner.judge(settings_of(job))


def both(**fields):
    return tuple(step_measured(expert, **fields) for expert in Expert)


def test_a_project_and_its_job_have_the_same_plan():
    job = a14b_job(
        model={"layer_offloading": 0.6, "checkpoint_offloading": True}, multistage={"low_rank": 32}
    )
    for expert in Expert:
        assert step_plan(job, expert) == step_plan(settings_of(job), expert)


def test_after_a_run_the_forecast_is_what_was_measured_and_says_so():
    job = a14b_job()
    before = judged(job)
    assert before.time.basis != "measured"
    after = judged(job, *learnt(job, *both()))
    assert after.time.basis == "measured"
    assert after.time.told == "Measured on this machine."
    # What switches between the experts add is computed.
    assert after.time.step_seconds == pytest.approx(7.1, rel=0.05)
    assert after.memory.is_measured
    assert after.memory.training.reserved == round(18.4 * GIB)
    assert after.memory.error < before.memory.error


def test_after_memory_ran_out_the_same_plan_no_longer_fits_and_a_smaller_one_does():
    job = a14b_job()
    assert judged(job).fits
    records = learnt(job, failed(report()))
    assert [(one.ran_out, one.expert, one.reserved_bytes) for one in records] == [
        (True, Expert.HIGH, round(23.5 * GIB))
    ]
    after = judged(job, *records)
    assert not after.fits
    assert after.memory.training.reserved >= round(23.5 * GIB)
    assert judged(a14b_job(model={"layer_offloading": 0.6}), *records).fits


def test_a_later_process_that_found_room_takes_the_word_back():
    job = a14b_job()
    short = learnt(job, failed(report()))
    later = learnt(job, *both(), where=replace(WHERE, process_started=2000.0))
    assert judged(job, *short, *later).fits
    # In the same process it had worked for a while: a lack that comes late is one all the same.
    same = learnt(job, *both(), failed(report()))
    assert not judged(job, *same).fits


def test_larger_clips_than_those_that_found_no_memory_are_forecast_to_need_more_too():
    job = a14b_job(sides=(512, 768), model={"layer_offloading": 0.6})
    plain = judged(job).memory.of(Phase.TRAINING)
    records = learnt(job, failed(report(side=512, reserved=22.5)))
    corrected = judged(job, *records).memory.of(Phase.TRAINING)
    assert all(after.total > before.total for before, after in zip(plain, corrected, strict=True))


def test_a_preview_that_found_no_memory_is_learnt_from_though_the_run_went_on():
    job = a14b_job(sample={"in_tiles": False})
    warned = Warned(message="No room.", memory=report(doing="previewing"), time=1001.0)
    (record,) = learnt(job, warned)
    assert (record.kind, record.ran_out, record.in_tiles) == ("preview", True, False)
    (preview,) = judged(job, record).memory.of(Phase.PREVIEW)
    assert preview.reserved >= round(23.5 * GIB)
    tiles = a14b_job(sample={"in_tiles": True})
    (preview,) = judged(tiles, record).memory.of(Phase.PREVIEW)
    assert preview.reserved < round(20 * GIB)
    # What an earlier process of the run met is not this one's.
    assert learnt(job, msgspec.structs.replace(warned, time=900.0)) == ()


def test_steps_are_learnt_as_they_were_taken_and_previews_and_clips_by_their_own_kind():
    job = a14b_job(training={"gradient_accumulation": 4})
    size = {"width": 512, "height": 512, "frames": 41}
    works = (
        step_measured(Expert.HIGH, passes=1),
        WorkMeasured(work="latents", seconds=1.0, **size),
        WorkMeasured(work="preview", seconds=60.0, passes=40, decode_seconds=4.0, **size),
        WorkMeasured(work="text", seconds=1.0),
        WorkMeasured(work="loading", expert=Expert.LOW, seconds=9.0),
    )
    step, encode, preview = learnt(job, *works)
    assert (step.kind, step.plan.accumulation) == ("step", 1)
    assert (encode.kind, encode.seconds, encode.expert) == ("encode", 1.0, None)
    assert (preview.kind, preview.passes, preview.decode_seconds) == ("preview", 40, 4.0)


def test_the_miniature_teaches_nothing_about_the_real_model():
    assert learnt(a14b_job(model={"base": MINIATURE}), *both()) == ()


def test_what_a_process_measures_later_takes_the_place_of_what_it_measured_before():
    job = a14b_job()
    calibration = Calibration()
    for seconds in (9.0, 8.0, 7.0, 7.0):
        for record in learnt(job, *both(seconds=seconds)):
            calibration = calibration.with_record(record)
    assert [(one.expert, one.seconds) for one in calibration.records] == [
        (Expert.HIGH, 7.0),
        (Expert.LOW, 7.0),
    ]


def test_an_old_run_that_is_looked_at_again_does_not_push_out_newer_ones():
    job = a14b_job()
    calibration = Calibration()
    for started in (4000.0, 3000.0, 2000.0, 1000.0):
        for record in learnt(job, *both(), where=replace(WHERE, process_started=started)):
            calibration = calibration.with_record(record)
    assert sorted(one.process_started for one in calibration.records if one.expert is Expert.LOW) == [
        2000.0,
        3000.0,
        4000.0,
    ]


def test_the_gpu_is_known_by_its_name_and_among_equals_by_its_number():
    other = card(index=1, uuid="GPU-1", name="NVIDIA GeForce RTX 3060")
    twin = card(index=2, uuid="GPU-2")
    assert measured_gpu(machine(CARD_NOW, other), "NVIDIA GeForce RTX 3060", 0) == other
    assert measured_gpu(machine(CARD_NOW, other, twin), CARD, 2) == twin
    assert measured_gpu(machine(CARD_NOW, other, twin), CARD, 1) is None
    assert measured_gpu(machine(CARD_NOW), "GeForce RTX 4090", 0) == CARD_NOW
    assert measured_gpu(machine(CARD_NOW), "NVIDIA H200", 0) is None
