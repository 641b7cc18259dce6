"""Writes one clip of an export: the recipe's frames, cut, upright and mirrored, without another change.

The picture's samples are copied from the decoder's planes as they are; colours are never converted where
the encoder has the source's own pixel format, and what the source says about them is said again. HDR alone
is tone-mapped.
"""

import shutil
from collections.abc import Callable
from contextlib import closing
from fractions import Fraction
from pathlib import Path
from typing import TYPE_CHECKING, Any, cast

import av
import msgspec
import numpy as np
from av.codec.context import CodecContext
from av.video.format import VideoFormat
from av.video.frame import VideoFrame
from av.video.reformatter import ColorRange, Colorspace, Interpolation, VideoReformatter
from numpy.typing import NDArray

from trainer.protocol.job import CropBox
from trainer.protocol.tone_map import is_hdr
from trainer.protocol.wire import lacks_room
from wan_studio.domain.clip import SourceVideo
from wan_studio.domain.export_plan import Recipe
from wan_studio.domain.written_format import WrittenFormat, written_format
from wan_studio.errors import AppError
from wan_studio.services.export_errors import NoRoomError
from wan_studio.services.frame_reader import FrameReader
from wan_studio.services.media_probe import MEDIA_ERRORS, UnreadableVideoError
from wan_studio.services.picture_colours import ColourConverter

if TYPE_CHECKING:
    from av.video.codeccontext import VideoCodecContext

_READER_BYTES = 8 * 1024 * 1024
_CONVERSION = Interpolation.BICUBIC | Interpolation.ACCURATE_RND | Interpolation.FULL_CHR_H_INT
_LEFT_FOR_OTHERS_BYTES = 1 << 20
_BT709 = 1

# Short groups of pictures without B-frames: every reader finds each frame, and at its time.
_GOP = 16
_OPTIONS = {
    "h264": {"preset": "fast", "crf": "8"},
    "ffv1": {"level": "3", "slicecrc": "1"},
}
_ENCODERS = {"h264": "libx264", "ffv1": "ffv1"}

OnFrame = Callable[[int, int], object]
"""Takes frames written, and all."""


class RenderError(AppError):
    """A clip cannot be written."""

    def __init__(self, source: SourceVideo, reason: object) -> None:
        super().__init__(f"{source.name} could not be written: {reason}.", "")


def render(source: SourceVideo, recipe: Recipe, target: Path, on_frame: OnFrame) -> None:
    """Write the file; what stands there is overwritten, and nothing is left when it fails.

    Raises:
        UnreadableVideoError: the source changed, vanished or is damaged.
        NoRoomError: the disk is full.
        RenderError: it cannot be written for another reason.
    """
    _check_identity(source)
    try:
        match recipe.kind:
            case "copy":
                shutil.copyfile(source.path, target)
            case "image":
                target.write_bytes(_png(source, recipe))
            case "video":
                _encode(source, recipe, target, on_frame)
                _check_whole(source, recipe, target)
    except BaseException as error:
        is_full = isinstance(error, MEDIA_ERRORS) and _is_full(error, target.parent)
        target.unlink(missing_ok=True)
        if is_full:
            raise NoRoomError(target.parent) from error
        if isinstance(error, (*MEDIA_ERRORS, ValueError)):
            raise RenderError(source, getattr(error, "strerror", None) or error) from error
        raise


def _check_identity(source: SourceVideo) -> None:
    path = Path(source.path)
    try:
        status = path.stat()
    except OSError as error:
        raise UnreadableVideoError(path, "cannot be read.", "It may have been moved or renamed.") from error
    if (status.st_size, status.st_mtime_ns) != (source.size_bytes, source.modified_ns):
        raise UnreadableVideoError(path, "has just changed.", "Export again.")


def _is_full(error: BaseException, folder: Path) -> bool:
    """Whether the disk is full: FFmpeg does not always say so, its last word may be of what came of it."""
    if isinstance(error, OSError) and lacks_room(error):
        return True
    try:
        return shutil.disk_usage(folder).free < _LEFT_FOR_OTHERS_BYTES
    except OSError:
        return False


