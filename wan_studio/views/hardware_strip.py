"""The line along the bottom of every page: GPU, memory, temperature, disk, alerts, and the run at work."""

from PySide6.QtCore import QSize, Qt, Signal
from PySide6.QtGui import QFontMetrics, QPainter, QPaintEvent, QResizeEvent
from PySide6.QtWidgets import QHBoxLayout, QSizePolicy, QWidget

from wan_studio.bridge.run_watcher import WatchedRun
from wan_studio.domain.hardware import DiskUse, HardwareSnapshot
from wan_studio.domain.hardware_alerts import Alert, AlertLevel
from wan_studio.domain.run_state import Outcome
from wan_studio.views.theme import GRID, numeric_font, set_icon, tone
from wan_studio.views.widgets import IconLabel, button, label
from wan_studio.views.wording import gigabytes, percent_done

# Longer texts are shortened in the middle; their tooltips have the whole.
_GPU_WIDTH, _ALERT_WIDTH, _RUN_WIDTH = 200, 260, 280


class Meter(QWidget):
    """A thin bar: how much of something is used."""

    def __init__(self, name: str, width: int = 96) -> None:
        super().__init__()
        self._share = 0.0
        self._name = name
        self.setAccessibleName(name)
        self.setFixedSize(QSize(width, 8))
        self.setSizePolicy(QSizePolicy.Policy.Fixed, QSizePolicy.Policy.Fixed)

    def set_share(self, share: float) -> None:
        """How much is used, 0..1."""
        self._share = min(max(share, 0.0), 1.0)
        self.setAccessibleDescription(f"{self._share:.0%} used")
        self.update()

    def paintEvent(self, event: QPaintEvent) -> None:  # noqa: ARG002
        """Draw the bar."""
        painter = QPainter(self)
        painter.setRenderHint(QPainter.RenderHint.Antialiasing)
        painter.setPen(Qt.PenStyle.NoPen)
        painter.setBrush(tone("muted").lighter(100))
        painter.setOpacity(0.25)
        painter.drawRoundedRect(self.rect(), 4, 4)
        painter.setOpacity(1.0)
        painter.setBrush(tone("bad" if self._share > 0.95 else "accent"))
        filled = self.rect()
        filled.setWidth(max(8, round(self.width() * self._share)) if self._share else 0)
        painter.drawRoundedRect(filled, 4, 4)


