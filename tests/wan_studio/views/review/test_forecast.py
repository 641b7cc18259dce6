"""The review tells what the run takes of this machine, and where to change it."""

from PySide6.QtWidgets import QPushButton

from tests.wan_studio.domain.machines import GIB, card, machine
from wan_studio.bridge.background import wait_for_background
from wan_studio.domain.checks import Step
from wan_studio.domain.project import Project
from wan_studio.services.preset_store import settings_for
from wan_studio.services.project_store import ProjectStore


def link(page):
    return next((one for one in page.findChildren(QPushButton) if one.text() == "Show hardware"), None)


def test_the_forecast_stands_among_the_checks_and_leads_to_the_hardware(qtbot, window, tmp_path):
    bench = window.bench
    snapshot = machine(card(), ram_total_bytes=64 * GIB, ram_available_bytes=48 * GIB)
    bench.hardware._latest = snapshot
    project = Project(name="orbit", settings=settings_for("motion", "/models/wan"))
    bench.session.open(ProjectStore(tmp_path / "orbit"), project)
    window.go_to(Step.REVIEW)
    page = window.page(Step.REVIEW)
    qtbot.waitUntil(lambda: page.preflight is not None)
    # It does not fit, which warns; what stands in the way are other things.
    assert link(page) is not None
    assert not any("Peak" in check.text for check in page.preflight.blockers)
    link(page).click()
    assert window.step is Step.HARDWARE
    wait_for_background()


def test_the_training_page_recommends_what_the_plan_does(qtbot, window, tmp_path):
    bench = window.bench
    bench.hardware._latest = machine(card(), ram_total_bytes=64 * GIB, ram_available_bytes=48 * GIB)
    project = Project(name="orbit", settings=settings_for("motion", "/models/wan"))
    bench.session.open(ProjectStore(tmp_path / "orbit"), project)
    window.go_to(Step.TRAINING)
    row = window.page(Step.TRAINING).row("quantization.transformer")
    qtbot.waitUntil(lambda: row._reset.text() == "Recommended: float8, also computed in it")
    row._reset.click()
    assert bench.session.project.settings.quantization.transformer == "float8_compute"
