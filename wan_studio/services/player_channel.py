"""One player's side of the decoding process: its latest wish first, and the pictures of its range meanwhile."""

import contextlib
from collections import deque
from collections.abc import Callable, Mapping
from threading import Condition, Thread
from time import perf_counter
from typing import TYPE_CHECKING

import numpy as np
import psutil

from wan_studio.domain.clip import SourceVideo
from wan_studio.errors import AppError
from wan_studio.services.frame_reader import CACHE_BYTES, STEP_FRAMES, DecodingStopped, FrameReader
from wan_studio.services.media_probe import MEDIA_ERRORS
from wan_studio.services.picture_colours import Picture
from wan_studio.services.player_messages import (
    FrameWish,
    News,
    PictureKind,
    PictureNews,
    ProblemNews,
    RangeWish,
)
from wan_studio.services.trained_picture import trained_picture

if TYPE_CHECKING:
    from av.video.frame import VideoFrame

SLOW_SECONDS = 0.06
"""A seek that takes longer than this makes scrubbing lag behind the hand: the source wants a proxy."""
_REST_SECONDS = 0.12
"""After a proxy's picture, so long without a further wish, the source's own is decoded."""
_PASSED_BYTES = 512 * 1024 * 1024
"""Decoded frames that a wish further on leaves behind, until there is time to make pictures of them: 5 s at 1080p."""
_PASSED_SHARE = 8
"""One part in so many of the free memory at most."""
_WISH_FOLLOWS_SECONDS = 0.02
_TELL_SECONDS = 0.15
"""So often a picture shows how far the decoder has come on its way to a frame."""
_SENT_FRAMES = 8
"""So many frames are kept for a little while after their pictures were sent: they may be wished for meanwhile."""
_NEAR_FRAMES = 12
"""A keyframe at least this far before the wished frame is shown until that one is there."""
_ERRORS = (AppError, *MEDIA_ERRORS, ValueError, IndexError, MemoryError)

Send = Callable[[News], object]


