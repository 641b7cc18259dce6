"""A real trainer runs out of memory, and the run goes on with the next plan and completes."""

from pathlib import Path

import pytest

from tests.jobs import small_job
from tests.processes import ROOT, events_of
from tests.wan_studio.conftest import use_trainer
from trainer.model.miniature import build_miniature
from trainer.protocol.events import Hello, RunFailed, RunFinished
from trainer.protocol.run_folder import RunFolder
from wan_studio.cli.arguments import parse
from wan_studio.cli.console import EXIT_DONE, EXIT_FAILED
from wan_studio.cli.runs import follow_to_the_end, run_resume
from wan_studio.domain.fallback_ladder import Rung
from wan_studio.domain.hardware import HardwareSnapshot, MachineState
from wan_studio.services.fallback import attempts_of, go_on, offer_for
from wan_studio.services.run_process import start_run
from wan_studio.services.run_store import current_state

pytestmark = pytest.mark.contract

NO_GPU = HardwareSnapshot((), 2**34, 2**33, state=MachineState.NO_DRIVER)


@pytest.fixture(scope="module")
def base(tmp_path_factory):
    return build_miniature(tmp_path_factory.mktemp("miniature"))


@pytest.fixture
def short_trainer(tmp_path, monkeypatch):
    monkeypatch.setenv("OMP_NUM_THREADS", "1")
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "")
    monkeypatch.setenv("WAN_STUDIO_HOME", str(tmp_path / "home"))
    use_trainer(monkeypatch, tmp_path, ROOT / "tests" / "trainer_short_of_memory.py")
    return lambda setting: monkeypatch.setenv("SHORT_OF", setting)


def of_type(run: RunFolder, kind: type) -> list:
    return [event for event in events_of(run) if isinstance(event, kind)]


def test_a_run_resumes_by_itself_with_the_first_rung_and_completes(tmp_path, base, short_trainer, capsys):
    short_trainer("training.gradient_checkpointing=true")
    run = RunFolder(tmp_path / "runs" / "small-001")
    start_run(run, small_job(tmp_path, base))
    assert follow_to_the_end(run, continues_by_itself=True) == EXIT_DONE
    (failed,) = of_type(run, RunFailed)
    assert (failed.kind, failed.step) == ("out_of_memory", 2)
    assert [hello.first_step for hello in of_type(run, Hello)] == [0, 2]
    assert of_type(run, RunFinished)[-1].reason == "completed"
    (attempt,) = attempts_of(run)
    assert (attempt.rungs, attempt.by_itself) == ((Rung.CHECKPOINTS,), True)
    assert run.read_job().training.gradient_checkpointing
    told = capsys.readouterr().out
    assert "GPU memory ran out in the forward pass of the" in told
    assert "Resumed by itself from step 2 with blocks computed twice instead of kept." in told


@pytest.mark.slow  # What is offered then is tested in services; this is that a real trainer takes it.
def test_where_nothing_resumes_a_new_run_begins_with_the_last_lora(tmp_path, base, short_trainer):
    short_trainer("quantization.transformer=float8")
    run = RunFolder(tmp_path / "runs" / "small-001")
    job = small_job(
        tmp_path,
        base,
        training={"gradient_checkpointing": True, "kept_activations": "nothing"},
        model={
            "low_vram": True,
            "resident_blocks": 0,
            "checkpoint_offloading": True,
            "feed_forward_chunks": 16,
        },
        quantization={"transformer": "none"},
    )
    start_run(run, job)
    assert follow_to_the_end(run) == EXIT_FAILED
    state = current_state(run)
    offer = offer_for(run, state, lambda: NO_GPU)
    assert offer.plan.rungs == (Rung.EIGHT_BITS,)
    assert not offer.plan.resumes
    new = go_on(offer, state, by_itself=True)
    assert new.path.name == "small-002"
    made = new.read_job()
    assert made.training.steps == 6
    assert all(Path(file).is_file() for file in (made.target.start_high, made.target.start_low) if file)
    assert made.target.start_high
    assert follow_to_the_end(new) == EXIT_DONE
    assert attempts_of(new)[-1].sentence == (
        "Begun by itself from small-001's LoRA at step 2, with the base in 8 bits."
    )
    assert attempts_of(run)[-1].sentence == "Went on by itself as small-002, with the base in 8 bits."
    # The old run does not offer it once more.
    assert Rung.EIGHT_BITS not in offer_for(run, state, lambda: NO_GPU).plan.rungs


@pytest.mark.slow  # The first of these goes the same way without being told by hand.
def test_a_later_resume_takes_the_plan_at_once(tmp_path, base, short_trainer, capsys):
    short_trainer("training.gradient_checkpointing=true")
    run = RunFolder(tmp_path / "runs" / "small-001")
    start_run(run, small_job(tmp_path, base))
    assert follow_to_the_end(run) == EXIT_FAILED
    said = capsys.readouterr()
    assert "Next plan: Blocks computed twice instead of kept." in said.out
    assert f"wan-studio resume {run.path} --continue-by-itself" in said.err
    assert attempts_of(run) == ()
    assert run_resume(parse(["resume", str(run.path), "--continue-by-itself"])) == EXIT_DONE
    assert len(of_type(run, RunFailed)) == 1
    assert len(attempts_of(run)) == 1
