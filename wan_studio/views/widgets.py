"""Small parts that every page is made of: labels by role, buttons, cards, banners, empty states."""

from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Literal

from PySide6.QtCore import QSize, Qt, QUrl, Signal
from PySide6.QtGui import QDesktopServices, QFontMetrics, QResizeEvent
from PySide6.QtWidgets import (
    QAbstractButton,
    QFrame,
    QHBoxLayout,
    QLabel,
    QLayout,
    QPushButton,
    QScrollArea,
    QSizePolicy,
    QToolButton,
    QVBoxLayout,
    QWidget,
)

from wan_studio.views.theme import GRID, ToneName, icon, set_icon

LabelRole = Literal["title", "section", "strong", "body", "muted", "good", "warn", "bad", "accent"]
ButtonRole = Literal["plain", "primary", "link"]

_EMPTY_TEXT_WIDTH = 440


def label(text: str = "", role: LabelRole = "body", *, wrap: bool = False) -> QLabel:
    """A label in one of the page's roles."""
    made = QLabel(text)
    made.setProperty("role", role)
    made.setWordWrap(wrap)
    made.setTextFormat(Qt.TextFormat.PlainText)
    if wrap:
        made.setSizePolicy(QSizePolicy.Policy.Preferred, QSizePolicy.Policy.Minimum)
    return made


def set_role(widget: QWidget, role: str) -> None:
    """Change a widget's role and repaint it in that role's look."""
    if widget.property("role") != role:
        widget.setProperty("role", role)
        restyle(widget)


def restyle(widget: QWidget) -> None:
    """Let the style sheet see a changed property."""
    widget.style().unpolish(widget)
    widget.style().polish(widget)
    widget.update()


def button(
    text: str,
    on_click: Callable[[], object] | None = None,
    *,
    role: ButtonRole = "plain",
    icon_name: str = "",
    tip: str = "",
) -> QPushButton:
    """A button with a verb on it."""
    made = QPushButton(text)
    made.setProperty("role", role)
    made.setAccessibleName(text)
    made.setSizePolicy(QSizePolicy.Policy.Fixed, QSizePolicy.Policy.Fixed)
    if icon_name:
        set_icon(made, icon_name, {"primary": "on_accent", "link": "accent"}.get(role, "text"))  # type: ignore[arg-type]
    made.setIconSize(QSize(18, 18))
    if tip:
        made.setToolTip(tip)
    if on_click is not None:
        made.clicked.connect(lambda: on_click())
    if role == "link":
        made.setCursor(Qt.CursorShape.PointingHandCursor)
    return made


def tool_button(name: str, icon_name: str, on_click: Callable[[], object] | None = None) -> QToolButton:
    """A button with an icon alone; its name is its tooltip and what a screen reader says."""
    made = QToolButton()
    set_icon(made, icon_name)
    made.setIconSize(QSize(20, 20))
    made.setToolTip(name)
    made.setAccessibleName(name)
    if on_click is not None:
        made.clicked.connect(lambda: on_click())
    return made


def disable_with_reason(buttons: Iterable[QAbstractButton], reason: str) -> None:
    """Disable buttons, whose tooltips say why; enable them, with their own tooltips, when there is no reason."""
    for made in buttons:
        own = made.property("own_tip")
        if own is None:
            own = made.toolTip()
            made.setProperty("own_tip", own)
        made.setEnabled(not reason)
        made.setToolTip(reason or own)


def column(*parts: QWidget | QLayout, gap: int = GRID, margins: int = 0) -> QVBoxLayout:
    """A vertical layout of the given parts."""
    layout = QVBoxLayout()
    _fill(layout, parts, gap, margins)
    return layout


def row(*parts: QWidget | QLayout | None, gap: int = GRID, margins: int = 0) -> QHBoxLayout:
    """A horizontal layout; None is a stretch."""
    layout = QHBoxLayout()
    _fill(layout, parts, gap, margins)
    return layout


def _fill(
    layout: QVBoxLayout | QHBoxLayout, parts: tuple[QWidget | QLayout | None, ...], gap: int, margins: int
) -> None:
    layout.setSpacing(gap)
    layout.setContentsMargins(margins, margins, margins, margins)
    for part in parts:
        if part is None:
            layout.addStretch(1)
        elif isinstance(part, QLayout):
            layout.addLayout(part)
        else:
            layout.addWidget(part)


