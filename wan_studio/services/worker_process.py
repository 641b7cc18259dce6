"""How a worker process is ended, whatever it is busy with."""

import contextlib
import subprocess


def end_process(process: subprocess.Popen[bytes]) -> None:
    """End a process at once, and close what leads to it and from it."""
    process.kill()
    process.wait()
    for pipe in (process.stdin, process.stdout):
        if pipe is not None:
            with contextlib.suppress(OSError):
                pipe.close()
