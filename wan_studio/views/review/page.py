"""Previews, and the last look before a run: what trains, what does not, what stands in the way."""

import msgspec
from PySide6.QtCore import Qt
from PySide6.QtWidgets import QFrame, QVBoxLayout, QWidget

from wan_studio.bridge.background import Task, run_in_background
from wan_studio.bridge.workbench import Workbench
from wan_studio.domain.checks import Level, Step
from wan_studio.domain.project import Project, Settings
from wan_studio.services.preflight import Check, Preflight, plan_check, run_preflight
from wan_studio.services.preset_store import settings_for
from wan_studio.undo.edits import edit_project
from wan_studio.views.page import STEP_TITLES, Page, Primary
from wan_studio.views.review.sample_fields import SAMPLE_FIELDS
from wan_studio.views.review.sample_rows import SampleRowsEditor
from wan_studio.views.theme import GRID, ToneName
from wan_studio.views.training.fields import SettingRow
from wan_studio.views.training.specs import FieldSpec
from wan_studio.views.widgets import Expander, IconLabel, button, card, label, readable, row, scrolled
from wan_studio.views.wording import count

_MARKS: dict[Level | None, tuple[str, ToneName]] = {
    None: ("check-circle", "good"),
    Level.NOTE: ("info", "muted"),
    Level.WARNING: ("warning-circle", "warn"),
    Level.BLOCKER: ("x-circle", "bad"),
}


