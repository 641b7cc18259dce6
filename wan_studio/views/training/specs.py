"""What a setting is to the window: its name in the guides, its kind, its words, and when it means something."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, Literal, TypeAlias

from wan_studio.domain.project import Settings

FieldKind = Literal[
    "integer", "number", "percent", "choice", "resolutions", "switch", "text", "words", "numbers", "file"
]
"""A percent is kept as a share from 0 to 1; words and numbers are lists with commas between."""
Choices: TypeAlias = tuple[tuple[Any, str], ...]

WHOLE = "It must be a whole number of 1 or more."
WHOLE_OR_ZERO = "It must be a whole number of 0 or more."
NUMBER = "It must be a number of 0 or more."
ABOVE_ZERO = "It must be a number above 0."
SHARE = "It must be a number from 0 to 1."


@dataclass(frozen=True, slots=True, kw_only=True)
class FieldSpec:
    """A setting as a page shows it.

    Attributes:
        name: `section.field`.
        label: The name that users know from the guides.
        rule: What is allowed, as a sentence that follows a wrong value.
        help: One sentence on what it does.
        step: What the up and down keys add, for whole numbers.
        optional: What an empty field stands for; empty when None is no value of the setting.
        choices: Value and text of each choice.
        part: Heading inside its group; empty stands right under the group's own.
        applies: Whether it does something beside the other settings; without it, always. A setting that
            does nothing is not shown.
        remark: What is doubtful about the value beside the others, a sentence; empty when nothing is.
    """

    name: str
    label: str
    kind: FieldKind
    help: str
    rule: str = ""
    unit: str = ""
    step: int = 1
    optional: str = ""
    choices: Choices = ()
    part: str = ""
    applies: Callable[[Settings], bool] | None = None
    remark: Callable[[Settings], str] | None = None

    @property
    def section(self) -> str:
        """The settings' section."""
        return self.name.partition(".")[0]

    @property
    def field(self) -> str:
        """The field in the section."""
        return self.name.partition(".")[2]

    def value_in(self, settings: Settings) -> Any:
        """Its value in these settings."""
        return getattr(getattr(settings, self.section), self.field)

    def is_shown_in(self, settings: Settings) -> bool:
        """Whether it does something beside these settings."""
        return self.applies is None or self.applies(settings)

    def worded(self, value: Any) -> str:
        """A value as the field shows it."""
        if self.kind == "choice":
            return next((text for choice, text in self.choices if choice == value), str(value))
        if value is None or (self.kind == "file" and not value):
            return self.optional
        if self.kind == "switch":
            return "On" if value else "Off"
        if isinstance(value, tuple):
            return ", ".join(str(part) for part in value)
        if self.kind == "percent":
            value = 100.0 * value
        return f"{value:.12g}" if isinstance(value, float) else str(value)


@dataclass(frozen=True, slots=True)
class FieldGroup:
    """Settings under one heading.

    Attributes:
        title: Heading: one of the guides' panel names.
    """

    title: str
    fields: tuple[FieldSpec, ...]


def fields_of(groups: Sequence[FieldGroup]) -> tuple[FieldSpec, ...]:
    """The settings of all groups, in their order."""
    return tuple(spec for group in groups for spec in group.fields)
