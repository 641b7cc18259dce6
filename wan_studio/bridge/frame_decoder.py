"""A player's frames: decoded in another process, the latest wish first, the range's pictures kept in memory.

What a wish brings, in this order, as far as it applies: a picture of another frame nearby when the wished one takes long,
the proxy's small picture of the frame, and the frame itself.
"""

import logging
import math
from dataclasses import dataclass

from PySide6.QtCore import QObject, QSize, Signal
from PySide6.QtGui import QImage

from trainer.protocol.job import TrainedSize
from wan_studio.domain.clip import SourceVideo
from wan_studio.services.decoder_process import DecoderProcess, decoder_process
from wan_studio.services.player_messages import FrameWish, News, PictureNews, ProblemNews, RangeWish

_log = logging.getLogger(__name__)

WINDOW_BYTES = 320 * 1024 * 1024
_SMALLEST_HEIGHT = 180
_TRIES = 2
"""A file that brings the decoder down so often in a row is given up."""


@dataclass(frozen=True, slots=True)
class FrameRequest:
    """One frame that is wanted.

    Attributes:
        trained_size: When given, the picture is cut and resized as it trains.
        display_size: Else it is made no larger than this, in device pixels; an invalid one takes the source's own.
    """

    source: SourceVideo
    frame: int
    trained_size: TrainedSize | None
    display_size: QSize


@dataclass(frozen=True, slots=True)
class WindowWish:
    """Which pictures are kept.

    Attributes:
        frames: Source frames in the order in which they are decoded: the range's own, ascending, then others.
        needed: The first so many are its own, and must fit into memory, if need be as smaller pictures.
        trained_size: When given, pictures are cut and resized as they train.
        display_size: Else they are made no larger than this, in device pixels.
    """

    source: SourceVideo
    frames: tuple[int, ...]
    needed: int
    trained_size: TrainedSize | None
    display_size: QSize


