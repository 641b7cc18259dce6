"""This machine: its GPU in figures or why there is none, RAM and disk, and which GPUs train."""

import msgspec
from PySide6.QtCore import Signal
from PySide6.QtWidgets import QGridLayout, QLabel, QVBoxLayout, QWidget

from wan_studio.bridge.workbench import Workbench
from wan_studio.domain.hardware import GpuSnapshot, HardwareSnapshot
from wan_studio.domain.project import Settings
from wan_studio.services.preset_store import settings_for
from wan_studio.undo.edits import edit_project
from wan_studio.views.hardware.gpu_fields import GPU_FIELDS
from wan_studio.views.hardware.manual_card_row import ManualCardRow
from wan_studio.views.hardware_strip import Meter
from wan_studio.views.theme import GRID, numeric_font
from wan_studio.views.training.fields import SettingRow
from wan_studio.views.training.specs import FieldSpec
from wan_studio.views.widgets import Expander, IconLabel, card, label, row
from wan_studio.views.wording import gib

_NOT_TOLD = "not told by the driver"
_NAMES = (("VRAM", "RAM", "Disk"), ("GPU load", "Heat", "Power"))
_OF_THE_GPU = ("VRAM", "GPU load", "Heat", "Power")
_EXPANDER = "hardware.gpus"