class HardwareStrip(QWidget):
    """Figures of this machine, refreshed once a second.

    Signals:
        run_clicked: The user wants to see the run at work.
        hardware_clicked: The user wants to know more of the machine.
    """

    run_clicked = Signal()
    hardware_clicked = Signal()

    def __init__(self) -> None:
        super().__init__()
        self.setObjectName("strip")
        self.setAttribute(Qt.WidgetAttribute.WA_StyledBackground)
        self.setAccessibleName("Hardware")
        self.setFixedHeight(36)
        figures = numeric_font()
        self._gpu = label("Looking at the hardware", "muted")
        self._vram_meter = Meter("GPU memory")
        self._vram = label("", "muted")
        self._ram_meter = Meter("Memory", 64)
        self._ram = label("", "muted")
        self._heat = label("", "muted")
        self._disk = label("", "muted")
        for part in (self._gpu, self._vram, self._ram, self._heat, self._disk):
            part.setFont(figures)
        self._run = button("", self.run_clicked.emit, role="link", tip="Show the run")
        self._alert = button("", self.hardware_clicked.emit, role="link", icon_name="warning")
        for part in (self._run, self._alert):
            part.setFont(figures)
        self._gpu_index = 0
        self._snapshot: HardwareSnapshot | None = None
        layout = QHBoxLayout(self)
        layout.setContentsMargins(2 * GRID, 0, 2 * GRID, 0)
        layout.setSpacing(GRID)
        self._gpu_icon = IconLabel("cpu", "muted", 16)
        for part in (self._gpu_icon, self._gpu, self._vram_meter, self._vram):
            layout.addWidget(part)
        layout.addSpacing(2 * GRID)
        for part in (self._ram_meter, self._ram):
            layout.addWidget(part)
        layout.addSpacing(2 * GRID)
        layout.addWidget(self._heat)
        layout.addSpacing(GRID)
        layout.addWidget(self._disk)
        layout.addStretch(1)
        layout.addWidget(self._alert)
        layout.addWidget(self._run)
        for part in (self._vram_meter, self._vram, self._ram_meter, self._heat, self._alert, self._run):
            part.hide()
        # What has something to show, in the order in which it gives way in a narrow window.
        self._is_wanted: dict[QWidget, bool] = {
            part: not part.isHidden()
            for part in (self._disk, self._ram_meter, self._ram, self._vram_meter, self._heat, self._vram)
        }

    def minimumSizeHint(self) -> QSize:
        """Any width will do: parts give way."""
        return QSize(8 * GRID, self.height())

    def resizeEvent(self, event: QResizeEvent) -> None:
        """Show as much as fits."""
        super().resizeEvent(event)
        self._fit()

    def set_gpu_index(self, index: int) -> None:
        """Show this GPU, the one that the project trains on; where there is no such, the first."""
        self._gpu_index = index
        if self._snapshot is not None:
            self.show_snapshot(self._snapshot)

    def show_snapshot(self, snapshot: HardwareSnapshot) -> None:
        """Show new figures."""
        self._snapshot = snapshot
        gpu = snapshot.gpu_or_first(self._gpu_index)
        words = gpu.words if gpu else snapshot.words
        name = gpu.label if gpu else "No NVIDIA GPU"
        self._gpu.setText(self._shortened(name, _GPU_WIDTH))
        self._gpu.setToolTip(f"{words.text} {words.hint}".strip() or name)
        total, used = (gpu.vram_total_bytes, gpu.vram_used_bytes) if gpu else (None, None)
        has_figures = total is not None and used is not None
        for part in (self._vram_meter, self._vram):
            self._is_wanted[part] = has_figures
        if gpu is not None and total is not None and used is not None:
            self._vram_meter.set_share(gpu.vram_share)
            self._vram.setText(f"VRAM {gigabytes(used, unit=False)} of {gigabytes(total)}")
        heat = gpu.temperature_celsius if gpu else None
        self._heat.setText(f"{heat} °C" if heat is not None else "")
        self._is_wanted[self._heat] = heat is not None
        used = snapshot.ram_total_bytes - snapshot.ram_available_bytes
        self._is_wanted[self._ram_meter] = True
        self._ram_meter.set_share(used / max(snapshot.ram_total_bytes, 1))
        self._ram.setText(f"RAM {gigabytes(used, unit=False)} of {gigabytes(snapshot.ram_total_bytes)}")
        free = snapshot.free_bytes_for(DiskUse.RUNS)
        self._disk.setText("" if free is None else f"Disk {gigabytes(free)} free")
        self._fit()

    def show_alerts(self, alerts: tuple[Alert, ...]) -> None:
        """Show the worst alert in a few words, and all of them in its tooltip."""
        self._alert.setVisible(bool(alerts))
        if not alerts:
            self._fit()
            return
        worst, more = alerts[0], len(alerts) - 1
        words = f"{worst.short}, {more} more" if more else worst.short
        self._alert.setText(self._shortened(words, _ALERT_WIDTH))
        told = "\n\n".join(f"{alert.text}\n{alert.hint}" for alert in alerts)
        self._alert.setToolTip(told)
        self._alert.setAccessibleName(words)
        self._alert.setAccessibleDescription(told)
        is_problem = worst.level is AlertLevel.PROBLEM
        set_icon(self._alert, "warning-octagon" if is_problem else "warning", "bad" if is_problem else "warn")
        self._fit()

    def show_run(self, watched: WatchedRun | None) -> None:
        """Show the run at work, or nothing."""
        is_shown = watched is not None and watched.is_running
        self._run.setVisible(is_shown)
        if watched is None or not is_shown:
            self._fit()
            return
        state = watched.state
        if watched.is_starting:
            text = "Starting"
        elif state.outcome is Outcome.PAUSED:
            text = f"Paused at step {state.step}"
        else:
            text = f"Training {percent_done(state)}"
        words = f"{watched.run.path.name}: {text}"
        self._run.setText(self._shortened(words, _RUN_WIDTH))
        self._run.setAccessibleName(words)
        self._fit()

    def _shortened(self, words: str, width: int) -> str:
        return QFontMetrics(self._gpu.font()).elidedText(words, Qt.TextElideMode.ElideMiddle, width)

    def _fit(self) -> None:
        layout = self.layout()
        assert layout is not None
        for part, is_wanted in self._is_wanted.items():
            part.setVisible(is_wanted)
        for part in self._is_wanted:
            layout.invalidate()
            if layout.sizeHint().width() <= self.width():
                return
            part.hide()
