"""Choose the clips: drop them, see them, mend or reject those with problems."""

from collections.abc import Callable
from pathlib import Path

import msgspec
from PySide6.QtCore import QItemSelectionModel, QSize, Qt
from PySide6.QtGui import QDragEnterEvent, QDragLeaveEvent, QDropEvent
from PySide6.QtWidgets import (
    QAbstractItemView,
    QFileDialog,
    QFrame,
    QHBoxLayout,
    QListView,
    QStackedWidget,
    QVBoxLayout,
    QWidget,
)

from wan_studio.bridge.workbench import Workbench
from wan_studio.domain.buckets import trained_size
from wan_studio.domain.checks import Level, Step
from wan_studio.domain.clip import SourceVideo
from wan_studio.domain.frame_sampling import sample_frames
from wan_studio.domain.project import ProjectClip
from wan_studio.models.clip_list_model import ClipListModel, ClipRole
from wan_studio.undo.edits import edit_project
from wan_studio.views.clip_list import ClipListView
from wan_studio.views.clips.delegate import LEVEL_ICONS, LEVEL_TONES, TILE, ClipDelegate
from wan_studio.views.page import Page, Primary
from wan_studio.views.theme import GRID
from wan_studio.views.widgets import (
    ElidedLabel,
    EmptyState,
    IconLabel,
    button,
    label,
    restyle,
    row,
    show_in_files,
)
from wan_studio.views.wording import count

_PANEL_WIDTH = 304


class DropArea(QFrame):
    """A dashed field that takes files; the window takes them everywhere, this one says so."""

    def __init__(self, content: QWidget) -> None:
        super().__init__()
        self.setObjectName("drop")
        layout = QVBoxLayout(self)
        layout.addWidget(content)


class ClipDetails(QFrame):
    """What is known of the chosen clip, and what can be done with it."""

    def __init__(self, page: "ClipsPage") -> None:
        super().__init__()
        self.setObjectName("card")
        self.setFixedWidth(_PANEL_WIDTH)
        self._name = ElidedLabel("", "section")
        self._facts = label("", "muted", wrap=True)
        self._uses = label("", wrap=True)
        self._problems = QVBoxLayout()
        self._problems.setSpacing(GRID)
        self._reject = button("Reject", page.reject_selected, icon_name="prohibit")
        self._reject.setToolTip("Leave it out of training, but keep it here (X)")
        trim = button("Trim", lambda: page.step_wanted.emit(Step.TRIM), icon_name="scissors")
        caption = button(
            "Caption", lambda: page.step_wanted.emit(Step.CAPTIONS), icon_name="chat-centered-text"
        )
        remove = button("Remove", page.remove_selected, icon_name="trash")
        remove.setToolTip("Take it out of the project; the file stays where it is (Delete)")
        show = button("Show in folder", page.show_selected, role="link")
        layout = QVBoxLayout(self)
        layout.setContentsMargins(2 * GRID, 2 * GRID, 2 * GRID, 2 * GRID)
        layout.setSpacing(GRID)
        for part in (self._name, self._facts, self._uses):
            layout.addWidget(part)
        layout.addLayout(self._problems)
        layout.addStretch(1)
        layout.addWidget(show)
        layout.addLayout(row(trim, caption, None))
        layout.addLayout(row(self._reject, remove, None))

    def show_clip(self, page: "ClipsPage", clip: ProjectClip | None) -> None:
        """Show this clip."""
        self.setVisible(clip is not None)
        if clip is None:
            return
        facts = page.bench.library.facts_of(clip.id)
        self._name.set_text(Path(clip.source).name)
        self._facts.setText(_describe(facts.source) if facts.source else "")
        self._uses.setText(_usage(page, clip, facts.source) if facts.source and not clip.rejected else "")
        text = "Restore" if clip.rejected else "Reject"
        self._reject.setText(text)
        self._reject.setAccessibleName(text)
        while self._problems.count():
            item = self._problems.takeAt(0)
            widget = item.widget() if item is not None else None
            if widget is not None:
                widget.deleteLater()
        for problem in page.problems_of(clip.id):
            line = QWidget()
            mark = IconLabel(LEVEL_ICONS[problem.level], LEVEL_TONES[problem.level])
            inner = row(mark, label(problem.text, wrap=True))
            inner.setStretch(1, 1)
            inner.setAlignment(mark, Qt.AlignmentFlag.AlignTop)
            line.setLayout(inner)
            self._problems.addWidget(line)


