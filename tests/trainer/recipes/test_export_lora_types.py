"""A checkpoint of any LoRA type becomes files that their readers can use."""

import pytest
import torch
from safetensors.torch import load_file

from tests.jobs import small_job
from trainer.model.layouts import open_base
from trainer.model.load import load_expert
from trainer.model.lora import (
    LoraSettings,
    add_lora,
    load_lora_state,
    lora_file_state,
    lora_state,
)
from trainer.output.export import ExportOptions
from trainer.output.lora_file import LoraFileError, LoraFileSpec, write_lora_file
from trainer.protocol.job import Expert
from trainer.protocol.run_folder import RunFolder, lora_file_name
from trainer.recipes.export_lora import ExportRequest, export_lora


@pytest.fixture
def make_run(tmp_path, miniature_folder):
    def make(**target):
        run = RunFolder(tmp_path / "run")
        run.create(small_job(tmp_path / "data", miniature_folder, target={"rank": 2, **target}))
        run.checkpoint(3).mkdir(parents=True)
        base = open_base(str(miniature_folder))
        transformer = load_expert(base, Expert.HIGH, torch.float32, torch.device("cpu"))
        add_lora(transformer, LoraSettings(**{"rank": 2, **target}), 1)
        generator = torch.Generator().manual_seed(2)
        state = {
            name: tensor + 0.1 * torch.randn(tensor.shape, generator=generator)
            for name, tensor in lora_state(transformer).items()
        }
        load_lora_state(transformer, state)
        path = run.checkpoint(3) / lora_file_name(Expert.HIGH)
        write_lora_file(path, lora_file_state(transformer, state), LoraFileSpec("fp32", 2, 2.0))
        return run, state

    return make


def exported(run, file_format):
    (path,) = export_lora(run, ExportRequest(options=ExportOptions(format=file_format)))
    return load_file(path)


def test_a_dora_becomes_what_diffusers_reads_with_the_bases_help(make_run):
    run, state = make_run(type="dora", only_if_contains=("ffn",))
    found = exported(run, "diffusers")
    assert found.keys() == {f"transformer.{name}" for name in state}
    for name, tensor in state.items():
        torch.testing.assert_close(found[f"transformer.{name}"], tensor, atol=1e-6, rtol=1e-5)


@pytest.mark.parametrize("kind", ["dora", "lokr"])
@pytest.mark.parametrize("file_format", ["original", "kohya"])
def test_doras_and_lokrs_keep_their_numbers_in_comfyuis_names(make_run, kind, file_format):
    run, _ = make_run(type=kind)
    own = load_file(run.checkpoint(3) / lora_file_name(Expert.HIGH))
    found = exported(run, file_format)
    assert len(found) == (60 if kind == "dora" else 80) + (
        20 if (kind, file_format) == ("dora", "kohya") else 0
    )
    if file_format == "original":
        assert found.keys() == own.keys()
        assert all(torch.equal(tensor, own[key]) for key, tensor in found.items())
    assert sorted(
        float(tensor.double().sum()) for key, tensor in found.items() if "alpha" not in key
    ) == sorted(float(tensor.double().sum()) for key, tensor in own.items() if "alpha" not in key)
    assert all(float(tensor) == 2.0 for key, tensor in found.items() if key.endswith(".alpha"))


def test_a_lokr_for_diffusers_is_refused_in_words_and_leaves_nothing(make_run):
    run, _ = make_run(type="lokr")
    with pytest.raises(LoraFileError, match="diffusers loads no LoKr"):
        exported(run, "diffusers")
    assert list(run.exports_folder.iterdir()) == []
