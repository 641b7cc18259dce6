"""The previews of a project, one editor a row: a prompt that always has a first frame beside it."""

from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import msgspec
from PySide6.QtCore import QSize, Qt, Signal
from PySide6.QtGui import QImage, QImageReader, QPixmap
from PySide6.QtWidgets import (
    QCheckBox,
    QComboBox,
    QFileDialog,
    QGridLayout,
    QHBoxLayout,
    QLabel,
    QLineEdit,
    QVBoxLayout,
    QWidget,
)

from trainer.protocol.job import SampleRow
from wan_studio.bridge.background import run_in_background
from wan_studio.bridge.workbench import Workbench
from wan_studio.domain.project import Project
from wan_studio.domain.sample_rows import FRAMES_RULE, SIZE_RULE, new_row, next_clip, with_row_value
from wan_studio.errors import AppError
from wan_studio.undo.edits import edit_project
from wan_studio.views.theme import GRID
from wan_studio.views.training.editors import Editor, make_editor
from wan_studio.views.training.specs import NUMBER, WHOLE, WHOLE_OR_ZERO, FieldKind, FieldSpec
from wan_studio.views.widgets import Expander, button, label, row, tool_button

_PICTURE = QSize(128, 72)
_PICTURE_FILES = (
    "Pictures and videos (*.png *.jpg *.jpeg *.webp *.bmp *.mp4 *.mov *.mkv *.webm);;All files (*)"
)


def _spec(
    field: str, text: str, kind: FieldKind, rule: str, *, optional: str = "", step: int = 1
) -> FieldSpec:
    return FieldSpec(
        name=f"sample.{field}", label=text, kind=kind, help="", rule=rule, optional=optional, step=step
    )


SIZES = (
    _spec("width", "Width", "integer", SIZE_RULE, step=16),
    _spec("height", "Height", "integer", SIZE_RULE, step=16),
    _spec("num_frames", "Num frames", "integer", FRAMES_RULE, step=4),
    _spec("seed", "Seed", "integer", WHOLE_OR_ZERO),
)
OWN = (
    _spec(
        "steps", "Sample steps", "integer", f"{WHOLE} Empty takes the common value.", optional="common value"
    ),
    _spec("guidance_high", "Guidance, high noise", "number", NUMBER, optional="common value"),
    _spec("guidance_low", "Guidance, low noise", "number", NUMBER, optional="common value"),
)


