"""The project's data sets: what each is for, and how much it counts."""

from collections.abc import Callable
from typing import get_args

import msgspec
from PySide6.QtWidgets import QComboBox, QFrame, QGridLayout, QLineEdit, QVBoxLayout, QWidget

from wan_studio.bridge.project_session import ProjectSession
from wan_studio.domain.project import FIELDS_BY_ROLE, MAIN, ProjectDataset, Role, checked_name
from wan_studio.errors import AppError
from wan_studio.undo.edits import edit_project
from wan_studio.views.clips.edits import with_dataset_value
from wan_studio.views.one_undo import leave_undo_to_window
from wan_studio.views.theme import GRID
from wan_studio.views.widgets import ElidedLabel, button, label, restyle, row, tool_button
from wan_studio.views.wording import count

ROLE_NAMES: dict[Role, str] = {
    "training": "Training",
    "regularization": "Regularization",
    "validation": "Validation",
}
_NAME_WIDTH = 200
_FIELDS = (
    ("repeats", "Repeats", "Times that each clip comes in one pass over the data."),
    ("weight", "Weight", "Further times, may be a fraction: 0.5 takes half of the clips in each pass, in turn."),
    ("lora_strength", "LoRA strength", "How strong the LoRA is while these clips train."),
)  # fmt: skip


class DatasetPanel(QFrame):
    """One line a data set, and one to add another."""

    def __init__(self, session: ProjectSession, assign_chosen: Callable[[str], object]) -> None:
        super().__init__()
        self.setObjectName("card")
        self._session = session
        self._assign_chosen = assign_chosen
        self._is_typing = False
        self._lines = QGridLayout()
        self._lines.setHorizontalSpacing(2 * GRID)
        self._lines.setVerticalSpacing(GRID // 2)
        self._lines.setColumnMinimumWidth(0, _NAME_WIDTH)
        self._lines.setColumnStretch(8, 1)
        self._problem = label("", "bad", wrap=True)
        self._problem.hide()
        self._new_name = QLineEdit()
        self._new_name.setPlaceholderText("Name of a new data set")
        self._new_name.setAccessibleName("Name of a new data set")
        self._new_name.setFixedWidth(_NAME_WIDTH)
        self._new_name.returnPressed.connect(self.add)
        self._new_role = QComboBox()
        self._new_role.setAccessibleName("What the new data set is for")
        for role in get_args(Role):
            self._new_role.addItem(ROLE_NAMES[role], role)
        self._new_role.setCurrentIndex(1)
        layout = QVBoxLayout(self)
        layout.setContentsMargins(2 * GRID, GRID + 4, 2 * GRID, GRID + 4)
        layout.setSpacing(GRID)
        layout.addLayout(self._lines)
        new = row(self._new_name, self._new_role, button("Add data set", self.add, icon_name="plus"), None)
        layout.addLayout(new)
        layout.addWidget(self._problem)
        self.hide()

    def show_project(self) -> None:
        """Show the data sets as they are; a field that has the focus is left alone."""
        focused = self.focusWidget()
        name_with_focus = focused.objectName() if isinstance(focused, QLineEdit) else ""
        while self._lines.count():
            item = self._lines.takeAt(0)
            widget = item.widget() if item is not None else None
            if widget is not None:
                widget.hide()
                widget.deleteLater()
        if not self._session.is_open:
            return
        project = self._session.project
        heads = ("Data set", "For", "Clips", *(title for _, title, _ in _FIELDS))
        for at, head in enumerate(heads):
            self._lines.addWidget(label(head, "muted"), 0, at)
        for line, dataset in enumerate((None, *project.extra_datasets), start=1):
            name = MAIN if dataset is None else dataset.name
            role: Role = "training" if dataset is None else dataset.role
            self._lines.addWidget(ElidedLabel(name or "Main", "strong"), line, 0)
            self._lines.addWidget(label(ROLE_NAMES[role]), line, 1)
            self._lines.addWidget(label(str(len(project.clips_of(name)))), line, 2)
            settings = project.dataset_settings(name)
            for at, (field, title, tip) in enumerate(_FIELDS, start=3):
                if field in FIELDS_BY_ROLE[role]:
                    editor = self._editor(name, field, f"{getattr(settings, field):g}", (title, tip))
                    self._lines.addWidget(editor, line, at)
                    if editor.objectName() == name_with_focus:
                        editor.setFocus()
            take = button("Move chosen clips here", lambda name=name: self._assign_chosen(name), role="link")
            self._lines.addWidget(take, line, 6)
            if dataset is not None:
                remove = tool_button(
                    f"Remove data set {name}; its clips move to the main one",
                    "trash",
                    lambda name=name: self.remove(name),
                )
                self._lines.addWidget(remove, line, 7)

    def add(self) -> None:
        """Add a data set of this name."""
        project = self._session.project
        name, role = self._new_name.text().strip(), self._new_role.currentData()
        try:
            checked_name(name)
            if project.dataset(name) is not None:
                self._say(f"There is a data set {name} already.")
                return
            changed = project.with_dataset(ProjectDataset(name=name, role=role))
        except AppError as error:
            self._say(str(error))
            return
        self._say("")
        self._new_name.clear()
        edit_project(self._session, f"Add data set {name}", changed)

    def remove(self, name: str) -> None:
        """Take a data set away; its clips move to the main one."""
        project = self._session.project
        clips = tuple(
            msgspec.structs.replace(clip, dataset=MAIN) if clip.dataset == name else clip
            for clip in project.clips
        )
        extra = tuple(dataset for dataset in project.extra_datasets if dataset.name != name)
        changed = msgspec.structs.replace(project, clips=clips, extra_datasets=extra)
        moved = len(project.clips_of(name))
        what = f" and move {count(moved, 'clip')} to the main one" if moved else ""
        edit_project(self._session, f"Remove data set {name}{what}", changed)

    def _editor(self, dataset: str, field: str, text: str, words: tuple[str, str]) -> QWidget:
        editor = QLineEdit(text)
        editor.setObjectName(f"{dataset}.{field}")
        editor.setFixedWidth(72)
        editor.setAccessibleName(f"{words[0]} of {dataset or 'the main data set'}")
        editor.setToolTip(words[1])
        leave_undo_to_window(editor)
        editor.textEdited.connect(lambda typed: self._apply(editor, dataset, field, typed))
        return editor

    def _apply(self, editor: QLineEdit, dataset: str, field: str, typed: str) -> None:
        project = self._session.project
        try:
            changed = with_dataset_value(project, dataset, field, typed.strip().replace(",", "."))
        except AppError as error:
            self._say(str(error))
            editor.setProperty("invalid", "true")
            restyle(editor)
            return
        self._say("")
        editor.setProperty("invalid", "false")
        restyle(editor)
        title = next(title for name, title, _ in _FIELDS if name == field).lower()
        self._is_typing = True
        text = f"Set {title} of {dataset or 'the main data set'}"
        edit_project(self._session, text, changed, f"dataset.{dataset}.{field}")
        self._is_typing = False

    @property
    def is_typing(self) -> bool:
        """Whether the change comes from a field of this panel, which then need not be made anew."""
        return self._is_typing

    def _say(self, sentence: str) -> None:
        self._problem.setText(sentence)
        self._problem.setVisible(bool(sentence))
