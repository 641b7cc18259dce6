"""The recorded measurements of an H200, and the settings that each stands for."""

import json
from pathlib import Path
from typing import Any

from wan_studio.domain.model_sizes import A14B
from wan_studio.domain.project import Settings
from wan_studio.domain.vram_plan import MemoryModel, PhaseMemory
from wan_studio.domain.workload import ClipShape

RECORDED: dict[str, Any] = json.loads(
    (Path(__file__).parent / "recorded" / "measured_h200.json").read_text(encoding="utf-8")
)
CASES: list[dict[str, Any]] = RECORDED["cases"]


def settings_of(case: dict[str, Any]) -> Settings:
    """Of a step that was measured."""
    everything = case["keep"] == "everything"
    return Settings().with_values(
        {
            "model": {
                "base": "a14b",
                "low_vram": True,
                "resident_blocks": case["resident"],
                "checkpoint_offloading": case["offload"],
                "feed_forward_chunks": case["chunks"],
            },
            "quantization": {"transformer": case["mode"]},
            "training": {
                "batch_size": case["batch"],
                "gradient_checkpointing": not everything,
                "kept_activations": "attention" if everything else case["keep"],
                "kept_blocks": case["kept_blocks"],
            },
            "target": {"rank": case["rank"]},
            "multistage": {"stages": "both" if case["experts"] == 2 else "high"},
            "sample": {"every": 0},
        }
    )


def shape_of(case: dict[str, Any]) -> ClipShape:
    """Of its clips."""
    return ClipShape(case["width"], case["height"], case["frames"])


def forecast_of(case: dict[str, Any]) -> PhaseMemory:
    """What the memory model says of it."""
    return MemoryModel().training(settings_of(case), A14B, shape_of(case))


def words(case: dict[str, Any]) -> str:
    """The case in a name for a test."""
    told = ("mode", "keep", "kept_blocks", "resident", "offload", "chunks", "experts", "rank", "batch")
    size = f"{case['width']}x{case['height']}x{case['frames']}"
    return f"{size}," + ",".join(f"{name}={case[name]}" for name in told)
