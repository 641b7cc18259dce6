"""Tells the undo log that a step's captions are on disk."""

import logging
from collections.abc import Callable

from wan_studio.bridge.project_session import ProjectSession
from wan_studio.bridge.step_journal import StepMark
from wan_studio.errors import AppError
from wan_studio.services.undo_log import CaptionTask

_log = logging.getLogger(__name__)


def confirmer(session: ProjectSession, mark: StepMark, *, is_forward: bool) -> Callable[[bytes | None], None]:
    """To be called on the writer's thread, with the step's content where more is known of it now."""
    log = session.log

    def confirm(content: bytes | None) -> None:
        final = mark.final
        if log is None or not final.serial:
            return
        try:
            log.confirm(CaptionTask(final.serial, is_forward), content)
        except AppError as error:
            # The captions are written; the next opening looks whether they are, and finds so.
            _log.warning("%s", error)

    return confirm
