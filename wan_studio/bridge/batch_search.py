"""Looks in the background for what a batch would change."""

from pathlib import Path
from threading import Event
from typing import TYPE_CHECKING, Literal

from PySide6.QtCore import QObject, Signal

from wan_studio.bridge.background import ProgressRelay, run_in_background
from wan_studio.domain.clip import SourceVideo
from wan_studio.domain.project import ProjectClip

if TYPE_CHECKING:
    from wan_studio.services.batch_trim import ClipChange

BatchKind = Literal["still ends", "black bars"]


class BatchSearch(QObject):
    """One search at a time; another one ends the first.

    Signals:
        progressed: Clips looked at, of all. args: int, int
        found: The search is over. arg: list of ClipChange
        failed: It could not be done. arg: Exception
    """

    progressed = Signal(int, int)
    found = Signal(object)
    failed = Signal(object)

    def __init__(self, cache_folder: Path, parent: QObject | None = None) -> None:
        super().__init__(parent)
        self._folder = cache_folder
        self._wish = Event()

    def start(self, kind: BatchKind, clips: list[tuple[ProjectClip, SourceVideo]]) -> None:
        """Look through these clips."""
        self.cancel()
        wish = Event()
        self._wish = wish
        relay = ProgressRelay(self)

        def on_progress(counts: tuple[int, int]) -> None:
            if not wish.is_set():
                self.progressed.emit(*counts)

        relay.progressed.connect(on_progress)

        def work() -> "list[ClipChange]":
            from wan_studio.services.batch_trim import black_bars, find_changes, still_ends
            from wan_studio.services.clip_analysis import AnalysisCache

            finder = still_ends if kind == "still ends" else black_bars
            cache = AnalysisCache(self._folder / "motion")
            return find_changes(clips, finder, cache, relay.report, wish.is_set)

        def on_done(changes: "list[ClipChange]") -> None:
            relay.deleteLater()
            if not wish.is_set():
                self.found.emit(changes)

        def on_error(error: Exception) -> None:
            relay.deleteLater()
            if not wish.is_set():
                self.failed.emit(error)

        run_in_background(work, on_done, on_error)

    def cancel(self) -> None:
        """End the search; nothing more is told of it."""
        self._wish.set()
