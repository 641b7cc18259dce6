"""Beside the player: what the chosen range means, how frames are taken, and the clips."""

from functools import partial

from PySide6.QtCore import QItemSelectionModel, Signal
from PySide6.QtWidgets import (
    QAbstractItemView,
    QButtonGroup,
    QCheckBox,
    QFrame,
    QGridLayout,
    QLabel,
    QRadioButton,
    QVBoxLayout,
    QWidget,
)

from trainer.protocol.job import TrainedSize
from wan_studio.domain.clip import SourceVideo, TrimRange
from wan_studio.domain.frame_sampling import MODEL_FRAMES_PER_SECOND, FrameSample, SamplingRule
from wan_studio.models.clip_list_model import ClipListModel, ClipRole
from wan_studio.views.actions import tip_with_key
from wan_studio.views.clip_list import ClipListView, ClipRowDelegate
from wan_studio.views.theme import GRID, numeric_font
from wan_studio.views.widgets import (
    ElidedLabel,
    Expander,
    button,
    column,
    disable_with_reason,
    label,
    row,
    set_role,
)
from wan_studio.views.wording import time_code

_WIDTH = 304
_SLOWEST, _FASTEST = 0.8, 1.2
"""Outside of these the motion is learnt at a speed that is seen to be wrong."""


