"""The clips as tiles; the pointer, moved across a tile, looks through its clip."""

from PySide6.QtCore import QEvent, QSize, QTimer
from PySide6.QtGui import QMouseEvent
from PySide6.QtWidgets import QAbstractItemView, QListView

from wan_studio.models.clip_list_model import ClipRole
from wan_studio.models.clip_view_model import ClipViewModel
from wan_studio.views.clip_list import ClipListView
from wan_studio.views.clips.delegate import TILE, ClipDelegate, Scrub
from wan_studio.views.theme import GRID

_DWELL_MILLISECONDS = 90
"""A pointer that only passes over a tile asks for nothing."""


class ClipGrid(ClipListView):
    """Tiles in rows; several can be chosen."""

    def __init__(self, model: ClipViewModel) -> None:
        super().__init__()
        self.setModel(model)
        self._delegate = ClipDelegate(self)
        self.setItemDelegate(self._delegate)
        self.setViewMode(QListView.ViewMode.IconMode)
        self.setResizeMode(QListView.ResizeMode.Adjust)
        self.setMovement(QListView.Movement.Static)
        self.setUniformItemSizes(True)
        self.setGridSize(QSize(TILE.width() + GRID // 2, TILE.height() + GRID // 2))
        self.setSelectionMode(QAbstractItemView.SelectionMode.ExtendedSelection)
        self.setVerticalScrollMode(QAbstractItemView.ScrollMode.ScrollPerPixel)
        self.setAccessibleName("Clips")
        self.setMouseTracking(True)
        self._clips = model
        self._under = ""
        self._place = 0.0
        self._dwell = QTimer(self)
        self._dwell.setSingleShot(True)
        self._dwell.setInterval(_DWELL_MILLISECONDS)
        self._dwell.timeout.connect(self._scrub)
        self.verticalScrollBar().valueChanged.connect(lambda _: self._stop_scrubbing())

    def mouseMoveEvent(self, event: QMouseEvent) -> None:
        """Look at another moment of the clip under the pointer."""
        super().mouseMoveEvent(event)
        place = event.position().toPoint()
        index = self.indexAt(place)
        if not index.isValid() or event.buttons():
            self._stop_scrubbing()
            return
        box = self.visualRect(index)
        self._place = min(max((place.x() - box.left()) / max(box.width(), 1), 0.0), 0.999)
        clip_id = str(index.data(ClipRole.ID))
        if clip_id == self._under:
            if self._delegate.scrub is not None:
                self._scrub()
            return
        self._stop_scrubbing()
        self._under = clip_id
        self._dwell.start()

    def leaveEvent(self, event: QEvent) -> None:
        """Show the poster again."""
        super().leaveEvent(event)
        self._stop_scrubbing()

    def _scrub(self) -> None:
        self._delegate.scrub = Scrub(self._under, self._place)
        self._redraw(self._under)

    def _stop_scrubbing(self) -> None:
        self._dwell.stop()
        was, self._delegate.scrub, self._under = self._delegate.scrub, None, ""
        if was is not None:
            self._redraw(was.clip_id)

    def _redraw(self, clip_id: str) -> None:
        row = self._clips.row_of(clip_id)
        if row >= 0:
            self.update(self._clips.index(row, 0))
