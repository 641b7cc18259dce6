"""What a run goes on with when memory ran out: the first change that should fit, once each."""

import msgspec
import pytest

from tests.wan_studio.a14b_job import CARD, GIB, a14b_job, failed, hello, report
from trainer.protocol.events import MemoryReport
from trainer.protocol.job import Expert
from trainer.protocol.memory_settings import memory_settings, with_memory
from wan_studio.domain.calibration_intake import MeasuredWhere, records_of
from wan_studio.domain.fallback_ladder import Rung, next_plan, shortage_words, ways_left
from wan_studio.domain.job_settings import continued, extents_of, settings_of
from wan_studio.domain.machine import Machine, PlannedGpu
from wan_studio.domain.recommend import Planner
from wan_studio.domain.run_state import RunState, apply_all


def machine(vram=24.0, ram=128.0, capability=(8, 9), free=None):
    gpu = PlannedGpu(CARD, round(vram * GIB), round((free or vram - 0.5) * GIB), capability)
    return Machine(gpu, round(ram * GIB), round((ram - 6) * GIB), 900 * GIB)


NOWHERE = Machine(None, 16 * GIB, 12 * GIB)


def ladder(job, memory, here=None, tried=()):
    here = here or machine()
    where = MeasuredWhere(CARD, "GPU-0", "2026-11-24", "0.1.0", 1000.0)
    records = records_of(job, apply_all(RunState(), [hello(), failed(memory)]), where)
    planner = Planner(here, clips=extents_of(job), measured=records)
    return next_plan(settings_of(job), memory, planner, tried)


def climbed(job, memory, here=None):
    """The rungs taken one after another, as if each failed alike."""
    tried, plans = [], []
    while (plan := ladder(job, memory, here, tried)) is not None:
        plans.append(plan)
        tried += plan.rungs
    return plans


def kept_on_gpu(**sections):
    model = {"checkpoint_offloading": False} | sections.pop("model", {})
    return a14b_job(model=model, **sections)


def test_a_lack_in_training_is_answered_by_activations_in_ram_and_the_run_resumes():
    plan = ladder(kept_on_gpu(), report(reserved=28.5, total=32.0), machine(32.0))
    assert plan.rungs == (Rung.CHECKPOINTS,)
    assert plan.assignments == ("model.checkpoint_offloading=true",)
    assert plan.resumes
    assert plan.judgement.missing.vram == 0
    assert plan.sentence.startswith("What the backward pass needs waiting in RAM, forecast to take ")
    assert "GiB and" in plan.sentence


def test_every_assignment_is_one_that_a_run_can_resume_with():
    job = kept_on_gpu(model={"low_vram": False, "resident_blocks": 30}, training={"kept_activations": "sums"})
    for plan in climbed(job, report(), NOWHERE):
        if plan.resumes:
            assert with_memory(job, memory_settings(plan.assignments)) != job


def test_without_figures_the_rungs_come_in_their_order_and_each_once():
    job = kept_on_gpu(sides=(512, 768), quantization={"transformer": "none"})
    unknown = MemoryReport(doing="backward", expert=Expert.LOW, width=768, height=768, frames=41)
    assert [plan.rungs for plan in climbed(job, unknown, NOWHERE)] == [
        (Rung.CHECKPOINTS,),
        (Rung.BLOCKS,),
        (Rung.CHUNKS,),
        (Rung.KEPT,),
        (Rung.BUCKET,),
        (Rung.FRAMES,),
        (Rung.EIGHT_BITS,),
        (Rung.FOUR_BITS,),
    ]


def test_a_rung_that_would_not_suffice_is_passed_over():
    plan = ladder(a14b_job(), report(reserved=14.0, needed=0.5, total=16.0), machine(16.0))
    assert plan.rungs == (Rung.BLOCKS,)
    # 30 % would leave too little head-room.
    assert plan.changes["model.layer_offloading"] == 0.6


def test_rungs_are_taken_together_where_none_suffices_alone():
    plan = ladder(kept_on_gpu(), report(reserved=10.5, needed=0.5, total=12.0), machine(12.0))
    assert plan.resumes
    assert plan.rungs == (Rung.CHECKPOINTS, Rung.BLOCKS)
    assert plan.words == "what the backward pass needs waiting in RAM and 100% of the blocks waiting in RAM"


