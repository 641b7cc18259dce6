"""Stopped and resumed equals never interrupted, to the bit, for every combination of the table."""

import random

import msgspec
import pytest
import torch

from tests.jobs import small_job
from trainer.protocol.commands import Stop
from trainer.protocol.events import StepDone
from trainer.protocol.job import JobSpec
from trainer.protocol.run_folder import RunFolder
from trainer.recipes.train_lora import train_lora
from trainer.runtime.control import Control
from trainer.runtime.reporter import Reporter

STEPS = 10

# What is combined, and the step after which the run is interrupted.
TABLE = {
    "both experts, between turns": ({"multistage": {"switch_every": 5}}, 5),
    "both experts, in the middle of a turn": ({"multistage": {"switch_every": 4}}, 6),
    "high noise only": ({"multistage": {"stages": "high"}}, 3),
    "low noise only": ({"multistage": {"stages": "low"}}, 7),
    "an uneven share": ({"multistage": {"switch_every": 1, "high_share": 0.3}}, 4),
    "accumulation and batches of two": (
        {"training": {"gradient_accumulation": 2, "batch_size": 2}, "multistage": {"switch_every": 2}},
        5,
    ),
    "a moving average": ({"training": {"ema_decay": 0.9}, "multistage": {"switch_every": 2}}, 5),
    "LoRA dropout": ({"target": {"dropout": 0.3}, "multistage": {"switch_every": 2}}, 5),
    "dropout, average and accumulation": (
        {
            "target": {"dropout": 0.2},
            "training": {"ema_decay": 0.5, "gradient_accumulation": 2},
            "multistage": {"switch_every": 3},
        },
        4,
    ),
    "eight-bit AdamW": ({"training": {"optimizer": "adamw8bit"}, "multistage": {"switch_every": 2}}, 5),
    "Adafactor with a cosine": (
        {"training": {"optimizer": "adafactor", "lr_schedule": "cosine", "warmup_steps": 2}},
        6,
    ),
    "Prodigy": (
        {"training": {"optimizer": "prodigy", "learning_rate": 1.0}, "multistage": {"switch_every": 2}},
        5,
    ),
    "Lion": ({"training": {"optimizer": "lion"}, "multistage": {"switch_every": 2}}, 5),
    "DoRA": ({"target": {"type": "dora"}, "multistage": {"switch_every": 2}}, 5),
    "LoKr": ({"target": {"type": "lokr", "rank": 4}, "multistage": {"switch_every": 2}}, 5),
    "stratified sigmoid timesteps": (
        {
            "training": {"stratified_timesteps": True, "timestep_type": "sigmoid"},
            "multistage": {"switch_every": 2},
        },
        5,
    ),
    "several data sets with regularization and caption dropout": ({"datasets": "several"}, 5),
    "preservation": (
        {"training": {"blank_prompt_preservation": True}, "multistage": {"switch_every": 2}},
        5,
    ),
}


def several_datasets(job: JobSpec) -> JobSpec:
    (main,) = job.datasets
    first, second = main.clips
    return msgspec.structs.replace(
        job,
        datasets=(
            msgspec.structs.replace(main, clips=(first,), caption_dropout=0.5, condition_noise=0.1),
            msgspec.structs.replace(main, name="more", clips=(second,), weight=0.5, loss_weight=0.5),
            msgspec.structs.replace(main, name="kept", clips=(second,), role="regularization"),
        ),
    )


@pytest.fixture
def job_of(tmp_path_factory, miniature_folder):
    data = tmp_path_factory.getbasetemp() / "resume-data"

    def make(sections: dict) -> JobSpec:
        fields = {name: value for name, value in sections.items() if name != "datasets"}
        fields["training"] = {"steps": STEPS} | fields.get("training", {})
        job = small_job(data, miniature_folder, **fields)
        return several_datasets(job) if "datasets" in sections else job

    return make


def go(run: RunFolder, job: JobSpec, stop_after: int = 0) -> None:
    run.path.mkdir(parents=True, exist_ok=True)
    with Reporter(run) as reporter:
        say = reporter.say

        def say_and_stop(event) -> None:
            say(event)
            if isinstance(event, StepDone) and event.step == stop_after:
                run.send(Stop())

        reporter.say = say_and_stop
        train_lora(run, job, reporter, Control(run, reporter))


def final_files(run: RunFolder) -> dict[str, bytes]:
    folder = run.checkpoint(STEPS)
    return {path.name: path.read_bytes() for path in folder.iterdir()}


@pytest.mark.parametrize("name", TABLE)
def test_resumed_equals_uninterrupted_to_the_bit(tmp_path, job_of, name):
    sections, stop_after = TABLE[name]
    job = job_of(sections)
    whole, halves = RunFolder(tmp_path / "whole"), RunFolder(tmp_path / "halves")
    go(whole, job)
    go(halves, job, stop_after)
    assert halves.checkpoint_steps()[-1] == stop_after
    # A stranger's draw from the global generator between the two must not matter.
    torch.manual_seed(random.randrange(1000))
    go(halves, job)
    assert final_files(whole) == final_files(halves)
