"""The buckets of the clips as bars: how many train at which size and length; a click shows them."""

from PySide6.QtCore import QRect, QSize, Qt, Signal
from PySide6.QtGui import QColor, QPainter, QPaintEvent
from PySide6.QtWidgets import QAbstractButton, QSizePolicy, QWidget

from wan_studio.domain.bucket_histogram import BucketCount
from wan_studio.views.clips.flow import FlowLayout
from wan_studio.views.theme import GRID, icon, numeric_font, tone, tones
from wan_studio.views.widgets import button, label

_AT_FIRST = 6
_BAR = 48
_HEIGHT = 24


class BucketBars(QWidget):
    """One bar a bucket, the fullest first; many are behind a button.

    Signals:
        bucket_chosen: Its clips are to be shown. arg: BucketCount, None for all clips again
    """

    bucket_chosen = Signal(object)

    def __init__(self) -> None:
        super().__init__()
        self._buckets: list[BucketCount] = []
        self._shows_all = False
        self._marked = ""
        self.bars: list[BucketBar] = []
        self._more = button("", self._toggle_more, role="link")
        policy = QSizePolicy(QSizePolicy.Policy.Preferred, QSizePolicy.Policy.Minimum)
        policy.setHeightForWidth(True)
        self.setSizePolicy(policy)
        self._flow = FlowLayout()
        self._title = label("Buckets", "muted")
        self._title.setFixedHeight(_HEIGHT)
        self._flow.addWidget(self._title)
        self.setLayout(self._flow)
        self.hide()

    def show_buckets(self, buckets: list[BucketCount]) -> None:
        """Show these, the fullest first."""
        if buckets != self._buckets:
            self._buckets = buckets
            self._renew()

    def mark(self, query: str) -> None:
        """Show which bucket is looked at; empty for none."""
        self._marked = query
        for bar in self.bars:
            bar.setChecked(bar.bucket is not None and bar.bucket.query == query)

    def _renew(self) -> None:
        shown = self._buckets if self._shows_all else self._buckets[:_AT_FIRST]
        while len(self.bars) < len(shown):
            bar = BucketBar()
            bar.clicked.connect(lambda is_on, bar=bar: self.bucket_chosen.emit(bar.bucket if is_on else None))
            self.bars.append(bar)
            self._flow.removeWidget(self._more)
            self._flow.addWidget(bar)
            self._flow.addWidget(self._more)
        most = max((bucket.clips for bucket in self._buckets), default=1)
        for at, bar in enumerate(self.bars):
            bar.setVisible(at < len(shown))
            bar.show_bucket(shown[at] if at < len(shown) else None, most)
        left = len(self._buckets) - _AT_FIRST
        self._more.setVisible(left > 0)
        self._more.setText("Fewer" if self._shows_all else f"{left} more")
        self._more.setAccessibleName("Show fewer buckets" if self._shows_all else f"Show {left} more buckets")
        self.mark(self._marked)
        self.setVisible(bool(self._buckets))
        self.updateGeometry()

    def _toggle_more(self) -> None:
        self._shows_all = not self._shows_all
        self._renew()


class BucketBar(QAbstractButton):
    """A bar as long as its bucket is full, its size and its number of clips."""

    def __init__(self) -> None:
        super().__init__()
        self.bucket: BucketCount | None = None
        self._share = 0.0
        self.setCheckable(True)
        self.setFont(numeric_font(9.5))
        self.setFocusPolicy(Qt.FocusPolicy.StrongFocus)
        self.setCursor(Qt.CursorShape.PointingHandCursor)
        self.setSizePolicy(QSizePolicy.Policy.Fixed, QSizePolicy.Policy.Fixed)

    def show_bucket(self, bucket: BucketCount | None, most: int) -> None:
        """Show this one; `most` clips fill the bar."""
        self.bucket = bucket
        if bucket is None:
            return
        self._share = bucket.clips / most
        self.setText(f"{bucket.width} × {bucket.height} · {bucket.frames} f")
        self.setToolTip(bucket.text)
        self.setAccessibleName(bucket.text)
        self.updateGeometry()
        self.update()

    def sizeHint(self) -> QSize:
        """As wide as its words, its number and a full bar."""
        metrics = self.fontMetrics()
        number = str(self.bucket.clips) if self.bucket is not None else ""
        sign = 20 if self.bucket is not None and self.bucket.is_rare else 0
        words = metrics.horizontalAdvance(self.text()) + metrics.horizontalAdvance(number)
        return QSize(words + _BAR + sign + 4 * GRID, _HEIGHT)

    def paintEvent(self, event: QPaintEvent) -> None:  # noqa: ARG002
        """Draw it."""
        if self.bucket is None:
            return
        painter = QPainter(self)
        painter.setRenderHint(QPainter.RenderHint.Antialiasing)
        painter.setPen(tone("accent") if self.isChecked() or self.hasFocus() else Qt.PenStyle.NoPen)
        painter.setBrush(QColor(tones().accent_soft if self.isChecked() else tones().surface))
        painter.drawRoundedRect(self.rect().adjusted(0, 0, -1, -1), 6, 6)
        left = GRID
        if self.bucket.is_rare:
            icon("warning-circle", "warn").paint(painter, left, (self.height() - 15) // 2, 15, 15)
            left += 20
        metrics = painter.fontMetrics()
        middle = Qt.AlignmentFlag.AlignVCenter | Qt.AlignmentFlag.AlignLeft
        painter.setPen(tone("text"))
        words = metrics.horizontalAdvance(self.text())
        painter.drawText(QRect(left, 0, words + 2, self.height()), middle, self.text())
        left += words + GRID
        painter.setPen(Qt.PenStyle.NoPen)
        painter.setBrush(tone("warn" if self.bucket.is_rare else "accent"))
        painter.drawRoundedRect(left, self.height() // 2 - 4, max(3, round(self._share * _BAR)), 8, 2, 2)
        painter.setPen(tone("muted"))
        number = QRect(left + max(3, round(self._share * _BAR)) + GRID, 0, 60, self.height())
        painter.drawText(number, middle, str(self.bucket.clips))
