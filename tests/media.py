"""Real video files for tests, each frame with its number drawn into it.

Import it as ``from tests.media import make_video, number_in`` (``pythonpath = ["."]`` of the
pytest settings puts the folder of ``tests`` on the path).

A frame shows its number as eight black or white squares, 4 across and 2 down, most significant
bit at the top left, on four coloured quadrants: red top left, green top right, blue bottom left,
yellow bottom right. The squares survive lossy coding, scaling and 4:2:0 colour; the quadrants
show whether the picture is upright and unmirrored. Sizes from 64 x 48 up are safe.
"""

from collections.abc import Sequence
from dataclasses import dataclass, field
from fractions import Fraction
from pathlib import Path

import av
import numpy as np

QUADRANT_COLOURS = {
    "top left": (200, 40, 40),
    "top right": (40, 170, 40),
    "bottom left": (40, 60, 200),
    "bottom right": (200, 190, 40),
}


@dataclass(frozen=True)
class VideoOptions:
    """How a test video is made; the suffix of the path chooses the container.

    Attributes:
        frames: Number of frames, at most 256; ignored when `times` are given.
        fps: Frames a second; with `times` only the encoder's guess.
        times: Seconds at which each frame is shown, for a variable rate.
        width: Of the upright picture.
        height: Of the upright picture.
        codec: An encoder of PyAV: "libx264", "libx265", "mpeg4", "libvpx-vp9", "mjpeg", "ffv1", ...
        pixel_format: E.g. "yuv420p10le" for 10 bits, "yuv444p" for odd sizes with libx264.
        gop: Frames from one keyframe to the next at most.
        b_frames: Consecutive B-frames.
        rotation: Counter-clockwise turn (0, 90, 180, 270) that the stored picture needs to be
            upright; written as the track's display matrix. Only for .mp4 and .mov.
        sound: Whether to add a silent AAC (Matroska, MP4) or MP3 (AVI) track.
        colorspace: Colour matrix tag and conversion: "bt709", "bt601" or "" for an untagged file.
        first_number: Number drawn into the first frame.
        encoder: Further options for the encoder.
    """

    frames: int = 32
    fps: Fraction | int = 16
    times: Sequence[float] | None = None
    width: int = 128
    height: int = 96
    codec: str = "libx264"
    pixel_format: str = "yuv420p"
    gop: int = 8
    b_frames: int = 0
    rotation: int = 0
    sound: bool = False
    colorspace: str = ""
    first_number: int = 0
    encoder: dict[str, str] = field(default_factory=dict)


