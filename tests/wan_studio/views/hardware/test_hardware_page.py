"""The Hardware page: which GPUs train."""

import pytest
from PySide6.QtTest import QTest
from PySide6.QtWidgets import QLineEdit

from wan_studio.bridge.background import wait_for_background
from wan_studio.bridge.workbench import Workbench
from wan_studio.domain.hardware import GpuSnapshot, HardwareSnapshot
from wan_studio.domain.project import Project
from wan_studio.services.preset_store import settings_for
from wan_studio.services.project_store import ProjectStore
from wan_studio.views.hardware.page import HardwarePage


def gpu(index, name):
    return GpuSnapshot(
        index=index, name=name, uuid=f"GPU-{index}", vram_total_bytes=24 * 10**9, vram_used_bytes=10**9
    )


@pytest.fixture
def page(qtbot, home, tmp_path):
    bench = Workbench()
    made = HardwarePage(bench)
    qtbot.addWidget(made)
    store = ProjectStore(tmp_path / "orbit")
    project = Project(name="orbit", settings=settings_for("motion", str(tmp_path)))
    store.save(project)
    bench.session.open(store, project)
    yield made
    bench.close()
    wait_for_background()


def row(page, name):
    (found,) = (made for made in page.machine.gpu_rows if made.spec.name == name)
    return found


def test_further_gpus_are_typed_with_commas_and_then_ask_how_they_share(page):
    share, line = row(page, "job.gpu_share"), row(page, "job.more_gpus").findChild(QLineEdit)
    assert share.isHidden()
    QTest.keyClicks(line, "1,")
    QTest.keyClicks(line, "2")
    assert line.text() == "1,2"
    assert page.session.project.settings.job.more_gpus == (1, 2)
    assert not share.isHidden()
    share.editor.entered.emit("experts")
    assert "name one more GPU only" in share.remark
    QTest.keyClicks(line, "x")
    assert not page.primary().is_enabled


def test_the_meters_show_the_gpu_that_trains(page):
    snapshot = HardwareSnapshot(
        gpus=(gpu(0, "Display card"), gpu(1, "Training card")),
        ram_total_bytes=1,
        ram_available_bytes=1,
    )
    page._show_snapshot(snapshot)
    assert page.machine.name == "Display card"
    row(page, "job.gpu").editor.entered.emit(1)
    page._show_snapshot(snapshot)
    assert page.machine.name == "Training card"


def test_a_gpu_that_the_project_names_and_the_machine_lacks_is_told(page):
    row(page, "job.gpu").editor.entered.emit(1)
    page._show_snapshot(
        HardwareSnapshot(gpus=(gpu(0, "The only card"),), ram_total_bytes=1, ram_available_bytes=1)
    )
    assert page.machine.name == "The only card"
    assert "trains on GPU 1" in page.machine._hint.text()
