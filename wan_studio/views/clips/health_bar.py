"""The health of the clips in one bar: each part shows the clips that it counts."""

from PySide6.QtCore import Signal
from PySide6.QtWidgets import QProgressBar, QPushButton, QSizePolicy, QWidget

from wan_studio.domain.checks import Level
from wan_studio.domain.clip_health import FINDINGS, FindingKind, Health
from wan_studio.views.clips.bucket_bars import BucketBars
from wan_studio.views.clips.delegate import LEVEL_ICONS, LEVEL_TONES
from wan_studio.views.clips.flow import FlowLayout
from wan_studio.views.theme import GRID, set_icon
from wan_studio.views.widgets import button, column, label, row
from wan_studio.views.wording import count, duration


class HealthBar(QWidget):
    """Counts, findings, and how far looking at the clips is.

    Signals:
        finding_chosen: The user wants to see these clips. arg: FindingKind, None for all clips again
        pause_wanted: Stop or go on looking at clips.
    """

    finding_chosen = Signal(object)
    pause_wanted = Signal()

    def __init__(self) -> None:
        super().__init__()
        self._summary = label("", "muted")
        self._progress = QProgressBar()
        self._progress.setFixedSize(160, GRID)
        self._progress.setTextVisible(False)
        self._progress.setAccessibleName("Clips looked at")
        self._progress_text = label("", "muted")
        self._pause = button("Stop", self.pause_wanted.emit, role="link")
        chips = QWidget()
        policy = QSizePolicy(QSizePolicy.Policy.Preferred, QSizePolicy.Policy.Minimum)
        policy.setHeightForWidth(True)
        chips.setSizePolicy(policy)
        flow = FlowLayout()
        self._chips: dict[str, QPushButton] = {}
        for kind in FINDINGS:
            chip = button("", role="plain")
            chip.setProperty("chip", "true")
            chip.setCheckable(True)
            chip.setToolTip(kind.text)
            chip.clicked.connect(lambda is_on, kind=kind: self._on_clicked(kind, is_on=is_on))
            chip.hide()
            self._chips[kind.name] = chip
            flow.addWidget(chip)
        chips.setLayout(flow)
        self._holder = chips
        parts = row(self._summary, None, self._progress_text, self._progress, self._pause)
        self.buckets = BucketBars()
        self.setLayout(column(parts, chips, self.buckets, gap=GRID // 2))
        self.show_progress(0, 0, 0, is_paused=False)

    def show_health(self, health: Health) -> None:
        """Show what was found."""
        parts = [count(health.clips, "clip"), f"{health.usable} usable", f"{duration(health.seconds)} in all"]
        if health.rejected:
            parts.append(f"{health.rejected} rejected")
        self._summary.setText("   ·   ".join(parts))
        found = {finding.kind.name: finding for finding in health.findings}
        for kind in FINDINGS:
            chip, finding = self._chips[kind.name], found.get(kind.name)
            if finding is not None:
                text = f"{len(finding.clips)} {kind.words}"
                if chip.text() != text:
                    chip.setText(text)
                    chip.setAccessibleName(text)
                    set_icon(chip, LEVEL_ICONS[kind.level], LEVEL_TONES[kind.level])
            is_shown = finding is not None or chip.isChecked()
            if finding is None and is_shown:
                chip.setText(f"0 {kind.words}")
                set_icon(chip, "check-circle", LEVEL_TONES[Level.NOTE])
            chip.setVisible(is_shown)
        self._holder.setVisible(any(not chip.isHidden() for chip in self._chips.values()))
        self._holder.updateGeometry()

    def show_progress(self, waiting: int, clips: int, looks: int, *, is_paused: bool) -> None:
        """Show how far looking at the clips is; nothing when it is done."""
        is_busy = bool(waiting or looks or is_paused)
        for part in (self._progress, self._progress_text, self._pause):
            part.setVisible(is_busy)
        if not is_busy:
            return
        left = waiting or looks
        self._progress.setRange(0, max(clips, 1))
        self._progress.setValue(max(0, clips - left))
        what = "Reading" if waiting else "Looking for duplicates and still parts,"
        self._progress_text.setText("Stopped" if is_paused else f"{what} {left} to go")
        text = "Go on" if is_paused else "Stop"
        self._pause.setText(text)
        self._pause.setAccessibleName(f"{text} looking at clips")

    def mark(self, name: str) -> None:
        """Show which finding the grid is filtered by; empty for none."""
        for kind, chip in self._chips.items():
            chip.setChecked(kind == name)

    def chip(self, name: str) -> QPushButton:
        """The part of a finding."""
        return self._chips[name]

    def _on_clicked(self, kind: FindingKind, *, is_on: bool) -> None:
        self.finding_chosen.emit(kind if is_on else None)
