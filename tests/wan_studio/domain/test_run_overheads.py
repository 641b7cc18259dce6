"""What a run takes beside its steps, by hand-made sums."""

import pytest

from trainer.protocol.job import Expert
from wan_studio.domain.card_rates import rates_of
from wan_studio.domain.machine import GIB, PlannedGpu
from wan_studio.domain.project import Settings
from wan_studio.domain.run_overheads import (
    COMPILE_SECONDS,
    DISK_BYTES_PER_SECOND,
    RunFacts,
    caching_seconds,
    compiling_seconds,
    decode_seconds,
    encode_seconds,
    loading_seconds,
    preview_rounds,
    saving_seconds,
    validation_seconds,
)
from wan_studio.domain.step_plan import step_plan
from wan_studio.domain.step_time import forward_pass
from wan_studio.domain.workload import BucketUse, ClipShape, Workload

SMALL, LARGE = ClipShape(512, 512, 41), ClipShape(1024, 1024, 41)
H200 = rates_of(PlannedGpu("NVIDIA H200", round(140.4 * GIB), 140 * GIB))
RTX_3060 = rates_of(PlannedGpu("NVIDIA GeForce RTX 3060", 12 * GIB, 11 * GIB))


def facts(windows: int = 20, **sections: dict) -> RunFacts:
    settings = Settings().with_values(sections)
    work = Workload((BucketUse(LARGE, 0.5, 10), BucketUse(SMALL, 0.5, 10)), (SMALL,), windows, 20)
    plans = {expert: step_plan(settings, expert) for expert in Expert}
    return RunFacts(settings, work, H200, plans, dict.fromkeys(Expert, 500))


def test_the_vae_takes_twice_what_it_took_in_16_bits_and_grows_with_pixels():
    assert encode_seconds(SMALL, H200) == pytest.approx(2 * 0.38, rel=0.02)
    assert encode_seconds(LARGE, H200) == pytest.approx(4 * encode_seconds(SMALL, H200))
    assert decode_seconds(SMALL, H200) > encode_seconds(SMALL, H200)
    # Between its memory's and its tensor cores' share of an H200.
    assert 13 < encode_seconds(SMALL, RTX_3060) / encode_seconds(SMALL, H200) < 21


def test_each_window_is_encoded_twice_and_a_third_time_where_first_frames_are_altered():
    mean = (encode_seconds(SMALL, H200) + encode_seconds(LARGE, H200)) / 2
    more = caching_seconds(facts(30)) - caching_seconds(facts(20))
    assert more == pytest.approx(10 * (2 * mean + 0.4))
    altered = facts(20, datasets={"condition_blur": 1.0})
    assert caching_seconds(altered) - caching_seconds(facts(20)) == pytest.approx(20 * mean)


def test_the_text_encoder_on_the_cpu_takes_minutes():
    cpu = facts(quantization={"text_encoder": "cpu"})
    assert caching_seconds(cpu) - caching_seconds(facts()) > 300


def test_later_starts_read_what_the_first_one_left():
    stored = facts(quantization={"transformer": "float8"})
    first, later = (loading_seconds(stored, is_first=is_first) for is_first in (True, False))
    # Both experts' blocks in 8 bits, 14 GB each, are written once; afterwards they are all that is read.
    assert first - later == pytest.approx(2 * 2 * 351e6 * 40 / DISK_BYTES_PER_SECOND, rel=0.01)
    plain = facts()
    assert loading_seconds(plain, is_first=True) == loading_seconds(plain, is_first=False)


def test_an_expert_that_neither_trains_nor_previews_is_not_loaded():
    one = facts(sample={"every": 0})
    alone = RunFacts(one.settings, one.workload, H200, one.plans, {Expert.HIGH: 1000, Expert.LOW: 0})
    assert loading_seconds(alone, is_first=True) < 0.7 * loading_seconds(one, is_first=True)


def test_checkpoints_are_written_every_so_often_and_at_the_end():
    # 76.7 million numbers of each expert: bf16 and fp32, and two bytes of 8-bit states.
    each = 2 * 2 * 76.7e6 * (2 + 4 + 2.1) / DISK_BYTES_PER_SECOND
    assert saving_seconds(facts(save={"every": 250})) == pytest.approx(4 * each, rel=0.01)
    assert saving_seconds(facts(save={"every": 300})) == pytest.approx(4 * each, rel=0.01)
    assert saving_seconds(facts(save={"every": 5000})) == pytest.approx(each, rel=0.01)


def test_previews_come_before_the_first_step_too_unless_unwanted():
    assert preview_rounds(facts(sample={"every": 250})) == 5
    assert preview_rounds(facts(sample={"every": 300, "at_start": False})) == 4
    assert preview_rounds(facts(sample={"every": 0})) == 0


def test_validation_is_a_forward_pass_for_each_held_out_clip_expert_and_level():
    run = facts(
        datasets={"validation_share": 0.2}, advanced={"validation_every": 100, "validation_timesteps": 3}
    )
    passes = [forward_pass(run.plans[Expert.HIGH], shape, 1, H200).seconds for shape in (SMALL, LARGE)]
    assert validation_seconds(run) == pytest.approx(10 * 4 * 2 * 3 * sum(passes) / 2)
    assert validation_seconds(facts()) == 0


def test_passes_are_compiled_once_for_each_size():
    assert compiling_seconds(facts()) == 2 * COMPILE_SECONDS
    assert compiling_seconds(facts(training={"kept_blocks": 1})) == 3 * COMPILE_SECONDS
    assert compiling_seconds(facts(model={"compile": False})) == 0