def test_what_the_forecast_had_overlooked_is_added_to_that_of_the_next_plan():
    near = ladder(a14b_job(), report(reserved=18.6, total=24.0, needed=0.1))
    far = ladder(a14b_job(), report(reserved=22.0, total=24.0, needed=0.5))

    def peak(plan):
        return float(plan.forecast.split(" of ")[0])

    assert near.rungs == far.rungs == (Rung.BLOCKS,)
    assert peak(far) - peak(near) == pytest.approx(3.8, abs=0.2)


def test_no_more_memory_is_counted_with_than_was_there_when_it_ran_out():
    crowded = report(reserved=14.0, needed=1.0, total=24.0, others=8.8)
    plan = ladder(a14b_job(), crowded)
    taken, free = (float(part.split()[0]) for part in plan.forecast.split(" of "))
    assert free == pytest.approx(24.0 - 8.8 + 1.0, abs=0.1)
    assert taken < free


def test_without_ram_for_it_nothing_is_sent_there():
    plan = ladder(kept_on_gpu(), report(reserved=28.5, total=32.0), machine(32.0, ram=38.0))
    assert plan is not None
    assert "model.checkpoint_offloading" not in plan.changes


def test_previews_and_clips_have_rungs_of_their_own():
    tiles = ladder(a14b_job(), report("previewing"), NOWHERE)
    smaller = ladder(a14b_job(sample={"in_tiles": True}), report("previewing"), NOWHERE)
    half = ladder(a14b_job(sides=(512, 768)), report("caching_latents"), NOWHERE)
    assert (tiles.assignments, tiles.resumes) == (("sample.in_tiles=true",), True)
    assert [row["size"] for row in smaller.changes["sample.rows"]] == [{"width": 384, "height": 384}]
    assert not smaller.resumes
    assert half.changes == {"quantization.vae": "bf16"}
    text = ladder(a14b_job(), report("caching_text", side=0), NOWHERE)
    assert text.changes == {"quantization.text_encoder": "float8"}


def test_a_new_run_goes_on_from_the_last_lora_with_the_steps_that_are_left():
    job = a14b_job(sides=(512, 768), multistage={"high_steps": 500})
    loras = {Expert.HIGH: "/run/high.safetensors", Expert.LOW: "/run/low.safetensors"}
    changes = {"datasets.resolutions": [512], "datasets.num_frames": 21, "quantization.transformer": "nf4"}
    made = continued(job, changes, loras, {Expert.HIGH: 20, Expert.LOW: 16})
    assert {size.width for clip in made.clips for size in clip.sizes} == {512}
    assert {len(window) for clip in made.clips for window in clip.windows} == {21}
    assert (made.datasets[0].num_frames, made.datasets[0].resolutions) == (21, (512,))
    assert made.quantization.transformer == "nf4"
    assert made.training.steps == 2000 - 36
    assert made.multistage.high_steps == 480
    assert (made.target.start_high, made.target.start_low) == tuple(loras.values())
    assert settings_of(made).datasets.num_frames == 21
    anew = continued(job, changes, {}, {})
    assert anew.training.steps == 2000


def test_when_no_rung_is_left_there_are_ways_out():
    here = machine(24.0)
    planner = Planner(here, clips=extents_of(a14b_job()))
    assert ladder(a14b_job(), report(), here, tried=list(Rung)) is None
    assert "Hardware page" in ways_left(settings_of(a14b_job()), planner)[0]
    small = Planner(machine(3.0, ram=12.0), clips=extents_of(a14b_job()))
    assert any("VRAM" in way for way in ways_left(settings_of(a14b_job()), small))
    assert "Nothing is left" in ways_left(settings_of(a14b_job()), Planner(NOWHERE))[0]


def test_what_ran_out_is_told_in_words_and_bytes():
    words = shortage_words(report("backward"))
    assert words == (
        "GPU memory ran out in the backward pass of the high-noise expert at 512 x 512, 41 frames: "
        "2.50 GiB more was wanted beside 21.00 GiB held of 24.00 GiB. "
        "Other programs and the driver hold 1.20 GiB."
    )
    assert shortage_words(msgspec.convert({"doing": "x"}, MemoryReport)) == (
        "GPU memory ran out in this run: more was wanted."
    )
