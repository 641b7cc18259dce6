"""Beside the clips: what is known of the chosen ones, and what can be done with them."""

from collections.abc import Callable
from dataclasses import dataclass

from PySide6.QtCore import Qt
from PySide6.QtWidgets import QComboBox, QFrame, QHBoxLayout, QVBoxLayout, QWidget

from wan_studio.bridge.workbench import Workbench
from wan_studio.domain.buckets import trained_size
from wan_studio.domain.checks import Step
from wan_studio.domain.clip import SourceVideo
from wan_studio.domain.project import MAIN, Project, ProjectClip
from wan_studio.views.clips.delegate import LEVEL_ICONS, LEVEL_TONES
from wan_studio.views.name_field import NameField
from wan_studio.views.theme import GRID, set_icon
from wan_studio.views.widgets import IconLabel, button, label, row, scrolled, tool_button
from wan_studio.views.wording import count, duration

_WIDTH = 304


@dataclass(frozen=True, slots=True)
class DetailActions:
    """What the buttons do.

    Attributes:
        go_to: Opens a page.
        rate: Takes a rating, 0 to 5.
        assign: Takes the name of a data set.
        rename: Takes what the chosen clip is called.
    """

    go_to: Callable[[Step], object]
    reject: Callable[[], object]
    remove: Callable[[], object]
    show_in_folder: Callable[[], object]
    rate: Callable[[int], object]
    assign: Callable[[str], object]
    rename: Callable[[str], object]


class StarRow(QWidget):
    """Five stars to click; the star that is the rating takes it away."""

    def __init__(self, on_rated: Callable[[int], object]) -> None:
        super().__init__()
        self._rating = 0
        self._on_rated = on_rated
        self._stars = [
            tool_button(f"Rate {at} ({at})", "star", lambda at=at: self._on_clicked(at)) for at in range(1, 6)
        ]
        layout = QHBoxLayout(self)
        layout.setContentsMargins(0, 0, 0, 0)
        layout.setSpacing(0)
        for star in self._stars:
            layout.addWidget(star)
        layout.addStretch(1)

    def show_rating(self, rating: int) -> None:
        """Fill so many stars."""
        self._rating = rating
        for at, star in enumerate(self._stars, start=1):
            is_filled = at <= rating
            set_icon(star, "star-fill" if is_filled else "star", "warn" if is_filled else "muted")

    def _on_clicked(self, at: int) -> None:
        self._on_rated(0 if at == self._rating else at)


