"""The fields that a plan sets, each with its editor, the reason for its value, and the way back to it."""

from collections.abc import Mapping

import msgspec
from PySide6.QtCore import Signal
from PySide6.QtWidgets import QVBoxLayout, QWidget

from wan_studio.bridge.workbench import Workbench
from wan_studio.domain.project import Settings
from wan_studio.undo.edits import edit_project
from wan_studio.views.review.sample_fields import SAMPLE_FIELDS
from wan_studio.views.theme import GRID
from wan_studio.views.training.dataset_fields import FRAMES_FIELD, RESOLUTIONS_FIELD
from wan_studio.views.training.expert_fields import RANK_FIELD, SWITCH_EVERY_FIELD
from wan_studio.views.training.fields import SettingRow
from wan_studio.views.training.memory_fields import MODEL, QUANTIZATION
from wan_studio.views.training.specs import FieldSpec, fields_of
from wan_studio.views.training.training_fields import BATCH_SIZE_FIELD, TRAINING
from wan_studio.views.widgets import Expander, card

_KNOWN = {
    spec.name: spec
    for spec in (
        *fields_of((MODEL, QUANTIZATION, TRAINING)),
        *SAMPLE_FIELDS,
        FRAMES_FIELD,
        RESOLUTIONS_FIELD,
        RANK_FIELD,
        SWITCH_EVERY_FIELD,
        BATCH_SIZE_FIELD,
    )
}
ESSENTIAL = (
    "model.low_vram",
    "model.layer_offloading",
    "quantization.transformer",
    "quantization.text_encoder",
    "datasets.resolutions",
    "datasets.num_frames",
    "multistage.switch_every",
)
MORE = (
    "quantization.vae",
    "sample.in_tiles",
    "model.checkpoint_offloading",
    "model.resident_blocks",
    "model.feed_forward_chunks",
    "training.gradient_checkpointing",
    "training.kept_activations",
    "training.kept_blocks",
    "training.batch_size",
    "training.gradient_accumulation",
    "target.rank",
    "model.compile",
)
_EXPANDER = "hardware.more"


class PlanRows(QWidget):
    """What the plan sets, essentials first.

    Signals:
        problem_changed: What stands in a field is wrong now, or right again.
    """

    problem_changed = Signal()

    def __init__(self, bench: Workbench) -> None:
        super().__init__()
        self.bench = bench
        self.session = bench.session
        self._rows: dict[str, SettingRow] = {}
        more = card(*(self._make(name) for name in MORE), gap=GRID + 4, margins=0)
        more.setContentsMargins(0, GRID, 0, 0)
        is_open = _EXPANDER in bench.settings.open_expanders
        self._more = Expander("More of the plan", more, is_open=is_open)
        self._more.toggled.connect(lambda is_open: bench.remember_expander(_EXPANDER, is_open=is_open))
        layout = QVBoxLayout(self)
        layout.setContentsMargins(0, 0, 0, 0)
        layout.setSpacing(GRID + 4)
        for name in ESSENTIAL:
            layout.addWidget(self._make(name))
        layout.addWidget(self._more)

    def row(self, name: str) -> SettingRow:
        """The row of a field, by `section.field`."""
        return self._rows[name]

    @property
    def problems(self) -> list[str]:
        """Fields in which something wrong stands."""
        return [made.spec.label for made in self._rows.values() if made.problem]

    def show_settings(self, settings: Settings, recommended: Settings, reasons: Mapping[str, str]) -> None:
        """Show the values, what was recommended where they differ, and why."""
        for name, made in self._rows.items():
            made.show_value(settings, recommended)
            made.explain(reasons.get(name, ""))
            made.setVisible(made.spec.is_shown_in(settings))

    def _make(self, name: str) -> SettingRow:
        made = SettingRow(_KNOWN[name], lambda: self.session.project.settings)
        made.edited.connect(self._on_edited)
        made.problem_changed.connect(self.problem_changed)
        self._rows[name] = made
        return made

    def _on_edited(self, spec: FieldSpec, settings: Settings) -> None:
        changed = msgspec.structs.replace(self.session.project, settings=settings)
        edit_project(self.session, f"Change {spec.label.lower()}", changed, merge_key=spec.name)
