"""The recipe: exact to an independent reference, resumable to the bit, obedient, and it learns."""

from dataclasses import dataclass, field
from pathlib import Path
from types import SimpleNamespace

import pytest
import torch

from tests.jobs import preview_row, small_job
from trainer.errors import TrainerError
from trainer.model.layouts import open_base
from trainer.model.load import load_expert
from trainer.model.lora import lora_state
from trainer.protocol.commands import Pause, PreviewNow, SaveNow, SetLearningRate, Stop, Unpause
from trainer.protocol.events import (
    CheckpointRemoved,
    CheckpointSaved,
    CommandObeyed,
    Event,
    Paused,
    PreviewSaved,
    RunFinished,
    StepDone,
    Unpaused,
    Warned,
)
from trainer.protocol.job import Expert, JobSpec
from trainer.protocol.run_folder import EventReader, RunFolder
from trainer.recipes import render_previews as previews
from trainer.recipes import train_lora as recipe
from trainer.runtime.control import Control
from trainer.runtime.device import choose_device
from trainer.runtime.reporter import Reporter
from trainer.runtime.seeding import generator_for


@dataclass
class Run:
    """One run in this process."""

    folder: RunFolder
    job: JobSpec
    commands: dict[int, list] = field(default_factory=dict)

    def go(self) -> list[Event]:
        """Train; commands are sent once the step that they stand under is done."""
        self.folder.path.mkdir(parents=True, exist_ok=True)
        with Reporter(self.folder) as reporter:
            control = Control(self.folder, reporter)
            say = reporter.say

            def say_and_command(event: Event) -> None:
                say(event)
                if isinstance(event, StepDone):
                    for command in self.commands.pop(event.step, []):
                        self.folder.send(command)

            reporter.say = say_and_command
            recipe.train_lora(self.folder, self.job, reporter, control)
        return EventReader(self.folder.events_file).read_new()

    def final_files(self) -> dict[str, bytes]:
        folder = self.folder.checkpoint(self.folder.checkpoint_steps()[-1])
        return {path.name: path.read_bytes() for path in folder.iterdir()}


def of_type(events: list[Event], kind: type) -> list:
    return [event for event in events if isinstance(event, kind)]


@pytest.fixture
def make_run(tmp_path, miniature_folder):
    def make(name: str = "run", **sections) -> Run:
        (tmp_path / name).mkdir(exist_ok=True)
        return Run(RunFolder(tmp_path / name), small_job(tmp_path / "data", miniature_folder, **sections))

    return make


def reference_step(
    parts: recipe.Parts, expert: Expert, step: int
) -> tuple[torch.Tensor, dict[str, torch.Tensor]]:
    """One step written straight from the formulas: its own mask, its own LoRA arithmetic, no peft, no cache of batches."""
    job = parts.context.job
    (item,) = parts.batches.batch_at(expert.value, parts.turns.steps_taken(expert, step))
    cached = parts.context.cache.load(item.latents_key)
    x0, y = cached["clean"].float()[None], cached["condition"].float()[None]
    text = torch.zeros(1, 512, 64)
    rows = parts.context.text_rows(job.clips[item.clip_index].caption).float()
    text[0, : len(rows)] = rows

    generator = generator_for(job.training.seed, "step", step, 0)
    low, high = (0.9, 1.0) if expert is Expert.HIGH else (0.0, 0.9)
    sigma = low + (high - low) * (1 - torch.rand(1, generator=generator, dtype=torch.float64))
    t = (sigma * 1000).float()
    noise = torch.randn(x0.shape, generator=generator)
    s = t / 1000
    x_t = (1 - s) * x0 + s * noise
    mask = torch.zeros(1, 4, *x0.shape[2:])
    mask[:, :, 0] = 1

    # LoRA by hand: each target linear's weight becomes W + B A.
    transformer = load_expert(open_base(job.model.base), expert, torch.float32, torch.device("cpu"))
    state = lora_state(parts.experts.transformer(expert))
    halves = {name: tensor.clone().requires_grad_() for name, tensor in state.items()}
    scale = (job.target.alpha or job.target.rank) / job.target.rank
    weights = {}
    for name in state:
        if name.endswith("lora_A.weight"):
            module = name.removesuffix(".lora_A.weight")
            b, a = halves[f"{module}.lora_B.weight"], halves[name]
            weights[f"{module}.weight"] = transformer.get_parameter(f"{module}.weight").detach() + scale * (
                b @ a
            )
    prediction = torch.func.functional_call(
        transformer,
        weights,
        kwargs={
            "hidden_states": torch.cat([x_t, mask, y], dim=1),
            "timestep": t,
            "encoder_hidden_states": text,
            "return_dict": False,
        },
    )[0]
    loss = ((prediction - (noise - x0)) ** 2).mean()
    names = list(halves)
    gradients = torch.autograd.grad(loss, [halves[name] for name in names])
    return loss.detach(), dict(zip(names, gradients, strict=True))


