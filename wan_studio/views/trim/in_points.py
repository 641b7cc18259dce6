"""Pictures of in points: shown at once when a clip is opened, and made beforehand for its neighbours in the list."""

from PySide6.QtCore import QObject, QTimer

from wan_studio.bridge.still_shelf import StillShelf
from wan_studio.bridge.workbench import Workbench
from wan_studio.domain.clip import SourceVideo
from wan_studio.paths import user_cache_folder
from wan_studio.views.trim.shown_clip import valid_trim
from wan_studio.views.trim.stage import TrimStage

_BEGIN_AFTER_MILLISECONDS = 400
"""After the range on screen is decoded: that comes first."""
_NEIGHBOURS = (1, -1, 2, 3)
"""Places in the list, the likeliest next one first."""


class InPoints(QObject):
    """The in point of the clip that is looked at, and of those around it."""

    def __init__(self, bench: Workbench, stage: TrimStage) -> None:
        super().__init__(stage)
        self._bench = bench
        self._player = stage.player
        self._shown: tuple[SourceVideo, int] | None = None
        self._shelf = StillShelf(user_cache_folder() / "stills", self)
        self._begin = QTimer(self)
        self._begin.setSingleShot(True)
        self._begin.setInterval(_BEGIN_AFTER_MILLISECONDS)
        self._begin.timeout.connect(self._prepare_neighbours)
        self._shelf.still_ready.connect(self._player.show_still)
        self._player.window_filled.connect(self._on_window_filled)

    def show(self, source: SourceVideo, frame: int) -> None:
        """A clip was opened, or its in point was moved; its picture is shown if it is known."""
        if self._shown != (source, frame):
            is_other = self._shown is None or self._shown[0] is not source
            self._shown = (source, frame)
            if is_other:
                self._shelf.prepare(())
                self._shelf.want(source, frame)
            else:
                self._keep()

    def stop(self) -> None:
        """The page is left."""
        self._keep()
        self._shown = None
        self._begin.stop()
        self._shelf.stop()

    def _on_window_filled(self, done: int, count: int) -> None:
        if done == count:
            self._keep()
            self._begin.start()

    def _keep(self) -> None:
        if self._shown is None or self._player.strip is None or self._player.strip.trained_size is not None:
            return
        source, frame = self._shown
        picture = self._player.kept_picture(frame) if self._player.strip.source == source else None
        if picture is not None:
            self._shelf.keep(source, frame, picture)

    def _prepare_neighbours(self) -> None:
        watched = self._bench.runs.watched
        session = self._bench.session
        if not session.is_open or (watched is not None and watched.is_running):
            return
        clips = [clip for clip in session.project.clips if not clip.rejected]
        here = next((at for at, clip in enumerate(clips) if clip.id == session.clip_id), None)
        if here is None:
            return
        wanted: list[tuple[SourceVideo, int]] = []
        for step in _NEIGHBOURS:
            at = here + step
            source = self._bench.library.source_of(clips[at].id) if 0 <= at < len(clips) else None
            if source is not None and not source.is_image:
                wanted.append((source, valid_trim(clips[at], source).start_frame))
        self._shelf.prepare(wanted)
