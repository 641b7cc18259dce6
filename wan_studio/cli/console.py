"""How the command line speaks: results on stdout, complaints on stderr, and its exit codes."""

import sys

EXIT_DONE = 0
EXIT_FAILED = 1
EXIT_BAD_INPUT = 2
EXIT_STOPPED = 130


def say(text: str = "") -> None:
    """A line of the result, on stdout."""
    print(text, flush=True)


def complain(message: str, hint: str = "") -> None:
    """What is wrong and what to do, on stderr."""
    print(f"{message} {hint}".strip(), file=sys.stderr, flush=True)


def in_words(seconds: float) -> str:
    """A duration as people say it: "45 s", "12 min", "3 h 5 min"."""
    whole = round(seconds)
    if whole < 100:
        return f"{whole} s"
    minutes = round(whole / 60)
    return f"{minutes} min" if minutes < 60 else f"{minutes // 60} h {minutes % 60} min"
