"""What is worked out about the clip that is looked at, and how that is shown."""

from PySide6.QtCore import QObject, QTimer, Signal

from wan_studio.bridge.background import run_in_background
from wan_studio.bridge.clip_studies import ClipStudies
from wan_studio.bridge.workbench import Workbench
from wan_studio.domain.clip import SourceVideo, TrimRange
from wan_studio.domain.trim_suggestion import TrimSuggestion, motion_range
from wan_studio.paths import user_cache_folder
from wan_studio.views.trim.stage import TrimStage

_BEGIN_AFTER_MILLISECONDS = 500
"""The frames that are looked at come first."""

_WORDS = {"motion": "Looking for motion and cuts", "proxy": "Making a proxy for scrubbing"}


class ClipStudy(QObject):
    """Motion, cuts, filmstrip and proxy of one clip at a time; work on others ends.

    Signals:
        suggested: The suggestion that was wanted is known. arg: TrimRange
    """

    suggested = Signal(object)

    def __init__(self, bench: Workbench, stage: TrimStage) -> None:
        super().__init__(stage)
        self._bench = bench
        self._stage = stage
        self._source: SourceVideo | None = None
        self._trim = TrimRange(0, 1)
        self._within_range = False
        self._suggestion: TrimSuggestion | None = None
        self._asked: object = None
        self._is_known = False
        self._is_wanted = False
        self._studies = ClipStudies(user_cache_folder(), self)
        self._begin = QTimer(self)
        self._begin.setSingleShot(True)
        self._begin.setInterval(_BEGIN_AFTER_MILLISECONDS)
        self._begin.timeout.connect(self._on_begin)
        self._studies.analysed.connect(self._on_analysed)
        self._studies.proxy_made.connect(self._on_proxy_made)
        self._studies.progressed.connect(self._on_progressed)
        self._studies.ended.connect(self._on_ended)
        stage.player.found_slow.connect(self._on_found_slow)

    def want_suggestion(self) -> None:
        """Tell the range that the motion suggests, once it is known."""
        if self._source is None:
            return
        if self._is_known:
            self._tell_suggestion(self._source)
            return
        self._is_wanted = True
        self._stage.show_state("Looking for motion; the range follows as soon as it is known.")
        self._begin.stop()
        self._studies.analyse(self._source)

    def show(self, source: SourceVideo | None, trim: TrimRange, *, within_range: bool = False) -> None:
        """Look at this range of a video; suggest a part of the range, or of the whole video."""
        self._trim, self._within_range = trim, within_range
        if source != self._source:
            self._source = source
            self._suggestion, self._asked = None, None
            self._is_known = self._is_wanted = False
            self._studies.cancel(but=source)
            self._stage.show_state("")
            self._stage.tools.show_suggestion("")
            self._begin.stop()
            if source is not None:
                if self._studies.analysis_of(source) is None:
                    self._begin.start()
                self._studies.make_proxy(source, only_existing=True)
        if source is not None and self._studies.analysis_of(source) is not None:
            self._stage.timeline.show_analysis(self._studies.analysis_of(source))
            self._renew_suggestion()

    def stop(self) -> None:
        """End all work; what was found is kept."""
        self._begin.stop()
        self._studies.cancel()
        self._source = None

    def cancel_work(self) -> None:
        """End what is shown as under way."""
        self._studies.cancel()
        self._stage.show_state("")

    def _on_begin(self) -> None:
        if self._source is not None:
            self._studies.analyse(self._source)

    def _on_found_slow(self, source: SourceVideo) -> None:
        if source != self._source:
            return
        watched = self._bench.runs.watched
        if watched is not None and watched.is_running:
            self._stage.show_state("Scrubbing is slow: a proxy is made when the training run is over.")
        else:
            self._studies.make_proxy(source)

    def _on_analysed(self, source: SourceVideo) -> None:
        if source == self._source:
            self._stage.timeline.show_analysis(self._studies.analysis_of(source))
            self._renew_suggestion()

    def _on_proxy_made(self, source: SourceVideo, proxy: SourceVideo) -> None:
        self._stage.player.use_proxy(source, proxy)
        if source == self._source:
            self._stage.show_state("Scrubs on a proxy; trains from the source.")

    def _on_progressed(self, source: SourceVideo, what: str, done: int, count: int) -> None:
        if source == self._source and what in _WORDS:
            self._stage.show_state(f"{_WORDS[what]}: {100 * done // max(count, 1)} %", can_stop=True)

    def _on_ended(self, source: SourceVideo, what: str) -> None:
        if source == self._source and what in _WORDS:
            has_proxy = self._studies.proxy_of(source) is not None
            self._stage.show_state("Scrubs on a proxy; trains from the source." if has_proxy else "")

    def _renew_suggestion(self) -> None:
        source = self._source
        analysis = self._studies.analysis_of(source) if source is not None else None
        if source is None or analysis is None or not self._bench.session.is_open:
            return
        within = self._trim if self._within_range else source.whole_range
        frames = self._bench.session.project.settings.datasets.num_frames
        asked = (within, frames)
        if asked == self._asked:
            return
        self._asked = asked
        self._is_known = False

        def on_done(found: TrimSuggestion | None) -> None:
            if source == self._source and asked == self._asked:
                self._suggestion, self._is_known = found, True
                self._stage.timeline.show_suggestion(found.trim if found is not None else None)
                self._stage.tools.show_suggestion(_in_words(source, found))
                if self._is_wanted:
                    self._tell_suggestion(source)

        run_in_background(lambda: motion_range(source, analysis.motion, within, frames), on_done, urgent=True)

    def _tell_suggestion(self, source: SourceVideo) -> None:
        self._is_wanted = False
        if self._suggestion is None:
            self._stage.show_state(_in_words(source, None))
        else:
            self._stage.show_state("")
            self.suggested.emit(self._suggestion.trim)


def _in_words(source: SourceVideo, found: TrimSuggestion | None) -> str:
    if found is None:
        return "Nothing to suggest: it moves evenly, or is no longer than what trains."
    start, end = source.seconds_at(found.trim.start_frame), source.seconds_at(found.trim.end_frame)
    return f"Most moves from {start:.2f} to {end:.2f} s."
