"""What a vision-language model is asked for: which model, which clips, and in which words."""

from collections.abc import Callable, Sequence
from typing import Literal

import msgspec
from PySide6.QtCore import Signal
from PySide6.QtWidgets import (
    QComboBox,
    QDoubleSpinBox,
    QFileDialog,
    QGridLayout,
    QLayout,
    QPlainTextEdit,
    QSizePolicy,
    QSpinBox,
    QWidget,
)

from wan_studio.bridge.workbench import Workbench
from wan_studio.domain.auto_caption import (
    KNOWN_MODELS,
    CaptionOptions,
    Memory,
    fitting_options,
    known_model,
    suggested_instructions,
)
from wan_studio.views.theme import GRID
from wan_studio.views.widgets import button, column, label, row, scrolled
from wan_studio.views.wording import count

Scope = Literal["empty", "selected", "all"]

_REMEMBERED = "captions.auto"
_SCOPES: tuple[tuple[str, Scope], ...] = (
    ("Without a caption", "empty"),
    ("Selected", "selected"),
    ("All", "all"),
)
_MEMORY: tuple[tuple[str, Memory], ...] = (("16 bits", "none"), ("8 bits", "int8"), ("4 bits (NF4)", "nf4"))
_GIB = 2**30
_FIELD_HEIGHT = 32


