"""What should the LoRA learn: its kind, its name, its trigger word."""

from functools import partial

import msgspec
from PySide6.QtCore import Qt, Signal
from PySide6.QtGui import QKeyEvent, QMouseEvent
from PySide6.QtWidgets import QFrame, QGridLayout, QLineEdit, QRadioButton, QVBoxLayout, QWidget

from wan_studio.bridge.workbench import Workbench
from wan_studio.domain.caption import trains_as
from wan_studio.domain.checks import Step
from wan_studio.domain.preset_change import carried_over
from wan_studio.domain.project import Goal
from wan_studio.services.preset_store import settings_for
from wan_studio.undo.edits import edit_project
from wan_studio.views.one_undo import leave_undo_to_window
from wan_studio.views.page import Page, Primary
from wan_studio.views.theme import GRID
from wan_studio.views.widgets import IconLabel, card, label, readable, restyle, row, scrolled, set_role

_GOALS: dict[Goal, tuple[str, str, str]] = {
    "motion": ("Motion or camera", "An orbit, a dolly, a gesture: how things move.", "film-strip"),
    "style": ("Style or look", "A film stock, a drawing manner: how things look.", "palette"),
    "character": ("Character", "One face and body that stay the same.", "user"),
}
_FORBIDDEN = set('\\/:*?"<>|')


class GoalCard(QFrame):
    """One goal to choose.

    Signals:
        chosen: The user chose it.
    """

    chosen = Signal()

    def __init__(self, title: str, text: str, icon_name: str) -> None:
        super().__init__()
        self.setObjectName("choice")
        self.setCursor(Qt.CursorShape.PointingHandCursor)
        self.radio = QRadioButton(title)
        self.radio.setAccessibleName(f"{title}. {text}")
        self.radio.toggled.connect(self._on_toggled)
        words = label(text, "muted", wrap=True)
        words.setMinimumHeight(44)
        words.setAlignment(Qt.AlignmentFlag.AlignTop)
        layout = QVBoxLayout(self)
        layout.setContentsMargins(2 * GRID, 2 * GRID, 2 * GRID, GRID)
        layout.setSpacing(GRID)
        layout.addWidget(IconLabel(icon_name, "accent", 28))
        layout.addWidget(self.radio)
        layout.addWidget(words)

    def mousePressEvent(self, event: QMouseEvent) -> None:
        """A click anywhere chooses."""
        event.accept()
        self.radio.setFocus()
        self.chosen.emit()

    def keyPressEvent(self, event: QKeyEvent) -> None:
        """Enter chooses."""
        if event.key() in (Qt.Key.Key_Return, Qt.Key.Key_Enter):
            self.chosen.emit()
        else:
            super().keyPressEvent(event)

    def _on_toggled(self, is_chosen: bool) -> None:  # noqa: FBT001 - a slot
        self.setProperty("chosen", is_chosen)
        restyle(self)


