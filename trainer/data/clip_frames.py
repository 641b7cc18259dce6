"""The frames of a clip, found by their time stamps, as pictures of a bucket's size.

Frame numbers are never computed from a rate: rates vary inside files, and headers lie. The job
names the time stamps; this module takes exactly those frames.
"""

# F frames, H and W height and width in pixels, C colour channels (red, green, blue)

from collections import deque
from collections.abc import Callable, Generator, Sequence
from contextlib import contextmanager
from fractions import Fraction
from heapq import heappop, heappush
from pathlib import Path
from typing import Literal, NamedTuple, cast

import av
import av.error
import numpy as np
from av.container import InputContainer
from av.stream import Disposition
from av.video.stream import VideoStream
from numpy.typing import NDArray

from trainer.data.pictures import (
    Colours,
    Picture,
    cover_frame,
    exif_orientation,
    new_colours,
    resize_crop,
    upright_rgb,
)
from trainer.errors import TrainerError
from trainer.protocol.job import ClipSpec, TrainedSize

__all__ = [
    "ClipChangedError",
    "Flip",
    "UnreadableClipError",
    "check_source",
    "cover_frame",
    "read_frames",
    "read_image",
]

Flip = Literal["none", "horizontal", "vertical", "both"]

_EARLIER_SECONDS = 3
"""How much earlier the second seek goes when the first one lands behind the first wanted frame."""
_LOST_LAST_FRAME_SECONDS = 0.5
"""A decoder may drop one damaged frame at the very end; more than this is a file cut short."""

_AVI_LOOKAHEAD = 4
"""Frames by which time stamps of AVI files may be out of order."""


class UnreadableClipError(TrainerError):
    """A clip's file is missing, is no video, or ends before the frames that the job names."""

    kind = "unreadable_clip"

    def __init__(self, path: Path, problem: str, hint: str = "") -> None:
        super().__init__(
            f"{path} cannot be read: {problem}.",
            hint or "Convert it to MP4 (H.264) and add it again, or take it out of the project.",
        )
        self.path = path


class ClipChangedError(TrainerError):
    """A clip's file is not the one that the job was made from."""

    kind = "clip_changed"

    def __init__(self, path: Path) -> None:
        super().__init__(
            f"{path} has changed since the job was made.",
            "Start a new run from the project, so that frames are chosen from the file as it is now.",
        )
        self.path = path


def check_source(clip: ClipSpec) -> None:
    """Make sure that the clip's file is there and is the one that the job was made from.

    Raises:
        UnreadableClipError: it is missing or cannot be looked at.
        ClipChangedError: its size or modification time differs.
    """
    path = Path(clip.source)
    try:
        found = path.stat()
    except OSError as error:
        raise UnreadableClipError(path, _os_problem(error), _MISSING_HINT) from error
    if (found.st_size, found.st_mtime_ns) != (clip.source_bytes, clip.source_modified_ns):
        raise ClipChangedError(path)


def read_frames(
    source: Path, window: Sequence[int], size: TrainedSize, flip: Flip = "none"
) -> NDArray[np.uint8]:
    """Decode the frames of one window, cropped, resized to the bucket, and mirrored.

    Each wanted time stamp takes the frame that carries it. Should none carry it exactly, it takes
    the one on screen then: the last at or before it, or the first of all. A still image is its
    own frame at every time stamp.

    Args:
        source: Video or image; it is only read.
        window: Presentation time stamps in units of the stream's time base; some may repeat.
        size: Crop in pixels of the upright picture, and the size that it becomes.
        flip: How every frame is mirrored, once it is cropped and resized.

    Returns:
        uint8 (F, H, W, 3), F = len(window), full-range RGB.

    Raises:
        UnreadableClipError: missing, no video, damaged, shorter than the window, or its picture
            is smaller than the crop.
    """

    def shape(picture_HWC: Picture) -> Picture:
        try:
            return resize_crop(picture_HWC, size.crop, size.width, size.height)
        except ValueError as error:
            raise UnreadableClipError(source, str(error), _NEW_RUN_HINT) from error

    pictures = _decode(source, sorted(set(window)), shape)
    frames_FHWC = np.stack([pictures[stamp] for stamp in window])
    if flip in ("horizontal", "both"):
        frames_FHWC = frames_FHWC[:, :, ::-1]
    if flip in ("vertical", "both"):
        frames_FHWC = frames_FHWC[:, ::-1]
    return np.ascontiguousarray(frames_FHWC)


