"""Which of the programs on a GPU are our own trainer's."""

import contextlib
from collections.abc import Collection

import psutil

from trainer.protocol.run_folder import RunFolder
from wan_studio.services.run_process import process_pids


class OwnProcesses:
    """Tells a run's processes and their children; whose child a process is, is asked of the system once."""

    def __init__(self) -> None:
        self._roots: frozenset[int] = frozenset()
        self._is_own: dict[int, bool] = {}

    def among(self, pids: Collection[int], run: RunFolder) -> frozenset[int]:
        """Those of `pids` that work for the run, and the run's own processes."""
        roots = process_pids(run)
        if roots != self._roots:
            self._roots, self._is_own = roots, {}
        known = self._is_own
        self._is_own = {pid: known[pid] if pid in known else self._descends(pid) for pid in pids}
        return roots | {pid for pid, is_own in self._is_own.items() if is_own}

    def _descends(self, pid: int) -> bool:
        if not self._roots:
            return False
        with contextlib.suppress(psutil.Error, OSError):
            process = psutil.Process(pid)
            return any(one.pid in self._roots for one in (process, *process.parents()))
        return False
