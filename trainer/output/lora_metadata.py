"""What a LoRA file says about itself, in the words that its readers know.

safetensors metadata is text by text. Model managers look for ``modelspec.*`` (the Stability AI
model metadata standard) and ``ss_*`` (kohya's trainer); the plain names are ours and are the ones
that this program reads back.
"""

import json
import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime

from trainer.protocol.job import Expert

SETTINGS_KEY = "wan_studio.settings"
DATASET_KEY = "wan_studio.dataset"
STRENGTH_KEY = "wan_studio.strength"
RESIZED_KEY = "wan_studio.resized_from"
MERGED_KEY = "modelspec.merged_from"

PEFT_KEY = "lora_adapter_metadata"
"""Under which diffusers keeps peft's settings, rank and alpha among them."""

_ARCHITECTURE = "wan-2_2-image2video-14b/lora"
_BASE_MODEL_VERSION = "wan_2.2_14b"
_EXPERT_TITLES = {Expert.HIGH: "high noise", Expert.LOW: "low noise"}
_NO_LONGER_TRUE = frozenset(
    {
        # Hashes of the weights as they were.
        "sshs_model_hash",
        "sshs_legacy_hash",
        "modelspec.hash_sha256",
        # diffusers would scale by the alpha in it again.
        PEFT_KEY,
    }
)


@dataclass(frozen=True, slots=True)
class LoraMetadata:
    """About one LoRA file.

    Attributes:
        name: Of the LoRA, without the expert.
        expert: Which transformer it belongs to.
        boundary: Noise level (0..1) that divides the experts.
        rank: Rank that it was trained with, or was resized to.
        alpha: Alpha that it was trained with; of an edited file its rank.
        steps: Optimizer steps done, both experts together.
        trigger: Trigger word; may be empty.
        base_fingerprint: Of the base model.
        created: When; None leaves dates out, so that equal weights give equal files.
        interval: Noise levels (0..1) from and to which it was trained; None takes the expert's side of
            the boundary.
        steps_of_expert: Those of the steps that this expert took; None where it is not known.
        details: Further metadata as they stand in the file: settings, data set, what other programs read.
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
    interval: tuple[float, float] | None = None
    steps_of_expert: int | None = None
    details: Mapping[str, str] = field(default_factory=dict)

    def to_strings(self, alpha_in_file: float) -> dict[str, str]:
        """The metadata as written.

        Args:
            alpha_in_file: Alpha with which a loader must scale the file's tensors: the rank when
                the trained alpha is folded into them.
        """
        title = _EXPERT_TITLES[self.expert]
        own_side = (self.boundary, 1.0) if self.expert is Expert.HIGH else (0.0, self.boundary)
        lower, upper = self.interval or own_side
        own_steps = self.steps if self.steps_of_expert is None else self.steps_of_expert
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
            "modelspec.title": f"{self.name} ({title})",
            "modelspec.description": (
                f"LoRA for the {title} expert of Wan 2.2 I2V A14B. "
                "Load it on that expert only; its twin belongs to the other."
            ),
            "modelspec.timestep_range": f"{round(lower * 1000)},{round(upper * 1000)}",
            # The text encoder's last layer, in the standard's counting from the end.
            "modelspec.encoder_layer": "1",
            "ss_base_model_version": _BASE_MODEL_VERSION,
            "ss_output_name": f"{self.name}_{self.expert.value}",
            "ss_network_module": "networks.lora",
            "ss_network_dim": str(self.rank),
            "ss_network_alpha": _number(alpha_in_file),
            "ss_steps": str(own_steps),
        }
        if self.interval is not None:
            strings["trained_interval"] = f"{lower!r},{upper!r}"
        if self.steps_of_expert is not None:
            strings["steps_of_expert"] = str(self.steps_of_expert)
        if self.trigger:
            strings["modelspec.trigger_phrase"] = self.trigger
        if self.created is not None:
            created = self.created.astimezone(UTC)
            strings["modelspec.date"] = created.isoformat(timespec="seconds")
            strings["ss_training_finished_at"] = _number(created.timestamp())
        return {**self.details, **strings}


@dataclass(frozen=True, slots=True)
class OtherMetadata:
    """What a file of another program says, kept but for what an edited file makes untrue.

    Attributes:
        strings: As they stand in that file.
        rank: Of the file to write.
    """

    strings: Mapping[str, str]
    rank: int

    def to_strings(self, alpha_in_file: float) -> dict[str, str]:
        """The metadata as written; `alpha_in_file` as for `LoraMetadata.to_strings`."""
        kept = {key: value for key, value in self.strings.items() if key not in _NO_LONGER_TRUE}
        scale = {"ss_network_dim": str(self.rank), "ss_network_alpha": _number(alpha_in_file)}
        return {"format": "pt", **kept, **scale}


def parse_metadata(strings: Mapping[str, str]) -> LoraMetadata | None:
    """Read back what `LoraMetadata.to_strings` wrote; None for a file of another program."""
    try:
        created = strings.get("modelspec.date")
        interval = strings.get("trained_interval")
        own_steps = strings.get("steps_of_expert")
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
            interval=_interval(interval) if interval else None,
            steps_of_expert=int(own_steps) if own_steps else None,
            details={
                key: value
                for key, value in strings.items()
                if key not in _OWN_KEYS and key not in _NO_LONGER_TRUE
            },
        )
    except (KeyError, ValueError):
        return None


def adapter_scale(strings: Mapping[str, str]) -> float:
    """The scale that diffusers gives a LoRA whose alpha stands in the metadata alone; 1 where none does.

    Raises:
        ValueError: it cannot be read, or differs from layer to layer.
    """
    if PEFT_KEY not in strings:
        return 1.0
    try:
        settings = {key.rpartition(".")[2]: value for key, value in json.loads(strings[PEFT_KEY]).items()}
        rank, alpha = float(settings["r"]), float(settings["lora_alpha"])
    except (AttributeError, KeyError, TypeError) as error:
        raise ValueError("no rank or alpha in it") from error
    if settings.get("alpha_pattern") or settings.get("rank_pattern"):
        raise ValueError("rank or alpha of its own for some layers")
    scale = alpha / (math.sqrt(rank) if settings.get("use_rslora") else rank) if rank > 0 else math.nan
    if not 0 <= scale < math.inf:
        raise ValueError(f"rank {rank:g}, alpha {alpha:g}")
    return scale


def _interval(text: str) -> tuple[float, float]:
    lower, upper = map(float, text.split(","))
    return lower, upper


def _number(value: float) -> str:
    """Without ".0": readers of ``ss_network_alpha`` compare it with the rank as text."""
    return str(int(value)) if math.isfinite(value) and value == int(value) else repr(value)


# All that `to_strings` can write by itself, from an instance that has everything.
_OWN_KEYS = frozenset(
    LoraMetadata(
        name="",
        expert=Expert.HIGH,
        boundary=0.9,
        rank=1,
        alpha=1.0,
        steps=0,
        trigger="w",
        created=datetime.fromtimestamp(0, UTC),
        interval=(0.0, 1.0),
        steps_of_expert=0,
    ).to_strings(1.0)
)
