"""Which items train together, and in what order.

The order is computed, not drawn: a batch is a function of the seed, the stream and its number, so
a resumed run needs to remember nothing but how many batches it has taken.
"""

# B batch, C latent channels, T latent frames, H/W latent height and width, L tokens, D text width

import hashlib
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from trainer.data.cache_keys import latents_key, text_key
from trainer.data.tensor_cache import TensorCache
from trainer.protocol.job import JobSpec

CLEAN = "clean"
"""Name of the clip's latents in a latents file."""
CONDITION = "condition"
"""Name of the first-frame condition's latents in a latents file."""
TEXT_ROWS = "rows"
"""Name of the embedding in a text file: one row a token, without padding."""


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
        clip_index: Index into the job's clips (`JobSpec.clips`).
        window_index: Index into the clip's windows.
        size_index: Index into the clip's sizes.
        bucket: What it can be batched with.
        latents_key: Cache key of its latents.
        text_key: Cache key of its caption.
    """

    clip_index: int
    window_index: int
    size_index: int
    bucket: Bucket
    latents_key: str
    text_key: str


@dataclass(frozen=True, slots=True)
class Batch:
    """What one forward pass needs of the data.

    Attributes:
        clean_BCTHW: Normalised latents of the clips, float32.
        condition_BCTHW: Normalised latents of [first frame, zeros...], float32.
        text_rows: Embedding of each item's caption, (L, D), true length only, as stored.
        items: What they are.
    """

    clean_BCTHW: Tensor  # noqa: N815
    condition_BCTHW: Tensor  # noqa: N815
    text_rows: list[Tensor]
    items: list[TrainingItem]


def items_of(job: JobSpec, vae_fingerprint: str, text_fingerprint: str) -> list[TrainingItem]:
    """Every window of every clip at every size, as often as its data set repeats.

    The copies of a repeated item are equal: ``dict.fromkeys(items)`` lists what has to be cached.
    """
    items: list[TrainingItem] = []
    clip_index = 0
    for dataset in job.datasets:
        for clip in dataset.clips:
            caption_key = text_key(clip.caption, text_fingerprint)
            for window_index, window in enumerate(clip.windows):
                for size_index, size in enumerate(clip.sizes):
                    item = TrainingItem(
                        clip_index=clip_index,
                        window_index=window_index,
                        size_index=size_index,
                        bucket=Bucket(size.width, size.height, len(window)),
                        latents_key=latents_key(clip, window_index, size_index, vae_fingerprint),
                        text_key=caption_key,
                    )
                    items += [item] * dataset.repeats
            clip_index += 1
    return items


class BatchPlan:
    """The batches of a run: pass after pass over the items, each pass in an order of its own."""

    def __init__(self, items: Sequence[TrainingItem], batch_size: int, seed: int) -> None:
        """Plan batches.

        Args:
            items: At least one; an item that stands in it n times is seen n times a pass.
            batch_size: Items of every batch, at least 1.
            seed: Of the order.
        """
        if not items or batch_size < 1:
            raise ValueError("a plan needs at least one item and a batch size of at least 1")
        self._buckets: dict[Bucket, list[TrainingItem]] = {}
        for item in items:
            self._buckets.setdefault(item.bucket, []).append(item)
        self._batch_size = batch_size
        self._seed = seed
        # The pass that each stream is in: order is only computed once a pass.
        self._current: dict[str, tuple[int, list[list[TrainingItem]]]] = {}

    @property
    def batches_per_pass(self) -> int:
        """Batches after which every item has been seen."""
        return sum(-(-len(members) // self._batch_size) for members in self._buckets.values())

    @property
    def bucket_counts(self) -> Counter[Bucket]:
        """How many items each bucket has."""
        return Counter({bucket: len(members) for bucket, members in self._buckets.items()})

    def batch_at(self, stream: str, index: int) -> list[TrainingItem]:
        """The batch with this number (from 0) of a stream.

        Args:
            stream: Whose order it is, e.g. an expert's name; streams have independent orders.
            index: Batches that the stream has had before.

        Returns:
            `batch_size` items of one bucket. When a bucket's items do not fill the pass's last
            batch, items from the start of the bucket's order are seen once more.
        """
        pass_number, position = divmod(index, self.batches_per_pass)
        known = self._current.get(stream)
        if known is None or known[0] != pass_number:
            known = (pass_number, self._pass(stream, pass_number))
            self._current[stream] = known
        return known[1][position]

    def _pass(self, stream: str, pass_number: int) -> list[list[TrainingItem]]:
        batches: list[list[TrainingItem]] = []
        name = f"{self._seed}/{stream}/{pass_number}"
        for number, members in enumerate(self._buckets.values()):
            shuffled = [members[i] for i in _order(f"{name}/{number}", len(members))]
            for start in range(0, len(shuffled), self._batch_size):
                batch = shuffled[start : start + self._batch_size]
                missing = self._batch_size - len(batch)
                batches.append(batch + [shuffled[i % len(shuffled)] for i in range(missing)])
        return [batches[i] for i in _order(f"{name}/batches", len(batches))]


def load_batch(items: Sequence[TrainingItem], cache: TensorCache) -> Batch:
    """Read a batch from the cache.

    Raises:
        CacheMissError: something of it is not there.
    """
    latents = [cache.load(item.latents_key) for item in items]
    return Batch(
        clean_BCTHW=torch.stack([entry[CLEAN].float() for entry in latents]),
        condition_BCTHW=torch.stack([entry[CONDITION].float() for entry in latents]),
        text_rows=[cache.load(item.text_key)[TEXT_ROWS] for item in items],
        items=list(items),
    )


def _order(name: str, count: int) -> list[int]:
    """A permutation that depends on the name alone: the same on every machine and library version."""

    def place(index: int) -> bytes:
        return hashlib.blake2b(f"{name}/{index}".encode(), digest_size=16).digest()

    return sorted(range(count), key=place)
