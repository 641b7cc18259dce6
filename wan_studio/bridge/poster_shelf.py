"""The posters that are at hand: those that were looked at last."""

from collections import OrderedDict

from PySide6.QtGui import QImage, QPixmap

_POSTERS_KEPT = 400
"""Of 320 x 180 pixels each about 230 KB."""


class PosterShelf:
    """Posters by clip id, and which clips have none.

    Args:
        kept: So many are at hand.
    """

    def __init__(self, kept: int = _POSTERS_KEPT) -> None:
        self._kept = kept
        self._posters: OrderedDict[str, QPixmap] = OrderedDict()
        self._without: set[str] = set()

    def __contains__(self, clip_id: str) -> bool:
        return clip_id in self._posters

    def get(self, clip_id: str) -> QPixmap | None:
        """The poster, if it is at hand."""
        poster = self._posters.get(clip_id)
        if poster is not None:
            self._posters.move_to_end(clip_id)
        return poster

    def has_none(self, clip_id: str) -> bool:
        """Whether there is no use in asking for one."""
        return clip_id in self._without

    def put(self, clip_id: str, image: QImage | None) -> None:
        """Keep a poster, and let the one go that was not looked at for longest; no picture means none."""
        if image is None or image.isNull():
            self._without.add(clip_id)
            return
        self._posters[clip_id] = QPixmap.fromImage(image)
        while len(self._posters) > self._kept:
            self._posters.popitem(last=False)

    def drop(self, clip_id: str) -> None:
        """Forget what is known of a clip's poster; it may have one again."""
        self._posters.pop(clip_id, None)
        self._without.discard(clip_id)

    def clear(self) -> None:
        """Forget everything."""
        self._posters.clear()
        self._without.clear()
