"""A run tells what each kind of work took, so that the next one can be forecast."""

import statistics

import msgspec
import pytest

from tests.jobs import preview_row, small_job
from trainer.__main__ import main
from trainer.protocol.events import CheckpointSaved, StepDone, WorkMeasured
from trainer.protocol.job import BucketSize, Expert
from trainer.protocol.run_folder import EventReader, RunFolder
from trainer.protocol.wire import write_json


@pytest.fixture
def go(tmp_path, miniature_folder):
    """Train, and return the events."""

    def run(change=lambda job: job, **sections) -> list:
        job = change(small_job(tmp_path / "data", miniature_folder, **sections))
        write_json(tmp_path / "job.json", job)
        folder = RunFolder(tmp_path / "run")
        assert main(["run", str(tmp_path / "job.json"), "--run-dir", str(folder.path)]) == 0
        return EventReader(folder.events_file).read_new()

    return run


def measured(events: list, work: str) -> list[WorkMeasured]:
    return [event for event in events if isinstance(event, WorkMeasured) and event.work == work]


def seconds_of(events: list, expert: Expert) -> list[float]:
    return [event.seconds for event in events if isinstance(event, StepDone) and event.expert is expert]


def test_steps_are_told_after_three_that_count_and_again_at_each_save(go):
    events = go(training={"steps": 12}, save={"every": 10}, multistage={"switch_every": 2})
    told = [one for one in measured(events, "step") if one.expert is Expert.HIGH]
    assert [one.count for one in told] == [3, 5]
    seconds = seconds_of(events, Expert.HIGH)
    # High takes steps 1, 2, 5, 6, 9 and 10.
    assert [one.first_seconds for one in told] == [seconds[0]] * 2
    assert told[0].seconds == statistics.median(seconds[1:4])
    assert told[1].seconds == statistics.median(seconds[1:])
    assert (told[0].width, told[0].height, told[0].frames, told[0].batch) == (32, 32, 5, 1)
    assert (told[0].reserved_bytes, told[0].allocated_bytes) == (0, 0)
    places = [events.index(one) for one in told]
    steps = [i for i, event in enumerate(events) if isinstance(event, StepDone)]
    saves = [i for i, event in enumerate(events) if isinstance(event, CheckpointSaved)]
    assert steps[4] < places[0] < steps[5]
    assert saves[0] < places[1] < steps[10]


def test_a_step_of_several_batches_says_how_many_and_what_was_preserved(go):
    events = go(
        training={
            "steps": 8,
            "batch_size": 2,
            "gradient_accumulation": 3,
            "blank_prompt_preservation": True,
        }
    )
    assert {(one.batch, one.passes, one.preserved) for one in measured(events, "step")} == {(2, 3, 1)}


def test_a_step_that_mixes_sizes_is_of_no_kind(go):
    def two_sizes(job):
        (dataset,) = job.datasets
        first, second = dataset.clips
        wide = msgspec.structs.replace(second.sizes[0], width=48)
        clips = (first, msgspec.structs.replace(second, sizes=(wide,)))
        return msgspec.structs.replace(job, datasets=(msgspec.structs.replace(dataset, clips=clips),))

    assert not measured(go(two_sizes, training={"steps": 8, "gradient_accumulation": 2}), "step")


def test_loading_caching_validating_previewing_and_saving_are_told(go):
    row = preview_row(size=BucketSize(width=48, height=32), num_frames=9, steps=3)

    def held_out(job):
        (dataset,) = job.datasets
        parts = [
            msgspec.structs.replace(dataset, clips=dataset.clips[:1]),
            msgspec.structs.replace(dataset, role="validation", clips=dataset.clips[1:]),
        ]
        return msgspec.structs.replace(job, datasets=tuple(parts))

    events = go(
        held_out,
        training={"steps": 4},
        quantization={"transformer": "float8"},
        sample={"every": 4, "rows": (row,), "guidance_low": 1.0},
        advanced={"validation_every": 4, "validation_timesteps": 2},
    )
    assert [one.expert for one in measured(events, "loading")] == list(Expert)
    assert all(one.first_seconds == one.seconds > 0 for one in measured(events, "loading"))
    (text,) = measured(events, "text")
    # Two captions, a preview's prompt and its negative one.
    assert text.count == 3
    assert text.first_seconds > 0
    (latents,) = measured(events, "latents")
    assert (latents.width, latents.height, latents.frames, latents.count) == (32, 32, 5, 1)
    (preview,) = measured(events, "preview")
    assert (preview.width, preview.height, preview.frames) == (48, 32, 9)
    # Noise levels 1, 0.91 and 0.71: two guided steps of the high-noise expert, a plain one of the other.
    assert preview.passes == 5
    assert 0 < preview.decode_seconds < preview.seconds
    validations = measured(events, "validation")
    assert {(one.expert, one.passes, one.count) for one in validations} == {
        (expert, 2, 1) for expert in Expert
    }
    assert [one.count for one in measured(events, "saving")] == [1]
    for one in [text, latents, preview, *validations, *measured(events, "saving")]:
        assert one.seconds > 0
        assert one.ram_bytes > 0


def test_weights_that_are_quantized_already_have_no_first_time(go, tmp_path):
    go(quantization={"transformer": "float8"}, training={"steps": 1})
    (tmp_path / "run").rename(tmp_path / "first")
    events = go(quantization={"transformer": "float8"}, training={"steps": 1})
    assert [one.first_seconds for one in measured(events, "loading")] == [0.0, 0.0]
