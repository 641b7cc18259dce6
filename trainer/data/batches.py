"""Which items train together, and in what order.

The order is computed, not drawn: a batch is a function of the seed, the stream and its number, so
a resumed run needs to remember nothing but how many batches it has taken.
"""

# B batch, C latent channels, T latent frames, H/W latent height and width

import hashlib
import math
from bisect import bisect_right
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

import torch
from torch import Tensor

from trainer.data.cache_keys import degraded_condition_key, latents_key
from trainer.data.tensor_cache import TensorCache
from trainer.protocol.job import JobSpec

CLEAN = "clean"
"""Name of the clip's latents in a latents file."""
CONDITION = "condition"
"""Name of the first-frame condition's latents in a latents file."""
TEXT_ROWS = "rows"
"""Name of the embedding in a text file: one row a token, without padding."""

Role = Literal["training", "regularization", "validation"]


@dataclass(frozen=True, slots=True)
class Bucket:
    """Sizes that a batch shares: width and height in pixels, number of frames."""

    width: int
    height: int
    frames: int


@dataclass(frozen=True, slots=True)
class TrainingItem:
    """One window of one clip at one size.

    Attributes:
        dataset_index: Index into the job's data sets.
        clip_index: Index into the job's clips (`JobSpec.clips`).
        window_index: Index into the clip's windows.
        size_index: Index into the clip's sizes.
        bucket: What it can be batched with.
        latents_key: Cache key of its latents.
        degraded_key: Cache key of its condition with a blurred or compressed first frame; empty where
            the data set asks for neither.
    """

    dataset_index: int
    clip_index: int
    window_index: int
    size_index: int
    bucket: Bucket
    latents_key: str
    degraded_key: str = ""


@dataclass(frozen=True, slots=True)
class Entry:
    """One clip at one size, as the plan counts it: its windows take turns.

    Attributes:
        windows: Of equal length, at least one.
        appearances: Times that it is seen in one pass, on average over passes.
        group: Entries of different groups are never batched together.
    """

    windows: tuple[TrainingItem, ...]
    appearances: float
    group: float


@dataclass(frozen=True, slots=True)
class Batch:
    """What one forward pass needs of the data.

    Attributes:
        clean_BCTHW: Normalised latents of the clips, float32.
        condition_BCTHW: Normalised latents of [first frame, zeros...], float32.
        items: What they are.
    """

    clean_BCTHW: Tensor
    condition_BCTHW: Tensor
    items: list[TrainingItem]


def entries_of(job: JobSpec, role: Role, vae_fingerprint: str) -> list[Entry]:
    """The clips of the data sets with this role, at every size.

    A clip's windows of equal length share one entry: more windows show more of the clip, they do not
    make it count more. Entries are grouped by their data set's LoRA strength, which a batch has once.
    """
    entries: list[Entry] = []
    clip_index = 0
    for dataset_index, dataset in enumerate(job.datasets):
        for clip in dataset.clips:
            for size_index, size in enumerate(clip.sizes):
                by_frames: dict[int, list[TrainingItem]] = {}
                for window_index, window in enumerate(clip.windows):
                    key = latents_key(clip, window_index, size_index, vae_fingerprint)
                    item = TrainingItem(
                        dataset_index=dataset_index,
                        clip_index=clip_index,
                        window_index=window_index,
                        size_index=size_index,
                        bucket=Bucket(size.width, size.height, len(window)),
                        latents_key=key,
                        degraded_key=degraded_condition_key(
                            key, dataset.condition_blur, dataset.condition_quality
                        ),
                    )
                    by_frames.setdefault(len(window), []).append(item)
                if dataset.role == role:
                    appearances = dataset.repeats * dataset.weight / len(by_frames)
                    entries += [
                        Entry(tuple(windows), appearances, dataset.lora_strength)
                        for windows in by_frames.values()
                    ]
            clip_index += 1
    return entries


