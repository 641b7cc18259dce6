"""Shows `[trigger]` in a caption as the special word that it is, and words that are spelt wrong."""

import re
from collections.abc import Callable

from PySide6.QtGui import QColor, QFont, QSyntaxHighlighter, QTextCharFormat, QTextDocument

from wan_studio.domain.caption import TRIGGER_PLACEHOLDER
from wan_studio.domain.spelling import Spelt
from wan_studio.views.theme import tone, tones


class TriggerHighlighter(QSyntaxHighlighter):
    """Marks the placeholder, the trigger word itself, and wrong words.

    Attributes:
        wrong_in: Finds the wrong words of a line; None marks none.
        typing_at: Gives block and place of the cursor while a word is typed, which may become right; else None.
    """

    def __init__(self, document: QTextDocument) -> None:
        super().__init__(document)
        self._trigger = ""
        self.wrong_in: Callable[[str], list[Spelt]] | None = None
        self.typing_at: Callable[[], tuple[int, int] | None] = lambda: None
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
        self._mark_wrong(text)
        words = [TRIGGER_PLACEHOLDER, *([self._trigger] if self._trigger else [])]
        look = QTextCharFormat()
        look.setForeground(tone("accent"))
        look.setBackground(QColor(tones().accent_soft))
        look.setFontWeight(QFont.Weight.DemiBold)
        for found in re.finditer("|".join(re.escape(word) for word in words), text):
            self.setFormat(found.start(), found.end() - found.start(), look)

    def _mark_wrong(self, text: str) -> None:
        if self.wrong_in is None or not text:
            return
        look = QTextCharFormat()
        look.setUnderlineStyle(QTextCharFormat.UnderlineStyle.WaveUnderline)
        look.setUnderlineColor(tone("bad"))
        block, here = self.currentBlock().blockNumber(), self.typing_at()
        for spelt in self.wrong_in(text):
            if here is None or here[0] != block or here[1] != _units(text[: spelt.end]):
                start = _units(text[: spelt.start])
                self.setFormat(start, _units(text[: spelt.end]) - start, look)


def _units(text: str) -> int:
    """Length as Qt counts it: in units of UTF-16."""
    return len(text.encode("utf-16-le", "surrogatepass")) // 2
