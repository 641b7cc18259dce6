"""Quantized blocks on disk: they come back bit for bit, or count as absent with a reason."""

import errno
import os
import shutil
from dataclasses import replace

import pytest
import torch
from safetensors import SafetensorError
from safetensors.torch import save_file

from tests.small_disk import run_on_a_small_disk
from trainer.model.frozen.packing import PackedBlock
from trainer.model.frozen.quantized_cache import QuantizedCache, QuantizedKey, forget_unused
from trainer.model.frozen.quantizer import from_stored, quantized, stored_layout
from trainer.protocol.job import Expert

SHAPES = {"attn1.qkv": (96, 128), "ffn.down": (64, 192)}
KEY = QuantizedKey("a base", Expert.HIGH, "nf4_recovered", 8, "some clips")


def weights_of(mode, seed=0):
    generator = torch.Generator().manual_seed(seed)
    return {
        name: quantized(torch.randn(*shape, generator=generator), mode, recovery_rank=8)
        for name, shape in SHAPES.items()
    }


def stored_of(mode, seed=0):
    return {name: weight.stored for name, weight in weights_of(mode, seed).items()}


def cache_in(folder, mode="nf4_recovered", **changes):
    key = replace(KEY, mode=mode, **changes)
    layout = {name: stored_layout(mode, shape, 8) for name, shape in SHAPES.items()}
    warnings = []
    return QuantizedCache(folder, key, layout, warnings.append), warnings


@pytest.mark.parametrize("mode", ["none", "float8", "float8_compute", "nf4", "nf4_recovered"])
def test_a_block_comes_back_bit_for_bit_and_makes_its_weights_again(tmp_path, mode):
    cache, warnings = cache_in(tmp_path, mode)
    weights = weights_of(mode)
    assert cache.store_block(3, {name: weight.stored for name, weight in weights.items()})
    found = cache_in(tmp_path, mode)[0].load_block(3)
    assert found.reason == ""
    for name, weight in weights.items():
        again = from_stored(mode, SHAPES[name], found.tensors[name])
        assert torch.equal(again.dense(torch.float32), weight.dense(torch.float32))
        assert all(torch.equal(again.stored[part], one) for part, one in weight.stored.items())
    assert warnings == []


def test_a_loaded_block_is_packed_without_more_ado(tmp_path):
    cache, _ = cache_in(tmp_path)
    weights = weights_of("nf4_recovered")
    cache.store_block(0, {name: weight.stored for name, weight in weights.items()})
    tensors = cache.load_block(0).tensors
    loaded = [from_stored("nf4_recovered", SHAPES[name], tensors[name]) for name in SHAPES]
    PackedBlock(loaded, pin=False)
    for one, other in zip(loaded, weights.values(), strict=True):
        assert torch.equal(one.dense(torch.float32), other.dense(torch.float32))


def test_a_block_that_was_never_stored_is_absent(tmp_path):
    cache, _ = cache_in(tmp_path)
    cache.store_block(0, stored_of("nf4_recovered"))
    assert cache.load_block(1) == (None, "not cached yet")


@pytest.mark.parametrize(
    "changes",
    [
        {"base": "another"},
        {"expert": Expert.LOW},
        {"rank": 9},
        {"statistics": "other clips"},
        {"dtype": "float32"},
    ],
)
def test_whatever_the_weights_depend_on_is_in_the_key(tmp_path, changes):
    cache_in(tmp_path)[0].store_block(0, stored_of("nf4_recovered"))
    assert cache_in(tmp_path, **changes)[0].load_block(0).tensors is None


def test_without_a_branch_neither_rank_nor_clips_matter(tmp_path):
    cache_in(tmp_path, "nf4")[0].store_block(0, stored_of("nf4"))
    assert cache_in(tmp_path, "nf4", rank=99, statistics="other clips")[0].load_block(0).tensors is not None
    assert cache_in(tmp_path, "float8")[0].load_block(0).tensors is None


