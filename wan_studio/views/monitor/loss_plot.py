"""The loss over the steps, smoothed, in the colours that mean the experts everywhere."""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
import pyqtgraph as pg
from PySide6.QtCore import QSize, Qt
from PySide6.QtGui import QColor

from trainer.protocol.events import ValidationDone
from trainer.protocol.job import Expert
from wan_studio.domain.loss_bands import TimestepBand, band_series, timestep_bands
from wan_studio.domain.run_state import LossPoint
from wan_studio.views.theme import expert_label, expert_tone, numeric_font, tone, tones

LossView = Literal["experts", "bands"]
_MOST_DOTS = 3000
_DASHES = (
    Qt.PenStyle.SolidLine,
    Qt.PenStyle.DashLine,
    Qt.PenStyle.DotLine,
    Qt.PenStyle.DashDotLine,
    Qt.PenStyle.DashDotDotLine,
)


@dataclass(frozen=True, slots=True)
class Series:
    """One line of the plot.

    Attributes:
        name: For the legend.
        dash: Tells lines apart beside the colour.
        is_measured: Few values that are drawn as they are, with a mark each; otherwise many, smoothed.
        has_dots: Whether the values themselves stand behind the smoothed line.
    """

    name: str
    colour: QColor
    steps: tuple[int, ...]
    values: tuple[float, ...]
    dash: Qt.PenStyle = Qt.PenStyle.SolidLine
    is_measured: bool = False
    has_dots: bool = False


@dataclass(frozen=True, slots=True)
class LegendEntry:
    """What a line is and where it stands now."""

    name: str
    colour: QColor
    value: float
    mark: str


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


_LEAST_HEIGHT = 124


