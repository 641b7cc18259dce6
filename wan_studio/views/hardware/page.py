"""What this machine has, the plan for it with its reasons, and which base model trains."""

from typing import TYPE_CHECKING

from PySide6.QtCore import QEvent
from PySide6.QtWidgets import QVBoxLayout, QWidget

from trainer.protocol.job import MINIATURE
from wan_studio.bridge.workbench import Workbench
from wan_studio.domain.checks import Step
from wan_studio.domain.hardware import GpuSnapshot, HardwareSnapshot
from wan_studio.views.hardware.gpu_card import GpuCard
from wan_studio.views.hardware.model_card import ModelCard
from wan_studio.views.hardware.plan_card import PlanCard
from wan_studio.views.hardware.programs_card import ProgramsCard
from wan_studio.views.hardware.rehearsal_card import RehearsalCard
from wan_studio.views.page import Page, Primary
from wan_studio.views.theme import GRID
from wan_studio.views.widgets import Expander, card, readable, scrolled

if TYPE_CHECKING:
    from wan_studio.views.hardware.history_plots import HistoryPlots

_HISTORY = "hardware.history"


class HardwarePage(Page):
    """The machine, the plan and its test, who uses the VRAM, the last hour, and the model."""

    step = Step.HARDWARE
    title = "Hardware"
    subtitle = (
        "What this machine has now, the plan that suits it, and the base model that the LoRA is made for."
    )

    def __init__(self, bench: Workbench) -> None:
        super().__init__(bench)
        self._gpu: GpuSnapshot | None = None
        self._plots: HistoryPlots | None = None
        self._build()
        bench.hardware.snapshot_taken.connect(self._show_snapshot)
        bench.session.project_changed.connect(self._renew)
        self._renew()

    def primary(self) -> Primary | None:
        """On to the settings."""
        wrong = [made.spec.label for made in self.machine.gpu_rows if made.problem] + self.plan.rows.problems
        if wrong:
            return Primary("Continue to training", is_enabled=False, hint=f"Mend first: {', '.join(wrong)}")
        return Primary("Continue to training", icon_name="arrow-right")

    def run_primary(self) -> None:
        """On to the settings."""
        self.step_wanted.emit(Step.TRAINING)

    def changeEvent(self, event: QEvent) -> None:
        """Plots take their colours anew when the scheme changes."""
        super().changeEvent(event)
        if event.type() == QEvent.Type.PaletteChange and self._plots is not None:
            self._plots.restyle()

    def _build(self) -> None:
        self.machine = GpuCard(self.bench)
        self.plan = PlanCard(self.bench)
        self.programs = ProgramsCard(self.bench)
        self.rehearsal = RehearsalCard(self.bench)
        self.model = ModelCard(self.bench)
        for part in (self.machine, self.plan):
            part.problem_changed.connect(self.primary_changed)
        self._history_layout = QVBoxLayout()
        self._history_holder = card(self._history_layout)
        is_open = _HISTORY in self.bench.settings.open_expanders
        self._history = Expander("The last hour", self._history_holder, is_open=is_open)
        self._history.toggled.connect(self._on_history)
        content = QWidget()
        layout = QVBoxLayout(content)
        layout.setContentsMargins(0, 0, 0, 0)
        layout.setSpacing(2 * GRID)
        for part in (self.machine, self.plan, self.rehearsal, self.programs, self._history, self.model):
            layout.addWidget(part)
        layout.addStretch(1)
        for part in (self.programs, self._history):
            part.hide()
        self.add(scrolled(readable(content, 860), name="Hardware"), 1)

    def enter(self) -> None:
        """The plots begin where they were left."""
        self._draw_history()

    def _show_snapshot(self, snapshot: HardwareSnapshot) -> None:
        index = self.session.project.settings.job.gpu if self.session.is_open else 0
        gpu = snapshot.gpu_or_first(index)
        self.machine.show_snapshot(snapshot, gpu)
        self._gpu = gpu if gpu is not None and gpu.is_ready else None
        for part in (self.programs, self._history):
            part.setVisible(self._gpu is not None)
        if self._gpu is not None:
            self.programs.show_gpu(self._gpu, self.bench.hardware.own_pids)
            self._draw_history()

    def _draw_history(self) -> None:
        """Draw, where the plots are seen; they are made when they are first wanted."""
        if self._gpu is None or not self._history_holder.isVisible():
            return
        if self._plots is None:
            # Only here: the plots' libraries would hold up the page.
            from wan_studio.views.hardware.history_plots import HistoryPlots

            self._plots = HistoryPlots(self.bench.hardware.history)
            self._history_layout.addWidget(self._plots)
            self._plots.show()
        self._plots.show_gpu(self._gpu)

    def _on_history(self, is_open: bool) -> None:  # noqa: FBT001 - a slot
        self.bench.remember_expander(_HISTORY, is_open=is_open)
        self._draw_history()

    def _renew(self) -> None:
        if not self.session.is_open:
            return
        latest = self.bench.hardware.latest
        if latest is not None:
            self._show_snapshot(latest)
        self.machine.renew()
        self.plan.renew()
        self.model.renew()
        is_miniature = self.session.project.settings.model.base == MINIATURE
        self.machine.show_gpus(is_shown=not is_miniature or self._gpu is not None)


def make_page(bench: Workbench) -> Page:
    """The page."""
    return HardwarePage(bench)
