"""Checkpoints come back to the bit, appear whole or not at all, and damage is found."""

import json
from typing import get_args

import pytest
import torch
from safetensors.torch import load_file

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
from trainer.runtime.optim import OptimizerKind, make_optimizer


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


def lora_halves() -> list[torch.nn.Parameter]:
    """One large enough for 8-bit moments, one that begins at zero, and a vector."""
    generator = torch.Generator().manual_seed(0)
    return [
        torch.nn.Parameter(torch.randn(16, 320, generator=generator)),
        torch.nn.Parameter(torch.zeros(8, 16)),
        torch.nn.Parameter(torch.randn(5, generator=generator)),
    ]


def take_steps(optimizer, weights, first, count):
    for step in range(first, first + count):
        generator = torch.Generator().manual_seed(100 + step)
        for weight in weights:
            weight.grad = torch.randn(weight.shape, generator=generator)
        optimizer.step()


@pytest.mark.parametrize("kind", get_args(OptimizerKind))
def test_an_optimizer_from_a_checkpoint_goes_on_as_if_nothing_had_happened(tmp_path, kind):
    rate = 1.0 if kind == "prodigy" else 1e-2
    weights = lora_halves()
    optimizer = make_optimizer(kind, weights, rate, 0.01)
    take_steps(optimizer, weights, 0, 3)
    run = RunFolder(tmp_path)
    lora = {str(index): weight.detach() for index, weight in enumerate(weights)}
    state = TrainingState(3, rate, {Expert.LOW: lora}, {Expert.LOW: optimizer.state_dict()})
    save_checkpoint(run, state, lambda folder: None)
    groups = optimizer.state_dict()["param_groups"]
    loaded = load_checkpoint(run.checkpoint(3))
    assert repr(loaded.optimizers[Expert.LOW]["param_groups"]) == repr(groups)
    take_steps(optimizer, weights, 3, 3)

    twins = lora_halves()
    with torch.no_grad():
        for index, twin in enumerate(twins):
            twin.copy_(loaded.loras[Expert.LOW][str(index)])
    resumed = make_optimizer(kind, twins, rate, 0.01)
    resumed.load_state_dict(loaded.optimizers[Expert.LOW])
    take_steps(resumed, twins, 3, 3)
    assert all(torch.equal(weight, twin) for weight, twin in zip(weights, twins, strict=True))
    assert not torch.equal(weights[0], lora_halves()[0])
    assert repr(resumed.state_dict()["param_groups"]) == repr(optimizer.state_dict()["param_groups"])


def test_numbers_and_tensors_of_a_group_come_back_with_their_types(tmp_path):
    state, _ = trained_state(1)
    group = {
        "params": [0, 1],
        "betas": (0.9, (None, True)),
        "growth_rate": float("inf"),
        "least": float("-inf"),
        "d": torch.tensor([1e-6], dtype=torch.float64),
        "k": 3,
        "name": "x/y",
    }
    changed = {"state": state.optimizers[Expert.HIGH]["state"], "param_groups": [group]}
    save_checkpoint(
        RunFolder(tmp_path), TrainingState(1, 1.0, state.loras, {Expert.HIGH: changed}), lambda folder: None
    )
    loaded = load_checkpoint(RunFolder(tmp_path).checkpoint(1)).optimizers[Expert.HIGH]
    assert repr(loaded["param_groups"]) == repr([group])


def test_an_average_comes_back_beside_the_weights(tmp_path):
    state, _ = trained_state(2)
    average = {name: tensor * 0.5 for name, tensor in state.loras[Expert.HIGH].items()}
    with_average = TrainingState(2, 1e-4, state.loras, state.optimizers, {Expert.HIGH: average})
    folder = save_checkpoint(RunFolder(tmp_path), with_average, lambda folder: None)
    assert "average/high_noise/a.lora_A.weight" in load_file(folder / "state.safetensors")
    loaded = load_checkpoint(folder)
    for name, tensor in average.items():
        assert torch.equal(loaded.averages[Expert.HIGH][name], tensor)
        assert torch.equal(loaded.loras[Expert.HIGH][name], state.loras[Expert.HIGH][name])


