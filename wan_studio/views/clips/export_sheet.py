"""The export of a data set: where, how, what will be written, how far it is, and what came of it.

It stands on the Clips page in the clips' place; the export goes on when it is closed, or another page shown.
"""

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from PySide6.QtCore import Qt, QTimer, Signal
from PySide6.QtGui import QKeySequence, QShortcut
from PySide6.QtWidgets import (
    QComboBox,
    QFileDialog,
    QGridLayout,
    QLineEdit,
    QProgressBar,
    QVBoxLayout,
    QWidget,
)

from wan_studio.bridge.workbench import Workbench
from wan_studio.domain.export_plan import Codec, ExportOptions, Frames, Layout
from wan_studio.services.export_errors import ExportCancelledError
from wan_studio.views.clips.export_words import forecast_words, report_words, skipped_words
from wan_studio.views.page import Primary
from wan_studio.views.theme import GRID
from wan_studio.views.widgets import (
    ElidedLabel,
    Expander,
    IconLabel,
    button,
    card,
    column,
    label,
    readable,
    row,
    scrolled,
    set_role,
    show_in_files,
    tool_button,
)
from wan_studio.views.wording import count, error_texts

if TYPE_CHECKING:
    from wan_studio.services.dataset_export import ExportForecast, ExportProgress, ExportReport

_LAYOUTS: tuple[tuple[Layout, str, str], ...] = (
    ("folder", "Plain folders", "Clips and captions alone, a folder for each data set."),
    (
        "ai-toolkit",
        "ai-toolkit",
        "A folder for each data set, and ai-toolkit.yaml with this project's settings. [trigger] stays in captions.",
    ),
    (
        "musubi-tuner",
        "musubi-tuner",
        "Folders by frame rate, musubi-tuner.toml, and the commands that cache and train (.sh and .bat).",
    ),
)
_CODECS: tuple[tuple[Codec, str, str], ...] = (
    ("h264", "H.264, near lossless (.mp4)", "Small, and read by everything."),
    (
        "ffv1",
        "FFV1, lossless (.mkv)",
        "Every decoded picture stays as it is, bit for bit. Several times larger.",
    ),
)
_FRAMES: tuple[tuple[Frames, str, str], ...] = (
    (
        "source",
        "Every frame of the source",
        "The whole trimmed range, each frame at its own time. Other trainers choose frames by their own rules.",
    ),
    (
        "as_seen",
        "As the model sees them",
        "Exactly the frames that train here, 4n + 1 of them at 16 frames a second: others train on the same.",
    ),
)
_WIDTH = 760
_FORECAST_AFTER_MILLISECONDS = 200
_KEY = "export_dataset"


