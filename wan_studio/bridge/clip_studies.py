"""What the trimmer wants to know of a video, worked out in the background: motion, cuts, filmstrip, proxy."""

import logging
from collections.abc import Callable
from pathlib import Path
from threading import Event
from typing import TYPE_CHECKING, Any

from PySide6.QtCore import QObject, Signal

from wan_studio.bridge.background import ProgressRelay, Task, run_in_background
from wan_studio.domain.clip import SourceVideo

if TYPE_CHECKING:
    from wan_studio.services.clip_analysis import ClipAnalysis

_log = logging.getLogger(__name__)

_Work = Callable[[Callable[[int, int], object], Callable[[], bool]], Any]


class _Job:
    """One piece of work that can be told to end."""

    def __init__(self) -> None:
        self.wish = Event()
        self.task: Task[Any] | None = None

    def cancel(self) -> None:
        self.wish.set()
        if self.task is not None:
            self.task.cancel()


class ClipStudies(QObject):
    """Analyses and proxies of videos, each made once; results are kept for as long as the program runs.

    Signals:
        analysed: A video was looked through. arg: SourceVideo
        proxy_made: A video has a proxy. args: SourceVideo, the proxy as a SourceVideo
        progressed: Work on a video goes on. args: SourceVideo, what is made, frames done, all frames
        ended: Work on a video is over, whether or not it came to something. args: SourceVideo, what
    """

    analysed = Signal(object)
    proxy_made = Signal(object, object)
    progressed = Signal(object, str, int, int)
    ended = Signal(object, str)

    def __init__(self, cache_folder: Path, parent: QObject | None = None) -> None:
        super().__init__(parent)
        self._folder = cache_folder
        self._analyses: dict[SourceVideo, ClipAnalysis] = {}
        self._proxies: dict[SourceVideo, SourceVideo] = {}
        self._jobs: dict[tuple[SourceVideo, str], _Job] = {}

    def analysis_of(self, source: SourceVideo) -> "ClipAnalysis | None":
        """What is known of a video's motion, once it is."""
        return self._analyses.get(source)

    def proxy_of(self, source: SourceVideo) -> SourceVideo | None:
        """The proxy of a video, once it is made."""
        return self._proxies.get(source)

    def analyse(self, source: SourceVideo) -> None:
        """Look through a video, unless that was done or is under way."""
        if source in self._analyses:
            self.analysed.emit(source)
            return

        def work(on_progress: Callable[[int, int], object], is_cancelled: Callable[[], bool]) -> Any:
            from wan_studio.services.clip_analysis import AnalysisCache
            from wan_studio.services.study_process import StudyError, run_study

            folder = self._folder / "motion"
            known = AnalysisCache(folder).existing(source)
            if known is None:
                run_study("motion", source, folder, on_progress, is_cancelled)
                known = AnalysisCache(folder).existing(source)
            if known is None:
                raise StudyError(source, f"What {source.name} holds cannot be kept in {folder}.")
            return known

        def on_done(found: "ClipAnalysis") -> None:
            self._analyses[source] = found
            self.analysed.emit(source)

        self._start(source, "motion", work, on_done)

    def make_proxy(self, source: SourceVideo, *, only_existing: bool = False) -> None:
        """Make a video's proxy, unless that was done or is under way; or only look whether there is one."""
        if source in self._proxies or source.is_image:
            return

        def work(on_progress: Callable[[int, int], object], is_cancelled: Callable[[], bool]) -> Any:
            from wan_studio.services.proxy_maker import ProxyMaker
            from wan_studio.services.study_process import run_study

            folder = self._folder / "proxies"
            maker = ProxyMaker(folder)
            known = maker.existing(source)
            if known is None and not only_existing:
                run_study("proxy", source, folder, on_progress, is_cancelled)
                known = maker.existing(source)
            return known

        def on_done(proxy: SourceVideo | None) -> None:
            if proxy is not None:
                self._proxies[source] = proxy
                self.proxy_made.emit(source, proxy)

        self._start(source, "known proxy" if only_existing else "proxy", work, on_done)

    def cancel(self, what: str = "", but: SourceVideo | None = None) -> None:
        """End work of one kind, or all, on every video but one."""
        for (source, kind), job in list(self._jobs.items()):
            if source != but and what in ("", kind):
                job.cancel()
                del self._jobs[source, kind]
                self.ended.emit(source, kind)

    def _start(self, source: SourceVideo, what: str, work: _Work, on_done: Callable[[Any], None]) -> None:
        if (source, what) in self._jobs:
            return
        job = _Job()
        self._jobs[source, what] = job
        relay = ProgressRelay(self)

        def on_progress(counts: tuple[int, int]) -> None:
            if not job.wish.is_set():
                self.progressed.emit(source, what, *counts)

        relay.progressed.connect(on_progress)

        def finish() -> bool:
            relay.deleteLater()
            if self._jobs.get((source, what)) is job:
                del self._jobs[source, what]
            return not job.wish.is_set()

        def done(result: Any) -> None:
            if finish():
                on_done(result)
                self.ended.emit(source, what)

        def failed(error: Exception) -> None:
            if finish():
                # The clip's own row says when its file cannot be read; without these it can be trimmed, too.
                _log.info("%s of %s: %s", what, source.path, error)
                self.ended.emit(source, what)

        job.task = run_in_background(
            lambda: work(relay.report, job.wish.is_set), done, failed, is_patient=what != "known proxy"
        )
