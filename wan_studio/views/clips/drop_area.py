"""What the page shows while there is no clip: a field that takes files, and says so."""

from collections.abc import Callable

from PySide6.QtWidgets import QFrame, QVBoxLayout

from wan_studio.views.widgets import EmptyState, button, restyle


class DropArea(QFrame):
    """A dashed field; the window takes files everywhere, this one says so."""

    def __init__(self, add_folder: Callable[[], object], add_files: Callable[[], object]) -> None:
        super().__init__()
        self.setObjectName("drop")
        layout = QVBoxLayout(self)
        layout.addWidget(
            EmptyState(
                "film-strip",
                "Drop a folder of clips",
                "10 to 30 clips of 3 to 8 seconds are a good start. Captions are the .txt files beside them. "
                "Files are not copied or changed.",
                button("Add folder…", add_folder, icon_name="folder-plus"),
                button("Add clips…", add_files, icon_name="plus"),
            )
        )

    def show_drop(self, *, is_over: bool) -> None:
        """Show whether files are held over it."""
        self.setProperty("over", is_over)
        restyle(self)
