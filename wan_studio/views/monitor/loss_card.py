"""The loss plot with its legend, the choice of what it shows, and how much it is smoothed."""

from PySide6.QtCore import QEvent, Qt
from PySide6.QtWidgets import QComboBox, QFrame, QHBoxLayout, QLabel, QSlider

from wan_studio.bridge.run_watcher import WatchedRun
from wan_studio.views.monitor.loss_plot import LossPlot, LossView
from wan_studio.views.theme import GRID, numeric_font
from wan_studio.views.widgets import column, label, row

_SLIDER_MOST = 99
_VIEWS: tuple[tuple[LossView, str], ...] = (("experts", "All timesteps"), ("bands", "By timestep"))


class LossCard(QFrame):
    """What is learnt, expert by expert or by parts of the noise scale."""

    def __init__(self) -> None:
        super().__init__()
        self.setObjectName("card")
        self.plot = LossPlot()
        self.view = QComboBox()
        self.view.setAccessibleName("What the loss plot shows")
        self.view.setToolTip(
            "By timestep: high timesteps are strong noise, where motion and layout are learnt; low ones detail."
        )
        for _, text in _VIEWS:
            self.view.addItem(text)
        self.view.currentIndexChanged.connect(self._on_view_chosen)
        slider = QSlider(Qt.Orientation.Horizontal)
        slider.setRange(0, _SLIDER_MOST)
        slider.setValue(90)
        slider.setFixedWidth(120)
        slider.setAccessibleName("Smoothing")
        slider.valueChanged.connect(self._on_smoothing)
        self._legend = QHBoxLayout()
        self._legend.setSpacing(2 * GRID)
        self._entries: list[QLabel] = []
        head = row(
            label("Loss", "section"), self.view, None, label("Smoothing", "muted"), slider, gap=2 * GRID
        )
        self._legend.addStretch(1)
        self.setLayout(column(head, self._legend, self.plot, margins=2 * GRID))

    def show_run(self, watched: WatchedRun) -> None:
        """Show a run's losses."""
        state = watched.state
        boundary = watched.job.multistage.boundary if watched.job is not None else None
        self.plot.show_losses(state.losses, state.validations, boundary)
        self._renew_legend()

    def changeEvent(self, event: QEvent) -> None:
        """The plot takes the scheme's colours."""
        super().changeEvent(event)
        if hasattr(self, "plot") and event.type() is QEvent.Type.PaletteChange:
            self.plot.restyle()
            self._renew_legend()

    def _on_view_chosen(self, at: int) -> None:
        self.plot.set_view(_VIEWS[at][0])
        self._renew_legend()

    def _on_smoothing(self, value: int) -> None:
        self.plot.set_smoothing(value / 100)
        self._renew_legend()

    def _renew_legend(self) -> None:
        legend = self.plot.legend
        while len(self._entries) < len(legend):
            words = label("")
            words.setTextFormat(Qt.TextFormat.RichText)
            words.setFont(numeric_font())
            self._legend.insertWidget(len(self._entries), words)
            self._entries.append(words)
        for at, words in enumerate(self._entries):
            words.setVisible(at < len(legend))
            if at < len(legend):
                entry = legend[at]
                mark = f'<span style="color: {entry.colour.name()};">{entry.mark}</span>'
                words.setText(f"{mark} {entry.name} <b>{entry.value:.4f}</b>")