def make_video(path: Path, options: VideoOptions | None = None, **changes: object) -> Path:
    """Encode a video of numbered frames.

    Args:
        path: File to make; its suffix chooses the container.
        options: How; the keyword arguments are its fields, changed.
        changes: E.g. ``make_video(path, frames=10, rotation=270, sound=True)``.

    Returns:
        The path.
    """
    options = VideoOptions(**{**(vars(options) if options else {}), **changes})  # type: ignore[arg-type]
    if options.times is not None:
        ticks_per_second = 90_000
        stamps = [round(time * ticks_per_second) for time in options.times]
        time_base = Fraction(1, ticks_per_second)
    else:
        stamps = list(range(options.frames))
        time_base = 1 / Fraction(options.fps)
    with av.open(str(path), "w") as container:
        stream = container.add_stream(options.codec, rate=Fraction(options.fps))
        sideways = options.rotation % 180 == 90
        stream.width, stream.height = (
            (options.height, options.width) if sideways else (options.width, options.height)
        )
        stream.pix_fmt = options.pixel_format
        stream.gop_size = options.gop
        stream.codec_context.max_b_frames = options.b_frames
        stream.codec_context.time_base = time_base
        stream.codec_context.thread_count = 1
        stream.options = _encoder_options(options)
        tag = {"bt709": 1, "bt601": 6, "": 2}[options.colorspace]
        stream.codec_context.colorspace = tag
        sound = (
            container.add_stream("mp3" if path.suffix == ".avi" else "aac", rate=44_100)
            if options.sound
            else None
        )
        for index, stamp in enumerate(stamps):
            upright = numbered_picture(options.first_number + index, options.width, options.height)
            frame = _encodable(np.rot90(upright, -options.rotation // 90), options)
            frame.pts, frame.time_base = stamp, time_base
            container.mux(stream.encode(frame))
        container.mux(stream.encode(None))
        if sound is not None:
            _add_silence(container, sound, float(stamps[-1] * time_base) + 0.1)
    if options.rotation:
        _write_display_matrix(path, options.rotation)
    return path


def numbered_picture(number: int, width: int, height: int) -> np.ndarray:
    """The upright RGB picture of a frame, uint8 (height, width, 3)."""
    picture = np.zeros((height, width, 3), np.uint8)
    for name, colour in QUADRANT_COLOURS.items():
        rows, columns = _quadrant(name, width, height)
        picture[rows, columns] = colour
    for bit in range(8):
        rows, columns = _square(bit, width, height)
        picture[rows, columns] = 255 if number >> (7 - bit) & 1 else 0
    return picture


def number_in(picture_HWC: np.ndarray) -> int:
    """Read the number back from an upright, uncropped RGB picture of any size."""
    height, width = picture_HWC.shape[:2]
    number = 0
    for bit in range(8):
        rows, columns = _square(bit, width, height)
        number = number << 1 | int(picture_HWC[rows, columns].mean() > 127)
    return number


def numbers_in(frames_FHWC: np.ndarray) -> list[int]:
    """`number_in` of each frame."""
    return [number_in(frame) for frame in frames_FHWC]


def corner_colours(picture_HWC: np.ndarray) -> dict[str, tuple[int, int, int]]:
    """Mean colour near each corner: compare with `QUADRANT_COLOURS`."""
    height, width = picture_HWC.shape[:2]
    rows = {"top": slice(1, height // 14), "bottom": slice(height - height // 14, height - 1)}
    columns = {"left": slice(1, width // 14), "right": slice(width - width // 14, width - 1)}
    found = {}
    for name in QUADRANT_COLOURS:
        vertical, horizontal = name.split()
        red, green, blue = picture_HWC[rows[vertical], columns[horizontal]].mean((0, 1))
        found[name] = (round(red), round(green), round(blue))
    return found


def is_upright(picture_HWC: np.ndarray, tolerance: int = 25) -> bool:
    """Whether all four corners have their own colours."""
    found = corner_colours(picture_HWC)
    return all(
        max(abs(a - b) for a, b in zip(found[name], colour, strict=True)) <= tolerance
        for name, colour in QUADRANT_COLOURS.items()
    )


def packet_times(path: Path) -> list[int]:
    """Presentation times of the video's packets by demuxing alone, ascending, in the stream's time base."""
    with av.open(str(path)) as container:
        packets = [packet for packet in container.demux(container.streams.video[0]) if packet.size]
    return sorted(packet.pts if packet.pts is not None else packet.dts for packet in packets)


def _encoder_options(options: VideoOptions) -> dict[str, str]:
    chosen = dict(options.encoder)
    if options.codec == "libx264":
        chosen = {
            "preset": "veryfast",
            "crf": "16",
            "bf": str(options.b_frames),
            "sc_threshold": "0",
            **chosen,
        }
    if options.codec == "libx265":
        quiet = f"log-level=none:pools=1:frame-threads=1:bframes={options.b_frames}:keyint={options.gop}"
        chosen = {"preset": "ultrafast", "crf": "16", "x265-params": quiet, **chosen}
    if options.codec in ("mpeg4", "mjpeg"):
        chosen = {"qmin": "2", "qmax": "4", **chosen}
    if options.codec.startswith("libvpx"):
        chosen = {"deadline": "realtime", "cpu-used": "8", "crf": "20", "b": "0", **chosen}
    return chosen


def _encodable(stored_HWC: np.ndarray, options: VideoOptions) -> av.VideoFrame:
    frame = av.VideoFrame.from_ndarray(np.ascontiguousarray(stored_HWC), format="rgb24")
    matrix = "ITU709" if options.colorspace == "bt709" else "ITU601"
    full = options.pixel_format.startswith("yuvj")
    frame = frame.reformat(
        format=options.pixel_format, dst_colorspace=matrix, dst_color_range="JPEG" if full else "MPEG"
    )
    frame.pict_type = 0
    return frame


def _add_silence(container: av.container.OutputContainer, sound: av.AudioStream, seconds: float) -> None:
    samples = sound.codec_context.frame_size or 1152
    for start in range(0, int(seconds * 44_100), samples):
        frame = av.AudioFrame.from_ndarray(np.zeros((2, samples), np.float32), format="fltp", layout="stereo")
        frame.sample_rate, frame.pts, frame.time_base = 44_100, start, Fraction(1, 44_100)
        container.mux(sound.encode(frame))
    container.mux(sound.encode(None))


def _write_display_matrix(path: Path, rotation: int) -> None:
    """Put a turn into the first track header: PyAV has no setting for it."""
    # Rows of the 3 x 3 matrix in 16.16 and 2.30 fixed point; x' = a x + c y, y' = b x + d y.
    a, b, c, d = {90: (0, -1, 1, 0), 180: (-1, 0, 0, -1), 270: (0, 1, -1, 0)}[rotation]
    numbers = (a << 16, b << 16, 0, c << 16, d << 16, 0, 0, 0, 1 << 30)
    content = bytearray(path.read_bytes())
    start = content.index(b"tkhd") + 44
    content[start : start + 36] = b"".join(number.to_bytes(4, "big", signed=True) for number in numbers)
    path.write_bytes(content)


def _quadrant(name: str, width: int, height: int) -> tuple[slice, slice]:
    rows = slice(0, height // 2) if name.startswith("top") else slice(height // 2, height)
    columns = slice(0, width // 2) if name.endswith("left") else slice(width // 2, width)
    return rows, columns


def _square(bit: int, width: int, height: int) -> tuple[slice, slice]:
    row, column = divmod(bit, 4)
    top, left = height * (0.12 + 0.4 * row), width * (0.1 + 0.2 * column)
    return (
        slice(round(top), round(top + height * 0.3)),
        slice(round(left), round(left + width * 0.15)),
    )
