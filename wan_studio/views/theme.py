"""The look: Fusion with our own palette, light and dark, one accent, one icon family, an 8 px grid."""

from dataclasses import dataclass
from typing import Literal, Protocol

from PySide6.QtCore import QObject, Qt, Signal
from PySide6.QtGui import QColor, QFont, QFontDatabase, QGuiApplication, QIcon, QPalette
from PySide6.QtWidgets import QApplication

from trainer.protocol.job import Expert
from wan_studio.paths import resource
from wan_studio.views.icons import glyph_icon

GRID = 8
"""Pixels; every distance is a multiple of it, or half of it."""

ToneName = Literal[
    "text",
    "muted",
    "accent",
    "on_accent",
    "good",
    "warn",
    "bad",
    "high",
    "low",
    "weights",
    "trained",
    "activations",
    "overhead",
    "held",
]
Appearance = Literal["system", "light", "dark"]


@dataclass(frozen=True, slots=True)
class Tones:
    """The colours of one scheme, as `#rrggbb`; texts keep 4.5:1 on window and surface.

    The last ones fill areas that show what memory is taken for: they differ in lightness as well as in hue, and are
    none of the experts' colours.
    """

    window: str
    surface: str
    sunken: str
    line: str
    text: str
    muted: str
    accent: str
    on_accent: str
    accent_soft: str
    good: str
    warn: str
    bad: str
    high: str
    low: str
    video: str
    weights: str
    trained: str
    activations: str
    overhead: str
    held: str


LIGHT = Tones(
    window="#f5f6f8",
    surface="#ffffff",
    sunken="#e9ecf0",
    line="#d3d9e0",
    text="#1a1f25",
    muted="#586370",
    accent="#0f6f69",
    on_accent="#ffffff",
    accent_soft="#d8ecea",
    good="#1a7f4b",
    warn="#8a5a00",
    bad="#b8322a",
    high="#c2410c",
    low="#0068a8",
    video="#0e1114",
    weights="#0f6f69",
    trained="#8e5aa8",
    activations="#d6ac3c",
    overhead="#5c6874",
    held="#b9c1ca",
)
DARK = Tones(
    window="#15181c",
    surface="#1e2227",
    sunken="#101316",
    line="#343b43",
    text="#e7eaee",
    muted="#9da7b3",
    accent="#3fbdb0",
    on_accent="#062521",
    accent_soft="#17393a",
    good="#57c98b",
    warn="#e2b04a",
    bad="#ff8178",
    high="#f59542",
    low="#5ab4ea",
    video="#0b0d0f",
    weights="#2f9c92",
    trained="#a873c4",
    activations="#e0c161",
    overhead="#8b97a5",
    held="#4a535d",
)

# The first of these that is installed; the generic fallback of a bare Linux is wide and has no tabular figures.
_PREFERRED_FONTS = (
    "Inter",
    "Segoe UI",
    "Noto Sans",
    "Cantarell",
    "Ubuntu",
    "Noto Sans CJK JP",
    "DejaVu Sans",
)
_GENERIC_FONTS = frozenset({"Sans Serif", "Sans", "DejaVu Sans"})
_BODY_POINTS = 10.5


class _HasIcon(Protocol):
    def setIcon(self, icon: QIcon, /) -> None: ...  # noqa: N802 - Qt's name
    def setProperty(self, name: str, value: object, /) -> bool: ...  # noqa: N802 - Qt's name


def is_dark() -> bool:
    """Whether the dark scheme is on."""
    return QGuiApplication.palette().color(QPalette.ColorRole.Window).lightness() < 128


def tones() -> Tones:
    """The colours now in use."""
    return DARK if is_dark() else LIGHT


def tone(name: ToneName) -> QColor:
    """One colour by name."""
    return QColor(getattr(tones(), name))


def expert_tone(expert: Expert) -> QColor:
    """The colour that means this expert, everywhere."""
    return tone("high" if expert is Expert.HIGH else "low")


def expert_label(expert: Expert) -> str:
    """What users call this expert."""
    return "High noise" if expert is Expert.HIGH else "Low noise"


