import math
import time

from tests.wan_studio.domain.machines import CARD, card, machine
from wan_studio.domain.hardware import GpuState
from wan_studio.domain.hardware_history import SAMPLES_KEPT, HardwareHistory, Quantity


def test_samples_come_back_in_order_for_each_gpu():
    history = HardwareHistory()
    for second in range(3):
        other = card(index=1, uuid="GPU-1", temperature_celsius=60 + second)
        history.add(float(second), machine(CARD, other))
    assert history.uuids == ("GPU-0", "GPU-1")
    series = history.series("GPU-1", Quantity.TEMPERATURE)
    assert series.seconds == [0.0, 1.0, 2.0]
    assert series.values == [60.0, 61.0, 62.0]
    assert history.series("GPU-0", Quantity.VRAM_USED).values == [float(CARD.vram_used_bytes)] * 3
    assert history.series("GPU-0", Quantity.POWER).values == [20.0] * 3
    assert history.series("GPU-0", Quantity.UTILIZATION).values == [0.0] * 3


def test_the_oldest_samples_make_room():
    history = HardwareHistory(samples_kept=4)
    for second in range(7):
        history.add(float(second), machine(card(temperature_celsius=second)))
    series = history.series("GPU-0", Quantity.TEMPERATURE)
    assert series.seconds == series.values == [3.0, 4.0, 5.0, 6.0]


def test_a_lost_gpu_leaves_a_gap_and_an_unknown_one_nothing():
    history = HardwareHistory()
    history.add(0.0, machine(CARD))
    gone = card(state=GpuState.LOST, temperature_celsius=None)
    history.add(1.0, machine(gone, card(uuid="", index=1)))
    first, second = history.series("GPU-0", Quantity.TEMPERATURE).values
    assert first == 40.0
    assert math.isnan(second)
    assert history.uuids == ("GPU-0",)
    assert history.series("GPU-9", Quantity.POWER).values == []


def test_an_hour_is_cheap():
    history, snapshot = HardwareHistory(), machine(CARD)
    began = time.process_time()
    for second in range(2 * SAMPLES_KEPT):
        history.add(float(second), snapshot)
    # Two hours of samples in far less than a second.
    assert time.process_time() - began < 0.5
    assert len(history.series("GPU-0", Quantity.POWER).values) == SAMPLES_KEPT == 3600
