"""The two bars under the timeline: what can be done with the range, and with a crop that is edited."""

from functools import partial

from PySide6.QtCore import Signal
from PySide6.QtGui import QAction
from PySide6.QtWidgets import QAbstractButton, QComboBox, QMenu, QWidget

from wan_studio.domain.crop_aspects import CropAspect
from wan_studio.views.actions import ACTIONS, tip_with_key
from wan_studio.views.widgets import button, disable_with_reason, row, tool_button

_CHOICE_WIDTH = 152
_MENU = (
    "trim.snap",
    "trim.split_at_cuts",
    "trim.add_range",
    "",
    "trim.copy",
    "trim.paste",
    "",
    "trim.still_ends",
    "trim.bars",
)

_BATCHES = ("trim.still_ends", "trim.bars")


class TrimTools(QWidget):
    """Buttons for actions of the table, the end of work in the background, and the zoom.

    Signals:
        action_wanted: A button was pressed. arg: the action's name
    """

    action_wanted = Signal(str)

    def __init__(self) -> None:
        super().__init__()
        made = []
        for text, name, icon_name in (
            ("To motion", "trim.motion", "waves"),
            ("Split", "trim.split", "scissors"),
            ("Crop", "trim.crop", "crop"),
        ):
            made.append(button(text, partial(self.action_wanted.emit, name), icon_name=icon_name))
            made[-1].setToolTip(tip_with_key(name))
        self._motion = made[0]
        more = button("More")
        self._clip_actions: list[QAction] = []
        more.setMenu(self._build_menu())
        self._stop = tool_button("Stop this work", "x", partial(self.action_wanted.emit, "trim.stop_work"))
        self._stop.hide()
        zoom = [
            tool_button(tip_with_key(name), icon_name, partial(self.action_wanted.emit, name))
            for name, icon_name in (
                ("trim.zoom_out", "magnifying-glass-minus"),
                ("trim.zoom_fit", "arrows-out-line-horizontal"),
                ("trim.zoom_in", "magnifying-glass-plus"),
            )
        ]
        self._clip_buttons: list[QAbstractButton] = [*made, *zoom]
        self.setLayout(row(*made, more, None, self._stop, *zoom))

    def show_stop(self, *, on: bool) -> None:
        """Offer to end the work in the background."""
        self._stop.setVisible(on)

    def set_usable(self, reason: str) -> None:
        """Enable what works on the clip, or say in the tooltips why nothing does; batches always work."""
        disable_with_reason(self._clip_buttons, reason)
        for action in self._clip_actions:
            action.setEnabled(not reason)

    def show_suggestion(self, text: str) -> None:
        """Say what trimming to the motion would give; empty where there is nothing to suggest."""
        tip = tip_with_key("trim.motion")
        whole = f"{tip}\n{text}" if text else tip
        self._motion.setProperty("own_tip", whole)
        if self._motion.isEnabled():
            self._motion.setToolTip(whole)

    def _build_menu(self) -> QMenu:
        menu = QMenu(self)
        texts = {spec.name: spec.text for spec in ACTIONS}
        for name in _MENU:
            if name:
                action = QAction(texts[name], menu)
                action.triggered.connect(lambda _=False, name=name: self.action_wanted.emit(name))
                menu.addAction(action)
                if name not in _BATCHES:
                    self._clip_actions.append(action)
            else:
                menu.addSeparator()
        return menu


class CropTools(QWidget):
    """What holds while a crop is edited.

    Signals:
        aspect_chosen: The box is to be held to an aspect. arg: CropAspect
        bars_wanted: Black bars are to be found in this clip.
        whole_wanted: Nothing is to be cut off.
        apply_wanted: The box is to be taken.
        cancel_wanted: It is to be left as it was.
    """

    aspect_chosen = Signal(object)
    bars_wanted = Signal()
    whole_wanted = Signal()
    apply_wanted = Signal()
    cancel_wanted = Signal()

    def __init__(self) -> None:
        super().__init__()
        self._aspects: tuple[CropAspect, ...] = ()
        self._choice = QComboBox()
        self._choice.setAccessibleName("Aspect of the crop")
        self._choice.activated.connect(lambda at: self.aspect_chosen.emit(self._aspects[at]))
        self._choice.setMinimumWidth(_CHOICE_WIDTH)
        self.setLayout(
            row(
                self._choice,
                button("Find bars", self.bars_wanted.emit, tip="Cut off black bars of this clip"),
                button("Whole picture", self.whole_wanted.emit, role="link"),
                None,
                button("Cancel", self.cancel_wanted.emit, tip="Leave it as it was (Esc)"),
                button("Apply", self.apply_wanted.emit, role="primary", tip="Take this crop (Enter)"),
            )
        )

    def show_aspects(self, aspects: tuple[CropAspect, ...]) -> None:
        """Offer these; the first is chosen."""
        self._aspects = aspects
        self._choice.clear()
        self._choice.addItems([aspect.name for aspect in aspects])
