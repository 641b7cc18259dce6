"""Every setting of a job has its place in the window, says what is wrong, and does what it says."""

import pytest
from PySide6.QtTest import QTest
from PySide6.QtWidgets import QCheckBox, QComboBox, QLineEdit

from wan_studio.bridge.background import wait_for_background
from wan_studio.bridge.workbench import Workbench
from wan_studio.domain.project import Project, Settings
from wan_studio.services.preset_store import settings_for
from wan_studio.services.project_store import ProjectStore
from wan_studio.views.hardware.gpu_fields import GPU_FIELDS
from wan_studio.views.review.sample_fields import SAMPLE_FIELDS
from wan_studio.views.training.page import FIELDS, TrainingPage

ELSEWHERE = {
    "model.base": "the Hardware page: it decides which hardware is needed",
    "datasets.default_caption": "the Captions page: it stands in for captions",
    "sample.rows": "the list of previews on the Samples page: it is no single value",
}
VALUES = {
    "integer": 3,
    "number": 0.25,
    "percent": 0.25,
    "switch": True,
    "text": "frung",
    "words": ["self_attn", "ffn"],
    "numbers": [1, 2],
    "file": "/loras/start.safetensors",
    "resolutions": [256, 768],
}


@pytest.fixture
def page(qtbot, home, tmp_path):
    bench = Workbench()
    made = TrainingPage(bench)
    qtbot.addWidget(made)
    store = ProjectStore(tmp_path / "orbit")
    project = Project(name="orbit", settings=settings_for("motion"))
    store.save(project)
    bench.session.open(store, project)
    yield made
    bench.close()
    wait_for_background()


def settings_of(page):
    return page.session.project.settings


def test_every_field_of_the_settings_has_exactly_one_place_in_the_window():
    every = {
        f"{section}.{field}"
        for section in Settings.__struct_fields__
        for field in getattr(Settings(), section).__struct_fields__
    }
    placed = [spec.name for spec in (*FIELDS, *GPU_FIELDS, *SAMPLE_FIELDS)]
    assert len(placed) == len(set(placed))
    assert set(placed) | set(ELSEWHERE) == every
    assert not set(placed) & set(ELSEWHERE)


def test_a_resolution_beyond_the_usual_ones_stands_at_its_place_in_the_row(page):
    boxes = page.row("datasets.resolutions").findChildren(QCheckBox)
    boxes.sort(key=lambda box: box.parentWidget().layout().indexOf(box))
    assert [int(box.text()) for box in boxes] == [64, 256, 512, 768, 1024]


def test_every_field_takes_values_of_its_kind_and_words_its_rule_where_it_can_be_wrong():
    for spec in (*FIELDS, *GPU_FIELDS, *SAMPLE_FIELDS):
        _check_spec(spec)


def _check_spec(spec):
    assert spec.help.endswith("."), "one sentence"
    wanted = [value for value, _ in spec.choices] if spec.kind == "choice" else [VALUES[spec.kind]]
    for value in wanted:
        changed = Settings().with_values({spec.section: {spec.field: value}})
        assert spec.value_in(changed) == (tuple(value) if isinstance(value, list) else value)
    if spec.kind in ("integer", "number", "percent", "numbers", "resolutions"):
        assert spec.rule
    default = spec.value_in(Settings())
    assert spec.worded(default) != "None", "None needs words of its own"


def test_every_field_can_be_set_in_the_window_and_be_put_back(page):
    # With everything on, so that no field stands back.
    page.session.set_project(_everything_on(page.session.project))
    for spec in FIELDS:
        before = settings_of(page)
        row = page.row(spec.name)
        assert not row.isHidden(), spec.name
        value = VALUES.get(spec.kind)
        if spec.kind == "choice":
            value = next(choice for choice, _ in spec.choices if choice != spec.value_in(before))
        row.editor.entered.emit(value)
        assert row.problem == "", spec.name
        now = settings_of(page)
        assert spec.value_in(now) == (tuple(value) if isinstance(value, list) else value), spec.name
        row.use_recommended()
        assert spec.value_in(settings_of(page)) == spec.value_in(page._preset()), spec.name
        page.session.set_project(_everything_on(page.session.project))


def _everything_on(project):
    import msgspec

    settings = project.settings.with_values(
        {
            "multistage": {"stages": "both", "high_timestep_type": "shift", "low_timestep_type": "shift"},
            "training": {
                "loss": "huber",
                "timestep_type": "shift",
                "gradient_checkpointing": True,
                "diff_output_preservation": True,
                "blank_prompt_preservation": True,
            },
            "quantization": {"transformer": "nf4_recovered"},
            "advanced": {"differential_guidance": True, "validation_every": 100},
            "datasets": {"sampling": "sliding", "caption_dropout": 0.1, "condition_noise": 0.1},
        }
    )
    return msgspec.structs.replace(project, settings=settings)