class TrimPanel(QFrame):
    """Readout, sampling, flips, and the list of clips.

    Signals:
        action_wanted: A button for an action of the table was pressed. arg: its name
        sampling_chosen: Frames are to be taken in another way. arg: SamplingRule
        flip_chosen: A mirrored copy of every clip is wanted, or not. args: "horizontal" or "vertical", bool
        clip_chosen: Another clip is to be looked at. arg: clip id
    """

    action_wanted = Signal(str)
    sampling_chosen = Signal(str)
    flip_chosen = Signal(str, bool)
    clip_chosen = Signal(str)

    def __init__(self, model: ClipListModel) -> None:
        super().__init__()
        self._model = model
        self.setObjectName("card")
        self.setFixedWidth(_WIDTH)
        self._name = ElidedLabel("", "section")
        self._where = label("", "muted")
        self._readout = label("", "accent", wrap=True)
        self._readout.setFont(numeric_font(11.5, bold=True))
        self._notes = label("", "muted", wrap=True)
        layout = QVBoxLayout(self)
        layout.setContentsMargins(2 * GRID, 2 * GRID, 2 * GRID, GRID)
        layout.setSpacing(GRID // 2)
        layout.addWidget(self._name)
        layout.addWidget(self._where)
        layout.addSpacing(GRID // 2)
        layout.addLayout(self._build_points())
        layout.addWidget(self._readout)
        layout.addWidget(self._notes)
        layout.addSpacing(GRID // 2)
        layout.addLayout(self._build_buttons())
        layout.addSpacing(GRID // 2)
        layout.addLayout(self._build_modes())
        layout.addWidget(self._build_flips())
        layout.addWidget(self._build_list(), 1)

    @property
    def selected_ids(self) -> list[str]:
        """The clips that are selected in the list, in its order."""
        rows = sorted(index.row() for index in self._list.selectionModel().selectedIndexes())
        return [str(self._model.index(at).data(ClipRole.ID)) for at in rows]

    @property
    def readout(self) -> str:
        """The line that says what trains."""
        return self._readout.text()

    @property
    def notes(self) -> str:
        """What there is to say about it."""
        return self._notes.text()

    def show_name(self, name: str, clip_id: str) -> None:
        """Show which clip is looked at."""
        self._name.set_text(name)
        at = self._model.row_of(clip_id)
        self._where.setText(f"Clip {at + 1} of {self._model.rowCount()}" if at >= 0 else "")
        if at >= 0 and self._list.currentIndex().row() != at:
            self._list.selectionModel().setCurrentIndex(
                self._model.index(at), QItemSelectionModel.SelectionFlag.ClearAndSelect
            )

    def show_place(self, when: str, which: str) -> None:
        """Say which frame is on screen."""
        self._points["Now"][0].setText(when)
        self._points["Now"][1].setText(which)

    def set_usable(self, reason: str) -> None:
        """Enable what changes the range, or say in the tooltips why it cannot be changed."""
        disable_with_reason(self._range_buttons, reason)

    def clear(self) -> None:
        """There is nothing to say."""
        for when, which in self._points.values():
            when.setText("")
            which.setText("")
        self._readout.setText("")
        self._notes.setText("")

    def show_range(
        self, source: SourceVideo, trim: TrimRange, sample: FrameSample, size: TrainedSize, flip_note: str
    ) -> None:
        """Say what the range is and what trains of it."""
        start, end = source.seconds_at(trim.start_frame), source.seconds_at(trim.end_frame)
        for name, when, which in (
            ("In", time_code(start), f"frame {trim.start_frame}"),
            ("Out", time_code(end), f"frame {trim.end_frame}"),
            ("Length", f"{end - start:.2f} s", f"{trim.frame_count} frames"),
        ):
            self._points[name][0].setText(when)
            self._points[name][1].setText(which)
        frames = len(sample.frames)
        self._readout.setText(
            f"{frames} frames at {MODEL_FRAMES_PER_SECOND} fps = "
            f"{frames / MODEL_FRAMES_PER_SECOND:.2f} s, speed {sample.speed:.2f}x"
        )
        is_odd = sample.is_shortened or not _SLOWEST <= sample.speed <= _FASTEST
        notes = [f"Trains at {size.width} × {size.height}, {speed_in_words(sample.speed)}."]
        if sample.is_shortened:
            notes.append(f"The range is too short for {sample.wanted_frames} frames.")
        if source.is_hdr:
            notes.append("The picture is HDR: it is tone-mapped, and trains as it looks here.")
        if flip_note:
            notes.append(flip_note)
        set_role(self._notes, "warn" if is_odd or flip_note else "muted")
        self._notes.setText(" ".join(notes))

    def show_settings(self, rule: SamplingRule, *, across: bool, upside_down: bool) -> None:
        """Show how frames are taken and which copies are made."""
        for choice, name in self._modes.items():
            choice.setChecked(name == rule)
        self._across.setChecked(across)
        self._upside_down.setChecked(upside_down)

    def _build_points(self) -> QGridLayout:
        points = QGridLayout()
        points.setHorizontalSpacing(2 * GRID)
        points.setVerticalSpacing(2)
        points.setColumnStretch(2, 1)
        self._points: dict[str, tuple[QLabel, QLabel]] = {}
        for at, name in enumerate(("Now", "In", "Out", "Length")):
            when, which = label(""), label("", "muted")
            for place, part in enumerate((label(name, "muted"), when, which)):
                part.setFont(numeric_font())
                points.addWidget(part, at, place)
            self._points[name] = (when, which)
        return points

    def _build_buttons(self) -> QVBoxLayout:
        made = [
            button(text, partial(self.action_wanted.emit, name), tip=tip_with_key(name))
            for text, name in (
                ("Set in", "trim.set_in"),
                ("Set out", "trim.set_out"),
                ("Fit", "trim.fit"),
            )
        ]
        whole = button("Use the whole clip", partial(self.action_wanted.emit, "trim.whole"), role="link")
        self._range_buttons = [*made, whole]
        return column(row(*made, None), row(whole, None), gap=GRID // 2)

    def _build_modes(self) -> QVBoxLayout:
        real = QRadioButton("Real speed")
        real.setToolTip("The frames on screen at each sixteenth of a second from the in point.")
        whole = QRadioButton("Fit the whole range")
        whole.setToolTip("Frames spread evenly over the range; the motion is learnt faster or slower.")
        self._modes: dict[QRadioButton, SamplingRule] = {real: "real_speed", whole: "whole_range"}
        group = QButtonGroup(self)
        for choice, rule in self._modes.items():
            group.addButton(choice)
            choice.clicked.connect(partial(self._on_mode, rule))
        return column(label("Frames are taken at", "muted"), real, whole, gap=2)

    def _build_flips(self) -> Expander:
        self._across = QCheckBox("Also mirrored left to right")
        self._upside_down = QCheckBox("Also mirrored upside down")
        self._across.clicked.connect(lambda on: self.flip_chosen.emit("horizontal", on))
        self._upside_down.clicked.connect(lambda on: self.flip_chosen.emit("vertical", on))
        content = QWidget()
        content.setLayout(column(self._across, self._upside_down, gap=2))
        return Expander("Mirrored copies of all clips", content)

    def _build_list(self) -> ClipListView:
        self._list = ClipListView()
        self._list.setModel(self._model)
        self._list.setItemDelegate(ClipRowDelegate(self._list))
        self._list.setAccessibleName("Clips")
        self._list.setUniformItemSizes(True)
        self._list.setSelectionMode(QAbstractItemView.SelectionMode.ExtendedSelection)
        self._list.selectionModel().currentChanged.connect(self._on_row_changed)
        return self._list

    def _on_mode(self, rule: SamplingRule, *_: object) -> None:
        self.sampling_chosen.emit(rule)

    def _on_row_changed(self) -> None:
        clip_id = self._list.currentIndex().data(ClipRole.ID)
        if clip_id:
            self.clip_chosen.emit(clip_id)


def speed_in_words(speed: float) -> str:
    """How fast the motion is learnt."""
    if abs(speed - 1) < 0.005:
        return "at real speed"
    if speed > 1:
        return f"{speed:.2f} times as fast as it is"
    return f"at {100 * speed:.0f} % of its speed"
