"""The plan: three recommendations to choose from, what the settings take of memory and time, and every field of it."""

import msgspec
from PySide6.QtCore import Signal
from PySide6.QtWidgets import QButtonGroup, QGridLayout, QLabel, QRadioButton, QVBoxLayout, QWidget

from wan_studio.bridge.workbench import Workbench
from wan_studio.domain.plan_bars import Kind, ram_bar, vram_bar
from wan_studio.domain.recommend import Flavour, Judgement
from wan_studio.undo.edits import edit_project
from wan_studio.undo.first_plan import USE_RECOMMENDED
from wan_studio.views.hardware.memory_bar import MemoryBarView
from wan_studio.views.hardware.plan_rows import PlanRows
from wan_studio.views.hardware.plan_words import (
    FLAVOUR_NAMES,
    hours_words,
    missing_words,
    ram_words,
    step_words,
    told_words,
    vram_words,
)
from wan_studio.views.theme import GRID, ToneName, numeric_font
from wan_studio.views.widgets import IconLabel, button, card, label, row, set_role
from wan_studio.views.wording import gib

_VRAM_KINDS = {
    Kind.WEIGHTS: "Weights",
    Kind.TRAINED: "LoRA, optimizer",
    Kind.ACTIVATIONS: "Activations",
    Kind.OVERHEAD: "CUDA and reserve",
}
_RAM_KINDS = {
    Kind.WEIGHTS: "Weights",
    Kind.ACTIVATIONS: "Activations",
    Kind.OVERHEAD: "Trainer, window",
}
_MINIATURE_WORDS = (
    "The miniature runs anywhere, also on the CPU, within minutes: there is nothing to plan. Choose Wan 2.2 I2V A14B "
    "below, and what it takes of this machine stands here."
)
_NO_CARD_WORDS = "There is no graphics card to plan for. Say above what card the run is for, and its memory and time stand here."


