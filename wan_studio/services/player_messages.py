"""What the window and its decoding process say to each other; `media_worker` frames the messages."""

from typing import Literal

import msgspec

from trainer.protocol.job import TrainedSize

PictureKind = Literal["exact", "draft", "near", "range"]
"""The frame that was asked for; the same of the proxy; another frame on the way to it; one of the range."""


class SourceNews(msgspec.Struct, frozen=True, tag="source"):
    """A video that later messages name by its number.

    Attributes:
        data: As `probe_cache` encodes it.
    """

    source: int
    data: bytes


class FrameWish(msgspec.Struct, frozen=True, tag="wish"):
    """One frame is wanted; it replaces the channel's wish before it.

    Attributes:
        number: Comes back with the picture.
        proxy: Number of the source's small copy; 0 where there is none.
        trained: When given, the picture is cut and resized as it trains.
        width: The picture is made no wider than this, if it is above 0.
        height: Nor higher than this.
    """

    channel: int
    number: int
    source: int
    proxy: int
    frame: int
    trained: TrainedSize | None
    width: int
    height: int


class RangeWish(msgspec.Struct, frozen=True, tag="range"):
    """Pictures that are wanted whenever there is time; they replace the channel's range before them.

    Attributes:
        frames: In the order in which they are decoded, the range's own first and ascending; none ends the range.
        own: So many of them are the range's own.
    """

    channel: int
    number: int
    source: int
    frames: tuple[int, ...]
    own: int
    trained: TrainedSize | None
    width: int
    height: int


class ChannelEnd(msgspec.Struct, frozen=True, tag="end"):
    """Nothing more is wanted on a channel."""

    channel: int


class PictureNews(msgspec.Struct, frozen=True, tag="picture"):
    """A picture.

    Attributes:
        number: Of the wish or the range.
        frame: The frame that it shows.
        pixels: RGB, `height` rows of `width` pixels.
        is_slow: Whether it took a seek that lasts too long for scrubbing.
    """

    channel: int
    kind: PictureKind
    number: int
    frame: int
    width: int
    height: int
    pixels: bytes
    is_slow: bool = False


class ProblemNews(msgspec.Struct, frozen=True, tag="problem"):
    """A picture could not be made.

    Attributes:
        number: Of the wish or the range.
        is_range: Whether it was one of the range.
    """

    channel: int
    number: int
    message: str
    is_range: bool


Order = SourceNews | FrameWish | RangeWish | ChannelEnd
News = PictureNews | ProblemNews
