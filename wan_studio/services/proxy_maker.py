"""Proxies: small copies of heavy videos in which every frame is a keyframe, for scrubbing alone.

What trains is always read from the source.
"""

import contextlib
import hashlib
import time
from collections.abc import Callable
from fractions import Fraction
from pathlib import Path
from typing import Any, cast
from uuid import uuid4

import av
from av.video.frame import VideoFrame

from wan_studio.domain.clip import SourceVideo
from wan_studio.errors import AppError
from wan_studio.services.frame_reader import FrameReader
from wan_studio.services.media_probe import MEDIA_ERRORS, probe
from wan_studio.services.picture_identity import picture_identity
from wan_studio.services.progress import Progress, untold

PROXY_HEIGHT = 480
FOLDER_BYTES = 4 * 1024**3
"""The oldest proxies are deleted beyond this."""

_QUALITY = "5"
"""Of MJPEG, 2 (best) to 31."""
_TICKS = 1000
_LEFTOVER_SECONDS = 3600
_READER_BYTES = 8 * 1024 * 1024


class ProxyError(AppError):
    """A proxy cannot be made."""

    def __init__(self, source: SourceVideo, reason: object) -> None:
        super().__init__(
            f"No proxy of {source.name} could be made ({reason}).",
            "It can be trimmed without one; scrubbing is slower.",
        )


class ProxyCancelledError(AppError):
    """Making a proxy was cancelled."""

    def __init__(self) -> None:
        super().__init__("The proxy was cancelled.")


class ProxyMaker:
    """Proxies in one folder, which may be emptied at any time."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder

    def existing(self, source: SourceVideo) -> SourceVideo | None:
        """The proxy of a video as it is now, if it was made before and is whole."""
        path = self._path(source)
        if not path.is_file():
            return None
        try:
            proxy = probe(path)
        except AppError:
            return None
        return proxy if proxy.frame_count == source.frame_count else None

    def make(
        self,
        source: SourceVideo,
        on_progress: Progress = untold,
        is_cancelled: Callable[[], bool] = lambda: False,
    ) -> SourceVideo:
        """The proxy, made where it is not there: 480 pixels high at most, upright, square pixels.

        Its frames have the numbers of the source's; their time stamps mean nothing.

        Raises:
            UnreadableVideoError: the source cannot be read.
            ProxyError: it cannot be written.
            ProxyCancelledError: it was cancelled.
        """
        found = self.existing(source)
        if found is not None:
            return found
        path = self._path(source)
        temporary = path.with_name(f".{path.stem}.{uuid4().hex[:8]}.mp4")
        try:
            self._folder.mkdir(parents=True, exist_ok=True)
            self._delete_oldest()
            _encode(source, temporary, on_progress, is_cancelled)
            temporary.replace(path)
            return probe(path)
        except MEDIA_ERRORS as error:
            raise ProxyError(source, getattr(error, "strerror", None) or error) from error
        finally:
            temporary.unlink(missing_ok=True)

    def _path(self, source: SourceVideo) -> Path:
        identity = f"1\0{PROXY_HEIGHT}\0{picture_identity(source)}"
        digest = hashlib.sha256(identity.encode("utf-8", "surrogateescape")).hexdigest()
        return self._folder / f"{digest[:32]}.mp4"

    def _delete_oldest(self) -> None:
        files = [(path.stat(), path) for path in self._folder.glob("*.mp4")]
        held = sum(status.st_size for status, _ in files)
        for status, path in files:
            # Its maker was ended in the middle.
            if path.name.startswith(".") and time.time() - status.st_mtime > _LEFTOVER_SECONDS:
                path.unlink(missing_ok=True)
        for status, path in sorted(files, key=lambda file: file[0].st_mtime):
            if held <= FOLDER_BYTES:
                return
            # On Windows an open one cannot be deleted; it is the next time.
            with contextlib.suppress(OSError):
                path.unlink(missing_ok=True)
                held -= status.st_size


def _encode(source: SourceVideo, path: Path, on_progress: Progress, is_cancelled: Callable[[], bool]) -> None:
    # PyAV's types of packets have an unknown parameter, which the strict checker would report at each use.
    with FrameReader(source, _READER_BYTES) as reader, cast("Any", av.open(str(path), "w")) as container:
        stream = container.add_stream("mjpeg", rate=30)
        stream.pix_fmt = "yuvj420p"
        stream.codec_context.time_base = Fraction(1, _TICKS)
        stream.codec_context.thread_count = 1
        stream.options = {"qmin": _QUALITY, "qmax": _QUALITY}
        for at in range(source.frame_count):
            if is_cancelled():
                raise ProxyCancelledError
            picture = reader.read_scaled(at, 4 * PROXY_HEIGHT, PROXY_HEIGHT)
            height, width = picture.shape[0] // 2 * 2, picture.shape[1] // 2 * 2
            if at == 0:
                stream.width, stream.height = width, height
            frame = VideoFrame.from_ndarray(picture[:height, :width], format="rgb24")
            frame = frame.reformat(format="yuvj420p", dst_color_range="JPEG")
            frame.pts, frame.time_base = 40 * at, Fraction(1, _TICKS)
            container.mux(stream.encode(frame))
            if at % 16 == 15:
                on_progress(at + 1, source.frame_count)
        container.mux(stream.encode(None))
