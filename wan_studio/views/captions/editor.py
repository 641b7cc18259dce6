"""The prose editor of a caption: completes words in use, and leaves the window's keys to the window."""

from PySide6.QtCore import QEvent, QPoint, Qt, QTimer, Signal
from PySide6.QtGui import QContextMenuEvent, QKeyEvent, QKeySequence, QPainter, QPaintEvent, QTextCursor
from PySide6.QtWidgets import QPlainTextEdit

from wan_studio.bridge.spell_check import SpellCheck
from wan_studio.domain.caption_words import Suggestion, WordsInUse, word_before
from wan_studio.domain.checks import Step
from wan_studio.domain.spelling import Spelt
from wan_studio.views.actions import ACTIONS
from wan_studio.views.captions.highlighter import TriggerHighlighter
from wan_studio.views.captions.spell_menu import SpellMenu
from wan_studio.views.theme import tone

_PARAGRAPH = "\u2029"
_SUGGESTIONS = 6
_PHRASE_WORDS = 3


class CaptionEditor(QPlainTextEdit):
    """Text of one caption.

    Signals:
        edited: The user changed the text.
        suggestions_changed: Other words may be meant. arg: list of Suggestion, the first one is Tab's
        commit_wanted: What was typed must become an undo step now, e.g. before it is undone.
    """

    edited = Signal()
    suggestions_changed = Signal(object)
    commit_wanted = Signal()

    def __init__(self) -> None:
        super().__init__()
        self.setAccessibleName("Caption")
        self.setTabChangesFocus(True)
        # The window's undo stack is the one undo: over all clips, and over changes of many captions.
        self.setUndoRedoEnabled(False)
        self.words = WordsInUse()
        self.completes = True
        self._prefix = ""
        self._suggestions: list[Suggestion] = []
        self._is_setting = False
        self._typed_at: int | None = None
        self._text_before = ""
        self._highlighter = TriggerHighlighter(self.document())
        self._highlighter.typing_at = self._typing_at
        self._spelling: SpellCheck | None = None
        self._spell_menu: SpellMenu | None = None
        self._spelling_timer = QTimer(self)
        self._spelling_timer.setSingleShot(True)
        self._spelling_timer.timeout.connect(self._highlighter.rehighlight)
        self._undo_keys = [*QKeySequence.keyBindings(QKeySequence.StandardKey.Undo)]
        self._undo_keys += QKeySequence.keyBindings(QKeySequence.StandardKey.Redo)
        self._undo_keys += [QKeySequence("Ctrl+Z"), QKeySequence("Ctrl+Shift+Z"), QKeySequence("Ctrl+Y")]
        self._window_keys = [
            QKeySequence(key)
            for spec in ACTIONS
            if not spec.steps or Step.CAPTIONS in spec.steps
            for key in spec.keys
            if "Ctrl" in key
        ]
        self.textChanged.connect(self._on_text_changed)
        self.cursorPositionChanged.connect(self._on_cursor_moved)

    @property
    def text(self) -> str:
        """The text as it is, hard spaces and all: Qt's `toPlainText` would make them plain ones."""
        return self.document().toRawText().replace(_PARAGRAPH, "\n")

    @property
    def suggestion(self) -> str:
        """What Tab would type; empty for nothing."""
        return self._suggestions[0].text if self._suggestions else ""

    def set_text(self, text: str) -> None:
        """Show a text; the cursor stays where the texts begin to differ, or goes to the end."""
        old = self.text
        if text == old:
            return
        at = next(
            (i for i, (a, b) in enumerate(zip(old, text, strict=False)) if a != b), min(len(old), len(text))
        )
        self._is_setting = True
        self.setPlainText(text)
        self._is_setting = False
        cursor = self.textCursor()
        cursor.setPosition(_units(text[:at]))
        self.setTextCursor(cursor)
        self.dismiss()

    def show_text(self, text: str) -> None:
        """Show another caption; the cursor goes behind its last word."""
        self.set_text(text)
        cursor = self.textCursor()
        cursor.setPosition(_units(text.rstrip()))
        self.setTextCursor(cursor)
        self.dismiss()

    def set_trigger(self, trigger: str) -> None:
        """Mark this word, besides the placeholder."""
        self._highlighter.set_trigger(trigger)

    def use_spelling(self, spelling: SpellCheck, menu: SpellMenu) -> None:
        """Mark wrong words, and offer the menu for them."""
        self._spelling, self._spell_menu = spelling, menu
        # What is only shown, such as a guess at an encoding, cannot be mended.
        self._highlighter.wrong_in = lambda text: [] if self.isReadOnly() else spelling.wrong_in(text)
        # One pass for what is told together.
        spelling.judged.connect(lambda: self._spelling_timer.start(0))
        spelling.state_changed.connect(lambda: self._spelling_timer.start(0))

    def go_to_misspelt(self) -> bool:
        """Mark the next wrong word and open its menu; False when there is none."""
        text = self.text
        found = [] if self._spelling is None else self._spelling.wrong_in(text)
        if not found:
            return False
        here = self.textCursor().selectionEnd()
        spelt = next((one for one in found if _units(text[: one.start]) >= here), found[0])
        cursor = self.textCursor()
        cursor.setPosition(_units(text[: spelt.start]))
        cursor.setPosition(_units(text[: spelt.end]), QTextCursor.MoveMode.KeepAnchor)
        self.setTextCursor(cursor)
        self.setFocus()
        self.open_menu(self.cursorRect().bottomLeft())
        return True

    def open_menu(self, place: QPoint) -> None:
        """The menu of the caption, with what a wrong word at this place may mean."""
        menu = self.createStandardContextMenu()
        menu.setAttribute(Qt.WidgetAttribute.WA_DeleteOnClose)
        if self._spell_menu is not None:
            at = self._wrong_at(self.cursorForPosition(place).position())
            self._spell_menu.add_to(
                menu, "" if at is None else at.word, lambda text: self._replace_wrong(at, text)
            )
        menu.popup(self.viewport().mapToGlobal(place))

    def contextMenuEvent(self, event: QContextMenuEvent) -> None:
        """Open the menu where the pointer is, or at the cursor for the menu key."""
        is_key = event.reason() == QContextMenuEvent.Reason.Keyboard
        self.open_menu(self.cursorRect().bottomLeft() if is_key else event.pos())

    def accept(self, text: str = "") -> None:
        """Type a suggested word in the place of its beginning; without one, the first."""
        wanted = text or self.suggestion
        if not wanted or self.isReadOnly():
            return
        cursor = self.textCursor()
        begun = wanted[: len(self._prefix)].casefold() == self._prefix.casefold()
        prefix = self._prefix if begun else ""
        if not prefix and wanted.casefold().startswith(word_before(self._line_before()).casefold()):
            prefix = word_before(self._line_before())
        cursor.movePosition(QTextCursor.MoveOperation.Left, QTextCursor.MoveMode.KeepAnchor, len(prefix))
        # A sentence's first letter stays as it was typed.
        cursor.insertText(prefix[:1] + wanted[1:] if prefix else wanted)
        self.setTextCursor(cursor)
        self.dismiss()
        self.setFocus()

    def dismiss(self) -> None:
        """Suggest nothing until something is typed."""
        self._offer("", [])

    def event(self, event: QEvent) -> bool:
        """Tab takes the suggestion; keys of the window's actions are the window's."""
        if isinstance(event, QKeyEvent):
            keys = QKeySequence(event.keyCombination())
            if event.type() == QEvent.Type.ShortcutOverride:
                if keys in self._undo_keys:
                    self.commit_wanted.emit()
                if keys in self._undo_keys or keys in self._window_keys:
                    event.ignore()
                    return False
            elif event.type() == QEvent.Type.KeyPress and self._suggestions:
                if keys == QKeySequence("Tab"):
                    self.accept()
                    return True
                if event.key() == Qt.Key.Key_Escape:
                    self.dismiss()
                    return True
        return super().event(event)

    def changeEvent(self, event: QEvent) -> None:
        """The placeholder's colours follow the scheme."""
        super().changeEvent(event)
        if event.type() == QEvent.Type.StyleChange and hasattr(self, "_highlighter"):
            self._highlighter.recolour()

    def paintEvent(self, event: QPaintEvent) -> None:
        """Draw the rest of the suggestion in grey behind the cursor, where the line ends."""
        super().paintEvent(event)
        rest = self.suggestion[len(self._prefix) :]
        if not rest or not self.hasFocus() or not self.textCursor().atBlockEnd():
            return
        painter = QPainter(self.viewport())
        painter.setFont(self.font())
        painter.setPen(tone("muted"))
        place = self.cursorRect()
        room = self.viewport().width() - place.right()
        shown = self.fontMetrics().elidedText(rest, Qt.TextElideMode.ElideRight, room)
        painter.drawText(place.right(), place.top() + self.fontMetrics().ascent(), shown)
        painter.end()

    def _typing_at(self) -> tuple[int, int] | None:
        cursor = self.textCursor()
        return None if self._typed_at is None else (cursor.blockNumber(), cursor.positionInBlock())

    def _wrong_at(self, position: int) -> Spelt | None:
        """The wrong word at a place, in Qt's units."""
        text = self.text
        found = [] if self._spelling is None or self.isReadOnly() else self._spelling.wrong_in(text)
        spans = ((_units(text[: one.start]), _units(text[: one.end]), one) for one in found)
        return next((one for start, end, one in spans if start <= position <= end), None)

    def _replace_wrong(self, spelt: Spelt | None, text: str) -> None:
        whole = self.text
        if spelt is None or whole[spelt.start : spelt.end].replace("’", "'") != spelt.word:
            return
        cursor = self.textCursor()
        cursor.setPosition(_units(whole[: spelt.start]))
        cursor.setPosition(_units(whole[: spelt.end]), QTextCursor.MoveMode.KeepAnchor)
        cursor.insertText(text)
        self.setTextCursor(cursor)
        self.dismiss()
        self.commit_wanted.emit()

    def _line_before(self) -> str:
        cursor = self.textCursor()
        return cursor.block().text()[: cursor.positionInBlock()]

    def _on_text_changed(self) -> None:
        # Marking words counts as a change of the text for Qt.
        before, self._text_before = self._text_before, self.text
        if self._is_setting or before == self._text_before:
            return
        self._typed_at = self.textCursor().position()
        self._suggest()
        self.edited.emit()

    def _on_cursor_moved(self) -> None:
        if self._typed_at not in (None, self.textCursor().position()):
            # The word that was being typed is done, right or wrong.
            self._typed_at = None
            self._spelling_timer.start(0)
        if self._suggestions and not self._line_before().endswith(self._prefix):
            self.dismiss()

    def _suggest(self) -> None:
        before = self._line_before()
        after = self.textCursor().block().text()[len(before) :]
        if not self.completes or self.isReadOnly() or not word_before(before) or after[:1].isalnum():
            self._offer("", [])
            return
        words = before.split(" ")
        for count in range(_PHRASE_WORDS, 0, -1):
            prefix = " ".join(words[-count:]) if count > 1 else word_before(before)
            found = self.words.complete(prefix, _SUGGESTIONS) if len(words) >= count else []
            if found:
                self._offer(prefix, found)
                return
        self._offer("", [])

    def _offer(self, prefix: str, suggestions: list[Suggestion]) -> None:
        if suggestions == self._suggestions and prefix == self._prefix:
            return
        self._prefix, self._suggestions = prefix, suggestions
        self.suggestions_changed.emit(suggestions)
        self.viewport().update()


def _units(text: str) -> int:
    """Length as Qt counts it: in units of UTF-16."""
    return len(text.encode("utf-16-le", "surrogatepass")) // 2