class ClipsPage(Page):
    """The grid of clips with the chosen one's details beside it."""

    step = Step.CLIPS
    title = "Clips"
    subtitle = "Files are not copied or changed. Drop clips or folders anywhere in this window."

    def __init__(self, bench: Workbench) -> None:
        super().__init__(bench)
        self.setAcceptDrops(True)
        self._model = ClipListModel(bench.session, bench.library, self)
        self._build()
        self._model.modelReset.connect(self._renew)
        self._model.dataChanged.connect(lambda *_: self._renew())
        bench.session.clip_selected.connect(self._on_clip_selected)
        bench.clips_imported.connect(self._on_clips_imported)
        bench.busy_changed.connect(self._on_busy_changed)
        self._renew()

    def handlers(self) -> dict[str, Callable[[], object]]:
        """What the keys do here."""
        return {
            "clip.reject": self.reject_selected,
            "clip.remove": self.remove_selected,
            "clip.next": lambda: self.session.select_neighbour(1),
            "clip.previous": lambda: self.session.select_neighbour(-1),
        }

    def primary(self) -> Primary | None:
        """Add clips first, then on to trimming."""
        if not self.session.is_open or not self.session.project.clips:
            return Primary("Add folder", icon_name="folder-plus")
        return Primary("Continue to trim", icon_name="arrow-right")

    def run_primary(self) -> None:
        """Add clips first, then on to trimming."""
        if self.session.project.clips:
            self.step_wanted.emit(Step.TRIM)
        else:
            self.add_folder()

    def enter(self) -> None:
        """Files may have changed since."""
        self.bench.library.look_again()
        self._grid.setFocus()

    def add_files(self) -> None:
        """Ask for files and add them."""
        names, _ = QFileDialog.getOpenFileNames(self, "Add clips")
        if names:
            self.bench.import_clips([Path(name) for name in names])

    def add_folder(self) -> None:
        """Ask for a folder and add what is in it."""
        name = QFileDialog.getExistingDirectory(self, "Add a folder of clips")
        if name:
            self.bench.import_clips([Path(name)])

    def selected_ids(self) -> list[str]:
        """The chosen clips."""
        return [index.data(ClipRole.ID) for index in self._grid.selectionModel().selectedIndexes()]

    def problems_of(self, clip_id: str) -> tuple:
        """What stands in a clip's way."""
        return self._model.index(self._model.row_of(clip_id)).data(ClipRole.PROBLEMS) or ()

    def reject_selected(self) -> None:
        """Reject the chosen clips, or take them back when the first one is rejected."""
        ids = set(self.selected_ids())
        project = self.session.project
        chosen = [clip for clip in project.clips if clip.id in ids]
        if not chosen:
            return
        rejected = not chosen[0].rejected
        clips = tuple(
            msgspec.structs.replace(clip, rejected=rejected) if clip.id in ids else clip
            for clip in project.clips
        )
        word = "Reject" if rejected else "Restore"
        edit_project(
            self.session,
            f"{word} {count(len(chosen), 'clip')}",
            msgspec.structs.replace(project, clips=clips),
        )

    def remove_selected(self) -> None:
        """Take the chosen clips out of the project; the files stay."""
        ids = set(self.selected_ids())
        project = self.session.project
        if ids:
            edit_project(self.session, f"Remove {count(len(ids), 'clip')}", project.without_clips(ids))

    def show_selected(self) -> None:
        """Show the chosen clip's folder."""
        clip = self.session.clip
        if clip is not None:
            show_in_files(Path(clip.source))

    def dragEnterEvent(self, event: QDragEnterEvent) -> None:
        """Show that files may be dropped."""
        if event.mimeData().hasUrls():
            event.acceptProposedAction()
            self._show_drop(is_over=True)

    def dragLeaveEvent(self, event: QDragLeaveEvent) -> None:
        """They went away again."""
        del event
        self._show_drop(is_over=False)

    def dropEvent(self, event: QDropEvent) -> None:
        """Take the files."""
        self._show_drop(is_over=False)
        paths = [Path(url.toLocalFile()) for url in event.mimeData().urls() if url.isLocalFile()]
        if paths:
            self.bench.import_clips(paths)

    def _build(self) -> None:
        self.header_tools.addWidget(button("Add clips…", self.add_files, icon_name="plus"))
        self.header_tools.addWidget(button("Add folder…", self.add_folder, icon_name="folder-plus"))
        self._grid = ClipListView()
        self._grid.setModel(self._model)
        self._grid.setItemDelegate(ClipDelegate(self._grid))
        self._grid.setViewMode(QListView.ViewMode.IconMode)
        self._grid.setResizeMode(QListView.ResizeMode.Adjust)
        self._grid.setMovement(QListView.Movement.Static)
        self._grid.setUniformItemSizes(True)
        self._grid.setGridSize(QSize(TILE.width() + GRID // 2, TILE.height() + GRID // 2))
        self._grid.setSelectionMode(QAbstractItemView.SelectionMode.ExtendedSelection)
        self._grid.setAccessibleName("Clips")
        self._grid.setMouseTracking(True)
        self._grid.doubleClicked.connect(lambda _: self.step_wanted.emit(Step.TRIM))
        self._grid.activated.connect(lambda _: self.step_wanted.emit(Step.TRIM))
        self._grid.selectionModel().currentChanged.connect(self._on_current_changed)
        self._details = ClipDetails(self)
        empty = EmptyState(
            "film-strip",
            "Drop a folder of clips",
            "10 to 30 clips of 3 to 8 seconds are a good start. Captions are the .txt files beside them. "
            "Files are not copied or changed.",
            button("Add folder…", self.add_folder, icon_name="folder-plus"),
            button("Add clips…", self.add_files, icon_name="plus"),
        )
        self._drop = DropArea(empty)
        with_clips = QWidget()
        layout = QHBoxLayout(with_clips)
        layout.setContentsMargins(0, 0, 0, 0)
        layout.setSpacing(2 * GRID)
        layout.addWidget(self._grid, 1)
        layout.addWidget(self._details)
        self._stack = QStackedWidget()
        self._stack.addWidget(self._drop)
        self._stack.addWidget(with_clips)
        self._health = label("", "muted")
        self.add(self._stack, 1)
        self.add(self._health)

    def _renew(self) -> None:
        has_clips = self._model.rowCount() > 0
        self._stack.setCurrentIndex(1 if has_clips else 0)
        self._details.show_clip(self, self.session.clip if self.session.is_open else None)
        self._health.setVisible(has_clips)
        self._health.setText(self._health_text() if has_clips else "")
        if has_clips:
            self._on_clip_selected(self.session.clip_id)
        self.primary_changed.emit()

    def _health_text(self) -> str:
        clips = self.session.project.clips
        used = [clip for clip in clips if not clip.rejected]
        problems = {clip.id: self.problems_of(clip.id) for clip in used}
        blocked = sum(any(p.level is Level.BLOCKER for p in found) for found in problems.values())
        parts = [count(len(clips), "clip"), f"{len(used) - blocked} usable"]
        seconds = sum(
            source.duration_seconds
            for clip in used
            if (source := self.bench.library.source_of(clip.id)) is not None
        )
        parts.append(f"{seconds:.0f} s in all")
        uncaptioned = sum(any(p.short == "No caption" for p in found) for found in problems.values())
        if uncaptioned:
            parts.append(f"{uncaptioned} without caption")
        if len(clips) > len(used):
            parts.append(f"{len(clips) - len(used)} rejected")
        waiting = self.bench.library.waiting
        if waiting:
            parts.append(f"looking at {waiting} more")
        return "   ·   ".join(parts)

    def _on_current_changed(self) -> None:
        clip_id = self._grid.currentIndex().data(ClipRole.ID)
        if clip_id:
            self.session.select_clip(clip_id)
            self._details.show_clip(self, self.session.clip)

    def _on_clip_selected(self, clip_id: str) -> None:
        at = self._model.row_of(clip_id)
        if at >= 0 and self._grid.currentIndex().row() != at:
            self._grid.selectionModel().setCurrentIndex(
                self._model.index(at), QItemSelectionModel.SelectionFlag.ClearAndSelect
            )
        self._details.show_clip(self, self.session.clip if self.session.is_open else None)

    def _on_clips_imported(self, clips: tuple[ProjectClip, ...]) -> None:
        project = self.session.project
        known = {clip.source for clip in project.clips}
        new = tuple(clip for clip in clips if clip.source not in known)
        if new:
            changed = msgspec.structs.replace(project, clips=(*project.clips, *new))
            edit_project(self.session, f"Add {count(len(new), 'clip')}", changed)
            self.session.select_clip(new[0].id)
        else:
            self.set_subtitle("All of those clips are in the project already.")

    def _on_busy_changed(self, what: str) -> None:
        self.set_subtitle(what or self.subtitle)

    def _show_drop(self, *, is_over: bool) -> None:
        self._drop.setProperty("over", is_over)
        restyle(self._drop)


def _describe(source: SourceVideo) -> str:
    if source.is_image:
        return f"{source.width} × {source.height}, still image"
    rate = f"{source.frames_per_second:.4g} fps" + (", variable" if source.has_variable_rate else "")
    sound = ", with sound" if source.has_sound else ""
    return (
        f"{source.width} × {source.height}, {rate}\n"
        f"{source.duration_seconds:.2f} s, {source.frame_count} frames\n{source.codec.upper()}{sound}"
    )


def _usage(page: ClipsPage, clip: ProjectClip, source: SourceVideo) -> str:
    datasets = page.session.project.settings.datasets
    trim = clip.trim or source.whole_range
    if trim.end_frame > source.frame_count:
        return ""
    sample = sample_frames(source, trim, datasets.num_frames, datasets.sampling)
    crop = clip.crop or source.whole_picture
    sizes = [trained_size(crop, source.pixel_aspect, resolution) for resolution in datasets.resolutions]
    buckets = ", ".join(f"{size.width} × {size.height}" for size in sizes)
    return f"Trains {count(len(sample.frames), 'frame')} at {buckets}."


def make_page(bench: Workbench) -> Page:
    """The page."""
    return ClipsPage(bench)