class AutoSetup(QWidget):
    """The form; remembers what was chosen.

    Signals:
        start_wanted: Describe clips. args: list of clip ids, CaptionOptions, whether to wait for the training
    """

    start_wanted = Signal(object, object, bool)

    def __init__(self, bench: Workbench, ids_in: Callable[[Scope], Sequence[str]]) -> None:
        """Make the form.

        Args:
            bench: What the pages share.
            ids_in: Gives the clips of a scope.
        """
        super().__init__()
        self._bench = bench
        self._ids_in = ids_in
        self._ids: Sequence[str] = ()
        self._goal = ""
        self._is_shown = False
        self._build()
        self._load()

    @property
    def options(self) -> CaptionOptions:
        """What is chosen."""
        return CaptionOptions(
            model=self.model.currentText().strip(),
            instructions=self._instructions(),
            frames=self.frames.value(),
            frame_side=self.side.value(),
            max_new_tokens=self.tokens.value(),
            temperature=round(self.temperature.value(), 2),
            memory=self.memory.currentData(),
            gpu=self.device.currentData(),
        )

    def renew(self) -> None:
        """The selection, captions, the goal or the hardware may be others."""
        if not self._bench.session.is_open:
            return
        self._show_devices()
        self._show_instructions()
        self._renew_scopes()
        self._renew_notes()

    def remember(self) -> None:
        """Keep what is chosen."""
        self._bench.remember_value(_REMEMBERED, msgspec.json.encode(self.options).decode())

    def choose_folder(self) -> None:
        """Ask for the model's folder."""
        chosen = QFileDialog.getExistingDirectory(self, "Folder of a Qwen-VL model")
        if chosen:
            self.model.setEditText(chosen)

    def start(self) -> None:
        """Begin; while a run trains, ask first."""
        if not self._start.isEnabled():
            return
        self.remember()
        desk = self._bench.auto_captions
        if desk.is_training and self.device.currentData() is not None:
            self._asks.show()
            self._start.hide()
            return
        self._begin(is_after=False)

    def _begin(self, *, is_after: bool) -> None:
        self._asks.hide()
        self._start.show()
        self.start_wanted.emit(list(self._ids), self.options, is_after)

    def _build(self) -> None:
        content = QWidget()
        layout = column(
            label("Model", "muted"),
            self._build_model(),
            self._model_note,
            self._build_fields(),
            self._build_instructions(),
            gap=GRID // 2,
        )
        layout.setStretch(4, 1)
        content.setLayout(layout)
        self._note = label("", "muted", wrap=True)
        self._start = button("Start", self.start, role="primary", icon_name="play")
        foot = row(self._note, self._start)
        foot.setStretch(0, 1)
        whole = column(scrolled(content, name="Settings of automatic captions"), self._build_question(), foot)
        whole.setStretch(0, 1)
        self.setLayout(whole)

    def _build_model(self) -> QLayout:
        self.model = QComboBox()
        self.model.setEditable(True)
        self.model.addItems([known.name for known in KNOWN_MODELS])
        self.model.setAccessibleName("Vision-language model: a folder, or a name on the Hugging Face Hub")
        self.model.setSizePolicy(QSizePolicy.Policy.Ignored, QSizePolicy.Policy.Fixed)
        self.model.editTextChanged.connect(self._renew_notes)
        line = self.model.lineEdit()
        if line is not None:
            line.setPlaceholderText("Folder, or name on the Hugging Face Hub")
        self._model_note = label("", "muted", wrap=True)
        made = row(self.model, button("Choose folder…", self.choose_folder, icon_name="folder-open"))
        made.setStretch(0, 1)
        return made

    def _build_fields(self) -> QLayout:
        self.scope = self._combo("Which clips", _SCOPES)
        self.memory = self._combo("How the model is stored", _MEMORY)
        self.device = QComboBox()
        self.device.setAccessibleName("Where it computes")
        self.device.currentIndexChanged.connect(self._renew_notes)
        self.frames = self._spin("Frames of a clip that the model sees", (1, 81, 1))
        self.side = self._spin("Size of a frame as the side of a square, in pixels", (112, 1280, 28), " px")
        self.tokens = self._spin("Longest caption, in tokens", (16, 1000, 10), " tokens")
        self.temperature = QDoubleSpinBox()
        self.temperature.setRange(0.0, 2.0)
        self.temperature.setSingleStep(0.1)
        self.temperature.setFixedHeight(_FIELD_HEIGHT)
        self.temperature.setAccessibleName("Temperature: 0 always takes the likeliest word")
        self.temperature.setToolTip("0 always takes the likeliest word; more makes captions more varied")
        upper = (("Clips", self.scope), ("Compute on", self.device), ("Stored in", self.memory))
        lower = (
            ("Frames seen", self.frames),
            ("Frame size", self.side),
            ("Longest caption", self.tokens),
            ("Temperature", self.temperature),
        )
        return column(_named(upper), _named(lower), gap=GRID // 2)

    def _build_instructions(self) -> QLayout:
        self.instructions = QPlainTextEdit()
        self.instructions.setAccessibleName("Instructions for the model")
        self.instructions.setMinimumHeight(84)
        self.instructions.setTabChangesFocus(True)
        self.instructions.textChanged.connect(self._renew_suggest)
        self._suggest = button("Take the suggested ones", self._on_suggest, role="link")
        made = column(
            row(label("Instructions", "muted"), None, self._suggest), self.instructions, gap=GRID // 2
        )
        made.setStretch(1, 1)
        return made

    def _build_question(self) -> QWidget:
        self._asks = QWidget()
        words = label(
            "A run is training, and the model would take memory and time of its GPU.", "warn", wrap=True
        )
        asks = row(
            words,
            button("Start when it has ended", lambda: self._begin(is_after=True)),
            button("Start now", lambda: self._begin(is_after=False)),
        )
        asks.setStretch(0, 1)
        self._asks.setLayout(asks)
        self._asks.hide()
        return self._asks

    def _combo(self, name: str, items: Sequence[tuple[str, str]]) -> QComboBox:
        made = QComboBox()
        for words, value in items:
            made.addItem(words, value)
        made.setAccessibleName(name)
        made.currentIndexChanged.connect(self._renew_notes)
        return made

    def _spin(self, name: str, steps: tuple[int, int, int], unit: str = "") -> QSpinBox:
        """A field for a whole number; `steps` are the least, the most, and from one to the next."""
        made = QSpinBox()
        made.setRange(*steps[:2])
        made.setSingleStep(steps[2])
        made.setSuffix(unit)
        made.setFixedHeight(_FIELD_HEIGHT)
        made.setAccessibleName(name)
        made.setToolTip(name)
        return made

    def _load(self) -> None:
        self._own: dict[str, str] = {}
        try:
            options = msgspec.json.decode(
                self._bench.settings.values.get(_REMEMBERED, ""), type=CaptionOptions
            )
        except (msgspec.DecodeError, msgspec.ValidationError):
            options = None
        self._remembered = options
        self._show_options(options or CaptionOptions())

    def _show_options(self, options: CaptionOptions) -> None:
        self._own = dict(options.instructions)
        self.model.setEditText(options.model)
        self.frames.setValue(options.frames)
        self.side.setValue(options.frame_side)
        self.tokens.setValue(options.max_new_tokens)
        self.temperature.setValue(options.temperature)
        self.memory.setCurrentIndex(max(0, self.memory.findData(options.memory)))
        self._wanted_gpu = options.gpu

    def _show_devices(self) -> None:
        latest = self._bench.hardware.latest
        gpus = [] if latest is None else [gpu for gpu in latest.gpus if gpu.is_ready]
        items: list[tuple[str, int | None]] = [(f"{gpu.name} (GPU {gpu.index})", gpu.index) for gpu in gpus]
        items.append(("CPU", None))
        if items == [
            (self.device.itemText(at), self.device.itemData(at)) for at in range(self.device.count())
        ]:
            return
        if self._remembered is None and latest is not None:
            # The first time: what suits this machine.
            free = gpus[0].vram_free_bytes if gpus else None
            self._show_options(fitting_options(free / _GIB if free is not None else None))
            self._remembered = self.options
        self.device.blockSignals(True)  # noqa: FBT003 - Qt's own
        self.device.clear()
        for words, number in items:
            self.device.addItem(words, number)
        at = next((at for at, (_, number) in enumerate(items) if number == self._wanted_gpu), 0)
        self.device.setCurrentIndex(at)
        self.device.blockSignals(False)  # noqa: FBT003 - Qt's own

    def _show_instructions(self) -> None:
        project = self._bench.session.project
        if project.goal == self._goal:
            return
        if self._goal:
            self._own = self._instructions()
        self._goal = project.goal
        self.instructions.setPlainText(self._own.get(project.goal, "") or self._suggested())

    def _suggested(self) -> str:
        project = self._bench.session.project
        return suggested_instructions(project.goal, has_trigger=bool(project.trigger.strip()))

    def _instructions(self) -> dict[str, str]:
        """The user's own, by goal."""
        if not self._goal:
            return dict(self._own)
        words = self.instructions.toPlainText().strip()
        others = {goal: own for goal, own in self._own.items() if goal != self._goal}
        return others if words in ("", self._suggested()) else {**others, self._goal: words}

    def _on_suggest(self) -> None:
        self._own.pop(self._goal, None)
        self.instructions.setPlainText(self._suggested())

    def _renew_suggest(self) -> None:
        if self._goal:
            self._suggest.setVisible(self.instructions.toPlainText().strip() != self._suggested())

    def _renew_scopes(self) -> None:
        for at, (words, scope) in enumerate(_SCOPES):
            self.scope.setItemText(at, f"{words} ({len(self._ids_in(scope))})")

    def _renew_notes(self) -> None:
        if not self._bench.session.is_open or not hasattr(self, "_start"):
            return
        self._ids = self._ids_in(self.scope.currentData() or "empty")
        self._model_note.setText(self._about_model())
        model = self.model.currentText().strip()
        desk = self._bench.auto_captions
        why_not = ""
        if not model:
            why_not = "Choose a model."
        elif not self._ids:
            why_not = "There is no such clip: choose others."
        self._start.setEnabled(not why_not and not desk.is_running and not desk.is_waiting)
        self._start.setText(f"Describe {count(len(self._ids), 'clip')}")
        self._note.setText(why_not or "Captions are proposed first; nothing is written until you accept it.")

    def _about_model(self) -> str:
        known = known_model(self.model.currentText().strip())
        on_cpu = self.device.currentData() is None
        slow = " On a CPU a caption takes minutes." if on_cpu else ""
        if known is None:
            return f"A folder or a Hub name of a Qwen2-VL, Qwen2.5-VL or Qwen3-VL model.{slow}"
        needed = known.needed_gib(self.memory.currentData())
        free = self._free_gib()
        told = f"Needs about {needed:.1f} GiB"
        if free is not None:
            told += f"; {free:.1f} GiB are free" + ("" if needed <= free else ", which is too little")
        return f"{told}. Downloaded from the Hugging Face Hub at the first use ({known.weight_gib['none']:.1f} GiB).{slow}"

    def _free_gib(self) -> float | None:
        latest = self._bench.hardware.latest
        if latest is None:
            return None
        number = self.device.currentData()
        if number is None:
            return latest.ram_available_bytes / _GIB
        gpu = latest.gpu(number)
        free = None if gpu is None else gpu.vram_free_bytes
        return None if free is None else free / _GIB


def _named(fields: Sequence[tuple[str, QWidget]]) -> QLayout:
    """Fields side by side, each under its name."""
    grid = QGridLayout()
    grid.setHorizontalSpacing(2 * GRID)
    grid.setVerticalSpacing(2)
    for place, (name, field) in enumerate(fields):
        grid.addWidget(label(name, "muted"), 0, place)
        grid.addWidget(field, 1, place)
        grid.setColumnStretch(place, 1)
    return grid
