"""Posters of clips: small JPEG files, made once for each state of a source."""

import hashlib
from pathlib import Path
from uuid import uuid4

import numpy as np
from av.video.frame import VideoFrame
from numpy.typing import NDArray

from wan_studio.domain.clip import SourceVideo
from wan_studio.errors import AppError
from wan_studio.services.frame_reader import FrameReader
from wan_studio.services.picture_identity import picture_identity

POSTER_HEIGHT = 180
_WIDEST = 4 * POSTER_HEIGHT


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

    def _path(self, source: SourceVideo) -> Path:
        identity = f"1\0{picture_identity(source)}"
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
