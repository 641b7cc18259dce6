"""What turns one value of a project into another: small, so that hundreds of steps can be kept on disk."""

from typing import Any, get_type_hints

import msgspec
from msgspec import Struct

from wan_studio.domain.project import Project, ProjectClip
from wan_studio.errors import AppError

_CLIP_TYPES: dict[str, Any] = get_type_hints(ProjectClip, include_extras=True)
_VALUE_TYPES: dict[str, Any] = {
    field: kind
    for field, kind in get_type_hints(Project, include_extras=True).items()
    if field not in ("clips", "settings")
}


class DeltaError(AppError):
    """A step does not fit the project that it is to be applied to."""

    def __init__(self, problem: object) -> None:
        super().__init__(
            f"This step does not fit the project as it is now ({problem}).", "The project stays as it is."
        )


class ProjectDelta(Struct, frozen=True, kw_only=True, omit_defaults=True):
    """From one project to another; values are as JSON has them, and absolute, not relative.

    Attributes:
        values: Fields of the project that become another value, by name.
        settings: Fields of sections of the settings, by section and name.
        removed: Clips that go, by id.
        added: Clips that come, each with its place among all clips afterwards; in ascending order.
        changed: Fields of clips that stay, by id and name.
        order: All ids in their new order, where clips that stay changed places; else empty.
    """

    values: dict[str, Any] = {}
    settings: dict[str, dict[str, Any]] = {}
    removed: tuple[str, ...] = ()
    added: tuple[tuple[int, ProjectClip], ...] = ()
    changed: dict[str, dict[str, Any]] = {}
    order: tuple[str, ...] = ()


def delta_between(before: Project, after: Project) -> ProjectDelta:
    """What turns `before` into `after`."""
    removed, added, changed, order = _clip_changes(before.clips, after.clips)
    return ProjectDelta(
        values=_changed_fields(before, after, _VALUE_TYPES),
        settings={
            name: fields
            for name in before.settings.__struct_fields__
            if (fields := _changed_fields(getattr(before.settings, name), getattr(after.settings, name)))
        },
        removed=removed,
        added=added,
        changed=changed,
        order=order,
    )


def with_delta(project: Project, delta: ProjectDelta) -> Project:
    """The project after a step.

    Raises:
        DeltaError: the step is of another project.
    """
    try:
        settings = msgspec.structs.replace(
            project.settings,
            **{
                name: _with_fields(getattr(project.settings, name), fields)
                for name, fields in delta.settings.items()
            },
        )
        values = {field: msgspec.convert(value, _VALUE_TYPES[field]) for field, value in delta.values.items()}
        # One copy at the end: clips name their data sets, so neither may go without the other.
        return msgspec.structs.replace(
            project, clips=_clips_with(project.clips, delta), settings=settings, **values
        )
    except (AppError, KeyError, AttributeError, TypeError, msgspec.ValidationError) as error:
        raise DeltaError(error) from error


def _changed_fields(before: Struct, after: Struct, fields: Any = None) -> dict[str, Any]:
    if before is after:
        return {}
    return {
        field: msgspec.to_builtins(new)
        for field in fields or before.__struct_fields__
        if (new := getattr(after, field)) != getattr(before, field)
    }


_ClipChanges = tuple[
    tuple[str, ...], tuple[tuple[int, ProjectClip], ...], dict[str, dict[str, Any]], tuple[str, ...]
]


def _clip_changes(before: tuple[ProjectClip, ...], after: tuple[ProjectClip, ...]) -> _ClipChanges:
    """The parts of a delta that are about clips: removed, added, changed, order."""
    if before is after:
        return (), (), {}, ()
    old = {clip.id: clip for clip in before}
    new = {clip.id: clip for clip in after}
    removed = tuple(clip_id for clip_id in old if clip_id not in new)
    added = tuple((at, clip) for at, clip in enumerate(after) if clip.id not in old)
    stay_before = [clip_id for clip_id in old if clip_id in new]
    stay_after = [clip_id for clip_id in new if clip_id in old]
    changed: dict[str, dict[str, Any]] = {}
    for clip_id in stay_after:
        # Values that were not touched are the same objects: a whole comparison is for the others.
        if old[clip_id] is not new[clip_id] and (fields := _changed_fields(old[clip_id], new[clip_id])):
            changed[clip_id] = fields
    return removed, added, changed, tuple(new) if stay_before != stay_after else ()


def _clips_with(clips: tuple[ProjectClip, ...], delta: ProjectDelta) -> tuple[ProjectClip, ...]:
    if not (delta.removed or delta.added or delta.changed or delta.order):
        return clips
    by_id = {clip.id: clip for clip in clips}
    for clip_id in delta.removed:
        del by_id[clip_id]
    for clip_id, fields in delta.changed.items():
        values = {field: msgspec.convert(value, _CLIP_TYPES[field]) for field, value in fields.items()}
        by_id[clip_id] = msgspec.structs.replace(by_id[clip_id], **values)
    if delta.order:
        by_id.update((clip.id, clip) for _, clip in delta.added)
        return tuple(by_id[clip_id] for clip_id in delta.order)
    changed = list(by_id.values())
    for at, clip in delta.added:
        changed.insert(at, clip)
    return tuple(changed)


def _with_fields(section: Struct, fields: dict[str, Any]) -> Struct:
    return msgspec.convert({**msgspec.to_builtins(section), **fields}, type(section))
