"""Every clip is seen as often as it should be, in an order that can be computed again at any point."""

import time
from collections import Counter

import pytest
import torch

from trainer.data.batches import BatchPlan, BatchSource, Bucket, TrainingItem, entries_of, load_batch
from trainer.data.cache_keys import latents_key
from trainer.data.tensor_cache import CacheMissError, TensorCache
from trainer.protocol.job import (
    ClipSpec,
    CropBox,
    DatasetSection,
    JobSection,
    JobSpec,
    ModelSection,
    TrainedSize,
)

CROP = CropBox(left=0, top=0, width=64, height=64)
SQUARE = TrainedSize(width=64, height=64, crop=CROP)
WIDE = TrainedSize(width=80, height=48, crop=CROP)


def clip(number: int, *, frames: int = 5, windows: int = 1, sizes=(SQUARE,)) -> ClipSpec:
    return ClipSpec(
        source=f"/clips/{number}.mp4",
        source_bytes=number,
        source_modified_ns=0,
        windows=tuple(tuple(range(start, start + frames)) for start in range(windows)),
        sizes=sizes,
        caption=f"clip {number % 3}",
    )


def dataset(name: str, clips, **fields) -> DatasetSection:
    return DatasetSection(name=name, clips=tuple(clips), num_frames=9, resolutions=(64,), **fields)


def job_of(*datasets: DatasetSection) -> JobSpec:
    return JobSpec(job=JobSection(name="t"), model=ModelSection(), datasets=datasets, cache_folder="/cache")


@pytest.fixture
def job() -> JobSpec:
    first = [clip(0, sizes=(SQUARE, WIDE)), clip(1), clip(2, sizes=(WIDE,), frames=9)]
    return job_of(dataset("first", first, repeats=3), dataset("second", [clip(n) for n in range(3, 8)]))


def plan_of(job: JobSpec, batch_size: int = 1, seed: int = 3) -> BatchPlan:
    return BatchPlan(entries_of(job, "training", "vae"), batch_size, seed)


def passes(plan: BatchPlan, stream: str, count: int) -> list[list[list[TrainingItem]]]:
    found, index = [], 0
    for number in range(count):
        size = plan.batches_in_pass(number)
        found.append([plan.batch_at(stream, index + i) for i in range(size)])
        index += size
    return found


def clips_seen(batches: list[list[TrainingItem]]) -> Counter:
    return Counter((item.clip_index, item.size_index) for batch in batches for item in batch)


def test_an_item_knows_its_clip_its_bucket_and_its_cache_key(job):
    for entry in entries_of(job, "training", "vae"):
        for item in entry.windows:
            source = job.clips[item.clip_index]
            size = source.sizes[item.size_index]
            frames = len(source.windows[item.window_index])
            assert item.bucket == Bucket(size.width, size.height, frames)
            assert item.latents_key == latents_key(source, item.window_index, item.size_index, "vae")
            assert source in job.datasets[item.dataset_index].clips


@pytest.mark.parametrize("stream", ["high_noise", "low_noise"])
def test_each_pass_covers_each_clip_at_each_size_as_often_as_it_repeats(job, stream):
    expected = {(0, 0): 3, (0, 1): 3, (1, 0): 3, (2, 0): 3} | {(n, 0): 1 for n in range(3, 8)}
    for batches in passes(plan_of(job), stream, 5):
        assert clips_seen(batches) == expected


@pytest.mark.parametrize("batch_size", [2, 3, 4, 7, 30])
def test_larger_batches_hold_one_bucket_and_miss_no_clip(job, batch_size):
    plan = plan_of(job, batch_size)
    single = clips_seen(passes(plan_of(job), "high_noise", 1)[0])
    for batches in passes(plan, "high_noise", 3):
        assert all(len(batch) == batch_size for batch in batches)
        assert all(len({item.bucket for item in batch}) == 1 for batch in batches)
        seen = clips_seen(batches)
        assert all(seen[key] >= count for key, count in single.items())


