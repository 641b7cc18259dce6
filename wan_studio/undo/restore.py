"""Puts the undo steps of earlier sittings back on the stack when their project opens."""

from PySide6.QtCore import QObject
from PySide6.QtGui import QUndoCommand

from wan_studio.bridge.caption_desk import CaptionDesk
from wan_studio.bridge.project_session import ProjectSession
from wan_studio.services.undo_log import KeptStep
from wan_studio.undo.caption_edits import kept_caption_edit
from wan_studio.undo.edits import KeptProjectEdit


class StepRestorer(QObject):
    """Waits for projects to open."""

    def __init__(self, session: ProjectSession, desk: CaptionDesk) -> None:
        super().__init__(session)
        self._session = session
        self._desk = desk
        session.project_opened.connect(self._on_project_opened)

    def _on_project_opened(self) -> None:
        self._session.take_restored([self._command(kept) for kept in self._session.kept_steps])

    def _command(self, kept: KeptStep) -> QUndoCommand:
        if kept.kind == KeptProjectEdit.kind:
            return KeptProjectEdit(self._session, self._desk, kept)
        return kept_caption_edit(self._session, self._desk, kept)
