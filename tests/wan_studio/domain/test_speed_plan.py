"""Forecasts of whole runs: the measured mix, what beside the steps is counted, and what changes cost."""

import time

import pytest

from trainer.protocol.job import BucketSize, Expert, SampleRow
from wan_studio.domain.calibration import CalibrationRecord
from wan_studio.domain.machine import GIB, Machine, PlannedGpu
from wan_studio.domain.project import Settings
from wan_studio.domain.run_overheads import high_noise_steps, times_due
from wan_studio.domain.speed_plan import (
    PlannedRun,
    cost_of,
    forecast_time,
    step_seconds,
    steps_by_expert,
    why_mode_cannot_run,
)
from wan_studio.domain.step_plan import step_plan
from wan_studio.domain.workload import BucketUse, ClipShape, Workload, workload_of

AT_512 = ClipShape(512, 512, 41)


def machine(name: str = "NVIDIA H200", gib: float = 140.4, link: float | None = None) -> Machine:
    gpu = PlannedGpu(name, round(gib * GIB), round(gib * GIB), link_bytes_per_second=link)
    return Machine(gpu, 128 * GIB, 120 * GIB)


def planned(**sections: dict) -> PlannedRun:
    settings = Settings().with_values({"quantization": {"transformer": "float8_compute"}, **sections})
    return PlannedRun(settings, workload_of(settings, ()))


def record(seconds: float, run: PlannedRun, shape: ClipShape) -> CalibrationRecord:
    return CalibrationRecord(
        gpu_uuid="GPU-1",
        gpu_name="NVIDIA H200",
        date="2026-11-24",
        trainer_version="0.1.0",
        plan=step_plan(run.settings, Expert.HIGH),
        width=shape.width,
        height=shape.height,
        frames=shape.frames,
        seconds=seconds,
    )


def test_the_measured_mix_takes_the_measured_hours():
    """3000 steps, a third at each size, as each was measured: 5.7 h."""
    kinds = (
        (512, {"gradient_checkpointing": False}),
        (768, {"kept_activations": "sums"}),
        (1024, {"kept_blocks": 10}),
    )
    hours = 0.0
    for side, training in kinds:
        run = planned(
            training={"steps": 1000, **training},
            datasets={"resolutions": [side]},
            multistage={"stages": "low"},
        )
        hours += forecast_time(run, machine()).parts.training / 3600
    assert hours == pytest.approx(5.7, rel=0.06)


def test_the_mean_step_is_that_of_the_sizes_by_share():
    shapes = AT_512, ClipShape(768, 768, 41)
    settings = planned().settings
    work = Workload((BucketUse(shapes[1], 0.25, 1), BucketUse(shapes[0], 0.75, 3)))
    found = forecast_time(PlannedRun(settings, work), machine())
    large, small = (use.seconds for use in found.buckets)
    assert large > 3 * small
    assert found.step_seconds == pytest.approx(0.25 * large + 0.75 * small)
    assert found.parts.training == pytest.approx(found.step_seconds * settings.training.steps)


def test_the_hours_are_the_parts_together():
    found = forecast_time(planned(datasets={"validation_share": 0.2}), machine())
    parts = found.parts
    each = (parts.training, parts.previews, parts.validation, parts.saving)
    each += (parts.caching, parts.loading, parts.compiling)
    assert all(seconds > 0 for seconds in each)
    assert found.hours == pytest.approx(sum(each) / 3600)
    low, high = found.hours_range
    assert low < found.hours < high
    assert 0 < found.restart_seconds < parts.loading


def test_previews_are_forward_passes_of_both_experts_and_guidance_doubles_them():
    row = SampleRow(prompt="x", size=BucketSize(width=512, height=512), num_frames=41, steps=20)
    plain = planned(
        sample={"rows": [row], "guidance_high": 1.0, "guidance_low": 1.0, "every": 250},
        training={"steps": 1000},
    )
    guided = PlannedRun(plain.settings.with_values({"sample": {"guidance_low": 3.5}}), plain.workload)
    one, two = (forecast_time(run, machine()).parts.previews for run in (plain, guided))
    step = step_seconds(plain.settings, AT_512, machine().gpu)
    low = 20 - high_noise_steps(20, plain.settings.sample.shift, 0.9)
    # A forward pass is a quarter to a third of a step; five rounds: one before the first step, four after.
    extra = (two - one) / (5 * low)
    assert step.seconds / 5 < extra < step.seconds / 2.5
    assert one > 5 * 20 * extra


def test_the_experts_share_a_samplers_steps_by_its_noise_levels():
    # By hand, shift 5: level 5 e / (1 + 4 e) is not below 0.9 where e is not below 9/14 = 0.643.
    assert high_noise_steps(20, 5.0, 0.9) == 8
    assert high_noise_steps(20, 1.0, 0.9) == 3
    assert high_noise_steps(1, 5.0, 0.9) == 1


def test_what_is_due_every_so_often_comes_at_the_end_too():
    assert [times_due(250, steps) for steps in (100, 250, 1000, 1001)] == [1, 1, 4, 5]
    assert times_due(0, 1000) == 0


