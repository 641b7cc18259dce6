"""How much RAM a container, or any control group of Linux, lets its programs take."""

from dataclasses import dataclass
from pathlib import Path

CGROUP_ROOT = Path("/sys/fs/cgroup")
OWN_GROUPS = Path("/proc/self/cgroup")


@dataclass(frozen=True, slots=True)
class ContainerMemory:
    """The tightest limit above this process.

    Attributes:
        available_bytes: What is left of it; files that the system only caches count as free.
    """

    limit_bytes: int
    available_bytes: int


@dataclass(frozen=True, slots=True)
class _Version:
    """How a version of control groups names its files."""

    limit: str
    usage: str
    cached: str


_FIRST = _Version("memory.limit_in_bytes", "memory.usage_in_bytes", "total_inactive_file")
_SECOND = _Version("memory.max", "memory.current", "inactive_file")


class ContainerLimits:
    """Finds once where limits stand, and reads them as often as asked."""

    def __init__(self, root: Path = CGROUP_ROOT, own_groups: Path = OWN_GROUPS) -> None:
        self._places = [*_places(root, own_groups)]

    def read(self, ram_bytes: int) -> ContainerMemory | None:
        """The limit that leaves the least; None where none is below the machine's RAM."""
        found = (_read(folder, version) for folder, version in self._places)
        below = [one for one in found if one is not None and one.limit_bytes < ram_bytes]
        return min(below, key=lambda one: one.available_bytes, default=None)


def _places(root: Path, own_groups: Path) -> list[tuple[Path, _Version]]:
    """Every folder from this process's own group up to the root that may hold a limit.

    A container mostly sees its own group as the root; then the path in `own_groups` is the host's and leads nowhere.
    """
    found: list[tuple[Path, _Version]] = []
    for line in _lines(own_groups):
        # "4:memory:/a/b" in the first version, "0::/a/b" in the second.
        _, controllers, path = (*line.split(":", 2), "", "")[:3]
        if controllers and "memory" not in controllers.split(","):
            continue
        version, top = (_FIRST, root / "memory") if controllers else (_SECOND, root)
        own = top / path.lstrip("/")
        folders = [folder for folder in (own, *own.parents) if folder.is_relative_to(top)]
        found += [(folder, version) for folder in folders if (folder / version.limit).is_file()]
    return found


def _read(folder: Path, version: _Version) -> ContainerMemory | None:
    limit, usage = _number(folder / version.limit), _number(folder / version.usage)
    if limit is None:
        return None
    cached = 0
    for line in _lines(folder / "memory.stat"):
        name, _, value = line.partition(" ")
        if name == version.cached and value.isdigit():
            cached = int(value)
            break
    taken = max(0, (usage or 0) - cached)
    return ContainerMemory(limit, max(0, limit - taken))


def _number(file: Path) -> int | None:
    """The number in a file; None for "max", and where there is no such file."""
    text = next(iter(_lines(file)), "").strip()
    return int(text) if text.isdigit() else None


def _lines(file: Path) -> list[str]:
    try:
        return file.read_text(encoding="utf-8").splitlines()
    except (OSError, UnicodeDecodeError):
        return []
