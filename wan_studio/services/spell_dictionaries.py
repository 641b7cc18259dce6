"""Hunspell dictionaries: found where systems and programs keep them, and read by spylls.

Spylls is Hunspell in pure Python: it reads every dictionary that LibreOffice, Firefox and Linux have, and needs no
compiled library. It comes with American English, so that there is always one.
"""

import importlib.util
import os
import sys
from collections.abc import Iterable
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from typing import Any

from wan_studio.errors import AppError
from wan_studio.paths import user_data_folder

_MOST_SUGGESTIONS = 6
_LARGEST_BYTES = 64 * 2**20
_SYSTEM_FOLDERS: dict[str, tuple[str, ...]] = {
    "linux": (
        "/usr/share/hunspell",
        "/usr/share/myspell",
        "/usr/share/myspell/dicts",
        "/usr/local/share/hunspell",
        "~/.local/share/hunspell",
        "/usr/lib/libreoffice/share/extensions",
        "/opt/libreoffice*/share/extensions",
    ),
    "darwin": (
        "/Library/Spelling",
        "~/Library/Spelling",
        "/opt/homebrew/share/hunspell",
        "/Applications/LibreOffice.app/Contents/Resources/extensions",
    ),
    "win32": (
        "%ProgramFiles%/LibreOffice/share/extensions",
        "%ProgramFiles(x86)%/LibreOffice/share/extensions",
        "%APPDATA%/hunspell",
        "C:/Hunspell",
    ),
}


class DictionaryError(AppError):
    """A dictionary cannot be read."""

    def __init__(self, path: Path, error: Exception) -> None:
        super().__init__(
            f"The dictionary {path} cannot be read ({error or type(error).__name__}).",
            "Choose another language in the caption's menu, or put a good copy there.",
        )


@dataclass(frozen=True, slots=True)
class SpellDictionary:
    """A pair of files.

    Attributes:
        language: As its files are called, e.g. "en_US".
        stem: Path without `.aff` and `.dic`.
        is_built_in: Whether it came with spylls.
    """

    language: str
    stem: Path
    is_built_in: bool = False


def dictionaries_folder() -> Path:
    """Where users put dictionaries of their own; not made here."""
    return user_data_folder() / "dictionaries"


def find_dictionaries(folders: Iterable[Path] | None = None) -> list[SpellDictionary]:
    """The dictionaries of this machine, one a language, by language.

    The user's own come before those of `DICPATH`, the system's and the built-in one.

    Args:
        folders: Where to look; None for all the places.
    """
    places = list(_places() if folders is None else folders)
    found: dict[str, SpellDictionary] = {}
    for folder in places:
        for dictionary in _dictionaries_in(folder):
            found.setdefault(dictionary.language, dictionary)
    if folders is None:
        built_in = _built_in()
        if built_in is not None:
            found.setdefault(built_in.language, built_in)
    return sorted(found.values(), key=lambda one: one.language.casefold())


class Speller:
    """A dictionary in memory; the window asks it through `spell_process`.

    Args:
        dictionary: Its files.

    Raises:
        DictionaryError: they cannot be read.
    """

    def __init__(self, dictionary: SpellDictionary) -> None:
        # Loaded when it is first wanted: the window starts without it.
        from spylls.hunspell import Dictionary  # pyright: ignore

        self.language = dictionary.language
        try:
            _refuse_large(dictionary)
            self._dictionary: Any = Dictionary.from_files(str(dictionary.stem))  # pyright: ignore
        except Exception as error:  # A foreign file may break a reader in any way.
            raise DictionaryError(dictionary.stem.with_name(f"{dictionary.stem.name}.dic"), error) from error

    def is_right(self, word: str) -> bool:
        """Whether the dictionary has the word, or each of its hyphenated parts."""
        if self._dictionary.lookup(word):
            return True
        parts = word.split("-")
        return len(parts) > 1 and all(part and self._dictionary.lookup(part) for part in parts)

    def suggest(self, word: str) -> list[str]:
        """Words that may be meant, the likeliest first; takes some tenths of a second."""
        return list(islice(self._dictionary.suggest(word), _MOST_SUGGESTIONS))


def _refuse_large(dictionary: SpellDictionary) -> None:
    for suffix in (".aff", ".dic"):
        if Path(f"{dictionary.stem}{suffix}").stat().st_size > _LARGEST_BYTES:
            raise ValueError("it is too large")


def _places() -> list[Path]:
    given = os.environ.get("DICPATH", "")
    named = [part for part in given.split(os.pathsep) if part]
    system = _SYSTEM_FOLDERS.get(sys.platform, _SYSTEM_FOLDERS["linux"])
    return [dictionaries_folder(), *(_expanded(part) for part in (*named, *system))]


def _expanded(text: str) -> Path:
    path = Path(os.path.expandvars(text)).expanduser()
    if "*" not in path.name and "*" in str(path):
        anchor = Path(path.anchor)
        return next(iter(sorted(anchor.glob(str(path.relative_to(anchor))))), path)
    return path


def _dictionaries_in(folder: Path) -> list[SpellDictionary]:
    """Those of a folder and of its subfolders: LibreOffice has one a language."""
    try:
        inner = [one for one in folder.iterdir() if one.is_dir()]
        files = [path for place in (folder, *sorted(inner)) for path in sorted(place.glob("*.dic"))]
    except OSError:
        return []
    # Hyphenation and thesaurus files end so, too; only a dictionary has its affixes beside it.
    return [
        SpellDictionary(path.stem, path.with_suffix(""))
        for path in files
        if path.with_suffix(".aff").is_file()
    ]


def _built_in() -> SpellDictionary | None:
    spec = importlib.util.find_spec("spylls")
    if spec is None or not spec.submodule_search_locations:
        return None
    stem = Path(next(iter(spec.submodule_search_locations))) / "hunspell" / "data" / "en" / "en_US"
    return SpellDictionary("en_US", stem, is_built_in=True) if Path(f"{stem}.dic").is_file() else None
