"""Lets the present thread's work stand back behind all other programs', the trainer's above all."""

import contextlib
import os
import sys
import threading

import psutil

NICENESS = 10
"""Of 19: a twelfth of the processor beside a program that wants all of it, and all where there is none."""

_TRAINING = (["run"], ["resume"], ["rehearse"], ["measure"])
_lowered = threading.local()


def lower_thread() -> None:
    """Lower the present thread's priority, and by inheritance that of decoders that it starts; for good."""
    if getattr(_lowered, "is_done", False):
        return
    _lowered.is_done = True
    with contextlib.suppress(OSError, AttributeError):
        if sys.platform == "win32":
            import ctypes

            kernel = ctypes.windll.kernel32
            kernel.SetThreadPriority(kernel.GetCurrentThread(), -1)
        elif sys.platform == "linux":
            # On Linux a thread has a niceness of its own.
            os.setpriority(os.PRIO_PROCESS, threading.get_native_id(), NICENESS)


def lower_process() -> None:
    """Lower the priority of this process, all its threads together."""
    with contextlib.suppress(psutil.Error, OSError):
        process = psutil.Process()
        process.nice(psutil.BELOW_NORMAL_PRIORITY_CLASS if sys.platform == "win32" else NICENESS)


def is_trainer_at_work() -> bool:
    """Whether any trainer runs on this machine, started by this window, another one or a command line.

    Takes some milliseconds a hundred processes: not for the GUI thread.
    """
    for process in psutil.process_iter(["cmdline"]):
        words: list[str] = process.info["cmdline"] or []
        at = words.index("-m") if "-m" in words else len(words)
        if words[at + 1 : at + 2] == ["trainer"] and words[at + 2 : at + 3] in _TRAINING:
            return True
    return False
