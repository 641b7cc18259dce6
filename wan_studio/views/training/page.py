"""The settings of a run: essentials first, the rest one click away, under the guides' names."""

import msgspec
from PySide6.QtWidgets import QVBoxLayout, QWidget

from wan_studio.bridge.workbench import Workbench
from wan_studio.domain.checks import Step
from wan_studio.domain.frame_sampling import MODEL_FRAMES_PER_SECOND, valid_frame_count
from wan_studio.domain.project import Settings
from wan_studio.services.preset_store import settings_for
from wan_studio.undo.edits import edit_project
from wan_studio.views.page import Page, Primary
from wan_studio.views.theme import GRID
from wan_studio.views.training.fields import FieldSpec, SettingRow
from wan_studio.views.widgets import Expander, button, card, label, readable, scrolled
from wan_studio.views.wording import count

_WHOLE = "It must be a whole number of 1 or more."
_STAGES = (
    ("both", "High and low noise"),
    ("high", "High noise only"),
    ("low", "Low noise only"),
)
_DTYPES = (("bf16", "bf16"), ("fp16", "fp16"), ("fp32", "fp32"))
_SAMPLINGS = (("real_speed", "Real speed"), ("whole_range", "Fit the whole range"))

FIELDS: tuple[FieldSpec, ...] = (
    FieldSpec(
        "training.steps", "Steps", "integer", "Optimizer steps over both experts together.", _WHOLE, step=100
    ),
    FieldSpec(
        "target.rank",
        "Linear rank",
        "integer",
        "How much the LoRA can hold: 16 for a motion, 32 for a style or a face.",
        "It must be a whole number from 1 to 1024.",
        step=8,
    ),
    FieldSpec(
        "training.learning_rate",
        "Learning rate",
        "number",
        "How far each step goes; 1e-4 is the guides' value for the A14B model.",
        "It must be a number above 0 and at most 1, e.g. 1e-4.",
    ),
    FieldSpec(
        "datasets.num_frames",
        "Num frames",
        "integer",
        "Frames of each clip that train; rounded down to 4n + 1.",
        _WHOLE,
        unit="frames",
        step=4,
    ),
    FieldSpec(
        "datasets.resolutions",
        "Resolutions",
        "resolutions",
        "Each clip trains once at each, in a bucket of about this area and its own aspect.",
        "Choose one or more.",
        choices=tuple((size, str(size)) for size in (256, 512, 768, 1024)),
    ),
    FieldSpec("multistage.stages", "Stages", "choice", "Which of the two experts train.", choices=_STAGES),
    FieldSpec(
        "multistage.switch_every",
        "Switch every",
        "integer",
        "Steps that one expert takes before the other takes over.",
        _WHOLE,
        unit="steps",
    ),
    FieldSpec(
        "save.every", "Save every", "integer", "Steps between checkpoints.", _WHOLE, unit="steps", step=50
    ),
    FieldSpec(
        "save.keep",
        "Max step saves to keep",
        "integer",
        "Older checkpoints are removed.",
        _WHOLE,
        unit="checkpoints",
        group="SAVE",
    ),
    FieldSpec("save.dtype", "Data type", "choice", "Type of the LoRA files.", choices=_DTYPES, group="SAVE"),
    FieldSpec(
        "target.alpha",
        "Alpha",
        "number",
        "Strength that the LoRA is trained with, as alpha / rank; empty means a strength of one.",
        "It must be a number above 0, or empty.",
        optional="= rank",
        group="TARGET",
    ),
    FieldSpec(
        "multistage.boundary",
        "Boundary",
        "number",
        "Noise level that divides the experts; empty takes the model's own, 0.9 for Wan 2.2 I2V.",
        "It must be a number between 0 and 1, or empty.",
        optional="the model's",
        group="MULTISTAGE",
    ),
    FieldSpec("training.batch_size", "Batch size", "integer", "Clips in a step.", _WHOLE, group="TRAINING"),
    FieldSpec(
        "training.gradient_accumulation",
        "Gradient accumulation",
        "integer",
        "Batches whose gradients are added up before a step.",
        _WHOLE,
        group="TRAINING",
    ),
    FieldSpec(
        "training.weight_decay",
        "Weight decay",
        "number",
        "Pulls weights towards zero.",
        "It must be a number of 0 or more.",
        group="TRAINING",
    ),
    FieldSpec(
        "training.max_grad_norm",
        "Max gradient norm",
        "number",
        "Longer gradients are shortened to this.",
        "It must be a number above 0.",
        group="TRAINING",
    ),
    FieldSpec(
        "training.seed",
        "Seed",
        "integer",
        "The same seed, clips and settings give the same LoRA on the same machine.",
        "It must be a whole number of 0 or more.",
        group="TRAINING",
    ),
    FieldSpec(
        "datasets.sampling",
        "Frame sampling",
        "choice",
        "Real speed keeps the motion as fast as it is.",
        choices=_SAMPLINGS,
        group="DATASETS",
    ),
    FieldSpec(
        "datasets.repeats",
        "Repeats",
        "integer",
        "Times that each clip comes in one pass.",
        _WHOLE,
        group="DATASETS",
    ),
)


