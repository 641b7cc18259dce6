"""One line of the doctor's report: what was looked at, what it means, and what to do about it."""

from dataclasses import dataclass
from enum import StrEnum


class Verdict(StrEnum):
    """What a finding means."""

    OK = "ok"
    WARNING = "warning"
    PROBLEM = "problem"


@dataclass(frozen=True, slots=True)
class Finding:
    """One line of the report.

    Attributes:
        stops_training: Whether nothing can be trained until it is mended.
    """

    topic: str
    verdict: Verdict
    text: str
    hint: str = ""
    stops_training: bool = False
