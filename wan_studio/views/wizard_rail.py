"""The list of steps at the left: where one is, how far each step is, free to visit in any order."""

from PySide6.QtCore import QSize, Qt, Signal
from PySide6.QtGui import QColor, QKeyEvent, QPainter, QPaintEvent
from PySide6.QtWidgets import QAbstractButton, QButtonGroup, QVBoxLayout, QWidget

from wan_studio.domain.checks import Progress, Step, StepState
from wan_studio.views.page import STEP_TITLES
from wan_studio.views.theme import GRID, ToneName, icon, numeric_font, tone, tones

WIDTH = 252
NARROW_WIDTH = 64
_ITEM_HEIGHT = 40

_ICONS: dict[Step, str] = {
    Step.PROJECTS: "house",
    Step.GOAL: "target",
    Step.CLIPS: "film-strip",
    Step.TRIM: "scissors",
    Step.CAPTIONS: "chat-centered-text",
    Step.HARDWARE: "cpu",
    Step.TRAINING: "sliders-horizontal",
    Step.REVIEW: "check-square-offset",
    Step.MONITOR: "chart-line",
    Step.RESULTS: "package",
}
_STATES: dict[Progress, tuple[str, ToneName, str]] = {
    Progress.OPEN: ("circle", "muted", "not begun"),
    Progress.DONE: ("check-circle", "good", "done"),
    Progress.ATTENTION: ("warning-circle", "warn", "needs attention"),
    Progress.BLOCKED: ("x-circle", "bad", "in the way of training"),
    Progress.RUNNING: ("play-circle", "accent", "running"),
}


class StepButton(QAbstractButton):
    """One step: its icon and name, and at the right its state by shape, colour and words."""

    def __init__(self, step: Step) -> None:
        super().__init__()
        self.step = step
        self._state = StepState()
        self.setCheckable(True)
        self.setText(STEP_TITLES[step])
        self.setFixedHeight(_ITEM_HEIGHT)
        self.setFocusPolicy(Qt.FocusPolicy.StrongFocus)
        self.setCursor(Qt.CursorShape.PointingHandCursor)
        self.setAttribute(Qt.WidgetAttribute.WA_Hover)
        self.set_state(StepState())

    @property
    def state(self) -> StepState:
        """How far the step is."""
        return self._state

    def set_state(self, state: StepState) -> None:
        """Show how far the step is."""
        self._state = state
        words = _STATES[state.progress][2]
        name = f"{self.text()}, {words}"
        self.setAccessibleName(f"{name}, {state.note}" if state.note else name)
        self.setToolTip(f"{self.text()}: {words}" + (f" ({state.note})" if state.note else ""))
        self.update()

    def sizeHint(self) -> QSize:
        """The rail decides the width."""
        return QSize(WIDTH, _ITEM_HEIGHT)

    def paintEvent(self, event: QPaintEvent) -> None:  # noqa: ARG002
        """Draw icon, name, note and state."""
        painter = QPainter(self)
        painter.setRenderHint(QPainter.RenderHint.Antialiasing)
        box = self.rect().adjusted(GRID, 2, -GRID, -2)
        colours = tones()
        if self.isChecked() or self.underMouse():
            painter.setPen(Qt.PenStyle.NoPen)
            painter.setBrush(QColor(colours.surface if self.isChecked() else colours.line))
            painter.setOpacity(1.0 if self.isChecked() else 0.5)
            painter.drawRoundedRect(box, 6, 6)
            painter.setOpacity(1.0)
        if self.isChecked():
            painter.setPen(Qt.PenStyle.NoPen)
            painter.setBrush(tone("accent"))
            painter.drawRoundedRect(box.left(), box.top() + 8, 3, box.height() - 16, 1.5, 1.5)
        if self.hasFocus():
            painter.setPen(tone("accent"))
            painter.setBrush(Qt.BrushStyle.NoBrush)
            painter.drawRoundedRect(box, 6, 6)
        middle = box.center().y()
        enabled_tone: ToneName = "text" if self.isEnabled() else "muted"
        own = icon(_ICONS[self.step], "accent" if self.isChecked() else enabled_tone)
        is_narrow = self.width() < WIDTH // 2
        own.paint(painter, box.left() + 12, middle - 8, 18, 18)
        if is_narrow:
            self._paint_state(painter, box.right() - 12, middle - 15, 12)
            return
        font = self.font()
        font.setWeight(font.Weight.DemiBold if self.isChecked() else font.Weight.Normal)
        painter.setFont(font)
        painter.setPen(tone(enabled_tone))
        text_box = box.adjusted(40, 0, -34, 0)
        painter.drawText(text_box, Qt.AlignmentFlag.AlignVCenter | Qt.AlignmentFlag.AlignLeft, self.text())
        if self._state.note:
            painter.setFont(numeric_font())
            painter.setPen(tone("muted"))
            painter.drawText(
                text_box, Qt.AlignmentFlag.AlignVCenter | Qt.AlignmentFlag.AlignRight, self._state.note
            )
        self._paint_state(painter, box.right() - 26, middle - 7, 16)

    def _paint_state(self, painter: QPainter, left: int, top: int, size: int) -> None:
        if self.step is Step.PROJECTS or (self._state.progress is Progress.OPEN and size < 16):
            return
        name, tone_name, _ = _STATES[self._state.progress]
        icon(name, tone_name).paint(painter, left, top, size, size)


class WizardRail(QWidget):
    """All steps in their order.

    Signals:
        step_chosen: The user goes to a step. arg: Step
    """

    step_chosen = Signal(object)

    def __init__(self) -> None:
        super().__init__()
        self.setObjectName("rail")
        self.setAttribute(Qt.WidgetAttribute.WA_StyledBackground)
        self.setAccessibleName("Steps")
        self.setFixedWidth(WIDTH)
        self._buttons: dict[Step, StepButton] = {}
        self._group = QButtonGroup(self)
        layout = QVBoxLayout(self)
        layout.setContentsMargins(0, 2 * GRID, 0, 2 * GRID)
        layout.setSpacing(2)
        for step in Step:
            button = StepButton(step)
            button.clicked.connect(lambda _=False, step=step: self.step_chosen.emit(step))
            self._group.addButton(button)
            self._buttons[step] = button
            layout.addWidget(button)
            if step in (Step.PROJECTS, Step.REVIEW):
                layout.addSpacing(2 * GRID)
        layout.addStretch(1)

    def button(self, step: Step) -> StepButton:
        """The button of a step."""
        return self._buttons[step]

    def set_current(self, step: Step) -> None:
        """Mark the step that is shown."""
        self._buttons[step].setChecked(True)

    def set_state(self, step: Step, state: StepState) -> None:
        """Show how far a step is."""
        if self._buttons[step].state != state:
            self._buttons[step].set_state(state)

    def set_narrow(self, is_narrow: bool) -> None:  # noqa: FBT001 - a setter, as Qt has them
        """Icons alone, or icons and names."""
        self.setFixedWidth(NARROW_WIDTH if is_narrow else WIDTH)

    def keyPressEvent(self, event: QKeyEvent) -> None:
        """Up and Down go to the neighbouring step."""
        steps = list(Step)
        focused = next((s for s, button in self._buttons.items() if button.hasFocus()), None)
        move = {Qt.Key.Key_Down: 1, Qt.Key.Key_Up: -1}.get(Qt.Key(event.key()), 0)
        if focused is None or not move:
            super().keyPressEvent(event)
            return
        at = steps.index(focused) + move
        if 0 <= at < len(steps):
            self._buttons[steps[at]].setFocus()
