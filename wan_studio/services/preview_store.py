"""Previews that were rendered later with a mixture of checkpoints; they lie beside the checkpoints' own."""

import re
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import msgspec

from trainer.protocol.events import PreviewSaved
from trainer.protocol.run_folder import RunFolder

_LIST_NAME = "previews.json"
_FOLDER = re.compile(r"high_(\d+)_low_(\d+)(?:_strength_(.+))?")


@dataclass(frozen=True, slots=True)
class PreviewMixture:
    """Previews of one mixture.

    Attributes:
        folder: Name of their folder; tells mixtures apart.
        high: Step of the checkpoint whose high-noise LoRA was used.
        low: The same for the low-noise LoRA.
        strength: Of both.
        previews: By row.
    """

    folder: str
    high: int
    low: int
    strength: float
    previews: tuple[PreviewSaved, ...]

    @property
    def step(self) -> int:
        """The later of the two steps."""
        return max(self.high, self.low)


class PreviewMixtures:
    """The mixtures of one run; each look reads only lists that have changed."""

    def __init__(self, run: RunFolder) -> None:
        self._run = run
        self._read: dict[str, tuple[int, PreviewMixture]] = {}

    def look(self) -> tuple[PreviewMixture, ...]:
        """All mixtures, by their folders' names; what cannot be read is left out."""
        try:
            names = sorted(path.name for path in self._run.previews_folder.glob("high_*") if path.is_dir())
        except OSError:
            return ()
        return tuple(found for name in names if (found := self._look_at(name)) is not None)

    def _look_at(self, name: str) -> PreviewMixture | None:
        path = self._run.previews_folder / name / _LIST_NAME
        try:
            changed = path.stat().st_mtime_ns
            known = self._read.get(name)
            if known is not None and known[0] == changed:
                return known[1]
            found = _mixture(name, path, self._run)
        except (OSError, msgspec.DecodeError, KeyError, TypeError, ValueError):
            return None
        if found is not None:
            self._read[name] = (changed, found)
        return found


def _mixture(name: str, path: Path, run: RunFolder) -> PreviewMixture | None:
    parts = _FOLDER.fullmatch(name)
    if parts is None:
        return None
    entries: list[dict[str, Any]] = msgspec.json.decode(path.read_bytes())["previews"]
    high, low = int(parts[1]), int(parts[2])
    folder = path.parent.relative_to(run.path).as_posix()
    previews = tuple(
        PreviewSaved(
            step=max(high, low),
            row=int(entry["row"]),
            video=f"{folder}/{entry['video']}",
            poster=f"{folder}/{entry['poster']}",
            prompt=str(entry.get("prompt", "")),
        )
        for entry in entries
    )
    return PreviewMixture(name, high, low, float(parts[3] or 1.0), previews)