class ExportSheet(QWidget):
    """Choices with their forecast, then progress, then the report.

    Signals:
        primary_changed: The page's primary action is another one.
        busy_changed: An export is so far. arg: a sentence, empty when it has ended
        closed: The clips are wanted again.
    """

    primary_changed = Signal()
    busy_changed = Signal(str)
    closed = Signal()

    def __init__(self, bench: Workbench) -> None:
        super().__init__()
        self._bench = bench
        self._forecast: ExportForecast | None = None
        self._report: ExportReport | None = None
        self._is_form = True
        self._can_start = False
        self._waiting = bench.library.waiting
        self._timer = QTimer(self)
        self._timer.setSingleShot(True)
        self._timer.setInterval(_FORECAST_AFTER_MILLISECONDS)
        self._timer.timeout.connect(self._ask_forecast)
        self._build()
        self._restore()
        exporter = bench.exporter
        exporter.forecast_made.connect(self._on_forecast)
        exporter.forecast_failed.connect(self._on_forecast_failed)
        exporter.started.connect(self._on_started)
        exporter.progressed.connect(self._on_progressed)
        exporter.exported.connect(self._on_exported)
        exporter.failed.connect(self._on_failed)
        bench.session.project_changed.connect(self._renew)
        bench.session.project_opened.connect(self._on_project_opened)
        bench.library.progress_changed.connect(self._on_clips_looked_at)

    @property
    def options(self) -> ExportOptions:
        """What is chosen."""
        return ExportOptions(
            layout=_LAYOUTS[self.layout_box.currentIndex()][0],
            codec=_CODECS[self.codec_box.currentIndex()][0],
            frames=_FRAMES[self.frames_box.currentIndex()][0],
        )

    @property
    def folder(self) -> Path:
        """Where it goes."""
        return Path(self.folder_field.text().strip() or self._usual_folder()).expanduser()

    @property
    def words(self) -> str:
        """What the sheet says will be, or was, written."""
        return self._headline.text()

    def primary(self) -> Primary:
        """Start; when it is over, back to the clips."""
        if self._bench.exporter.is_busy:
            return Primary("Start export", is_enabled=False, hint="An export is at work")
        if self._is_form:
            return Primary("Start export", is_enabled=self._can_start, icon_name="export")
        return Primary("Back to clips")

    def run_primary(self) -> None:
        """Do it."""
        if self._is_form:
            self.start()
        else:
            self.closed.emit()

    def show_ready(self) -> None:
        """Be ready for a new export, unless one is at work."""
        if not self._bench.exporter.is_busy:
            self._show_form()
        self.layout_box.setFocus()

    def start(self) -> None:
        """Export what is chosen, once it is known that this can be done."""
        if self._can_start:
            self._remember()
            self._bench.exporter.start(self.options, self.folder)

    def _build(self) -> None:
        self.folder_field = QLineEdit()
        self.folder_field.setAccessibleName("Folder")
        self.folder_field.textEdited.connect(lambda _: self._on_chosen())
        self._choose = button("Choose…", self._choose_folder, icon_name="folder-open")
        self.layout_box, self._layout_hint = self._choice("Layout", [text for _, text, _ in _LAYOUTS])
        self.codec_box, self._codec_hint = self._choice("Video", [text for _, text, _ in _CODECS])
        self.frames_box, self._frames_hint = self._choice("Frames", [text for _, text, _ in _FRAMES])
        form = QGridLayout()
        form.setContentsMargins(0, 0, 0, 0)
        form.setHorizontalSpacing(2 * GRID)
        form.setVerticalSpacing(GRID // 2)
        form.setColumnStretch(1, 1)
        place = row(self.folder_field, self._choose)
        place.setStretch(0, 1)
        form.addWidget(label("Folder"), 0, 0)
        form.addLayout(place, 0, 1)
        for at, (text, box, hint) in enumerate(
            (
                ("Layout", self.layout_box, self._layout_hint),
                ("Video", self.codec_box, self._codec_hint),
                ("Frames", self.frames_box, self._frames_hint),
            )
        ):
            form.setRowMinimumHeight(3 * at + 1, GRID)
            form.addWidget(label(text), 3 * at + 2, 0)
            form.addWidget(box, 3 * at + 2, 1)
            form.addWidget(hint, 3 * at + 3, 1)
        self._form = QWidget()
        self._form.setLayout(form)
        self._build_state()
        body = QWidget()
        head = row(
            label("Export data set", "section"), None, tool_button("Back to clips", "x", self.closed.emit)
        )
        layout = column(head, self._form, self._state, self._details, gap=2 * GRID)
        layout.addStretch(1)
        body.setLayout(layout)
        self.setLayout(column(scrolled(readable(body, _WIDTH), name="Export data set")))
        escape = QShortcut(QKeySequence("Esc"), self)
        escape.setContext(Qt.ShortcutContext.WidgetWithChildrenShortcut)
        escape.activated.connect(self.closed)

    def _build_state(self) -> None:
        """One card: what will be written, how far it is, or what came of it."""
        self._icon = IconLabel("info", "accent", 20)
        self._headline = label("", "strong", wrap=True)
        self._line = label("", "muted", wrap=True)
        self.bar = QProgressBar()
        self.bar.setAccessibleName("Export")
        self.bar.setTextVisible(False)
        self.bar.setRange(0, 1000)
        self._file = ElidedLabel("", "muted")
        head = row(self._icon, self._headline)
        head.setStretch(1, 1)
        self._open_folder = button("Open folder", self._show_folder, icon_name="folder-open")
        self._again = button("Export again…", self._show_form)
        self._cancel = button("Cancel export", self._bench.exporter.cancel, icon_name="x")
        buttons = row(self._cancel, self._open_folder, self._again, None)
        self._state = card(head, self._line, self.bar, self._file, buttons)
        self._list = QVBoxLayout()
        self._list.setSpacing(GRID)
        self._list.setContentsMargins(0, 0, 0, 0)
        content = QWidget()
        content.setLayout(self._list)
        self._details = Expander("Left out and notes", content, is_open=True)

    def _choice(self, name: str, texts: Sequence[str]) -> tuple[QComboBox, QWidget]:
        box = QComboBox()
        box.setAccessibleName(name)
        box.addItems(list(texts))
        box.currentIndexChanged.connect(lambda _: self._on_chosen())
        return box, label("", "muted", wrap=True)

    def _restore(self) -> None:
        values = self._bench.settings.values
        for name, box, choices in (
            ("layout", self.layout_box, _LAYOUTS),
            ("codec", self.codec_box, _CODECS),
            ("frames", self.frames_box, _FRAMES),
        ):
            wanted = values.get(f"{_KEY}.{name}")
            at = next((at for at, choice in enumerate(choices) if choice[0] == wanted), 0)
            box.setCurrentIndex(at)
        self.folder_field.setText(values.get(self._folder_key, ""))
        if not self._bench.exporter.is_busy:
            self._show_form()

    def _remember(self) -> None:
        for name in ("layout", "codec", "frames"):
            self._bench.remember_value(f"{_KEY}.{name}", getattr(self.options, name))
        self._bench.remember_value(self._folder_key, self.folder_field.text().strip())

    @property
    def _folder_key(self) -> str:
        return f"{_KEY}.folder {self._bench.session.store.folder}"

    def _usual_folder(self) -> Path:
        """One for each layout, so that exports for several trainers stand side by side."""
        return self._bench.session.store.folder / "exports" / self.options.layout

    def _choose_folder(self) -> None:
        name = QFileDialog.getExistingDirectory(self, "Folder for the export", str(self.folder.parent))
        if name:
            self.folder_field.setText(name)
            self._on_chosen()

    def _on_chosen(self) -> None:
        options = self.options
        for hint, choices, chosen in (
            (self._layout_hint, _LAYOUTS, options.layout),
            (self._codec_hint, _CODECS, options.codec),
            (self._frames_hint, _FRAMES, options.frames),
        ):
            hint.setText(next(words for name, _, words in choices if name == chosen))  # type: ignore[attr-defined]
        self.folder_field.setPlaceholderText(str(self._usual_folder()))
        self._renew()

    def _renew(self) -> None:
        """Forecast anew, a moment after the last change."""
        if self.isVisible() and self._is_form and not self._bench.exporter.is_busy:
            self._let_start(can_start=False)
            self._timer.start()

    def _on_clips_looked_at(self, waiting: int) -> None:
        if waiting != self._waiting:
            self._waiting = waiting
            self._renew()

    def _ask_forecast(self) -> None:
        bench = self._bench
        if not bench.session.is_open or not self._is_form or bench.exporter.is_busy:
            return
        if bench.library.waiting:
            self._say("info", "Looking at the clips", "The export can start when all of them are known.")
            return
        bench.exporter.forecast(self.options, self.folder)

    def _on_forecast(self, forecast: "ExportForecast") -> None:
        if not self._is_form or self._bench.exporter.is_busy:
            return
        self._forecast = forecast
        words = forecast_words(forecast)
        self._say(words.icon, words.headline, words.line, words.tone)
        self._show_details([*skipped_words(forecast.plan.skipped), *forecast.plan.notes])
        self._let_start(can_start=words.can_start)

    def _on_forecast_failed(self, error: Exception) -> None:
        message, hint = error_texts(error)
        self._say("x-circle", message, hint, "bad")

    def _on_started(self) -> None:
        self._is_form = False
        self._report = None
        self._form.setEnabled(False)
        self._say("export", "Exporting", "The rest of the window can be used meanwhile.")
        self.bar.setValue(0)
        self.bar.show()
        self._file.show()
        self._file.set_text("")
        self._show_details([])
        self._show_buttons(self._cancel)
        self._cancel.setEnabled(True)

    def _on_progressed(self, progress: "ExportProgress") -> None:
        self.bar.setValue(round(1000 * progress.share))
        self._headline.setText(
            f"Exporting {min(progress.done + 1, progress.count)} of {count(progress.count, 'file')}"
        )
        self.busy_changed.emit(f"{self._headline.text()}.")
        if progress.name:
            self._file.set_text(f"{progress.name}: {progress.frames} of {progress.frame_count} frames")

    def _on_exported(self, report: "ExportReport") -> None:
        self._report = report
        words = report_words(report)
        self._end(words.icon, words.headline, words.line, words.tone)
        self._show_details([*skipped_words(report.skipped), *words.more, *report.notes])
        self._show_buttons(self._open_folder, self._again)

    def _on_failed(self, error: Exception) -> None:
        message, hint = error_texts(error)
        is_cancelled = isinstance(error, ExportCancelledError)
        self._end(
            "stop-circle" if is_cancelled else "x-circle", message, hint, "muted" if is_cancelled else "bad"
        )
        self._show_buttons(self._again)

    def _end(self, icon: str, headline: str, line: str, tone: str) -> None:
        self.bar.hide()
        self._file.hide()
        self._say(icon, headline, line, tone)
        self.busy_changed.emit("")

    def _on_project_opened(self) -> None:
        """What is exported, and where, belonged to the project that was open."""
        self._bench.exporter.cancel()
        if self._bench.session.is_open:
            self._restore()
        self.closed.emit()

    def _show_form(self) -> None:
        """Ready for choices."""
        self._is_form = True
        self._form.setEnabled(True)
        self.bar.hide()
        self._file.hide()
        self._show_details([])
        self._say("info", "Working out what will be written", "")
        self._show_buttons()
        self._let_start(can_start=False)
        self._on_chosen()

    def _say(self, icon: str, headline: str, line: str, tone: str = "accent") -> None:
        self._icon.show_icon(icon, tone)  # type: ignore[arg-type]
        self._headline.setText(headline)
        self._line.setText(line)
        self._line.setVisible(bool(line))
        set_role(self._line, "bad" if tone == "bad" else "muted")

    def _show_details(self, sentences: Sequence[str]) -> None:
        while self._list.count():
            item = self._list.takeAt(0)
            widget = item.widget() if item is not None else None
            if widget is not None:
                widget.hide()
                widget.deleteLater()
        for sentence in sentences:
            self._list.addWidget(label(sentence, wrap=True))
        self._details.setVisible(bool(sentences))

    def _show_buttons(self, *shown: QWidget) -> None:
        for one in (self._open_folder, self._again, self._cancel):
            one.setVisible(one in shown)
        if not self._is_form and self.isVisible():
            # The fields are out of use: the keys go to the first button.
            shown[0].setFocus()
        self.primary_changed.emit()

    def _let_start(self, *, can_start: bool) -> None:
        self._can_start = can_start
        self.primary_changed.emit()

    def _show_folder(self) -> None:
        if self._report is not None:
            show_in_files(self._report.folder)
