"""Latents and text that nobody computed, of the shapes that a job's would have: for a rehearsal of it."""

from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path

import torch
from torch import Tensor

from trainer.data.batches import (
    CLEAN,
    CONDITION,
    TEXT_ROWS,
    BatchPlan,
    BatchSource,
    Entry,
    TrainingItem,
    entries_of,
)
from trainer.data.tensor_cache import TensorCache
from trainer.model.layouts import expert_config
from trainer.model.text import MAX_TOKENS
from trainer.protocol.job import Expert
from trainer.recipes.cache_dataset import preview_condition_key
from trainer.recipes.run_context import RunContext
from trainer.runtime.device import compute_dtype
from trainer.runtime.out_of_memory import ClipSize
from trainer.runtime.seeding import generator_for


class MadeUpCache(TensorCache):
    """Has everything and keeps nothing."""

    def __init__(self, sizes: Mapping[str, ClipSize], text_width: int, text_dtype: torch.dtype) -> None:
        """Know the shapes.

        Args:
            sizes: Of clips, by the keys of their latents and conditions; any other key is a prompt's.
            text_width: Of the text encoder's rows.
            text_dtype: Of the same.
        """
        self.folder = Path("made up")
        self._sizes = sizes
        self._text_width = text_width
        self._text_dtype = text_dtype

    def has(self, key: str) -> bool:
        """Whatever it is."""
        del key
        return True

    def load(self, key: str) -> dict[str, Tensor]:
        """Normal numbers, the same for a key every time; prompts have the length of the longest."""
        generator = generator_for(0, key)
        size = self._sizes.get(key)
        if size is None:
            rows_LD = torch.randn(MAX_TOKENS, self._text_width, generator=generator)
            return {TEXT_ROWS: rows_LD.to(self._text_dtype)}
        shape = (16, (size.frames - 1) // 4 + 1, size.height // 8, size.width // 8)
        return {
            CLEAN: torch.randn(shape, generator=generator),
            CONDITION: torch.randn(shape, generator=generator),
        }

    def store(self, key: str, tensors: dict[str, Tensor]) -> None:
        """Drop them."""
        del key, tensors


@dataclass(frozen=True, slots=True)
class LargestBatches:
    """The batches that need most.

    Attributes:
        item: One of their items.
    """

    batches: BatchSource
    item: TrainingItem


def with_made_up_data(context: RunContext) -> RunContext:
    """The run with a cache that has everything that its job needs."""
    job, sizes = context.job, {}
    for entry in _trained(context):
        for item in entry.windows:
            size = ClipSize(item.bucket.width, item.bucket.height, item.bucket.frames)
            sizes |= {key: size for key in (item.latents_key, item.degraded_key) if key}
    for row in job.sample.rows:
        size = ClipSize(row.size.width, row.size.height, row.num_frames)
        sizes[preview_condition_key(context, row)] = size
    text_width = int(expert_config(context.base, Expert.HIGH)["text_dim"])
    cache = MadeUpCache(sizes, text_width, compute_dtype(context.device))
    return replace(context, cache=cache, made_up=True)


def largest_batches(context: RunContext) -> LargestBatches:
    """Batches of the clips with the most tokens; those of training before those of regularization."""
    entries = _trained(context)
    largest = max(entries, key=_tokens)
    bucket = largest.windows[0].bucket
    role = context.job.datasets[largest.windows[0].dataset_index].role
    chosen = [
        entry
        for entry in entries
        if entry.windows[0].bucket == bucket
        and context.job.datasets[entry.windows[0].dataset_index].role == role
    ]
    training = context.job.training
    plan = BatchPlan(chosen, training.batch_size, training.seed)
    return LargestBatches(BatchSource(plan, None, 0.0), largest.windows[0])


def _trained(context: RunContext) -> list[Entry]:
    vae = context.vae_fingerprint
    return [
        *entries_of(context.job, "training", vae),
        *entries_of(context.job, "regularization", vae),
    ]


def _tokens(entry: Entry) -> int:
    bucket = entry.windows[0].bucket
    return ClipSize(bucket.width, bucket.height, bucket.frames).tokens
