"""A process that looks through one video, or makes its proxy: a file that brings a decoder down takes it alone.

Started by `study_process` as `python -m wan_studio.services.study_worker KIND FOLDER`, with the source on its
standard input; writes `done count` lines, and at the end a line with what went wrong, or an empty one.
"""

import contextlib
import os
import sys
from pathlib import Path

from wan_studio.errors import AppError
from wan_studio.services.clip_analysis import AnalysisCache
from wan_studio.services.probe_cache import decoded_source
from wan_studio.services.proxy_maker import ProxyMaker


def main() -> None:
    """Make it; it lies in the folder afterwards."""
    kind, folder = sys.argv[1], Path(sys.argv[2])
    source = decoded_source(sys.stdin.buffer.read())
    replies = os.fdopen(os.dup(sys.stdout.fileno()), "w", encoding="utf-8", errors="backslashreplace")
    # What a library prints must not end up among the replies.
    os.dup2(sys.stderr.fileno(), sys.stdout.fileno())
    with contextlib.suppress(AttributeError, OSError):
        os.nice(5)

    def tell(line: str) -> None:
        replies.write(line + "\n")
        replies.flush()

    try:
        if kind == "motion":
            AnalysisCache(folder).analysis(source, lambda done, count: tell(f"{done} {count}"))
        else:
            ProxyMaker(folder).make(source, lambda done, count: tell(f"{done} {count}"))
    except AppError as error:
        tell("! " + str(error).replace("\n", " "))
    else:
        tell("")


if __name__ == "__main__":
    main()