def icon(name: str, tone_name: ToneName = "text") -> QIcon:
    """An icon of the family (Phosphor) in one of our colours."""
    return glyph_icon(name, tone(tone_name))


def set_icon(target: _HasIcon, name: str, tone_name: ToneName = "text") -> None:
    """Give a button or action an icon that follows the scheme."""
    target.setProperty("icon_name", name)
    target.setProperty("icon_tone", tone_name)
    target.setIcon(icon(name, tone_name))


def numeric_font(points: float | None = None, *, bold: bool = False) -> QFont:
    """The body font with figures of equal width, for numbers that change."""
    font = QFont(QApplication.font())
    font.setFeature(QFont.Tag("tnum"), 1)
    if points is not None:
        font.setPointSizeF(points)
    if bold:
        font.setWeight(QFont.Weight.DemiBold)
    return font


def fixed_font() -> QFont:
    """The system's fixed-pitch font, for logs and paths."""
    font = QFontDatabase.systemFont(QFontDatabase.SystemFont.FixedFont)
    font.setPointSizeF(10.0)
    return font


class Theme(QObject):
    """Keeps the application's look in step with the system's scheme, or with the user's choice.

    Signals:
        changed: The colours are other ones now.
    """

    changed = Signal()

    def __init__(self, app: QApplication) -> None:
        super().__init__(app)
        self._app = app
        self._appearance: Appearance = "system"
        app.setStyle("Fusion")
        app.setFont(_body_font())
        app.styleHints().colorSchemeChanged.connect(self._on_scheme_changed)
        self._apply()

    @property
    def appearance(self) -> Appearance:
        """What the user chose."""
        return self._appearance

    def set_appearance(self, appearance: Appearance) -> None:
        """Follow the system, or stay light or dark."""
        self._appearance = appearance
        self._apply()

    def _on_scheme_changed(self) -> None:
        if self._appearance == "system":
            self._apply()

    def _apply(self) -> None:
        if self._appearance == "system":
            dark = self._app.styleHints().colorScheme() is Qt.ColorScheme.Dark
        else:
            dark = self._appearance == "dark"
        colours = DARK if dark else LIGHT
        self._app.setPalette(_palette(colours))
        self._app.setStyleSheet(_style_sheet(colours))
        for widget in self._app.allWidgets():
            # A box with a list measures itself anew under a new style sheet, but does not tell its layout.
            widget.updateGeometry()
            _renew_icon(widget)
            for action in widget.actions():
                _renew_icon(action)
        self.changed.emit()


def _renew_icon(target: QObject) -> None:
    name = target.property("icon_name")
    if isinstance(name, str):
        target.setIcon(icon(name, target.property("icon_tone")))  # type: ignore[attr-defined]


def _body_font() -> QFont:
    font = QFontDatabase.systemFont(QFontDatabase.SystemFont.GeneralFont)
    if font.family() in _GENERIC_FONTS:
        installed = set(QFontDatabase.families())
        font.setFamily(next((name for name in _PREFERRED_FONTS if name in installed), font.family()))
    font.setPointSizeF(max(_BODY_POINTS, font.pointSizeF()))
    return font


def _palette(colours: Tones) -> QPalette:
    role = QPalette.ColorRole
    palette = QPalette()
    for name, colour in {
        role.Window: colours.window,
        role.WindowText: colours.text,
        role.Base: colours.surface,
        role.AlternateBase: colours.sunken,
        role.Text: colours.text,
        role.Button: colours.surface,
        role.ButtonText: colours.text,
        role.BrightText: colours.bad,
        role.ToolTipBase: colours.surface,
        role.ToolTipText: colours.text,
        role.PlaceholderText: colours.muted,
        role.Highlight: colours.accent,
        role.HighlightedText: colours.on_accent,
        role.Accent: colours.accent,
        role.Link: colours.accent,
        role.Light: colours.surface,
        role.Midlight: colours.sunken,
        role.Mid: colours.line,
        role.Dark: colours.line,
    }.items():
        palette.setColor(name, QColor(colour))
    faded = QColor(colours.muted)
    faded.setAlpha(140)
    for name in (role.WindowText, role.Text, role.ButtonText):
        palette.setColor(QPalette.ColorGroup.Disabled, name, faded)
    return palette