class PlayerChannel:
    """A thread that decodes for one player."""

    def __init__(self, sources: Mapping[int, SourceVideo], send: Send) -> None:
        self._sources = sources
        self._send = send
        self._changed = Condition()
        self._wish: FrameWish | None = None
        self._new_range: RangeWish | None = None
        self._is_ending = False
        self._exact = _Opened(CACHE_BYTES)
        self._draft = _Opened(CACHE_BYTES // 4)
        self._passing = _Opened(min(_PASSED_BYTES, psutil.virtual_memory().available // _PASSED_SHARE), 0)
        self._filling: _Filling | None = None
        Thread(target=self._run, name="player", daemon=True).start()

    def order(self, order: FrameWish | RangeWish) -> None:
        """A wish or a range, which takes the place of the one before it."""
        with self._changed:
            if isinstance(order, FrameWish):
                self._wish = order
            else:
                self._new_range = order
            self._changed.notify()

    def end(self) -> None:
        """Nothing more is wanted."""
        with self._changed:
            self._is_ending = True
            self._changed.notify()

    def _run(self) -> None:
        while True:
            with self._changed:
                while not self._has_work and not self._is_ending:
                    self._changed.wait()
                if self._is_ending:
                    break
                if self._wish is None and self._new_range is not None:
                    # The frame that is to be seen first is mostly named right after the range.
                    self._changed.wait(_WISH_FOLLOWS_SECONDS)
                wish, self._wish = self._wish, None
                wanted, self._new_range = self._new_range, None
            if wanted is not None:
                self._begin_range(wanted)
            if wish is not None:
                self._answer(wish)
            elif self._filling is not None:
                self._fill_one(self._filling)
        for opened in (self._exact, self._draft, self._passing):
            opened.close()

    @property
    def _has_work(self) -> bool:
        is_filling = self._filling is not None and bool(self._filling.todo)
        return self._wish is not None or self._new_range is not None or is_filling

    @property
    def _is_overtaken(self) -> bool:
        with self._changed:
            return self._wish is not None or self._is_ending

    def _begin_range(self, wanted: RangeWish) -> None:
        if not wanted.frames:
            self._filling = None
            self._passing.close()
            return
        self._filling = _Filling(wanted, self._passing.reader(self._sources[wanted.source]))

    def _fill_one(self, filling: "_Filling") -> None:
        if not filling.todo:
            return
        wish, frame = filling.wish, filling.take()
        try:
            filling.reader.stop_when = lambda: self._is_overtaken
            picture = _picture(filling.reader, frame, wish)
        except DecodingStopped:
            filling.todo.appendleft(frame)
            return
        except _ERRORS as error:
            filling.todo.clear()
            self._send(ProblemNews(wish.channel, wish.number, str(error), is_range=True))
            return
        finally:
            filling.reader.stop_when = None
        filling.has_sent(frame)
        self._send(_news(wish, "range", frame, picture))

    def _answer(self, wish: FrameWish) -> None:
        try:
            self._serve(wish)
        except _ERRORS as error:
            self._send(ProblemNews(wish.channel, wish.number, str(error), is_range=False))

    def _serve(self, wish: FrameWish) -> None:
        reader = self._exact.reader(self._sources[wish.source])
        filling = self._filling
        was_near = reader.is_near(wish.frame)
        is_close = was_near or (filling is not None and filling.is_close(wish))
        shows_draft = not is_close and self._show_draft(wish)
        if shows_draft and self._is_overtaken:
            return
        if filling is not None and filling.is_on_the_way(wish):
            self._run_ahead(filling, wish)
            return
        if shows_draft and not self._rests():
            return
        began = perf_counter()
        reader.on_key = self._key_shower(reader, wish)
        picture = _picture(reader, wish.frame, wish)
        is_seek = not was_near and wish.frame > 0
        is_slow = is_seek and not shows_draft and perf_counter() - began > SLOW_SECONDS
        self._send(_news(wish, "exact", wish.frame, picture, is_slow=is_slow))

    def _run_ahead(self, filling: "_Filling", wish: FrameWish) -> None:
        """Decode on to a frame of the range; what is passed on the way is made pictures of afterwards."""
        began = told = perf_counter()
        reader = filling.reader
        if reader.position is None and not reader.is_kept(wish.frame):
            reader.on_key = self._key_shower(reader, wish)
            reader.stop_when = lambda: self._is_overtaken
            with contextlib.suppress(DecodingStopped):
                reader.decode(filling.first)
            reader.stop_when = None
        while not reader.is_kept(wish.frame) and (at := reader.position) is not None and at < wish.frame:
            if filling.is_full:
                self._fill_one(filling)
            elif self._is_overtaken:
                # Something moves under a hand that goes on and on.
                self._send(_news(wish, "near", at, _picture(reader, at, wish)))
                return
            else:
                reader.decode(at + 1)
                if not wish.proxy and perf_counter() - told > _TELL_SECONDS:
                    self._send(_news(wish, "near", at + 1, _picture(reader, at + 1, wish)))
                    told = perf_counter()
        picture = _picture(reader, wish.frame, wish)
        if filling.is_same_size(wish):
            filling.leave_out(wish.frame)
        is_slow = perf_counter() - began > SLOW_SECONDS and wish.frame > 0 and not wish.proxy
        self._send(_news(wish, "exact", wish.frame, picture, is_slow=is_slow))

    def _key_shower(self, reader: FrameReader, wish: FrameWish) -> Callable[[int, "VideoFrame"], object]:
        """What shows a keyframe while the decoder is on its way from there."""

        def on_key(key: int, frame: "VideoFrame") -> None:
            reader.on_key = None
            if wish.proxy == 0 and wish.trained is None and wish.width and wish.frame - key >= _NEAR_FRAMES:
                self._send(_news(wish, "near", key, reader.picture(frame, wish.width, wish.height)))

        return on_key

    def _show_draft(self, wish: FrameWish) -> bool:
        """Show the proxy's picture, where there is one."""
        if not wish.proxy or wish.trained is not None:
            return False
        try:
            reader = self._draft.reader(self._sources[wish.proxy])
            picture = _picture(reader, wish.frame, wish)
        except _ERRORS:
            # A cache may be emptied at any time; the source is still there.
            self._draft.close()
            return False
        self._send(_news(wish, "draft", wish.frame, picture))
        return True

    def _rests(self) -> bool:
        """Whether no other wish comes within the time that a hand rests; the range is filled meanwhile."""
        end = perf_counter() + _REST_SECONDS
        while (left := end - perf_counter()) > 0:
            with self._changed:
                filling = self._filling if self._filling is not None and self._filling.todo else None
                if self._wish is None and not self._is_ending and filling is None:
                    self._changed.wait(left)
                if self._wish is not None or self._is_ending:
                    return False
            if filling is not None:
                self._fill_one(filling)
        return True


class _Opened:
    """A reader that stays open on the last video."""

    def __init__(self, cache_bytes: int, keep_back: int | None = None) -> None:
        self._cache_bytes = cache_bytes
        self._keep_back = keep_back
        self._reader: FrameReader | None = None

    def reader(self, source: SourceVideo) -> FrameReader:
        """The reader of this video."""
        if self._reader is None or self._reader.source != source:
            self.close()
            self._reader = FrameReader(source, self._cache_bytes, self._keep_back)
        return self._reader

    def close(self) -> None:
        """Close the video."""
        if self._reader is not None:
            self._reader.close()
        self._reader = None


class _Filling:
    """A range on its way."""

    def __init__(self, wish: RangeWish, reader: FrameReader) -> None:
        self.wish = wish
        self.reader = reader
        self.todo = deque(wish.frames)
        self.first = wish.frames[0]
        self._own = frozenset(wish.frames[: wish.own])
        self._sent: deque[int] = deque()

    def take(self) -> int:
        """The next frame to make a picture of."""
        return self.todo.popleft()

    def leave_out(self, frame: int) -> None:
        """Its picture has been sent."""
        if frame in self.todo:
            self.todo.remove(frame)
        self.has_sent(frame)

    def has_sent(self, frame: int) -> None:
        """A picture was sent; the decoded frame is forgotten after a while."""
        self._sent.append(frame)
        if len(self._sent) > _SENT_FRAMES:
            self.reader.forget(self._sent.popleft())

    def is_same_size(self, wish: FrameWish) -> bool:
        """Whether the wish's picture is the range's, too."""
        return (wish.width, wish.height, wish.trained) == (
            self.wish.width,
            self.wish.height,
            self.wish.trained,
        )

    def is_on_the_way(self, wish: FrameWish) -> bool:
        """Whether the reader that fills the range comes by a frame no later than another would after a seek."""
        order = self.wish
        if (wish.source, wish.trained) != (order.source, order.trained) or wish.frame not in self._own:
            return False
        if self.reader.is_kept(wish.frame):
            return True
        at, key = self.reader.position, self.reader.key_before(wish.frame)
        if at is None:
            return wish.frame == self.first or (key is not None and key <= self.first <= wish.frame)
        return at < wish.frame and (wish.frame - at <= STEP_FRAMES if key is None else key <= at)

    def is_close(self, wish: FrameWish) -> bool:
        """Whether the reader that fills the range has the frame, or will have it in a moment."""
        if (wish.source, wish.trained) != (self.wish.source, self.wish.trained):
            return False
        at = self.reader.position
        return self.reader.is_kept(wish.frame) or (at is not None and 0 < wish.frame - at < _NEAR_FRAMES)

    @property
    def is_full(self) -> bool:
        """Whether so many frames wait for their picture that the next would push the first ones out."""
        waits = bool(self.todo) and self.reader.is_kept(self.todo[0])
        return waits and self.reader.kept_bytes > 0.9 * self.reader.cache_bytes


def _picture(reader: FrameReader, frame: int, wish: FrameWish | RangeWish) -> Picture:
    if wish.trained is not None:
        return trained_picture(reader.read(frame), wish.trained)
    if wish.width > 0 and wish.height > 0:
        return reader.read_scaled(frame, wish.width, wish.height)
    return reader.read(frame)


def _news(
    wish: FrameWish | RangeWish, kind: PictureKind, frame: int, picture: Picture, *, is_slow: bool = False
) -> PictureNews:
    height, width = picture.shape[:2]
    pixels = np.ascontiguousarray(picture).tobytes()
    return PictureNews(wish.channel, kind, wish.number, frame, width, height, pixels, is_slow)