def test_every_flipped_byte_and_every_cut_counts_as_damage(tmp_path):
    cache, _ = cache_in(tmp_path)
    stored = stored_of("nf4_recovered")
    cache.store_block(0, stored)
    path = cache.path_of(0)
    whole = path.read_bytes()
    begin = len(whole) - sum(one.nbytes for parts in stored.values() for one in parts.values())
    for position in [*range(0, begin, 11), *range(begin, len(whole), 211), len(whole) - 1]:
        damaged = bytearray(whole)
        damaged[position] ^= 0x10
        path.write_bytes(damaged)
        found = cache.load_block(0)
        if position >= begin:
            assert found.tensors is None
        # A flip in the header may hit what carries no meaning; the tensors are then still the right ones.
        assert (found.tensors is None) == bool(found.reason)
    for length in (0, 7, 100, len(whole) // 2, len(whole) - 1):
        path.write_bytes(whole[:length])
        found = cache.load_block(0)
        assert found.tensors is None
        assert "damaged" in found.reason
    path.write_bytes(whole)
    assert cache.load_block(0).tensors is not None


def test_zeroed_pages_count_as_damage(tmp_path):
    cache, _ = cache_in(tmp_path)
    cache.store_block(0, stored_of("nf4_recovered"))
    path = cache.path_of(0)
    path.write_bytes(path.read_bytes()[:-4096] + bytes(4096))
    assert "have changed" in cache.load_block(0).reason


def test_a_damaged_block_is_replaced(tmp_path):
    cache, _ = cache_in(tmp_path)
    cache.store_block(0, stored_of("nf4_recovered"))
    cache.path_of(0).write_bytes(b"x")
    assert cache.load_block(0).tensors is None
    assert cache.store_block(0, stored_of("nf4_recovered", seed=1))
    assert cache.load_block(0).tensors is not None


def test_a_block_of_another_layout_is_absent(tmp_path):
    cache, _ = cache_in(tmp_path)
    cache.store_block(0, {"attn1.qkv": stored_of("nf4_recovered")["attn1.qkv"]})
    assert "other tensors" in cache.load_block(0).reason


def test_a_folder_in_the_place_of_a_file_is_no_crash(tmp_path):
    cache, _ = cache_in(tmp_path)
    cache.path_of(0).mkdir(parents=True)
    assert cache.load_block(0).tensors is None


def test_a_folder_that_cannot_be_made_is_a_warning_once_and_the_run_goes_on(tmp_path):
    (tmp_path / "taken").write_text("by a file")
    cache, warnings = cache_in(tmp_path / "taken")
    assert not cache.store_block(0, stored_of("nf4_recovered"))
    assert not cache.store_block(1, stored_of("nf4_recovered"))
    assert len(warnings) == 1
    assert "goes on" in warnings[0]


@pytest.mark.parametrize("sums", ["[1, 2]", "7", "null", "{", "{}"])
def test_a_header_without_the_sums_counts_as_damage(tmp_path, sums):
    cache, _ = cache_in(tmp_path)
    cache.folder.mkdir()
    stored = stored_of("nf4_recovered")
    flat = {f"{name}.{part}": one for name, parts in stored.items() for part, one in parts.items()}
    save_file(flat, cache.path_of(0), {"sums": sums})
    assert "damaged" in cache.load_block(0).reason


@pytest.mark.parametrize("error", [OSError(errno.ENOSPC, "No space"), SafetensorError("(os error 28)")])
def test_a_disk_that_fills_while_a_block_is_written_leaves_nothing_behind(tmp_path, monkeypatch, error):
    cache, warnings = cache_in(tmp_path)
    assert cache.store_block(0, stored_of("nf4_recovered"))

    def half_a_file(tensors, path, metadata):
        path.write_bytes(b"half of it")
        raise error

    monkeypatch.setattr("trainer.model.frozen.quantized_cache.save_file", half_a_file)
    assert not cache.store_block(1, stored_of("nf4_recovered"))
    assert len(warnings) == 1
    assert [path.name for path in cache.folder.iterdir()] == [cache.path_of(0).name]
    assert cache.load_block(0).tensors is not None


FILL_THE_DISK = """
import sys
from pathlib import Path
from tests.trainer.model.frozen.test_quantized_cache import cache_in, stored_of
cache, warnings = cache_in(Path(sys.argv[1]))
blocks = stored_of("nf4_recovered")
print([cache.store_block(index, blocks) for index in range(40)].count(True))
print(len(warnings), warnings)
print([cache.load_block(index).tensors is not None for index in range(40)].count(True))
print([path.name for path in cache.folder.iterdir() if path.name.endswith(".tmp")])
"""


@pytest.mark.slow
def test_on_a_full_disk_what_fits_is_kept_and_the_rest_is_done_without(tmp_path):
    output = run_on_a_small_disk(FILL_THE_DISK, tmp_path, "200k").splitlines()
    stored = int(output[0])
    assert 0 < stored < 40
    assert output[1].startswith("1 ")
    assert int(output[2]) == stored
    assert output[3] == "[]"


def test_leftovers_of_a_writer_that_died_are_cleared_and_never_read(tmp_path):
    cache, _ = cache_in(tmp_path)
    cache.store_block(0, stored_of("nf4_recovered"))
    old, young = (cache.folder / f".block_001.safetensors.{name}.tmp" for name in ("old", "young"))
    for leftover in (old, young):
        shutil.copyfile(cache.path_of(0), leftover)
    os.utime(old, (0, 0))
    assert cache.load_block(1).tensors is None
    cache.store_block(2, stored_of("nf4_recovered"))
    assert not old.exists()
    assert young.exists()


def test_what_was_not_used_for_the_longest_time_makes_room(tmp_path):
    caches = [cache_in(tmp_path, statistics=name)[0] for name in ("first", "second", "third")]
    for cache in caches:
        cache.store_block(0, stored_of("nf4_recovered"))
    for age, cache in zip((3, 2, 1), caches, strict=True):
        os.utime(cache.folder, (1e9 - age, 1e9 - age))
    one = caches[0].path_of(0).stat().st_size
    caches[0].load_block(0)
    forget_unused(tmp_path, replace(KEY, statistics="third"), 2 * one)
    assert [cache.folder.exists() for cache in caches] == [True, False, True]
    forget_unused(tmp_path, replace(KEY, statistics="third"), 0)
    assert [cache.folder.exists() for cache in caches] == [False, False, True]