class ReviewPage(Page):
    """The only gate: Start training is enabled when nothing stands in the way."""

    step = Step.REVIEW
    title = "Samples and review"

    def __init__(self, bench: Workbench) -> None:
        super().__init__(bench)
        self._preflight: Preflight | None = None
        self._checked: Project | None = None
        self._task: Task[Preflight] | None = None
        self._build()
        bench.session.project_changed.connect(self._on_project_changed)
        bench.plans.judged.connect(self._show_checks)
        bench.session.project_opened.connect(self._forget)
        bench.runs.busy_changed.connect(lambda _: self.primary_changed.emit())
        bench.runs.state_changed.connect(lambda _: self.primary_changed.emit())

    @property
    def preflight(self) -> Preflight | None:
        """The last look; None while one is under way."""
        return self._preflight

    def primary(self) -> Primary | None:
        """Start training."""
        text = "Start training"
        if self.bench.runs.is_busy:
            return Primary(text, is_enabled=False, hint="Starting", icon_name="play")
        if self.bench.runs.is_training:
            return Primary("Show the run", hint="A run of this project is at work", icon_name="chart-line")
        if self._preflight is None:
            return Primary(text, is_enabled=False, hint="Looking at the clips", icon_name="play")
        wrong = [made.spec.label for made in self._rows if made.problem]
        if wrong or self._samples.problem:
            hint = f"Mend first: {', '.join(wrong)}" if wrong else "Mend the previews first"
            return Primary(text, is_enabled=False, hint=hint, icon_name="play")
        blockers = self._preflight.blockers
        if blockers:
            things = "1 thing stands" if len(blockers) == 1 else f"{len(blockers)} things stand"
            return Primary(text, is_enabled=False, hint=f"{things} in the way", icon_name="play")
        return Primary(text, icon_name="play")

    def run_primary(self) -> None:
        """Start training, or show the run that is at work."""
        if self.bench.runs.is_training:
            self.step_wanted.emit(Step.MONITOR)
        elif self._preflight is not None and self._preflight.built is not None and self._preflight.can_start:
            self.session.save_now()
            self.bench.runs.start(self._preflight.built.job, lambda: self.step_wanted.emit(Step.MONITOR))

    def enter(self) -> None:
        """Files may have changed since: always look anew."""
        self._checked = None
        self._on_project_changed()

    def _build(self) -> None:
        samples = self._build_samples()
        self._checks = QVBoxLayout()
        self._checks.setSpacing(GRID + 4)
        self._checks.setContentsMargins(0, 0, 0, 0)
        self._waiting = label("Looking at the clips", "muted")
        again = button("Check again", self.enter, icon_name="arrow-clockwise")
        head = row(label("Review", "section"), None, again)
        holder = QWidget()
        holder.setLayout(self._checks)
        review = card(head, self._waiting, holder, gap=GRID + 4)
        self._summary: QFrame = card(label("What trains", "section"))
        self._summary_text = label("", wrap=True)
        layout_of_summary = self._summary.layout()
        if layout_of_summary is not None:
            layout_of_summary.addWidget(self._summary_text)
        content = QWidget()
        layout = QVBoxLayout(content)
        layout.setContentsMargins(0, 0, 0, 0)
        layout.setSpacing(2 * GRID)
        for part in (review, self._summary, samples):
            layout.addWidget(part)
        layout.addStretch(1)
        self.add(scrolled(readable(content, 860), name="Samples and review"), 1)

    def _build_samples(self) -> QFrame:
        self._rows = [SettingRow(spec, lambda: self.session.project.settings) for spec in SAMPLE_FIELDS]
        for made in self._rows:
            made.edited.connect(self._on_edited)
            made.problem_changed.connect(self.primary_changed)
        self._sample_text = label("", "muted", wrap=True)
        self._samples = SampleRowsEditor(self.bench, self.primary_changed.emit)
        name = "review.samples"
        self._more = Expander(
            "More sample settings",
            card(*self._rows[1:], gap=GRID + 6, margins=0),
            is_open=name in self.bench.settings.open_expanders,
        )
        self._more.toggled.connect(lambda is_open: self.bench.remember_expander(name, is_open=is_open))
        return card(
            label("Samples", "section"),
            self._sample_text,
            self._rows[0],
            self._samples,
            self._more,
            gap=2 * GRID,
        )

    def _forget(self) -> None:
        if self._task is not None:
            self._task.cancel()
        self._preflight, self._checked, self._task = None, None, None

    def _on_project_changed(self) -> None:
        if not self.session.is_open or not self.isVisible():
            return
        project, store = self.session.project, self.session.store
        settings, preset = project.settings, settings_for(project.goal, project.settings.model.base)
        for made in self._rows:
            made.show_value(settings, preset)
            made.setVisible(made.spec.is_shown_in(settings))
        for part in (self._samples, self._more):
            part.setVisible(settings.sample.every > 0)
        self._samples.show_project()
        self._sample_text.setText(_sample_text(settings))
        self._summary_text.setText(_summary(project))
        if project == self._checked:
            return
        self._forget()
        self._checked = project
        self._waiting.show()
        self.primary_changed.emit()
        self._task = run_in_background(lambda: run_preflight(project, store), self._on_done, self._on_error)

    def _on_done(self, preflight: Preflight) -> None:
        self._preflight = preflight
        self._waiting.hide()
        self._show_checks()
        self.primary_changed.emit()

    def _show_checks(self) -> None:
        """The last look's lines, and the plan's forecast as it is now."""
        if self._preflight is None:
            return
        checks = list(self._preflight.checks)
        judgement, machine = self.bench.plans.judgement, self.bench.plans.machine
        if judgement is not None and machine is not None:
            checks.append(plan_check(judgement, machine))
        while self._checks.count():
            item = self._checks.takeAt(0)
            widget = item.widget() if item is not None else None
            if widget is not None:
                widget.deleteLater()
        order = [Level.BLOCKER, Level.WARNING, Level.NOTE, None]
        for check in sorted(checks, key=lambda check: order.index(check.level)):
            self._checks.addWidget(self._line(check))

    def _on_error(self, error: Exception) -> None:
        self._waiting.setText("The clips could not be looked at.")
        self.bench.error_happened.emit(error)

    def _line(self, check: Check) -> QWidget:
        mark = IconLabel(*_MARKS[check.level], 20)
        words = label(check.text, wrap=True)
        parts: list[QWidget] = [words]
        if check.hint:
            parts.append(label(check.hint, "muted", wrap=True))
        texts = QVBoxLayout()
        texts.setSpacing(2)
        for part in parts:
            texts.addWidget(part)
        line = QWidget()
        layout = row(mark, texts, gap=GRID + 4)
        layout.setAlignment(mark, Qt.AlignmentFlag.AlignTop)
        layout.setStretch(1, 1)
        if check.page is not None:
            page = check.page
            words = f"Show {STEP_TITLES[page].lower()}"
            link = button(words, lambda: self.step_wanted.emit(page), role="link")
            layout.addWidget(link, 0, Qt.AlignmentFlag.AlignTop)
        line.setLayout(layout)
        return line

    def _on_edited(self, spec: FieldSpec, settings: Settings) -> None:
        changed = msgspec.structs.replace(self.session.project, settings=settings)
        edit_project(self.session, f"Change {spec.label.lower()}", changed, merge_key=spec.name)


def _sample_text(settings: Settings) -> str:
    if not settings.sample.every:
        return "No previews are rendered while training."
    if settings.sample.rows:
        return f"{count(len(settings.sample.rows), 'preview')} at each time, with both experts' LoRAs."
    return (
        "One preview each time: the first clip goes on from its first frame, with both experts' LoRAs. "
        "Add previews to choose your own."
    )


def _summary(project: Project) -> str:
    settings = project.settings
    stages = {
        "both": "the high and the low noise expert",
        "high": "the high noise expert",
        "low": "the low noise expert",
    }
    sizes = ", ".join(str(size) for size in settings.datasets.resolutions)
    return (
        f"{settings.training.steps} steps of {stages[settings.multistage.stages]}, rank {settings.target.rank}, "
        f"learning rate {settings.training.learning_rate:g}, {settings.datasets.num_frames} frames at "
        f"resolution {sizes}. A checkpoint every {settings.save.every} steps; the last {settings.save.keep} are kept."
    )


def make_page(bench: Workbench) -> Page:
    """The page."""
    return ReviewPage(bench)
