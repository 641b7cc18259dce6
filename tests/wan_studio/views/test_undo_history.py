"""Undo in the real window: names in the menu after a restart, the list of steps, and the fields' own keys."""

import pytest
from PySide6.QtCore import Qt
from PySide6.QtTest import QTest
from PySide6.QtWidgets import QApplication

from wan_studio.domain.checks import Step
from wan_studio.views.undo_history import UndoHistory

pytestmark = [pytest.mark.media, pytest.mark.qt_log_ignore("This plugin does not support")]

CONTROL = Qt.KeyboardModifier.ControlModifier
SHIFT = Qt.KeyboardModifier.ShiftModifier


def typed(window, field, text):
    field.setFocus()
    QTest.keyClicks(field, text)


def menu_texts(window):
    return [action.text() for action in window.actions_table.menus["Edit"].actions()]


def test_steps_have_their_names_in_the_menu_after_a_restart(qtbot, open_window, project_store):
    window = open_window
    window.go_to(Step.GOAL)
    goal = window.page(Step.GOAL)
    typed(window, goal._trigger, "x")
    goal.choose("style")
    window.bench.session.undo_stack.undo()
    window.bench.open_project(project_store.folder)
    session = window.bench.session
    qtbot.waitUntil(lambda: session.undo_stack.count() == 2)
    assert menu_texts(window)[:2] != ["Undo", "Redo"]
    assert {"Undo Change trigger word", "Redo Choose style or look"} <= set(menu_texts(window))
    assert session.project.trigger == "frungx"
    session.undo_stack.undo()
    assert (session.project.trigger, session.project.goal) == ("frung", "motion")
    session.go_to_step(2)
    assert (session.project.trigger, session.project.goal) == ("frungx", "style")


def test_the_list_names_each_step_and_goes_where_it_is_told(qtbot, open_window):
    window = open_window
    session = window.bench.session
    goal = window.page(Step.GOAL)
    goal.choose("style")
    goal.choose("character")
    window.actions_table.action("edit.history").trigger()
    history = window.findChild(UndoHistory)
    texts = [history.list.item(at).text() for at in range(history.list.count())]
    assert texts == ["Project as it was opened or made", "Choose style or look", "Choose character"]
    history.list.setCurrentRow(0)
    QTest.keyClick(history.list, Qt.Key.Key_Return)
    assert session.project.goal == "motion"
    qtbot.waitUntil(lambda: "0 steps to undo, 2 steps to redo" in history._hint.text())
    assert not history._undo.isEnabled()
    QTest.mouseClick(
        history.list.viewport(),
        Qt.MouseButton.LeftButton,
        pos=history.list.visualItemRect(history.list.item(1)).center(),
    )
    assert session.project.goal == "style"
    assert session.undo_stack.redoText() == "Choose character"
    history.close()


def test_control_z_in_a_field_undoes_the_projects_last_step_and_the_field_follows(qtbot, open_window):
    window = open_window
    window.go_to(Step.GOAL)
    goal = window.page(Step.GOAL)
    window.activateWindow()
    typed(window, goal._trigger, "xy ")
    assert window.bench.session.project.trigger == "frungxy"
    assert goal._trigger.text() == "frungxy "
    QTest.keyClick(goal._trigger, Qt.Key.Key_Z, CONTROL)
    assert window.bench.session.project.trigger == "frung"
    assert goal._trigger.text() == "frung"
    QTest.keyClick(goal._trigger, Qt.Key.Key_Z, CONTROL)
    assert goal._trigger.text() == "frung"
    QTest.keyClick(goal._trigger, Qt.Key.Key_Z, CONTROL | SHIFT)
    assert goal._trigger.text() == "frungxy"
    assert QApplication.focusWidget() is goal._trigger


def test_the_default_caption_is_the_projects_as_it_is_typed(qtbot, open_window):
    window = open_window
    window.go_to(Step.CAPTIONS)
    field = window.page(Step.CAPTIONS)._default._field
    typed(window, field, "a slow ")
    session = window.bench.session
    assert session.project.settings.datasets.default_caption == "a slow"
    assert field.text() == "a slow "
    assert session.undo_stack.undoText() == "Change default caption"
    QTest.keyClick(field, Qt.Key.Key_Z, CONTROL)
    assert field.text() == ""
