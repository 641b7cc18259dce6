"""Presets: the settings that a goal starts from, in `resources/presets/*.toml`."""

import tomllib
from typing import Any

from trainer.protocol.job import MINIATURE
from wan_studio.domain.project import Goal, Settings
from wan_studio.services.shipped_files import shipped_file

MINIATURE_PRESET = "miniature"


def load_preset(name: str) -> dict[str, dict[str, Any]]:
    """The sections of a shipped preset: only what differs from the job's own defaults.

    Raises:
        ShippedFileError: there is no preset of this name.
    """
    return tomllib.loads(shipped_file(f"presets/{name}.toml").read_text(encoding="utf-8"))


def settings_for(goal: Goal, base: str = MINIATURE) -> Settings:
    """The settings to start with; the miniature brings its own sizes on top of the goal's.

    Args:
        goal: What is to be learnt.
        base: A model folder, or "miniature".
    """
    settings = Settings().with_values(load_preset(goal))
    if base == MINIATURE:
        settings = settings.with_values(load_preset(MINIATURE_PRESET))
    return settings.with_values({"model": {"base": base}})
