"""From project files of older versions to today's: one function a version, applied in turn."""

from collections.abc import Callable
from typing import Any, cast

from wan_studio.domain.project import FORMAT_VERSION

Data = dict[str, Any]


def upgraded(data: Data) -> Data:
    """The content of a project file as today's version would have written it; `data` stays as it is."""
    version = data.get("format_version", 1)
    while isinstance(version, int) and version < FORMAT_VERSION and version in _UPGRADES:
        data = {**_UPGRADES[version](data), "format_version": version + 1}
        version += 1
    return data


def _from_1(data: Data) -> Data:
    """Version 2: previews count all clips of the project, not only those that are not rejected.

    Data sets came as well; without any, everything is in the main one.
    """
    clips = cast("list[Data]", data.get("clips", []))
    used = [at for at, clip in enumerate(clips) if not clip.get("rejected", False)]
    settings = cast("Data", data.get("settings", {}))
    sample = cast("Data", settings.get("sample", {}))
    rows = cast("list[Data]", sample.get("rows", []))
    rows = [
        {**row, "clip": used[place]} if (place := row.get("clip", 0)) < len(used) else row for row in rows
    ]
    if not rows:
        return data
    return {**data, "settings": {**settings, "sample": {**sample, "rows": rows}}}


def _from_2(data: Data) -> Data:
    """Version 3: settings of memory, quantization and GPUs, which start with the job's own defaults."""
    return data


def _from_3(data: Data) -> Data:
    """Version 4: clips may be rated; none is."""
    return data


def _from_4(data: Data) -> Data:
    """Version 5: clips may have a name of their own, the project a list of right words; none has."""
    return data


_UPGRADES: dict[int, Callable[[Data], Data]] = {1: _from_1, 2: _from_2, 3: _from_3, 4: _from_4}