class FrameDecoder(QObject):
    """One channel to the decoding process, and the pictures that were kept of what came from it.

    Signals:
        frame_ready: A frame was decoded. args: FrameRequest, QImage
        draft_ready: Its picture from the proxy; `frame_ready` may follow. args: FrameRequest, QImage
        near_ready: Another frame, while the wished one is decoded. args: FrameRequest, its number, QImage
        frame_failed: It could not be. args: FrameRequest, a sentence
        found_slow: Seeking in this video takes too long for scrubbing. arg: SourceVideo
        filled: So many of the range's own frames are kept. args: int, int
    """

    frame_ready = Signal(object, QImage)
    draft_ready = Signal(object, QImage)
    near_ready = Signal(object, int, QImage)
    frame_failed = Signal(object, str)
    found_slow = Signal(object)
    filled = Signal(int, int)
    _picture_came = Signal(object, QImage)
    _problem_came = Signal(object)
    _process_died = Signal()

    def __init__(
        self,
        parent: QObject | None = None,
        process: DecoderProcess | None = None,
        limit_bytes: int = WINDOW_BYTES,
    ) -> None:
        super().__init__(parent)
        self._process = process or decoder_process()
        self._limit = limit_bytes
        self._channel = 0
        self._number = 0
        self._wishes: dict[int, FrameRequest] = {}
        self._proxies: dict[SourceVideo, SourceVideo] = {}
        self._window = _Window()
        self._deaths = 0
        self._picture_came.connect(self._on_picture)
        self._problem_came.connect(self._on_problem)
        self._process_died.connect(self._on_process_died)

    @property
    def kept_bytes(self) -> int:
        """Memory of the pictures that are kept."""
        return self._window.held_bytes

    def warm_up(self) -> None:
        """Start the process, so that the first wish does not wait for that."""
        self._process.warm_up()

    def use_proxy(self, source: SourceVideo, proxy: SourceVideo) -> None:
        """Scrub this source on a small copy with the same frames."""
        self._proxies[source] = proxy

    def request(self, wish: FrameRequest) -> None:
        """Ask for a frame; an older wish that has not begun is forgotten."""
        self._number += 1
        self._wishes[self._number] = wish
        self._send_wish(self._number, wish)

    def keep(self, wish: WindowWish | None) -> None:
        """Keep the pictures of another range, or none; what both ranges share stays."""
        if self._window.aim(wish, self._limit):
            self._send_range()

    def picture(self, source: SourceVideo, frame: int, trained_size: TrainedSize | None) -> QImage | None:
        """The picture of a frame, if it is kept; it may be smaller than wished."""
        return self._window.picture(source, frame, trained_size)

    def stop(self) -> None:
        """Forget wishes and pictures; it may be asked again afterwards."""
        if self._channel:
            self._process.close_channel(self._channel)
        self._channel = 0
        self._wishes.clear()
        self._window = _Window()

    def _opened_channel(self) -> int:
        if not self._channel:
            self._channel = self._process.open_channel(self._hear, self._process_died.emit)
        return self._channel

    def _send_wish(self, number: int, wish: FrameRequest) -> None:
        proxy = self._proxies.get(wish.source)
        size = wish.display_size
        self._process.send(
            FrameWish(
                self._opened_channel(),
                number,
                self._process.number_of(wish.source),
                self._process.number_of(proxy) if proxy is not None else 0,
                wish.frame,
                wish.trained_size,
                max(0, size.width()),
                max(0, size.height()),
            )
        )

    def _send_range(self) -> None:
        window, wish = self._window, self._window.wish
        if wish is None and not self._channel:
            return
        self._number += 1
        window.number = self._number
        missing = window.missing
        own = 0 if wish is None else sum(frame in window.own for frame in missing)
        self._process.send(
            RangeWish(
                self._opened_channel(),
                self._number,
                0 if wish is None else self._process.number_of(wish.source),
                missing,
                own,
                None if wish is None else wish.trained_size,
                window.size.width(),
                window.size.height(),
            )
        )

    def _hear(self, news: News) -> None:
        """On a thread of the process's: what costs time is done here."""
        if isinstance(news, ProblemNews):
            self._problem_came.emit(news)
            return
        stride = 3 * news.width
        picture = QImage(news.pixels, news.width, news.height, stride, QImage.Format.Format_RGB888)
        # A QImage over an array would read it after it is gone.
        self._picture_came.emit(news, picture.copy())

    def _on_picture(self, news: PictureNews, image: QImage) -> None:
        if news.channel != self._channel:
            return
        self._deaths = 0
        if news.kind == "range":
            if news.number == self._window.number and self._window.put(news.frame, image):
                self.filled.emit(*self._window.own_counts)
            return
        wish = self._wishes.get(news.number)
        if wish is None:
            return
        match news.kind:
            case "draft":
                self.draft_ready.emit(wish, image)
            case "near":
                self.near_ready.emit(wish, news.frame, image)
            case _:
                self._drop_wishes(news.number)
                if self._window.takes(wish) and self._window.put(wish.frame, image):
                    self.filled.emit(*self._window.own_counts)
                self.frame_ready.emit(wish, image)
                if news.is_slow and wish.source not in self._proxies:
                    self.found_slow.emit(wish.source)

    def _on_problem(self, news: ProblemNews) -> None:
        wish = self._wishes.get(news.number)
        if news.channel != self._channel or news.is_range or wish is None:
            # Of a range: the player asks for the same frame, and shows the sentence.
            _log.info("Frames: %s", news.message)
            return
        self._drop_wishes(news.number)
        _log.warning("Frame %s of %s: %s", wish.frame, wish.source.path, news.message)
        self.frame_failed.emit(wish, news.message)

    def _on_process_died(self) -> None:
        """It is started again by what is asked; a file that brings it down again and again is given up."""
        wish = self._wishes.get(max(self._wishes, default=0))
        if not self._channel or (wish is None and not self._window.missing):
            return
        self._deaths += 1
        _log.warning("The decoder went down, time %s in a row", self._deaths)
        number = max(self._wishes, default=0)
        self._wishes.clear()
        if self._deaths < _TRIES:
            if wish is not None:
                self._wishes[number] = wish
                self._send_wish(number, wish)
            self._send_range()
            return
        self._window.aim(None, self._limit)
        if wish is not None:
            self.frame_failed.emit(
                wish,
                f"{wish.source.path} brought the decoder down. "
                "It is damaged. Copy it again from its source, or convert it to H.264 (MP4).",
            )

    def _drop_wishes(self, up_to: int) -> None:
        for number in [number for number in self._wishes if number <= up_to]:
            del self._wishes[number]


