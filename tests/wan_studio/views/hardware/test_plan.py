"""The plan on the Hardware page: every field with its reason and a way back, the forecast following at once."""

import time
from dataclasses import replace

import pytest
from PySide6.QtCore import Qt
from PySide6.QtTest import QTest
from PySide6.QtWidgets import QAbstractButton, QApplication, QComboBox, QLineEdit, QPushButton

from tests.wan_studio.domain.machines import GIB, card, machine, program
from wan_studio.domain.checks import Step
from wan_studio.domain.hardware import GpuState, MachineState
from wan_studio.domain.manual_card import ManualCard
from wan_studio.domain.project import Project
from wan_studio.domain.recommend import Flavour
from wan_studio.services.preset_store import settings_for
from wan_studio.services.project_store import ProjectStore
from wan_studio.views.hardware.page import HardwarePage
from wan_studio.views.hardware.plan_rows import ESSENTIAL, MORE

SNAPSHOT = machine(card(), ram_total_bytes=64 * GIB, ram_available_bytes=48 * GIB)
NO_DRIVER = replace(SNAPSHOT, gpus=(), state=MachineState.NO_DRIVER)


def page_in(window, tmp_path, base):
    project = Project(name="orbit", settings=settings_for("motion", base))
    window.bench.session.open(ProjectStore(tmp_path / "orbit"), project)
    window.go_to(Step.HARDWARE)
    return window.page(Step.HARDWARE)


@pytest.fixture
def page(window, tmp_path):
    return page_in(window, tmp_path, "/models/wan")


def look(page, snapshot=SNAPSHOT):
    """As the monitor does once a second."""
    page.bench.hardware._latest = snapshot
    page.bench.hardware.snapshot_taken.emit(snapshot)


def wait_for_plans(qtbot, page):
    qtbot.waitUntil(lambda: set(page.bench.plans.plans) == set(Flavour))


def settings_of(page):
    return page.session.project.settings


def link_of(row):
    return row._reset


def test_an_edit_changes_the_forecast_within_a_tenth_of_a_second_and_keeps_the_way_back(page, qtbot):
    look(page)
    wait_for_plans(qtbot, page)
    page.plan.use_recommended()
    row, before = page.plan.rows.row("model.low_vram"), page.plan._vram.words
    was = settings_of(page).model.low_vram
    began = time.perf_counter()
    row.editor._box.click()
    assert time.perf_counter() - began < 0.1
    assert settings_of(page).model.low_vram is not was
    assert page.plan._vram.words != before
    assert link_of(row).text() == f"Recommended: {'On' if was else 'Off'}"
    assert not link_of(row).isHidden()
    link_of(row).click()
    assert settings_of(page).model.low_vram is was
    assert page.plan._vram.words == before
    assert link_of(row).isHidden()


def test_each_recommended_value_stands_with_its_reason(page, qtbot):
    look(page)
    wait_for_plans(qtbot, page)
    plan = page.bench.plans.plans[Flavour.BALANCED]
    assert set(plan.recommendation.changes) == {*ESSENTIAL, *MORE}
    reasons = plan.reasons
    for name, reason in reasons.items():
        assert page.plan.rows.row(name)._help.text() == reason


def test_use_recommended_is_one_step_that_can_be_taken_back(page, qtbot):
    look(page)
    wait_for_plans(qtbot, page)
    # The plan was taken over by itself; taken back, it is offered.
    stack = page.session.undo_stack
    stack.undo()
    before = settings_of(page)
    assert page.plan.is_custom
    page.plan._use.click()
    assert stack.count() == 1
    assert stack.undoText() == "Use recommended plan"
    assert page.plan._radios[Flavour.BALANCED].isChecked()
    assert not page.plan._use.isEnabled()
    assert page.bench.plans.judgement.fits
    stack.undo()
    assert settings_of(page) == before
    assert page.plan.is_custom


def test_a_value_of_ones_own_makes_the_plan_a_custom_one(page, qtbot):
    look(page)
    wait_for_plans(qtbot, page)
    page.plan._radios[Flavour.SAFEST].click()
    assert page.plan._radios[Flavour.SAFEST].isChecked()
    line = page.plan.rows.row("datasets.num_frames").findChild(QLineEdit)
    line.selectAll()
    QTest.keyClicks(line, "17")
    assert page.plan.is_custom
    assert page.primary().is_enabled
    QTest.keyClicks(line, "x")
    assert not page.primary().is_enabled
    assert "Num frames" in page.primary().hint


def test_a_recommendation_never_holds_the_window_up(page, qtbot):
    taken = []
    for signal in (page.bench.plans.judged, page.bench.plans.recommended):
        signal.disconnect(page.plan.renew)
        signal.connect(lambda: taken.append(timed(page.plan.renew)))
    asked = timed(lambda: look(page))
    wait_for_plans(qtbot, page)
    assert len(taken) >= 4
    assert max(*taken, asked) < 0.05


def timed(slot):
    """Seconds of this thread's own work: what other processes take of a busy machine does not count."""
    began = time.thread_time()
    slot()
    return time.thread_time() - began