class SampleRowEditor(QWidget):
    """One preview.

    Signals:
        changed: The user changed it. args: the new SampleRow, name of the field
        problem_changed: What is wrong in it is something else.
        remove_wanted: The user takes it out.
    """

    changed = Signal(object, str)
    problem_changed = Signal()
    remove_wanted = Signal()

    def __init__(self, bench: Workbench, number: int) -> None:
        super().__init__()
        self._bench = bench
        self._number = number
        self._row: SampleRow | None = None
        self._problems: dict[str, str] = {}
        self._shown_image = ""
        self.editors: dict[str, Editor] = {}
        self._build()

    @property
    def problem(self) -> str:
        """What is wrong with what stands in its fields; empty when nothing is."""
        return next(iter(self._problems.values()), "")

    def show_row(self, sample: SampleRow, project: Project) -> None:
        """Show this preview."""
        if sample != self._row:
            # Changed from elsewhere: what stood in the fields is gone.
            for field in tuple(self._problems):
                self._show_problem(field, "")
        self._row = sample
        if self.prompt.text() != sample.prompt and self.prompt.text().strip() != sample.prompt:
            self.prompt.setText(sample.prompt)
            self.prompt.setCursorPosition(0)
        self._show_sources(sample, project)
        values = {"width": sample.size.width, "height": sample.size.height}
        for field, editor in self.editors.items():
            if field not in self._problems:
                editor.fill(values.get(field, getattr(sample, field, None)))
        has_own = sample.negative_prompt is not None
        self._has_negative.setChecked(has_own)
        self._negative.setEnabled(has_own)
        if self._negative.text().strip() != (sample.negative_prompt or ""):
            self._negative.setText(sample.negative_prompt or "")
        self._show_picture(sample, project)

    def take_picture(self, path: Path) -> None:
        """Start from the first frame of this file."""
        self._take("image", str(path.absolute()))

    def _build(self) -> None:
        self._picture = QLabel()
        self._picture.setFixedSize(_PICTURE)
        self._picture.setAlignment(Qt.AlignmentFlag.AlignLeft | Qt.AlignmentFlag.AlignTop)
        self.prompt = QLineEdit()
        self.prompt.setPlaceholderText("What happens after the first frame, e.g. orbit around the [trigger]")
        self.prompt.setAccessibleName(f"Prompt of preview {self._number}")
        self.prompt.textEdited.connect(lambda text: self._take("prompt", text.strip()))
        self.source = QComboBox()
        self.source.setAccessibleName(f"First frame of preview {self._number}")
        self.source.setSizeAdjustPolicy(QComboBox.SizeAdjustPolicy.AdjustToMinimumContentsLengthWithIcon)
        self.source.setMinimumContentsLength(24)
        self.source.activated.connect(self._on_source_chosen)
        choose = button("Choose file…", self._on_choose)
        choose.setAccessibleName(f"Choose a file for preview {self._number}")
        remove = tool_button(f"Remove preview {self._number}", "trash", self.remove_wanted.emit)
        self._problem_text = label("", "bad", wrap=True)
        self._problem_text.hide()
        first = row(self.prompt, remove)
        second = row(self.source, choose)
        second.setStretch(0, 1)
        sizes = self._grid(SIZES)
        fields = QVBoxLayout()
        fields.setSpacing(GRID)
        for part in (first, second, sizes):
            fields.addLayout(part)
        fields.addWidget(self._problem_text)
        fields.addWidget(Expander("Own settings for this preview", self._build_own()))
        layout = QHBoxLayout(self)
        layout.setContentsMargins(0, 0, 0, 0)
        layout.setSpacing(2 * GRID)
        layout.addWidget(self._picture, 0, Qt.AlignmentFlag.AlignTop)
        layout.addLayout(fields, 1)

    def _build_own(self) -> QWidget:
        self._has_negative = QCheckBox("Own negative prompt")
        self._has_negative.clicked.connect(
            lambda is_on: self._take("negative_prompt", self._negative.text().strip() if is_on else None)
        )
        self._negative = QLineEdit()
        self._negative.setAccessibleName(f"Negative prompt of preview {self._number}")
        self._negative.textEdited.connect(lambda text: self._take("negative_prompt", text.strip()))
        content = QWidget()
        layout = QVBoxLayout(content)
        layout.setContentsMargins(0, 0, 0, 0)
        layout.setSpacing(GRID)
        layout.addLayout(self._grid(OWN))
        layout.addLayout(row(self._has_negative, self._negative))
        return content

    def _grid(self, specs: tuple[FieldSpec, ...]) -> QGridLayout:
        """Small fields beside each other, each under its name."""
        grid = QGridLayout()
        grid.setHorizontalSpacing(2 * GRID)
        grid.setVerticalSpacing(2)
        for at, spec in enumerate(specs):
            editor = make_editor(spec)
            editor.field.setAccessibleName(f"{spec.label} of preview {self._number}")
            editor.entered.connect(partial(self._take, spec.field))
            editor.misread.connect(partial(self._show_problem, spec.field, f"{spec.label}: {spec.rule}"))
            self.editors[spec.field] = editor
            grid.addWidget(label(spec.label, "muted"), 0, at)
            grid.addWidget(editor, 1, at, Qt.AlignmentFlag.AlignLeft)
        grid.setColumnStretch(len(specs), 1)
        return grid

    def _show_sources(self, sample: SampleRow, project: Project) -> None:
        entries: list[tuple[str, int]] = [
            (f"First frame of {clip.name}", at)
            for at, clip in enumerate(project.clips)
            if not clip.rejected or (at == sample.clip and not sample.image)
        ]
        if sample.image:
            entries.insert(0, (f"Picture {Path(sample.image).name}", -1))
        if entries != [
            (self.source.itemText(i), self.source.itemData(i)) for i in range(self.source.count())
        ]:
            self.source.clear()
            for text, at in entries:
                self.source.addItem(text, at)
        wanted = -1 if sample.image else sample.clip
        self.source.setCurrentIndex(next((i for i, (_, at) in enumerate(entries) if at == wanted), 0))
        self.source.setToolTip(sample.image)

    def _show_picture(self, sample: SampleRow, project: Project) -> None:
        if not sample.image:
            clip_id = project.clips[sample.clip].id if sample.clip < len(project.clips) else ""
            self._shown_image = ""
            self._set_picture(self._bench.library.poster_of(clip_id))
        elif sample.image != self._shown_image:
            path = self._shown_image = sample.image
            self._set_picture(None)

            def on_done(image: QImage) -> None:
                if path == self._shown_image and not image.isNull():
                    self._set_picture(QPixmap.fromImage(image))

            run_in_background(lambda: _small_picture(path), on_done, lambda _: None)

    def _set_picture(self, picture: QPixmap | None) -> None:
        if picture is None:
            self._picture.clear()
            return
        self._picture.setPixmap(
            picture.scaled(
                _PICTURE, Qt.AspectRatioMode.KeepAspectRatio, Qt.TransformationMode.SmoothTransformation
            )
        )

    def _on_source_chosen(self, at: int) -> None:
        index = self.source.itemData(at)
        if self._row is not None and isinstance(index, int) and index >= 0:
            self._emit(msgspec.structs.replace(self._row, image="", clip=index), "clip")

    def _on_choose(self) -> None:
        start = self._row.image if self._row is not None else ""
        chosen, _ = QFileDialog.getOpenFileName(self, "First frame", start, _PICTURE_FILES)
        if chosen:
            self.take_picture(Path(chosen))

    def _take(self, field: str, value: Any) -> None:
        if self._row is None:
            return
        try:
            changed = with_row_value(self._row, field, value)
        except AppError:
            spec = next(spec for spec in (*SIZES, *OWN) if spec.field == field)
            self._show_problem(field, f"{spec.label}: {spec.rule}")
            return
        self._show_problem(field, "")
        self._emit(changed, field)

    def _emit(self, changed: SampleRow, field: str) -> None:
        self._row = changed
        self.changed.emit(changed, field)

    def _show_problem(self, field: str, problem: str) -> None:
        self._problems.pop(field, None)
        if problem:
            self._problems[field] = f"{problem} The old value stays until then."
        if field in self.editors:
            self.editors[field].set_invalid(is_invalid=bool(problem))
        self._problem_text.setText(self.problem)
        self._problem_text.setVisible(bool(self._problems))
        self.problem_changed.emit()


