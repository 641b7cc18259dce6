"""More previews of a run that has ended: of any checkpoint, of two mixed, at any strength."""

from PySide6.QtWidgets import QComboBox, QFrame, QGridLayout, QLineEdit, QProgressBar, QWidget

from trainer.protocol.events import Phase
from wan_studio.bridge.run_watcher import WatchedRun
from wan_studio.bridge.workbench import Workbench
from wan_studio.services.run_process import PreviewRequest
from wan_studio.views.results.export_options import number_in
from wan_studio.views.theme import GRID, numeric_font
from wan_studio.views.widgets import button, column, label, restyle, row, set_role, tool_button
from wan_studio.views.wording import PHASE_NAMES

_RULE = "The strength must be a number, e.g. 0.8."


class PreviewPanel(QFrame):
    """Which LoRAs to preview, and how far that is."""

    def __init__(self, bench: Workbench) -> None:
        super().__init__()
        self.setObjectName("card")
        self._bench = bench
        self._watched: WatchedRun | None = None
        self._has_asked = False
        self._started_before = 0.0
        self.high = QComboBox()
        self.low = QComboBox()
        self.strength = QLineEdit("1")
        self.strength.setFixedWidth(80)
        self.strength.textEdited.connect(lambda _: self._renew())
        self.render_button = button("Render previews", self.render_previews, icon_name="eye")
        close = tool_button("Close", "x", self.hide)
        self._bar = QProgressBar()
        self._bar.setTextVisible(False)
        self._bar.setAccessibleName("Progress of the previews")
        self._words = label("", "muted", wrap=True)
        grid = QGridLayout()
        grid.setHorizontalSpacing(2 * GRID)
        grid.setVerticalSpacing(2)
        self._names: dict[QWidget, QWidget] = {}
        for at, (text, field) in enumerate(
            (("High noise LoRA", self.high), ("Low noise LoRA", self.low), ("Strength", self.strength))
        ):
            field.setAccessibleName(f"Preview: {text.lower()}")
            field.setFont(numeric_font())
            self._names[field] = label(text, "muted")
            grid.addWidget(self._names[field], 0, at)
            grid.addWidget(field, 1, at)
        grid.addWidget(self.render_button, 1, 3)
        grid.setColumnStretch(4, 1)
        head = row(label("More previews", "section"), None, close)
        self.setLayout(column(head, grid, self._bar, self._words, margins=2 * GRID))
        bench.runs.busy_changed.connect(lambda _: self._renew())
        bench.runs.failed.connect(self._on_failed)
        self.hide()

    @property
    def words(self) -> str:
        """What it says under its fields."""
        return self._words.text()

    def show_run(self, watched: WatchedRun | None, step: int | None) -> None:
        """Take a run's news; `step` is the checkpoint that is looked at.

        The choice stays until another run or checkpoint is looked at.
        """
        is_other = watched is None or self._watched is None or watched.run.path != self._watched.run.path
        self._watched = watched
        if is_other:
            self._has_asked = False
        steps = [saved.step for saved in reversed(watched.state.checkpoints)] if watched else []
        for field in (self.high, self.low):
            if steps != [field.itemData(i) for i in range(field.count())]:
                chosen = field.currentData()
                field.clear()
                for known in steps:
                    field.addItem(f"Step {known}", known)
                field.setCurrentIndex(steps.index(chosen) if chosen in steps else -1)
            if step in steps and (is_other or field.currentIndex() < 0):
                field.setCurrentIndex(steps.index(step))
        stages = watched.job.multistage.stages if watched is not None and watched.job is not None else "both"
        for field, other in ((self.high, "low"), (self.low, "high")):
            field.setVisible(stages != other)
            self._names[field].setVisible(stages != other)
        self._renew()

    def choose_step(self, step: int) -> None:
        """Start from this checkpoint's pair."""
        for field in (self.high, self.low):
            field.setCurrentIndex(field.findData(step))
        self._renew()

    def render_previews(self) -> None:
        """Start to render what is chosen."""
        request = self._request()
        if request is not None and not self._obstacle():
            self._has_asked = True
            self._started_before = self._watched.preview_started if self._watched is not None else 0.0
            self._words.setText("Starting the trainer")
            self._bench.runs.preview(request)

    def _request(self) -> PreviewRequest | None:
        fields = [field for field in (self.high, self.low) if not field.isHidden()]
        steps: list[int | None] = [field.currentData() for field in fields]
        strength = number_in(self.strength.text())
        first, last = (steps[0], steps[-1]) if steps else (None, None)
        if first is None or last is None or strength is None:
            return None
        return PreviewRequest(
            checkpoint=first,
            low=None if first == last else last,
            strength=None if strength == 1.0 else strength,
        )

    def _obstacle(self) -> str:
        """Why nothing can be rendered now; empty when it can."""
        watched = self._watched
        if watched is None or not watched.state.checkpoints:
            return "There is no checkpoint yet."
        if watched.is_running:
            return "Previews of checkpoints can be rendered when the run has ended."
        if watched.job is not None and not watched.job.sample.rows:
            return "This run has no preview rows; add some on the Samples page before the next one."
        return "" if number_in(self.strength.text()) is not None else _RULE

    def _renew(self) -> None:
        watched = self._watched
        is_previewing = watched is not None and watched.is_previewing
        is_starting = self._has_asked and self._bench.runs.is_busy
        obstacle = self._obstacle()
        self.render_button.setEnabled(not obstacle and not is_previewing and not is_starting)
        self.strength.setProperty("invalid", obstacle == _RULE)
        restyle(self.strength)
        self._bar.setVisible(is_previewing or is_starting)
        set_role(self._words, "muted")
        if watched is not None and is_previewing:
            self._show_progress(watched)
        elif is_starting:
            self._bar.setRange(0, 0)
        elif self._has_asked and watched is not None and self._has_begun(watched):
            problem = watched.preview_problem
            set_role(self._words, "bad" if problem else "good")
            self._words.setText(problem or "Done: they stand in the list.")
        elif not self._has_asked:
            self._words.setText(obstacle or "With the rows that the run was made with; it takes a while.")

    def _has_begun(self, watched: WatchedRun) -> bool:
        """Whether what was asked for last was begun."""
        return watched.preview_started > self._started_before

    def _show_progress(self, watched: WatchedRun) -> None:
        phase = watched.state.phases[-1] if watched.state.phases else None
        if phase is None or not phase.total:
            self._bar.setRange(0, 0)
            self._words.setText("Starting the trainer" if phase is None else PHASE_NAMES.get(phase.phase, ""))
            return
        self._bar.setRange(0, phase.total)
        self._bar.setValue(phase.done)
        name = PHASE_NAMES.get(phase.phase, Phase.PREVIEWING.value)
        self._words.setText(f"{name} {phase.done} of {phase.total} {phase.unit}".rstrip())

    def _on_failed(self, error: Exception) -> None:
        if self._has_asked and self._watched is not None and not self._has_begun(self._watched):
            self._has_asked = False
            set_role(self._words, "bad")
            self._words.setText(str(error))
