"""A rehearsal on a real GPU: memory of each work, a card that is too small, and a run's own peak beside it."""

import pytest
import torch

from tests.jobs import preview_row, small_job
from trainer.__main__ import main
from trainer.model.block.passes import compilation
from trainer.protocol.events import RunFailed, StepDone, WorkMeasured
from trainer.protocol.run_folder import EventReader, RunFolder

pytestmark = [pytest.mark.gpu, pytest.mark.skipif(not torch.cuda.is_available(), reason="needs CUDA")]


@pytest.fixture
def job(tmp_path, miniature_folder, monkeypatch):
    # Compiling takes longer than all the rest; whether it works is tested elsewhere.
    monkeypatch.setattr(compilation, "wish", lambda on_failure: None)
    return small_job(
        tmp_path / "data", miniature_folder, sample={"every": 8, "rows": (preview_row(),)}, save={"every": 4}
    )


def events_of(run: RunFolder) -> list:
    return EventReader(run.events_file).read_new()


def test_each_work_has_its_own_peak_and_the_runs_peak_covers_them(tmp_path, job):
    rehearsal, run = RunFolder(tmp_path / "rehearsal"), RunFolder(tmp_path / "run")
    rehearsal.create(job)
    run.create(job)
    assert main(["rehearse", str(rehearsal.path)]) == 0
    assert main(["run", str(run.job_file), "--run-dir", str(run.path)]) == 0
    for events in (events_of(rehearsal), events_of(run)):
        told = [one for one in events if isinstance(one, WorkMeasured)]
        assert {"text", "latents", "loading", "step", "preview"} <= {one.work for one in told}
        assert all(0 < one.allocated_bytes <= one.reserved_bytes for one in told)
    steps = [event for event in events if isinstance(event, StepDone)]
    peaks = [step.peak_vram_bytes for step in steps]
    assert peaks == sorted(peaks), "the peak of the whole run never falls"
    before_last = [one for one in told if one.time < steps[-1].time]
    assert peaks[-1] >= max(one.reserved_bytes for one in before_last)


def test_a_card_that_is_too_small_is_told_with_what_is_missing(tmp_path, job):
    rehearsal = RunFolder(tmp_path / "rehearsal")
    rehearsal.create(job)
    # A card of which torch may reserve 2 MiB.
    assert main(["rehearse", str(rehearsal.path), "--cap", "1.002"]) == 4
    failed = events_of(rehearsal)[-1]
    assert isinstance(failed, RunFailed)
    assert failed.memory.doing in ("caching_text", "loading", "caching_latents", "forward")
    assert failed.memory.total_bytes > 2**30
    assert failed.memory.allocated_bytes <= failed.memory.reserved_bytes