class BatchPlan:
    """The batches of a run: pass after pass over the entries, each pass in an order of its own."""

    def __init__(self, entries: Sequence[Entry], batch_size: int, seed: int) -> None:
        """Plan batches.

        Args:
            entries: At least one.
            batch_size: Items of every batch, at least 1.
            seed: Of the order.
        """
        if not entries or batch_size < 1:
            raise ValueError("a plan needs at least one entry and a batch size of at least 1")
        self._buckets: dict[tuple[Bucket, float], list[int]] = {}
        for number, entry in enumerate(entries):
            self._buckets.setdefault((entry.windows[0].bucket, entry.group), []).append(number)
        self._entries = entries
        self._batch_size = batch_size
        self._seed = seed
        # Number of the first batch of each pass counted so far; passes differ where weights are fractions.
        self._starts = [0]
        # The pass that each stream is in: its order is only computed once.
        self._current: dict[str, tuple[int, list[list[TrainingItem]]]] = {}

    @property
    def bucket_counts(self) -> Counter[Bucket]:
        """How many clips each bucket has."""
        counts: Counter[Bucket] = Counter()
        for (bucket, _), members in self._buckets.items():
            counts[bucket] += len(members)
        return counts

    def batches_in_pass(self, pass_number: int) -> int:
        """Batches after which the pass has shown all that it shows."""
        return sum(
            -(-sum(self._times(number, pass_number) for number in members) // self._batch_size)
            for members in self._buckets.values()
        )

    def batch_at(self, stream: str, index: int) -> list[TrainingItem]:
        """The batch with this number (from 0) of a stream.

        Args:
            stream: Whose order it is, e.g. an expert's name; streams have independent orders.
            index: Batches that the stream has had before.

        Returns:
            `batch_size` items of one bucket and group. Where a pass does not fill its last batch,
            items from the start of the bucket's order are seen once more.
        """
        while self._starts[-1] <= index:
            self._starts.append(self._starts[-1] + self.batches_in_pass(len(self._starts) - 1))
        pass_number = bisect_right(self._starts, index) - 1
        known = self._current.get(stream)
        if known is None or known[0] != pass_number:
            known = (pass_number, self._pass(stream, pass_number))
            self._current[stream] = known
        return known[1][index - self._starts[pass_number]]

    def _times(self, number: int, pass_number: int) -> int:
        """How often an entry is seen in a pass; over passes it comes to `appearances` each."""
        appearances = self._entries[number].appearances
        # Every entry has an offset of its own, so that halves do not all fall into the same pass; the
        # golden ratio spreads the offsets evenly. Whole numbers are left as they are.
        offset = number * 0.6180339887498949 % 1.0 if appearances % 1.0 else 0.0
        before, after = (math.floor(appearances * n + offset) for n in (pass_number, pass_number + 1))
        return after - before

    def _pass(self, stream: str, pass_number: int) -> list[list[TrainingItem]]:
        batches: list[list[TrainingItem]] = []
        name = f"{self._seed}/{stream}/{pass_number}"
        for place, members in enumerate(self._buckets.values()):
            shown = [
                self._window(number, stream, pass_number, time)
                for number in members
                for time in range(self._times(number, pass_number))
            ]
            shuffled = [shown[i] for i in _order(f"{name}/{place}", len(shown))]
            for start in range(0, len(shuffled), self._batch_size):
                batch = shuffled[start : start + self._batch_size]
                missing = self._batch_size - len(batch)
                batches.append(batch + [shuffled[i % len(shuffled)] for i in range(missing)])
        return [batches[i] for i in _order(f"{name}/batches", len(batches))]

    def _window(self, number: int, stream: str, pass_number: int, time: int) -> TrainingItem:
        """The window that an entry shows: every one of them before any again, in a shuffled order."""
        windows = self._entries[number].windows
        if len(windows) == 1:
            return windows[0]
        seen_before = pass_number * math.ceil(self._entries[number].appearances) + time
        turn, place = divmod(seen_before, len(windows))
        return windows[_order(f"{self._seed}/{stream}/window/{number}/{turn}", len(windows))[place]]


class BatchSource:
    """Training batches with regularization batches among them, in a share that every stream keeps.

    The share is counted within each stream, and so within each expert: it cannot lock to one.
    """

    def __init__(self, training: BatchPlan, regularization: BatchPlan | None, share: float) -> None:
        """Mix two plans.

        Args:
            training: Main data.
            regularization: Data that keeps what the base knows; None where there is none.
            share: Share of regularization batches, 0..1.
        """
        self._training = training
        self._regularization = regularization
        self._share = share if regularization is not None else 0.0

    def batch_at(self, stream: str, index: int) -> list[TrainingItem]:
        """The batch with this number of a stream."""
        before, after = (math.floor(self._share * n + 1e-9) for n in (index, index + 1))
        if self._regularization is not None and after > before:
            return self._regularization.batch_at(f"{stream}/regularization", before)
        return self._training.batch_at(stream, index - before)


def load_batch(items: Sequence[TrainingItem], cache: TensorCache, altered: Sequence[bool] = ()) -> Batch:
    """Read a batch from the cache.

    Args:
        items: Of one bucket.
        cache: Where they are.
        altered: For each item whether its degraded condition is wanted, where it has one; empty for none.

    Raises:
        CacheMissError: something of it is not there.
    """
    latents = [cache.load(item.latents_key) for item in items]
    conditions = [
        cache.load(item.degraded_key)[CONDITION] if wanted and item.degraded_key else entry[CONDITION]
        for item, entry, wanted in zip(items, latents, altered or [False] * len(items), strict=True)
    ]
    return Batch(
        clean_BCTHW=torch.stack([entry[CLEAN].float() for entry in latents]),
        condition_BCTHW=torch.stack([condition.float() for condition in conditions]),
        items=list(items),
    )


def _order(name: str, count: int) -> list[int]:
    """A permutation that depends on the name alone: the same on every machine and library version."""

    def place(index: int) -> bytes:
        return hashlib.blake2b(f"{name}/{index}".encode(), digest_size=16).digest()

    return sorted(range(count), key=place)
