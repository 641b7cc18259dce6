"""Errors that a user may see: each words itself and says what to do."""


class AppError(Exception):
    """Base of all.

    Attributes:
        message: What happened, to which file or field.
        hint: What the user can do; may be empty.
    """

    def __init__(self, message: str, hint: str = "") -> None:
        super().__init__(message if not hint else f"{message} {hint}")
        self.message = message
        self.hint = hint
