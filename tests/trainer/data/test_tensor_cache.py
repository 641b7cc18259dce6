"""Cached tensors come back as they were, whole or not at all."""

import os
import time

import pytest
import torch

from trainer.data.tensor_cache import CacheMissError, CacheWriteError, TensorCache, cache_key


@pytest.fixture
def cache(tmp_path):
    return TensorCache(tmp_path / "cache" / "latents")


VALUE = {
    "clean": torch.arange(24, dtype=torch.float32).reshape(2, 3, 4).transpose(0, 2),
    "half": torch.full((5,), 1.5, dtype=torch.bfloat16),
}


def test_tensors_come_back_in_their_shape_type_and_values(cache):
    assert not cache.has("a-1")
    cache.store("a-1", VALUE)
    assert cache.has("a-1")
    loaded = cache.load("a-1")
    assert loaded.keys() == VALUE.keys()
    for name, tensor in VALUE.items():
        assert loaded[name].dtype == tensor.dtype
        assert torch.equal(loaded[name], tensor)


def test_a_second_store_replaces_the_first(cache):
    cache.store("a-1", VALUE)
    cache.store("a-1", {"clean": torch.zeros(1)})
    assert cache.load("a-1").keys() == {"clean"}


@pytest.mark.parametrize("damage", ["cut", "longer", "empty", "text", "zeros", "no json", "other json"])
def test_a_damaged_file_counts_as_absent(cache, damage):
    cache.store("a-1", VALUE)
    path = cache.path_of("a-1")
    content = path.read_bytes()
    path.write_bytes(
        {
            "cut": content[:-1],
            "longer": content + b"x",
            "empty": b"",
            "text": b"not a tensor at all, but long enough",
            "zeros": bytes(len(content)),
            "no json": content[:8] + b"?" * (len(content) - 8),
            "other json": (2).to_bytes(8, "little") + b"[]",
        }[damage]
    )
    assert not cache.has("a-1")
    with pytest.raises(CacheMissError, match=r"a-1\.safetensors"):
        cache.load("a-1")


def test_an_absent_key_is_a_named_error(cache):
    with pytest.raises(CacheMissError, match="Resume the run"):
        cache.load("gone-1")


def test_what_a_dead_writer_left_is_never_read_and_later_cleared(cache):
    cache.store("a-1", VALUE)
    half = cache.folder / ".b-1.safetensors.1234abcd.tmp"
    half.write_bytes(cache.path_of("a-1").read_bytes()[:40])
    assert not cache.has("b-1")
    TensorCache(cache.folder)
    assert half.exists(), "another run may be writing it at this moment"
    os.utime(half, (time.time() - 7200,) * 2)
    TensorCache(cache.folder)
    assert not half.exists()
    assert cache.has("a-1")


def test_a_disk_that_takes_no_more_is_an_error_that_names_the_folder_and_leaves_nothing(cache):
    resource = pytest.importorskip("resource", reason="needs a file size limit")
    cache.store("old-1", VALUE)
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (4096, hard))
    try:
        with pytest.raises(CacheWriteError) as caught:
            cache.store("big-1", {"clean": torch.zeros(100_000)})
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
    assert str(cache.folder) in caught.value.message
    assert caught.value.kind == "cache_write"
    assert [path.name for path in cache.folder.iterdir()] == ["old-1.safetensors"]


def test_a_folder_that_cannot_be_made_is_a_named_error(tmp_path):
    (tmp_path / "file").write_text("in the way")
    with pytest.raises(CacheWriteError, match="file"):
        TensorCache(tmp_path / "file" / "cache")


def test_a_key_depends_on_every_part_and_on_nothing_else():
    base = cache_key("latents", 1, a=1, b=(1, 2))
    assert base == cache_key("latents", 1, b=[1, 2], a=1)
    others = {
        cache_key("text", 1, a=1, b=(1, 2)),
        cache_key("latents", 2, a=1, b=(1, 2)),
        cache_key("latents", 1, a=2, b=(1, 2)),
        cache_key("latents", 1, a=1, b=(2, 1)),
        cache_key("latents", 1, a=1, c=(1, 2)),
        cache_key("latents", 1, a="1", b=(1, 2)),
    }
    assert len(others) == 6
    assert base not in others
