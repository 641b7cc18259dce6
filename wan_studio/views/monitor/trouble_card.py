"""What went wrong with a run, what is saved, and the buttons that go on: the plain resume, and the next plan."""

from PySide6.QtCore import Qt, Signal
from PySide6.QtWidgets import QFrame, QPushButton

from trainer.protocol.events import Warned
from wan_studio.bridge.run_watcher import WatchedRun
from wan_studio.domain.run_state import RunState
from wan_studio.services.fallback import Offer
from wan_studio.views.theme import GRID, set_icon
from wan_studio.views.widgets import IconLabel, button, column, label, row, set_role, show_in_files
from wan_studio.views.wording import OUTCOME_WORDS, count


class TroubleCard(QFrame):
    """Shows the end of a run that did not complete, or its latest warning.

    Signals:
        resume_wanted: Go on from the last checkpoint. arg: tuple of settings, each `section.field=value`
        plan_wanted: Go on with the offered plan.
    """

    resume_wanted = Signal(object)
    plan_wanted = Signal()

    def __init__(self) -> None:
        super().__init__()
        self.setObjectName("card")
        self._watched: WatchedRun | None = None
        self._remedy = ""
        self._icon = IconLabel("x-circle", "bad", 24)
        self.title = label("", "section")
        self.text = label("", wrap=True)
        self.text.setTextInteractionFlags(Qt.TextInteractionFlag.TextSelectableByMouse)
        self.hint = label("", "muted", wrap=True)
        self.plan = label("", "strong", wrap=True)
        self.resume = button("Resume", lambda: self.resume_wanted.emit(()), role="primary", icon_name="play")
        self.resume_so = button("", lambda: self.resume_wanted.emit((self._remedy,)))
        self.go_on = button("Resume with this", self.plan_wanted.emit, role="primary", icon_name="play")
        folder = button("Show run folder", self._show_folder, icon_name="folder-open")
        texts = column(self.title, self.text, self.hint, self.plan, gap=GRID // 2)
        texts.addSpacing(GRID // 2)
        # Under the texts, which need the width: what does not fit in the page's height is cut off.
        texts.addLayout(row(self.go_on, self.resume, self.resume_so, None, folder))
        for made in (self.go_on, self.resume_so, self.plan):
            made.hide()
        content = row(self._icon, texts, gap=2 * GRID, margins=2 * GRID)
        content.setStretch(1, 1)
        content.setAlignment(self._icon, Qt.AlignmentFlag.AlignTop)
        self.setLayout(content)

    def show_end(self, watched: WatchedRun, offer: Offer | None) -> None:
        """How a run ended, and what it can go on with."""
        state = watched.state
        self._watched = watched
        words, icon_name, tone_name = OUTCOME_WORDS[state.outcome]
        self._icon.show_icon(icon_name, tone_name)
        saved = state.checkpoints[-1].step if state.checkpoints else 0
        text = f"Resume from step {saved}" if saved else "Start again"
        self._name(self.resume, text)
        self.resume.show()
        own = offer if offer is not None and offer.run.path == watched.run.path else None
        is_first = own is None or own.plan is None
        set_role(self.resume, "primary" if is_first else "plain")
        set_icon(self.resume, "play", "on_accent" if is_first else "text")
        if own is None:
            self.title.setText(f"{words} at step {state.step}")
            self.text.setText(state.summary)
            kept = f"The last checkpoint is step {saved}." if saved else ""
            self.hint.setText(f"{state.hint} {kept}".strip())
            self.plan.hide()
            self.go_on.hide()
            self._show_remedy(state.remedy)
        else:
            self._show_offer(own, state)

    def show_warning(self, watched: WatchedRun, warned: Warned) -> None:
        """The latest warning of a run at work."""
        self._watched = watched
        self._icon.show_icon("warning", "warn")
        self.title.setText(count(len(watched.state.warnings), "warning"))
        self.text.setText(warned.message)
        self.hint.setText(warned.hint)
        for made in (self.resume, self.resume_so, self.go_on, self.plan):
            made.hide()

    def set_ready(self, *, is_ready: bool) -> None:
        """Whether the buttons can be used."""
        for made in (self.resume, self.resume_so, self.go_on):
            made.setEnabled(is_ready)

    def _show_offer(self, offer: Offer, state: RunState) -> None:
        self.title.setText(f"Out of GPU memory at step {state.step}")
        self.text.setText(offer.shortage)
        saved = (
            f"The state after step {offer.saved_step} is saved."
            if offer.saved_step
            else "Nothing is saved yet."
        )
        self._show_remedy("")
        self.plan.show()
        self.go_on.setVisible(offer.plan is not None)
        if offer.plan is None:
            self.hint.setText(saved)
            self.plan.setText(" ".join(("No change is left that would let it go on.", *offer.ways_out)))
            return
        self.hint.setText(saved)
        self.plan.setText(f"Next plan: {offer.plan.sentence}")
        resumed = "Resume with this" if offer.saved_step else "Start again with this"
        self._name(self.go_on, resumed if offer.plan.resumes else "Start a new run with this")

    def _show_remedy(self, remedy: str) -> None:
        self._remedy = remedy
        self._name(self.resume_so, f"Resume with {remedy.replace('=', ' = ')}")
        self.resume_so.setVisible(bool(remedy))

    @staticmethod
    def _name(made: QPushButton, text: str) -> None:
        made.setText(text)
        made.setAccessibleName(text)

    def _show_folder(self) -> None:
        if self._watched is not None:
            show_in_files(self._watched.run.path)