class GoalPage(Page):
    """Goal, name and trigger word."""

    step = Step.GOAL
    title = "What should the LoRA learn?"

    def __init__(self, bench: Workbench) -> None:
        super().__init__(bench)
        self._cards: dict[Goal, GoalCard] = {}
        self._build()
        bench.session.project_changed.connect(self._renew)
        self._renew()

    def primary(self) -> Primary | None:
        """On to the clips."""
        return Primary("Continue to clips", icon_name="arrow-right")

    def run_primary(self) -> None:
        """On to the clips."""
        self.step_wanted.emit(Step.CLIPS)

    def choose(self, goal: Goal) -> None:
        """Take a goal; settings that the user has not changed follow its preset."""
        project = self.session.project
        if goal == project.goal:
            self._renew()
            return
        base = project.settings.model.base
        settings = carried_over(project.settings, settings_for(project.goal, base), settings_for(goal, base))
        changed = msgspec.structs.replace(project, goal=goal, settings=settings)
        edit_project(self.session, f"Choose {_GOALS[goal][0].lower()}", changed)

    def _on_chosen(self, goal: Goal, *_: object) -> None:
        self.choose(goal)

    def _build(self) -> None:
        kinds = QGridLayout()
        kinds.setSpacing(2 * GRID)
        for at, (goal, (title, text, icon_name)) in enumerate(_GOALS.items()):
            choice = GoalCard(title, text, icon_name)
            # One group for the three radio buttons, though each lies in a frame of its own.
            choice.radio.setAutoExclusive(False)
            choice.radio.clicked.connect(partial(self._on_chosen, goal))
            choice.chosen.connect(partial(self._on_chosen, goal))
            self._cards[goal] = choice
            kinds.addWidget(choice, 0, at)
            kinds.setColumnStretch(at, 1)
        self._name = QLineEdit()
        self._name.setAccessibleName("Name")
        self._name.textEdited.connect(self._on_name_edited)
        leave_undo_to_window(self._name)
        self._name_note = label("Files and runs carry this name.", "muted", wrap=True)
        self._trigger = QLineEdit()
        self._trigger.setAccessibleName("Trigger word")
        self._trigger.setPlaceholderText("A word that means nothing yet, for example frung")
        self._trigger.textEdited.connect(self._on_trigger_edited)
        leave_undo_to_window(self._trigger)
        self._trigger_note = label("", "muted", wrap=True)
        form = QGridLayout()
        form.setHorizontalSpacing(3 * GRID)
        form.setVerticalSpacing(GRID // 2)
        form.setColumnMinimumWidth(0, 100)
        form.setColumnStretch(1, 1)
        for at, (name, field, note) in enumerate(
            (("Name", self._name, self._name_note), ("Trigger word", self._trigger, self._trigger_note))
        ):
            words = label(name)
            words.setBuddy(field)
            form.addWidget(words, 3 * at, 0)
            form.addWidget(field, 3 * at, 1)
            form.addWidget(note, 3 * at + 1, 1)
            form.setRowMinimumHeight(3 * at + 2, GRID)
        self._needs = label("", wrap=True)
        content = QWidget()
        layout = QVBoxLayout(content)
        layout.setContentsMargins(0, 0, 0, 0)
        layout.setSpacing(2 * GRID)
        layout.addLayout(kinds)
        layout.addWidget(card(form))
        mark = IconLabel("info", "accent")
        info = row(mark, self._needs)
        info.setStretch(1, 1)
        info.setAlignment(mark, Qt.AlignmentFlag.AlignTop)
        layout.addLayout(info)
        layout.addStretch(1)
        self.add(scrolled(readable(content, 760), name="Goal"), 1)

    def _renew(self) -> None:
        if not self.session.is_open:
            return
        project = self.session.project
        for goal, choice in self._cards.items():
            choice.radio.setChecked(goal == project.goal)
        for field, text in ((self._name, project.name), (self._trigger, project.trigger)):
            # What is being typed stays: spaces at its ends, and a name that is no good yet.
            is_typing = field.hasFocus() and (field.text().strip() == text or self._is_name_bad(field))
            if field.text() != text and not is_typing:
                field.setText(text)
        if not self._name.hasFocus() or self._name.text().strip() == project.name:
            set_role(self._name_note, "muted")
            self._name_note.setText("Files and runs carry this name.")
        example = trains_as("orbit around the [trigger]", project.trigger)
        self._trigger_note.setText(
            f'A caption "orbit around the [trigger]" trains as "{example}".'
            if project.trigger
            else "Optional for motion. Write [trigger] in captions where the word goes."
        )
        settings = project.settings
        self._needs.setText(
            "You will need 10 to 30 clips of 3 to 8 seconds. The settings train "
            f"{settings.training.steps} steps at rank {settings.target.rank} "
            f"with {settings.datasets.num_frames} frames; all of it can be changed on the Training page."
        )

    def _is_name_bad(self, field: QLineEdit) -> bool:
        name = field.text().strip()
        return field is self._name and (not name or bool(set(name) & _FORBIDDEN) or len(name) > 100)

    def _on_name_edited(self, text: str) -> None:
        name = text.strip()
        is_good = not self._is_name_bad(self._name)
        set_role(self._name_note, "muted" if is_good else "bad")
        self._name_note.setText(
            "Files and runs carry this name."
            if is_good
            else 'A name has 1 to 100 letters and none of \\ / : * ? " < > |. The old name stays until then.'
        )
        if is_good:
            changed = msgspec.structs.replace(self.session.project, name=name)
            edit_project(self.session, "Rename", changed, merge_key="name")

    def _on_trigger_edited(self, text: str) -> None:
        changed = msgspec.structs.replace(self.session.project, trigger=text.strip())
        edit_project(self.session, "Change trigger word", changed, merge_key="trigger")


def make_page(bench: Workbench) -> Page:
    """The page."""
    return GoalPage(bench)