@pytest.mark.parametrize(("expert", "step"), [(Expert.HIGH, 0), (Expert.LOW, 10), (Expert.HIGH, 23)])
def test_loss_and_gradients_of_a_step_equal_a_straight_line_reference(make_run, expert, step):
    run = make_run(target={"alpha": 3.0}, training={"steps": 24})
    with Reporter(run.folder) as reporter:
        control = Control(run.folder, reporter)
        parts = recipe.prepare(
            recipe.open_context(run.folder, run.job, choose_device(None), reporter, control),
            recipe.turns_of(run.job),
        )
        # B starts at zero, which would hide A's gradient.
        for number, parameter in enumerate(parts.learners[expert].parameters):
            torch.nn.init.normal_(parameter, std=0.1, generator=torch.Generator().manual_seed(number))
        losses = recipe.accumulate_gradient(parts, expert, step)
        numbers = recipe.read_numbers(losses, torch.zeros(()))
        (loss,), (timestep,) = numbers.plain, numbers.timesteps
        expected_loss, expected = reference_step(parts, expert, step)
        got = dict(
            zip(
                lora_state(parts.experts.transformer(expert)),
                (parameter.grad for parameter in parts.learners[expert].parameters),
                strict=True,
            )
        )
        assert loss == pytest.approx(float(expected_loss), rel=1e-5)
        assert (timestep >= 900) == (expert is Expert.HIGH)
        for name, gradient in expected.items():
            torch.testing.assert_close(got[name], gradient, rtol=1e-4, atol=1e-7, msg=name)


def test_accumulated_gradients_are_the_mean_of_their_batches(make_run):
    run = make_run(training={"gradient_accumulation": 3})
    single = make_run("single")
    gradients = []
    with Reporter(run.folder) as reporter:
        control = Control(run.folder, reporter)
        parts = recipe.prepare(
            recipe.open_context(run.folder, run.job, choose_device(None), reporter, control),
            recipe.turns_of(run.job),
        )
        recipe.accumulate_gradient(parts, Expert.HIGH, 0)
        accumulated = parts.learners[Expert.HIGH].parameters[1].grad.clone()
        for micro in range(3):
            parts.learners[Expert.HIGH].optimizer.zero_grad()
            recipe.backward_micro_batch(parts, Expert.HIGH, recipe.Place(0, micro), share=1.0)
            gradients.append(parts.learners[Expert.HIGH].parameters[1].grad.clone())
    assert single.job.training.gradient_accumulation == 1
    torch.testing.assert_close(accumulated, torch.stack(gradients).mean(0))


def test_each_expert_trains_in_its_turn_on_its_own_timesteps(make_run):
    events = make_run(training={"steps": 12}, multistage={"switch_every": 3}).go()
    steps = of_type(events, StepDone)
    assert "".join(step.expert.value[0] for step in steps) == "hhhlllhhhlll"
    assert all((step.timesteps[0] >= 900) == (step.expert is Expert.HIGH) for step in steps)
    assert of_type(events, RunFinished)[-1].reason == "completed"


def test_only_the_chosen_expert_trains(make_run):
    run = make_run(multistage={"stages": "low"}, training={"steps": 4})
    events = run.go()
    assert {step.expert for step in of_type(events, StepDone)} == {Expert.LOW}
    assert set(run.final_files()) == {"low_noise.safetensors", "state.safetensors", "state.json"}


def test_ten_steps_equal_five_stopped_and_resumed_five_to_the_bit(make_run):
    sections = {"training": {"steps": 10}, "multistage": {"switch_every": 2}}
    whole, halves = make_run("whole", **sections), make_run("halves", **sections)
    whole.go()
    halves.commands[5] = [Stop()]
    halves.go()
    endings = of_type(halves.go(), RunFinished)
    assert [(ending.reason, ending.step) for ending in endings] == [("stopped", 5), ("completed", 10)]
    assert whole.final_files() == halves.final_files()


def test_memorising_one_clip_lowers_the_loss(make_run):
    run = make_run(
        training={"steps": 120, "learning_rate": 5e-3}, multistage={"stages": "low"}, save={"every": 1000}
    )
    losses = [step.loss for step in of_type(run.go(), StepDone)]
    assert sum(losses[-30:]) < 0.9 * sum(losses[:30])


