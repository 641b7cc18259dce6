"""Puts many small files in place: all are written beside their targets first, and then renamed.

So a full disk or a folder that may not be written to is found before the first file changes. It is also what
file systems are quick at: ext4 without a journal passes over every file that was deleted a moment ago when
it makes a new one, and each rename over a file deletes one.
"""

import contextlib
import errno
import os
from collections.abc import Callable, Iterable, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import TypeVar

from trainer.protocol.wire import lacks_room

T = TypeVar("T")
U = TypeVar("U")

_THREADS = 4 if os.name == "nt" else 1
"""Windows looks into every new file as it is closed, and looks into several at once. Elsewhere a folder is
locked while a name in it is made, and threads that wait for that lock take the window's share of a core."""
_ENDING = ".wan-studio.tmp"


def replace_files(contents: Sequence[tuple[Path, bytes]]) -> list[OSError | None]:
    """Give each of these files new bytes, atomically each; returns for each why not.

    The disk is not waited for: a crash of the system may lose what is not kept elsewhere, see `reach_disk`.
    Folders are made where they lack; of a link the target is replaced.
    """
    staged = _for_each(_staged, [(at, path, content) for at, (path, content) in enumerate(contents)])
    # A disk without room for all gets none of them.
    full = next((one for one in staged if isinstance(one, OSError) and lacks_room(one)), None)
    if full is not None:
        for one in staged:
            if not isinstance(one, OSError):
                _drop(one[0])
        return [full] * len(staged)
    return _for_each(_put, staged)


def reach_disk(paths: Iterable[Path]) -> None:
    """Wait until the disk has what was written to these files.

    Raises:
        OSError: it cannot be known.
    """
    if hasattr(os, "sync"):
        os.sync()
        return
    for path in paths:
        with contextlib.suppress(FileNotFoundError), path.open("r+b") as file:
            os.fsync(file.fileno())


def sweep(paths: Iterable[Path]) -> None:
    """Remove what an interrupted `replace_files` left beside these files."""
    for folder in {Path(_target(path)).parent for path in paths}:
        for left in folder.glob(f".*{_ENDING}"):
            _drop(str(left))


def _staged(file: tuple[int, Path, bytes]) -> tuple[str, str] | OSError:
    """Write the bytes beside the file; returns both names."""
    at, path, content = file
    target = _target(path)
    folder, name = os.path.split(target)
    temporary = os.path.join(folder, f".{name}.{os.getpid()}-{at}{_ENDING}")  # noqa: PTH118 - as below
    try:
        _write(temporary, content)
    except FileNotFoundError:
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
            _write(temporary, content)
        except OSError as error:
            return error
    except OSError as error:
        _drop(temporary)
        return error
    return temporary, target


def _write(name: str, content: bytes) -> None:
    # Without a buffer: half the calls, and there is nothing to gather.
    with open(name, "wb", buffering=0) as file:  # noqa: PTH123 - a Path costs as much as the file
        # ext4 sends a file whose place on the disk is not settled to the disk when it is renamed over another,
        # one by one; `reach_disk` sends them all at once.
        if hasattr(os, "posix_fallocate") and content:
            with contextlib.suppress(OSError):
                os.posix_fallocate(file.fileno(), 0, len(content))
        if file.write(content) != len(content):
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC), name)


def _put(one: tuple[str, str] | OSError) -> OSError | None:
    if isinstance(one, OSError):
        return one
    temporary, target = one
    try:
        os.replace(temporary, target)  # noqa: PTH105 - as above
    except OSError as error:
        _drop(temporary)
        return error
    return None


def _drop(name: str) -> None:
    with contextlib.suppress(OSError):
        os.unlink(name)  # noqa: PTH108 - as above


def _target(path: Path) -> str:
    name = str(path)
    return os.path.realpath(name) if os.path.islink(name) else name  # noqa: PTH114 - as above


def _for_each(func: Callable[[T], U], many: Sequence[T]) -> list[U]:
    if _THREADS == 1 or len(many) < 2 * _THREADS:
        return [func(one) for one in many]

    # A share a thread: a task a file would cost more than the file.
    def do(share: Sequence[T]) -> list[U]:
        return [func(one) for one in share]

    size = -(-len(many) // _THREADS)
    with ThreadPoolExecutor(_THREADS) as pool:
        done = pool.map(do, [many[at : at + size] for at in range(0, len(many), size)])
    return [one for share in done for one in share]