class PlanCard(QWidget):
    """The plan of the project on this machine, or on the card that the user names.

    Signals:
        problem_changed: What stands in a field is wrong now, or right again.
    """

    problem_changed = Signal()

    def __init__(self, bench: Workbench) -> None:
        super().__init__()
        self.bench = bench
        self.session = bench.session
        self.plans = bench.plans
        self._chosen = Flavour.BALANCED
        self.rows = PlanRows(bench)
        self.rows.problem_changed.connect(self.problem_changed)
        layout = QVBoxLayout(self)
        layout.setContentsMargins(0, 0, 0, 0)
        layout.addWidget(self._build())
        self.plans.judged.connect(self.renew)
        self.plans.recommended.connect(self.renew)

    @property
    def is_custom(self) -> bool:
        """Whether the project follows none of the recommendations."""
        return self._custom.isChecked()

    def use(self, flavour: Flavour) -> None:
        """Take over all values of a recommendation, in one step."""
        self._chosen = flavour
        project = self.session.project
        settings = self.plans.recommended_for(project.settings, flavour)
        name = FLAVOUR_NAMES[flavour]
        words = USE_RECOMMENDED if flavour is Flavour.BALANCED else f"Use plan: {name}"
        edit_project(self.session, words, msgspec.structs.replace(project, settings=settings))
        self.renew()

    def use_recommended(self) -> None:
        """Take over the balanced plan."""
        self.use(Flavour.BALANCED)

    def renew(self) -> None:
        """Show the plan as it is now."""
        if not self.session.is_open:
            return
        judgement, machine = self.plans.judgement, self.plans.machine
        has_plan = judgement is not None
        has_card = has_plan and machine is not None and machine.gpu is not None
        self._instead.setVisible(not has_card)
        self._instead.setText(_NO_CARD_WORDS if has_plan else self._why_no_plan())
        for part in (self._choices, self._bars):
            part.setVisible(has_card)
        self._use.setVisible(has_card)
        for part in (self._figures, self.rows):
            part.setVisible(has_plan)
        if judgement is None or machine is None:
            self._show_lines(None)
            return
        now = self.plans.flavours_now()
        self._show_choices(now)
        vram, ram = vram_bar(judgement, machine), ram_bar(judgement, machine)
        if vram is not None and ram is not None:
            self._vram.show_bar(vram, vram_words(judgement, machine))
            self._ram.show_bar(ram, ram_words(judgement, machine))
        self._show_figures(judgement)
        self._show_lines(judgement)
        shown = self._chosen if self._chosen in self.plans.plans else Flavour.BALANCED
        plan = self.plans.plans.get(shown)
        settings = self.session.project.settings
        self.rows.show_settings(
            settings, self.plans.recommended_for(settings, shown), {} if plan is None else plan.reasons
        )

    def _build(self) -> QWidget:
        self._use = button("Use recommended", self.use_recommended, role="primary")
        self._for = label("", "muted")
        self._instead = label("", "muted", wrap=True)
        self._fit_icon = IconLabel("check-circle", "good", 20)
        self._fit = label("", wrap=True)
        self._fit_line = QWidget()
        fit = row(self._fit_icon, self._fit)
        fit.setStretch(1, 1)
        self._fit_line.setLayout(fit)
        self._ways_out = label("", wrap=True)
        self._notes = label("", "muted", wrap=True)
        self._told = label("", "muted", wrap=True)
        return card(
            row(label("Plan", "section"), self._for, None, self._use),
            self._build_choices(),
            self._instead,
            self._fit_line,
            self._ways_out,
            self._build_bars(),
            self._build_figures(),
            self._told,
            self._notes,
            self.rows,
            gap=2 * GRID,
        )

    def _build_choices(self) -> QWidget:
        self._choices = QWidget()
        self._group = QButtonGroup(self)
        self._radios: dict[Flavour, QRadioButton] = {}
        for flavour, name in FLAVOUR_NAMES.items():
            radio = QRadioButton(name)
            radio.clicked.connect(lambda _=False, one=flavour: self.use(one))
            self._radios[flavour] = radio
        self._custom = QRadioButton("Custom")
        self._custom.setToolTip("Chosen by itself when a value differs from all plans.")
        for radio in (*self._radios.values(), self._custom):
            self._group.addButton(radio)
        layout = row(*self._radios.values(), self._custom, None, gap=3 * GRID)
        self._choices.setLayout(layout)
        return self._choices

    def _build_bars(self) -> QWidget:
        self._vram = MemoryBarView("VRAM", _VRAM_KINDS)
        self._ram = MemoryBarView("RAM", _RAM_KINDS)
        self._bars = QWidget()
        layout = QVBoxLayout(self._bars)
        layout.setContentsMargins(0, 0, 0, 0)
        layout.setSpacing(2 * GRID)
        layout.addWidget(self._vram)
        layout.addWidget(self._ram)
        return self._bars

    def _build_figures(self) -> QWidget:
        self._figures = QWidget()
        grid = QGridLayout(self._figures)
        grid.setContentsMargins(0, 0, 0, 0)
        grid.setVerticalSpacing(2)
        self._names: list[QLabel] = []
        self._values: list[QLabel] = []
        for at in range(4):
            name, value = label("", "muted"), label("", "section")
            value.setFont(numeric_font())
            grid.addWidget(name, 0, at)
            grid.addWidget(value, 1, at)
            grid.setColumnStretch(at, 1)
            self._names.append(name)
            self._values.append(value)
        return self._figures

    def _why_no_plan(self) -> str:
        return "Looking at the hardware." if self.plans.machine is None else _MINIATURE_WORDS

    def _show_choices(self, now: tuple[Flavour, ...]) -> None:
        if now and self._chosen not in now:
            # Followed by what was opened or undone, not by what was clicked here.
            self._chosen = now[0]
        plans = self.plans.plans
        for flavour, radio in self._radios.items():
            radio.setEnabled(flavour in plans and bool(plans[flavour].recommendation.changes))
        is_known = bool(plans)
        self._custom.setEnabled(is_known and not now)
        if now:
            self._radios[self._chosen].setChecked(True)
        elif is_known:
            self._custom.setChecked(True)
        balanced = plans.get(Flavour.BALANCED)
        is_possible = balanced is not None and bool(balanced.recommendation.changes)
        self._use.setEnabled(is_possible and Flavour.BALANCED not in now)

    def _show_figures(self, judgement: Judgement) -> None:
        steps = judgement.settings.training.steps
        disk = judgement.memory.disk
        told = (
            ("Peak of VRAM", gib(judgement.memory.peak.total)),
            ("A step", step_words(judgement)),
            (f"Run of {steps} steps", hours_words(judgement)),
            ("Disk", gib(disk.total)),
        )
        for at, (name, value) in enumerate(told):
            self._names[at].setText(name)
            self._values[at].setText(value)
        self._values[-1].setToolTip(
            f"Caches {gib(disk.cache)}, quantized weights {gib(disk.quantized)}, checkpoints {gib(disk.checkpoints)}; "
            "the base model is not counted."
        )

    def _show_lines(self, judgement: Judgement | None) -> None:
        """What follows from the judgement, a line each; lines without words are not there."""
        card_now = self.plans.manual_card
        self._for.setText(f"for {card_now.label}" if card_now and judgement else "")
        fit, tone_name, ways = "", "good", ()
        if judgement is not None and judgement.limits is not None:
            fit, tone_name = self._fit_words(judgement)
            balanced = self.plans.plans.get(Flavour.BALANCED)
            ways = () if balanced is None else balanced.ways_out
        self._fit_line.setVisible(bool(fit))
        self._fit.setText(fit)
        self._fit_icon.show_icon("check-circle" if tone_name == "good" else "warning-circle", tone_name)
        set_role(self._fit, "body" if tone_name == "good" else tone_name)
        self._ways_out.setVisible(bool(ways))
        self._ways_out.setText("\n".join(("No plan fits. What helps, the cheapest first:", *_dotted(ways))))
        notes = () if judgement is None else self.plans.notes
        self._notes.setVisible(bool(notes))
        self._notes.setText("\n".join(notes))
        self._told.setVisible(judgement is not None)
        self._told.setText("" if judgement is None else told_words(judgement))

    def _fit_words(self, judgement: Judgement) -> tuple[str, ToneName]:
        missing = missing_words(judgement.missing)
        if not missing:
            assert judgement.limits is not None
            left = judgement.limits.vram - judgement.memory.peak.total
            return f"It fits, with head-room and {gib(left)} of VRAM to spare.", "good"
        balanced = self.plans.plans.get(Flavour.BALANCED)
        helps = balanced is not None and bool(balanced.recommendation.changes)
        return f"{missing}{' The recommended plan fits.' if helps else ''}", "warn" if helps else "bad"


def _dotted(sentences: tuple[str, ...]) -> list[str]:
    return [f"•  {sentence}" for sentence in sentences]
