"""Words in use under the caption: what Tab would type comes first, a click types any of them."""

from PySide6.QtCore import Signal
from PySide6.QtWidgets import QHBoxLayout, QPushButton, QSizePolicy, QWidget

from wan_studio.domain.caption_words import Suggestion
from wan_studio.views.theme import GRID
from wan_studio.views.widgets import button, label

_HEIGHT = 28
_MOST = 8


class SuggestionStrip(QWidget):
    """One line of words; as many as fit.

    Signals:
        word_chosen: A word was clicked. arg: its text
    """

    word_chosen = Signal(str)

    def __init__(self) -> None:
        super().__init__()
        self.setFixedHeight(_HEIGHT)
        # Words that do not fit are cut off, and make nothing wider.
        self.setSizePolicy(QSizePolicy.Policy.Ignored, QSizePolicy.Policy.Fixed)
        self._title = label("", "muted")
        layout = QHBoxLayout(self)
        layout.setContentsMargins(0, 0, 0, 0)
        layout.setSpacing(GRID)
        layout.addWidget(self._title)
        self._buttons: list[QPushButton] = []
        for _ in range(_MOST):
            made = button("", role="link")
            made.clicked.connect(lambda _=False, one=made: self.word_chosen.emit(one.property("word")))
            # Typing goes on in the editor: Tab from there goes on to the next field.
            made.setFocusPolicy(made.focusPolicy().NoFocus)
            made.hide()
            self._buttons.append(made)
            layout.addWidget(made)
        layout.addStretch(1)
        self.show_words("Words in use", [])

    def show_words(self, title: str, words: list[Suggestion]) -> None:
        """Show other words."""
        self._title.setText(title if words else "")
        room = self.width() - self._title.sizeHint().width() - GRID
        for at, made in enumerate(self._buttons):
            if at >= len(words):
                made.hide()
                continue
            word = words[at]
            made.setText(f"{word.text} {word.uses}" if word.uses else word.text)
            made.setAccessibleName(f"{word.text}, in {word.uses} captions")
            made.setToolTip(
                f"In {word.uses} captions" if word.uses else "A camera move that no caption names yet"
            )
            made.setProperty("word", word.text)
            room -= made.sizeHint().width() + GRID
            made.setVisible(room >= 0)
