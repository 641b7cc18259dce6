"""Names of exported files and folders: plain letters that every system and trainer reads, each once, stable."""

import re
import unicodedata

from wan_studio.domain.project import RESERVED_NAMES

_LONGEST = 60
# ai-toolkit reads `default.txt` as the caption of clips without one, and passes over `_controls`.
_TAKEN_BY_TRAINERS = frozenset({"default", "_controls"})


def plain_name(name: str) -> str:
    """The name in letters, digits, "-" and "_" alone; empty when nothing of it is left."""
    letters = unicodedata.normalize("NFKD", name).encode("ascii", "ignore").decode()
    plain = re.sub(r"_+", "_", re.sub(r"[^A-Za-z0-9_-]+", "_", letters)).strip("_-")[:_LONGEST].strip("_-")
    is_taken = plain.upper() in RESERVED_NAMES or plain.lower() in _TAKEN_BY_TRAINERS
    return f"{plain}_" if is_taken else plain


def folder_name(name: str, taken: set[str]) -> str:
    """A folder's name that no other has; it is taken then."""
    plain = plain_name(name) or "clips"
    found, number = plain, 2
    while found.lower() in taken:
        found, number = f"{plain}-{number}", number + 1
    taken.add(found.lower())
    return found


class ClipNames:
    """Names the clips of one folder by their sources.

    The first clip of a name has it alone; another one, a second range of the same source for example,
    carries its id, which never changes. So a clip added behind the others renames none of them.
    """

    def __init__(self) -> None:
        self._stems: dict[str, str] = {}
        self._taken: set[str] = set()

    def stem(self, clip_id: str, source_name: str) -> str:
        """The name of a clip's files, without their ending; always the same for a clip."""
        if clip_id in self._stems:
            return self._stems[clip_id]
        plain = plain_name(source_name.rpartition(".")[0] or source_name)
        mark = plain_name(clip_id) or "x"
        found = plain or f"clip-{mark[:6]}"
        for candidate in (found, f"{found}-{mark[:6]}", f"{found}-{mark}"):
            found = candidate
            if not self._is_taken(candidate):
                break
        self._stems[clip_id] = found
        self._taken |= {found.lower(), _bare(found)}
        return found

    def _is_taken(self, stem: str) -> bool:
        """Also by what windows and mirrored copies of another clip may be called."""
        return stem.lower() in self._taken or _bare(stem) in self._taken


def _bare(stem: str) -> str:
    return re.sub(r"(-w\d\d+)?(-flip_(h|v|hv))?$", "", stem.lower())
