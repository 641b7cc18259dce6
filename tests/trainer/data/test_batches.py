"""Every item is seen as often as it should be, in an order that can be computed again at any point."""

import time
from collections import Counter

import pytest
import torch

from trainer.data.batches import BatchPlan, Bucket, TrainingItem, items_of, load_batch
from trainer.data.cache_keys import latents_key, text_key
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

RECORDED = [6, 1, 4, 5, 3, 2, 7, 0, 6, 5, 7, 2, 3, 1, 4, 0]

CROP = CropBox(left=0, top=0, width=64, height=64)


def size(width: int, height: int) -> TrainedSize:
    return TrainedSize(width=width, height=height, crop=CROP)


def clip(number: int, *, frames: int = 5, windows: int = 1, sizes: tuple[TrainedSize, ...]) -> ClipSpec:
    return ClipSpec(
        source=f"/clips/{number}.mp4",
        source_bytes=number,
        source_modified_ns=0,
        windows=tuple(tuple(range(start, start + frames)) for start in range(windows)),
        sizes=sizes,
        caption=f"clip {number % 3}",
    )


def job() -> JobSpec:
    square, wide = size(64, 64), size(80, 48)
    first = DatasetSection(
        name="first",
        clips=(
            clip(0, sizes=(square, wide), windows=2),
            clip(1, sizes=(square,)),
            clip(2, sizes=(wide,), frames=9),
        ),
        num_frames=9,
        resolutions=(64,),
        repeats=3,
    )
    second = DatasetSection(
        name="second",
        clips=tuple(clip(number, sizes=(square,)) for number in range(3, 8)),
        num_frames=5,
        resolutions=(64,),
    )
    return JobSpec(
        job=JobSection(name="t"), model=ModelSection(), datasets=(first, second), cache_folder="/cache"
    )


@pytest.fixture
def items() -> list[TrainingItem]:
    return items_of(job(), "vae", "text")


def the_pass(plan: BatchPlan, stream: str, number: int) -> list[list[TrainingItem]]:
    count = plan.batches_per_pass
    return [plan.batch_at(stream, number * count + i) for i in range(count)]


def test_items_are_every_window_at_every_size_as_often_as_repeated(items):
    spec = job()
    assert Counter((item.clip_index, item.window_index, item.size_index) for item in items) == {
        (0, 0, 0): 3,
        (0, 0, 1): 3,
        (0, 1, 0): 3,
        (0, 1, 1): 3,
        (1, 0, 0): 3,
        (2, 0, 0): 3,
        **{(number, 0, 0): 1 for number in range(3, 8)},
    }
    for item in items:
        source = spec.clips[item.clip_index]
        assert item.latents_key == latents_key(source, item.window_index, item.size_index, "vae")
        assert item.text_key == text_key(source.caption, "text")
        chosen = source.sizes[item.size_index]
        assert item.bucket == Bucket(chosen.width, chosen.height, len(source.windows[item.window_index]))


@pytest.mark.parametrize("stream", ["high_noise", "low_noise"])
def test_each_pass_of_single_items_covers_each_as_often_as_it_repeats(items, stream):
    plan = BatchPlan(items, 1, seed=3)
    assert plan.batches_per_pass == len(items)
    for number in (0, 1, 17):
        assert Counter(item for batch in the_pass(plan, stream, number) for item in batch) == Counter(items)


