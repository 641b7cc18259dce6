"""What the bootstrap says, and the commands that it runs: output to a log, progress to the screen."""

from __future__ import annotations

import queue
import re
import shutil
import subprocess
import sys
import threading
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TextIO

HEARTBEAT_SECONDS = 30
LOG_TAIL_LINES = 15

# Worth a plain line where there is no terminal: downloads of 10 MB and more, ten packages and more.
LARGE_STAGE = re.compile(r"downloading .*(\d\d\.\d MB| GB)$|unpacking \d\d")

# What a failed install most often means, by what pip then says.
ADVICE = (
    ("No space left on device", "The disk is full: free some space, then start the same command again."),
    (
        "connection broken|Temporary failure in name resolution|Name or service not known|Max retries|timed out",
        "A package index did not answer: check the network or the proxy settings (HTTPS_PROXY), then start the"
        " same command again; it goes on where it stopped.",
    ),
    (
        "No matching distribution found",
        "No package index that pip is set up with offers this version for this Python. If you set an index of your"
        " own in pip's configuration, see that it has the package.",
    ),
)


class SetupError(Exception):
    """The environment could not be made; the text says why and what to do."""


def say(text: str) -> None:
    """One plain sentence to the person in front of it; stdout is left to the command that follows."""
    print(text, file=sys.stderr, flush=True)


def stage_of(line: str) -> str:
    """What a line of pip's output means, in words; empty where it says nothing new."""
    line = line.strip().replace("%2B", "+")
    if found := re.match(r"Downloading (?:\S*/)?([\w.]+)-(\d[^-\s]*)\S* \(([\d.]+ [kMG]?B)\)", line):
        name, version, size = found.groups()
        return "" if ".metadata" in line else f"downloading {name} {version.removesuffix('.tar.gz')}, {size}"
    if found := re.match(r"Installing collected packages: (.*)", line):
        count = len(found[1].split(","))
        return f"unpacking {count} package{'s' if count > 1 else ''}"
    if found := re.match(r"(?:Collecting|Processing|Building wheel for) (?:.*/)?([\w.-]+)", line):
        return f"looking at {found[1]}"
    return ""


class Progress:
    """Pip's output as one live line on a terminal, and as a few plain lines elsewhere."""

    def __init__(self, stream: TextIO) -> None:
        self._stream = stream
        self._is_live = stream.isatty()
        self._stage, self._percent = "working", ""
        self._stage_began = self._last_beat = time.monotonic()

    def feed(self, line: str) -> None:
        """Takes one line of pip's output."""
        if found := re.match(r"Progress (\d+) of (\d+)", line):
            self._percent = f" {100 * int(found[1]) // max(1, int(found[2]))} %"
        elif (stage := stage_of(line)) and stage != self._stage:
            self._stage, self._percent = stage, ""
            self._stage_began = self._last_beat = time.monotonic()
            if not self._is_live and LARGE_STAGE.match(stage):
                print(f"  {stage}", file=self._stream, flush=True)
        self.tick()

    def tick(self) -> None:
        """Shows that work goes on; call it often."""
        now = time.monotonic()
        text = f"  {self._stage}{self._percent} ({now - self._stage_began:.0f} s)"
        if self._is_live:
            self._overwrite(text)
        elif now - self._last_beat >= HEARTBEAT_SECONDS:
            self._last_beat = now
            print(text, file=self._stream, flush=True)

    def close(self) -> None:
        """Leaves a terminal with an empty line."""
        if self._is_live:
            self._overwrite("")
            self._stream.write("\r")
            self._stream.flush()

    def _overwrite(self, text: str) -> None:
        width = shutil.get_terminal_size().columns - 1
        self._stream.write("\r" + text[:width].ljust(width))
        self._stream.flush()


def run_logged(
    command: Sequence[str | Path], log_file: Path, environment: Mapping[str, str] | None = None
) -> int:
    """Runs a command with its whole output in the log and its progress on the screen.

    Returns:
        Its exit code, 127 where it cannot be started.
    """
    with log_file.open("a", encoding="utf-8") as log:
        print("$", *command, file=log, flush=True)
        try:
            child = subprocess.Popen(
                command,
                stdin=subprocess.DEVNULL,
                stdout=subprocess.PIPE,
                stderr=subprocess.STDOUT,
                env=environment,
                encoding="utf-8",
                errors="replace",
            )
        except OSError as error:
            print(error, file=log)
            return 127
        progress = Progress(sys.stderr)
        try:
            _follow(child, progress, log)
        except KeyboardInterrupt:
            _end(child)
            raise
        finally:
            progress.close()
        return child.wait()


def _follow(child: subprocess.Popen[str], progress: Progress, log: TextIO) -> None:
    """Passes the child's lines on until it closes its output; a thread reads, so that the clock can tick."""
    lines: queue.Queue[str | None] = queue.Queue()

    def read_lines() -> None:
        for line in child.stdout or ():
            lines.put(line)
        lines.put(None)

    threading.Thread(target=read_lines, daemon=True).start()
    while True:
        try:
            line = lines.get(timeout=0.5)
        except queue.Empty:
            progress.tick()
            continue
        if line is None:
            return
        progress.feed(line)
        if not line.startswith("Progress "):
            log.write(line)
            log.flush()


def _end(child: subprocess.Popen[str]) -> None:
    """Waits for a child that got the same Ctrl+C; kills it where it does not end itself."""
    try:
        child.wait(timeout=10)
    except (subprocess.TimeoutExpired, KeyboardInterrupt):
        child.kill()


def failure_text(printed: str, log_file: Path) -> str:
    """What to tell a person after an install failed, from what it printed."""
    advice = next((text for pattern, text in ADVICE if re.search(pattern, printed)), "")
    tail = "\n".join(f"    {line}" for line in printed.splitlines()[-LOG_TAIL_LINES:])
    ending = (
        advice or "Start the same command again to go on; if it fails at the same place, the log says more."
    )
    return f"The installation failed. The last lines of {log_file}:\n{tail}\n{ending}"
