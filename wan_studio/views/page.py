"""What every page of the wizard is: a title, a content, and at most one primary action."""

from dataclasses import dataclass

from PySide6.QtCore import Signal
from PySide6.QtWidgets import QHBoxLayout, QVBoxLayout, QWidget

from wan_studio.bridge.workbench import Workbench
from wan_studio.domain.checks import Step
from wan_studio.views.theme import GRID
from wan_studio.views.widgets import label

STEP_TITLES: dict[Step, str] = {
    Step.PROJECTS: "Projects",
    Step.GOAL: "Goal",
    Step.CLIPS: "Clips",
    Step.TRIM: "Trim",
    Step.CAPTIONS: "Captions",
    Step.HARDWARE: "Hardware",
    Step.TRAINING: "Training",
    Step.REVIEW: "Samples and review",
    Step.MONITOR: "Monitor",
    Step.RESULTS: "Results",
}


@dataclass(frozen=True, slots=True)
class Primary:
    """The page's one primary action as it stands now.

    Attributes:
        text: What the button says; a page without a primary action has None instead of this.
        hint: Stands beside the button: why it is disabled, or what it will do.
        icon_name: An icon of the family.
    """

    text: str
    is_enabled: bool = True
    hint: str = ""
    icon_name: str = ""


class Page(QWidget):
    """Base of the pages. The frame draws title, Back and the primary button around it.

    Signals:
        primary_changed: The primary action is another one, or enabled or not.
        step_wanted: The user goes to another step. arg: Step
    """

    primary_changed = Signal()
    step_wanted = Signal(object)

    step = Step.PROJECTS
    title = ""
    subtitle = ""
    needs_project = True

    def __init__(self, bench: Workbench) -> None:
        super().__init__()
        self.bench = bench
        self.session = bench.session
        self.header_tools = QHBoxLayout()
        self.header_tools.setSpacing(GRID)
        self._subtitle = label(self.subtitle, "muted", wrap=True)
        title = label(self.title, "title")
        self._body = QVBoxLayout()
        self._body.setContentsMargins(0, 0, 0, 0)
        self._body.setSpacing(2 * GRID)
        header = QHBoxLayout()
        header.setSpacing(2 * GRID)
        header.addWidget(title)
        header.addStretch(1)
        header.addLayout(self.header_tools)
        layout = QVBoxLayout(self)
        layout.setContentsMargins(3 * GRID, 2 * GRID, 3 * GRID, 0)
        layout.setSpacing(GRID // 2)
        layout.addLayout(header)
        layout.addWidget(self._subtitle)
        # Only now: a label without a parent would flash up as a window of its own.
        self._subtitle.setVisible(bool(self.subtitle))
        layout.addSpacing(GRID + GRID // 2)
        layout.addLayout(self._body, 1)

    def set_subtitle(self, text: str) -> None:
        """Say something else under the title."""
        self._subtitle.setText(text)
        self._subtitle.setVisible(bool(text))

    def add(self, part: QWidget, stretch: int = 0) -> None:
        """Put a part below the others."""
        self._body.addWidget(part, stretch)

    def primary(self) -> Primary | None:
        """The primary action now; None shows no button."""
        return None

    def run_primary(self) -> None:
        """Do the primary action."""

    def enter(self) -> None:
        """The page comes into view."""

    def leave(self) -> None:
        """The page goes out of view."""

    def shut_down(self) -> None:
        """The window closes: end the page's own threads."""
