"""Pictures of single frames, kept in memory and on disk: a clip that is opened again shows its in point at once."""

import contextlib
import hashlib
from collections import OrderedDict, deque
from collections.abc import Sequence
from pathlib import Path
from uuid import uuid4

from PySide6.QtCore import QObject, QSize, Signal
from PySide6.QtGui import QImage

from wan_studio.bridge.background import run_in_background
from wan_studio.bridge.frame_decoder import FrameDecoder, FrameRequest, fitting_size
from wan_studio.domain.clip import SourceVideo
from wan_studio.services.picture_identity import picture_identity

SIZE = QSize(1280, 720)
"""A picture is kept no larger than this."""
_MOST_IN_MEMORY = 16
_MOST_ON_DISK = 4000
_QUALITY = 92
"""Of JPEG."""


class StillShelf(QObject):
    """Stills in one folder, which may be emptied at any time; the next clips' are decoded beforehand.

    Signals:
        still_ready: A wished picture is there. args: SourceVideo, frame, QImage
    """

    still_ready = Signal(object, int, QImage)

    def __init__(self, folder: Path, parent: QObject | None = None) -> None:
        super().__init__(parent)
        self._folder = folder
        self._kept: OrderedDict[str, QImage] = OrderedDict()
        self._waiting: deque[tuple[SourceVideo, int]] = deque()
        self._decoder = FrameDecoder(self)
        self._is_decoding = False
        self._has_tidied = False
        self._decoder.frame_ready.connect(self._on_decoded)
        self._decoder.frame_failed.connect(self._on_failed)

    def want(self, source: SourceVideo, frame: int) -> None:
        """Tell a frame's picture if it is known; else nothing is told."""
        name = _name_of(source, frame)
        kept = self._kept.get(name)
        if kept is not None:
            self._kept.move_to_end(name)
            self.still_ready.emit(source, frame, kept)
            return
        path = self._folder / name

        def on_done(image: QImage) -> None:
            if not image.isNull():
                self._remember(name, image)
                self.still_ready.emit(source, frame, image)

        run_in_background(lambda: QImage(str(path)), on_done, urgent=True)

    def keep(self, source: SourceVideo, frame: int, image: QImage) -> None:
        """Keep a picture for the next time."""
        name = _name_of(source, frame)
        if name in self._kept:
            return
        self._remember(name, image)
        run_in_background(lambda: self._write(name, image), lambda _: None, lambda _: None)

    def prepare(self, frames: Sequence[tuple[SourceVideo, int]]) -> None:
        """Decode these, one after another, where their pictures are not known; replaces those that wait."""
        self._waiting = deque(frames)
        if not self._is_decoding:
            self._next()

    def stop(self) -> None:
        """Decode nothing more; it may be asked again afterwards."""
        self._waiting.clear()
        self._is_decoding = False
        self._decoder.stop()

    def _next(self) -> None:
        self._is_decoding = False
        if not self._waiting:
            return
        source, frame = self._waiting.popleft()
        name = _name_of(source, frame)
        if name in self._kept:
            self._next()
            return
        self._is_decoding = True
        path = self._folder / name

        def on_done(image: QImage) -> None:
            if not image.isNull():
                self._remember(name, image)
                self._next()
            elif self._is_decoding:
                self._decoder.request(FrameRequest(source, frame, None, fitting_size(source, SIZE)))

        run_in_background(lambda: QImage(str(path)), on_done)

    def _on_decoded(self, wish: FrameRequest, image: QImage) -> None:
        self.keep(wish.source, wish.frame, image)
        self._next()

    def _on_failed(self, *_: object) -> None:
        self._next()

    def _remember(self, name: str, image: QImage) -> None:
        self._kept[name] = image
        self._kept.move_to_end(name)
        while len(self._kept) > _MOST_IN_MEMORY:
            self._kept.popitem(last=False)

    def _write(self, name: str, image: QImage) -> None:
        path = self._folder / name
        if path.exists():
            return
        temporary = path.with_name(f".{path.stem}.{uuid4().hex[:8]}.jpg")
        # A full disk costs time at the next opening, nothing else.
        with contextlib.suppress(OSError):
            self._folder.mkdir(parents=True, exist_ok=True)
            if not self._has_tidied:
                self._has_tidied = True
                _delete_oldest(self._folder)
            if image.save(str(temporary), "JPG", _QUALITY):  # type: ignore[call-overload]
                temporary.replace(path)
            temporary.unlink(missing_ok=True)


def _delete_oldest(folder: Path) -> None:
    files = sorted(folder.glob("*.jpg"), key=lambda path: path.stat().st_mtime, reverse=True)
    for path in files[_MOST_ON_DISK:]:
        path.unlink(missing_ok=True)


def _name_of(source: SourceVideo, frame: int) -> str:
    identity = f"1\0{picture_identity(source)}\0{frame}"
    return f"{hashlib.sha256(identity.encode('utf-8', 'surrogateescape')).hexdigest()[:32]}.jpg"
