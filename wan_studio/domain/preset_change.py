"""When the goal or the base changes: what the user has changed stays, the rest follows the new preset."""

from typing import Any

import msgspec

from wan_studio.domain.project import Settings


def carried_over(current: Settings, old_preset: Settings, new_preset: Settings) -> Settings:
    """The new preset, with every field that differs from the old preset kept as it is now.

    Args:
        current: The project's settings.
        old_preset: What they started from.
        new_preset: What they would start from now.
    """
    kept: dict[str, dict[str, Any]] = {}
    for section in Settings.__struct_fields__:
        now, old = getattr(current, section), getattr(old_preset, section)
        for field in now.__struct_fields__:
            if getattr(now, field) != getattr(old, field):
                kept.setdefault(section, {})[field] = msgspec.to_builtins(getattr(now, field))
    return new_preset.with_values(kept)