@pytest.mark.parametrize("batch_size", [2, 3, 4, 7, 30])
def test_larger_batches_hold_one_bucket_and_miss_no_item(items, batch_size):
    plan = BatchPlan(items, batch_size, seed=3)
    buckets = Counter(item.bucket for item in items)
    assert plan.bucket_counts == buckets
    assert plan.batches_per_pass == sum(-(-count // batch_size) for count in buckets.values())
    for number in range(3):
        batches = the_pass(plan, "high_noise", number)
        assert all(len(batch) == batch_size for batch in batches)
        assert all(len({item.bucket for item in batch}) == 1 for batch in batches)
        seen = Counter(item for batch in batches for item in batch)
        assert all(seen[item] >= count for item, count in Counter(items).items())
        surplus = sum(seen.values()) - len(items)
        assert surplus == sum(-count % batch_size for count in buckets.values())


def test_passes_seeds_and_streams_have_orders_of_their_own(items):
    plan = BatchPlan(items, 1, seed=3)
    orders = [
        the_pass(plan, "high_noise", 0),
        the_pass(plan, "high_noise", 1),
        the_pass(plan, "low_noise", 0),
        the_pass(BatchPlan(items, 1, seed=4), "high_noise", 0),
    ]
    assert all(a != b for i, a in enumerate(orders) for b in orders[:i])


def test_a_batch_depends_on_its_number_alone_not_on_what_was_asked_before(items):
    walked = BatchPlan(items, 2, seed=3)
    expected = {(s, i): walked.batch_at(s, i) for i in range(60) for s in ("high_noise", "low_noise")}
    jumping = BatchPlan(items, 2, seed=3)
    for (stream, index), batch in sorted(expected.items(), key=lambda entry: hash(entry[0])):
        assert jumping.batch_at(stream, index) == batch
        assert BatchPlan(items, 2, seed=3).batch_at(stream, index) == batch


def test_the_order_is_the_same_on_every_machine():
    # A recorded order: another library version or platform must not reorder a resumed run.
    plan = BatchPlan([TrainingItem(n, 0, 0, Bucket(64, 64, 5), f"l{n}", "t") for n in range(8)], 1, seed=42)
    drawn = [plan.batch_at("high_noise", index)[0].clip_index for index in range(16)]
    assert drawn == RECORDED


def test_a_late_batch_of_a_large_set_is_found_at_once():
    bucket = Bucket(64, 64, 5)
    many = [TrainingItem(number, 0, 0, bucket, f"l{number}", "t") for number in range(2000)]
    plan = BatchPlan(many, 1, seed=0)
    start = time.perf_counter()
    plan.batch_at("high_noise", 1_000_000)
    for index in range(1_000_000, 1_000_500):
        plan.batch_at("high_noise", index)
        plan.batch_at("low_noise", index)
    assert time.perf_counter() - start < 1.0


def test_a_plan_without_items_is_refused():
    with pytest.raises(ValueError, match="item"):
        BatchPlan([], 1, seed=0)


def test_a_batch_is_read_from_the_cache_in_the_order_of_its_items(tmp_path, items):
    cache = TensorCache(tmp_path)
    batch = BatchPlan(items, 3, seed=1).batch_at("low_noise", 0)
    for item in items:
        mark = float(item.clip_index + 10 * item.window_index)
        latents = torch.full((16, 2, 8, 8), mark)
        cache.store(item.latents_key, {"clean": latents.bfloat16(), "condition": -latents.bfloat16()})
        rows = torch.full((3 + item.clip_index % 3, 64), mark)
        cache.store(item.text_key, {"rows": rows})
    loaded = load_batch(batch, cache)
    marks = torch.tensor([float(item.clip_index + 10 * item.window_index) for item in batch])
    assert loaded.clean_BCTHW.shape == loaded.condition_BCTHW.shape == (3, 16, 2, 8, 8)
    assert loaded.clean_BCTHW.dtype == torch.float32
    assert torch.equal(loaded.clean_BCTHW[:, 0, 0, 0, 0], marks)
    assert torch.equal(loaded.condition_BCTHW, -loaded.clean_BCTHW)
    assert [len(rows) for rows in loaded.text_rows] == [3 + item.clip_index % 3 for item in batch]
    assert loaded.items == batch
    cache.path_of(batch[1].latents_key).unlink()
    with pytest.raises(CacheMissError):
        load_batch(batch, cache)
