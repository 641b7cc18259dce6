"""The settings of a run: essentials first, the rest one click away, under the guides' names."""

import msgspec
from PySide6.QtWidgets import QFrame, QLabel, QLayout, QLineEdit, QVBoxLayout, QWidget

from wan_studio.bridge.workbench import Workbench
from wan_studio.domain.checks import Step
from wan_studio.domain.frame_sampling import MODEL_FRAMES_PER_SECOND, valid_frame_count
from wan_studio.domain.project import Goal, Settings
from wan_studio.services.preset_store import settings_for
from wan_studio.undo.edits import edit_project
from wan_studio.views.page import Page, Primary
from wan_studio.views.theme import GRID
from wan_studio.views.training.dataset_fields import DATASETS, FRAMES_FIELD, RESOLUTIONS_FIELD
from wan_studio.views.training.expert_fields import (
    MULTISTAGE,
    RANK_FIELD,
    STAGES_FIELD,
    SWITCH_EVERY_FIELD,
    TARGET,
)
from wan_studio.views.training.fields import SettingRow, indented
from wan_studio.views.training.memory_fields import MODEL, QUANTIZATION
from wan_studio.views.training.specs import FieldSpec, fields_of
from wan_studio.views.training.timestep_plot import TimestepPlot
from wan_studio.views.training.training_fields import (
    ADVANCED,
    BATCH_SIZE_FIELD,
    BIAS_FIELD,
    KEEP_FIELD,
    LEARNING_RATE_FIELD,
    SAVE,
    SAVE_EVERY_FIELD,
    STEPS_FIELD,
    TRAINING,
)
from wan_studio.views.widgets import Expander, button, card, label, readable, scrolled
from wan_studio.views.wording import count

ESSENTIALS = (
    STAGES_FIELD,
    SWITCH_EVERY_FIELD,
    STEPS_FIELD,
    RANK_FIELD,
    LEARNING_RATE_FIELD,
    BATCH_SIZE_FIELD,
    FRAMES_FIELD,
    RESOLUTIONS_FIELD,
    BIAS_FIELD,
    SAVE_EVERY_FIELD,
    KEEP_FIELD,
)
GROUPS = (MODEL, QUANTIZATION, MULTISTAGE, TARGET, SAVE, TRAINING, ADVANCED, DATASETS)
FIELDS: tuple[FieldSpec, ...] = (*ESSENTIALS, *fields_of(GROUPS))


