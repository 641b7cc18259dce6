"""What a person sees of an install, and what is kept of it."""

import importlib
import io
import sys

import pytest


@pytest.fixture
def console():
    return importlib.import_module("bootstrap_console")


class Terminal(io.StringIO):
    def isatty(self):
        return True


@pytest.mark.parametrize(
    ("line", "stage"),
    [
        ("  Downloading pyside6_essentials-6.12.0-cp310-abi3-manylinux_2_34_x86_64.whl (84.3 MB)", "downloading pyside6_essentials 6.12.0, 84.3 MB"),
        ("Downloading https://host/whl/torch-2.13.0%2Bcpu-cp311-cp311-linux_x86_64.whl (191.8 MB)", "downloading torch 2.13.0+cpu, 191.8 MB"),
        ("  Downloading antlr4-4.9.tar.gz (117 kB)", "downloading antlr4 4.9, 117 kB"),
        ("  Downloading peft-0.21.2-py3-none-any.whl.metadata (15 kB)", ""),
        ("Installing collected packages: mpmath, sympy, torch", "unpacking 3 packages"),
        ("Collecting huggingface-hub<3.0,>=1.5 (from transformers)", "looking at huggingface-hub"),
        ("Processing /some where/torch.whl", "looking at torch.whl"),
        ("WARNING: something or other", ""),
    ],
)  # fmt: skip
def test_pips_lines_become_stages_in_words(console, line, stage):
    assert console.stage_of(line) == stage


def test_without_a_terminal_only_large_stages_get_a_line(console):
    screen = io.StringIO()
    progress = console.Progress(screen)
    for line in (
        "Collecting av",
        "Downloading av-18.1.0-cp311-abi3-linux_x86_64.whl (9.9 MB)",
        "Progress 5 of 10",
        "Downloading bitsandbytes-0.50.2-py3-none-linux_x86_64.whl (43.1 MB)",
        "Installing collected packages: " + ", ".join("abcdefghijkl"),
    ):
        progress.feed(line)
    progress.close()
    assert screen.getvalue().splitlines() == [
        "  downloading bitsandbytes 0.50.2, 43.1 MB",
        "  unpacking 12 packages",
    ]


def test_a_terminal_gets_one_line_that_is_overwritten_and_left_empty(console):
    screen = Terminal()
    progress = console.Progress(screen)
    progress.feed("Downloading bitsandbytes-0.50.2-py3-none-linux_x86_64.whl (43.1 MB)")
    progress.feed("Progress 21550000 of 43100000")
    progress.close()
    written = screen.getvalue()
    assert "\n" not in written
    assert "43.1 MB 50 % (0 s)" in written
    assert written.split("\r")[-2].strip() == ""


def test_a_long_silence_is_broken_by_a_heartbeat(console, monkeypatch):
    screen = io.StringIO()
    progress = console.Progress(screen)
    progress.feed("Collecting torch")
    monkeypatch.setattr(console, "HEARTBEAT_SECONDS", 0)
    progress.tick()
    assert screen.getvalue() == "  looking at torch (0 s)\n"


def test_a_commands_output_and_exit_code_are_kept_whole(console, tmp_path):
    log = tmp_path / "log"
    code = "import sys; print('out é'); print('Progress 1 of 2'); print('err', file=sys.stderr); sys.exit(3)"
    environment = {"PYTHONIOENCODING": "utf-8"}
    assert console.run_logged([sys.executable, "-c", code], log, environment) == 3
    text = log.read_text(encoding="utf-8")
    assert "out é\n" in text
    assert "err\n" in text
    assert "\nProgress" not in text


def test_a_program_that_is_not_there_is_exit_code_127(console, tmp_path):
    log = tmp_path / "log"
    assert console.run_logged([tmp_path / "absent"], log) == 127
    assert "absent" in log.read_text()


@pytest.mark.parametrize(
    ("printed", "advice"),
    [
        (
            "ERROR: Could not install packages due to an OSError: [Errno 28] No space left on device",
            "free some space",
        ),
        (
            "Retrying after connection broken by X\nERROR: No matching distribution found for av",
            "check the network",
        ),
        ("ERROR: No matching distribution found for av==18.1.0", "offers this version"),
        ("ERROR: something new", "Start the same command again"),
    ],
)
def test_a_failure_shows_the_logs_tail_and_what_to_do(console, tmp_path, printed, advice):
    text = console.failure_text("first\n" * 40 + printed, tmp_path / "install.log")
    assert printed.splitlines()[-1] in text
    assert advice in text
    assert str(tmp_path / "install.log") in text
    assert text.count("first") < 20
