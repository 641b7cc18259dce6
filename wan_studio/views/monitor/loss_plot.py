"""The loss of each expert over the steps, smoothed, in the colours that mean the experts everywhere."""

import math
from collections.abc import Sequence
from typing import Any

import numpy as np
import pyqtgraph as pg
from PySide6.QtGui import QColor

from trainer.protocol.job import Expert
from wan_studio.domain.run_state import LossPoint
from wan_studio.views.theme import expert_label, expert_tone, numeric_font, tone, tones

_MOST_DOTS = 3000


def smoothed(values: Sequence[float], weight: float) -> list[float]:
    """Exponential moving average, unbiased at its start.

    Args:
        values: In their order; values that are not finite are passed over.
        weight: 0 changes nothing, near 1 smooths much.
    """
    average, total = 0.0, 0.0
    result: list[float] = []
    for value in values:
        if math.isfinite(value):
            average = weight * average + (1 - weight) * value
            total = weight * total + (1 - weight)
        result.append(average / total if total else math.nan)
    return result


class LossPlot(pg.PlotWidget):
    """Dots are single steps, lines their moving average."""

    def __init__(self) -> None:
        super().__init__()
        self.setAccessibleName("Loss over steps")
        self._losses: tuple[LossPoint, ...] = ()
        self._weight = 0.9
        self._dots: dict[Expert, pg.ScatterPlotItem] = {}
        self._lines: dict[Expert, pg.PlotDataItem] = {}
        self.setMenuEnabled(False)
        self.hideButtons()
        item: Any = self.getPlotItem()
        item.setContentsMargins(0, 0, 8, 0)
        item.showGrid(x=False, y=True, alpha=0.15)
        item.getViewBox().setDefaultPadding(0.03)
        item.setMouseEnabled(x=True, y=False)
        for expert in Expert:
            self._dots[expert] = pg.ScatterPlotItem(size=4, pen=None)
            self._lines[expert] = pg.PlotDataItem(antialias=True)
            self.addItem(self._dots[expert])
            self.addItem(self._lines[expert])
        self.restyle()

    def restyle(self) -> None:
        """Take the scheme's colours."""
        self.setBackground(QColor(tones().surface))
        item: Any = self.getPlotItem()
        for name in ("left", "bottom"):
            axis = item.getAxis(name)
            axis.setPen(QColor(tones().line))
            axis.setTextPen(tone("muted"))
            axis.enableAutoSIPrefix(enable=False)
            axis.setTickFont(numeric_font(9.5))
            axis.setStyle(tickLength=-4, hideOverlappingLabels=True)
        style = {"color": tones().muted, "font-size": "10pt"}
        self.setLabel("left", "Loss", **style)
        self.setLabel("bottom", "Step", **style)
        for expert in Expert:
            faint = QColor(expert_tone(expert))
            faint.setAlpha(70)
            self._dots[expert].setBrush(faint)
            self._lines[expert].setPen(expert_tone(expert), width=2.5)

    def set_smoothing(self, weight: float) -> None:
        """How much the lines are smoothed, 0 to below 1."""
        self._weight = weight
        self._draw()

    def show_losses(self, losses: tuple[LossPoint, ...]) -> None:
        """Show these losses."""
        if losses is not self._losses:
            self._losses = losses
            self._draw()

    def _draw(self) -> None:
        for expert in Expert:
            points = [point for point in self._losses if point.expert is expert]
            steps = np.array([point.step for point in points], dtype=float)
            values = np.array([point.loss for point in points], dtype=float)
            line = np.array(smoothed(values.tolist(), self._weight), dtype=float)
            # No more dots than there are pixels: the plot stays quick over days of training.
            stride = max(1, len(points) // _MOST_DOTS)
            good = np.isfinite(values)
            self._dots[expert].setData(steps[good][::stride], values[good][::stride])
            self._lines[expert].setData(steps[::stride], line[::stride])
        names = [expert_label(e) for e in Expert if any(p.expert is e for p in self._losses)]
        self.setAccessibleDescription(", ".join(names) or "No steps yet")
