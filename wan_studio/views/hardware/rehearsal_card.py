"""The card of the 90-second test: its button, how far it is, and what the last one has shown."""

from datetime import datetime

import msgspec
from PySide6.QtCore import Qt, QTimer
from PySide6.QtWidgets import QFrame, QProgressBar, QWidget

from wan_studio.bridge.rehearsal import Rehearsal
from wan_studio.bridge.workbench import Workbench
from wan_studio.domain.plan_space import nested
from wan_studio.domain.rehearsal_verdict import Verdict
from wan_studio.undo.edits import edit_project
from wan_studio.views.theme import GRID, numeric_font
from wan_studio.views.widgets import ElidedLabel, IconLabel, button, column, label, row
from wan_studio.views.wording import PHASE_NAMES, duration

_STEPS = 1000


class RehearsalCard(QFrame):
    """Place it on a page; it follows `bench.rehearsal` by itself."""

    def __init__(self, bench: Workbench) -> None:
        super().__init__()
        self.setObjectName("card")
        self._bench = bench
        self._rehearsal: Rehearsal = bench.rehearsal
        self._build()
        self._clock = QTimer(self)
        self._clock.setInterval(500)
        self._clock.timeout.connect(self._show_progress)
        self._rehearsal.changed.connect(self.renew)
        self.renew()

    def apply_plan(self) -> None:
        """Give the project the values of the plan that should fit; one undoable step."""
        verdict, session = self._rehearsal.verdict, self._bench.session
        if verdict is None or not verdict.changes or not session.is_open:
            return
        project = session.project
        settings = project.settings.with_values(nested(verdict.changes))
        edit_project(
            session, "Set the plan that should fit", msgspec.structs.replace(project, settings=settings)
        )
        self.renew()

    def renew(self) -> None:
        """Show how things stand."""
        rehearsal = self._rehearsal
        is_running, why_not = rehearsal.is_running, rehearsal.why_not
        self._run.setVisible(not is_running)
        self._run.setEnabled(not why_not)
        self._run.setToolTip(why_not)
        self._cancel.setVisible(is_running)
        self._cancel.setEnabled(not rehearsal.is_cancelled)
        self._why_not.setText(why_not)
        self._why_not.setVisible(bool(why_not) and not is_running)
        self._progress.setVisible(is_running)
        self._show_progress()
        self._show_result()
        if is_running:
            self._clock.start()
        else:
            self._clock.stop()

    def _build(self) -> None:
        self._run = button(
            "Run 90 s test",
            self._rehearsal.start,
            icon_name="play",
            tip="Train a few steps at the largest size",
        )
        self._cancel = button("Cancel", self._rehearsal.cancel, icon_name="x")
        words = label(
            "Does once what the run will need memory and time for: captions, clips, steps of each expert and a preview, "
            "at the largest sizes. Forecasts then count with what was measured.",
            "muted",
            wrap=True,
        )
        texts = column(label("Test on this machine", "section"), words, gap=GRID // 2)
        texts.addStretch(1)
        head = row(texts, self._run, self._cancel, gap=2 * GRID)
        head.setStretch(0, 1)
        for made in (self._run, self._cancel):
            head.setAlignment(made, Qt.AlignmentFlag.AlignTop)
        self._bar = QProgressBar()
        self._bar.setTextVisible(False)
        self._bar.setRange(0, _STEPS)
        self._bar.setAccessibleName("Progress of the test")
        self._phase = ElidedLabel("", "muted")
        self._phase.setFont(numeric_font())
        self._progress = QWidget()
        self._progress.setLayout(column(self._bar, self._phase, gap=GRID // 2))
        self._why_not = label("", "muted", wrap=True)
        self._icon = IconLabel("check-circle", "good", 20)
        self._words = label("", wrap=True)
        self._words.setTextInteractionFlags(Qt.TextInteractionFlag.TextSelectableByMouse)
        self._hint = label("", "muted", wrap=True)
        self._when = label("", "muted")
        self._apply = button("Set this plan", self.apply_plan)
        shown = column(self._words, self._hint, self._when, gap=GRID // 2)
        shown.addWidget(self._apply, alignment=Qt.AlignmentFlag.AlignLeft)
        result = row(self._icon, shown, gap=GRID + 4)
        result.setStretch(1, 1)
        result.setAlignment(self._icon, Qt.AlignmentFlag.AlignTop)
        self._result = QWidget()
        self._result.setLayout(result)
        self.setLayout(
            column(head, self._progress, self._why_not, self._result, gap=GRID + 4, margins=2 * GRID)
        )

    def _show_progress(self) -> None:
        rehearsal = self._rehearsal
        if not rehearsal.is_running:
            return
        self._bar.setValue(round(_STEPS * rehearsal.share))
        phase = "Making the job and starting the trainer"
        if rehearsal.is_cancelled:
            phase = "Stopping"
        elif rehearsal.phase is not None:
            detail = f" ({rehearsal.detail})" if rehearsal.detail else ""
            phase = f"{PHASE_NAMES.get(rehearsal.phase, rehearsal.phase)}{detail}"
        self._phase.set_text(f"{phase}, {duration(rehearsal.seconds)}")

    def _show_result(self) -> None:
        rehearsal = self._rehearsal
        problem, hint = rehearsal.problem
        verdict = rehearsal.verdict
        self._result.setVisible(not rehearsal.is_running and (bool(problem) or verdict is not None))
        if problem:
            verdict = Verdict(words=problem, hint=hint)
        if verdict is None:
            return
        self._icon.show_icon(*(("check-circle", "good") if verdict.fits else ("warning-circle", "warn")))
        self._words.setText(verdict.words)
        self._hint.setText(verdict.hint)
        self._hint.setVisible(bool(verdict.hint))
        self._when.setText(f"Tested {_moment(verdict.time)}." if verdict.time else "")
        self._when.setVisible(bool(verdict.time))
        self._apply.setVisible(bool(verdict.changes) and not self._is_applied(verdict))

    def _is_applied(self, verdict: Verdict) -> bool:
        session = self._bench.session
        if not session.is_open:
            return True
        settings = session.project.settings
        return settings.with_values(nested(verdict.changes)) == settings


def _moment(seconds: float) -> str:
    """A moment for people: the time, and the day where it is another one."""
    then, now = datetime.fromtimestamp(seconds).astimezone(), datetime.now().astimezone()
    return then.strftime("today at %H:%M" if then.date() == now.date() else "on %d %B %Y at %H:%M")
