"""A run may go on with other settings of memory; its job stays as it was written."""

import pytest

from tests.jobs import small_job
from trainer.__main__ import main
from trainer.protocol.memory_settings import MemorySettingError, memory_settings, with_memory
from trainer.protocol.run_folder import RunFolder, read_job_file
from trainer.protocol.wire import WireError


@pytest.fixture
def run(tmp_path) -> RunFolder:
    folder = RunFolder(tmp_path / "run")
    folder.create(small_job(tmp_path / "data", tmp_path))
    return folder


def test_settings_are_read_from_text_and_leave_the_rest(run):
    job = run.read_job()
    changed = with_memory(
        job,
        memory_settings(["model.layer_offloading=1.0", "model.low_vram = false", "training.kept_blocks=3"]),
    )
    assert (changed.model.layer_offloading, changed.model.low_vram) == (1.0, False)
    assert (changed.training.kept_blocks, changed.training.steps) == (3, job.training.steps)
    counted = with_memory(job, {"model.resident_blocks": "8"})
    assert with_memory(counted, {"model.resident_blocks": "none"}) == job


@pytest.mark.parametrize(
    "assignment", ["training.steps=3", "quantization.transformer=nf4", "model.base=x", "model.low_vram"]
)
def test_what_changes_the_result_is_refused(assignment):
    with pytest.raises(MemorySettingError, match="start a new run"):
        memory_settings([assignment])


def test_a_changed_run_keeps_its_job_file_and_every_reader_sees_the_change(run):
    written = run.job_file.read_bytes()
    run.change_memory({"model.layer_offloading": "0.6"})
    run.change_memory({"training.kept_activations": "nothing"})
    assert run.job_file.read_bytes() == written
    assert run.read_job().model.layer_offloading == 0.6
    assert run.read_job().training.kept_activations == "nothing"
    assert read_job_file(run.job_file).model.layer_offloading == 0.0


def test_a_wrong_value_changes_nothing(run):
    with pytest.raises(MemorySettingError, match="layer_offloading cannot be '2'"):
        run.change_memory({"model.layer_offloading": "2"})
    assert not run.memory_file.exists()
    run.memory_file.write_text('{"training.steps": "1"')
    with pytest.raises(WireError, match=r"memory\.json"):
        run.read_job()


def test_a_resume_with_a_wrong_setting_is_refused_before_anything_happens(run, capsys):
    assert main(["resume", str(run.path), "--set", "training.steps=9"]) == 2
    assert main(["resume", str(run.path), "--set", "model.layer_offloading=x"]) == 2
    words = capsys.readouterr().err
    assert "training.steps=9 is no setting" in words
    assert "layer_offloading cannot be 'x'" in words
    assert not run.events_file.exists()