def _style_sheet(c: Tones) -> str:
    images = resource("icons").as_posix()
    scheme = "dark" if c is DARK else "light"
    return f"""
    QToolTip {{ background: {c.surface}; color: {c.text}; border: 1px solid {c.line}; padding: 4px 8px; }}
    QMenuBar {{ background: {c.window}; padding: 2px 8px; }}
    QMenuBar::item {{ padding: 4px 8px; border-radius: 4px; }}
    QMenuBar::item:selected {{ background: {c.sunken}; }}
    QLabel[role="title"] {{ font-size: 17pt; font-weight: 600; }}
    QLabel[role="section"] {{ font-size: 11.5pt; font-weight: 600; }}
    QLabel[role="strong"] {{ font-weight: 600; }}
    QLabel[role="muted"] {{ color: {c.muted}; }}
    QLabel[role="good"] {{ color: {c.good}; }}
    QLabel[role="warn"] {{ color: {c.warn}; }}
    QLabel[role="bad"] {{ color: {c.bad}; }}
    QLabel[role="accent"] {{ color: {c.accent}; }}

    QPushButton {{ background: {c.surface}; border: 1px solid {c.line}; border-radius: 6px;
        padding: 6px 16px; min-height: 18px; }}
    QPushButton:hover {{ background: {c.sunken}; }}
    QPushButton:pressed {{ background: {c.line}; }}
    QPushButton:checked {{ background: {c.accent_soft}; border-color: {c.accent}; }}
    QPushButton:focus {{ border: 2px solid {c.accent}; padding: 5px 15px; }}
    QPushButton:disabled {{ color: {c.muted}; background: {c.window}; }}
    QPushButton[role="primary"] {{ background: {c.accent}; color: {c.on_accent}; border-color: {c.accent};
        font-weight: 600; }}
    QPushButton[role="primary"]:hover {{ background: {_mixed(c.accent, c.text, 0.12)}; }}
    QPushButton[role="primary"]:focus {{ border: 2px solid {c.text}; padding: 5px 15px; }}
    QPushButton[role="primary"]:disabled {{ background: {c.sunken}; color: {c.muted};
        border-color: {c.line}; }}
    QPushButton[role="link"] {{ background: transparent; border: none; color: {c.accent}; padding: 2px 4px;
        text-align: left; }}
    QPushButton[role="link"]:hover {{ text-decoration: underline; }}
    QPushButton[role="link"]:disabled {{ color: {c.muted}; text-decoration: none; }}
    QPushButton[role="link"]:focus {{ border: 1px solid {c.accent}; padding: 1px 3px; border-radius: 4px; }}
    QPushButton[chip="true"] {{ padding: 3px 10px; border-radius: 13px; min-height: 18px; }}
    QPushButton[chip="true"]:focus {{ padding: 2px 9px; }}
    QToolButton {{ background: transparent; border: 1px solid transparent; border-radius: 6px; padding: 5px; }}
    QToolButton:hover {{ background: {c.sunken}; }}
    QToolButton:focus {{ border-color: {c.accent}; }}
    QToolButton:checked {{ background: {c.accent_soft}; }}

    QAbstractScrollArea {{ border: none; }}
    QLineEdit, QPlainTextEdit {{ background: {c.surface}; border: 1px solid {c.line}; border-radius: 6px;
        padding: 5px 8px; selection-background-color: {c.accent}; selection-color: {c.on_accent}; }}
    QLineEdit {{ min-height: 20px; }}
    QLineEdit:focus, QPlainTextEdit:focus {{ border: 2px solid {c.accent}; padding: 4px 7px; }}
    QLineEdit[invalid="true"] {{ border: 2px solid {c.bad}; padding: 4px 7px; }}
    QComboBox {{ background: {c.surface}; border: 1px solid {c.line}; border-radius: 6px; padding: 5px 8px;
        min-height: 20px; }}
    QComboBox:focus {{ border: 2px solid {c.accent}; padding: 4px 7px; }}
    QComboBox::drop-down {{ border: none; width: 28px; }}
    QComboBox::down-arrow {{ image: url("{images}/caret_{scheme}.svg"); width: 16px; height: 16px; }}
    QComboBox QAbstractItemView {{ background: {c.surface}; border: 1px solid {c.line}; padding: 4px; }}
    QRadioButton, QCheckBox {{ spacing: 8px; }}
    QRadioButton::indicator {{ width: 14px; height: 14px; border-radius: 8px; border: 1px solid {c.muted};
        background: {c.surface}; }}
    QRadioButton::indicator:checked {{ width: 6px; height: 6px; border: 5px solid {c.accent}; }}
    QRadioButton:focus, QCheckBox:focus {{ color: {c.accent}; }}
    QCheckBox::indicator {{ width: 14px; height: 14px; border-radius: 4px; border: 1px solid {c.muted};
        background: {c.surface}; }}
    QCheckBox::indicator:checked {{ background: {c.accent}; border-color: {c.accent};
        image: url("{images}/check_{scheme}.svg"); }}
    QListView {{ background: transparent; border: none; outline: none; }}
    QListView::item {{ border-radius: 6px; padding: 6px 8px; color: {c.text}; }}
    QListView::item:hover {{ background: {c.sunken}; }}
    QListView::item:selected {{ background: {c.accent_soft}; color: {c.text}; }}
    QTableView {{ background: transparent; border: none; outline: none; selection-color: {c.text};
        selection-background-color: {c.accent_soft}; }}
    QTableView::item {{ padding: 0 8px; border: none; }}
    QTableView::item:selected {{ background: {c.accent_soft}; color: {c.text}; }}
    QHeaderView {{ background: transparent; border: none; }}
    QHeaderView::section {{ background: {c.window}; color: {c.muted}; border: none; padding: 6px 8px; }}
    QMenu {{ background: {c.surface}; border: 1px solid {c.line}; padding: 4px; }}
    QMenu::item {{ padding: 6px 24px 6px 12px; border-radius: 4px; }}
    QMenu::item:selected {{ background: {c.accent_soft}; color: {c.text}; }}
    QScrollArea, QScrollArea > QWidget > QWidget {{ background: transparent; }}
    QScrollBar:vertical {{ background: transparent; width: 12px; margin: 0; }}
    QScrollBar:horizontal {{ background: transparent; height: 12px; margin: 0; }}
    QScrollBar::handle {{ background: {c.line}; border-radius: 4px; margin: 2px; }}
    QScrollBar::handle:vertical {{ min-height: 32px; }}
    QScrollBar::handle:horizontal {{ min-width: 32px; }}
    QScrollBar::handle:hover {{ background: {c.muted}; }}
    QScrollBar::add-line, QScrollBar::sub-line {{ width: 0; height: 0; }}
    QScrollBar::add-page, QScrollBar::sub-page {{ background: transparent; }}
    QSplitter::handle {{ background: transparent; }}
    QProgressBar {{ background: {c.sunken}; border: none; border-radius: 4px; max-height: 8px;
        min-height: 8px; }}
    QProgressBar::chunk {{ background: {c.accent}; border-radius: 4px; }}

    QFrame#card {{ background: {c.surface}; border: none; border-radius: 8px; }}
    QFrame#choice {{ background: {c.surface}; border: 2px solid transparent; border-radius: 8px; }}
    QFrame#choice[chosen="true"] {{ border-color: {c.accent}; }}
    QFrame#banner {{ background: {c.surface}; border: none; border-radius: 8px; }}
    QWidget#rail {{ background: {c.sunken}; }}
    QWidget#strip {{ background: {c.sunken}; }}
    QFrame#drop {{ background: transparent; border: 2px dashed {c.line}; border-radius: 12px; }}
    QFrame#drop[over="true"] {{ border-color: {c.accent}; background: {c.accent_soft}; }}
    """


def _mixed(colour: str, other: str, share: float) -> str:
    first, second = QColor(colour), QColor(other)
    return QColor.fromRgbF(
        first.redF() * (1 - share) + second.redF() * share,
        first.greenF() * (1 - share) + second.greenF() * share,
        first.blueF() * (1 - share) + second.blueF() * share,
    ).name()
