"""Starts the processes that train a run together on this machine, and waits for them."""

import os
import sys


def launch(processes: int, arguments: list[str]) -> int:
    """Run `python -m trainer` with these arguments in several processes, as torchrun does.

    Returns:
        The exit code: 0 when all ended well, else that of the first that failed.
    """
    if sys.platform == "win32":
        # PyTorch's builds for Windows have no libuv.
        os.environ.setdefault("USE_LIBUV", "0")
    from torch.distributed.elastic.multiprocessing.errors import ChildFailedError
    from torch.distributed.run import main as torchrun

    try:
        torchrun(["--standalone", f"--nproc-per-node={processes}", "-m", "trainer", *arguments])
    except ChildFailedError as error:
        _, failure = error.get_first_failure()
        return max(1, failure.exitcode)
    return 0