def test_no_previews_cost_nothing():
    assert forecast_time(planned(sample={"every": 0}), machine()).parts.previews == 0


@pytest.mark.parametrize(
    ("fields", "high", "low"),
    [
        ({}, 1000, 1000),
        ({"high_share": 0.25}, 500, 1500),
        ({"stages": "high"}, 2000, 0),
        ({"stages": "low", "low_steps": 700}, 0, 700),
        ({"high_steps": 300}, 300, 1700),
        ({"low_steps": 300}, 1700, 300),
        ({"high_steps": 300, "low_steps": 400}, 300, 400),
    ],
)
def test_steps_of_each_expert(fields, high, low):
    assert steps_by_expert(planned(multistage=fields).settings) == {Expert.HIGH: high, Expert.LOW: low}


def test_two_gpus_with_an_expert_each_take_half_the_time():
    alone = forecast_time(planned(), machine()).parts.training
    both = planned(job={"more_gpus": [1], "gpu_share": "experts"})
    assert forecast_time(both, machine()).parts.training == pytest.approx(alone / 2, rel=0.01)


def test_what_a_card_cannot_compute_is_said_and_not_forecast():
    found = forecast_time(planned(), machine("NVIDIA GeForce RTX 3090", 24))
    assert not found.runs
    assert "8 bits" in found.why_not
    assert found.hours == 0
    assert step_seconds(planned().settings, AT_512, machine("NVIDIA GeForce RTX 3090", 24).gpu) is None
    assert "NVIDIA GPU" in forecast_time(planned(), Machine(None, GIB, GIB)).why_not
    assert not why_mode_cannot_run(planned().settings, machine("NVIDIA GeForce RTX 4090", 24).gpu)


def test_cards_come_in_their_order():
    run = planned(quantization={"transformer": "float8"})
    names = [
        ("NVIDIA H200", 140),
        ("NVIDIA A100-SXM4-80GB", 80),
        ("NVIDIA GeForce RTX 5090", 32),
        ("NVIDIA GeForce RTX 4090", 24),
        ("NVIDIA GeForce RTX 3090", 24),
        ("NVIDIA GeForce RTX 4060 Ti", 16),
        ("NVIDIA GeForce RTX 3060", 12),
        ("NVIDIA GeForce RTX 2080 Ti", 11),
    ]
    hours = [forecast_time(run, machine(name, gib)).hours for name, gib in names]
    assert hours == sorted(hours)
    assert "32 bits" in forecast_time(run, machine("NVIDIA GeForce RTX 2080 Ti", 11)).told


def test_an_unknown_card_is_called_an_estimate_and_less_sure():
    known, guess = (
        forecast_time(planned(quantization={"transformer": "nf4"}), machine(name, 16))
        for name in ("NVIDIA GeForce RTX 4080", "NVIDIA GeForce RTX 4085")
    )
    assert (known.basis, guess.basis) == ("computed", "estimated")
    assert guess.uncertainty > known.uncertainty
    assert "not in the table" in guess.told


def test_a_measured_size_counts_as_measured_and_corrects_the_others():
    run = planned(datasets={"resolutions": [512, 1024]}, multistage={"stages": "high"})
    before = forecast_time(run, machine())
    measured = (record(2 * before.buckets[1].seconds, run, AT_512),)
    after = forecast_time(run, machine(), measured)
    assert [use.basis for use in after.buckets] == ["scaled", "measured"]
    assert after.buckets[1].seconds == pytest.approx(2 * before.buckets[1].seconds)
    assert after.buckets[0].seconds == pytest.approx(2 * before.buckets[0].seconds)
    assert after.uncertainty < before.uncertainty
    # Forward passes of previews are the same work.
    assert after.parts.previews > 1.5 * before.parts.previews


def test_changes_are_put_into_words():
    base = planned()
    slow = machine(link=2.5e9)
    streamed = planned(model={"layer_offloading": 1.0})
    change = cost_of(base, streamed, slow)
    assert change.step_seconds > 1
    assert change.hours > 0.5
    assert "longer" in change.words or "times" in change.words or "step time" in change.words
    assert cost_of(base, base, slow).words == "leaves the step time as it is"
    doubled = planned(training={"gradient_accumulation": 2})
    assert cost_of(base, doubled, machine()).words == "about doubles the step time"
    assert cost_of(doubled, base, machine()).words == "about halves the step time"
    assert "16 times" in cost_of(base, planned(training={"gradient_accumulation": 16}), machine()).words
    kept = cost_of(base, planned(training={"gradient_checkpointing": False}), machine())
    assert kept.words.endswith("% shorter")
    old = machine("NVIDIA GeForce RTX 3090", 24)
    stored = planned(quantization={"transformer": "float8"})
    assert cost_of(stored, base, old).words == "cannot run on this machine"


def test_a_forecast_takes_less_than_two_milliseconds():
    """Plans that were never seen before, so that nothing is remembered."""
    runs = [
        planned(model={"resident_blocks": at % 40}, training={"kept_blocks": at // 40}) for at in range(100)
    ]
    began = time.process_time()
    for run in runs:
        forecast_time(run, machine("NVIDIA GeForce RTX 4070", 12))
    assert (time.process_time() - began) / len(runs) < 0.002
