"""The trainer as the app meets it: a process, its run folder, and what a kill leaves behind."""

import os
import subprocess
import sys
import time
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file

from tests.jobs import small_job
from trainer.model.miniature import build_miniature
from trainer.protocol.commands import Stop
from trainer.protocol.events import CheckpointSaved, Hello, RunFailed, RunFinished, StepDone
from trainer.protocol.run_folder import EventReader, RunFolder
from trainer.protocol.wire import write_json

pytestmark = pytest.mark.contract

ROOT = Path(__file__).parents[2]


def trainer(*arguments: object) -> subprocess.Popen:
    environment = os.environ | {"PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1"}
    return subprocess.Popen(
        [sys.executable, "-m", "trainer", *map(str, arguments)],
        env=environment,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )


def events_of(run: RunFolder) -> list:
    return EventReader(run.events_file).read_new()


def wait_for_step(run: RunFolder, step: int, process: subprocess.Popen) -> None:
    deadline = time.monotonic() + 120
    while not any(isinstance(event, StepDone) and event.step >= step for event in events_of(run)):
        assert process.poll() is None, process.communicate()[1]
        assert time.monotonic() < deadline
        time.sleep(0.02)


@pytest.fixture(scope="module")
def base(tmp_path_factory) -> Path:
    return build_miniature(tmp_path_factory.mktemp("miniature"))


def final_tensors(run: RunFolder) -> dict[str, torch.Tensor]:
    folder = run.checkpoint(run.checkpoint_steps()[-1])
    tensors = {}
    for path in sorted(folder.glob("*.safetensors")):
        tensors |= {f"{path.name}/{name}": tensor for name, tensor in load_file(path).items()}
    return tensors


def test_killed_and_resumed_equals_never_interrupted_to_the_bit(tmp_path, base):
    job = small_job(
        tmp_path,
        base,
        training={"steps": 60, "gradient_accumulation": 2},
        save={"every": 7},
        multistage={"switch_every": 3},
    )
    write_json(tmp_path / "job.json", job)
    whole, broken = RunFolder(tmp_path / "whole"), RunFolder(tmp_path / "broken")
    undisturbed = trainer("run", tmp_path / "job.json", "--run-dir", whole.path)
    killed = trainer("run", tmp_path / "job.json", "--run-dir", broken.path)
    wait_for_step(broken, 17, killed)
    killed.kill()
    killed.communicate()
    saved_before = broken.checkpoint_steps()[-1]
    assert not broken.is_alive()
    assert not any(isinstance(event, RunFinished | RunFailed) for event in events_of(broken))

    resumed = trainer("resume", broken.path)
    assert resumed.wait(120) == 0, resumed.communicate()[1]
    assert undisturbed.wait(120) == 0, undisturbed.communicate()[1]

    hellos = [event for event in events_of(broken) if isinstance(event, Hello)]
    assert [hello.first_step for hello in hellos] == [0, saved_before]
    expected, got = final_tensors(whole), final_tensors(broken)
    assert expected.keys() == got.keys()
    assert all(torch.equal(expected[name], got[name]) for name in expected)
    for process in (undisturbed, resumed):
        process.communicate()


def test_a_second_trainer_is_refused_a_stop_saves_and_a_wrong_job_is_named(tmp_path, base):
    job = small_job(tmp_path, base, training={"steps": 100_000}, save={"every": 100_000})
    write_json(tmp_path / "job.json", job)
    run = RunFolder(tmp_path / "run")
    first = trainer("run", tmp_path / "job.json", "--run-dir", run.path)
    wait_for_step(run, 2, first)

    second = trainer("resume", run.path)
    _, complaint = second.communicate(timeout=120)
    assert second.returncode == 3
    assert "Another trainer" in complaint

    run.send(Stop())
    first.communicate(timeout=120)
    assert first.returncode == 0
    *_, saved, finished = [
        event for event in events_of(run) if isinstance(event, CheckpointSaved | RunFinished)
    ]
    assert finished.reason == "stopped"
    assert saved.step == finished.step
    assert run.checkpoint_steps() == [finished.step]

    (tmp_path / "wrong.json").write_text((tmp_path / "job.json").read_text().replace('"rank"', '"rnak"'))
    wrong = trainer("run", tmp_path / "wrong.json", "--run-dir", tmp_path / "other")
    _, complaint = wrong.communicate(timeout=120)
    assert wrong.returncode == 2
    assert "rnak" in complaint
    assert "wrong.json" in complaint
    assert not (tmp_path / "other").exists()
