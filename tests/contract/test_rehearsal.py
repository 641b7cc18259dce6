"""A rehearsal as the app meets it: a process that tells what a run will take, and can be stopped at any moment."""

import signal
import sys
import time

import msgspec
import pytest

from tests.jobs import preview_row, small_job
from tests.processes import events_of, trainer, wait_for
from trainer.model.miniature import build_miniature
from trainer.protocol.commands import Stop
from trainer.protocol.events import CommandObeyed, PhaseProgress, RunFinished, WorkMeasured
from trainer.protocol.job import JobSpec
from trainer.protocol.run_folder import RunFolder

pytestmark = pytest.mark.contract


@pytest.fixture(scope="module")
def base(tmp_path_factory):
    return build_miniature(tmp_path_factory.mktemp("miniature"))


@pytest.fixture
def run(tmp_path):
    return RunFolder(tmp_path / "rehearsal")


def endless(job: JobSpec) -> JobSpec:
    """Clips that this machine encodes for minutes."""
    (dataset,) = job.datasets
    clip = dataset.clips[0]
    size = msgspec.structs.replace(clip.sizes[0], width=1024, height=1024)
    clip = msgspec.structs.replace(clip, windows=(clip.windows[0][:1] * 81,), sizes=(size,))
    return msgspec.structs.replace(job, datasets=(msgspec.structs.replace(dataset, clips=(clip,)),))


def is_encoding(run: RunFolder) -> bool:
    return any(
        isinstance(event, PhaseProgress) and event.phase.value == "caching_latents"
        for event in events_of(run)
    )


def test_a_job_is_rehearsed_and_its_run_is_not_alive_afterwards(tmp_path, base, run):
    job = small_job(tmp_path, base, sample={"every": 4, "rows": (preview_row(),)})
    run.create(job)
    process = trainer("trainer", "rehearse", run.path, "--steps", "1")
    words, _ = process.communicate(timeout=120)
    assert process.returncode == 0, words
    assert [one.work for one in events_of(run) if isinstance(one, WorkMeasured)] == [
        "text",
        "latents",
        "loading",
        "loading",
        "step",
        "step",
        "preview",
    ]
    assert events_of(run)[-1].reason == "completed"
    assert not run.is_alive()
    assert not run.checkpoint_steps()


@pytest.mark.slow  # Ctrl+C, below, goes the same way.
def test_a_second_trainer_is_refused_and_a_stop_ends_it_in_the_middle_of_encoding(tmp_path, base, run):
    run.create(endless(small_job(tmp_path, base)))
    process = trainer("trainer", "rehearse", run.path)
    wait_for(process, lambda: is_encoding(run))
    second = trainer("trainer", "rehearse", run.path)
    words, _ = second.communicate(timeout=120)
    assert second.returncode == 3, words

    run.send(Stop())
    began = time.monotonic()
    words, _ = process.communicate(timeout=60)
    assert time.monotonic() - began < 3
    assert process.returncode == 0, words
    *_, answer, finished = events_of(run)
    assert isinstance(answer, CommandObeyed)
    assert finished == msgspec.structs.replace(RunFinished(reason="stopped", step=0), time=finished.time)
    assert not run.is_alive()
    assert {path.name for path in run.path.iterdir()} == {"job.json", "events.jsonl", "lock", "commands"}


@pytest.mark.skipif(sys.platform == "win32", reason="there is no such signal between processes")
def test_ctrl_c_ends_it_in_the_middle_of_encoding(tmp_path, base, run):
    run.create(endless(small_job(tmp_path, base)))
    process = trainer("trainer", "rehearse", run.path)
    wait_for(process, lambda: is_encoding(run))
    process.send_signal(signal.SIGINT)
    began = time.monotonic()
    words, _ = process.communicate(timeout=60)
    assert time.monotonic() - began < 3
    assert process.returncode == 0, words
    assert events_of(run)[-1].reason == "stopped"