def test_a_checkpoint_of_the_first_format_can_still_be_read(tmp_path):
    run = RunFolder(tmp_path)
    state = save(run, 4)
    file = run.checkpoint(4) / "state.json"
    content = json.loads(file.read_bytes())
    assert content["format"] == 3
    (group,) = content["optimizers"]["high_noise"]["param_groups"]
    group["betas"] = group["betas"]["$tuple"]
    file.write_text(json.dumps(content | {"format": 1}), encoding="utf-8")
    loaded = load_checkpoint(run.checkpoint(4))
    assert loaded.averages == {}
    assert loaded.optimizers[Expert.HIGH]["param_groups"][0]["betas"] == [0.9, 0.999]
    assert torch.equal(
        loaded.loras[Expert.HIGH]["a.lora_B.weight"], state.loras[Expert.HIGH]["a.lora_B.weight"]
    )

    file.write_text(json.dumps(content | {"format": 4}), encoding="utf-8")
    with pytest.raises(CheckpointDamagedError, match="format 4"):
        load_checkpoint(run.checkpoint(4))


def test_parts_that_do_not_fit_together_are_damage(tmp_path):
    run = RunFolder(tmp_path)
    save(run, 4)
    file = run.checkpoint(4) / "state.json"
    content = json.loads(file.read_bytes())
    file.write_text(json.dumps(content | {"optimizers": {}}), encoding="utf-8")
    with pytest.raises(CheckpointDamagedError, match="do not fit"):
        load_checkpoint(run.checkpoint(4))


def test_pinned_checkpoints_stay_and_do_not_count(tmp_path):
    run = RunFolder(tmp_path)
    for step in (5, 10, 15, 20, 25):
        save(run, step)
    run.pin(5)
    run.pin(20)
    assert prune_checkpoints(run, keep=1) == [10, 15]
    assert run.checkpoint_steps() == [5, 20, 25]
    run.unpin(5)
    assert prune_checkpoints(run, keep=1) == [5]
    assert {path.name for path in run.checkpoints_folder.iterdir()} == {"step_000020", "step_000025"}


def test_saving_a_pinned_step_again_keeps_the_pin(tmp_path):
    run = RunFolder(tmp_path)
    save(run, 5)
    run.pin(5)
    save(run, 5)
    assert run.is_pinned(5)
    assert load_checkpoint(run.checkpoint(5)).step == 5
    assert [path.name for path in run.checkpoints_folder.iterdir()] == ["step_000005"]


def test_what_a_crash_left_half_done_is_mended_or_cleared_before_resuming(tmp_path):
    run = RunFolder(tmp_path)
    save(run, 5)
    save(run, 10)
    run.checkpoint(10).rename(run.checkpoints_folder / ".step_000010.replaced")
    (run.checkpoints_folder / ".step_000010.unfinished").mkdir()
    (run.checkpoints_folder / ".step_000001.removed").mkdir()
    loaded = newest_checkpoint(run, lambda damage: pytest.fail(damage.message))
    assert loaded is not None
    assert loaded.step == 10
    assert {path.name for path in run.checkpoints_folder.iterdir()} == {"step_000005", "step_000010"}


def test_the_expected_size_is_about_what_a_checkpoint_takes(tmp_path):
    weights = [torch.nn.Parameter(torch.randn(200, 100))]
    optimizer = make_optimizer("adamw8bit", weights, 1e-3, 0.0)
    take_steps(optimizer, weights, 0, 1)
    lora = {"a.lora_A.weight": weights[0].detach()}
    state = TrainingState(
        1, 1e-3, {Expert.LOW: lora}, {Expert.LOW: optimizer.state_dict()}, {Expert.LOW: lora}
    )
    folder = save_checkpoint(RunFolder(tmp_path), state, lambda folder: None)
    on_disk = sum(path.stat().st_size for path in folder.iterdir()) + weights[0].nbytes
    assert 0.95 * on_disk < state.expected_bytes <= on_disk
