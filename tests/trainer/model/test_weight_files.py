import os
import pickle
import struct

import pytest
import torch
from safetensors.torch import save_file

from trainer.model.base_errors import BaseModelError, DamagedFileError, UnsafeFileError
from trainer.model.stored_weights import stored_weights
from trainer.model.weight_files import open_tensors

TYPES = [
    torch.float64,
    torch.float32,
    torch.float16,
    torch.bfloat16,
    torch.float8_e4m3fn,
    torch.float8_e5m2,
    torch.int64,
    torch.uint8,
    torch.bool,
]


class Code:
    """Runs a command when it is unpickled."""

    def __init__(self, witness):
        self.witness = witness

    def __reduce__(self):
        return os.system, (f"touch {self.witness}",)


@pytest.mark.parametrize("dtype", TYPES)
def test_tensors_come_out_of_a_file_as_they_went_in(tmp_path, dtype):
    tensors = {
        "a": (torch.randn(3, 5) * 4).to(dtype),
        "b": torch.ones(()).to(dtype),
        "empty": torch.zeros(0, 4).to(dtype),
    }
    save_file(tensors, tmp_path / "some.safetensors", metadata={"format": "pt"})
    torch.save(tensors, tmp_path / "some.pth")
    for name in ("some.safetensors", "some.pth"):
        file = open_tensors(tmp_path / name)
        for key, tensor in tensors.items():
            assert file.entries[key].shape == tuple(tensor.shape)
            read = file.read(key)
            assert read.dtype == dtype
            assert torch.equal(
                read.view(torch.uint8) if read.ndim else read,
                tensor.view(torch.uint8) if tensor.ndim else tensor,
            )


def test_a_file_that_was_read_can_be_taken_away(tmp_path):
    path = tmp_path / "some.safetensors"
    save_file({"a": torch.arange(4.0)}, path)
    tensor = open_tensors(path).read("a")
    path.unlink()
    assert tensor.tolist() == [0, 1, 2, 3]


def test_a_file_that_gets_shorter_while_it_is_used_is_named(tmp_path):
    path = tmp_path / "some.safetensors"
    save_file({"a": torch.arange(4.0)}, path)
    file = open_tensors(path)
    path.write_bytes(path.read_bytes()[:-3])
    with pytest.raises(DamagedFileError, match=r"some\.safetensors cannot be read \(it ends too early\)"):
        file.read("a")


def test_a_header_whose_sizes_contradict_each_other_is_refused(tmp_path):
    path = tmp_path / "odd.safetensors"
    header = b'{"a": {"dtype": "F32", "shape": [3], "data_offsets": [0, 8]}}'
    path.write_bytes(struct.pack("<Q", len(header)) + header + bytes(8))
    with pytest.raises(DamagedFileError, match="holds 8 bytes for a instead of 12"):
        open_tensors(path)


@pytest.mark.parametrize("name", ["evil.pth", "evil.pt", "evil.bin", "evil.ckpt"])
def test_a_pickle_with_code_is_refused_and_nothing_of_it_runs(tmp_path, name):
    witness = tmp_path / "it_ran"
    torch.save({"a": torch.ones(2), "b": Code(witness)}, tmp_path / name)
    with pytest.raises(UnsafeFileError, match=rf"{name} holds more than tensors.*not opened"):
        open_tensors(tmp_path / name)
    (tmp_path / name).write_bytes(pickle.dumps(Code(witness)))
    with pytest.raises(BaseModelError, match=name):
        open_tensors(tmp_path / name)
    assert not witness.exists()


def test_a_pickle_that_calls_itself_safetensors_is_refused(tmp_path):
    witness = tmp_path / "it_ran"
    path = tmp_path / "evil.safetensors"
    path.write_bytes(pickle.dumps(Code(witness)))
    with pytest.raises(DamagedFileError, match=r"evil\.safetensors is no safetensors file"):
        open_tensors(path)
    assert not witness.exists()


def test_pickled_files_of_the_old_format_open_too(tmp_path):
    tensors = {"a": torch.arange(6.0)}
    torch.save(tensors, tmp_path / "old.pth", _use_new_zipfile_serialization=False)
    assert torch.equal(open_tensors(tmp_path / "old.pth").read("a"), tensors["a"])


@pytest.mark.parametrize("content", [b"", b"hello", bytes(1000)])
def test_bytes_that_are_no_pickled_file_are_named(tmp_path, content):
    (tmp_path / "vae.pth").write_bytes(content)
    with pytest.raises(DamagedFileError, match=r"vae\.pth"):
        open_tensors(tmp_path / "vae.pth")


@pytest.mark.parametrize("share", [0.1, 0.5, 0.99])
def test_a_pickled_file_that_was_cut_off_is_named(tmp_path, share):
    path = tmp_path / "vae.pth"
    torch.save({"a": torch.randn(5000)}, path)
    content = path.read_bytes()
    path.write_bytes(content[: int(len(content) * share)])
    with pytest.raises(DamagedFileError, match=r"vae\.pth is no file of tensors or was cut off"):
        open_tensors(path)


@pytest.mark.parametrize(
    "content", [[torch.ones(2)], {"a": 1}, {"model": {"a": torch.ones(2)}}, torch.ones(3)]
)
def test_a_pickled_file_without_named_tensors_is_told(tmp_path, content):
    torch.save(content, tmp_path / "some.pth")
    with pytest.raises(DamagedFileError, match="something else than named tensors"):
        open_tensors(tmp_path / "some.pth")


def test_a_gguf_file_is_told_what_to_take_instead(tmp_path):
    (tmp_path / "wan.gguf").write_bytes(b"GGUF")
    with pytest.raises(DamagedFileError, match=r"wan\.gguf is a GGUF file.*fp16, bf16 or fp8"):
        open_tensors(tmp_path / "wan.gguf")


@pytest.mark.parametrize(
    ("tensors", "metadata", "found"),
    [
        ({"l.weight": torch.zeros(2, 2, dtype=torch.int8)}, None, "l.weight in int8"),
        (
            {"l.weight": torch.zeros(2, 2, dtype=torch.uint8), "l.weight_scale": torch.ones(2)},
            None,
            "l.weight in uint8",
        ),
        (
            {"l.weight": torch.zeros(2, 2).to(torch.float8_e4m3fn), "l.weight_scale_2": torch.ones(())},
            None,
            "l.weight_scale_2",
        ),
        (
            {"l.weight": torch.zeros(2, 2).to(torch.float8_e4m3fn), "l.weight_scale": torch.ones(2)},
            {"_quantization_metadata": '{"layers": {"l": {"format": "mxfp8"}}}'},
            "l in the number format mxfp8",
        ),
        (
            {
                "l.weight": torch.zeros(2, 2).to(torch.float8_e4m3fn),
                "l.weight_scale": torch.ones(()),
                "l.comfy_quant": torch.tensor(list(b'{"format": "nvfp4"}'), dtype=torch.uint8),
            },
            None,
            "l in the number format nvfp4",
        ),
        (
            {"l.weight": torch.zeros(2)},
            {"_quantization_metadata": "{"},
            "does not describe its number formats",
        ),
    ],
)
def test_number_formats_that_are_not_understood_are_refused(tmp_path, tensors, metadata, found):
    save_file(tensors, tmp_path / "other.safetensors", metadata=metadata)
    with pytest.raises(DamagedFileError) as caught:
        stored_weights(open_tensors(tmp_path / "other.safetensors"))
    assert found in caught.value.message
    assert str(tmp_path / "other.safetensors") in caught.value.message
    assert "fp8_scaled" in caught.value.hint