def card(*parts: QWidget | QLayout, gap: int = GRID, margins: int = 2 * GRID) -> QFrame:
    """A raised surface around things that belong together."""
    frame = QFrame()
    frame.setObjectName("card")
    frame.setLayout(column(*parts, gap=gap, margins=margins))
    return frame


def scrolled(content: QWidget, *, name: str) -> QScrollArea:
    """The content in an area that scrolls up and down when it must."""
    area = QScrollArea()
    area.setWidgetResizable(True)
    area.setHorizontalScrollBarPolicy(Qt.ScrollBarPolicy.ScrollBarAlwaysOff)
    area.setAccessibleName(name)
    area.setFocusPolicy(Qt.FocusPolicy.NoFocus)
    area.setWidget(content)
    return area


def readable(content: QWidget, width: int) -> QWidget:
    """The content at most `width` pixels wide, under the page's title: long lines are hard to read."""
    content.setMaximumWidth(width)
    holder = _Holder()
    layout = QHBoxLayout(holder)
    layout.setContentsMargins(0, 0, 0, 0)
    layout.addWidget(content, 100)
    layout.addStretch(1)
    return holder


class _Holder(QWidget):
    """As high as its lines are at its width.

    Qt's own least height is that of lines broken at the least width, and would scroll on into nothing.
    """

    def minimumSizeHint(self) -> QSize:
        hint = super().minimumSizeHint()
        return QSize(hint.width(), 0) if self.hasHeightForWidth() else hint


class ElidedLabel(QLabel):
    """One line that shortens itself in the middle; the whole text is its tooltip."""

    def __init__(self, text: str = "", role: LabelRole = "body") -> None:
        super().__init__()
        self.setProperty("role", role)
        self.setTextFormat(Qt.TextFormat.PlainText)
        self.setSizePolicy(QSizePolicy.Policy.Ignored, QSizePolicy.Policy.Fixed)
        self._whole = ""
        self.set_text(text)

    @property
    def whole_text(self) -> str:
        """The text before it was shortened."""
        return self._whole

    def set_text(self, text: str) -> None:
        """Show this text."""
        self._whole = text
        self.setAccessibleName(text)
        self._elide()

    def resizeEvent(self, event: QResizeEvent) -> None:
        """Shorten anew."""
        super().resizeEvent(event)
        self._elide()

    def minimumSizeHint(self) -> QSize:
        """Any width will do."""
        return QSize(2 * GRID, super().minimumSizeHint().height())

    def _elide(self) -> None:
        shown = QFontMetrics(self.font()).elidedText(
            self._whole, Qt.TextElideMode.ElideMiddle, max(self.width(), 1)
        )
        self.setText(shown)
        self.setToolTip(self._whole if shown != self._whole else "")


class IconLabel(QLabel):
    """A small icon that follows the scheme."""

    def __init__(self, icon_name: str, tone_name: ToneName = "text", pixels: int = 18) -> None:
        super().__init__()
        self._pixels = pixels
        self.setFixedSize(pixels, pixels)
        self.show_icon(icon_name, tone_name)

    def show_icon(self, icon_name: str, tone_name: ToneName) -> None:
        """Show another icon."""
        self.setProperty("icon_name", icon_name)
        self.setProperty("icon_tone", tone_name)
        self.setIcon(icon(icon_name, tone_name))

    def setIcon(self, drawn: object) -> None:  # noqa: N802 - the name by which the theme renews icons
        """Draw the icon."""
        self.setPixmap(drawn.pixmap(QSize(self._pixels, self._pixels)))  # type: ignore[attr-defined]


