"""A run at work: how far it is, its loss, when it is done, its log, and the buttons that steer it."""

from collections.abc import Callable

import msgspec
from PySide6.QtWidgets import (
    QCheckBox,
    QComboBox,
    QFrame,
    QGridLayout,
    QLabel,
    QPlainTextEdit,
    QProgressBar,
    QStackedWidget,
    QVBoxLayout,
    QWidget,
)

from trainer.protocol.commands import Command, Pause, PreviewNow, SaveNow, SetLearningRate, Stop, Unpause
from trainer.protocol.events import CommandObeyed, Phase
from wan_studio.bridge.run_watcher import WatchedRun
from wan_studio.bridge.workbench import Workbench
from wan_studio.domain.checks import Step
from wan_studio.domain.plan_space import nested
from wan_studio.domain.run_state import Outcome, RunState
from wan_studio.models.run_list_model import RunListModel
from wan_studio.undo.edits import edit_project
from wan_studio.views.monitor.loss_card import LossCard
from wan_studio.views.monitor.rate_row import RateRow
from wan_studio.views.monitor.trouble_card import TroubleCard
from wan_studio.views.page import Page, Primary
from wan_studio.views.theme import GRID, expert_label, fixed_font, numeric_font
from wan_studio.views.widgets import (
    ElidedLabel,
    EmptyState,
    Expander,
    IconLabel,
    button,
    card,
    label,
    row,
    scrolled,
    set_role,
)
from wan_studio.views.wording import (
    OUTCOME_WORDS,
    PHASE_NAMES,
    duration,
    finish_time,
    gigabytes,
    seconds_per_step,
)