def read_image(path: Path) -> Picture:
    """The picture of an image file, upright; of a video, its first frame.

    Returns:
        uint8 (H, W, 3), full-range RGB; transparency is dropped.

    Raises:
        UnreadableClipError: missing, or no picture in it.
    """
    with _opened(path) as video:
        for frame in _frames(video, path, []):
            return video.rgb(frame)
    raise UnreadableClipError(path, "it holds no picture", _IMAGE_HINT)


_MISSING_HINT = "Put the file back, or take the clip out of the project."
_NEW_RUN_HINT = "Start a new run from the project, so that it is measured again."
_IMAGE_HINT = "Choose another image (PNG, JPEG or WebP)."


class _Video(NamedTuple):
    """An open file and what turns its frames into pictures."""

    container: InputContainer
    stream: VideoStream
    colours: Colours
    is_still: bool
    orientation: int

    def rgb(self, frame: av.VideoFrame) -> Picture:
        return upright_rgb(frame, self.colours, self.orientation)

    def seconds(self, stamps: int) -> float:
        return float(stamps * (self.stream.time_base or Fraction(1)))


@contextmanager
def _opened(path: Path) -> Generator[_Video]:
    """Open the file; every FFmpeg error inside the block names it."""
    try:
        with av.open(str(path)) as container:
            stream = cast("VideoStream | None", container.streams.best("video"))
            if stream is None or stream.disposition & Disposition.attached_pic:
                raise UnreadableClipError(path, "there is no video in it")
            stream.thread_type = "AUTO"
            name = container.format.name
            is_still = name.endswith("_pipe") or name == "image2"
            orientation = exif_orientation(path) if is_still else 0
            yield _Video(container, stream, new_colours(), is_still, orientation)
    except av.error.FileNotFoundError as error:
        raise UnreadableClipError(path, "it is not there", _MISSING_HINT) from error
    except av.error.InvalidDataError as error:
        raise UnreadableClipError(path, "it is damaged, cut short, or no video") from error
    except (av.error.FFmpegError, OSError) as error:
        raise UnreadableClipError(path, _os_problem(error)) from error


def _decode(source: Path, wanted: list[int], shape: Callable[[Picture], Picture]) -> dict[int, Picture]:
    """The shaped picture of each wanted time stamp (ascending, distinct), in one forward pass.

    A seek that lands behind the first wanted frame is tried once more from earlier, then without.
    """
    for attempt in ("near", "earlier", "start"):
        with _opened(source) as video:
            if attempt != "start" and not _seek(video, wanted[0], earlier=attempt == "earlier"):
                continue
            pictures = _collect(video, source, wanted, shape, must_precede=attempt != "start")
            if pictures is not None:
                return pictures
    raise UnreadableClipError(source, "no frame of it can be decoded")


def _seek(video: _Video, stamp: int, *, earlier: bool) -> bool:
    """Go to a keyframe before the time stamp; False when it must be read from the start."""
    if earlier:
        stamp -= round(_EARLIER_SECONDS / (video.stream.time_base or Fraction(1)))
    if video.is_still or stamp <= (video.stream.start_time or 0):
        return False
    try:
        # x264 names its version in the first packet only, and FFmpeg decodes 4:4:4 files of old
        # versions by it: without a look at that packet, everything after a seek is garbage.
        video.stream.decode(next(video.container.demux(video.stream)))
        video.container.seek(stamp, stream=video.stream, backward=True)
    except (av.error.FFmpegError, OSError):
        return False
    return True


