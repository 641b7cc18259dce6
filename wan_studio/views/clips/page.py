"""Choose the clips: drop them, see them, find, mend or reject those with problems."""

from collections.abc import Callable
from pathlib import Path

import msgspec
from PySide6.QtCore import QTimer
from PySide6.QtGui import QDragEnterEvent, QDragLeaveEvent, QDropEvent, QGuiApplication
from PySide6.QtWidgets import QFileDialog, QHBoxLayout, QStackedWidget, QVBoxLayout, QWidget

from wan_studio.bridge.workbench import Workbench
from wan_studio.domain.bucket_histogram import BucketCount, bucket_histogram
from wan_studio.domain.checks import Step
from wan_studio.domain.clip_health import FindingKind, health_of
from wan_studio.domain.project import MAIN, ProjectClip
from wan_studio.models.clip_view_model import ClipViewModel, Column
from wan_studio.undo.edits import edit_project
from wan_studio.views.clips.browser import ClipBrowser
from wan_studio.views.clips.dataset_panel import DatasetPanel
from wan_studio.views.clips.details import ClipDetails, DetailActions
from wan_studio.views.clips.drop_area import DropArea
from wan_studio.views.clips.edits import ClipEdits
from wan_studio.views.clips.health_bar import HealthBar
from wan_studio.views.clips.notices import ClipNotices
from wan_studio.views.clips.remedies import ClipRemedies
from wan_studio.views.clips.toolbar import ClipToolbar
from wan_studio.views.page import Page, Primary
from wan_studio.views.theme import GRID
from wan_studio.views.widgets import button, show_in_files
from wan_studio.views.wording import count

_HEALTH_AFTER_MILLISECONDS = 60