class LossPlot(pg.PlotWidget):
    """Dots are single steps, lines their moving average, diamonds the loss on held-out clips."""

    def __init__(self) -> None:
        super().__init__()
        self.setAccessibleName("Loss over steps")
        self._losses: tuple[LossPoint, ...] = ()
        self._validations: tuple[ValidationDone, ...] = ()
        self._boundary: float | None = None
        self._view: LossView = "experts"
        self._weight = 0.9
        self._legend: tuple[LegendEntry, ...] = ()
        self.setMinimumHeight(_LEAST_HEIGHT)
        self.setMenuEnabled(False)
        self.hideButtons()
        item: Any = self.getPlotItem()
        item.setContentsMargins(0, 0, 8, 0)
        item.showGrid(x=False, y=True, alpha=0.15)
        item.getViewBox().setDefaultPadding(0.03)
        item.setMouseEnabled(x=True, y=False)
        for name in ("left", "bottom"):
            # Once, before the labels: later this call itself would scale the numbers, by a factor that nothing shows.
            item.getAxis(name).enableAutoSIPrefix(enable=False)
        self.restyle()

    def sizeHint(self) -> QSize:
        """No more than it needs: it takes what the rest of the page leaves, and never has the page scroll."""
        return QSize(2 * _LEAST_HEIGHT, _LEAST_HEIGHT)

    @property
    def legend(self) -> tuple[LegendEntry, ...]:
        """The lines that are drawn, in their order."""
        return self._legend

    def restyle(self) -> None:
        """Take the scheme's colours."""
        self.setBackground(QColor(tones().surface))
        item: Any = self.getPlotItem()
        for name in ("left", "bottom"):
            axis = item.getAxis(name)
            axis.setPen(QColor(tones().line))
            axis.setTextPen(tone("muted"))
            axis.setTickFont(numeric_font(9.5))
            axis.setStyle(tickLength=-4, hideOverlappingLabels=True)
        style = {"color": tones().muted, "font-size": "10pt"}
        self.setLabel("left", "Loss", **style)
        self.setLabel("bottom", "Step", **style)
        self._draw()

    def set_smoothing(self, weight: float) -> None:
        """How much the lines are smoothed, 0 to below 1."""
        self._weight = weight
        self._draw()

    def set_view(self, view: LossView) -> None:
        """One line an expert over all timesteps, or one line a band of timesteps."""
        self._view = view
        self._draw()

    def show_losses(
        self,
        losses: tuple[LossPoint, ...],
        validations: tuple[ValidationDone, ...] = (),
        boundary: float | None = None,
    ) -> None:
        """Show these losses.

        Args:
            losses: Of the steps.
            validations: Of the held-out clips.
            boundary: Noise level that divides the experts; None takes the model's.
        """
        is_same = losses is self._losses and validations is self._validations
        if not is_same or boundary != self._boundary:
            self._losses, self._validations, self._boundary = losses, validations, boundary
            self._draw()

    def _draw(self) -> None:
        item: Any = self.getPlotItem()
        item.clear()
        entries: list[LegendEntry] = []
        for series in self._band_lines() if self._view == "bands" else self._expert_lines():
            line = list(series.values) if series.is_measured else smoothed(series.values, self._weight)
            self._draw_series(series, line)
            mark = "◆" if series.is_measured else "●"
            entries.append(LegendEntry(series.name, series.colour, line[-1], mark))
        self._legend = tuple(entries)
        self.setAccessibleDescription(
            ", ".join(f"{entry.name} {entry.value:.4f}" for entry in entries) or "No steps yet"
        )

    def _draw_series(self, series: Series, line: list[float]) -> None:
        steps = np.array(series.steps, dtype=float)
        values = np.array(series.values, dtype=float)
        # No more dots than there are pixels: the plot stays quick over days of training.
        stride = 1 if series.is_measured else max(1, len(steps) // _MOST_DOTS)
        if series.has_dots:
            faint = QColor(series.colour)
            faint.setAlpha(70)
            good = np.isfinite(values)
            dots = pg.ScatterPlotItem(size=4, pen=None, brush=faint)
            dots.setData(steps[good][::stride], values[good][::stride])
            self.addItem(dots)
        drawn = pg.PlotDataItem(antialias=True)
        drawn.setPen(series.colour, width=1.5 if series.is_measured else 2.5, style=series.dash)
        if series.is_measured:
            drawn.setSymbol("d")
            drawn.setSymbolSize(9)
            drawn.setSymbolBrush(series.colour)
            drawn.setSymbolPen(QColor(tones().surface))
        drawn.setData(steps[::stride], np.array(line, dtype=float)[::stride])
        self.addItem(drawn)

    def _expert_lines(self) -> list[Series]:
        lines: list[Series] = []
        for expert in Expert:
            points = [point for point in self._losses if point.expert is expert]
            if points:
                lines.append(
                    Series(
                        expert_label(expert),
                        expert_tone(expert),
                        tuple(point.step for point in points),
                        tuple(point.loss for point in points),
                        has_dots=True,
                    )
                )
        for expert in Expert:
            measured = [done for done in self._validations if done.expert is expert]
            if measured:
                lines.append(
                    Series(
                        f"Held out, {expert_label(expert).lower()}",
                        expert_tone(expert),
                        tuple(done.step for done in measured),
                        tuple(done.loss for done in measured),
                        dash=Qt.PenStyle.DashLine,
                        is_measured=True,
                    )
                )
        kept = [(p.step, p.preservation_loss) for p in self._losses if p.preservation_loss is not None]
        if kept:
            steps, values = zip(*kept, strict=True)
            lines.append(Series("Preservation", tone("muted"), steps, values, dash=Qt.PenStyle.DotLine))
        return lines

    def _band_lines(self) -> list[Series]:
        bands = timestep_bands(self._boundary)
        return [
            Series(
                f"{found.band.lower:.0f} to {found.band.upper:.0f}",
                _band_colour(found.band, bands),
                found.steps,
                found.losses,
                dash=_DASHES[_place(found.band, bands) % len(_DASHES)],
            )
            for found in band_series(self._losses, bands)
            if found.steps
        ]


def _place(band: TimestepBand, bands: Sequence[TimestepBand]) -> int:
    """How many bands of the same expert lie between this one and the boundary."""
    own = [other for other in bands if other.expert is band.expert]
    return own.index(band) if band.expert is Expert.HIGH else len(own) - 1 - own.index(band)


def _band_colour(band: TimestepBand, bands: Sequence[TimestepBand]) -> QColor:
    """A shade of the colour of the band's expert: strongest next to the boundary."""
    most = sum(other.expert is band.expert for other in bands) - 1
    strength = 1.0 - 0.55 * _place(band, bands) / max(1, most)
    colour, ground = expert_tone(band.expert), QColor(tones().surface)
    return QColor.fromRgbF(
        *(
            strength * own_part + (1 - strength) * ground_part
            for own_part, ground_part in (
                (colour.redF(), ground.redF()),
                (colour.greenF(), ground.greenF()),
                (colour.blueF(), ground.blueF()),
            )
        )
    )
