"""What every recipe of a run works with: the run's folder and job, the base, the cache, the device."""

import os
from dataclasses import dataclass, field
from pathlib import Path

import torch
from torch import Tensor

from trainer.data.batches import TEXT_ROWS
from trainer.data.cache_keys import text_key
from trainer.data.tensor_cache import TensorCache
from trainer.model.layouts import BaseModel, expert_config, open_base
from trainer.protocol.job import MINIATURE, Expert, JobSpec
from trainer.protocol.run_folder import RunFolder
from trainer.runtime.control import Control
from trainer.runtime.device import check_served, compute_dtype
from trainer.runtime.distributed import Team
from trainer.runtime.pair import Pair
from trainer.runtime.reporter import Reporter
from trainer.runtime.work_meter import WorkMeter


@dataclass(frozen=True, slots=True)
class RunContext:
    """One run and what serves it; opened once, handed to each part.

    Attributes:
        meter: What its work takes.
        made_up: Whether latents and text are drawn instead of computed: then nothing that follows from
            them is kept, and the cache is none on disk.
        team: The processes that share the batches of each step.
        pair: The two processes of which each trains one expert; None where experts are not shared out.
    """

    run: RunFolder
    job: JobSpec
    base: BaseModel
    cache: TensorCache
    device: torch.device
    reporter: Reporter
    control: Control
    meter: WorkMeter
    made_up: bool = False
    team: Team = field(default_factory=Team)
    pair: Pair | None = None

    @property
    def everyone(self) -> Team:
        """All processes of the run."""
        return self.team if self.pair is None else self.pair.team

    @property
    def vae_dtype(self) -> torch.dtype:
        """What the VAE computes in: float32, or half of that where the job wants it and the device can."""
        wants_half = self.job.quantization.vae == "bf16"
        return compute_dtype(self.device) if wants_half else torch.float32

    @property
    def vae_fingerprint(self) -> str:
        """Of what latents depend on beside the pictures; a VAE that rounds has its own."""
        return self.base.vae_fingerprint + ("-bf16" if self.vae_dtype is torch.bfloat16 else "")

    def text_rows(self, prompt: str) -> Tensor:
        """A cached prompt's rows, (L, D), true length."""
        return self.cache.load(self.text_key(prompt))[TEXT_ROWS]

    def text_key(self, prompt: str) -> str:
        """The key of a prompt's rows in the cache; an encoder that is stored in 8 bits has its own."""
        rounded = self.job.quantization.text_encoder == "float8"
        return text_key(prompt, self.base.text_fingerprint + ("-float8" if rounded else ""))


def open_context(
    run: RunFolder,
    job: JobSpec,
    device: torch.device,
    reporter: Reporter,
    control: Control,
    together: Team | Pair | None = None,
) -> RunContext:
    """Open the base and the cache of a job.

    Args:
        run: Where.
        job: What.
        device: That computes.
        reporter: Hears of it.
        control: What it is told meanwhile.
        together: The processes that share the batches, or the two that share out the experts; none alone.

    Raises:
        BaseModelError: the base is missing or damaged.
        GpuNotServedError, NoGpuError: the device cannot compute this base.
    """
    if job.model.base == MINIATURE and device.type == "cpu" and "OMP_NUM_THREADS" not in os.environ:
        # Its work is so small that threads mostly wait for each other, and on a machine whose cores are
        # taken they do nothing else: then one is many times as fast as two.
        torch.set_num_threads(1)
    base = open_base(job.model)
    config = expert_config(base, Expert.HIGH)
    check_served(device, config["num_attention_heads"] * config["attention_head_dim"])
    return RunContext(
        run=run,
        job=job,
        base=base,
        cache=TensorCache(Path(job.cache_folder)),
        device=device,
        reporter=reporter,
        control=control,
        meter=WorkMeter(device, reporter.say),
        team=together if isinstance(together, Team) else Team(),
        pair=together if isinstance(together, Pair) else None,
    )
