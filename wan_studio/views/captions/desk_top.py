"""The right side of the page: the clip or a panel above, the caption and what it trains as below."""

from collections.abc import Callable

from PySide6.QtCore import Qt, Signal
from PySide6.QtGui import QResizeEvent
from PySide6.QtWidgets import QSplitter, QStackedWidget, QWidget

from wan_studio.bridge.workbench import Workbench
from wan_studio.domain.caption_words import Suggestion, WordsInUse
from wan_studio.domain.project import ProjectClip
from wan_studio.views.actions import tip_with_key
from wan_studio.views.captions.clip_side import ClipSide
from wan_studio.views.captions.completion import SuggestionStrip
from wan_studio.views.captions.editor import CaptionEditor
from wan_studio.views.captions.history_panel import HistoryPanel
from wan_studio.views.captions.outside_bar import OutsideBar
from wan_studio.views.captions.reading import ReadingPanel
from wan_studio.views.captions.replace_panel import ReplacePanel, Scope
from wan_studio.views.name_field import NameField
from wan_studio.views.widgets import Banner, ElidedLabel, button, column, label, row, set_role, tool_button

_SIZES = "captions.splitter"
_LOWER = 330
_LOWER_UNDER_A_LIST = 132
_PANEL_BELOW = 0.68
"""Of the height, where a panel takes the editor's place; at least the height below."""
_LEAST_PANEL_BELOW = 420


