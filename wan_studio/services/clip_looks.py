"""A look at a clip's pictures: what it resembles, where nothing moves, its black bars."""

import hashlib
from itertools import pairwise
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from trainer.protocol.job import CropBox
from wan_studio.domain.clip import SourceVideo
from wan_studio.domain.clip_look import ClipLook
from wan_studio.services.frame_reader import FrameReader

_PLACES = (0.1, 0.3, 0.5, 0.7, 0.9)
_SIZE = (480, 270)
_SMALL = (96, 54)
_STEP_SECONDS = 1 / 8
_END_SECONDS = 4.0
_WHOLE_SECONDS = 30.0
_LEAST_MOTION = 0.5
"""Of 255 grey levels, on average over a small picture: less is noise."""
_DARK = 26
_LEAST_BAR = 0.03
_FLAT = 4.0
_WHOLE_BYTES = 256 * 1024 * 1024
_BLOCK = 1024 * 1024

Grey = NDArray[np.float32]


def look_at(source: SourceVideo) -> ClipLook:
    """Decode some pictures of a clip and measure them.

    Raises:
        UnreadableVideoError: the file changed, vanished or is damaged.
        OSError: it cannot be read.
    """
    last = source.frame_count - 1
    places = [0] if source.is_image else [round(place * last) for place in _PLACES]
    parts = [] if source.is_image else _motion_parts(source)
    large, small = _decoded(source, set(places), {frame for part in parts for frame in part})
    pictures = [large[frame] for frame in places]
    head, tail = _still_ends([[small[frame] for frame in part] for part in parts])
    return ClipLook(
        signature=_signature(pictures),
        still_head_seconds=head,
        still_tail_seconds=tail,
        picture=_inside_bars(source, pictures),
        content_hash=content_hash(Path(source.path)),
    )


def content_hash(path: Path) -> str:
    """Of all bytes of a file; above 256 MiB of its size and sixteen places of 1 MiB.

    Raises:
        OSError: it cannot be read.
    """
    size = path.stat().st_size
    digest = hashlib.blake2b(str(size).encode(), digest_size=16)
    with path.open("rb") as file:
        if size <= _WHOLE_BYTES:
            while block := file.read(_BLOCK):
                digest.update(block)
        else:
            for place in range(16):
                file.seek((size - _BLOCK) * place // 15)
                digest.update(file.read(_BLOCK))
    return digest.hexdigest()


def _decoded(
    source: SourceVideo, large: set[int], small: set[int]
) -> tuple[dict[int, Grey], dict[int, Grey]]:
    """Those frames in two sizes, in one pass from the first to the last."""
    pictures: tuple[dict[int, Grey], dict[int, Grey]] = ({}, {})
    with FrameReader(source, cache_bytes=1) as reader:
        for frame in sorted(large | small):
            for made, wanted, size in zip(pictures, (large, small), (_SIZE, _SMALL), strict=True):
                if frame in wanted:
                    made[frame] = reader.read_grey(frame, *size).astype(np.float32)
    return pictures


def _signature(pictures: list[Grey]) -> bytes:
    """For each picture 16 x 16 bits: whether it becomes brighter to the right."""
    if all(float(picture.std()) < _FLAT for picture in pictures):
        return b""
    return b"".join(
        np.packbits(np.diff(_shrunk(picture, 16, 17), axis=1) > 0).tobytes() for picture in pictures
    )


def _shrunk(picture: Grey, rows: int, columns: int) -> Grey:
    height, width = picture.shape
    row_edges = np.arange(rows) * height // rows
    column_edges = np.arange(columns) * width // columns
    sums = np.add.reduceat(np.add.reduceat(picture, row_edges, axis=0), column_edges, axis=1)
    row_counts = np.diff(np.append(row_edges, height)).astype(np.float32)
    column_counts = np.diff(np.append(column_edges, width)).astype(np.float32)
    return (sums / np.maximum(1, np.outer(row_counts, column_counts))).astype(np.float32)


def _inside_bars(source: SourceVideo, pictures: list[Grey]) -> CropBox | None:
    """The picture inside bars that are dark in all pictures, on both opposite sides; None without any."""
    brightest: Grey = np.maximum.reduce(pictures)
    top, bottom = _dark_ends(np.asarray(np.percentile(brightest, 98, axis=1), np.float32))
    left, right = _dark_ends(np.asarray(np.percentile(brightest, 98, axis=0), np.float32))
    height, width = brightest.shape
    if not top + bottom + left + right or top + bottom >= height or left + right >= width:
        return None
    # Rounded inwards by a row, so that no edge of a bar remains.
    down, across = source.height / height, source.width / width
    above, below = (round((rows + 1) * down) if rows else 0 for rows in (top, bottom))
    before, after = (round((columns + 1) * across) if columns else 0 for columns in (left, right))
    box_width, box_height = source.width - before - after, source.height - above - below
    if box_width < source.width // 4 or box_height < source.height // 4:
        return None
    return CropBox(left=before, top=above, width=box_width, height=box_height)


def _dark_ends(lines: NDArray[np.float32]) -> tuple[int, int]:
    """How many lines are dark at the start and at the end; bars come in pairs of about one width."""
    bright = np.flatnonzero(lines >= _DARK)
    if not bright.size:
        return 0, 0
    first, last = int(bright[0]), len(lines) - 1 - int(bright[-1])
    is_bar = min(first, last) >= _LEAST_BAR * len(lines) and abs(first - last) <= 0.04 * len(lines)
    return (first, last) if is_bar else (0, 0)


def _motion_parts(source: SourceVideo) -> list[list[int]]:
    """Frames an eighth of a second apart: of a short clip all, of a long one those at its start and its end."""
    seconds = source.duration_seconds
    whole = [(0.0, seconds)]
    ends = [(0.0, _END_SECONDS), (seconds - _END_SECONDS, seconds)]
    return [
        list(dict.fromkeys(source.frame_at(float(time)) for time in np.arange(start, end, _STEP_SECONDS)))
        for start, end in (whole if seconds <= _WHOLE_SECONDS else ends)
    ]


def _still_ends(parts: list[list[Grey]]) -> tuple[float, float]:
    """Seconds without motion at the start and at the end; 0 and 0 where nothing moves at all."""
    motions = [_motion(part) for part in parts]
    together = np.concatenate([*motions, np.zeros(0, np.float32)])
    if not together.size:
        return 0.0, 0.0
    usual = float(np.percentile(together, 75))
    if usual < _LEAST_MOTION:
        return 0.0, 0.0
    least = max(_LEAST_MOTION, 0.15 * usual)
    head, tail = _still_steps(motions[0], least), _still_steps(motions[-1][::-1], least)
    return head * _STEP_SECONDS, tail * _STEP_SECONDS


def _still_steps(motion: NDArray[np.float32], least: float) -> int:
    moving = np.flatnonzero(motion > least)
    return int(moving[0]) if moving.size else len(motion)


def _motion(pictures: list[Grey]) -> NDArray[np.float32]:
    """How much each picture differs from the one before, in grey levels."""
    return np.array([float(np.abs(b - a).mean()) for a, b in pairwise(pictures)], np.float32)
