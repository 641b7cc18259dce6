"""What a video or image file holds, and the time stamp of every frame that its decoder gives."""

from collections.abc import Generator
from contextlib import contextmanager
from dataclasses import dataclass
from fractions import Fraction
from itertools import pairwise
from pathlib import Path
from typing import TYPE_CHECKING

import av
import av.error

from wan_studio.domain.clip import SourceVideo
from wan_studio.errors import AppError

if TYPE_CHECKING:
    from av.container import InputContainer
    from av.video.frame import VideoFrame
    from av.video.stream import VideoStream

VIDEO_SUFFIXES = frozenset(
    {".mp4", ".mov", ".m4v", ".mkv", ".webm", ".avi", ".mpg", ".mpeg", ".ts", ".mts", ".m2ts", ".wmv", ".flv"}
)
IMAGE_SUFFIXES = frozenset({".png", ".jpg", ".jpeg", ".webp"})

_ATTACHED_PICTURE = 0x400
_HDR_TRANSFERS = frozenset({16, 18})
"""PQ and HLG, by their numbers in ITU-T H.273."""

# One packet is one frame in these, so that their index needs no decoding.
_INDEXED_CONTAINERS = frozenset({"mov", "mp4", "matroska", "webm"})
_INDEXED_CODECS = frozenset({"h264", "hevc", "av1", "vp9", "mjpeg", "prores", "dnxhd", "ffv1"})


MEDIA_ERRORS = (OSError, av.error.FFmpegError)
"""What PyAV raises; only some of its errors are of the kind OSError."""


class UnreadableVideoError(AppError):
    """A file cannot be used as a clip.

    Attributes:
        path: The file.
        problem: What is wrong, as the second half of a sentence that begins with the file.
    """

    def __init__(self, path: Path, problem: str, hint: str) -> None:
        super().__init__(f"{path} {problem}", hint)
        self.path = path
        self.problem = problem


@dataclass(frozen=True, slots=True)
class _FirstFrame:
    pts: int
    width: int
    height: int
    rotation: int
    transfer: int


def is_media(path: Path) -> bool:
    """Whether the name is one of a video or image."""
    return path.suffix.lower() in VIDEO_SUFFIXES | IMAGE_SUFFIXES


def probe(path: Path) -> SourceVideo:
    """Read what a file holds; the file is never changed.

    Raises:
        UnreadableVideoError: missing, not permitted, no video, damaged or of an unknown codec.
    """
    path = path.absolute()
    try:
        status = path.stat()
        if not path.is_file():
            raise UnreadableVideoError(path, "is not a file.", "Choose a video or image file.")
        if status.st_size == 0:
            raise UnreadableVideoError(path, "is empty: it has 0 bytes.", "Copy it again from its source.")
        with open_media(path) as container:
            stream = picture_stream(path, container)
            codec = stream.codec_context.name
            first = _read_first_frame(path, container, stream)
            pixel_aspect = float(stream.sample_aspect_ratio or 1) or 1.0
            time_base = stream.time_base or Fraction(1, 1000)
            has_sound = bool(container.streams.audio)
            is_image = path.suffix.lower() in IMAGE_SUFFIXES
        frame_pts = (first.pts,) if is_image else _frame_index(path, first.pts)
    except MEDIA_ERRORS as error:
        raise _worded(path, error) from error
    is_turned = first.rotation in {90, 270}
    return SourceVideo(
        path=str(path),
        size_bytes=status.st_size,
        modified_ns=status.st_mtime_ns,
        width=first.height if is_turned else first.width,
        height=first.width if is_turned else first.height,
        frame_pts=frame_pts,
        time_base=time_base,
        codec=codec,
        rotation=first.rotation,
        pixel_aspect=1 / pixel_aspect if is_turned else pixel_aspect,
        has_sound=has_sound,
        is_hdr=first.transfer in _HDR_TRANSFERS,
    )


@contextmanager
def open_media(path: Path) -> Generator["InputContainer"]:
    """Open a video or image for reading.

    Raises:
        OSError: the file cannot be opened.
        av.error.FFmpegError: it is no media file.
    """
    if path.suffix.lower() in IMAGE_SUFFIXES:
        # Through a file object the kind is read from the bytes, and `%d` in a name is no pattern.
        with path.open("rb") as file, av.open(file, mode="r", metadata_errors="ignore") as container:
            yield container
    else:
        with av.open(str(path), mode="r", metadata_errors="ignore") as container:
            yield container


