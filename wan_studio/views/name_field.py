"""A clip's name that can be changed where it stands: F2 or a double click, Enter keeps it, Escape does not."""

from PySide6.QtCore import QEvent, QObject, Qt, Signal
from PySide6.QtGui import QKeyEvent, QMouseEvent
from PySide6.QtWidgets import QLineEdit, QSizePolicy, QStackedWidget

from wan_studio.domain.project import ProjectClip
from wan_studio.views.widgets import ElidedLabel


class NameField(QStackedWidget):
    """Shows the name; while it is edited, a field.

    Signals:
        renamed: The user calls the clip so from now on; empty is the name of its file. arg: name
    """

    renamed = Signal(str)

    def __init__(self) -> None:
        super().__init__()
        self._clip: ProjectClip | None = None
        self._label = ElidedLabel("", "section")
        self.field = QLineEdit()
        self.field.setAccessibleName("Name of the clip")
        self.field.setMaxLength(120)
        self.field.editingFinished.connect(self._on_finished)
        self.field.installEventFilter(self)
        self.addWidget(self._label)
        self.addWidget(self.field)
        self.setSizePolicy(QSizePolicy.Policy.Expanding, QSizePolicy.Policy.Fixed)

    @property
    def whole_text(self) -> str:
        """What is shown."""
        return self._label.whole_text

    def show_clip(self, clip: ProjectClip, label: str = "") -> None:
        """Show a clip's name.

        Args:
            clip: Whose name it is.
            label: What is shown instead, such as the name with its range.
        """
        if self._clip is not None and clip.id != self._clip.id:
            self.setCurrentWidget(self._label)
        self._clip = clip
        self._label.set_text(label or clip.name)
        self._label.setToolTip(f"{clip.file_name}\nF2 renames the clip; the file keeps its name.")

    def show_words(self, words: str) -> None:
        """Show something that is no clip's name."""
        self._clip = None
        self.setCurrentWidget(self._label)
        self._label.set_text(words)

    def edit(self) -> None:
        """Let the user type another name."""
        if self._clip is None:
            return
        self.field.setText(self._clip.title)
        self.field.setPlaceholderText(self._clip.file_name)
        if not self._clip.title:
            self.field.setText(self._clip.file_name)
        self.setCurrentWidget(self.field)
        self.field.setFocus()
        self.field.selectAll()

    def mouseDoubleClickEvent(self, event: QMouseEvent) -> None:
        """Edit it."""
        event.accept()
        self.edit()

    def eventFilter(self, watched: QObject, event: QEvent) -> bool:
        """Escape leaves the name as it was."""
        if (
            not isinstance(event, QKeyEvent)
            or event.type() != QEvent.Type.KeyPress
            or watched is not self.field
        ):
            return super().eventFilter(watched, event)
        if event.key() != Qt.Key.Key_Escape:
            return False
        self.setCurrentWidget(self._label)
        self._give_focus_back()
        return True

    def _on_finished(self) -> None:
        clip = self._clip
        if self.currentWidget() is not self.field or clip is None:
            return
        name = " ".join(self.field.text().split())
        self.setCurrentWidget(self._label)
        self._give_focus_back()
        title = "" if name == clip.file_name else name
        if title != clip.title:
            self.renamed.emit(title)

    def _give_focus_back(self) -> None:
        if self.field.hasFocus():
            self.field.clearFocus()
