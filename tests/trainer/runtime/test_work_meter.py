"""What work took is gathered by kind and told when it can be relied on."""

import pytest
import torch

from trainer.protocol.events import WorkMeasured
from trainer.protocol.job import Expert
from trainer.runtime.device import count_peaks_anew, peak_reserved_bytes
from trainer.runtime.work_meter import Cost, WorkMeter

CPU = torch.device("cpu")
STEP = WorkMeasured(work="step", expert=Expert.HIGH, width=64, height=32, frames=5)


@pytest.fixture
def told() -> list[WorkMeasured]:
    return []


@pytest.fixture
def meter(told) -> WorkMeter:
    return WorkMeter(CPU, told.append)


def test_it_is_told_once_there_is_enough_with_the_median_of_all_but_the_first(meter, told):
    for seconds in (9.0, 1.0, 3.0):
        meter.add(STEP, Cost(seconds), least=3)
    assert not told
    meter.add(STEP, Cost(2.0), least=3)
    assert [(one.count, one.seconds, one.first_seconds) for one in told] == [(3, 2.0, 9.0)]
    assert told[0].subject == STEP.subject


def test_news_are_told_again_only_when_there_are_any(meter, told):
    for seconds in (9.0, 1.0, 1.0, 1.0, 5.0):
        meter.add(STEP, Cost(seconds), least=3)
    meter.tell_news()
    meter.tell_news()
    assert [one.count for one in told] == [3, 4]


def test_what_is_too_few_waits_unless_nothing_more_will_come(meter, told):
    meter.add(STEP, Cost(9.0), least=3)
    meter.tell_news(even_few=True)
    meter.add(STEP, Cost(1.0), least=3)
    meter.tell_news()
    assert not told, "a first step compiles: it is no measure of another"
    meter.tell_news(even_few=True)
    assert [(one.count, one.seconds) for one in told] == [(1, 1.0)]


def test_a_single_one_is_its_own_first(meter, told):
    meter.add(WorkMeasured(work="saving"), Cost(4.0))
    meter.tell_news()
    assert [(one.count, one.seconds, one.first_seconds) for one in told] == [(1, 4.0, 4.0)]


def test_peaks_are_the_highest_of_all_the_first_included(meter, told):
    meter.add(STEP, Cost(1.0, reserved_bytes=9, allocated_bytes=3, ram_bytes=1))
    meter.add(STEP, Cost(1.0, reserved_bytes=4, allocated_bytes=5, ram_bytes=7))
    meter.tell_news()
    assert (told[0].reserved_bytes, told[0].allocated_bytes, told[0].ram_bytes) == (9, 5, 7)


def test_kinds_are_kept_apart(meter, told):
    low = WorkMeasured(work="step", expert=Expert.LOW, width=64, height=32, frames=5)
    meter.add(STEP, Cost(1.0))
    meter.add(low, Cost(2.0))
    meter.tell_news()
    assert [(one.expert, one.seconds) for one in told] == [(Expert.HIGH, 1.0), (Expert.LOW, 2.0)]


def test_a_stopwatch_on_a_cpu_has_seconds_and_ram_and_no_gpu_memory(meter):
    cost = meter.begin().stop()
    assert cost.seconds >= 0
    assert cost.ram_bytes > 2**20
    assert (cost.reserved_bytes, cost.allocated_bytes) == (0, 0)


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs CUDA")
def test_peaks_begin_anew_for_each_work_and_the_runs_peak_stays():
    device = torch.device("cuda", torch.cuda.current_device())
    meter = WorkMeter(device, lambda event: None)
    watch = meter.begin()
    large = torch.empty(2**28, dtype=torch.uint8, device=device)
    before = watch.stop()
    del large
    torch.cuda.empty_cache()
    after = meter.begin().stop()
    assert before.allocated_bytes - after.allocated_bytes >= 2**28
    assert before.reserved_bytes - after.reserved_bytes >= 2**28
    count_peaks_anew(device)
    assert peak_reserved_bytes(device) >= before.reserved_bytes