def test_old_checkpoints_are_pruned(make_run):
    run = make_run(training={"steps": 10}, save={"every": 2, "keep": 2})
    events = run.go()
    assert run.folder.checkpoint_steps() == [8, 10]
    assert [event.step for event in of_type(events, CheckpointSaved)] == [2, 4, 6, 8, 10]
    assert [event.step for event in of_type(events, CheckpointRemoved)] == [2, 4, 6]


def test_commands_are_obeyed_and_answered(make_run):
    run = make_run(
        training={"steps": 8},
        save={"every": 100},
        sample={"rows": (preview_row(),), "steps": 2, "guidance_high": 1.0, "guidance_low": 1.0},
    )
    run.commands = {
        2: [SaveNow()],
        3: [SetLearningRate(learning_rate=7e-5)],
        5: [PreviewNow()],
        6: [Pause(), Unpause()],
    }
    events = run.go()
    assert [event.command for event in of_type(events, CommandObeyed)] == [
        "save_now",
        "set_learning_rate",
        "preview_now",
        "pause",
        "unpause",
    ]
    assert [event.step for event in of_type(events, CheckpointSaved)] == [2, 8]
    assert [step.learning_rate for step in of_type(events, StepDone)] == [1e-3] * 3 + [7e-5] * 5
    assert [event.step for event in of_type(events, PreviewSaved)] == [5]
    assert not of_type(events, Paused)


def test_a_pause_saves_and_waits_until_told_to_go_on(make_run, monkeypatch):
    run = make_run(training={"steps": 4}, save={"every": 100})
    run.commands = {2: [Pause()]}
    # In this module alone: other threads of the tests sleep as well.
    told = SimpleNamespace(sleep=lambda _: run.folder.send(Unpause()))
    monkeypatch.setattr("trainer.runtime.control.time", told)
    events = run.go()
    (paused,), (unpaused,) = of_type(events, Paused), of_type(events, Unpaused)
    assert paused.step == unpaused.step == 2
    assert [event.step for event in of_type(events, CheckpointSaved)] == [2, 4]


def test_a_changed_learning_rate_survives_a_resume(make_run):
    run = make_run(training={"steps": 6}, save={"every": 100})
    run.commands = {2: [SetLearningRate(learning_rate=2e-4)], 4: [Stop()]}
    run.go()
    resumed = of_type(run.go(), StepDone)[-1]
    assert (resumed.step, resumed.learning_rate) == (6, 2e-4)


def test_previews_are_videos_of_the_chosen_frames_and_a_failing_one_only_warns(make_run, tmp_path):
    lost = tmp_path / "data" / "lost.png"
    run = make_run(
        training={"steps": 2},
        sample={"every": 2, "steps": 2, "rows": (preview_row(), preview_row(prompt="still"))},
    )
    events = run.go()
    saved = of_type(events, PreviewSaved)
    assert [(event.step, event.row) for event in saved] == [(2, 0), (2, 1)]
    assert all((run.folder.path / event.video).is_file() for event in saved)
    assert not lost.exists()

    broken = make_run(
        "broken", training={"steps": 2}, sample={"every": 2, "steps": 2, "rows": (preview_row(),)}
    )
    monkey = broken.folder.previews_folder
    monkey.write_text("a file where the folder should be")
    events = broken.go()
    assert "preview" in of_type(events, Warned)[-1].message.lower()
    assert of_type(events, RunFinished)[-1].reason == "completed"


def test_a_stop_does_not_wait_for_the_previews_and_still_saves(make_run, monkeypatch):
    sample = {"every": 2, "at_start": False, "steps": 4, "rows": (preview_row(), preview_row(prompt="still"))}
    run = make_run(training={"steps": 6}, save={"every": 100}, sample=sample)
    predict = previews.render_row

    def stop_while_rendering(*arguments):
        run.folder.send(Stop())
        return predict(*arguments)

    monkeypatch.setattr(previews, "render_row", stop_while_rendering)
    events = run.go()
    assert not of_type(events, PreviewSaved)
    assert [event.step for event in of_type(events, CheckpointSaved)] == [2]
    assert of_type(events, RunFinished)[-1].reason == "stopped"


def test_the_second_run_finds_everything_cached(make_run, monkeypatch):
    make_run("first", training={"steps": 1}).go()

    def fail(*_, **__):
        raise AssertionError("loaded again")

    monkeypatch.setattr("trainer.recipes.cache_dataset.load_vae", fail)
    monkeypatch.setattr("trainer.recipes.cache_dataset.load_text_encoder", fail)
    make_run("second", training={"steps": 1}).go()


def test_a_missing_clip_is_named_before_the_first_step(make_run):
    run = make_run()
    Path(run.job.clips[1].source).unlink()
    with pytest.raises(TrainerError, match="clip1"):
        run.go()