def test_typing_sets_an_optional_number_and_emptying_it_clears_it(qtbot, page):
    line = page.row("multistage.high_learning_rate").findChild(QLineEdit)
    page.search("most steps")
    page.search("")
    line.setFocus()
    QTest.keyClicks(line, "5e-5")
    assert settings_of(page).multistage.high_learning_rate == 5e-5
    line.selectAll()
    QTest.keyClicks(line, "2")
    assert "at most 1" in page.row("multistage.high_learning_rate").problem
    assert line.text() == "2", "what was typed stays"
    assert settings_of(page).multistage.high_learning_rate == 5e-5
    line.selectAll()
    QTest.keyClicks(line, "\b")
    assert settings_of(page).multistage.high_learning_rate is None
    assert line.placeholderText() == "common value"


def test_a_setting_that_does_nothing_is_not_shown_and_its_wrong_value_blocks_nothing(page):
    switch, delta = page.row("training.loss"), page.row("training.huber_delta")
    assert delta.isHidden()
    combo = switch.findChild(QComboBox)
    combo.activated.emit(2)
    assert settings_of(page).training.loss == "huber"
    assert not delta.isHidden()
    QTest.keyClicks(delta.findChild(QLineEdit), "x")
    assert not page.primary().is_enabled
    combo.activated.emit(0)
    assert delta.isHidden()
    assert page.primary().is_enabled


def test_layer_offloading_is_a_percentage_until_blocks_are_counted(page):
    share, blocks = page.row("model.layer_offloading"), page.row("model.resident_blocks")
    line = share.findChild(QLineEdit)
    line.selectAll()
    QTest.keyClicks(line, "37,5")
    assert settings_of(page).model.layer_offloading == 0.375
    assert line.text() == "37,5", "what was typed stays"
    line.selectAll()
    QTest.keyClicks(line, "101")
    assert "from 0 to 100" in share.problem
    blocks.editor.entered.emit(8)
    assert share.isHidden()
    assert page.primary().is_enabled, "a value that is not looked at blocks nothing"


def test_settings_that_need_another_come_with_it(page):
    rank, kept = page.row("quantization.recovery_rank"), page.row("training.kept_activations")
    assert rank.isHidden()
    assert kept.isHidden(), "the miniature computes nothing twice"
    page.row("quantization.transformer").editor.entered.emit("nf4_recovered")
    page.row("training.gradient_checkpointing").editor.entered.emit(True)
    assert not rank.isHidden()
    assert not kept.isHidden()


def test_recommended_settings_leave_the_gpus_of_the_hardware_page_alone(page):
    import msgspec

    project = page.session.project
    settings = project.settings.with_values({"job": {"gpu": 1}, "model": {"low_vram": False}})
    page.session.set_project(msgspec.structs.replace(project, settings=settings))
    page.use_recommended()
    assert settings_of(page).job.gpu == 1
    assert settings_of(page).model.low_vram is True


def test_one_experts_settings_are_gone_when_it_does_not_train(page):
    page.row("multistage.stages").editor.entered.emit("low")
    assert page.row("multistage.high_rank").isHidden()
    assert page.row("multistage.switch_every").isHidden()
    assert not page.row("multistage.low_rank").isHidden()


def test_switches_lists_and_files_write_what_they_show(page, tmp_path):
    page.row("training.stratified_timesteps").findChild(QCheckBox).click()
    assert settings_of(page).training.stratified_timesteps is True
    line = page.row("target.only_if_contains").findChild(QLineEdit)
    QTest.keyClicks(line, "self_attn, ffn,")
    assert settings_of(page).target.only_if_contains == ("self_attn", "ffn")
    assert line.text() == "self_attn, ffn,"
    editor = page.row("target.start_high").editor
    editor.take_file(tmp_path / "a.safetensors")
    assert settings_of(page).target.start_high == str(tmp_path / "a.safetensors")
    editor._clear.click()
    assert settings_of(page).target.start_high == ""


def test_undo_shows_the_old_value_even_while_the_line_has_the_focus(page):
    line = page.row("training.steps").findChild(QLineEdit)
    line.setFocus()
    line.selectAll()
    QTest.keyClicks(line, "300")
    page.session.undo_stack.undo()
    assert line.text() == "400", "the miniature's"


def test_a_doubtful_value_is_remarked_on_but_taken(page):
    page.row("training.optimizer").editor.entered.emit("prodigy")
    rate = page.row("training.learning_rate")
    assert "Prodigy" in rate.remark
    rate.editor.entered.emit(1.0)
    assert rate.remark == ""
    page.row("datasets.num_frames").editor.entered.emit(44)
    assert "41 frames train" in page.row("datasets.num_frames").remark
    assert settings_of(page).datasets.num_frames == 44


def test_the_search_shows_what_is_looked_for_and_opens_what_was_folded(page):
    assert not page._expander._content.isVisibleTo(page)
    page.search("boundary")
    shown = {name for name in (spec.name for spec in FIELDS) if page.row(name).isVisibleTo(page)}
    assert {"multistage.boundary", "multistage.boundary_overlap"} <= shown
    assert "training.seed" not in shown
    page.search("no such thing")
    assert page._nothing.isVisibleTo(page)
    page.search("")
    assert not page._expander._content.isVisibleTo(page)
    assert page.row("training.steps").isVisibleTo(page)
