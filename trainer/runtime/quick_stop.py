"""A stop that does not wait for the work: for what keeps nothing, and so may end at any moment.

Work looks for a stop between its parts, and one part may take a minute: reading a text encoder, a training
step on a small card. Python's own signal handlers wait for it too. So a thread looks, and ends the process.
"""

import signal
import socket
import threading
import time
from collections.abc import Callable, Generator
from contextlib import contextmanager

from trainer.protocol.commands import Stop
from trainer.protocol.run_folder import RunFolder
from trainer.runtime.control import Control

SECONDS_BETWEEN_LOOKS = 0.2
SECONDS_FOR_A_GOOD_END = 0.7
"""What the work has, once told to stop, to come to an end by itself."""
_SIGNALS = bytes([signal.SIGINT, signal.SIGTERM])


@contextmanager
def quick_stop(run: RunFolder, control: Control, leave: Callable[[], None]) -> Generator[None]:
    """Inside, a stop by command or signal ends the process soon, whatever it is at.

    To be used on the main thread, as signals are.

    Args:
        run: Whose commands.
        control: Of the work; it answers the command if the work does not.
        leave: Called on another thread when the work does not end by itself; says the last event and ends
            the process. It is never called once the work has ended.
    """
    ended, ending = threading.Event(), threading.Lock()
    receiver, sender = socket.socketpair()
    receiver.settimeout(SECONDS_BETWEEN_LOOKS)
    sender.settimeout(0.0)
    before = signal.set_wakeup_fd(sender.fileno(), warn_on_full_buffer=False)

    def watch() -> None:
        while not ended.is_set() and not _is_told(run, control, receiver):
            pass
        if ended.wait(SECONDS_FOR_A_GOOD_END):
            return
        with ending:
            if not ended.is_set():
                control.look()
                leave()

    thread = threading.Thread(target=watch, name="quick stop", daemon=True)
    thread.start()
    try:
        yield
    finally:
        with ending:
            ended.set()
        signal.set_wakeup_fd(before)
        thread.join()
        receiver.close()
        sender.close()


def _is_told(run: RunFolder, control: Control, receiver: socket.socket) -> bool:
    """Wait a moment for a signal, and look for a command; the work itself answers it if it can."""
    try:
        # Not for this thread to set `control.stop`: the handler would take the signal for a second Ctrl+C.
        if any(one in _SIGNALS for one in receiver.recv(64)):
            return True
    except TimeoutError:
        pass
    except OSError:
        time.sleep(SECONDS_BETWEEN_LOOKS)
    return control.stop or any(isinstance(command, Stop) for _, command in run.waiting_commands())
