"""What a caption trains as, its tokens, and what the lint says of it."""

from PySide6.QtCore import QSize, Qt
from PySide6.QtWidgets import QSizePolicy, QVBoxLayout, QWidget

from wan_studio.bridge.caption_index import CaptionReading
from wan_studio.domain.caption_lint import TOKEN_LIMIT, Finding, Verdict
from wan_studio.services.token_counter import TokenCounter
from wan_studio.views.theme import GRID, ToneName, numeric_font
from wan_studio.views.widgets import ElidedLabel, IconLabel, label, row, scrolled, set_role

_NEARLY = 0.9
_LINES = 4
_MARKS: dict[Verdict, tuple[str, ToneName]] = {
    Verdict.GOOD: ("check-circle", "good"),
    Verdict.NOTE: ("info", "muted"),
    Verdict.WARNING: ("warning-circle", "warn"),
}


class ReadingPanel(QWidget):
    """Two columns of a fixed height, so that nothing jumps while one types."""

    def __init__(self) -> None:
        super().__init__()
        self.trains_as = label("", wrap=True)
        self.trains_as.setAlignment(Qt.AlignmentFlag.AlignTop)
        fitting = QSizePolicy(QSizePolicy.Policy.Preferred, QSizePolicy.Policy.Preferred)
        # The area asks the text how high it must be at its width, and scrolls only then.
        fitting.setHeightForWidth(True)
        self.trains_as.setSizePolicy(fitting)
        self.trains_as.setTextInteractionFlags(Qt.TextInteractionFlag.TextSelectableByMouse)
        self.tokens = label("", "muted")
        self.tokens.setFont(numeric_font())
        self._lines = [_FindingLine() for _ in range(_LINES)]
        left = QVBoxLayout()
        left.setSpacing(GRID // 2)
        left.addLayout(row(label("Trains as", "muted"), None, self.tokens))
        area = scrolled(self.trains_as, name="Trains as")
        left.addWidget(area, 1)
        right = QVBoxLayout()
        right.setSpacing(2)
        for line in self._lines:
            right.addWidget(line)
        right.addStretch(1)
        layout = row(left, right, gap=3 * GRID)
        layout.setStretch(0, 3)
        layout.setStretch(1, 2)
        self.setLayout(layout)
        self.setFixedHeight(96)

    @property
    def findings(self) -> list[str]:
        """What the lint says now, line by line."""
        return [line.text for line in self._lines if not line.isHidden()]

    def show_reading(self, reading: CaptionReading | None, counter: TokenCounter) -> None:
        """Show how a caption trains; None for one that cannot be read."""
        if reading is None:
            self.trains_as.setText("")
            self.tokens.setText("")
            self._show_findings(())
            return
        self.trains_as.setText(reading.prompt or "Nothing: the clip would train with an empty prompt.")
        set_role(self.trains_as, "body" if reading.prompt else "warn")
        about = "about " if counter.is_estimate else ""
        self.tokens.setText(f"{about}{reading.tokens} of {TOKEN_LIMIT} tokens")
        where = (
            "Estimated by letters: the base model's tokenizer is not on this machine."
            if counter.is_estimate
            else f"Counted by {counter.tokenizer}, as training does."
        )
        self.tokens.setToolTip(where)
        self.tokens.setAccessibleDescription(where)
        near = reading.tokens > _NEARLY * TOKEN_LIMIT
        set_role(self.tokens, "bad" if reading.tokens > TOKEN_LIMIT else "warn" if near else "muted")
        self._show_findings(reading.findings)

    def _show_findings(self, findings: tuple[Finding, ...]) -> None:
        # The worst first; what does not fit is told by the last line's tooltip.
        order = (Verdict.WARNING, Verdict.NOTE, Verdict.GOOD)
        ranked = sorted(findings, key=lambda one: order.index(one.verdict))
        for line, finding in zip(self._lines, [*ranked, *[None] * _LINES], strict=False):
            line.show_finding(finding)


class _FindingLine(QWidget):
    """A sign and a few words; the sentence is the tooltip."""

    def __init__(self) -> None:
        super().__init__()
        self._icon = IconLabel("info", "muted", 16)
        self._label = ElidedLabel()
        layout = row(self._icon, self._label)
        layout.setStretch(1, 1)
        self.setLayout(layout)
        self.setFixedHeight(22)
        self.hide()

    @property
    def text(self) -> str:
        """What it says."""
        return self._label.whole_text

    def sizeHint(self) -> QSize:
        """As wide as it is given."""
        return QSize(160, 22)

    def show_finding(self, finding: Finding | None) -> None:
        """Show this, or nothing."""
        self.setVisible(finding is not None)
        if finding is None:
            return
        self._icon.show_icon(*_MARKS[finding.verdict])
        self._label.set_text(finding.text)
        self.setToolTip(finding.detail)
        self.setAccessibleName(f"{finding.text}. {finding.detail}")