def _png(source: SourceVideo, recipe: Recipe) -> bytes:
    """The picture as a PNG file, 8-bit RGB."""
    with FrameReader(source, _READER_BYTES) as reader:
        upright = reader.read(recipe.frames[0])
    stored = np.rot90(upright, -(recipe.rotation // 90))
    picture = np.ascontiguousarray(_shaped(stored, recipe, (1, 1)))
    # PyAV's types of packets have an unknown parameter, which the strict checker would report at each use.
    encoder = cast("Any", CodecContext.create("png", "w"))
    encoder.width, encoder.height, encoder.pix_fmt = picture.shape[1], picture.shape[0], "rgb24"
    encoder.time_base = Fraction(1, 1)
    frame = VideoFrame.from_ndarray(picture, format="rgb24")
    frame.pts = 0
    return b"".join(bytes(packet) for packet in [*encoder.encode(frame), *encoder.encode(None)])


def _encode(source: SourceVideo, recipe: Recipe, target: Path, on_frame: OnFrame) -> None:
    count = len(recipe.frames)
    unit = Fraction(*recipe.time_base)
    colours = ColourConverter()
    with FrameReader(source, _READER_BYTES) as reader:
        first = _in_sdr(reader.decoded(recipe.frames[0]), colours)
        form, reformatter = _form(first, recipe), VideoReformatter()
        with closing(cast("Any", av.open(str(target), "w"))) as container:
            stream = container.add_stream(_ENCODERS[recipe.codec], rate=_rate(source, recipe))
            stream.options = {
                **_OPTIONS[recipe.codec],
                **_siting(_converted(first, form, reformatter), form, recipe),
            }
            encoder: VideoCodecContext = stream.codec_context
            encoder.width, encoder.height = recipe.size
            encoder.pix_fmt = form.name
            encoder.time_base = unit
            encoder.gop_size = 1 if recipe.codec == "ffv1" else _GOP
            encoder.max_b_frames = 0
            encoder.sample_aspect_ratio = Fraction(source.pixel_aspect).limit_denominator(1000)
            _say_colours(encoder, first, form)
            for done, (at, stamp) in enumerate(zip(recipe.frames, recipe.stamps, strict=True), start=1):
                decoded = _in_sdr(reader.decoded(at), colours)
                if (decoded.width, decoded.height) != (first.width, first.height):
                    raise ValueError(f"its picture changes its size at frame {at}")
                frame = _written(_converted(decoded, form, reformatter), form, recipe)
                frame.pts, frame.time_base = stamp, unit
                container.mux(stream.encode(frame))
                on_frame(done, count)
            container.mux(stream.encode(None))


def _in_sdr(frame: VideoFrame, colours: ColourConverter) -> VideoFrame:
    """HDR tone-mapped as the trainer does it, since others train on its raw signals; any other frame as it is."""
    if not is_hdr(int(frame.color_trc)):
        return frame
    mapped = VideoFrame.from_ndarray(colours.rgb(frame, frame.width, frame.height), format="rgb24")
    mapped.color_primaries = mapped.color_trc = _BT709
    return mapped


def _form(frame: VideoFrame, recipe: Recipe) -> WrittenFormat:
    kind = frame.format
    return written_format(
        kind.name,
        max(component.bits for component in kind.components),
        recipe.codec,
        is_turned=recipe.rotation in {90, 270},
        is_rgb=kind.is_rgb or kind.has_palette,
    )


def _say_colours(encoder: "VideoCodecContext", frame: VideoFrame, form: WrittenFormat) -> None:
    """Say about the colours what the source says; what it leaves open stays open."""
    encoder.color_primaries = int(frame.color_primaries)
    encoder.color_trc = int(frame.color_trc)
    encoder.colorspace = _BT709 if form.from_rgb else int(frame.colorspace)
    if form.is_full_range is None:
        encoder.color_range = int(frame.color_range)
    else:
        encoder.color_range = int(ColorRange.JPEG if form.is_full_range else ColorRange.MPEG)


def _siting(frame: VideoFrame, form: WrittenFormat, recipe: Recipe) -> dict[str, str]:
    """Where samples of colour lie among those of luma, as an encoder's option, after the picture is turned.

    PyAV does not tell it. A copy of the frame that knows of no place shows whether the frame has one: its
    colours come out otherwise then, and it is at the left, as nearly all video has it. Mirrored, that would
    be at the right, for which there is no name; the middle is nearest.
    """
    if not form.name.startswith(("yuv420", "yuv422")):
        return {}
    whole = CropBox(left=0, top=0, width=frame.width, height=frame.height)
    plain = msgspec.structs.replace(recipe, crop=whole, rotation=0, flip="none")
    pictures = [
        VideoReformatter().reformat(one, format="rgb24", interpolation=_CONVERSION).to_ndarray()
        for one in (frame, _written(frame, form, plain))
    ]
    if np.array_equal(pictures[0], pictures[1]):
        return {"chroma_sample_location": "center"}
    place = {0: "left", 90: "bottom", 180: "right", 270: "top"}[recipe.rotation]
    if recipe.flip in ("horizontal", "both"):
        place = {"left": "right", "right": "left"}.get(place, place)
    if recipe.flip in ("vertical", "both"):
        place = {"top": "bottom", "bottom": "top"}.get(place, place)
    return {"chroma_sample_location": "center" if place == "right" else place}


def _rate(source: SourceVideo, recipe: Recipe) -> Fraction:
    """Frames a second on average, which the file's head says; each frame has its own time."""
    if len(recipe.stamps) < 2 or recipe.stamps[-1] == 0:
        return Fraction(source.frames_per_second or 16).limit_denominator(1001)
    seconds = recipe.stamps[-1] * Fraction(*recipe.time_base)
    return Fraction((len(recipe.stamps) - 1) / seconds).limit_denominator(1001)


def _converted(frame: VideoFrame, form: WrittenFormat, reformatter: VideoReformatter) -> VideoFrame:
    if not form.through:
        return frame
    return reformatter.reformat(
        frame,
        format=form.through,
        dst_colorspace=Colorspace.ITU709 if form.from_rgb else None,
        dst_color_range=ColorRange.MPEG if form.from_rgb else None,
        interpolation=_CONVERSION,
    )


def _written(frame: VideoFrame, form: WrittenFormat, recipe: Recipe) -> VideoFrame:
    """A frame of its own with the planes cut, turned and mirrored; it carries nothing else of the source."""
    width, height = recipe.size
    made = VideoFrame(width, height, form.name)
    steps = _steps(form.name)
    for number, plane in enumerate(made.planes):
        item_bytes, horizontal, vertical = steps[number]
        old = frame.planes[number]
        lines = np.frombuffer(memoryview(cast("Any", old)), np.uint8).reshape(-1, old.line_size)
        samples = lines[: old.height, : old.width * item_bytes].reshape(old.height, old.width, item_bytes)
        shaped = _shaped(samples, recipe, (horizontal, vertical))
        content = np.zeros((plane.buffer_size // plane.line_size, plane.line_size), np.uint8)
        rows, columns = shaped.shape[:2]
        content[:rows, : columns * item_bytes] = shaped.reshape(rows, columns * item_bytes)
        plane.update(content.tobytes())
    made.colorspace = int(frame.colorspace) if not form.from_rgb else _BT709
    made.color_range = int(frame.color_range)
    return made


def _shaped(samples: NDArray[np.uint8], recipe: Recipe, steps: tuple[int, int]) -> NDArray[np.uint8]:
    """A plane (height, width, bytes of a sample), cut, turned upright and mirrored.

    Args:
        samples: As stored.
        recipe: Crop, rotation and flip.
        steps: Pixels of the picture to one sample, across and down.
    """
    crop, (across, down) = recipe.crop, steps
    cut = samples[
        crop.top // down : -(-(crop.top + crop.height) // down),
        crop.left // across : -(-(crop.left + crop.width) // across),
    ]
    turned = np.rot90(cut, recipe.rotation // 90)
    if recipe.flip in ("horizontal", "both"):
        turned = turned[:, ::-1]
    if recipe.flip in ("vertical", "both"):
        turned = turned[::-1]
    return turned


def _steps(name: str) -> list[tuple[int, int, int]]:
    """Of each plane of a written format: bytes of a sample, and pixels to one across and down."""
    if name == "bgr0":
        return [(4, 1, 1)]
    components = VideoFormat(name, 64, 64).components
    return [
        (1 if component.bits <= 8 else 2, 64 // component.width, 64 // component.height)
        for component in sorted(components, key=lambda component: component.plane)
    ]


def _check_whole(source: SourceVideo, recipe: Recipe, target: Path) -> None:
    """Make sure that the file holds as many frames as it should."""
    with av.open(str(target)) as container:
        found = sum(1 for packet in container.demux(video=0) if packet.size)
    if found != len(recipe.frames):
        raise RenderError(source, f"{found} of its {len(recipe.frames)} frames arrived on the disk")
