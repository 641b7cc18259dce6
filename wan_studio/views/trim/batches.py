"""Batches over all clips: looked for in the background, shown, and applied in one step."""

from collections.abc import Callable, Sequence

from PySide6.QtCore import QObject

from wan_studio.bridge.batch_search import BatchKind, BatchSearch
from wan_studio.bridge.workbench import Workbench
from wan_studio.domain.project import ProjectClip
from wan_studio.paths import user_cache_folder
from wan_studio.views.trim.batch_sheet import BatchSheet
from wan_studio.views.trim.edits import TrimEdits


class Batches(QObject):
    """Runs the sheet; `on_end` is called when it is to go away."""

    def __init__(self, bench: Workbench, edits: TrimEdits, on_end: Callable[[], object]) -> None:
        super().__init__(bench)
        self._bench = bench
        self._edits = edits
        self._on_end = on_end
        self.sheet = BatchSheet()
        self._search = BatchSearch(user_cache_folder(), self)
        self._search.progressed.connect(self.sheet.show_progress)
        self._search.found.connect(self.sheet.show_changes)
        self._search.failed.connect(self._on_failed)
        self.sheet.closed.connect(self._end)
        self.sheet.applied.connect(self._on_applied)

    def start(self, kind: BatchKind) -> None:
        """Look for what a batch would change in the clips that are not rejected."""
        library = self._bench.library
        clips = [
            (clip, source)
            for clip in self._bench.session.project.clips
            if not clip.rejected and (source := library.source_of(clip.id)) is not None
        ]
        self.sheet.show_searching(kind, len(clips))
        self._search.start(kind, clips)

    def cancel(self) -> None:
        """Look no further."""
        self._search.cancel()

    def _end(self) -> None:
        self._search.cancel()
        self._on_end()

    def _on_applied(self, what: str, clips: Sequence[ProjectClip]) -> None:
        self._end()
        self._edits.replace_clips(what, clips)

    def _on_failed(self, error: Exception) -> None:
        self._end()
        self._bench.error_happened.emit(error)
