"""Goes on with the shown run when its GPU memory ran out: offers the next plan, or takes it unasked."""

import logging
from pathlib import Path

from PySide6.QtCore import QObject, Signal

from wan_studio.bridge.background import run_in_background
from wan_studio.bridge.run_desk import RunDesk
from wan_studio.bridge.run_watcher import WatchedRun
from wan_studio.services.fallback import Offer, offer_for, ran_out
from wan_studio.services.run_calibration import RunCalibrator

_log = logging.getLogger(__name__)


class FallbackDesk(QObject):
    """Watches the shown run for a lack of memory.

    Attributes:
        continues_by_itself: Whether the next plan is taken unasked, where the run failed before our eyes.

    Signals:
        offer_changed: Another plan, or none, is offered. arg: Offer or None
    """

    offer_changed = Signal(object)

    def __init__(self, runs: RunDesk) -> None:
        super().__init__(runs)
        self.continues_by_itself = False
        self._runs = runs
        self._offer: Offer | None = None
        self._failure: tuple[Path, float] | None = None
        self._live: Path | None = None
        runs.state_changed.connect(self._on_state_changed)

    @property
    def offer(self) -> Offer | None:
        """What the shown run can go on with; None where it did not run out of memory."""
        return self._offer

    def take(self) -> None:
        """Go on with the offered plan."""
        self._take(by_itself=False)

    def _take(self, *, by_itself: bool) -> None:
        if self._offer is not None and self._offer.plan is not None and not self._runs.is_busy:
            self._runs.go_on(self._offer, by_itself=by_itself)

    def _on_state_changed(self, watched: WatchedRun | None) -> None:
        if watched is None or ran_out(watched.state) is None:
            if watched is not None and watched.is_running:
                self._live = watched.run.path
            self._failure = None
            self._set(None)
            return
        failure = watched.run.path, watched.state.began
        if failure == self._failure:
            return
        self._failure = failure
        run, state = watched.run, watched.state

        def work() -> Offer | None:
            # First: the plan must know that this one did not fit.
            RunCalibrator().take_in(run, state)
            return offer_for(run, state)

        def on_done(offer: Offer | None) -> None:
            if failure != self._failure:
                return
            self._set(offer)
            if self.continues_by_itself and self._live == run.path:
                # Of a run that failed once more, once more: each rung is taken once.
                self._take(by_itself=True)

        def on_error(error: Exception) -> None:
            # The plain resume is still there.
            _log.warning("No plan could be made for %s: %s", run.path, error)

        run_in_background(work, on_done, on_error, urgent=True)

    def _set(self, offer: Offer | None) -> None:
        if offer is not self._offer:
            self._offer = offer
            self.offer_changed.emit(offer)
