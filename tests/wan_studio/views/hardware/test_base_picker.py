import pytest
from PySide6.QtWidgets import QFileDialog

from wan_studio.bridge.background import wait_for_background
from wan_studio.bridge.workbench import Workbench
from wan_studio.domain.project import Project
from wan_studio.services.preset_store import settings_for
from wan_studio.services.project_store import ProjectStore
from wan_studio.views.hardware.page import HardwarePage


@pytest.fixture
def page(qtbot, home, tmp_path):
    bench = Workbench()
    made = HardwarePage(bench)
    qtbot.addWidget(made)
    store = ProjectStore(tmp_path / "orbit")
    project = Project(name="orbit", settings=settings_for("motion"))
    store.save(project)
    bench.session.open(store, project)
    yield made
    bench.close()
    wait_for_background()


def base_of(page):
    return page.session.project.settings.model.base


def test_a_file_is_taken_as_the_base(page, tmp_path, monkeypatch):
    file = tmp_path / "wan2.2_i2v_high_noise.safetensors"
    monkeypatch.setattr(QFileDialog, "getOpenFileName", lambda *args: (str(file), ""))
    page.model.choose_file()
    assert base_of(page) == str(file)
    assert page.model._folder.isChecked()


def test_a_dialog_that_was_left_changes_nothing(page, monkeypatch):
    monkeypatch.setattr(QFileDialog, "getOpenFileName", lambda *args: ("", ""))
    page.model.choose_file()
    assert base_of(page) == "miniature"
    assert page.model._miniature.isChecked()


def test_a_repositorys_name_is_taken_and_other_words_are_marked(page, qtbot):
    page.model._hub_name.setText("no name at all")
    page.model.use_hub_name()
    assert base_of(page) == "miniature"
    assert page.model._hub_name.property("invalid")
    page.model._hub_name.setText(" Wan-AI/Wan2.2-I2V-A14B-Diffusers ")
    page.model.use_hub_name()
    assert base_of(page) == "Wan-AI/Wan2.2-I2V-A14B-Diffusers"
    assert not page.model._hub_name.property("invalid")


def test_a_name_is_remembered_when_the_miniature_was_tried_in_between(page):
    page.model._hub_name.setText("Wan-AI/Wan2.2-I2V-A14B-Diffusers")
    page.model.use_hub_name()
    page.model._miniature.click()
    assert base_of(page) == "miniature"
    page.model._folder.click()
    assert base_of(page) == "Wan-AI/Wan2.2-I2V-A14B-Diffusers"
