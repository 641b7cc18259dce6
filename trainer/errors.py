"""Errors that end a run with a sentence: what happened, to what, and what to do."""

from trainer.protocol.events import MemoryReport


class TrainerError(Exception):
    """Base of all; subclasses word themselves from typed arguments.

    Attributes:
        kind: Stable name of the cause, for `RunFailed.kind`.
        message: What happened, to which file or field.
        hint: What the user can do.
        step: Optimizer steps that are done and saved, for `RunFailed.step`; 0 where that is not known.
        remedy: For `RunFailed.remedy`.
        memory: For `RunFailed.memory`.
    """

    kind = "error"
    step = 0
    remedy = ""
    memory: MemoryReport | None = None

    def __init__(self, message: str, hint: str = "") -> None:
        super().__init__(message if not hint else f"{message} {hint}")
        self.message = message
        self.hint = hint
