"""Exported files are verified, named by expert, and never replace anything."""

from pathlib import Path

import pytest
import torch

from trainer.output.export import ExportError, export_pair
from trainer.output.lora_file import LoraFileError, LoraFileSpec, read_lora_file, write_lora_file
from trainer.output.lora_metadata import LoraMetadata
from trainer.protocol.job import Expert

SHAPES = {f"blocks.{block}.attn1.{layer}": (8, 8) for block in range(2) for layer in ("to_q", "to_k", "to_v")}
BOTH = {Expert.HIGH: SHAPES, Expert.LOW: SHAPES}


def checkpoint(folder: Path, seed: int = 0, *, blocks: int = 2) -> dict[Expert, Path]:
    folder.mkdir(parents=True)
    generator = torch.Generator().manual_seed(seed)
    files = {}
    for expert in Expert:
        state = {}
        for module in SHAPES:
            if int(module.split(".")[1]) < blocks:
                state[f"{module}.lora_A.weight"] = torch.randn(2, 8, generator=generator)
                state[f"{module}.lora_B.weight"] = torch.randn(8, 2, generator=generator)
        about = LoraMetadata("run", expert, 0.9, 2, 1.0, 250, trigger="w")
        files[expert] = folder / f"{expert.value}.safetensors"
        write_lora_file(files[expert], state, LoraFileSpec("bf16", 2, 1.0, metadata=about))
    return files


def names(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir())


def test_a_pair_is_written_high_first_under_its_name_with_the_same_weights(tmp_path):
    files = checkpoint(tmp_path / "c")
    out = tmp_path / "new" / "exports"
    paths = export_pair(files, BOTH, out, "my orbit")
    assert paths == [out / "my orbit_high_noise.safetensors", out / "my orbit_low_noise.safetensors"]
    assert names(out) == [path.name for path in paths]
    for expert, path in zip(Expert, paths, strict=True):
        exported, original = read_lora_file(path), read_lora_file(files[expert])
        assert exported.state.keys() == original.state.keys()
        assert all(torch.equal(exported.state[key], tensor) for key, tensor in original.state.items())
        assert exported.dtype == "bf16"
        assert exported.metadata is not None
        assert (exported.metadata.name, exported.metadata.expert) == ("my orbit", expert)
        assert (exported.metadata.alpha, exported.metadata.steps) == (1.0, 250)
        assert exported.metadata.created is not None


@pytest.mark.parametrize("file_format", ["original", "diffusers", "kohya"])
def test_every_format_holds_the_same_lora(tmp_path, file_format):
    files = checkpoint(tmp_path / "c")
    (path, _) = export_pair(files, BOTH, tmp_path / "out", "l", file_format)
    exported, original = read_lora_file(path), read_lora_file(files[Expert.HIGH])
    assert exported.format == file_format
    assert all(torch.equal(exported.state[key], tensor) for key, tensor in original.state.items())


def test_one_expert_alone_is_exported_alone(tmp_path):
    files = checkpoint(tmp_path / "c")
    only = {Expert.LOW: files[Expert.LOW]}
    assert export_pair(only, {Expert.LOW: SHAPES}, tmp_path, "l") == [tmp_path / "l_low_noise.safetensors"]


def test_the_same_checkpoint_again_gives_the_same_files(tmp_path):
    files = checkpoint(tmp_path / "c")
    first = export_pair(files, BOTH, tmp_path / "out", "l")
    kept = [(path, path.stat().st_mtime_ns, path.read_bytes()) for path in first]
    assert export_pair(files, BOTH, tmp_path / "out", "l") == first
    assert [(path, path.stat().st_mtime_ns, path.read_bytes()) for path in first] == kept


def test_files_that_differ_are_kept_and_the_pair_gets_a_number(tmp_path):
    out = tmp_path / "out"
    first = export_pair(checkpoint(tmp_path / "a", 0), BOTH, out, "l")
    first[0].unlink()
    kept = first[1].read_bytes()
    other = checkpoint(tmp_path / "b", 1)
    second = export_pair(other, BOTH, out, "l")
    assert [path.name for path in second] == ["l-2_high_noise.safetensors", "l-2_low_noise.safetensors"]
    assert first[1].read_bytes() == kept
    (out / "l-2_high_noise.safetensors").write_text("mine")
    third = export_pair(other, BOTH, out, "l")
    assert [path.name for path in third] == ["l-3_high_noise.safetensors", "l-3_low_noise.safetensors"]
    assert (out / "l-2_high_noise.safetensors").read_text() == "mine"


def test_a_lora_that_does_not_fit_the_model_leaves_nothing(tmp_path):
    files = checkpoint(tmp_path / "c", blocks=1)
    with pytest.raises(LoraFileError, match="without a LoRA"):
        export_pair(files, BOTH, tmp_path / "out", "l")
    assert names(tmp_path / "out") == []


def test_exchanged_experts_are_noticed(tmp_path):
    files = checkpoint(tmp_path / "c")
    swapped = {Expert.HIGH: files[Expert.LOW], Expert.LOW: files[Expert.HIGH]}
    with pytest.raises(ExportError, match="low_noise"):
        export_pair(swapped, BOTH, tmp_path / "out", "l")
    assert names(tmp_path / "out") == []


def test_a_missing_checkpoint_file_is_named(tmp_path):
    with pytest.raises(LoraFileError, match="is not there"):
        export_pair({Expert.HIGH: tmp_path / "gone.safetensors"}, BOTH, tmp_path / "out", "l")


@pytest.mark.parametrize("name", ["", "a/b", "a\\b", "..", "a:b", "end.", " x", "new\nline"])
def test_a_name_that_no_file_can_have_is_refused(tmp_path, name):
    with pytest.raises(ExportError, match="file name"):
        export_pair(checkpoint(tmp_path / "c"), BOTH, tmp_path / "out", name)
    assert not (tmp_path / "out").exists()


def test_nothing_to_export_is_said(tmp_path):
    with pytest.raises(ExportError, match="no LoRA"):
        export_pair({}, BOTH, tmp_path / "out", "l")


def test_a_folder_that_cannot_be_written_is_named(tmp_path):
    (tmp_path / "file").write_text("in the way")
    with pytest.raises(ExportError, match="file"):
        export_pair(checkpoint(tmp_path / "c"), BOTH, tmp_path / "file" / "out", "l")


def test_a_full_disk_leaves_nothing(tmp_path):
    resource = pytest.importorskip("resource", reason="needs a file size limit")
    files = checkpoint(tmp_path / "c")
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (500, hard))
    try:
        with pytest.raises(ExportError, match="out"):
            export_pair(files, BOTH, tmp_path / "out", "l")
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
    assert names(tmp_path / "out") == []
