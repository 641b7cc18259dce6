"""What a LoRA file says about itself, in the words that its readers know.

safetensors metadata is text by text. Model managers look for ``modelspec.*`` (the Stability AI
model metadata standard) and ``ss_*`` (kohya's trainer); the plain names are ours and are the ones
that this program reads back.
"""

import math
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime

from trainer.protocol.job import Expert

_ARCHITECTURE = "wan-2_2-image2video-14b/lora"
_BASE_MODEL_VERSION = "wan_2.2_14b"
_EXPERT_TITLES = {Expert.HIGH: "high noise", Expert.LOW: "low noise"}


@dataclass(frozen=True, slots=True)
class LoraMetadata:
    """About one LoRA file.

    Attributes:
        name: Of the LoRA, without the expert.
        expert: Which transformer it belongs to.
        boundary: Noise level (0..1) that divides the experts.
        rank: Rank that it was trained with.
        alpha: Alpha that it was trained with.
        steps: Optimizer steps done, both experts together.
        trigger: Trigger word; may be empty.
        base_fingerprint: Of the base model.
        created: When; None leaves dates out, so that equal weights give equal files.
    """

    name: str
    expert: Expert
    boundary: float
    rank: int
    alpha: float
    steps: int
    trigger: str = ""
    base_fingerprint: str = ""
    created: datetime | None = None

    def to_strings(self, alpha_in_file: float) -> dict[str, str]:
        """The metadata as written.

        Args:
            alpha_in_file: Alpha with which a loader must scale the file's tensors: the rank when
                the trained alpha is folded into them.
        """
        is_high = self.expert is Expert.HIGH
        boundary_timestep = round(self.boundary * 1000)
        strings = {
            "format": "pt",
            "name": self.name,
            "expert": self.expert.value,
            "boundary": repr(self.boundary),
            "rank": str(self.rank),
            "alpha": _number(self.alpha),
            "steps": str(self.steps),
            "trigger": self.trigger,
            "base_fingerprint": self.base_fingerprint,
            "modelspec.sai_model_spec": "1.0.0",
            "modelspec.architecture": _ARCHITECTURE,
            "modelspec.implementation": "diffusers",
            "modelspec.title": f"{self.name} ({_EXPERT_TITLES[self.expert]})",
            "modelspec.description": (
                f"LoRA for the {_EXPERT_TITLES[self.expert]} expert of Wan 2.2 I2V A14B. "
                "Load it on that expert only; its twin belongs to the other."
            ),
            "modelspec.timestep_range": f"{boundary_timestep},1000" if is_high else f"0,{boundary_timestep}",
            "ss_base_model_version": _BASE_MODEL_VERSION,
            "ss_output_name": f"{self.name}_{self.expert.value}",
            "ss_network_module": "networks.lora",
            "ss_network_dim": str(self.rank),
            "ss_network_alpha": _number(alpha_in_file),
            "ss_steps": str(self.steps),
        }
        if self.trigger:
            strings["modelspec.trigger_phrase"] = self.trigger
        if self.created is not None:
            created = self.created.astimezone(UTC)
            strings["modelspec.date"] = created.isoformat(timespec="seconds")
            strings["ss_training_finished_at"] = _number(created.timestamp())
        return strings


def parse_metadata(strings: Mapping[str, str]) -> LoraMetadata | None:
    """Read back what `LoraMetadata.to_strings` wrote; None for a file of another program."""
    try:
        created = strings.get("modelspec.date")
        return LoraMetadata(
            name=strings["name"],
            expert=Expert(strings["expert"]),
            boundary=float(strings["boundary"]),
            rank=int(strings["rank"]),
            alpha=float(strings["alpha"]),
            steps=int(strings["steps"]),
            trigger=strings.get("trigger", ""),
            base_fingerprint=strings.get("base_fingerprint", ""),
            created=datetime.fromisoformat(created) if created else None,
        )
    except (KeyError, ValueError):
        return None


def _number(value: float) -> str:
    """Without ".0": readers of ``ss_network_alpha`` compare it with the rank as text."""
    return str(int(value)) if math.isfinite(value) and value == int(value) else repr(value)