class DeskTop(QWidget):
    """Puts the parts together; the page says what they show.

    Signals:
        trigger_wanted: Insert `[trigger]` at the cursor.
        replace_wanted: Open the panel for many captions.
        history_wanted: Open the panel of earlier versions.
    """

    trigger_wanted = Signal()
    replace_wanted = Signal()
    history_wanted = Signal()

    def __init__(
        self,
        bench: Workbench,
        captions_in: Callable[[Scope], dict[str, str]],
        names: Callable[[], dict[str, str]],
    ) -> None:
        super().__init__()
        self._bench = bench
        self._words = WordsInUse()
        self._is_divided = False
        self._sizes: list[int] = []
        self.banner = Banner()
        self.outside = OutsideBar()
        self.clip = ClipSide()
        self.player = self.clip.player
        self.replace = ReplacePanel(captions_in, names)
        self.history = HistoryPanel()
        self._upper = QStackedWidget()
        for part in (self.clip, self.replace, self.history):
            self._upper.addWidget(part)
        self.editor = CaptionEditor()
        self.editor.setMinimumHeight(64)
        self.reading = ReadingPanel()
        self._strip = SuggestionStrip()
        self.editor.suggestions_changed.connect(self._on_suggestions)
        self._strip.word_chosen.connect(self.editor.accept)
        self.name = NameField()
        self.file = ElidedLabel("", "muted")
        self._said = label("", "muted")
        self._splitter = self._build_splitter()
        layout = column(self.banner, self.outside, self._splitter)
        layout.setStretch(2, 1)
        self.setLayout(layout)

    @property
    def shows_clip(self) -> bool:
        """Whether the clip is above and its editor below, and no panel."""
        return self._upper.currentWidget() is self.clip and self._lower.currentIndex() == 0

    @property
    def shows_history(self) -> bool:
        """Whether earlier versions, or a difference, are above."""
        return self._upper.currentWidget() is self.history

    def show_clip(self) -> None:
        """The clip above."""
        self._show_upper(self.clip)

    def show_replace(self) -> None:
        """The panel for many captions above."""
        self._show_upper(self.replace)

    def show_history(self) -> None:
        """The panel of versions above."""
        self._show_upper(self.history)

    def show_below(self, panel: QWidget) -> None:
        """The clip above, and a panel below in the editor's place."""
        if self._lower.indexOf(panel) < 0:
            self._lower.addWidget(panel)
        self._show_upper(self.clip)
        if self._lower.currentWidget() is not panel:
            self._sizes = self._splitter.sizes()
            self._lower.setCurrentWidget(panel)
        self._divide()

    def show_name(self, clip: ProjectClip, label: str) -> None:
        """Whose caption it is."""
        self.name.show_clip(clip, label)

    def show_file(self, path: str, note: str) -> None:
        """Where the caption is, and why it is not beside its clip."""
        self.file.set_text(note or path)
        self.file.setToolTip(f"{note}\n{path}" if note else path)
        set_role(self.file, "warn" if note else "muted")

    def show_saved(self, is_saved: bool) -> None:  # noqa: FBT001 - a slot
        """Whether everything is on disk."""
        self._said.setText("Saved" if is_saved else "Saving")

    def say(self, words: str) -> None:
        """A few words beside the clip's name."""
        self._said.setText(words)

    def show_words(self, words: WordsInUse) -> None:
        """Complete from these."""
        if words is not self._words:
            self._words = self.editor.words = words
            self._on_suggestions([])

    def resizeEvent(self, event: QResizeEvent) -> None:
        """What is new of the height goes to the clip, as long as the user did not divide it otherwise."""
        super().resizeEvent(event)
        if not self._is_divided or not self.shows_clip:
            self._divide()

    def _show_upper(self, part: QWidget) -> None:
        if self._upper.currentWidget() is part and self._lower.currentIndex() == 0:
            return
        if self.shows_clip:
            self._sizes = self._splitter.sizes()
        self._upper.setCurrentWidget(part)
        self._lower.setCurrentIndex(0)
        # Changes of many captions need the room; how this one trains does not matter meanwhile.
        for less in (self._strip, self.reading, self.file):
            less.setVisible(part is not self.replace)
        if part is self.clip and self._is_divided and self._sizes:
            self._splitter.setSizes(self._sizes)
        else:
            self._divide()

    def _divide(self) -> None:
        lower = _LOWER_UNDER_A_LIST if self._upper.currentWidget() is self.replace else _LOWER
        if self._lower.currentIndex() > 0:
            lower = max(_LEAST_PANEL_BELOW, round(_PANEL_BELOW * self._splitter.height()))
        self._splitter.setSizes([max(1, self._splitter.height() - lower), lower])

    def _on_divided(self) -> None:
        self._is_divided = self._is_divided or self.shows_clip

    def _build_splitter(self) -> QSplitter:
        trigger = button(
            "Insert [trigger]", self.trigger_wanted.emit, tip=tip_with_key("caption.trigger"), icon_name="tag"
        )
        replace = button(
            "Find and replace",
            self.replace_wanted.emit,
            tip=tip_with_key("caption.replace"),
            icon_name="magnifying-glass",
        )
        history = tool_button(
            tip_with_key("caption.history"), "clock-counter-clockwise", self.history_wanted.emit
        )
        play = tool_button("Play or pause the clip", "play", self.player.playback.toggle)
        head = row(self.name, self._said, play, history, trigger, replace)
        head.setStretch(0, 1)
        lower = QWidget()
        layout = column(head, self.editor, self._strip, self.reading, self.file)
        layout.setStretch(1, 1)
        lower.setLayout(layout)
        splitter = QSplitter(Qt.Orientation.Vertical)
        # The clip may be small, whatever the panels want that can take its place.
        self._upper.setMinimumHeight(120)
        splitter.addWidget(self._upper)
        self._lower = QStackedWidget()
        self._lower.addWidget(lower)
        splitter.addWidget(self._lower)
        splitter.splitterMoved.connect(self._on_divided)
        splitter.setChildrenCollapsible(False)
        saved = self._bench.settings.values.get(_SIZES, "").split(",")
        if len(saved) == 2 and all(part.isdigit() for part in saved):
            splitter.setSizes([int(part) for part in saved])
            self._is_divided = True
        return splitter

    def remember_sizes(self) -> None:
        """Remember how the user divided the page."""
        if self._is_divided and self.shows_clip:
            self._bench.remember_value(_SIZES, ",".join(map(str, self._splitter.sizes())))

    def _on_suggestions(self, suggestions: list[Suggestion]) -> None:
        if suggestions:
            self._strip.show_words("Tab types", suggestions)
        else:
            self._strip.show_words("Words in use", self._words.most_used())
