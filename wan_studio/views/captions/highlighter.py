"""Shows `[trigger]` in a caption as the special word that it is."""

import re

from PySide6.QtGui import QColor, QFont, QSyntaxHighlighter, QTextCharFormat, QTextDocument

from wan_studio.domain.caption import TRIGGER_PLACEHOLDER
from wan_studio.views.theme import tone, tones


class TriggerHighlighter(QSyntaxHighlighter):
    """Marks the placeholder, and the trigger word itself."""

    def __init__(self, document: QTextDocument) -> None:
        super().__init__(document)
        self._trigger = ""
        self._drawn_with = tones()

    def recolour(self) -> None:
        """Take the scheme's colours, when they are others now."""
        if tones() is not self._drawn_with:
            self._drawn_with = tones()
            self.rehighlight()

    def set_trigger(self, trigger: str) -> None:
        """Mark this word too."""
        if trigger != self._trigger:
            self._trigger = trigger
            self.rehighlight()

    def highlightBlock(self, text: str) -> None:  # noqa: N802 - Qt's name
        """Mark one line."""
        words = [TRIGGER_PLACEHOLDER, *([self._trigger] if self._trigger else [])]
        look = QTextCharFormat()
        look.setForeground(tone("accent"))
        look.setBackground(QColor(tones().accent_soft))
        look.setFontWeight(QFont.Weight.DemiBold)
        for found in re.finditer("|".join(re.escape(word) for word in words), text):
            self.setFormat(found.start(), found.end() - found.start(), look)
