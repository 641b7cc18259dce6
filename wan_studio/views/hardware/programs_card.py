"""Who uses the VRAM: the programs on the GPU, the largest first."""

from collections.abc import Collection

from PySide6.QtCore import Qt
from PySide6.QtWidgets import QGridLayout, QLabel, QVBoxLayout, QWidget

from wan_studio.bridge.workbench import Workbench
from wan_studio.domain.hardware import GpuProcess, GpuSnapshot
from wan_studio.views.theme import GRID, numeric_font
from wan_studio.views.widgets import button, card, label, row
from wan_studio.views.wording import count, gib

MOST_SHOWN = 8


class ProgramsCard(QWidget):
    """The list, renewed with every look at the hardware; a button looks now."""

    def __init__(self, bench: Workbench) -> None:
        super().__init__()
        self._words = label("", "muted", wrap=True)
        self._grid = QGridLayout()
        self._grid.setHorizontalSpacing(2 * GRID)
        self._grid.setVerticalSpacing(GRID // 2)
        self._grid.setColumnStretch(2, 1)
        self._lines: list[tuple[QLabel, QLabel]] = []
        again = button("Check again", bench.hardware.ask, icon_name="arrow-clockwise")
        again.setAccessibleName("Check again who uses the VRAM")
        layout = QVBoxLayout(self)
        layout.setContentsMargins(0, 0, 0, 0)
        layout.addWidget(
            card(row(label("Who uses the VRAM", "section"), None, again), self._words, self._grid)
        )

    @property
    def lines(self) -> list[tuple[str, str]]:
        """What is listed: name and share."""
        return [(name.text(), size.text()) for name, size in self._lines if not name.isHidden()]

    @property
    def words(self) -> str:
        """What is said above the list."""
        return self._words.text()

    def show_gpu(self, gpu: GpuSnapshot, own_pids: Collection[int]) -> None:
        """List what is on this GPU.

        Args:
            gpu: Ready to train.
            own_pids: Our trainer's processes.
        """
        programs = gpu.processes or ()
        self._words.setText(_summary(gpu, programs))
        told = [_line(one, own_pids) for one in programs[:MOST_SHOWN]]
        while len(self._lines) < len(told):
            self._add_line()
        for at, (name, size) in enumerate(self._lines):
            is_shown = at < len(told)
            if is_shown:
                name.setText(told[at][0])
                size.setText(told[at][1])
            name.setVisible(is_shown)
            size.setVisible(is_shown)

    def _add_line(self) -> None:
        name, size = label(), label()
        size.setFont(numeric_font())
        size.setAlignment(Qt.AlignmentFlag.AlignRight)
        at = len(self._lines)
        self._grid.addWidget(name, at, 0)
        self._grid.addWidget(size, at, 1)
        self._lines.append((name, size))


def _summary(gpu: GpuSnapshot, programs: tuple[GpuProcess, ...]) -> str:
    used = "" if gpu.vram_used_bytes is None else f"{gib(gpu.vram_used_bytes)} are taken in all"
    if gpu.vram_reserved_bytes:
        used += f", and the driver keeps {gib(gpu.vram_reserved_bytes)} for itself"
    used = f"{used}. " if used else ""
    if gpu.processes is None:
        return f"{used}The driver does not list the programs."
    if not programs:
        return f"{used}No program is listed."
    more = len(programs) - MOST_SHOWN
    rest = f" {count(more, 'smaller program')} not listed." if more > 0 else ""
    why = ""
    if any(one.vram_bytes is None for one in programs):
        why = (
            "Windows does not tell what each takes."
            if gpu.is_wddm
            else "The driver does not tell what each takes."
        )
    return f"{used}{why}{rest}".strip()


def _line(program: GpuProcess, own_pids: Collection[int]) -> tuple[str, str]:
    name = f"{program.words}, this project's trainer" if program.pid in own_pids else program.words
    return name, "not told" if program.vram_bytes is None else gib(program.vram_bytes)