class _Window:
    """The pictures of a range, as they come."""

    def __init__(self) -> None:
        self.wish: WindowWish | None = None
        self.number = 0
        self.size = QSize(0, 0)
        self.own: frozenset[int] = frozenset()
        self.held_bytes = 0
        self._frames: dict[int, None] = {}
        self._pictures: dict[int, QImage] = {}
        self._own_kept = 0

    @property
    def missing(self) -> tuple[int, ...]:
        """The frames that have no picture yet, in the order of the wish."""
        return tuple([frame for frame in self._frames if frame not in self._pictures])

    @property
    def own_counts(self) -> tuple[int, int]:
        """Of the range's own frames: how many are kept, and how many there are."""
        return self._own_kept, len(self.own)

    def aim(self, wish: WindowWish | None, limit: int) -> bool:
        """Another range; False when it is the same."""
        if wish == self.wish:
            return False
        is_other = _kind_of(wish) != _kind_of(self.wish)
        self.wish = wish
        if wish is None:
            self.size, self._frames, self.own = QSize(0, 0), {}, frozenset()
        else:
            self.size, room = _size_and_room(wish, limit)
            self._frames = dict.fromkeys(wish.frames[:room])
            self.own = frozenset(wish.frames[: min(wish.needed, room)])
        for frame, image in list(self._pictures.items()):
            is_fitting = self._is_trained or image.size() == self.size
            if is_other or not is_fitting or frame not in self._frames:
                self.held_bytes -= image.sizeInBytes()
                del self._pictures[frame]
        self._own_kept = sum(frame in self._pictures for frame in self.own)
        return True

    def takes(self, wish: FrameRequest) -> bool:
        """Whether the picture of such a wish is one of the range's."""
        is_same = _kind_of(self.wish) == (wish.source, wish.trained_size)
        return is_same and (self._is_trained or wish.display_size == self.size)

    def put(self, frame: int, image: QImage) -> bool:
        """Keep a picture; whether there is something to tell of it."""
        if frame not in self._frames or frame in self._pictures:
            return False
        self._pictures[frame] = image
        self.held_bytes += image.sizeInBytes()
        self._own_kept += frame in self.own
        return frame in self.own and (self._own_kept % 8 == 0 or self._own_kept == len(self.own))

    def picture(self, source: SourceVideo, frame: int, trained_size: TrainedSize | None) -> QImage | None:
        """The picture of a frame, if it is kept."""
        found = self._pictures.get(frame)
        return found if found is not None and _kind_of(self.wish) == (source, trained_size) else None

    @property
    def _is_trained(self) -> bool:
        return self.wish is not None and self.wish.trained_size is not None


def _kind_of(wish: WindowWish | None) -> tuple[SourceVideo, TrainedSize | None] | None:
    return None if wish is None else (wish.source, wish.trained_size)


def fitting_size(source: SourceVideo, room: QSize) -> QSize:
    """The size at which the whole picture is shown in some room: square pixels, never enlarged."""
    shown_width = source.width * source.pixel_aspect
    scale = min(1.0, room.width() / shown_width, room.height() / source.height)
    return QSize(max(1, round(shown_width * scale)), max(1, round(source.height * scale)))


def _size_and_room(wish: WindowWish, limit: int) -> tuple[QSize, int]:
    """How large the pictures are kept, and how many of them there is room for."""
    if wish.trained_size is not None:
        size = QSize(wish.trained_size.width, wish.trained_size.height)
        return wish.display_size, max(1, limit // max(1, _bytes_of(size)))
    size = fitting_size(wish.source, wish.display_size)
    wanted = _bytes_of(size) * max(1, wish.needed)
    if wanted > limit:
        smallest = min(size.height(), _SMALLEST_HEIGHT)
        height = max(smallest, int(size.height() * math.sqrt(limit / wanted)))
        size = fitting_size(wish.source, QSize(size.width(), height))
    return size, max(1, limit // max(1, _bytes_of(size)))


def _bytes_of(size: QSize) -> int:
    # Rows of a QImage are padded to 4 bytes.
    return (3 * size.width() + 3) // 4 * 4 * size.height()