def _collect(
    video: _Video, source: Path, wanted: list[int], shape: Callable[[Picture], Picture], *, must_precede: bool
) -> dict[int, Picture] | None:
    """Walk the frames and take the wanted ones; None when frames begin too late and must not."""
    pictures: dict[int, Picture] = {}
    damage: list[av.error.FFmpegError] = []
    previous: av.VideoFrame | None = None
    previous_stamp = 0
    position = 0
    for stamp, frame in _timed_frames(video, source, damage):
        if video.is_still:
            return dict.fromkeys(wanted, shape(video.rgb(frame)))
        if previous is None and must_precede and stamp > wanted[0]:
            return None
        end = position
        while end < len(wanted) and wanted[end] < stamp:
            end += 1
        if end > position:
            if damage and previous is not None:
                raise UnreadableClipError(source, "it is damaged among the chosen frames")
            pictures |= dict.fromkeys(
                wanted[position:end], shape(video.rgb(frame if previous is None else previous))
            )
        if end < len(wanted) and wanted[end] == stamp:
            pictures[stamp] = shape(video.rgb(frame))
            end += 1
        position = end
        if position == len(wanted):
            return pictures
        previous, previous_stamp = frame, stamp
    if previous is None:
        if must_precede:
            return None
        raise UnreadableClipError(source, "no frame of it can be decoded")
    missing_seconds = video.seconds(wanted[-1] - previous_stamp)
    if len(wanted) - position > 1 or missing_seconds > _LOST_LAST_FRAME_SECONDS:
        raise UnreadableClipError(
            source,
            f"it ends {missing_seconds:.2f} s before the last chosen frame; it may have been cut short",
        )
    pictures[wanted[-1]] = shape(video.rgb(previous))
    return pictures


def _frames(video: _Video, source: Path, damage: list[av.error.FFmpegError]) -> Generator[av.VideoFrame]:
    """Decoded frames in order of presentation; undecodable packets are noted in `damage` and skipped."""
    packets = video.container.demux(video.stream)
    while True:
        try:
            packet = next(packets, None)
            decoded = video.stream.decode(packet) if packet is not None and packet.size else []
        except av.error.InvalidDataError as error:
            damage.append(error)
            if len(damage) > 1000:
                raise UnreadableClipError(source, "it is damaged") from error
            continue
        yield from decoded
        if packet is None:
            break
    # After the last packet, or the demuxer's error, the decoder still holds frames.
    yield from video.stream.decode(None)


def _timed_frames(
    video: _Video, source: Path, damage: list[av.error.FFmpegError]
) -> Generator[tuple[int, av.VideoFrame]]:
    """Frames in order of presentation, each with its time stamp.

    AVI keeps no presentation times: with B-frames the stamps are those of storage, and arrive
    out of order. The frames themselves come in the right order, so the smallest stamp seen among
    the next few belongs to the next frame. Elsewhere stamps are in order already.
    """
    lookahead = _AVI_LOOKAHEAD if video.container.format.name == "avi" else 0
    frames: deque[av.VideoFrame] = deque()
    stamps: list[int] = []
    for frame in _frames(video, source, damage):
        stamp = frame.pts if frame.pts is not None else frame.dts
        if stamp is None:
            raise UnreadableClipError(source, "its frames carry no time stamps")
        frames.append(frame)
        heappush(stamps, stamp)
        if len(frames) > lookahead:
            yield heappop(stamps), frames.popleft()
    while frames:
        yield heappop(stamps), frames.popleft()


def _os_problem(error: OSError | av.error.FFmpegError) -> str:
    if isinstance(error, FileNotFoundError):
        return "it is not there"
    return (error.strerror or str(error)).rstrip(".").lower()