class TrainingPage(Page):
    """All settings with the preset's values as recommendation."""

    step = Step.TRAINING
    title = "Training"

    def __init__(self, bench: Workbench) -> None:
        super().__init__(bench)
        self._rows: dict[str, SettingRow] = {}
        self._build()
        bench.session.project_changed.connect(self._renew)
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
        """Put every value back to the preset's."""
        project = self.session.project
        preset = self._preset()
        # What other pages decide stays: the previews and the default caption.
        datasets = msgspec.structs.replace(
            preset.datasets, default_caption=project.settings.datasets.default_caption
        )
        settings = msgspec.structs.replace(preset, datasets=datasets, sample=project.settings.sample)
        changed = msgspec.structs.replace(project, settings=settings)
        edit_project(self.session, "Use recommended settings", changed)

    def _build(self) -> None:
        self._use_all = button(
            "Use recommended for all", self.use_recommended, icon_name="arrow-counter-clockwise"
        )
        self.header_tools.addWidget(self._use_all)
        essentials = [spec for spec in FIELDS if not spec.group]
        content = QWidget()
        layout = QVBoxLayout(content)
        layout.setContentsMargins(0, 0, 0, 0)
        layout.setSpacing(2 * GRID)
        layout.addWidget(card(*(self._make_row(spec) for spec in essentials), gap=GRID + 6))
        advanced = QWidget()
        groups = QVBoxLayout(advanced)
        groups.setContentsMargins(0, 0, 0, 0)
        groups.setSpacing(2 * GRID)
        for group in dict.fromkeys(spec.group for spec in FIELDS if spec.group):
            rows = [self._make_row(spec) for spec in FIELDS if spec.group == group]
            groups.addWidget(card(label(group, "section"), *rows, gap=GRID + 6))
        name = "training.advanced"
        expander = Expander("Advanced settings", advanced, is_open=name in self.bench.settings.open_expanders)
        expander.toggled.connect(lambda is_open: self.bench.remember_expander(name, is_open=is_open))
        layout.addWidget(expander)
        layout.addStretch(1)
        self.add(scrolled(readable(content, 860), name="Training settings"), 1)

    def _make_row(self, spec: FieldSpec) -> SettingRow:
        made = SettingRow(spec, lambda: self.session.project.settings)
        made.edited.connect(self._on_edited)
        self._rows[spec.name] = made
        return made

    def _preset(self) -> Settings:
        project = self.session.project
        return settings_for(project.goal, project.settings.model.base)

    def _renew(self) -> None:
        if not self.session.is_open:
            return
        settings, preset = self.session.project.settings, self._preset()
        for made in self._rows.values():
            made.show_value(settings, preset)
        changed = sum(spec.value_in(settings) != spec.value_in(preset) for spec in FIELDS)
        self._use_all.setEnabled(changed > 0)
        frames = valid_frame_count(settings.datasets.num_frames)
        used = sum(not clip.rejected for clip in self.session.project.clips)
        passes = settings.training.steps * settings.training.batch_size / max(used, 1)
        self.set_subtitle(
            f"{frames} frames at {MODEL_FRAMES_PER_SECOND} fps = {frames / MODEL_FRAMES_PER_SECOND:.2f} s of each clip. "
            + (
                f"{settings.training.steps} steps are about {passes:.0f} passes over {count(used, 'clip')}."
                if used
                else ""
            )
        )
        self.primary_changed.emit()

    def _on_edited(self, spec: FieldSpec, settings: Settings) -> None:
        changed = msgspec.structs.replace(self.session.project, settings=settings)
        edit_project(self.session, f"Change {spec.label.lower()}", changed, merge_key=spec.name)
        self._renew()


def make_page(bench: Workbench) -> Page:
    """The page."""
    return TrainingPage(bench)
