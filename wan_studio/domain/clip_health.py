"""The health of a data set: what was found among its clips, which they are, and what can be done."""

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Literal

from wan_studio.domain.checks import Level
from wan_studio.domain.clip_record import ClipRecord

Remedy = Literal[
    "", "relink", "reject", "trim", "captions", "fewer_frames", "real_speed", "keep_best", "cut_still", "crop_bars"
]  # fmt: skip


@dataclass(frozen=True, slots=True)
class FindingKind:
    """One thing that may be found.

    Attributes:
        name: As the search knows it: `is:name`.
        words: After a number of clips, e.g. "without caption".
        text: What it means, one sentence.
        remedy: What can be done for all of them at once; empty where nothing need be done.
        remedy_text: On its button.
    """

    name: str
    words: str
    level: Level
    text: str
    remedy: Remedy = ""
    remedy_text: str = ""

    @property
    def query(self) -> str:
        """The search that shows these clips."""
        return f"is:{self.name}"


FINDINGS: tuple[FindingKind, ...] = (
    FindingKind(
        *("missing", "missing", Level.BLOCKER, "Their files are not where they were."),
        *("relink", "Find them…"),
    ),
    FindingKind(
        *("unreadable", "unreadable", Level.BLOCKER, "They cannot be read; each says why."),
        *("reject", "Reject them"),
    ),
    FindingKind(
        *("outside", "trimmed outside", Level.BLOCKER, "The file has become shorter than the trim."),
        *("trim", "Open Trim"),
    ),
    FindingKind(
        *("short", "too short", Level.WARNING, "They hold fewer frames at 16 fps than are to train."),
        *("fewer_frames", "Train fewer frames"),
    ),
    FindingKind(
        "uncaptioned",
        "without caption",
        Level.WARNING,
        "The model is not told what moves in them.",
        "captions",
        "Open Captions",
    ),
    FindingKind(
        "speed",
        "at a wrong speed",
        Level.WARNING,
        "Their motion is learnt more than a fifth faster or slower than it is.",
        "real_speed",
        "Train at real speed",
    ),
    FindingKind(
        "duplicate",
        "duplicate",
        Level.WARNING,
        "Their files hold the same bytes: what they show counts twice.",
        "keep_best",
        "Keep the best of each",
    ),
    FindingKind(
        "near",
        "nearly alike",
        Level.WARNING,
        "They look like another clip: what they show counts twice.",
        "keep_best",
        "Keep the best of each",
    ),
    FindingKind(
        "still",
        "with a still start or end",
        Level.WARNING,
        "Nothing moves in their first or last half second or more.",
        "cut_still",
        "Trim to the motion",
    ),
    FindingKind(
        "letterbox",
        "with black bars",
        Level.WARNING,
        "The bars would be learnt, too.",
        "crop_bars",
        "Crop the bars away",
    ),
    FindingKind(
        "lowres",
        "below the resolution",
        Level.WARNING,
        "They are smaller than the resolution that trains, and are not enlarged.",
        "reject",
        "Reject them",
    ),
    FindingKind(
        *("hdr", "HDR", Level.NOTE, "They are tone-mapped, and train as Trim shows them."),
        *("trim", "Open Trim"),
    ),
    FindingKind(
        *("untrimmed", "untrimmed", Level.NOTE, "Only a part of them trains, and nobody chose which."),
        *("trim", "Open Trim"),
    ),
    FindingKind(
        "trigger",
        "without trigger word",
        Level.NOTE,
        "The trigger word is put before their captions.",
        "captions",
        "Open Captions",
    ),
    FindingKind(
        "vfr",
        "at a variable rate",
        Level.NOTE,
        "Frames are taken by their time stamps: nothing need be done.",
    ),
    FindingKind("rotated", "rotated", Level.NOTE, "They are turned upright as they train: nothing to do."),
)


@dataclass(frozen=True, slots=True)
class Finding:
    """What was found, and in how many clips."""

    kind: FindingKind
    clips: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Health:
    """A data set in numbers.

    Attributes:
        clips: All of them.
        usable: Those that train.
        rejected: Left out by the user.
        waiting: Not looked at yet.
        seconds: Length of what the usable ones use.
        findings: Worst first; only those that were found.
    """

    clips: int
    usable: int
    rejected: int
    waiting: int
    seconds: float
    findings: tuple[Finding, ...]


def health_of(records: Iterable[ClipRecord]) -> Health:
    """Count what was found."""
    found: dict[str, list[str]] = {}
    clips = usable = rejected = waiting = 0
    seconds = 0.0
    for record in records:
        clips += 1
        rejected += record.rejected
        waiting += "unknown" in record.traits
        if record.is_usable:
            usable += 1
            seconds += record.used_seconds or 0.0
        for name in record.findings:
            found.setdefault(name, []).append(record.id)
    findings = tuple(Finding(kind, tuple(found[kind.name])) for kind in FINDINGS if kind.name in found)
    return Health(clips, usable, rejected, waiting, seconds, findings)


def frames_for_all(records: Iterable[ClipRecord]) -> int:
    """The most frames, 4n+1, that all of these clips hold; at least 5."""
    return max(5, min((record.trains for record in records if record.trains), default=5))