class Banner(QFrame):
    """An inline message with at most one button: what happened, and what to do.

    Signals:
        dismissed: The user closed it.
    """

    dismissed = Signal()

    def __init__(self) -> None:
        super().__init__()
        self.setObjectName("banner")
        self._icon = IconLabel("info", "accent", 20)
        self._message = label("", wrap=True)
        self._hint = label("", "muted", wrap=True)
        self._button = button("")
        self._on_click: Callable[[], object] | None = None
        self._button.clicked.connect(self._on_button_clicked)
        close = tool_button("Dismiss", "x", self.dismiss)
        texts = column(self._message, self._hint, gap=2)
        layout = row(self._icon, texts, self._button, close, gap=2 * GRID, margins=GRID + 4)
        layout.setStretch(1, 1)
        layout.setAlignment(self._icon, Qt.AlignmentFlag.AlignTop)
        layout.setAlignment(close, Qt.AlignmentFlag.AlignTop)
        self.setLayout(layout)
        self.hide()

    @property
    def text(self) -> str:
        """What it says now; empty while hidden."""
        return "" if self.isHidden() else f"{self._message.text()} {self._hint.text()}".strip()

    def show_message(
        self,
        message: str,
        hint: str = "",
        *,
        tone_name: ToneName = "accent",
        action: tuple[str, Callable[[], object]] | None = None,
    ) -> None:
        """Show a message; `action` is a button's text and what it does."""
        icons = {"bad": "x-circle", "warn": "warning", "good": "check-circle"}
        self._icon.show_icon(icons.get(tone_name, "info"), tone_name)
        self._message.setText(message)
        self._hint.setText(hint)
        self._hint.setVisible(bool(hint))
        self._button.setVisible(action is not None)
        self._on_click = None
        if action is not None:
            text, self._on_click = action
            self._button.setText(text)
            self._button.setAccessibleName(text)
        self.setAccessibleName(f"{message} {hint}".strip())
        self.show()

    def dismiss(self) -> None:
        """Hide it."""
        self.hide()
        self.dismissed.emit()

    def _on_button_clicked(self) -> None:
        if self._on_click is not None:
            self._on_click()


class EmptyState(QWidget):
    """What a page shows when it has nothing to show: why, and the button that changes it."""

    def __init__(self, icon_name: str, title: str, text: str, *buttons: QPushButton) -> None:
        super().__init__()
        self._title = label(title, "section")
        self._text = label(text, "muted", wrap=True)
        self._text.setAlignment(Qt.AlignmentFlag.AlignHCenter)
        self._text.setFixedWidth(_EMPTY_TEXT_WIDTH)
        layout = QVBoxLayout(self)
        layout.setSpacing(GRID)
        layout.addStretch(2)
        centre = Qt.AlignmentFlag.AlignHCenter
        layout.addWidget(IconLabel(icon_name, "muted", 48), 0, centre)
        layout.addSpacing(GRID)
        layout.addWidget(self._title, 0, centre)
        layout.addWidget(self._text, 0, centre)
        layout.addSpacing(GRID)
        layout.addLayout(row(None, *buttons, None))
        layout.addStretch(3)
        self.set_text(title, text)

    def set_text(self, title: str, text: str) -> None:
        """Say something else."""
        self._title.setText(title)
        self._text.setText(text)
        # A wrapped label that is centred in a layout does not ask for the height that its lines need.
        self._text.setMinimumHeight(self._text.heightForWidth(_EMPTY_TEXT_WIDTH))


class Expander(QWidget):
    """Content that is one click away; whether it is open is told to whoever remembers it.

    Signals:
        toggled: It was opened or closed. arg: bool
    """

    toggled = Signal(bool)

    def __init__(self, title: str, content: QWidget, *, is_open: bool = False) -> None:
        super().__init__()
        self._content = content
        self._button = button(title, role="link")
        self._button.setCheckable(True)
        self._button.setChecked(is_open)
        self._button.toggled.connect(self._on_toggled)
        self.setLayout(column(self._button, content))
        self._show(is_open=is_open)

    def set_open(self, is_open: bool) -> None:  # noqa: FBT001 - a setter, as Qt has them
        """Open or close it."""
        self._button.setChecked(is_open)

    def _on_toggled(self, is_open: bool) -> None:  # noqa: FBT001 - a slot
        self._show(is_open=is_open)
        self.toggled.emit(is_open)

    def _show(self, *, is_open: bool) -> None:
        set_icon(self._button, "caret-down" if is_open else "caret-right", "accent")
        self._content.setVisible(is_open)


def show_in_files(path: Path) -> None:
    """Open a folder, or the folder of a file, in the system's file manager."""
    QDesktopServices.openUrl(QUrl.fromLocalFile(str(path if path.is_dir() else path.parent)))