class GpuCard(QWidget):
    """The machine, and the GPUs of it that train.

    Signals:
        problem_changed: A field of the GPUs is wrong now, or right again.
    """

    problem_changed = Signal()

    def __init__(self, bench: Workbench) -> None:
        super().__init__()
        self.bench = bench
        self.session = bench.session
        layout = QVBoxLayout(self)
        layout.setContentsMargins(0, 0, 0, 0)
        layout.addWidget(self._build())

    @property
    def gpu_rows(self) -> list[SettingRow]:
        """The fields of the GPUs that train."""
        return self._gpu_rows

    @property
    def name(self) -> str:
        """What the card is headed with."""
        return self._name.text()

    @property
    def words(self) -> str:
        """What is said under the name."""
        return self._text.text()

    def show_snapshot(self, snapshot: HardwareSnapshot, gpu: GpuSnapshot | None) -> None:
        """Show the machine as it is now.

        Args:
            snapshot: The machine.
            gpu: The one that the project trains on; None where there is none.
        """
        is_usable = gpu is not None and gpu.is_ready
        self._icon.show_icon("cpu" if is_usable else "warning-circle", "accent" if is_usable else "warn")
        self._name.setText(gpu.label if gpu else "No NVIDIA GPU")
        self._text.setText(_words(snapshot, gpu))
        hint = _hint(snapshot, gpu)
        index = self.session.project.settings.job.gpu if self.session.is_open else 0
        if gpu is not None and gpu.index != index:
            hint = (
                f"The project trains on GPU {index}, and this machine has none of that number. {hint}".strip()
            )
        self._hint.setText(hint)
        self._hint.setVisible(bool(hint))
        self._show_gpu_figures(gpu if is_usable else None)
        total = max(snapshot.ram_total_bytes, 1)
        free = snapshot.ram_available_bytes
        self._show_figure("RAM", 1 - free / total, f"{gib(free, unit=False)} of {gib(total)} free")
        disk = snapshot.disk_free_bytes
        self._show_figure("Disk", None, f"{gib(disk)} free for projects" if disk else "not known")
        self._manual.set_has_gpu(is_usable and gpu is not None and gpu.vram_total_bytes is not None)
        self._gpu_list.setText(
            "\n".join(f"{one.index}: {one.label}, {gib(one.vram_total_bytes or 0)}" for one in snapshot.gpus)
        )
        self._gpu_list.setVisible(len(snapshot.gpus) > 1)

    def renew(self) -> None:
        """Show the project's GPUs, and the card that is planned for."""
        project = self.session.project
        preset = settings_for(project.goal, project.settings.model.base)
        for made in self._gpu_rows:
            made.show_value(project.settings, preset)
            made.setVisible(made.spec.is_shown_in(project.settings))
        self._manual.show_card(self.bench.plans.manual_card)

    def show_gpus(self, *, is_shown: bool) -> None:
        """The miniature on a CPU has no GPU to choose; a job for another machine has."""
        self._gpus.setVisible(is_shown)

    def _build(self) -> QWidget:
        self._icon = IconLabel("cpu", "accent", 24)
        self._name = label("Looking at the hardware", "section")
        self._text = label("", "muted", wrap=True)
        self._hint = label("", wrap=True)
        self._hint.hide()
        self._manual = ManualCardRow()
        self._manual.chosen.connect(self.bench.plans.set_manual_card)
        head = row(self._icon, self._name, None)
        return card(
            head,
            self._text,
            self._hint,
            self._build_figures(),
            self._manual,
            self._build_gpus(),
            gap=GRID + 4,
        )

    def _build_figures(self) -> QGridLayout:
        grid = QGridLayout()
        grid.setHorizontalSpacing(2 * GRID)
        grid.setVerticalSpacing(GRID)
        self._labels: dict[str, QLabel] = {}
        self._meters: dict[str, Meter] = {}
        self._figures: dict[str, QLabel] = {}
        for side, names in enumerate(_NAMES):
            for at, name in enumerate(names):
                words, meter, figure = label(name, "muted"), Meter(name, 96), label("", "body")
                figure.setFont(numeric_font())
                for column, part in enumerate((words, meter, figure)):
                    grid.addWidget(part, at, 3 * side + column)
                self._labels[name], self._meters[name], self._figures[name] = words, meter, figure
            grid.setColumnMinimumWidth(3 * side, 64)
            grid.setColumnStretch(3 * side + 2, 1)
        return grid

    def _build_gpus(self) -> QWidget:
        self._gpu_rows = [SettingRow(spec, lambda: self.session.project.settings) for spec in GPU_FIELDS]
        for made in self._gpu_rows:
            made.edited.connect(self._on_edited)
            made.problem_changed.connect(self.problem_changed)
        self._gpu_list = label("", "muted", wrap=True)
        fields = card(self._gpu_list, *self._gpu_rows, gap=GRID + 4, margins=0)
        is_open = _EXPANDER in self.bench.settings.open_expanders
        self._gpus = Expander("GPUs that train", fields, is_open=is_open)
        self._gpus.toggled.connect(lambda is_open: self.bench.remember_expander(_EXPANDER, is_open=is_open))
        return self._gpus

    def _show_gpu_figures(self, gpu: GpuSnapshot | None) -> None:
        for name in _OF_THE_GPU:
            for part in (self._labels[name], self._figures[name]):
                part.setVisible(gpu is not None)
            self._meters[name].setVisible(False)
        if gpu is None:
            return
        free, total = gpu.vram_free_bytes, gpu.vram_total_bytes
        if free is None or total is None:
            self._show_figure("VRAM", None, _NOT_TOLD)
        else:
            self._show_figure("VRAM", gpu.vram_share, f"{gib(free, unit=False)} of {gib(total)} free")
        load, heat, power = gpu.utilization_percent, gpu.temperature_celsius, gpu.power_watts
        self._show_figure("GPU load", (load or 0) / 100, _NOT_TOLD if load is None else f"{load} %")
        hottest, most = gpu.slowdown_celsius, gpu.power_limit_watts
        limit = f", slows down at {hottest} °C" if hottest else ""
        share = heat / hottest if heat is not None and hottest else None
        self._show_figure("Heat", share, _NOT_TOLD if heat is None else f"{heat} °C{limit}")
        of = f" of {most:.0f} W" if most else " W"
        share = power / most if power is not None and most else None
        self._show_figure("Power", share, _NOT_TOLD if power is None else f"{power:.0f}{of}")

    def _show_figure(self, name: str, share: float | None, text: str) -> None:
        meter = self._meters[name]
        if share is not None:
            meter.set_share(share)
        meter.setVisible(share is not None)
        self._figures[name].setText(text)

    def _on_edited(self, spec: FieldSpec, settings: Settings) -> None:
        changed = msgspec.structs.replace(self.session.project, settings=settings)
        edit_project(self.session, f"Change {spec.label}", changed, merge_key=spec.name)


def _words(snapshot: HardwareSnapshot, gpu: GpuSnapshot | None) -> str:
    if gpu is None:
        return snapshot.words.text
    if not gpu.is_ready:
        return gpu.words.text
    facts = [f"GPU {gpu.index}"]
    if snapshot.driver_version:
        facts.append(f"driver {snapshot.driver_version}")
    if snapshot.cuda_version:
        facts.append("CUDA {}.{}".format(*snapshot.cuda_version))
    if gpu.pcie_max_generation and gpu.pcie_max_width:
        facts.append(f"PCIe {gpu.pcie_max_generation}.0 x{gpu.pcie_max_width}")
    if gpu.drives_display:
        facts.append("drives a display")
    if snapshot.is_wsl:
        facts.append("in WSL")
    more = len(snapshot.gpus) - 1
    others = f" {more} more in this machine." if more else ""
    return f"{', '.join(facts)}.{others}"


def _hint(snapshot: HardwareSnapshot, gpu: GpuSnapshot | None) -> str:
    if gpu is not None and gpu.is_ready:
        return ""
    hint = snapshot.words.hint if gpu is None else gpu.words.hint
    rest = "Clips, trims and captions can be prepared here all the same, and the miniature trains on the CPU."
    return f"{hint} {rest}".strip()
