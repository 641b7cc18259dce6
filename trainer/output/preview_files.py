"""Preview videos on disk: an mp4 that every player opens, a poster, and a list with their settings."""

# F frames, H and W height and width in pixels, C colour channels (red, green, blue)

import contextlib
import json
import os
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from fractions import Fraction
from pathlib import Path
from typing import Any, cast
from uuid import uuid4

import av
import av.error
import numpy as np
from av.codec.codec import UnknownCodecError
from av.video.reformatter import ColorPrimaries, ColorRange, Colorspace, ColorTrc
from av.video.stream import VideoStream
from numpy.typing import NDArray

from trainer.errors import TrainerError
from trainer.protocol.wire import write_atomic

PREVIEWS_FILE = "previews.json"
_BT709 = 1
_BT470BG = 5


class PreviewWriteError(TrainerError):
    """A preview could not be written."""

    kind = "preview_write"

    def __init__(self, path: Path, problem: str) -> None:
        super().__init__(
            f"The preview {path} could not be written: {problem}.",
            "Make room on the disk, or allow writing there.",
        )
        self.path = path


@dataclass(frozen=True, slots=True)
class PreviewFiles:
    """One preview on disk.

    Attributes:
        video: H.264 in MP4.
        poster: Its first frame as JPEG.
    """

    video: Path
    poster: Path


def write_preview(
    folder: Path,
    row: int,
    frames_FHWC: NDArray[np.uint8],
    fps: int | Fraction,
    settings: Mapping[str, Any],
) -> PreviewFiles:
    """Write ``<row>.mp4`` and ``<row>.jpg``, and enter them in ``previews.json``.

    Every file appears complete or not at all, and the list is written last: what it names is there.

    Args:
        folder: Made if needed.
        row: Number of the preview, from 0; an earlier one of the same number is replaced.
        frames_FHWC: uint8 RGB, at least one frame. An odd width or height gains a copy of its last
            column or row, because the video's colour has half the resolution.
        fps: Frames a second.
        settings: What it was made with: JSON values, kept in the list.

    Raises:
        PreviewWriteError: the disk is full, the folder cannot be written, or there is no H.264 encoder.
    """
    if (
        frames_FHWC.dtype != np.uint8
        or frames_FHWC.ndim != 4
        or frames_FHWC.shape[-1] != 3
        or not len(frames_FHWC)
    ):
        raise ValueError(f"frames must be uint8 (F, H, W, 3), not {frames_FHWC.dtype} {frames_FHWC.shape}")
    files = PreviewFiles(folder / f"{row:02d}.mp4", folder / f"{row:02d}.jpg")
    even_FHWC = _even(frames_FHWC)
    _write_file(files.video, lambda path: _encode_video(path, even_FHWC, Fraction(fps)))
    _write_file(files.poster, lambda path: _encode_poster(path, even_FHWC[0]))
    entry = {
        **settings,
        "row": row,
        "video": files.video.name,
        "poster": files.poster.name,
        "fps": float(fps),
        "frames": len(frames_FHWC),
        "width": even_FHWC.shape[2],
        "height": even_FHWC.shape[1],
    }
    listed = [known for known in read_previews(folder) if known.get("row") != row]
    listed = sorted([*listed, entry], key=lambda known: known["row"])
    content = json.dumps({"previews": listed}, indent=2, ensure_ascii=False).encode() + b"\n"
    try:
        write_atomic(folder / PREVIEWS_FILE, content)
    except OSError as error:
        raise PreviewWriteError(folder / PREVIEWS_FILE, _problem(error)) from error
    return files


def read_previews(folder: Path) -> list[dict[str, Any]]:
    """The entries of the folder's ``previews.json`` by row; none when it is missing or damaged."""
    try:
        listed = list(json.loads((folder / PREVIEWS_FILE).read_bytes())["previews"])
    except (OSError, ValueError, KeyError, TypeError):
        return []
    return [entry for entry in listed if isinstance(entry, dict) and isinstance(entry.get("row"), int)]


def _write_file(path: Path, encode: Callable[[Path], None]) -> None:
    """Encode under a temporary name in the same folder, then give it its own."""
    temporary = path.with_name(f".{path.name}.{uuid4().hex[:8]}.tmp")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        encode(temporary)
        # Opened for writing: Windows flushes no file that was opened for reading.
        with temporary.open("r+b") as file:
            os.fsync(file.fileno())
        temporary.replace(path)
    except (av.error.FFmpegError, UnknownCodecError, OSError) as error:
        raise PreviewWriteError(path, _problem(error)) from error
    finally:
        with contextlib.suppress(OSError):
            temporary.unlink(missing_ok=True)


def _encode_video(path: Path, frames_FHWC: NDArray[np.uint8], fps: Fraction) -> None:
    with av.open(str(path), "w", format="mp4", options={"movflags": "+faststart"}) as container:
        stream = cast("VideoStream", container.add_stream("libx264", rate=fps))
        stream.height, stream.width = frames_FHWC.shape[1:3]
        stream.pix_fmt = "yuv420p"
        stream.options = {"crf": "16", "preset": "medium"}
        context = stream.codec_context
        context.time_base = 1 / fps
        # Tagged, so that no player has to guess how the colours were coded.
        context.colorspace, context.color_primaries, context.color_trc = _BT709, _BT709, _BT709
        context.color_range = ColorRange.MPEG
        for number, picture_HWC in enumerate(frames_FHWC):
            frame = av.VideoFrame.from_ndarray(picture_HWC, format="rgb24").reformat(
                format="yuv420p",
                dst_colorspace=Colorspace.ITU709,
                dst_color_range=ColorRange.MPEG,
                interpolation="AREA",
            )
            frame.color_primaries, frame.color_trc = ColorPrimaries.BT709, ColorTrc.BT709
            # All three, or every frame is shown at time 0.
            frame.pts, frame.time_base, frame.pict_type = number, 1 / fps, 0
            container.mux(stream.encode(frame))
        container.mux(stream.encode(None))


def _encode_poster(path: Path, picture_HWC: NDArray[np.uint8]) -> None:
    frame = av.VideoFrame.from_ndarray(picture_HWC, format="rgb24").reformat(
        format="yuvj444p", dst_colorspace=Colorspace.ITU601, dst_color_range=ColorRange.JPEG
    )
    frame.pts, frame.time_base, frame.pict_type = 0, Fraction(1), 0
    with av.open(str(path), "w", format="mjpeg") as container:
        stream = cast("VideoStream", container.add_stream("mjpeg", rate=1))
        stream.height, stream.width = picture_HWC.shape[:2]
        stream.pix_fmt = "yuvj444p"
        stream.options = {"qmin": "2", "qmax": "2"}
        stream.codec_context.colorspace = _BT470BG
        stream.codec_context.color_range = ColorRange.JPEG
        container.mux(stream.encode(frame))
        container.mux(stream.encode(None))


def _even(frames_FHWC: NDArray[np.uint8]) -> NDArray[np.uint8]:
    height, width = frames_FHWC.shape[1:3]
    return np.ascontiguousarray(
        np.pad(frames_FHWC, ((0, 0), (0, height % 2), (0, width % 2), (0, 0)), "edge")
    )


def _problem(error: Exception) -> str:
    return str(getattr(error, "strerror", None) or error).rstrip(".").lower()
