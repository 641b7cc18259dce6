"""A small picture of where each expert trains on the noise scale."""

from PySide6.QtCore import QPointF, QRectF, QSize, Qt
from PySide6.QtGui import QColor, QPainter, QPaintEvent, QPen, QPolygonF
from PySide6.QtWidgets import QSizePolicy, QWidget

from wan_studio.domain.loss_bands import MODEL_BOUNDARY, MOST_TIMESTEP
from wan_studio.domain.project import Settings
from wan_studio.domain.timestep_density import ExpertTimesteps, expert_timesteps
from wan_studio.views.theme import expert_label, expert_tone, numeric_font, tone, tones

_BINS = 200
_HEIGHT = 112
_WORDS_HEIGHT = 20


class TimestepPlot(QWidget):
    """One hill an expert, each as high as the picture: how its own draws lie, not how many they are."""

    def __init__(self) -> None:
        super().__init__()
        self._experts: tuple[ExpertTimesteps, ...] = ()
        self._boundary = MODEL_BOUNDARY
        self.setMaximumWidth(480)
        self.setSizePolicy(QSizePolicy.Policy.Expanding, QSizePolicy.Policy.Fixed)
        self.setAccessibleName("Timestep distribution")

    def sizeHint(self) -> QSize:
        """As wide as the fields beside it."""
        return QSize(480, _HEIGHT)

    def show_settings(self, settings: Settings) -> None:
        """Draw what these settings mean."""
        experts = expert_timesteps(settings)
        boundary = settings.multistage.boundary
        self._boundary = MODEL_BOUNDARY if boundary is None else boundary
        if experts != self._experts:
            self._experts = experts
            self.setAccessibleDescription(
                ", ".join(
                    f"{expert_label(one.expert)} {one.lower * MOST_TIMESTEP:.0f} to {one.upper * MOST_TIMESTEP:.0f}"
                    for one in experts
                )
            )
        self.update()

    def paintEvent(self, event: QPaintEvent) -> None:
        """Draw the hills, the boundary and the scale."""
        del event
        painter = QPainter(self)
        painter.setRenderHint(QPainter.RenderHint.Antialiasing)
        painter.setFont(numeric_font(9.5))
        field = QRectF(self.rect()).adjusted(1, _WORDS_HEIGHT, -1, -_WORDS_HEIGHT)
        for one in self._experts:
            self._paint_hill(painter, field, one)
        painter.setPen(QPen(QColor(tones().line), 1))
        painter.drawLine(field.bottomLeft(), field.bottomRight())
        at = field.left() + self._boundary * field.width()
        painter.setPen(QPen(tone("muted"), 1, Qt.PenStyle.DashLine))
        painter.drawLine(QPointF(at, field.top() - 4), QPointF(at, field.bottom()))
        painter.setPen(tone("muted"))
        below = QRectF(field.left(), field.bottom() + 2, field.width(), _WORDS_HEIGHT - 2)
        painter.drawText(below, Qt.AlignmentFlag.AlignLeft, "0, clean")
        painter.drawText(below, Qt.AlignmentFlag.AlignRight, f"{MOST_TIMESTEP:.0f}, noise")
        name = f"boundary {self._boundary * MOST_TIMESTEP:.0f}"
        width = painter.fontMetrics().horizontalAdvance(name)
        left = min(max(0.0, at - width / 2), self.width() - width - 1)
        painter.drawText(QPointF(left, _WORDS_HEIGHT - 7), name)
        painter.end()

    def _paint_hill(self, painter: QPainter, field: QRectF, one: ExpertTimesteps) -> None:
        shares = one.shares(_BINS)
        most = max(shares)
        points = [QPointF(field.left() + one.lower * field.width(), field.bottom())]
        for at, share in enumerate(shares):
            if share > 0.0:
                height = field.height() * share / most
                for edge in (at, at + 1):
                    sigma = min(max(edge / _BINS, one.lower), one.upper)
                    points.append(QPointF(field.left() + sigma * field.width(), field.bottom() - height))
        points.append(QPointF(field.left() + one.upper * field.width(), field.bottom()))
        colour = expert_tone(one.expert)
        painter.setPen(QPen(colour, 1.5))
        colour.setAlpha(60)
        painter.setBrush(colour)
        painter.drawPolygon(QPolygonF(points))
