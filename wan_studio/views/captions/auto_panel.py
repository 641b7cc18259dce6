"""Automatic captions: set up, followed and reviewed below the clip; no caption changes before it is accepted."""

from collections.abc import Callable, Sequence

from PySide6.QtCore import QTimer, Signal
from PySide6.QtGui import QKeyEvent, Qt
from PySide6.QtWidgets import QButtonGroup, QProgressBar, QStackedWidget, QWidget

from trainer.protocol.events import Phase
from wan_studio.bridge.workbench import Workbench
from wan_studio.models.proposal_list_model import ProposalRow
from wan_studio.views.captions.auto_review import AutoReview
from wan_studio.views.captions.auto_setup import AutoSetup, Scope
from wan_studio.views.theme import numeric_font
from wan_studio.views.widgets import Banner, ElidedLabel, button, column, label, row, tool_button
from wan_studio.views.wording import count, duration


class AutoPanel(QWidget):
    """Two views, of the order and of what came of it, under one head with the progress.

    Signals:
        close_wanted: Back to the editor.
    """

    close_wanted = Signal()

    def __init__(
        self,
        bench: Workbench,
        ids_in: Callable[[Scope], Sequence[str]],
        rows: Callable[[], list[ProposalRow]],
    ) -> None:
        """Make the panel.

        Args:
            bench: What the pages share.
            ids_in: Gives the clips of a scope.
            rows: Gives the proposals that wait for the user.
        """
        super().__init__()
        self._desk = bench.auto_captions
        self._rows = rows
        self.setup = AutoSetup(bench, ids_in)
        self.review = AutoReview()
        self._was_running = False
        self._build()
        self._clock = QTimer(self)
        self._clock.setInterval(1000)
        self._clock.timeout.connect(self._show_progress)
        self._desk.changed.connect(self.renew)
        self._desk.proposals_changed.connect(self.renew_rows)
        bench.runs.state_changed.connect(self._renew_setup)
        bench.session.project_opened.connect(self._on_project_opened)

    @property
    def shows_review(self) -> bool:
        """Whether the proposals are in view."""
        return self._stack.currentWidget() is self.review

    def open(self) -> None:
        """Come into view: with what waits for the user, else with the order."""
        self.renew_rows()
        self._show_view(is_review=bool(self.review.model.rows) or self._desk.is_running)
        self.renew()
        (self.review.list if self.shows_review else self.setup.instructions).setFocus()

    def renew(self) -> None:
        """Progress, or what stands in the way, is another one."""
        desk = self._desk
        if desk.is_running and not self._was_running and self.isVisible():
            self._show_view(is_review=True)
        self._was_running = desk.is_running
        self._progress.setVisible(desk.is_running or desk.is_waiting)
        self._cancel.setText("Do not wait" if desk.is_waiting else "Cancel")
        self._cancel.setEnabled(not desk.is_cancelled)
        if desk.is_running:
            self._clock.start()
        else:
            self._clock.stop()
        problem, hint = desk.problem
        if problem:
            self._banner.show_message(problem, hint, tone_name="bad")
        elif desk.note and not desk.is_running:
            anew = ("Make them anew", desk.start_anew) if desk.can_start_anew else None
            self._banner.show_message(desk.note, action=anew)
        else:
            self._banner.hide()
        self._show_progress()
        self._renew_setup()

    def renew_rows(self) -> None:
        """Other things are proposed, or a present caption is another one."""
        rows = self._rows()
        self.review.show_rows(rows, len(self._desk.settled))
        self._to_review.setText(f"Review ({len(rows)})" if rows else "Review")

    def keyPressEvent(self, event: QKeyEvent) -> None:
        """Escape closes; what is proposed and what is under way stays."""
        if event.key() == Qt.Key.Key_Escape:
            self.close_wanted.emit()
        else:
            super().keyPressEvent(event)

    def _build(self) -> None:
        self._to_setup = button("Set up", lambda: self._show_view(is_review=False))
        self._to_review = button("Review", lambda: self._show_view(is_review=True))
        group = QButtonGroup(self)
        for one in (self._to_setup, self._to_review):
            one.setCheckable(True)
            group.addButton(one)
        close = tool_button("Close (Esc)", "x", self.close_wanted.emit)
        head = row(label("Automatic captions", "section"), self._to_setup, self._to_review, None, close)
        self._bar = QProgressBar()
        self._bar.setTextVisible(False)
        self._bar.setFixedWidth(160)
        self._bar.setAccessibleName("Progress of automatic captions")
        self._words = ElidedLabel("", "muted")
        self._words.setFont(numeric_font())
        self._cancel = button("Cancel", self._desk.cancel, icon_name="x")
        self._progress = QWidget()
        line = row(self._bar, self._words, self._cancel)
        line.setStretch(1, 1)
        self._progress.setLayout(line)
        self._banner = Banner()
        self._stack = QStackedWidget()
        self._stack.addWidget(self.setup)
        self._stack.addWidget(self.review)
        layout = column(head, self._progress, self._banner, self._stack)
        layout.setStretch(3, 1)
        self.setLayout(layout)

    def _show_view(self, *, is_review: bool) -> None:
        self._stack.setCurrentWidget(self.review if is_review else self.setup)
        (self._to_review if is_review else self._to_setup).setChecked(True)

    def _show_progress(self) -> None:
        desk = self._desk
        if desk.is_waiting:
            self._bar.setRange(0, 0)
            self._words.set_text("Waiting for the training to end")
            return
        if not desk.is_running:
            return
        phase = desk.phase
        if desk.is_cancelled:
            self._words.set_text("Stopping; what was proposed stays")
            return
        if phase is None or phase.phase is not Phase.CAPTIONING:
            self._bar.setRange(0, 0)
            doing = "Choosing frames and starting the trainer" if phase is None else "Loading the model"
            if phase is not None and phase.message.startswith("Downloading"):
                doing = phase.message
            self._words.set_text(f"{doing}, {duration(desk.seconds)}")
            return
        self._bar.setRange(0, max(1, phase.total))
        self._bar.setValue(phase.done)
        left = f", about {duration(phase.seconds_left)} left" if phase.seconds_left and phase.done else ""
        self._words.set_text(
            f"{phase.done} of {count(phase.total, 'clip')}{left}: {phase.message}".rstrip(": ")
        )

    def _renew_setup(self) -> None:
        if self.isVisible():
            self.setup.renew()

    def _on_project_opened(self) -> None:
        self.review.model.forget_ticks()
        self.renew_rows()
