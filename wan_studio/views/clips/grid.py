"""The clips as tiles."""

from PySide6.QtCore import QSize
from PySide6.QtWidgets import QAbstractItemView, QListView

from wan_studio.models.clip_view_model import ClipViewModel
from wan_studio.views.clip_list import ClipListView
from wan_studio.views.clips.delegate import TILE, ClipDelegate
from wan_studio.views.theme import GRID


class ClipGrid(ClipListView):
    """Tiles in rows; several can be chosen."""

    def __init__(self, model: ClipViewModel) -> None:
        super().__init__()
        self.setModel(model)
        self.setItemDelegate(ClipDelegate(self))
        self.setViewMode(QListView.ViewMode.IconMode)
        self.setResizeMode(QListView.ResizeMode.Adjust)
        self.setMovement(QListView.Movement.Static)
        self.setUniformItemSizes(True)
        self.setGridSize(QSize(TILE.width() + GRID // 2, TILE.height() + GRID // 2))
        self.setSelectionMode(QAbstractItemView.SelectionMode.ExtendedSelection)
        self.setVerticalScrollMode(QAbstractItemView.ScrollMode.ScrollPerPixel)
        self.setAccessibleName("Clips")
