"""Looking through a video, and making its proxy, in a process of its own."""

import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Literal

from wan_studio.domain.clip import SourceVideo
from wan_studio.errors import AppError
from wan_studio.services.probe_cache import encoded_source
from wan_studio.services.progress import Progress, untold

_ROOT = Path(__file__).resolve().parents[2]
COMMAND = (sys.executable, "-m", "wan_studio.services.study_worker")

StudyKind = Literal["motion", "proxy"]


class StudyError(AppError):
    """A video could not be looked through, or copied."""

    def __init__(self, source: SourceVideo, reason: str) -> None:
        super().__init__(
            reason or f"{source.path} brought the decoder down.", "It can be trimmed all the same."
        )


class StudyCancelledError(AppError):
    """The work was cancelled."""

    def __init__(self) -> None:
        super().__init__("The work was cancelled.")


def run_study(
    kind: StudyKind,
    source: SourceVideo,
    folder: Path,
    on_progress: Progress = untold,
    is_cancelled: Callable[[], bool] = lambda: False,
) -> None:
    """Make a video's analysis, or its proxy, where `AnalysisCache` or `ProxyMaker` find it; waits until then.

    Raises:
        StudyError: it could not be made, or the process died.
        StudyCancelledError: it was cancelled.
        OSError: no process can be started.
    """
    environment = {
        **os.environ,
        "OMP_NUM_THREADS": "1",
        "PYTHONPATH": os.pathsep.join(
            path for path in (str(_ROOT), os.environ.get("PYTHONPATH", "")) if path
        ),
    }
    reason: str | None = None
    with subprocess.Popen(
        [*COMMAND, kind, str(folder)],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
        env=environment,
        encoding=None,
        creationflags=getattr(subprocess, "CREATE_NO_WINDOW", 0),
    ) as process:
        assert process.stdin is not None
        assert process.stdout is not None
        try:
            process.stdin.write(encoded_source(source))
            process.stdin.close()
            for data in process.stdout:
                if is_cancelled():
                    raise StudyCancelledError
                line = data.decode("utf-8", "replace").rstrip()
                if not line or line.startswith("!"):
                    reason = line[2:]
                    break
                done, count = line.split()
                on_progress(int(done), int(count))
        except BrokenPipeError:
            reason = None
        finally:
            if reason is None:
                process.kill()
    if reason is None or reason:
        raise StudyError(source, reason or "")
