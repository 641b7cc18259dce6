"""Undo steps as bytes: what each one does and takes back, small enough to keep hundreds of them."""

import zlib

import msgspec
from msgspec import Struct

from wan_studio.domain.project_delta import ProjectDelta
from wan_studio.errors import AppError

_QUICK = 1


class UndoStepError(AppError):
    """A kept step cannot be read."""

    def __init__(self, problem: object) -> None:
        super().__init__(f"An earlier step cannot be read ({problem}).")


class CaptionCopy(Struct, frozen=True, array_like=True):
    """A caption that a clip gets from another one.

    Attributes:
        clip_id: Of the clip that gets it.
        source: The other clip's file.
        target: Its own file.
    """

    clip_id: str
    source: str
    target: str


class ProjectStep(Struct, frozen=True, tag="project", omit_defaults=True):
    """A step from one value of the project to another.

    Attributes:
        forward: What it does.
        back: What takes it back.
        copies: Captions that come with it.
    """

    forward: ProjectDelta
    back: ProjectDelta
    copies: tuple[CaptionCopy, ...] = ()


class CaptionStep(Struct, frozen=True, tag="captions", omit_defaults=True):
    """A step from some captions to others.

    Attributes:
        before: What they said, by clip id.
        after: What they say then.
        what: Names the version in the captions' history.
        found: Bytes of files before it that are more than the text in UTF-8; None where there was no file.
        written: Bytes of files after it, where that is settled by more than the text.
    """

    before: dict[str, str]
    after: dict[str, str]
    what: str = ""
    found: dict[str, bytes | None] = {}
    written: dict[str, bytes] = {}


UndoStep = ProjectStep | CaptionStep
_DECODER: msgspec.msgpack.Decoder[UndoStep] = msgspec.msgpack.Decoder(UndoStep)


def packed(step: UndoStep) -> bytes:
    """A step as it is kept."""
    try:
        content = msgspec.msgpack.encode(step)
    except UnicodeEncodeError:
        # Half of a sign, which no file holds either: such a caption is not written.
        if not isinstance(step, CaptionStep):
            raise
        whole = msgspec.structs.replace(step, before=_whole(step.before), after=_whole(step.after))
        content = msgspec.msgpack.encode(whole)
    return zlib.compress(content, _QUICK)


def unpacked(content: bytes) -> UndoStep:
    """A kept step.

    Raises:
        UndoStepError: it is damaged.
    """
    try:
        return _DECODER.decode(zlib.decompress(content))
    except (zlib.error, msgspec.DecodeError, AppError) as error:
        raise UndoStepError(error) from error


def _whole(texts: dict[str, str]) -> dict[str, str]:
    return {clip_id: text.encode("utf-8", "replace").decode() for clip_id, text in texts.items()}
