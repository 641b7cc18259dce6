"""The line along the bottom of every page: GPU, memory, temperature, disk, and the run at work."""

from typing import TYPE_CHECKING

from PySide6.QtCore import QSize, Qt, Signal
from PySide6.QtGui import QPainter, QPaintEvent
from PySide6.QtWidgets import QHBoxLayout, QSizePolicy, QWidget

from wan_studio.bridge.run_watcher import WatchedRun
from wan_studio.domain.run_state import Outcome
from wan_studio.views.theme import GRID, numeric_font, tone
from wan_studio.views.widgets import IconLabel, button, label
from wan_studio.views.wording import gigabytes, percent_done

if TYPE_CHECKING:
    from wan_studio.services.hardware_probe import HardwareSnapshot


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
        self._run.setFont(figures)
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
        layout.addWidget(self._run)
        for part in (self._vram_meter, self._vram, self._ram_meter, self._heat, self._run):
            part.hide()

    def show_snapshot(self, snapshot: "HardwareSnapshot") -> None:
        """Show new figures."""
        gpu = snapshot.gpus[0] if snapshot.gpus else None
        self._gpu.setText(gpu.name if gpu else "No NVIDIA GPU")
        self._gpu.setToolTip("" if gpu else snapshot.gpu_problem)
        for part in (self._vram_meter, self._vram, self._heat):
            part.setVisible(gpu is not None)
        if gpu is not None:
            self._vram_meter.set_share(gpu.vram_used_bytes / max(gpu.vram_total_bytes, 1))
            self._vram.setText(
                f"VRAM {gigabytes(gpu.vram_used_bytes, unit=False)} of {gigabytes(gpu.vram_total_bytes)}"
            )
            heat = gpu.temperature_celsius
            self._heat.setText(f"{heat:.0f} °C" if heat is not None else "")
        used = snapshot.ram_total_bytes - snapshot.ram_available_bytes
        self._ram_meter.show()
        self._ram_meter.set_share(used / max(snapshot.ram_total_bytes, 1))
        self._ram.setText(f"RAM {gigabytes(used, unit=False)} of {gigabytes(snapshot.ram_total_bytes)}")
        self._disk.setText(f"Disk {gigabytes(snapshot.disk_free_bytes)} free")

    def show_run(self, watched: WatchedRun | None) -> None:
        """Show the run at work, or nothing."""
        is_shown = watched is not None and watched.is_running
        self._run.setVisible(is_shown)
        if watched is None or not is_shown:
            return
        state = watched.state
        if watched.is_starting:
            text = "Starting"
        elif state.outcome is Outcome.PAUSED:
            text = f"Paused at step {state.step}"
        else:
            text = f"Training {percent_done(state)}"
        self._run.setText(f"{watched.run.path.name}: {text}")
        self._run.setAccessibleName(self._run.text())
