"""Automatic captions for the open project: started, followed, cancelled, and kept until the user has decided."""

import contextlib
import time
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

import msgspec
from PySide6.QtCore import QObject, QTimer, Signal

from trainer.protocol.commands import Stop
from trainer.protocol.events import CaptionFailed, CaptionMade, Phase
from trainer.protocol.run_folder import RunFolder
from wan_studio.bridge.background import run_in_background
from wan_studio.bridge.clip_library import ClipLibrary
from wan_studio.bridge.project_session import ProjectSession
from wan_studio.bridge.run_desk import RunDesk
from wan_studio.domain.auto_caption import CaptionOptions, Proposal
from wan_studio.domain.run_state import Outcome, PhaseState, RunState
from wan_studio.errors import AppError
from wan_studio.services.auto_captions import (
    BuiltOrder,
    Kept,
    Order,
    build_order,
    captioning_run,
    end_captioning,
    load_proposals,
    save_proposals,
    start_for_project,
)
from wan_studio.services.project_store import ProjectStore
from wan_studio.services.run_store import RunFollower

_LOOK_EVERY_MILLISECONDS = 300
_SAVE_AFTER_MILLISECONDS = 500
_STOP_MILLISECONDS = 5000
"""How long a stop may take before the process is ended."""

_News = tuple[RunState, list[CaptionMade | CaptionFailed]]


@dataclass(frozen=True, slots=True)
class _Asked:
    """What was asked for, to be begun when the GPU is free."""

    clip_ids: tuple[str, ...]
    options: CaptionOptions


