"""Opens the export's dialog, and says on the page that an export is at work while the dialog is closed."""

from PySide6.QtCore import QObject, Signal
from PySide6.QtWidgets import QWidget

from wan_studio.bridge.workbench import Workbench
from wan_studio.services.dataset_export import ExportProgress
from wan_studio.views.clips.export_dialog import ExportDialog


class ExportOpener(QObject):
    """Makes the dialog when it is first wanted.

    Signals:
        busy_changed: An export is so far. arg: a sentence, empty when it has ended
    """

    busy_changed = Signal(str)

    def __init__(self, bench: Workbench, page: QWidget) -> None:
        super().__init__(page)
        self._bench = bench
        self._page = page
        self.dialog: ExportDialog | None = None
        bench.exporter.progressed.connect(self._on_progressed)
        bench.exporter.exported.connect(self._on_ended)
        bench.exporter.failed.connect(self._on_ended)
        bench.session.project_opened.connect(self._on_project_opened)

    def open(self) -> None:
        """Show the dialog, with what it was or what an export at work has come to."""
        if not self._bench.session.is_open:
            return
        if self.dialog is None:
            self.dialog = ExportDialog(self._bench, self._page)
        self.dialog.show_ready()

    def _on_progressed(self, progress: ExportProgress) -> None:
        self.busy_changed.emit(f"Exporting: {min(progress.done + 1, progress.count)} of {progress.count}")

    def _on_ended(self) -> None:
        self.busy_changed.emit("")

    def _on_project_opened(self) -> None:
        # What is exported belongs to the project that was open.
        self._bench.exporter.cancel()
        if self.dialog is not None:
            self.dialog.close()
            self.dialog.deleteLater()
            self.dialog = None
