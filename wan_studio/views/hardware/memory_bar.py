"""A plan's memory as one stacked bar, its limit, and a legend with the figures."""

from collections.abc import Mapping

from PySide6.QtCore import QPointF, QRectF, QSize, Qt
from PySide6.QtGui import QBrush, QPainter, QPaintEvent, QPen
from PySide6.QtWidgets import QGridLayout, QLabel, QSizePolicy, QVBoxLayout, QWidget

from wan_studio.domain.plan_bars import Kind, MemoryBar
from wan_studio.views.theme import GRID, ToneName, numeric_font, tone
from wan_studio.views.widgets import label
from wan_studio.views.wording import gib

_TONES: dict[Kind, ToneName] = {
    Kind.WEIGHTS: "weights",
    Kind.TRAINED: "trained",
    Kind.ACTIVATIONS: "activations",
    Kind.OVERHEAD: "overhead",
}
_BAR_HEIGHT = 24
_LEGEND_WIDTHS = (196, 196, 196, 196)
"""So that the legends of two memories stand in the same columns, and figures that grow move nothing."""
_OTHERS, _LEFT, _HEADROOM = "Other programs", "Left free", "Head-room"


class MemoryBarView(QWidget):
    """One memory: what it is, what the plan takes of it, the bar, and the legend.

    Args:
        name: Of the memory, e.g. "VRAM".
        kinds: What a run takes of it, and its name; each has its place in the legend, so that nothing moves when a
            size is none.
    """

    def __init__(self, name: str, kinds: Mapping[Kind, str]) -> None:
        super().__init__()
        self._name = name
        self._title = label(name, "strong")
        self._title.setFont(numeric_font())
        self._words = label("", "muted")
        self._words.setFont(numeric_font())
        self._bar = _Bar(name)
        head = QGridLayout()
        head.setColumnMinimumWidth(0, 144)
        head.setColumnStretch(1, 1)
        head.addWidget(self._title, 0, 0)
        head.addWidget(self._words, 0, 1)
        self._legend = QGridLayout()
        self._legend.setHorizontalSpacing(GRID)
        self._legend.setVerticalSpacing(GRID // 2)
        self._entries: dict[str, _Entry] = {}
        self._kinds = dict(kinds)
        tones: dict[str, ToneName | None] = {text: _TONES[kind] for kind, text in kinds.items()}
        tones |= {_OTHERS: "held", _LEFT: None, _HEADROOM: "muted"}
        for at, (text, tone_name) in enumerate(tones.items()):
            entry = _Entry(text, tone_name, is_hatched=text == _HEADROOM)
            self._entries[text] = entry
            self._legend.addWidget(entry, at // 4, at % 4)
        for column, width in enumerate(_LEGEND_WIDTHS):
            self._legend.setColumnMinimumWidth(column, width)
            self._legend.setColumnStretch(column, 1)
        layout = QVBoxLayout(self)
        layout.setContentsMargins(0, 0, 0, 0)
        layout.setSpacing(GRID // 2)
        layout.addLayout(head)
        layout.addWidget(self._bar)
        layout.addLayout(self._legend)

    @property
    def words(self) -> str:
        """What stands beside the name."""
        return self._words.text()

    def show_bar(self, bar: MemoryBar, words: str) -> None:
        """Show this bar.

        Args:
            bar: What is held and taken.
            words: The peak and its phase.
        """
        self._title.setText(f"{self._name} {gib(bar.total)}")
        self._words.setText(words)
        self._bar.show_bar(bar)
        sizes = {self._kinds[segment.kind]: segment.size for segment in bar.segments}
        sizes |= {_OTHERS: bar.others, _LEFT: max(0, bar.left), _HEADROOM: bar.total - bar.limit}
        parts = {self._kinds[segment.kind]: segment.parts for segment in bar.segments}
        for text, entry in self._entries.items():
            entry.show_size(sizes.get(text, 0))
            details = "\n".join(f"{part}: {gib(size)}" for part, size in parts.get(text, ()))
            entry.setToolTip(details)
        told = ", ".join(f"{text} {gib(size)}" for text, size in sizes.items() if size)
        self._bar.setAccessibleDescription(f"{words}. {told}.")


class _Entry(QWidget):
    """A line of the legend: a patch of the colour, what it means, and its size."""

    def __init__(self, text: str, tone_name: ToneName | None, *, is_hatched: bool) -> None:
        super().__init__()
        self._text = text
        self._label: QLabel = label("", "muted")
        self._label.setFont(numeric_font())
        layout = QGridLayout(self)
        layout.setContentsMargins(0, 0, 0, 0)
        layout.setHorizontalSpacing(GRID)
        layout.addWidget(_Patch(tone_name, is_hatched=is_hatched), 0, 0)
        layout.addWidget(self._label, 0, 1)
        layout.setColumnStretch(1, 1)
        self.show_size(0)

    def show_size(self, size: int) -> None:
        self._label.setText(f"{self._text} {gib(size)}")


class _Patch(QWidget):
    def __init__(self, tone_name: ToneName | None, *, is_hatched: bool) -> None:
        super().__init__()
        self._tone_name: ToneName | None = tone_name
        self._is_hatched = is_hatched
        self.setFixedSize(12, 12)

    def paintEvent(self, event: QPaintEvent) -> None:
        """Draw it."""
        del event
        painter = QPainter(self)
        _fill(painter, QRectF(self.rect()), self._tone_name, is_hatched=self._is_hatched)
        painter.end()


class _Bar(QWidget):
    """The bar itself: others' share, the run's kinds, what is left, the limit and the head-room beyond it."""

    def __init__(self, name: str) -> None:
        super().__init__()
        self._bar: MemoryBar | None = None
        self.setAccessibleName(f"{name} by what it is taken for")
        self.setSizePolicy(QSizePolicy.Policy.Expanding, QSizePolicy.Policy.Fixed)

    def sizeHint(self) -> QSize:
        """As wide as there is room."""
        return QSize(320, _BAR_HEIGHT)

    def show_bar(self, bar: MemoryBar) -> None:
        if bar != self._bar:
            self._bar = bar
            self.update()

    def paintEvent(self, event: QPaintEvent) -> None:
        """Draw it."""
        del event
        if self._bar is None:
            return
        bar = self._bar
        painter = QPainter(self)
        painter.setRenderHint(QPainter.RenderHint.Antialiasing)
        field = QRectF(self.rect()).adjusted(0, 3, 0, -3)
        most = max(bar.total, bar.others + bar.taken, 1)

        def at(size: float) -> float:
            return field.left() + field.width() * size / most

        def part(start: float, end: float) -> QRectF:
            return QRectF(at(start), field.top(), max(0.0, at(end) - at(start)), field.height())

        _fill(painter, part(0, bar.total), None, is_hatched=False)
        _fill(painter, part(bar.limit, bar.total), "muted", is_hatched=True)
        filled = 0.0
        kinds: list[tuple[ToneName, int]] = [(_TONES[one.kind], one.size) for one in bar.segments]
        kinds.insert(0, ("held", bar.others))
        for tone_name, size in kinds:
            # A hair of the surface between neighbours tells them apart without their colours.
            _fill(painter, part(filled, filled + size).adjusted(0, 0, -1, 0), tone_name, is_hatched=False)
            filled += size
        is_over = filled > bar.limit
        if is_over:
            painter.setPen(QPen(tone("bad"), 2))
            painter.setBrush(Qt.BrushStyle.NoBrush)
            painter.drawRect(part(max(bar.limit, 0), filled).adjusted(1, 1, -1, -1))
        painter.setPen(QPen(tone("bad" if is_over else "text"), 2))
        painter.drawLine(QPointF(at(max(bar.limit, 0)), 0), QPointF(at(max(bar.limit, 0)), self.height()))
        painter.end()


def _fill(painter: QPainter, area: QRectF, tone_name: ToneName | None, *, is_hatched: bool) -> None:
    """Fill an area: with a colour, hatched, or as an empty trough."""
    if area.width() <= 0:
        return
    painter.setPen(Qt.PenStyle.NoPen)
    colour = tone(tone_name or "muted")
    if tone_name is None:
        colour.setAlpha(45)
    painter.setBrush(QBrush(colour, Qt.BrushStyle.BDiagPattern) if is_hatched else colour)
    painter.drawRect(area)