def picture_stream(path: Path, container: "InputContainer") -> "VideoStream":
    """The container's video; cover pictures of sound files do not count.

    Raises:
        UnreadableVideoError: there is none, or no decoder for it.
    """
    best = container.streams.best("video")
    moving = [stream for stream in container.streams.video if not int(stream.disposition) & _ATTACHED_PICTURE]
    for stream in sorted(moving, key=lambda stream: stream is not best):
        if getattr(stream, "codec_context", None) is None:
            raise UnreadableVideoError(
                path, "has a video codec that is not known here.", "Convert it to H.264 (MP4)."
            )
        return stream
    what = "holds sound but no picture." if container.streams.audio else "holds no picture."
    raise UnreadableVideoError(path, what, "Choose a file with video.")


def rotation_of(frame: "VideoFrame") -> int:
    """Degrees that the decoded picture must be turned counter-clockwise: 0, 90, 180 or 270."""
    return round(frame.rotation / 90) * 90 % 360


def pts_of(frame: "VideoFrame") -> int | None:
    """Presentation time stamp of a decoded frame; old AVI files have only the decoding time."""
    return frame.pts if frame.pts is not None else frame.dts


def _read_first_frame(path: Path, container: "InputContainer", stream: "VideoStream") -> _FirstFrame:
    for frame in container.decode(stream):
        return _FirstFrame(
            pts=pts_of(frame) or 0,
            width=frame.width,
            height=frame.height,
            rotation=rotation_of(frame),
            transfer=int(frame.color_trc),
        )
    raise UnreadableVideoError(
        path, "has no frame that can be decoded.", "Copy it again from its source, or convert it."
    )


def _frame_index(path: Path, first_pts: int) -> tuple[int, ...]:
    """Time stamps of all frames, ascending; from the packets where that is exact, else by decoding."""
    index = _index_from_packets(path)
    # Frames that the decoder leaves out at the start (open groups of pictures) show here.
    if index is not None and index[0] == first_pts:
        return index
    return _index_by_decoding(path)


def _index_from_packets(path: Path) -> tuple[int, ...] | None:
    """None where packets do not tell which frames come out."""
    with open_media(path) as container:
        stream = picture_stream(path, container)
        is_known = stream.codec_context.name in _INDEXED_CODECS
        if not is_known or not _INDEXED_CONTAINERS & set(container.format.name.split(",")):
            return None
        index: list[int] = []
        for packet in container.demux(stream):
            if packet.size == 0 or packet.is_discard:
                continue
            if packet.is_corrupt and "mp4" in container.format.name:
                # Its index names packets that the file no longer has.
                raise UnreadableVideoError(path, "is cut off.", "Copy it again from its source.")
            if packet.pts is None or packet.is_corrupt:
                return None
            index.append(packet.pts)
    if not index or len(set(index)) != len(index):
        return None
    return tuple(sorted(index))


def _index_by_decoding(path: Path) -> tuple[int, ...]:
    index: list[int] = []
    with open_media(path) as container:
        stream = picture_stream(path, container)
        stream.thread_type = "AUTO"
        for frame in container.decode(stream):
            pts = pts_of(frame)
            if pts is None:
                raise UnreadableVideoError(
                    path, "has frames without time stamps.", "Convert it to H.264 (MP4)."
                )
            index.append(pts)
    if not index:
        raise UnreadableVideoError(
            path, "has no frame that can be decoded.", "Copy it again from its source, or convert it."
        )
    if any(later < earlier for earlier, later in pairwise(index)):
        raise UnreadableVideoError(path, "has time stamps that run backwards.", "Convert it to H.264 (MP4).")
    return tuple(sorted(set(index)))


def _worded(path: Path, error: Exception) -> UnreadableVideoError:
    if isinstance(error, FileNotFoundError):
        return UnreadableVideoError(path, "does not exist.", "It may have been moved or renamed.")
    if isinstance(error, PermissionError):
        return UnreadableVideoError(path, "may not be read.", "Check the file's permissions.")
    if isinstance(error, av.error.FFmpegError):
        if path.suffix.lower() in IMAGE_SUFFIXES:
            return UnreadableVideoError(
                path, "is not an image that can be read, or is cut off.", "Save it again as PNG."
            )
        return UnreadableVideoError(
            path,
            "is not a video that can be read, or is cut off.",
            "Copy it again from its source, or convert it to H.264 (MP4).",
        )
    reason = getattr(error, "strerror", None) or error
    return UnreadableVideoError(
        path, f"cannot be read ({reason}).", "Check the disk and the file's permissions."
    )
