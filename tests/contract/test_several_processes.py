"""Several processes train one run: the numbers of one process, one events stream, resumable by another number."""

from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file

from tests.jobs import small_job
from tests.processes import events_of, go, steps_of, trainer, wait_for
from trainer.model.miniature import build_miniature
from trainer.protocol.commands import Stop
from trainer.protocol.events import Hello, RunFinished, WorkMeasured
from trainer.protocol.job import Expert
from trainer.protocol.run_folder import RunFolder
from trainer.protocol.wire import write_json

pytestmark = pytest.mark.contract

STEPS = 6


def tensors_of(run: RunFolder) -> dict[str, torch.Tensor]:
    folder = run.checkpoint(run.checkpoint_steps()[-1])
    return load_file(folder / "high_noise.safetensors") | {
        f"low/{name}": tensor for name, tensor in load_file(folder / "low_noise.safetensors").items()
    }


def assert_close(got: RunFolder, expected: RunFolder) -> None:
    ours, theirs = tensors_of(got), tensors_of(expected)
    assert ours.keys() == theirs.keys()
    for name, tensor in theirs.items():
        torch.testing.assert_close(ours[name], tensor, rtol=1e-4, atol=1e-6, msg=name)


@pytest.fixture(scope="module")
def base(tmp_path_factory) -> Path:
    return build_miniature(tmp_path_factory.mktemp("miniature"))


@pytest.fixture
def one_process(tmp_path, base) -> RunFolder:
    """The run in one process: four micro-batches a step."""
    job = small_job(
        tmp_path / "data",
        base,
        training={"steps": STEPS, "gradient_accumulation": 4},
        save={"every": 100, "dtype": "fp32"},
        multistage={"switch_every": 2},
    )
    write_json(tmp_path / "one.json", job)
    run = RunFolder(tmp_path / "one")
    go("trainer", "run", tmp_path / "one.json", "--run-dir", run.path)
    return run


@pytest.mark.slow  # Each part is tested without processes in tests/trainer/runtime/test_distributed.py.
def test_two_processes_train_what_one_does_and_one_goes_on_with_their_run(tmp_path, base, one_process):
    job = small_job(
        tmp_path / "data",
        base,
        job={"more_gpus": (1,)},
        training={"steps": STEPS, "gradient_accumulation": 2},
        save={"every": 3, "dtype": "fp32", "keep": 10},
        multistage={"switch_every": 2},
    )
    write_json(tmp_path / "two.json", job)
    two = RunFolder(tmp_path / "two")
    go("trainer", "run", tmp_path / "two.json", "--run-dir", two.path)
    assert_close(two, one_process)
    alone, together = steps_of(one_process), steps_of(two)
    assert [step.step for step in together] == list(range(1, STEPS + 1)), "one stream, each step once"
    assert [step.timesteps for step in together] == [step.timesteps for step in alone]
    for ours, theirs in zip(together, alone, strict=True):
        assert ours.item_losses == pytest.approx(theirs.item_losses, rel=1e-4)
        assert ours.grad_norm == pytest.approx(theirs.grad_norm, rel=1e-3)
    measured = [event for event in events_of(two) if isinstance(event, WorkMeasured)]
    loaded = [one.expert for one in measured if one.work == "loading"]
    assert loaded == list(Expert), "each process loads both, and one of them says so"

    # The same run from its middle, by torchrun with one process: as many micro-batches, the same numbers.
    for name in two.checkpoint(6).iterdir():
        name.unlink()
    two.checkpoint(6).rmdir()
    go("torch.distributed.run", "--standalone", "--nproc-per-node=1", "-m", "trainer", "resume", two.path)
    assert [event.first_step for event in events_of(two) if isinstance(event, Hello)] == [0, 3]
    assert_close(two, one_process)


@pytest.mark.slow  # The default run has the same with an expert on each, in test_one_expert_each.py.
def test_a_stop_reaches_all_processes_of_torchrun(tmp_path, base):
    job = small_job(tmp_path / "data", base, training={"steps": 100_000}, save={"every": 100_000})
    write_json(tmp_path / "long.json", job)
    run = RunFolder(tmp_path / "long")
    arguments = ("run", tmp_path / "long.json", "--run-dir", run.path)
    process = trainer(
        "torch.distributed.run", "--standalone", "--nproc-per-node=2", "-m", "trainer", *arguments
    )
    wait_for(process, lambda: len(steps_of(run)) >= 2)
    run.send(Stop())
    words, _ = process.communicate(timeout=120)
    assert process.returncode == 0, words
    (finished,) = (event for event in events_of(run) if isinstance(event, RunFinished))
    assert finished.reason == "stopped"
    assert run.checkpoint_steps() == [finished.step]
