"""The caption of clips that have none."""

import msgspec
from PySide6.QtWidgets import QLineEdit, QWidget

from wan_studio.bridge.project_session import ProjectSession
from wan_studio.undo.edits import edit_project
from wan_studio.views.one_undo import leave_undo_to_window
from wan_studio.views.widgets import column, label


class DefaultCaption(QWidget):
    """One field, kept in the project."""

    def __init__(self, session: ProjectSession) -> None:
        super().__init__()
        self._session = session
        self._field = QLineEdit()
        self._field.setAccessibleName("Default caption")
        self._field.setPlaceholderText("For clips without a caption")
        self._field.textEdited.connect(self._on_edited)
        leave_undo_to_window(self._field)
        self.setLayout(column(label("Default caption", "muted"), self._field, gap=4))

    def renew(self) -> None:
        """Show what the project says; spaces at the ends are left while somebody types there."""
        if not self._session.is_open:
            return
        text = self._session.project.settings.datasets.default_caption
        is_typing = self._field.hasFocus()
        if (self._field.text().strip() if is_typing else self._field.text()) != text:
            self._field.setText(text)
        if not is_typing:
            self._field.setCursorPosition(0)

    def _on_edited(self) -> None:
        project = self._session.project
        settings = project.settings.with_values({"datasets": {"default_caption": self._field.text().strip()}})
        changed = msgspec.structs.replace(project, settings=settings)
        edit_project(self._session, "Change default caption", changed, merge_key="default_caption")
