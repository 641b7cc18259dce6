"""Start here: a new project, an old one, or the sample clips."""

from pathlib import Path

from PySide6.QtCore import Qt
from PySide6.QtWidgets import QFileDialog, QLineEdit, QVBoxLayout, QWidget

from wan_studio.bridge.workbench import Workbench
from wan_studio.domain.checks import Step
from wan_studio.paths import default_projects_folder
from wan_studio.views.page import Page, Primary
from wan_studio.views.theme import GRID
from wan_studio.views.widgets import (
    ElidedLabel,
    IconLabel,
    button,
    card,
    label,
    readable,
    row,
    scrolled,
    set_role,
    tool_button,
)

_FORBIDDEN = set('\\/:*?"<>|')


class ProjectsPage(Page):
    """New, open, recent, and a way to try everything at once."""

    step = Step.PROJECTS
    title = "Wan Studio"
    subtitle = "From a folder of video clips to a pair of LoRA files for Wan 2.2 I2V A14B."
    needs_project = False

    def __init__(self, bench: Workbench) -> None:
        super().__init__(bench)
        self._folder = default_projects_folder()
        self._busy = ""
        self._build()
        bench.recent_changed.connect(self._renew_recent)
        bench.busy_changed.connect(self._on_busy_changed)
        bench.session.project_opened.connect(self.primary_changed)
        self._renew_recent()
        self._check_name()

    def new_project(self) -> None:
        """Put the cursor where a new project's name goes."""
        self._name.setFocus()
        self._name.selectAll()

    def choose_project(self) -> None:
        """Ask for a project's folder and open it."""
        start = default_projects_folder()
        chosen = QFileDialog.getExistingDirectory(self, "Open a project folder", str(start))
        if chosen:
            self.bench.open_project(Path(chosen))

    def create_project(self) -> None:
        """Make the project whose name stands in the field."""
        if self._problem():
            self._check_name()
            return
        self.bench.create_project(self._folder / self._name.text().strip())

    def try_demo(self) -> None:
        """Make and open the project with the sample clips."""
        self.bench.open_demo(self._on_demo_progress)

    def primary(self) -> Primary | None:
        """Go on with the open project, once there is one."""
        if self._busy or not self.session.is_open:
            return None
        return Primary("Continue", hint=self.session.project.name, icon_name="arrow-right")

    def run_primary(self) -> None:
        """Go on with the open project."""
        self.step_wanted.emit(Step.CLIPS if self.session.project.clips else Step.GOAL)

    def enter(self) -> None:
        """The cursor stands in the name field."""
        self._renew_recent()
        self._name.setFocus()

    def _build(self) -> None:
        self._name = QLineEdit()
        self._name.setPlaceholderText("For example wan_orbit_v1")
        self._name.setAccessibleName("Name of the new project")
        self._name.textChanged.connect(self._check_name)
        self._name.returnPressed.connect(self.create_project)
        self._create = button("New project", self.create_project, role="primary", icon_name="plus")
        self._note = label("", "muted", wrap=True)
        place = button("Change folder…", self._choose_place, role="link")
        new_card = card(
            label("New project", "section"),
            row(self._name, self._create),
            row(self._note, place),
        )
        self._open = button("Open project…", self.choose_project, icon_name="folder-open")
        self._demo = button("Try with sample clips", self.try_demo, icon_name="flask")
        self._demo.setToolTip("Makes ten short clips of a camera that orbits a scene, with captions.")
        self._progress = label("", "muted")
        self._recent = QVBoxLayout()
        self._recent.setSpacing(2)
        self._recent_title = label("Recent projects", "section")
        content = QWidget()
        layout = QVBoxLayout(content)
        layout.setContentsMargins(0, 0, 0, 0)
        layout.setSpacing(2 * GRID)
        layout.addWidget(new_card)
        layout.addLayout(row(self._open, self._demo, self._progress, None))
        layout.addSpacing(GRID)
        layout.addWidget(self._recent_title)
        layout.addLayout(self._recent)
        layout.addStretch(1)
        self.add(scrolled(readable(content, 760), name="Projects"), 1)

    def _problem(self) -> str:
        name = self._name.text().strip()
        if not name:
            return "Give the project a name."
        if set(name) & _FORBIDDEN or len(name) > 100 or name.endswith("."):
            return (
                'A name has at most 100 letters and none of \\ / : * ? " < > |, and no full stop at its end.'
            )
        return ""

    def _check_name(self) -> None:
        problem = self._problem()
        is_empty = not self._name.text().strip()
        self._create.setEnabled(not problem and not self._busy)
        set_role(self._note, "muted" if is_empty or not problem else "bad")
        target = self._folder / (self._name.text().strip() or "…")
        self._note.setText(problem if problem and not is_empty else f"It will be kept in {target}")

    def _choose_place(self) -> None:
        chosen = QFileDialog.getExistingDirectory(self, "Folder for the new project", str(self._folder))
        if chosen:
            self._folder = Path(chosen)
            self._check_name()

    def _renew_recent(self) -> None:
        while self._recent.count():
            item = self._recent.takeAt(0)
            widget = item.widget() if item is not None else None
            if widget is not None:
                widget.deleteLater()
        folders = self.bench.settings.recent_projects
        self._recent_title.setVisible(bool(folders))
        for folder in folders:
            self._recent.addWidget(self._recent_row(Path(folder)))

    def _recent_row(self, folder: Path) -> QWidget:
        def forget() -> None:
            self.bench.forget_recent(str(folder))

        open_button = button(folder.name, lambda: self.bench.open_project(folder), role="link")
        open_button.setAccessibleName(f"Open {folder.name}")
        place = ElidedLabel(str(folder.parent), "muted")
        place.setAlignment(Qt.AlignmentFlag.AlignVCenter | Qt.AlignmentFlag.AlignLeft)
        line = QWidget()
        layout = row(
            IconLabel("film-strip", "muted"),
            open_button,
            place,
            tool_button(f"Forget {folder.name}", "x", forget),
        )
        layout.setStretch(2, 1)
        line.setLayout(layout)
        return line

    def _on_demo_progress(self, values: tuple[object, ...]) -> None:
        done, total = values[:2]
        self._progress.setText(f"Making the sample clips: {done} of {total}")

    def _on_busy_changed(self, what: str) -> None:
        self._busy = what
        self._progress.setText(what)
        for part in (self._open, self._demo):
            part.setEnabled(not what)
        self._check_name()
        self.primary_changed.emit()


def make_page(bench: Workbench) -> Page:
    """The page."""
    return ProjectsPage(bench)