class ClipsPage(Page):
    """The clips as grid or table, with the chosen ones' details beside them and their health below."""

    step = Step.CLIPS
    title = "Clips"
    subtitle = "Files are not copied or changed. Drop clips or folders anywhere in this window."

    def __init__(self, bench: Workbench) -> None:
        super().__init__(bench)
        self.setAcceptDrops(True)
        self.edits = ClipEdits(bench.session, bench.library, bench.index)
        self.model = ClipViewModel(bench.session, bench.library, bench.index, self)
        self.remedies = ClipRemedies(bench, self.edits, self)
        self._finding: FindingKind | None = None
        self._health_timer = QTimer(self)
        self._health_timer.setSingleShot(True)
        self._health_timer.setInterval(_HEALTH_AFTER_MILLISECONDS)
        self._health_timer.timeout.connect(self._renew_health)
        self._build()
        self._connect()
        self._restore()
        self._on_project_changed()

    def handlers(self) -> dict[str, Callable[[], object]]:
        """What the keys do here."""
        edits, chosen = self.edits, self.browser.chosen_ids
        return {
            "clip.reject": self.reject_selected,
            "clip.rename": self._details.name.edit,
            "clip.remove": self.remove_selected,
            "clip.next": lambda: self.browser.go_on(1),
            "clip.previous": lambda: self.browser.go_on(-1),
            "clip.paste": self.paste,
            "clip.search": self.focus_search,
            "clip.attention": self.go_to_attention,
            "clip.select_all": self.browser.select_all,
            "clip.invert": self.browser.invert,
            "clip.table": lambda: self.show_view("grid" if self.browser.view == "table" else "table"),
            "clip.keep_best": lambda: edits.keep_best(list(self.bench.index.marks)),
            "clip.relink": self.remedies.relink,
            **{f"clip.rate_{stars}": lambda stars=stars: edits.rate(chosen(), stars) for stars in range(6)},
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
        self.bench.watch.look_now()
        self.bench.library.look_again()
        self.browser.take_focus()

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

    def reject_selected(self) -> None:
        """Reject the chosen clips, or take them back when the first one is rejected."""
        self.edits.reject(self.browser.chosen_ids())

    def remove_selected(self) -> None:
        """Take the chosen clips out of the project; the files stay."""
        self.edits.remove(self.browser.chosen_ids())

    def paste(self) -> None:
        """Add the files or folders that were copied in a file manager, or whose paths were copied."""
        mime = QGuiApplication.clipboard().mimeData()
        paths = [Path(url.toLocalFile()) for url in mime.urls() if url.isLocalFile()]
        lines = [line.strip().strip('"') for line in mime.text().splitlines()]
        paths = paths or [Path(line).expanduser() for line in lines if line]
        if paths:
            self.bench.import_clips(paths)

    def focus_search(self) -> None:
        """Go to the search."""
        self.toolbar.search.setFocus()
        self.toolbar.search.selectAll()

    def go_to_attention(self) -> None:
        """Go to the next clip with a problem."""
        ids, at = self.model.ids, self.model.row_of(self.session.clip_id)
        for clip_id in ids[at + 1 :] + ids[: at + 1]:
            if self.bench.index.problems_of(clip_id):
                self.session.select_clip(clip_id)
                return

    def show_view(self, name: str) -> None:
        """Show the grid or the table, and remember it."""
        self.browser.show_view(name)
        self.toolbar.show_view(name)
        self.bench.remember_value("clips.view", name)

    def show_query(self, query: str) -> None:
        """Search for this."""
        self.toolbar.show_query(query)

    def dragEnterEvent(self, event: QDragEnterEvent) -> None:
        """Show that files may be dropped."""
        if event.mimeData().hasUrls():
            event.acceptProposedAction()
            self._drop.show_drop(is_over=True)

    def dragLeaveEvent(self, event: QDragLeaveEvent) -> None:
        """They went away again."""
        del event
        self._drop.show_drop(is_over=False)

    def dropEvent(self, event: QDropEvent) -> None:
        """Take the files."""
        self._drop.show_drop(is_over=False)
        paths = [Path(url.toLocalFile()) for url in event.mimeData().urls() if url.isLocalFile()]
        if paths:
            self.bench.import_clips(paths)

    def _build(self) -> None:
        self.header_tools.addWidget(button("Add clips…", self.add_files, icon_name="plus"))
        self.header_tools.addWidget(button("Add folder…", self.add_folder, icon_name="folder-plus"))
        self.toolbar = ClipToolbar()
        self.browser = ClipBrowser(self.session, self.model)
        self.notices = ClipNotices()
        self.health = HealthBar()
        self._datasets = DatasetPanel(
            self.session, lambda name: self.edits.assign(self.browser.chosen_ids(), name)
        )
        self._details = ClipDetails(
            self.bench,
            DetailActions(
                go_to=self.step_wanted.emit,
                reject=self.reject_selected,
                remove=self.remove_selected,
                show_in_folder=self._show_in_folder,
                rate=lambda rating: self.edits.rate(self.browser.chosen_ids(), rating),
                assign=lambda name: self.edits.assign(self.browser.chosen_ids(), name),
                rename=lambda title: self.edits.rename(self.session.clip_id, title),
            ),
        )
        self._drop = DropArea(self.add_folder, self.add_files)
        with_clips = QWidget()
        layout = QVBoxLayout(with_clips)
        layout.setContentsMargins(0, 0, 0, 0)
        layout.setSpacing(GRID)
        beside = QHBoxLayout()
        beside.setSpacing(2 * GRID)
        beside.addWidget(self.browser, 1)
        beside.addWidget(self._details)
        for part in (self.toolbar, self._datasets, self.notices):
            layout.addWidget(part)
        layout.addLayout(beside, 1)
        layout.addWidget(self.health)
        self._stack = QStackedWidget()
        self._stack.addWidget(self._drop)
        self._stack.addWidget(with_clips)
        self.add(self._stack, 1)

    def _connect(self) -> None:
        bench, toolbar = self.bench, self.toolbar
        toolbar.query_changed.connect(self._on_query_changed)
        toolbar.left.connect(self.browser.take_focus)
        toolbar.dataset_changed.connect(self.model.set_dataset)
        toolbar.dataset_changed.connect(self._health_timer.start)
        toolbar.order_changed.connect(lambda by, down: self.model.set_order(by, is_descending=down))
        toolbar.view_changed.connect(self.show_view)
        toolbar.datasets_toggled.connect(self._datasets.setVisible)
        self.model.query_judged.connect(toolbar.show_problem)
        self.model.layoutChanged.connect(self._on_order_changed)
        self.model.modelReset.connect(self._on_rows_changed)
        self.browser.choice_changed.connect(self._renew_details)
        self.browser.opened.connect(lambda: self.step_wanted.emit(Step.TRIM))
        self.health.finding_chosen.connect(self._on_finding_chosen)
        self.health.buckets.bucket_chosen.connect(self._on_bucket_chosen)
        self.health.pause_wanted.connect(self._on_pause_wanted)
        self.notices.remedy_wanted.connect(lambda kind: self.remedies.do(kind, self.model.ids))
        self.notices.closed.connect(lambda: self._on_finding_chosen(None))
        self.notices.new_files_wanted.connect(bench.import_clips)
        self.notices.new_files_refused.connect(bench.watch.ignore_new)
        self.notices.relink_wanted.connect(self.remedies.relink)
        self.remedies.page_wanted.connect(self.step_wanted)
        self.remedies.busy_changed.connect(self._on_busy_changed)
        self.remedies.relinked.connect(self.notices.show_relinked)
        bench.watch.news_changed.connect(self.notices.show_news)
        bench.session.project_changed.connect(self._on_project_changed)
        bench.session.project_opened.connect(self._on_project_opened)
        bench.index.records_changed.connect(self._on_records_changed)
        bench.library.progress_changed.connect(self._on_progress)
        bench.library.looks_changed.connect(self._on_progress)
        bench.clips_imported.connect(self._on_clips_imported)
        bench.busy_changed.connect(self._on_busy_changed)

    def _restore(self) -> None:
        values = self.bench.settings.values
        self.show_view("table" if values.get("clips.view") == "table" else "grid")
        name, _, direction = values.get("clips.order", "").partition("/")
        by = next((one for one in Column if one == name), None)
        self.model.set_order(by, is_descending=direction == "down")
        self.toolbar.show_order(by, is_descending=direction == "down")
        self.browser.show_order(by, is_descending=direction == "down")

    def _on_query_changed(self, text: str) -> None:
        self.model.set_query(text)
        if self._finding is not None and text != self._finding.query:
            self._finding = None
            self.notices.clear_finding()
        self.health.mark("" if self._finding is None else self._finding.name)
        self.health.buckets.mark(text)

    def _on_bucket_chosen(self, bucket: BucketCount | None) -> None:
        """Show the bucket's clips, all of them chosen."""
        self._on_finding_chosen(None)
        self.show_query("" if bucket is None else bucket.query)
        self.health.buckets.mark("" if bucket is None else bucket.query)
        if bucket is not None:
            self.browser.select_all()

    def _on_finding_chosen(self, kind: FindingKind | None) -> None:
        old, self._finding = self._finding, kind
        if kind is not None:
            self.show_query(kind.query)
            self.notices.show_finding(kind)
        elif old is not None:
            self.notices.clear_finding()
            self.show_query("")
        self.health.mark("" if kind is None else kind.name)

    def _on_order_changed(self) -> None:
        by, is_descending = self.model.order
        self.toolbar.show_order(by, is_descending=is_descending)
        self.browser.show_order(by, is_descending=is_descending)
        value = "" if by is None else f"{by}/{'down' if is_descending else 'up'}"
        if self.bench.settings.values.get("clips.order", "") != value:
            self.bench.remember_value("clips.order", value)

    def _on_rows_changed(self) -> None:
        self._renew_details()
        self._health_timer.start()

    def _on_project_opened(self) -> None:
        self._on_finding_chosen(None)
        self.show_query("")
        self.notices.clear()

    def _on_project_changed(self) -> None:
        has_clips = self.session.is_open and bool(self.session.project.clips)
        self._stack.setCurrentIndex(1 if has_clips else 0)
        if self.session.is_open:
            self.toolbar.show_datasets(self.session.project, self.model.dataset)
            if not self._datasets.is_typing:
                self._datasets.show_project()
        self._renew_details()
        self._health_timer.start()
        self.primary_changed.emit()

    def _on_records_changed(self, clip_ids: frozenset[str]) -> None:
        if self.session.clip_id in clip_ids:
            self._renew_details()
        self._health_timer.start()

    def _on_progress(self) -> None:
        library = self.bench.library
        self.health.show_progress(
            library.waiting, len(library.facts), library.looks_waiting, is_paused=library.is_paused
        )

    def _on_pause_wanted(self) -> None:
        library = self.bench.library
        if library.is_paused:
            library.go_on()
        else:
            library.pause()

    def _renew_health(self) -> None:
        dataset = self.model.dataset
        records = self.bench.index.records if self.session.is_open else []
        shown = [one for one in records if dataset in (None, one.dataset)]
        self.health.show_health(health_of(shown))
        self.health.buckets.show_buckets(bucket_histogram(shown))

    def _renew_details(self) -> None:
        self._details.show_clips(self.browser.chosen_clips())

    def _show_in_folder(self) -> None:
        if self.session.clip is not None:
            show_in_files(Path(self.session.clip.source))

    def _on_clips_imported(self, clips: tuple[ProjectClip, ...]) -> None:
        project = self.session.project
        known = {clip.source for clip in project.clips}
        dataset = self.model.dataset or MAIN
        new = tuple(
            msgspec.structs.replace(clip, dataset=dataset) for clip in clips if clip.source not in known
        )
        if new:
            changed = msgspec.structs.replace(project, clips=(*project.clips, *new))
            edit_project(self.session, f"Add {count(len(new), 'clip')}", changed)
            self.session.select_clip(new[0].id)
        else:
            self.set_subtitle("All of those clips are in the project already.")

    def _on_busy_changed(self, what: str) -> None:
        self.set_subtitle(what or self.subtitle)


def make_page(bench: Workbench) -> Page:
    """The page."""
    return ClipsPage(bench)