class AutoCaptions(QObject):
    """Asks a trainer process for captions, one order at a time; never waits, and never writes a caption.

    Signals:
        changed: Progress, or whether it is under way, is another one.
        proposals_changed: Other things are proposed, or were settled.
        ended: An order is over: done, cancelled or failed.
    """

    changed = Signal()
    proposals_changed = Signal()
    ended = Signal()

    def __init__(self, session: ProjectSession, library: ClipLibrary, runs: RunDesk) -> None:
        super().__init__(session)
        self._session = session
        self._library = library
        self._runs = runs
        self._kept = Kept()
        self._store: ProjectStore | None = None
        self._follower: RunFollower | None = None
        self._since = 0.0
        self._waiting: _Asked | None = None
        self._done_before: _Asked | None = None
        self._is_running = self._is_cancelled = self._is_looking = False
        self._began_at = 0.0
        self._state = RunState()
        self._problem = ("", "")
        self._note = ""
        self._look_timer = QTimer(self)
        self._look_timer.setInterval(_LOOK_EVERY_MILLISECONDS)
        self._look_timer.timeout.connect(self._look)
        self._save_timer = QTimer(self)
        self._save_timer.setSingleShot(True)
        self._save_timer.setInterval(_SAVE_AFTER_MILLISECONDS)
        self._save_timer.timeout.connect(self._save)
        session.project_opened.connect(self._on_project_opened)
        runs.state_changed.connect(self._on_runs_changed)

    @property
    def is_running(self) -> bool:
        """Whether an order is under way."""
        return self._is_running

    @property
    def is_cancelled(self) -> bool:
        """Whether the one under way is about to end."""
        return self._is_running and self._is_cancelled

    @property
    def is_waiting(self) -> bool:
        """Whether one will begin when the training is over."""
        return self._waiting is not None

    @property
    def is_training(self) -> bool:
        """Whether a run of the project has the GPU."""
        return self._runs.is_training

    @property
    def phase(self) -> PhaseState | None:
        """What it is busy with; None while the frames are chosen and the trainer starts."""
        return self._state.phases[-1] if self._state.phases else None

    @property
    def is_describing(self) -> bool:
        """Whether the model is loaded and speaks."""
        return self.phase is not None and self.phase.phase is Phase.CAPTIONING

    @property
    def seconds(self) -> float:
        """Since it was started."""
        return time.monotonic() - self._began_at if self._is_running else 0.0

    @property
    def problem(self) -> tuple[str, str]:
        """Why the last order ended early, and what to do; empty where it did not."""
        return self._problem

    @property
    def note(self) -> str:
        """What is worth knowing of the last order; empty for nothing."""
        return self._note

    @property
    def can_start_anew(self) -> bool:
        """Whether the last order found nothing left to do, and can be made once more all the same."""
        return self._done_before is not None and not self._is_running

    @property
    def proposals(self) -> Mapping[str, Proposal]:
        """What is proposed, by clip id, settled ones included."""
        return self._kept.proposals

    @property
    def settled(self) -> tuple[str, ...]:
        """Clips whose proposal was accepted or skipped."""
        return tuple(clip_id for clip_id, one in self.proposals.items() if not one.is_waiting)

    def start(
        self, clip_ids: Sequence[str], options: CaptionOptions, *, after_training: bool = False
    ) -> None:
        """Describe these clips, those left out that have a proposal made in the same way.

        Args:
            clip_ids: Of the clips.
            options: How.
            after_training: Begin when the run that is at work has ended.
        """
        if self._is_running or not self._session.is_open or not clip_ids:
            return
        asked = _Asked(tuple(clip_ids), options)
        self._problem, self._note, self._done_before = ("", ""), "", None
        if after_training and self.is_training:
            self._waiting = asked
            self.changed.emit()
        else:
            self._begin(asked)

    def start_anew(self) -> None:
        """Drop what the last order found done already, and make it once more."""
        asked = self._done_before
        if asked is not None and not self._is_running:
            self.forget(asked.clip_ids)
            self.start(asked.clip_ids, asked.options)

    def cancel(self) -> None:
        """End what is under way, or wait no more; what was proposed stays."""
        if self._waiting is not None:
            self._waiting = None
            self.changed.emit()
            return
        if not self._is_running or self._is_cancelled:
            return
        self._is_cancelled = True
        if self._follower is not None:
            self._stop(self._follower.run)
        self.changed.emit()

    def edit(self, clip_id: str, text: str) -> None:
        """Let a proposal say something else."""
        one = self.proposals.get(clip_id)
        if one is not None and one.text != text:
            self._take({clip_id: msgspec.structs.replace(one, text=text)}, is_told=False)

    def accept(self, clip_ids: Iterable[str]) -> None:
        """These became the captions."""
        self._settle(clip_ids, "accepted")

    def skip(self, clip_ids: Iterable[str]) -> None:
        """These will not become the captions."""
        self._settle(clip_ids, "skipped")

    def bring_back(self) -> None:
        """Put all that were settled before the user again."""
        self._settle(self.settled, "waiting")

    def forget(self, clip_ids: Iterable[str]) -> None:
        """Drop proposals, so that the clips are described anew."""
        gone = set(clip_ids)
        left = {clip_id: one for clip_id, one in self.proposals.items() if clip_id not in gone}
        self._kept = msgspec.structs.replace(self._kept, proposals=left)
        self._save_timer.start()
        self.proposals_changed.emit()

    def leave(self) -> None:
        """The window closes: what is under way ends by itself; what it said is read at the next start."""
        self._look_timer.stop()
        if self._follower is not None and self._is_running:
            with contextlib.suppress(OSError):
                self._follower.run.send(Stop())
        if self._save_timer.isActive():
            self._save_timer.stop()
            if self._store is not None:
                with contextlib.suppress(OSError):
                    save_proposals(self._store, self._kept)

    def _begin(self, asked: _Asked) -> None:
        project, store = self._session.project, self._session.store
        self._waiting = None
        self._is_running, self._is_cancelled = True, False
        self._began_at, self._state = time.monotonic(), RunState()
        sources = {
            clip_id: source
            for clip_id in asked.clip_ids
            if (source := self._library.source_of(clip_id)) is not None
        }
        order = Order(asked.clip_ids, asked.options, dict(self.proposals), sources)

        def work() -> tuple[BuiltOrder, RunFolder | None]:
            built = build_order(project, order)
            return built, None if built.request is None else start_for_project(store, built.request)

        def on_done(begun: tuple[BuiltOrder, RunFolder | None]) -> None:
            built, run = begun
            if store is not self._store:
                if run is not None:
                    self._stop(run)
                return
            self._take(built.problems)
            if run is None:
                self._note = _nothing_left(built)
                self._done_before = asked if built.done else None
                self._end()
                return
            if built.done:
                self._note = f"{_clips(built.done)} had a caption proposed in the same way already."
            self._follow(run, since=0.0)
            if self._is_cancelled:
                self._stop(run)

        self.changed.emit()
        run_in_background(work, on_done, lambda error: self._on_failed(error, store), urgent=True)

    def _follow(self, run: RunFolder, since: float) -> None:
        """Follow a process; what it said until then was taken in before."""
        self._follower, self._since = RunFollower(run), since
        self._look_timer.start()

    def _look(self) -> None:
        follower, since = self._follower, self._since
        if follower is None or self._is_looking:
            return
        self._is_looking = True

        def work() -> _News:
            state = follower.update()
            said = [one for one in follower.new_events if isinstance(one, CaptionMade | CaptionFailed)]
            return state, [one for one in said if one.time > since]

        def on_done(news: _News) -> None:
            self._is_looking = False
            if follower is self._follower and self._session.is_open:
                self._on_news(*news)

        def on_error(error: Exception) -> None:
            self._is_looking = False
            raise error

        run_in_background(work, on_done, on_error, urgent=True)

    def _on_news(self, state: RunState, made: list[CaptionMade | CaptionFailed]) -> None:
        is_other = state != self._state
        self._state = state
        if made:
            self._kept = self._kept.with_news(made, self._session.project)
            self._save_timer.start()
            self.proposals_changed.emit()
        if state.has_ended:
            if state.outcome in (Outcome.FAILED, Outcome.CRASHED) and not self._is_cancelled:
                hint = state.hint if state.outcome is Outcome.FAILED else "The log in its folder has more."
                self._problem = state.summary.replace(" at step 0", ""), hint
            self._end()
        elif is_other:
            self.changed.emit()

    def _stop(self, run: RunFolder) -> None:
        run_in_background(lambda: run.send(Stop()), lambda _: None, lambda _: None, urgent=True)

        def end() -> None:
            if self._is_running and self._follower is not None and self._follower.run is run:
                run_in_background(lambda: end_captioning(run), lambda _: None)

        QTimer.singleShot(_STOP_MILLISECONDS, self, end)

    def _take(self, made: Mapping[str, Proposal], *, is_told: bool = True) -> None:
        if not made:
            return
        self._kept = msgspec.structs.replace(self._kept, proposals={**self.proposals, **made})
        self._save_timer.start()
        if is_told:
            self.proposals_changed.emit()

    def _settle(self, clip_ids: Iterable[str], state: str) -> None:
        changed = {
            clip_id: msgspec.structs.replace(one, state=state)
            for clip_id in clip_ids
            if (one := self.proposals.get(clip_id)) is not None
        }
        self._take(changed)

    def _save(self) -> None:
        store, kept = self._store, self._kept
        if store is not None:
            run_in_background(lambda: save_proposals(store, kept), lambda _: None, self._on_unsaved)

    def _on_unsaved(self, error: Exception) -> None:
        self._problem = (
            f"The proposed captions could not be kept ({error}).",
            "Check the project folder's permissions and the free space.",
        )
        self.changed.emit()

    def _on_failed(self, error: Exception, store: ProjectStore) -> None:
        if store is not self._store:
            return
        if isinstance(error, AppError):
            self._problem = error.message, error.hint
        else:
            self._problem = f"No captions could be made ({error}).", "Check the project folder."
        self._end()

    def _end(self) -> None:
        self._look_timer.stop()
        self._follower = None
        self._is_running = self._is_cancelled = False
        self._state = RunState()
        self.changed.emit()
        self.ended.emit()

    def _on_project_opened(self) -> None:
        self.leave()
        self._follower, self._waiting, self._done_before = None, None, None
        self._is_running = self._is_cancelled = False
        self._state, self._problem, self._note = RunState(), ("", ""), ""
        self._kept = Kept()
        self._store = self._session.store if self._session.is_open else None
        self.proposals_changed.emit()
        self.changed.emit()
        store = self._store
        if store is None:
            return
        project = self._session.project

        def work() -> tuple[Kept, RunFolder, bool]:
            run = captioning_run(store)
            is_alive = run.is_alive()
            return load_proposals(store, project), run, is_alive

        def on_done(found: tuple[Kept, RunFolder, bool]) -> None:
            if store is not self._store or self._is_running:
                return
            self._kept, run, is_alive = found
            self.proposals_changed.emit()
            if is_alive:
                self._is_running, self._began_at = True, time.monotonic()
                self._follow(run, since=self._kept.until)
                self.changed.emit()

        run_in_background(work, on_done)

    def _on_runs_changed(self, _: object) -> None:
        if self._waiting is not None and not self.is_training and self._session.is_open:
            self._begin(self._waiting)


def _nothing_left(built: BuiltOrder) -> str:
    if built.done:
        return (
            f"{_clips(built.done)} had a caption proposed in the same way already. Change the instructions or the "
            "model for others."
        )
    return "None of these clips can be described; the list says why."


def _clips(number: int) -> str:
    return "1 clip" if number == 1 else f"{number} clips"
