"""What is asked of a model that writes captions: the clips, the frames that it sees of each, and the words."""

from pathlib import Path
from typing import Annotated, Literal

from msgspec import Meta

from trainer.protocol.job import ClipSpec, NonNegative, Positive, Section
from trainer.protocol.run_folder import RunFolder
from trainer.protocol.wire import read_json

REQUEST_NAME = "caption.json"
FEWEST_PIXELS = 28 * 28 * 4


class CaptionClip(Section, frozen=True, kw_only=True):
    """One clip to describe.

    Attributes:
        id: The app's name of it; the caption's event carries it back.
        key: What the caption depends on, in the app's own words; carried back as well.
        clip: Its only window holds the frames that are looked at, evenly spaced; its only size is one that
            it trains at. The caption in it is not read.
        frames_per_second: At which the model is told that they follow each other.
        instructions: For this clip alone; empty takes the request's.
    """

    id: str
    key: str = ""
    clip: ClipSpec
    frames_per_second: Annotated[float, Meta(gt=0.0)] = 4.0
    instructions: str = ""


class CaptionRequest(Section, frozen=True, kw_only=True):
    """One order of captions; whole in itself, as a job is.

    Attributes:
        model: A folder with a model of the Qwen-VL family, or a repository of the Hugging Face Hub.
        instructions: What to describe and what to leave out; follows the clip's frames.
        frame_pixels: Most pixels of a frame as the model sees it; larger ones are scaled down.
        max_new_tokens: Where a caption is cut off at the latest.
        temperature: 0 always takes the likeliest word; above, words are drawn, by the seed.
        quantization: How the language model's weights are stored: none (16 bits), int8, or nf4 (4 bits).
        gpu: Number of the GPU; None is the CPU.
    """

    model: str
    instructions: str
    clips: Annotated[tuple[CaptionClip, ...], Meta(min_length=1)]
    frame_pixels: Annotated[int, Meta(ge=FEWEST_PIXELS)] = 448 * 448
    max_new_tokens: Positive = 200
    temperature: Annotated[float, Meta(ge=0.0, le=2.0)] = 0.0
    seed: NonNegative = 42
    quantization: Literal["none", "int8", "nf4"] = "none"
    gpu: NonNegative | None = 0


def request_file(run: RunFolder) -> Path:
    """Where a request lies in the folder of its process."""
    return run.path / REQUEST_NAME


def read_request(path: Path) -> CaptionRequest:
    """Read a request.

    Raises:
        WireError: it is missing, or a field is wrong or unknown.
    """
    return read_json(path, CaptionRequest)