class ClipDetails(QFrame):
    """What is known of the chosen clips."""

    def __init__(self, bench: Workbench, actions: DetailActions) -> None:
        super().__init__()
        self._bench = bench
        self.setObjectName("card")
        self.setFixedWidth(_WIDTH)
        self.name = NameField()
        self.name.renamed.connect(actions.rename)
        self._facts = label("", "muted", wrap=True)
        self._uses = label("", wrap=True)
        self._stars = StarRow(actions.rate)
        self._dataset = QComboBox()
        self._dataset.setAccessibleName("Data set of the chosen clips")
        self._dataset.activated.connect(lambda _: actions.assign(self._dataset.currentData()))
        self._problems = QVBoxLayout()
        self._problems.setSpacing(GRID)
        self._reject = button("Reject", actions.reject, icon_name="prohibit")
        self._reject.setToolTip("Leave it out of training, but keep it here (X)")
        trim = button("Trim", lambda: actions.go_to(Step.TRIM), icon_name="scissors")
        caption = button("Caption", lambda: actions.go_to(Step.CAPTIONS), icon_name="chat-centered-text")
        remove = button("Remove", actions.remove, icon_name="trash")
        remove.setToolTip("Take it out of the project; the file stays where it is (Delete)")
        self._show = button("Show in folder", actions.show_in_folder, role="link")
        content = QWidget()
        inner = QVBoxLayout(content)
        inner.setContentsMargins(0, 0, 0, 0)
        inner.setSpacing(GRID)
        for part in (self._facts, self._uses, self._stars):
            inner.addWidget(part)
        self._dataset_row = QWidget()
        self._dataset_row.setLayout(row(label("Data set", "muted"), self._dataset, None))
        inner.addWidget(self._dataset_row)
        inner.addLayout(self._problems)
        inner.addStretch(1)
        layout = QVBoxLayout(self)
        layout.setContentsMargins(2 * GRID, 2 * GRID, 2 * GRID, 2 * GRID)
        layout.setSpacing(GRID)
        layout.addWidget(self.name)
        layout.addWidget(scrolled(content, name="Details"), 1)
        layout.addWidget(self._show)
        layout.addLayout(row(trim, caption, None))
        layout.addLayout(row(self._reject, remove, None))

    def show_clips(self, clips: list[ProjectClip]) -> None:
        """Show one clip, or how many there are and what they have in common."""
        self.setVisible(bool(clips))
        if not clips:
            return
        project = self._bench.session.project
        text = "Restore" if clips[0].rejected else "Reject"
        self._reject.setText(text)
        self._reject.setAccessibleName(text)
        ratings = {clip.rating for clip in clips}
        self._stars.show_rating(ratings.pop() if len(ratings) == 1 else 0)
        self._show_datasets(project, {clip.dataset for clip in clips})
        self._clear_problems()
        self._show.setVisible(len(clips) == 1)
        if len(clips) == 1:
            self._show_one(project, clips[0])
        else:
            self._show_several(clips)

    def _show_one(self, project: Project, clip: ProjectClip) -> None:
        source = self._bench.library.source_of(clip.id)
        record = self._bench.index.record(clip.id)
        self.name.show_clip(clip, record.label if record is not None else "")
        self._facts.setText(_describe(source) if source else "")
        self._uses.setText(self._usage(project, clip, source) if source and not clip.rejected else "")
        for problem in self._bench.index.problems_of(clip.id):
            line = QWidget()
            mark = IconLabel(LEVEL_ICONS[problem.level], LEVEL_TONES[problem.level])
            inner = row(mark, label(problem.text, wrap=True))
            inner.setStretch(1, 1)
            inner.setAlignment(mark, Qt.AlignmentFlag.AlignTop)
            line.setLayout(inner)
            self._problems.addWidget(line)

    def _show_several(self, clips: list[ProjectClip]) -> None:
        records = [record for clip in clips if (record := self._bench.index.record(clip.id)) is not None]
        seconds = sum(record.used_seconds or 0.0 for record in records)
        self.name.show_words(f"{len(clips)} clips chosen")
        self._facts.setText(f"{duration(seconds)} in all")
        usable = sum(record.is_usable for record in records)
        self._uses.setText(f"{count(usable, 'clip')} of them can train.")

    def _show_datasets(self, project: Project, chosen: set[str]) -> None:
        names = [MAIN, *(dataset.name for dataset in project.extra_datasets)]
        self._dataset_row.setVisible(len(names) > 1)
        self._dataset.clear()
        for name in names:
            self._dataset.addItem(name or "Main", name)
        self._dataset.setCurrentIndex(names.index(chosen.pop()) if len(chosen) == 1 else -1)

    def _clear_problems(self) -> None:
        while self._problems.count():
            item = self._problems.takeAt(0)
            widget = item.widget() if item is not None else None
            if widget is not None:
                widget.hide()
                widget.deleteLater()

    def _usage(self, project: Project, clip: ProjectClip, source: SourceVideo) -> str:
        record = self._bench.index.record(clip.id)
        if record is None or record.trains is None:
            return ""
        datasets = project.dataset_settings(clip.dataset)
        crop = clip.crop or source.whole_picture
        sizes = [
            trained_size(crop, source.pixel_aspect, resolution, allow_upscale=datasets.allow_upscale)
            for resolution in datasets.resolutions
        ]
        buckets = ", ".join(f"{size.width} × {size.height}" for size in sizes)
        return f"Trains {count(record.trains, 'frame')} at {buckets}."


def _describe(source: SourceVideo) -> str:
    if source.is_image:
        return f"{source.width} × {source.height}, still image"
    rate = f"{source.frames_per_second:.4g} fps" + (", variable" if source.has_variable_rate else "")
    sound = ", with sound" if source.has_sound else ""
    turned = f", turned by {source.rotation}°" if source.rotation else ""
    return (
        f"{source.width} × {source.height}, {rate}\n"
        f"{source.duration_seconds:.2f} s, {count(source.frame_count, 'frame')}\n"
        f"{source.codec.upper()}{sound}{turned}"
    )
