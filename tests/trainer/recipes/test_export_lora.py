"""From a run's checkpoint to files for other programs, by the trainer's own command."""

from pathlib import Path

import pytest
import torch

from tests.jobs import small_job
from trainer.__main__ import main
from trainer.errors import TrainerError
from trainer.model.layouts import expert_config, open_base
from trainer.model.lora import lora_target_shapes
from trainer.output.export import ExportOptions
from trainer.output.lora_file import LoraFileError, LoraFileSpec, read_lora_file, write_lora_file
from trainer.output.verify import verify_lora_file
from trainer.protocol.job import Expert, JobSpec
from trainer.protocol.run_folder import RunFolder, lora_file_name
from trainer.recipes.describe_lora import lora_metadata
from trainer.recipes.export_lora import ExportRequest, export_lora, trained_shapes


def run_with_checkpoints(folder: Path, job: JobSpec, *steps: int) -> RunFolder:
    """A run as the trainer leaves it, with random LoRAs of the layers that the job trains."""
    run = RunFolder(folder)
    run.create(job)
    base = open_base(job.model.base)
    for step in steps:
        generator = torch.Generator().manual_seed(step)
        run.checkpoint(step).mkdir(parents=True)
        for expert in Expert:
            shapes = trained_shapes(lora_target_shapes(expert_config(base, expert)), job.target)
            state = {}
            for path, (rows, columns) in shapes.items():
                state[f"{path}.lora_A.weight"] = torch.randn(2, columns, generator=generator)
                state[f"{path}.lora_B.weight"] = torch.randn(rows, 2, generator=generator)
            about = lora_metadata(job, base.fingerprint, base.boundary_ratio, expert, step, step // 2)
            spec = LoraFileSpec("fp32", 2, 2.0, metadata=about)
            write_lora_file(run.checkpoint(step) / lora_file_name(expert), state, spec)
    return run


@pytest.fixture(scope="module")
def job(tmp_path_factory, miniature_folder) -> JobSpec:
    return small_job(tmp_path_factory.mktemp("clips"), miniature_folder, job={"trigger": "orbit"})


@pytest.fixture
def run(tmp_path, job) -> RunFolder:
    return run_with_checkpoints(tmp_path / "run", job, 4, 8)


def test_the_command_writes_the_pair_as_asked_and_prints_its_paths(run, tmp_path, capsys):
    words = ["--format", "kohya", "--dtype", "fp16", "--strength", "0.5", "--name", "mine", "--step", "4"]
    assert main(["export", str(run.path), "--out", str(tmp_path / "out"), *words]) == 0
    paths = [Path(line) for line in capsys.readouterr().out.splitlines()]
    assert [path.name for path in paths] == ["mine_high_noise.safetensors", "mine_low_noise.safetensors"]
    for expert, path in zip(Expert, paths, strict=True):
        lora = read_lora_file(path)
        assert (lora.format, lora.dtype) == ("kohya", "fp16")
        trained = read_lora_file(run.checkpoint(4) / lora_file_name(expert)).state
        for key in (key for key in trained if "lora_A" in key):
            other = key.replace("lora_A", "lora_B")
            change = lora.state[other] @ lora.state[key]
            expected = 0.5 * trained[other] @ trained[key]
            assert (change - expected).norm() < 5e-3 * expected.norm()


def test_an_export_tells_what_the_checkpoint_told_and_its_date(run):
    (high, low) = export_lora(run, ExportRequest())
    for path, expert in ((high, "high_noise"), (low, "low_noise")):
        strings = read_lora_file(path).strings
        trained = read_lora_file(run.checkpoint(8) / f"{expert}.safetensors").strings
        assert (
            strings.items()
            >= {
                "expert": expert,
                "steps": "8",
                "steps_of_expert": "4",
                "trigger": "orbit",
                "base_fingerprint": open_base(run.read_job().model.base).fingerprint,
            }.items()
        )
        assert strings.keys() - trained.keys() == {"modelspec.date", "ss_training_finished_at"}
        assert {key: strings[key] for key in trained} == trained
        assert str(run.path.parent) not in "".join(strings.values())


def test_a_second_export_is_the_same_files_and_another_strength_is_not(run):
    first = export_lora(run, ExportRequest())
    assert export_lora(run, ExportRequest()) == first
    other = export_lora(run, ExportRequest(options=ExportOptions(strength=2.0)))
    assert not set(other) & set(first)


def test_a_run_that_trains_some_layers_exports_those_and_all_of_those(tmp_path, job, miniature_folder):
    some = small_job(
        tmp_path / "clips",
        miniature_folder,
        target={"only_if_contains": ("self_attn", "ffn"), "ignore_if_contains": ("ffn.2",)},
    )
    run = run_with_checkpoints(tmp_path / "run", some, 4)
    (path, _) = export_lora(run, ExportRequest())
    names = {key.split(".", 2)[2].rsplit(".", 2)[0] for key in read_lora_file(path).state}
    assert names == {"attn1.to_q", "attn1.to_k", "attn1.to_v", "attn1.to_out.0", "ffn.net.0.proj"}
    # The same files do not pass for a run that trains every layer.
    whole = run_with_checkpoints(tmp_path / "whole", job, 4)
    checkpoint = run.checkpoint(4) / "low_noise.safetensors"
    (whole.checkpoint(4) / "low_noise.safetensors").write_bytes(checkpoint.read_bytes())
    with pytest.raises(LoraFileError, match="without a LoRA"):
        export_lora(whole, ExportRequest())
    shapes = lora_target_shapes(expert_config(open_base(str(miniature_folder)), Expert.HIGH))
    assert verify_lora_file(path, shapes, allow_partial=True).keys == 2 * 2 * 5


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["--step", "5"], "no checkpoint of step 5"),
        (["--strength", "0"], "strength of 0"),
        (["--strength", "nan"], "strength of nan"),
        (["--name", "a/b"], "file name"),
    ],
)
def test_what_cannot_be_exported_is_a_sentence(run, capsys, words, said):
    assert main(["export", str(run.path), *words]) == 1
    captured = capsys.readouterr()
    assert said in captured.err
    assert captured.out == ""


def test_a_damaged_checkpoint_is_named(run):
    path = run.checkpoint(8) / "low_noise.safetensors"
    path.write_bytes(path.read_bytes()[:-100])
    with pytest.raises(TrainerError, match=r"step_000008.low_noise\.safetensors"):
        export_lora(run, ExportRequest())
    assert not list(run.exports_folder.iterdir())
