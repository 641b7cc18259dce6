"""What is offered against findings, and how missing files are found again."""

from collections.abc import Callable, Iterable
from pathlib import Path

from PySide6.QtCore import QObject, Signal
from PySide6.QtWidgets import QFileDialog, QWidget

from wan_studio.bridge.background import run_in_background
from wan_studio.bridge.workbench import Workbench
from wan_studio.domain.checks import Step
from wan_studio.domain.clip_health import FindingKind
from wan_studio.paths import user_cache_folder
from wan_studio.views.clips.edits import ClipEdits
from wan_studio.views.wording import count


class ClipRemedies(QObject):
    """Does them, each as one step.

    Signals:
        page_wanted: The remedy is on another page. arg: Step
        busy_changed: Something takes a moment. arg: what is done, empty when finished
        relinked: Missing files were looked for. args: how many were found, of how many, in which folder
    """

    page_wanted = Signal(object)
    busy_changed = Signal(str)
    relinked = Signal(int, int, object)

    def __init__(self, bench: Workbench, edits: ClipEdits, page: QWidget) -> None:
        super().__init__(page)
        self._bench = bench
        self._edits = edits
        self._page = page

    def do(self, kind: FindingKind, shown: Iterable[str]) -> None:
        """Do what is offered against a finding, for those of the shown clips that have it."""
        records = (self._bench.index.record(one) for one in shown)
        ids = [record.id for record in records if record is not None and kind.name in record.findings]
        edits = self._edits
        does: dict[str, Callable[[], object]] = {
            "relink": self.relink,
            "reject": lambda: edits.reject_all(ids),
            "trim": lambda: self._open(Step.TRIM, ids),
            "captions": lambda: self._open(Step.CAPTIONS, ids),
            "fewer_frames": lambda: edits.fewer_frames(ids),
            "real_speed": lambda: edits.real_speed(ids),
            "keep_best": lambda: edits.keep_best(ids),
            "cut_still": lambda: edits.cut_still(ids),
            "crop_bars": lambda: edits.crop_bars(ids),
        }
        if ids:
            does[kind.remedy]()

    def relink(self) -> None:
        """Ask where missing files may be now, and take them from there."""
        name = QFileDialog.getExistingDirectory(self._page, "Where may the missing clips be now?")
        if name:
            self.relink_from(Path(name))

    def relink_from(self, folder: Path) -> None:
        """Look for missing files in a folder, in the background."""
        library, project = self._bench.library, self._bench.session.project
        missing = {
            clip.id: Path(clip.source) for clip in project.clips if library.facts_of(clip.id).is_missing
        }

        def work() -> dict[str, Path]:
            from wan_studio.services.probe_cache import ProbeCache
            from wan_studio.services.relink import find_moved

            return find_moved(missing, [folder], ProbeCache(user_cache_folder() / "probes"))

        def on_done(places: dict[str, Path]) -> None:
            self.busy_changed.emit("")
            self._edits.relink(places)
            self.relinked.emit(len(places), len(missing), folder)

        def on_error(error: Exception) -> None:
            self.busy_changed.emit("")
            self._bench.error_happened.emit(error)

        self.busy_changed.emit(f"Looking for {count(len(missing), 'clip')}")
        run_in_background(work, on_done, on_error, urgent=True)

    def _open(self, step: Step, ids: list[str]) -> None:
        self._bench.session.select_clip(ids[0])
        self.page_wanted.emit(step)
