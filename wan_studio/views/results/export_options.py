"""How LoRA files are exported: whose names, which number type, how strong."""

from typing import Literal

from PySide6.QtWidgets import QComboBox, QLineEdit, QVBoxLayout, QWidget

from wan_studio.services.run_process import ExportForm
from wan_studio.views.theme import GRID, numeric_font
from wan_studio.views.widgets import label, restyle

_FORMATS: tuple[tuple[Literal["original", "kohya", "diffusers"], str], ...] = (
    ("original", "ComfyUI"),
    ("kohya", "kohya"),
    ("diffusers", "diffusers"),
)
_DTYPES: tuple[tuple[Literal["bf16", "fp16", "fp32"] | None, str], ...] = (
    (None, "As trained"),
    ("bf16", "bf16"),
    ("fp16", "fp16"),
    ("fp32", "fp32"),
)
_RULE = "It must be a number other than 0."


class ExportOptions(QWidget):
    """Three fields; without a touch they mean what ComfyUI takes."""

    def __init__(self) -> None:
        super().__init__()
        self.format = QComboBox()
        self.dtype = QComboBox()
        self.strength = QLineEdit("1")
        self.strength.setFont(numeric_font())
        self.strength.setToolTip(
            "Folded into the weights: 0.8 makes a LoRA that is as strong at 1 as now at 0.8"
        )
        self.strength.textEdited.connect(lambda _: self._show_problem())
        self._problem = label("", "bad", wrap=True)
        self._problem.hide()
        layout = QVBoxLayout(self)
        layout.setContentsMargins(0, 0, 0, 0)
        layout.setSpacing(GRID // 2)
        for text, field in (
            ("Key names for", self.format),
            ("Number type", self.dtype),
            ("Strength", self.strength),
        ):
            field.setAccessibleName(f"Export: {text.lower()}")
            layout.addWidget(label(text, "muted"))
            layout.addWidget(field)
        layout.addWidget(self._problem)
        for _, text in _FORMATS:
            self.format.addItem(text)
        for _, text in _DTYPES:
            self.dtype.addItem(text)

    @property
    def form(self) -> ExportForm | None:
        """What was chosen; None while the strength is no strength."""
        strength = number_in(self.strength.text())
        if not strength:
            return None
        return ExportForm(
            format=_FORMATS[self.format.currentIndex()][0],
            dtype=_DTYPES[self.dtype.currentIndex()][0],
            strength=None if strength == 1.0 else strength,
        )

    def _show_problem(self) -> None:
        is_wrong = self.form is None
        self._problem.setText(_RULE if is_wrong else "")
        self._problem.setVisible(is_wrong)
        self.strength.setProperty("invalid", is_wrong)
        restyle(self.strength)


def number_in(text: str) -> float | None:
    """The finite number that stands in a field; None when none does."""
    try:
        number = float(text.strip().replace(",", "."))
    except ValueError:
        return None
    return number if abs(number) < float("inf") else None
