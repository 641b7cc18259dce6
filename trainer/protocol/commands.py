"""What the app may ask of a running trainer: one small JSON file a command in ``commands/``."""

from typing import Annotated

import msgspec
from msgspec import Meta, Struct


class CommandBase(Struct, frozen=True, kw_only=True, tag_field="command", forbid_unknown_fields=True):
    """Common to all commands."""


class Stop(CommandBase, frozen=True, kw_only=True, tag="stop"):
    """Save a checkpoint and end the run."""


class Pause(CommandBase, frozen=True, kw_only=True, tag="pause"):
    """Save a checkpoint and wait for `Unpause`."""


class Unpause(CommandBase, frozen=True, kw_only=True, tag="unpause"):
    """Go on after a pause."""


class SaveNow(CommandBase, frozen=True, kw_only=True, tag="save_now"):
    """Save a checkpoint after the current step."""


class PreviewNow(CommandBase, frozen=True, kw_only=True, tag="preview_now"):
    """Render the previews after the current step."""


class SetLearningRate(CommandBase, frozen=True, kw_only=True, tag="set_learning_rate"):
    """Train on with another learning rate."""

    learning_rate: Annotated[float, Meta(gt=0.0, le=1.0)]


Command = Stop | Pause | Unpause | SaveNow | PreviewNow | SetLearningRate

_decoder = msgspec.json.Decoder(Command)


def decode_command(content: bytes) -> Command:
    """Decode a command file.

    Raises:
        msgspec.DecodeError: it is not a command of this version.
    """
    try:
        return _decoder.decode(content)
    except UnicodeDecodeError as error:
        raise msgspec.DecodeError(str(error)) from error


def command_name(command: Command) -> str:
    """The name that the command has on the wire."""
    return str(command.__struct_config__.tag)
