"""`wan-studio export`: what is asked of the files reaches the trainer; the trainer is the stand-in."""

import pytest

from trainer.protocol.job import (
    ClipSpec,
    CropBox,
    DatasetSection,
    JobSection,
    JobSpec,
    ModelSection,
    TrainedSize,
)
from trainer.protocol.run_folder import RunFolder
from wan_studio.cli import main
from wan_studio.services.run_process import ExportForm, export_run

pytestmark = pytest.mark.usefixtures("home", "stand_in_trainer")


@pytest.fixture
def run(tmp_path) -> RunFolder:
    """A run with a checkpoint."""
    size = TrainedSize(width=64, height=48, crop=CropBox(left=0, top=0, width=64, height=48))
    clip = ClipSpec(
        source="/a.mp4", source_bytes=1, source_modified_ns=1, windows=((0,),), sizes=(size,), caption=""
    )
    run = RunFolder(tmp_path / "a run")
    run.create(
        JobSpec(
            job=JobSection(name="p"),
            model=ModelSection(),
            datasets=(DatasetSection(name="p", clips=(clip,), num_frames=1, resolutions=(64,)),),
            cache_folder="/cache",
        )
    )
    run.checkpoint(20).mkdir(parents=True)
    return run


def export(run, *words) -> int:
    return main(["export", str(run.path), *words], lambda _: pytest.fail("a window was opened"))


def told(run) -> list[str]:
    """What the trainer was asked for, beyond the run; the stand-in writes it into its files."""
    texts = {path.read_text() for path in run.exports_folder.glob("*.safetensors")}
    assert len(texts) == 1
    return texts.pop().split()


def test_without_wishes_the_trainer_decides(run, capsys):
    assert export(run) == 0
    assert told(run) == []
    assert "high-noise expert" in capsys.readouterr().out


def test_format_number_type_and_strength_reach_the_trainer(run):
    assert export(run, "--format", "kohya", "--dtype", "fp16", "--strength", "0.75", "--step", "20") == 0
    assert told(run) == ["--step", "20", "--format=kohya", "--dtype=fp16", "--strength=0.75"]


def test_a_negative_strength_is_no_option(run):
    assert export(run, "--strength", "-0.5") == 0
    assert told(run) == ["--strength=-0.5"]


@pytest.mark.parametrize("words", [("--format", "comfy"), ("--dtype", "fp8"), ("--strength", "much")])
def test_an_unknown_wish_is_bad_input(run, words, capsys):
    with pytest.raises(SystemExit) as caught:
        export(run, *words)
    assert caught.value.code == 2
    assert words[0] in capsys.readouterr().err
    assert not run.exports_folder.exists()


def test_the_service_passes_each_wish_alone(run):
    export_run(run, form=ExportForm(dtype="fp32"))
    assert told(run) == ["--dtype=fp32"]


def test_the_trainers_refusal_is_told(run, capsys):
    run.checkpoint(20).rmdir()
    assert export(run, "--format", "diffusers") == 2
    assert "There is no checkpoint" in capsys.readouterr().err
