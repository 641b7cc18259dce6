from pathlib import Path

import pytest
from PySide6.QtCore import Qt
from PySide6.QtGui import QResizeEvent
from PySide6.QtTest import QTest

from tests.wan_studio.domain.machines import CARD, GIB, card, machine
from trainer.protocol.run_folder import RunFolder
from wan_studio.bridge.run_watcher import WatchedRun
from wan_studio.domain.checks import Step
from wan_studio.domain.hardware import GpuState, MachineState
from wan_studio.domain.hardware_alerts import alerts_of
from wan_studio.domain.run_state import Outcome, RunState
from wan_studio.views.hardware_strip import HardwareStrip

HOT = card(index=1, uuid="GPU-1", temperature_celsius=88)
SECOND = card(index=1, uuid="GPU-1", name="Training card", vram_used_bytes=12 * GIB, temperature_celsius=88)


@pytest.fixture
def strip(qtbot):
    made = HardwareStrip()
    made.resize(1920, 36)
    qtbot.addWidget(made)
    return made


def test_the_projects_gpu_is_shown_and_the_first_where_there_is_no_such(strip):
    strip.show_snapshot(machine(CARD, SECOND))
    assert strip._gpu.text() == CARD.name
    strip.set_gpu_index(1)
    assert strip._gpu.text() == "Training card"
    assert strip._vram.text() == "VRAM 12.0 of 24.0 GB"
    assert strip._heat.text() == "88 °C"
    strip.set_gpu_index(7)
    assert strip._gpu.text() == CARD.name


def test_a_gpu_that_is_lost_has_no_figures_and_says_why(strip):
    lost = card(state=GpuState.LOST, vram_used_bytes=None, temperature_celsius=None)
    strip.show_snapshot(machine(CARD))
    assert not strip._vram_meter.isHidden()
    strip.show_snapshot(machine(lost))
    assert strip._vram_meter.isHidden()
    assert strip._heat.isHidden()
    assert "fallen off the bus" in strip._gpu.toolTip()


def test_a_machine_without_a_gpu_says_why(strip):
    strip.show_snapshot(machine(state=MachineState.NO_PERMISSION))
    assert strip._gpu.text() == "No NVIDIA GPU"
    assert "may not use it" in strip._gpu.toolTip()


def test_the_worst_alert_stands_in_the_strip_and_all_of_them_in_its_tooltip(qtbot, strip):
    assert strip._alert.isHidden()
    lost = card(index=0, state=GpuState.LOST)
    strip.show_alerts(alerts_of(machine(HOT)))
    assert strip._alert.text() == "GPU hot 88 °C"
    assert strip._alert.property("icon_name") == "warning"
    strip.show_alerts(alerts_of(machine(lost, HOT)))
    assert strip._alert.text() == "GPU lost, 1 more"
    assert strip._alert.property("icon_name") == "warning-octagon"
    assert "fans" in strip._alert.toolTip()
    with qtbot.waitSignal(strip.hardware_clicked):
        strip._alert.click()
    strip.show_alerts(())
    assert strip._alert.isHidden()


def test_a_click_on_an_alert_opens_the_hardware_page(open_window):
    bench, strip = open_window.bench, open_window._strip
    bench.hardware.stop()
    bench.hardware.alerts_changed.emit(alerts_of(machine(HOT)))
    QTest.mouseClick(strip._alert, Qt.MouseButton.LeftButton)
    assert open_window.step is Step.HARDWARE


def test_in_a_narrow_window_the_less_important_gives_way_and_comes_back(strip):
    named = card(name="NVIDIA RTX PRO 6000 Blackwell Workstation Edition", vram_used_bytes=20 * GIB)
    strip.show_snapshot(machine(named))
    strip.show_alerts(alerts_of(machine(card(state=GpuState.LOST), HOT)))
    state = RunState(outcome=Outcome.RUNNING, step=570, total_steps=1000)
    run = RunFolder(Path("a_run_with_a_rather_long_name_of_its_own-001"))
    strip.show_run(WatchedRun(run, state, is_read=True))
    figures = (strip._disk, strip._ram, strip._vram, strip._heat)
    assert not any(part.isHidden() for part in figures)
    for width in (1024, 1360, 1920):
        strip.resize(width, 36)
        strip.resizeEvent(QResizeEvent(strip.size(), strip.size()))
        assert strip.layout().sizeHint().width() <= width
        assert not any(part.isHidden() for part in (strip._gpu, strip._alert, strip._run))
        assert strip._disk.isHidden() or width > 1024
    assert not any(part.isHidden() for part in figures)
    assert strip._run.accessibleName() == "a_run_with_a_rather_long_name_of_its_own-001: Training 57 %"


def test_the_strip_does_not_hold_the_window_wide(open_window):
    open_window.bench.hardware.stop()
    strip = open_window._strip
    strip.show_snapshot(machine(SECOND))
    strip.show_alerts(alerts_of(machine(HOT)))
    open_window.resize(open_window.minimumSize())
    assert open_window.width() == open_window.minimumWidth()