@pytest.mark.parametrize(
    ("snapshot", "words"),
    [
        (NO_DRIVER, "No NVIDIA driver was found"),
        (replace(NO_DRIVER, is_wsl=True), "No NVIDIA driver was found"),
        (replace(NO_DRIVER, state=MachineState.NO_PERMISSION), "this user may not use it"),
        (replace(SNAPSHOT, gpus=(card(state=GpuState.LOST),)), "has fallen off the bus"),
    ],
)
def test_without_a_usable_gpu_the_page_says_why_and_takes_a_card_by_hand(page, qtbot, snapshot, words):
    look(page, snapshot)
    assert words in page.machine.words
    assert not page.machine._hint.isHidden()
    assert ("Windows" in page.machine._hint.text()) is snapshot.is_wsl
    assert page.programs.isHidden()
    assert page._history.isHidden()
    assert page.plan._bars.isHidden()
    assert page.primary().is_enabled
    size = page.machine._manual._size
    assert size.isVisible()
    QTest.keyClicks(size, "24")
    assert page.bench.plans.manual_card == ManualCard(24, (8, 9))
    wait_for_plans(qtbot, page)
    assert not page.plan._bars.isHidden()
    assert page.plan._for.text() == "for a card of 24 GiB, RTX 40 series"
    # A page that is made later shows it, too.
    again = HardwarePage(page.bench)
    qtbot.addWidget(again)
    assert again.machine._manual._size.text() == "24"


def test_a_size_that_no_card_has_is_marked_and_changes_nothing(page):
    look(page, NO_DRIVER)
    row = page.machine._manual
    QTest.keyClicks(row._size, "2")
    assert row._size.property("invalid")
    assert row._problem.text()
    assert page.bench.plans.manual_card is None


def test_another_card_can_be_planned_for_beside_the_own_one_and_left_again(page, qtbot):
    look(page)
    row = page.machine._manual
    assert row._fields.isHidden()
    row._wanted.click()
    assert page.bench.plans.manual_card == ManualCard(24, (8, 9))
    assert page.bench.plans.machine.gpu.name == ""
    row._series.setCurrentIndex(1)
    row._series.activated.emit(1)
    assert page.bench.plans.machine.gpu.capability == (8, 6)
    row._wanted.click()
    assert page.bench.plans.manual_card is None
    assert page.bench.plans.machine.gpu.name == card().name


def test_who_uses_the_vram_is_listed_with_a_word_where_the_driver_does_not_tell(page):
    page.bench.hardware._own_pids = frozenset({7})
    programs = (program(4242, "ComfyUI", 11), program(7, "python", 4), program(9, "", None))
    look(page, machine(card(processes=programs, vram_used_bytes=15 * GIB)))
    assert page.programs.lines == [
        ("ComfyUI (pid 4242)", "11.0 GiB"),
        ("python (pid 7), this project's trainer", "4.0 GiB"),
        ("pid 9", "not told"),
    ]
    assert page.programs.words == "15.0 GiB are taken in all. The driver does not tell what each takes."
    look(page, machine(card(processes=None, vram_used_bytes=15 * GIB)))
    assert page.programs.lines == []
    assert page.programs.words.endswith("The driver does not list the programs.")
    look(page, machine(card(processes=tuple(program(n, "worker", 0.1) for n in range(1, 13)))))
    assert len(page.programs.lines) == 8
    assert page.programs.words.endswith("4 smaller programs not listed.")


def test_when_nothing_fits_the_page_says_what_helps(page, qtbot):
    look(page, machine(card(vram_used_bytes=20 * GIB), ram_available_bytes=5 * GIB))
    wait_for_plans(qtbot, page)
    assert page.plan._fit.text().startswith("It does not fit")
    assert "Close other programs" in page.plan._ways_out.text()
    assert not page.plan._use.isEnabled()
    assert page.plan.is_custom


def test_the_miniature_has_nothing_to_plan(window, tmp_path):
    page = page_in(window, tmp_path, "miniature")
    look(page)
    assert "runs anywhere" in page.plan._instead.text()
    for part in (page.plan._bars, page.plan._choices, page.plan.rows, page.plan._figures):
        assert part.isHidden()


def test_the_last_hour_is_drawn_while_it_is_seen(page, qtbot):
    page.bench.hardware.history.add(1.0, SNAPSHOT)
    page.bench.hardware.history.add(61.0, SNAPSHOT)
    look(page)
    assert page._plots is None
    page._history.set_open(True)
    assert "hardware.history" in page.bench.settings.open_expanders
    qtbot.waitUntil(lambda: page._plots is not None)
    look(page)
    told = [plot._now.text() for plot in page._plots._plots]
    assert told == ["VRAM used: 0.5 GiB", "GPU load: 0 %", "Temperature: 40 °C", "Power: 20 W"]
    assert list(page._plots._plots[0]._curve.xData) == [-1.0, 0.0]
    page._history.set_open(False)
    page.bench.hardware.history.add(121.0, SNAPSHOT)
    look(page)
    assert list(page._plots._plots[0]._curve.xData) == [-1.0, 0.0]


def test_every_control_has_a_name_and_takes_the_keyboard(page, qtbot):
    look(page)
    wait_for_plans(qtbot, page)
    page.plan.rows._more.set_open(True)
    QApplication.processEvents()
    shown = [one for kind in (QAbstractButton, QLineEdit, QComboBox) for one in page.findChildren(kind)]
    shown = [one for one in shown if one.isVisible()]
    assert len(shown) > 25
    for one in shown:
        words = one.accessibleName() or (one.text() if isinstance(one, QAbstractButton) else "")
        assert words, one
        assert one.focusPolicy() & Qt.FocusPolicy.TabFocus
    assert page.findChildren(QPushButton)
