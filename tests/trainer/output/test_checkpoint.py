"""Checkpoints come back to the bit, appear whole or not at all, and damage is found."""

import pytest
import torch

from trainer.output.checkpoint import (
    CheckpointDamagedError,
    CheckpointWriteError,
    TrainingState,
    load_checkpoint,
    newest_checkpoint,
    prune_checkpoints,
    save_checkpoint,
)
from trainer.protocol.job import Expert
from trainer.protocol.run_folder import RunFolder


def trained_state(step: int) -> tuple[TrainingState, torch.optim.AdamW]:
    torch.manual_seed(step)
    weights = [torch.nn.Parameter(torch.randn(4, 3)), torch.nn.Parameter(torch.randn(2))]
    optimizer = torch.optim.AdamW(weights, lr=3e-4)
    for _ in range(3):
        sum((weight**3).sum() for weight in weights).backward()
        optimizer.step()
        optimizer.zero_grad()
    loras = {Expert.HIGH: {"a.lora_A.weight": weights[0].detach(), "a.lora_B.weight": weights[1].detach()}}
    return TrainingState(step, 3e-4, loras, {Expert.HIGH: optimizer.state_dict()}), optimizer


def save(run: RunFolder, step: int) -> TrainingState:
    state, _ = trained_state(step)
    save_checkpoint(run, state, lambda folder: (folder / "high_noise.safetensors").write_bytes(b"lora"))
    return state


def test_a_saved_state_comes_back_to_the_bit(tmp_path):
    run = RunFolder(tmp_path)
    state = save(run, 7)
    loaded = load_checkpoint(run.checkpoint(7))
    assert (loaded.step, loaded.learning_rate) == (7, 3e-4)
    for name, tensor in state.loras[Expert.HIGH].items():
        assert torch.equal(loaded.loras[Expert.HIGH][name], tensor)

    _, optimizer = trained_state(7)
    before = optimizer.state_dict()
    optimizer.load_state_dict(loaded.optimizers[Expert.HIGH])
    after = optimizer.state_dict()
    (group_after,), (group_before,) = after["param_groups"], before["param_groups"]
    assert group_after | {"betas": tuple(group_after["betas"])} == group_before
    for index, values in before["state"].items():
        for key, value in values.items():
            assert torch.equal(after["state"][index][key], value), key


def test_a_save_that_fails_leaves_the_earlier_checkpoint_and_nothing_half_written(tmp_path):
    run = RunFolder(tmp_path)
    save(run, 5)
    state, _ = trained_state(10)

    def disk_is_full(folder):
        (folder / "high_noise.safetensors").write_bytes(b"part")
        raise OSError(28, "No space left on device")

    with pytest.raises(CheckpointWriteError, match="No space left"):
        save_checkpoint(run, state, disk_is_full)
    assert run.checkpoint_steps() == [5]
    assert [path.name for path in run.checkpoints_folder.iterdir()] == ["step_000005"]


@pytest.mark.parametrize("name", ["state.safetensors", "high_noise.safetensors", "state.json"])
def test_a_damaged_newest_checkpoint_is_passed_over_with_a_message(tmp_path, name):
    run = RunFolder(tmp_path)
    save(run, 5)
    save(run, 10)
    damaged = run.checkpoint(10) / name
    damaged.write_bytes(damaged.read_bytes()[:-1] + b"\x00")
    reported: list[CheckpointDamagedError] = []
    loaded = newest_checkpoint(run, reported.append)
    assert loaded is not None
    assert loaded.step == 5
    assert "step_000010" in reported[0].message


def test_pruning_keeps_the_newest(tmp_path):
    run = RunFolder(tmp_path)
    for step in (5, 10, 15, 20):
        save(run, step)
    assert prune_checkpoints(run, keep=2) == [5, 10]
    assert run.checkpoint_steps() == [15, 20]


def test_saving_a_step_again_replaces_it(tmp_path):
    run = RunFolder(tmp_path)
    save(run, 5)
    save(run, 5)
    assert run.checkpoint_steps() == [5]
    assert load_checkpoint(run.checkpoint(5)).step == 5


def test_an_eight_bit_optimizers_state_comes_back_too(tmp_path):
    bitsandbytes = pytest.importorskip("bitsandbytes")
    weight = torch.nn.Parameter(torch.randn(128, 64, generator=torch.Generator().manual_seed(0)))
    twin = torch.nn.Parameter(weight.detach().clone())

    def step(optimizer, parameter):
        (parameter**3).sum().backward()
        optimizer.step()
        optimizer.zero_grad()

    optimizer = bitsandbytes.optim.AdamW8bit([weight], lr=1e-2)
    step(optimizer, weight)
    run = RunFolder(tmp_path)
    state = TrainingState(1, 1e-2, {Expert.LOW: {"a": weight.detach()}}, {Expert.LOW: optimizer.state_dict()})
    save_checkpoint(run, state, lambda folder: None)

    loaded = load_checkpoint(run.checkpoint(1))
    with torch.no_grad():
        twin.copy_(loaded.loras[Expert.LOW]["a"])
    resumed = bitsandbytes.optim.AdamW8bit([twin], lr=1e-2)
    resumed.load_state_dict(loaded.optimizers[Expert.LOW])
    step(optimizer, weight)
    step(resumed, twin)
    assert torch.equal(weight, twin)