class TrainingPage(Page):
    """All settings with the preset's values as recommendation."""

    step = Step.TRAINING
    title = "Training"

    def __init__(self, bench: Workbench) -> None:
        super().__init__(bench)
        self._rows: dict[str, SettingRow] = {}
        # Headings and cards, each with the rows without which it is not shown.
        self._frames: list[tuple[QWidget, list[SettingRow]]] = []
        self._presets: dict[tuple[Goal, str], Settings] = {}
        self._plot = TimestepPlot()
        self._build()
        bench.session.project_changed.connect(self._renew)
        bench.plans.recommended.connect(self._renew)
        self._renew()

    def row(self, name: str) -> SettingRow:
        """The row of a setting, by `section.field`."""
        return self._rows[name]

    def primary(self) -> Primary | None:
        """On to the review."""
        wrong = [row.spec.label for row in self._rows.values() if row.problem]
        if wrong:
            return Primary("Review", is_enabled=False, hint=f"Mend first: {', '.join(wrong)}")
        return Primary("Review", icon_name="arrow-right")

    def run_primary(self) -> None:
        """On to the review."""
        self.step_wanted.emit(Step.REVIEW)

    def use_recommended(self) -> None:
        """Put every value back to the preset's, or to the plan's."""
        project = self.session.project
        preset = self._preset()
        # What other pages decide stays: the GPUs, the previews and the default caption.
        datasets = msgspec.structs.replace(
            preset.datasets, default_caption=project.settings.datasets.default_caption
        )
        settings = msgspec.structs.replace(
            preset, datasets=datasets, job=project.settings.job, sample=project.settings.sample
        )
        changed = msgspec.structs.replace(project, settings=settings)
        edit_project(self.session, "Use recommended settings", changed)

    def search(self, text: str) -> None:
        """Show only the settings whose name or explanation holds this text; empty shows all again."""
        self._search.setText(text)

    def _build(self) -> None:
        self._search = QLineEdit()
        self._search.setPlaceholderText("Find a setting")
        self._search.setAccessibleName("Find a setting")
        self._search.setClearButtonEnabled(True)
        self._search.setFixedWidth(208)
        self._search.textChanged.connect(self._on_search)
        self.header_tools.addWidget(self._search)
        self._use_all = button(
            "Use recommended for all", self.use_recommended, icon_name="arrow-counter-clockwise"
        )
        self.header_tools.addWidget(self._use_all)
        content = QWidget()
        layout = QVBoxLayout(content)
        layout.setContentsMargins(0, 0, 0, 0)
        layout.setSpacing(2 * GRID)
        layout.addWidget(self._make_card("", ESSENTIALS))
        self._nothing = label("No setting is called that.", "muted")
        self._nothing.hide()
        layout.addWidget(self._nothing)
        advanced = QWidget()
        groups = QVBoxLayout(advanced)
        groups.setContentsMargins(0, 0, 0, 0)
        groups.setSpacing(2 * GRID)
        for group in GROUPS:
            groups.addWidget(self._make_card(group.title, group.fields))
        name = "training.advanced"
        self._is_open = name in self.bench.settings.open_expanders
        self._expander = Expander("Advanced settings", advanced, is_open=self._is_open)
        self._expander.toggled.connect(lambda is_open: self._on_toggled(name, is_open=is_open))
        layout.addWidget(self._expander)
        layout.addStretch(1)
        self.add(scrolled(readable(content, 860), name="Training settings"), 1)

    def _make_card(self, title: str, specs: tuple[FieldSpec, ...]) -> QFrame:
        parts: list[QWidget | QLayout] = []
        heading: QLabel | None = None
        rows: list[SettingRow] = []
        part_rows: list[SettingRow] = []
        part = ""
        if title:
            parts.append(label(title, "section"))
        for spec in specs:
            if spec.part != part:
                part, part_rows = spec.part, []
                heading = label(part, "strong")
                self._frames.append((heading, part_rows))
                parts.append(heading)
            made = SettingRow(spec, lambda: self.session.project.settings)
            made.edited.connect(self._on_edited)
            made.problem_changed.connect(self.primary_changed)
            self._rows[spec.name] = made
            rows.append(made)
            part_rows.append(made)
            parts.append(made)
            if spec is BIAS_FIELD:
                self._frames.append((self._plot, [made]))
                parts.append(indented(self._plot))
        frame = card(*parts, gap=GRID + 6)
        self._frames.append((frame, rows))
        return frame

    def _preset(self) -> Settings:
        """The preset's values, and over them those of the plan that suits this machine and these clips."""
        project = self.session.project
        key = project.goal, project.settings.model.base
        if key not in self._presets:
            self._presets[key] = settings_for(*key)
        return self.bench.plans.recommended_for(self._presets[key])

    def _renew(self) -> None:
        if not self.session.is_open:
            return
        settings, preset = self.session.project.settings, self._preset()
        for made in self._rows.values():
            made.show_value(settings, preset)
        self._plot.show_settings(settings)
        self._show_rows()
        changed = sum(spec.value_in(settings) != spec.value_in(preset) for spec in FIELDS)
        self._use_all.setEnabled(changed > 0)
        frames = valid_frame_count(settings.datasets.num_frames)
        used = sum(not clip.rejected for clip in self.session.project.clips)
        training = settings.training
        looks = training.steps * training.batch_size * training.gradient_accumulation
        self.set_subtitle(
            f"{frames} frames at {MODEL_FRAMES_PER_SECOND} fps = {frames / MODEL_FRAMES_PER_SECOND:.2f} s of each clip. "
            + (
                f"{training.steps} steps are about {looks / used:.0f} passes over {count(used, 'clip')}."
                if used
                else ""
            )
        )
        self.primary_changed.emit()

    def _show_rows(self) -> None:
        """Show the settings that do something now and that are looked for."""
        settings = self.session.project.settings
        wanted = self._search.text().strip().casefold()
        shown = {
            made
            for made in self._rows.values()
            if made.spec.is_shown_in(settings) and (not wanted or wanted in _words(made.spec))
        }
        for made in self._rows.values():
            made.setVisible(made in shown)
        for frame, rows in self._frames:
            frame.setVisible(any(made in shown for made in rows))
        self._nothing.setVisible(not shown)

    def _on_search(self, text: str) -> None:
        if not self.session.is_open:
            return
        self._show_rows()
        # While something is looked for, what was folded away is shown; that is not remembered.
        self._expander.blockSignals(True)  # noqa: FBT003 - Qt's signature
        self._expander.set_open(bool(text.strip()) or self._is_open)
        self._expander.blockSignals(False)  # noqa: FBT003

    def _on_toggled(self, name: str, *, is_open: bool) -> None:
        self._is_open = is_open
        self.bench.remember_expander(name, is_open=is_open)

    def _on_edited(self, spec: FieldSpec, settings: Settings) -> None:
        changed = msgspec.structs.replace(self.session.project, settings=settings)
        edit_project(self.session, f"Change {spec.label.lower()}", changed, merge_key=spec.name)
        self._renew()


def _words(spec: FieldSpec) -> str:
    return f"{spec.name} {spec.label} {spec.help} {spec.part}".casefold()


def make_page(bench: Workbench) -> Page:
    """The page."""
    return TrainingPage(bench)
