"""The last hour of a GPU in four small plots: VRAM, load, temperature, power."""

from dataclasses import dataclass
from typing import Any

import numpy as np
import pyqtgraph as pg
from PySide6.QtGui import QColor
from PySide6.QtWidgets import QGridLayout, QLabel, QVBoxLayout, QWidget

from wan_studio.domain.hardware import GpuSnapshot
from wan_studio.domain.hardware_history import HardwareHistory, Quantity
from wan_studio.domain.machine import GIB
from wan_studio.views.theme import GRID, numeric_font, tone, tones
from wan_studio.views.widgets import label

_HEIGHT = 128
_MINUTES = 60


@dataclass(frozen=True, slots=True)
class _Look:
    """How a quantity is drawn.

    Attributes:
        unit: Of the numbers on the axis.
        per: What one unit is of the kept values.
        least_top: The axis reaches at least here.
    """

    quantity: Quantity
    name: str
    unit: str
    per: float
    least_top: float


_LOOKS = (
    _Look(Quantity.VRAM_USED, "VRAM used", "GiB", GIB, 1.0),
    _Look(Quantity.UTILIZATION, "GPU load", "%", 1.0, 100.0),
    _Look(Quantity.TEMPERATURE, "Temperature", "°C", 1.0, 60.0),
    _Look(Quantity.POWER, "Power", "W", 1.0, 50.0),
)


class HistoryPlots(QWidget):
    """Draws only while it is seen."""

    def __init__(self, history: HardwareHistory) -> None:
        super().__init__()
        self._history = history
        self._plots = [_Plot(look) for look in _LOOKS]
        grid = QGridLayout(self)
        grid.setContentsMargins(0, 0, 0, 0)
        grid.setSpacing(2 * GRID)
        for at, plot in enumerate(self._plots):
            grid.addWidget(plot, at // 2, at % 2)

    def show_gpu(self, gpu: GpuSnapshot) -> None:
        """Draw what is known of this GPU."""
        if not self.isVisible():
            return
        tops = {Quantity.VRAM_USED: gpu.vram_total_bytes, Quantity.POWER: gpu.power_limit_watts}
        tops[Quantity.TEMPERATURE] = gpu.slowdown_celsius
        for plot in self._plots:
            series = self._history.series(gpu.uuid, plot.look.quantity)
            plot.show_values(series.seconds, series.values, tops.get(plot.look.quantity))

    def restyle(self) -> None:
        """Take the scheme's colours."""
        for plot in self._plots:
            plot.restyle()


class _Plot(QWidget):
    def __init__(self, look: _Look) -> None:
        super().__init__()
        self.look = look
        self._now: QLabel = label("", "body")
        self._now.setFont(numeric_font())
        self._plot = pg.PlotWidget()
        self._plot.setFixedHeight(_HEIGHT)
        self._plot.setAccessibleName(f"{look.name} over the last hour")
        self._plot.setMenuEnabled(False)
        self._plot.hideButtons()
        item: Any = self._plot.getPlotItem()
        item.setMouseEnabled(x=False, y=False)
        item.setContentsMargins(0, 4, 8, 0)
        item.showGrid(x=False, y=True, alpha=0.15)
        item.setXRange(-_MINUTES, 0, padding=0)
        for name in ("left", "bottom"):
            item.getAxis(name).enableAutoSIPrefix(enable=False)
        # As wide in all four, so that their times stand above each other.
        item.getAxis("left").setWidth(48)
        ticks = [(-minutes, f"{minutes} min ago") for minutes in (45, 30, 15)]
        item.getAxis("bottom").setTicks([ticks])
        self._curve = item.plot([], [])
        self._curve.setDownsampling(auto=True, method="peak")
        layout = QVBoxLayout(self)
        layout.setContentsMargins(0, 0, 0, 0)
        layout.setSpacing(2)
        layout.addWidget(self._now)
        layout.addWidget(self._plot)
        self.restyle()

    def show_values(self, seconds: list[float], values: list[float], top: float | None) -> None:
        if not seconds:
            return
        minutes = (np.array(seconds) - seconds[-1]) / 60
        numbers = np.array(values) / self.look.per
        self._curve.setData(minutes, numbers, connect="finite")
        known = numbers[np.isfinite(numbers)]
        highest = float(known.max()) if len(known) else 0.0
        most = max(self.look.least_top, highest, (top or 0) / self.look.per)
        item: Any = self._plot.getPlotItem()
        item.setYRange(0, most, padding=0.02)
        now = numbers[-1]
        words = f"{now:.1f}" if self.look.unit == "GiB" else f"{now:.0f}"
        told = f"{words} {self.look.unit}" if np.isfinite(now) else "not told by the driver"
        self._now.setText(f"{self.look.name}: {told}")
        self._plot.setAccessibleDescription(f"Now {told}, at most {highest:.0f} {self.look.unit}")

    def restyle(self) -> None:
        self._plot.setBackground(QColor(tones().surface))
        item: Any = self._plot.getPlotItem()
        for name in ("left", "bottom"):
            axis = item.getAxis(name)
            axis.setPen(QColor(tones().line))
            axis.setTextPen(tone("muted"))
            axis.setTickFont(numeric_font(9.5))
            axis.setStyle(tickLength=-4, hideOverlappingLabels=True)
        self._curve.setPen(pg.mkPen(tone("accent"), width=1.5))