class MonitorPage(Page):
    """Everything is drawn from the run's state; the page itself knows nothing."""

    step = Step.MONITOR
    title = "Monitor"

    def __init__(self, bench: Workbench) -> None:
        super().__init__(bench)
        self._watched: WatchedRun | None = None
        self._asked = ""
        self._answer_before: CommandObeyed | None = None
        self._build()
        bench.runs.state_changed.connect(self._show)
        bench.runs.busy_changed.connect(lambda _: self._renew_buttons())
        bench.fallback.offer_changed.connect(lambda _: self._renew_offer())
        self._show(bench.runs.watched)

    def handlers(self) -> dict[str, Callable[[], object]]:
        """What the menu's actions do here."""
        return {"run.stop": self.stop, "run.pause": self.pause_or_continue, "run.save": self.save_now}

    def primary(self) -> Primary | None:
        """The results, once there are some."""
        if self._watched is None or not self._watched.state.checkpoints:
            return None
        return Primary("Open results", icon_name="arrow-right")

    def run_primary(self) -> None:
        """The results."""
        self.step_wanted.emit(Step.RESULTS)

    def enter(self) -> None:
        """Other runs may have come."""
        self.bench.runs.rescan()

    def stop(self) -> None:
        """Ask the trainer to save and end."""
        self._ask(Stop(), "Stopping after this step; the state is saved first.")

    def pause_or_continue(self) -> None:
        """Ask the trainer to save and wait, or to go on."""
        if self._watched is not None and self._watched.state.outcome is Outcome.PAUSED:
            self._ask(Unpause(), "Going on.")
        else:
            self._ask(Pause(), "Pausing after this step; the state is saved first.")

    def save_now(self) -> None:
        """Ask the trainer for a checkpoint."""
        self._ask(SaveNow(), "Saving a checkpoint after this step.")

    def preview_now(self) -> None:
        """Ask the trainer for previews."""
        self._ask(PreviewNow(), "Rendering previews after this step.")

    def set_learning_rate(self, learning_rate: float) -> None:
        """Ask the trainer to train on with another learning rate."""
        self._ask(
            SetLearningRate(learning_rate=learning_rate),
            f"Training on with a learning rate of {learning_rate:g} after this step.",
        )

    def _build(self) -> None:
        self._runs = QComboBox()
        self._runs.setModel(RunListModel(self.bench.runs, self))
        self._runs.setAccessibleName("Run")
        self._runs.setMinimumWidth(220)
        self._runs.activated.connect(self._on_run_chosen)
        self.header_tools.addWidget(self._runs)
        body = QWidget()
        layout = QVBoxLayout(body)
        layout.setContentsMargins(0, 0, 0, 0)
        layout.setSpacing(2 * GRID)
        layout.addWidget(self._build_status())
        self._trouble = TroubleCard()
        self._trouble.resume_wanted.connect(self.resume)
        self._trouble.plan_wanted.connect(self.go_on)
        layout.addWidget(self._trouble)
        self._losses = LossCard()
        layout.addWidget(self._losses, 1)
        layout.addWidget(self._build_log())
        self._empty = EmptyState(
            "chart-line",
            "No run yet",
            "Start one from the review; it is shown here live. Closing the window does not stop it.",
            button("Go to review", lambda: self.step_wanted.emit(Step.REVIEW)),
        )
        self._stack = QStackedWidget()
        self._stack.addWidget(self._empty)
        # A small window holds the curves, or what went wrong with buttons to go on, but not both.
        self._stack.addWidget(scrolled(body, name="Run"))
        self.add(self._stack, 1)

    def _build_status(self) -> QFrame:
        self._icon = IconLabel("clock", "muted", 24)
        self._headline = label("", "section")
        # It may name a whole caption, which must not widen the page.
        self._phase = ElidedLabel("", "muted")
        self._phase.setFont(numeric_font())
        self._bar = QProgressBar()
        self._bar.setTextVisible(False)
        self._bar.setAccessibleName("Progress")
        self._facts: dict[str, QLabel] = {}
        grid = QGridLayout()
        grid.setHorizontalSpacing(4 * GRID)
        grid.setVerticalSpacing(2)
        for at, name in enumerate(
            ("Step", "Time left", "Done about", "A step takes", "Learning rate", "Peak VRAM")
        ):
            value = label("")
            value.setFont(numeric_font(11.5))
            value.setAccessibleName(name)
            self._facts[name] = value
            grid.addWidget(label(name, "muted"), 0, at)
            grid.addWidget(value, 1, at)
            grid.setColumnStretch(at, 1)
        self._stop = button(
            "Stop", self.stop, icon_name="stop", tip="Save and end the run; it can be resumed"
        )
        self._pause = button("Pause", self.pause_or_continue, icon_name="pause", tip="Save and wait")
        self._save = button("Save now", self.save_now, icon_name="floppy-disk", tip="Save a checkpoint")
        self._preview = button("Preview now", self.preview_now, icon_name="eye", tip="Render the previews")
        self._answer = label("", "muted")
        self._rate = RateRow()
        self._rate.wanted.connect(self.set_learning_rate)
        titles = QVBoxLayout()
        titles.setSpacing(0)
        titles.addWidget(self._headline)
        titles.addWidget(self._phase)
        head = row(self._icon, titles, self._pause, self._save, self._preview, self._stop)
        head.setStretch(1, 1)
        self._by_itself = self._build_by_itself()
        below = row(self._answer, None, self._by_itself, self._rate, gap=2 * GRID)
        self._went_on = label("", wrap=True)
        return card(head, self._bar, grid, self._went_on, below, gap=GRID + 4)

    def resume(self, memory: tuple[str, ...] = ()) -> None:
        """Resume the shown run, also with other settings of memory."""
        self.bench.runs.resume(memory)

    def go_on(self) -> None:
        """Go on with the offered plan, which also becomes the project's."""
        offer, session = self.bench.fallback.offer, self.session
        if offer is None or offer.plan is None:
            return
        if session.is_open and offer.run.path.parent == session.store.runs_folder:
            # Rows of previews name clips by their place in the job, which a project may have changed since.
            changes = {name: value for name, value in offer.plan.changes.items() if name != "sample.rows"}
            settings = session.project.settings.with_values(nested(changes))
            changed = msgspec.structs.replace(session.project, settings=settings)
            edit_project(session, "Set the plan that should fit", changed)
        self.bench.fallback.take()

    def _build_by_itself(self) -> QCheckBox:
        made = QCheckBox("Out of memory: continue by itself")
        made.setToolTip(
            "When GPU memory runs out, go on with the next plan that fits, once for each kind of change"
        )
        made.setChecked(self.bench.fallback.continues_by_itself)
        made.toggled.connect(lambda is_on: self.bench.continue_by_itself(is_wanted=is_on))
        return made

    def _build_log(self) -> Expander:
        self._log = QPlainTextEdit()
        self._log.setReadOnly(True)
        self._log.setFont(fixed_font())
        self._log.setLineWrapMode(QPlainTextEdit.LineWrapMode.NoWrap)
        self._log.setAccessibleName("Log")
        self._log.setFixedHeight(144)
        name = "monitor.log"
        self._log_expander = Expander("Log", self._log, is_open=name in self.bench.settings.open_expanders)
        self._log_expander.toggled.connect(
            lambda is_open: self.bench.remember_expander(name, is_open=is_open)
        )
        return self._log_expander

    def _show(self, watched: WatchedRun | None) -> None:
        self._watched = watched
        self._stack.setCurrentIndex(0 if watched is None else 1)
        self._runs.setVisible(watched is not None)
        if watched is not None:
            at = max(0, self._runs.findText(watched.run.path.name))
            self._runs.setCurrentIndex(at)
            self._show_state(watched)
            self._show_log(watched.log_tail)
        self._renew_buttons()
        self.primary_changed.emit()

    def _show_state(self, watched: WatchedRun) -> None:
        state = watched.state
        words, icon_name, tone_name = OUTCOME_WORDS[state.outcome]
        if not watched.is_read:
            words = "Reading the run"
        elif watched.is_starting:
            words = "Starting the trainer"
        elif state.outcome is Outcome.RUNNING and state.expert is not None:
            words = f"Training, {expert_label(state.expert).lower()} expert"
        self._icon.show_icon(icon_name, tone_name)
        self._headline.setText(words)
        self._phase.set_text(_phase_text(state))
        self._phase.setVisible(bool(self._phase.whole_text))
        self._show_bar(watched)
        facts = self._facts
        facts["Step"].setText(f"{state.step} of {state.total_steps}" if state.total_steps else "–")
        left = state.seconds_left if watched.is_running else None
        facts["Time left"].setText(duration(left) if left is not None else "–")
        facts["Done about"].setText(finish_time(left) if left is not None else "–")
        pace = state.seconds_per_step
        facts["A step takes"].setText(seconds_per_step(pace) if pace else "–")
        facts["Learning rate"].setText(f"{state.learning_rate:g}" if state.learning_rate else "–")
        facts["Peak VRAM"].setText(gigabytes(state.peak_vram_bytes) if state.peak_vram_bytes else "–")
        self._losses.show_run(watched)
        is_over = state.outcome in (Outcome.FAILED, Outcome.CRASHED, Outcome.STOPPED)
        latest_warning = state.warnings[-1] if state.warnings and watched.is_running else None
        self._trouble.setVisible(is_over or latest_warning is not None)
        if is_over:
            self._trouble.show_end(watched, self.bench.fallback.offer)
        elif latest_warning is not None:
            self._trouble.show_warning(watched, latest_warning)
        self._went_on.setText(watched.attempts[-1].sentence if watched.attempts else "")
        self._went_on.setVisible(bool(watched.attempts))

    def _show_bar(self, watched: WatchedRun) -> None:
        state = watched.state
        is_unknown = watched.is_starting or (watched.is_running and not state.total_steps)
        if is_unknown and not state.phases:
            self._bar.setRange(0, 0)
            return
        phase = state.phases[-1] if state.phases else None
        if phase is not None and phase.phase is not Phase.TRAINING and phase.total:
            self._bar.setRange(0, phase.total)
            self._bar.setValue(phase.done)
        else:
            self._bar.setRange(0, max(state.total_steps, 1))
            self._bar.setValue(state.step)

    def _show_log(self, text: str) -> None:
        if self._log.toPlainText() == text:
            return
        bar = self._log.verticalScrollBar()
        was_at_end = bar.value() >= bar.maximum() - 4
        self._log.setPlainText(text)
        if was_at_end:
            bar.setValue(bar.maximum())

    def _renew_buttons(self) -> None:
        watched = self._watched
        is_live = watched is not None and watched.is_running and not watched.is_starting
        is_paused = watched is not None and watched.state.outcome is Outcome.PAUSED
        self._stop.setVisible(watched is not None and watched.is_running)
        for made in (self._pause, self._save, self._preview):
            made.setVisible(is_live)
        for made in (self._save, self._preview):
            made.setEnabled(not is_paused)
        self._rate.setVisible(is_live)
        if watched is not None:
            self._rate.show_rate(watched.state.learning_rate)
        self._pause.setText("Continue" if is_paused else "Pause")
        self._pause.setAccessibleName(self._pause.text())
        self._trouble.set_ready(is_ready=not self.bench.runs.is_busy)
        answer = self._asked
        if watched is not None and answer and watched.state.answer is not self._answer_before:
            told = watched.state.answer
            answer = (told.message if told is not None else "") or answer
        if watched is not None and watched.is_running and not answer:
            answer = "Training goes on when this window is closed."
        if watched is not None and not watched.is_running:
            self._asked = answer = ""
        self._answer.setText(answer)
        self._answer.setVisible(bool(answer))

    def _ask(self, command: Command, words: str) -> None:
        if self._watched is None or not self._watched.is_running:
            return
        self._asked = words
        self._answer_before = self._watched.state.answer
        set_role(self._answer, "muted")
        self.bench.runs.send(command)
        self._renew_buttons()

    def _on_run_chosen(self, at: int) -> None:
        run = self._runs.itemData(at)
        if run is not None:
            self._asked = ""
            self.bench.runs.show(run)

    def _renew_offer(self) -> None:
        if self._watched is not None:
            self._show_state(self._watched)


def _phase_text(state: RunState) -> str:
    if not state.phases:
        return state.summary if state.outcome is Outcome.COMPLETED else ""
    parts = []
    for phase in state.phases:
        if phase.phase is Phase.TRAINING:
            continue
        text = PHASE_NAMES.get(phase.phase, phase.phase)
        if phase.total:
            text += f" {phase.done} of {phase.total} {phase.unit}".rstrip()
        if phase.message:
            text += f" ({phase.message})"
        if phase.seconds_left is not None and state.outcome is Outcome.RUNNING:
            text += f", {duration(phase.seconds_left)} left"
        parts.append(text)
    return ", ".join(parts)


def make_page(bench: Workbench) -> Page:
    """The page."""
    return MonitorPage(bench)