class SampleRowsEditor(QWidget):
    """All previews of the open project; every change is an undoable edit."""

    def __init__(self, bench: Workbench, on_problem_changed: Callable[[], object]) -> None:
        super().__init__()
        self._bench = bench
        self._on_problem_changed = on_problem_changed
        self.rows: list[SampleRowEditor] = []
        self._rows_layout = QVBoxLayout()
        self._rows_layout.setContentsMargins(0, 0, 0, 0)
        self._rows_layout.setSpacing(3 * GRID)
        self.add_button = button("Add preview", self.add_row, icon_name="plus")
        layout = QVBoxLayout(self)
        layout.setContentsMargins(0, 0, 0, 0)
        layout.setSpacing(2 * GRID)
        layout.addLayout(self._rows_layout)
        layout.addLayout(row(self.add_button, None))
        # Only pictures come from the library; a change elsewhere comes with the project.
        bench.library.clips_changed.connect(lambda _: self.show_project())

    @property
    def problem(self) -> str:
        """What is wrong in any row; empty when nothing is."""
        return next((editor.problem for editor in self.rows if editor.problem), "")

    def show_project(self) -> None:
        """Show the previews of the open project."""
        session = self._bench.session
        if not session.is_open or not self.isVisibleTo(self.window()):
            return
        project = session.project
        rows = project.settings.sample.rows
        while len(self.rows) > len(rows):
            gone = self.rows.pop()
            self._rows_layout.removeWidget(gone)
            gone.hide()
            gone.deleteLater()
        while len(self.rows) < len(rows):
            self._append_editor(len(self.rows))
        for editor, sample in zip(self.rows, rows, strict=True):
            editor.show_row(sample, project)
        can_add = next_clip(project, rows) is not None
        self.add_button.setEnabled(can_add)
        self.add_button.setToolTip("" if can_add else "Add clips first: a preview starts from a picture.")

    def add_row(self) -> None:
        """Add a preview that goes on from the next clip's first frame."""
        project = self._bench.session.project
        rows = project.settings.sample.rows
        at = next_clip(project, rows)
        if at is None:
            return
        library, clip_id = self._bench.library, project.clips[at].id
        made = new_row(project, at, library.facts_of(clip_id).caption or "", library.source_of(clip_id))
        self._edit("Add preview", (*rows, made))

    def _append_editor(self, at: int) -> None:
        editor = SampleRowEditor(self._bench, at + 1)
        editor.changed.connect(lambda sample, field: self._replace(at, sample, field))
        editor.problem_changed.connect(self._on_problem_changed)
        editor.remove_wanted.connect(lambda: self._remove(at))
        self.rows.append(editor)
        self._rows_layout.addWidget(editor)

    def _replace(self, at: int, sample: SampleRow, field: str) -> None:
        rows = list(self._bench.session.project.settings.sample.rows)
        rows[at] = sample
        self._edit(f"Change preview {at + 1}", tuple(rows), f"sample.rows.{at}.{field}")

    def _remove(self, at: int) -> None:
        rows = self._bench.session.project.settings.sample.rows
        self._edit(f"Remove preview {at + 1}", rows[:at] + rows[at + 1 :])

    def _edit(self, text: str, rows: tuple[SampleRow, ...], merge_key: str = "") -> None:
        project = self._bench.session.project
        sample = msgspec.structs.replace(project.settings.sample, rows=rows)
        settings = msgspec.structs.replace(project.settings, sample=sample)
        edit_project(
            self._bench.session, text, msgspec.structs.replace(project, settings=settings), merge_key
        )
        self.show_project()


def _small_picture(path: str) -> QImage:
    """The picture, small; on a pool thread."""
    reader = QImageReader(path)
    reader.setAutoTransform(True)
    image = reader.read()
    return image if image.isNull() else image.scaled(_PICTURE * 2, Qt.AspectRatioMode.KeepAspectRatio)
