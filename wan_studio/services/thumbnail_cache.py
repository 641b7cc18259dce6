"""Posters of clips: small JPEG files, made once for each state of a source."""

import hashlib
from pathlib import Path
from uuid import uuid4

import numpy as np
from av.video.frame import VideoFrame
from numpy.typing import NDArray

from wan_studio.domain.clip import SourceVideo
from wan_studio.domain.clip_look import STRIP_FRAMES
from wan_studio.errors import AppError
from wan_studio.services.frame_reader import FrameReader

POSTER_HEIGHT = 180
_WIDEST = 4 * POSTER_HEIGHT
STRIP_WIDTH, STRIP_HEIGHT = 192, 108
"""Of one picture of a strip, in pixels; the clip's own shape stands in the middle, on black."""


class PosterError(AppError):
    """A poster cannot be written."""

    def __init__(self, path: Path, error: OSError) -> None:
        super().__init__(
            f"The poster {path} cannot be written ({error.strerror or error}).",
            "Check the cache folder's permissions and the free space.",
        )


class ThumbnailCache:
    """Posters in one folder, which may be emptied at any time."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder

    def poster(self, source: SourceVideo) -> Path:
        """The poster, 180 pixels high with square pixels; from a third of the way, past fades.

        Raises:
            UnreadableVideoError: the source cannot be read.
            PosterError: the folder cannot be written.
        """
        path = self._path(source)
        if path.is_file():
            return path
        with FrameReader(source) as reader:
            picture = reader.read_scaled(source.frame_count // 3, _WIDEST, POSTER_HEIGHT)
        try:
            self._folder.mkdir(parents=True, exist_ok=True)
            write_jpeg(path, picture)
        except OSError as error:
            raise PosterError(path, error) from error
        return path

    def strip(self, source: SourceVideo) -> Path:
        """Twelve small pictures across the video, side by side in one file, for looking through it quickly.

        Raises:
            UnreadableVideoError: the source cannot be read.
            PosterError: the folder cannot be written.
        """
        path = self._path(source, "strip ")
        if path.is_file():
            return path
        strip = np.zeros((STRIP_HEIGHT, STRIP_FRAMES * STRIP_WIDTH, 3), np.uint8)
        with FrameReader(source) as reader:
            for at in range(STRIP_FRAMES):
                frame = (2 * at + 1) * source.frame_count // (2 * STRIP_FRAMES)
                picture = reader.read_scaled(frame, STRIP_WIDTH, STRIP_HEIGHT)
                height, width = picture.shape[:2]
                top, left = (STRIP_HEIGHT - height) // 2, at * STRIP_WIDTH + (STRIP_WIDTH - width) // 2
                strip[top : top + height, left : left + width] = picture
        try:
            self._folder.mkdir(parents=True, exist_ok=True)
            write_jpeg(path, strip)
        except OSError as error:
            raise PosterError(path, error) from error
        return path

    def _path(self, source: SourceVideo, kind: str = "") -> Path:
        identity = f"{kind}1\0{source.path}\0{source.size_bytes}\0{source.modified_ns}"
        return (
            self._folder
            / f"{hashlib.sha256(identity.encode('utf-8', 'surrogateescape')).hexdigest()[:32]}.jpg"
        )


def write_jpeg(path: Path, picture: NDArray[np.uint8]) -> None:
    """Write an RGB picture (height, width, 3) as JPEG, atomically.

    Raises:
        OSError: it cannot be written.
    """
    temporary = path.with_name(f".{path.stem}.{uuid4().hex[:8]}.jpg")
    try:
        VideoFrame.from_ndarray(picture, format="rgb24").save(temporary)
        temporary.replace(path)
    finally:
        temporary.unlink(missing_ok=True)
