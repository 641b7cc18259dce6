"""The monitor with the recorded card; a test that changes an answer names the change."""

import logging
import math

import psutil
import pytest

from tests.wan_studio.services.replayed_nvml import GPU_IS_LOST, ReplayedNvml, error, value
from trainer.protocol.run_folder import RunFolder
from trainer.protocol.wire import write_json
from wan_studio.bridge.background import wait_for_background
from wan_studio.bridge.hardware_monitor import HardwareMonitor
from wan_studio.bridge.run_watcher import WatchedRun
from wan_studio.domain.hardware import DiskUse, GpuState
from wan_studio.domain.hardware_alerts import AlertKind
from wan_studio.domain.hardware_history import Quantity
from wan_studio.domain.run_state import Outcome, RunState
from wan_studio.services import hardware_probe
from wan_studio.services.run_process import ProcessRecord


@pytest.fixture
def nvml(monkeypatch):
    made = ReplayedNvml("at work")
    real = hardware_probe.HardwareProbe
    monkeypatch.setattr(hardware_probe, "HardwareProbe", lambda: real(made))
    return made


@pytest.fixture
def monitor(qtbot, tmp_path, nvml):
    made = HardwareMonitor({DiskUse.RUNS: tmp_path})
    yield made
    made.stop()
    wait_for_background()


def look(qtbot, monitor):
    with qtbot.waitSignal(monitor.snapshot_taken):
        monitor.ask()
    return monitor.latest


def test_it_looks_at_once_and_keeps_what_it_saw(qtbot, monitor, nvml):
    with qtbot.waitSignal(monitor.snapshot_taken):
        monitor.start()
    look(qtbot, monitor)
    (uuid,) = monitor.history.uuids
    watts = nvml.recorded_value("nvmlDeviceGetPowerUsage") / 1000
    assert monitor.history.series(uuid, Quantity.POWER).values == [watts, watts]
    assert monitor.latest.disks[0].use is DiskUse.RUNS
    assert monitor.alerts == ()


def test_alerts_are_told_when_they_come_and_when_they_go(qtbot, monitor, nvml):
    told = []
    monitor.alerts_changed.connect(told.append)
    look(qtbot, monitor)
    nvml.changes["nvmlDeviceGetTemperature,0"] = value(88)
    for _ in range(2):
        look(qtbot, monitor)
    assert [[alert.kind for alert in alerts] for alerts in told] == [[AlertKind.HOT]]
    nvml.changes.clear()
    for _ in range(11):
        look(qtbot, monitor)
    assert told[-1] == monitor.alerts == ()


def test_a_lost_gpu_is_a_state_and_a_gap_and_the_looking_goes_on(qtbot, monitor, nvml):
    look(qtbot, monitor)
    nvml.changes["nvmlDeviceGetUtilizationRates"] = error(GPU_IS_LOST)
    lost = look(qtbot, monitor)
    assert lost.gpus[0].state is GpuState.LOST
    assert [alert.kind for alert in monitor.alerts] == [AlertKind.GPU_UNUSABLE]
    nvml.changes.clear()
    assert look(qtbot, monitor).gpus[0].is_ready
    heat = monitor.history.series(lost.gpus[0].uuid, Quantity.TEMPERATURE).values
    assert [math.isnan(one) for one in heat] == [False, True, False]


def test_a_look_that_fails_does_not_end_the_looking_and_is_told_of_once(qtbot, monitor, monkeypatch, caplog):
    def fails(*_):
        raise OSError("no more handles")

    with monkeypatch.context() as broken, caplog.at_level(logging.ERROR):
        broken.setattr(psutil, "virtual_memory", fails)
        monitor.start()
        qtbot.waitUntil(lambda: not monitor._is_asking)
        monitor.ask()
        qtbot.waitUntil(lambda: not monitor._is_asking)
    assert len(caplog.records) == 1
    assert monitor._timer.isActive()
    assert look(qtbot, monitor).gpus


def test_our_own_trainers_memory_is_known_as_ours(qtbot, monitor, nvml, tmp_path):
    own = psutil.Process()
    used = 40 * 2**30
    nvml.changes["nvmlDeviceGetComputeRunningProcesses"] = value([{"pid": own.pid, "usedGpuMemory": used}])
    look(qtbot, monitor)
    assert [alert.kind for alert in monitor.alerts] == [AlertKind.VRAM_TAKEN]
    record = ProcessRecord(pid=own.pid, created=own.create_time(), started=own.create_time())
    write_json(tmp_path / "process.json", record)
    state = RunState(outcome=Outcome.RUNNING, step=3, seconds_per_step=1.5)
    monitor.watch_training(WatchedRun(RunFolder(tmp_path), state, is_read=True))
    look(qtbot, monitor)
    assert monitor.own_pids == {own.pid}
    assert monitor.alerts == ()
    monitor.watch_training(None)
    look(qtbot, monitor)
    assert monitor.own_pids == frozenset()
    monitor.watch_rehearsal(RunFolder(tmp_path))
    look(qtbot, monitor)
    assert (monitor.own_pids, monitor.alerts) == ({own.pid}, ())