def test_a_weight_multiplies_how_often_a_clip_is_seen_fractions_over_passes():
    job = job_of(
        dataset("half", [clip(n) for n in range(4)], weight=0.5), dataset("more", [clip(9)], weight=2.25)
    )
    plan = plan_of(job)
    by_pass = [clips_seen(batches) for batches in passes(plan, "high_noise", 16)]
    total = sum(by_pass, Counter())
    assert [total[(n, 0)] for n in range(4)] == pytest.approx([8] * 4, abs=1)
    assert total[(4, 0)] == pytest.approx(36, abs=1)
    assert all(1 <= sum(seen[(n, 0)] for n in range(4)) <= 3 for seen in by_pass)


def test_windows_take_turns_and_do_not_make_a_clip_count_more():
    job = job_of(dataset("main", [clip(0, windows=3), clip(1)]))
    windows = []
    for batches in passes(plan_of(job), "high_noise", 9):
        assert clips_seen(batches) == {(0, 0): 1, (1, 0): 1}
        windows += [item.window_index for (item,) in batches if item.clip_index == 0]
    assert [sorted(windows[i : i + 3]) for i in (0, 3, 6)] == [[0, 1, 2]] * 3


def test_clips_of_different_lora_strength_are_never_in_one_batch():
    job = job_of(
        dataset("a", [clip(n) for n in range(5)]),
        dataset("b", [clip(n) for n in range(5, 9)], lora_strength=0.5),
    )
    for batch in passes(plan_of(job, 3), "low_noise", 1)[0]:
        assert len({item.dataset_index for item in batch}) == 1


def test_only_data_sets_of_the_role_are_planned():
    job = job_of(dataset("a", [clip(0)]), dataset("b", [clip(1)], role="regularization"))
    assert [entry.windows[0].clip_index for entry in entries_of(job, "regularization", "vae")] == [1]
    assert entries_of(job, "validation", "vae") == []


@pytest.mark.parametrize("share", [0.0, 0.25, 0.5, 1.0])
def test_every_expert_gets_the_regularization_share(share):
    job = job_of(dataset("a", [clip(0)]), dataset("b", [clip(1), clip(2)], role="regularization"))
    regularization = BatchPlan(entries_of(job, "regularization", "vae"), 1, 3)
    source = BatchSource(plan_of(job), regularization, share)
    for stream in ("high_noise", "low_noise"):
        seen = Counter(source.batch_at(stream, index)[0].clip_index for index in range(80))
        assert seen[1] + seen[2] == 80 * share
        assert seen[1] == seen[2]


def test_passes_seeds_and_streams_have_orders_of_their_own(job):
    plan = plan_of(job)
    first, second = passes(plan, "high_noise", 2)
    assert first != second
    assert first != passes(plan, "low_noise", 1)[0]
    assert first != passes(plan_of(job, seed=4), "high_noise", 1)[0]


def test_a_batch_is_a_function_of_its_number(job):
    plan, fresh = plan_of(job, 2), plan_of(job, 2)
    in_order = [plan.batch_at("high_noise", index) for index in range(40)]
    assert [fresh.batch_at("high_noise", index) for index in reversed(range(40))] == in_order[::-1]


def test_late_batches_are_found_quickly(job):
    began = time.process_time()
    plan_of(job).batch_at("high_noise", 200_000)
    assert time.process_time() - began < 20


def test_an_empty_plan_is_refused():
    with pytest.raises(ValueError, match="at least one entry"):
        BatchPlan([], 1, 0)


def test_a_batch_is_loaded_in_order_and_a_missing_clip_is_named(job, tmp_path):
    cache = TensorCache(tmp_path)
    items = [
        entry.windows[0]
        for entry in entries_of(job, "training", "vae")
        if entry.windows[0].bucket.width == 64
    ]
    for number, item in enumerate(items):
        shape = (16, 2, 8, 8)
        cache.store(
            item.latents_key, {"clean": torch.full(shape, number), "condition": torch.full(shape, -number)}
        )
    batch = load_batch([items[2], items[0]], cache)
    assert batch.clean_BCTHW.shape == (2, 16, 2, 8, 8)
    assert batch.clean_BCTHW.dtype is torch.float32
    assert batch.clean_BCTHW[:, 0, 0, 0, 0].tolist() == [2, 0]
    assert batch.condition_BCTHW[:, 0, 0, 0, 0].tolist() == [-2, 0]
    with pytest.raises(CacheMissError):
        load_batch(items, TensorCache(tmp_path / "empty"))
