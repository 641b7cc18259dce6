"""Player, timeline and their bars: what is looked at while a clip is trimmed."""

from collections.abc import Callable

from PySide6.QtCore import Signal
from PySide6.QtWidgets import QHBoxLayout, QStackedWidget, QVBoxLayout, QWidget

from trainer.protocol.job import TrainedSize
from wan_studio.domain.clip import SourceVideo, TrimRange
from wan_studio.domain.frame_sampling import FrameSample
from wan_studio.views.actions import tip_with_key
from wan_studio.views.player.player import Player, Strip, whole_strip
from wan_studio.views.player.transport import Transport
from wan_studio.views.theme import GRID
from wan_studio.views.trim.contact_sheet import ContactSheet
from wan_studio.views.trim.crop_box import CropOverlay
from wan_studio.views.trim.shown_clip import trained_strip
from wan_studio.views.trim.timeline import Timeline
from wan_studio.views.trim.tools import CropTools, TrimTools
from wan_studio.views.widgets import ElidedLabel, button, row, tool_button
from wan_studio.views.wording import time_code


class TrimStage(QWidget):
    """The source, or exactly what trains of it.

    Signals:
        place_changed: Another frame is on screen. args: its time, its number, both in words
        view_wanted: The other view is to be shown. arg: "source" or "training"
        sheet_wanted: The contact sheet is to be shown, or not. arg: bool
    """

    place_changed = Signal(str, str)
    view_wanted = Signal(str)
    sheet_wanted = Signal(bool)

    def __init__(self) -> None:
        super().__init__()
        self._source: SourceVideo | None = None
        self._shows_training = False
        self.player = Player("Player")
        self.overlay = CropOverlay(self.player.surface)
        self.sheet = ContactSheet(self.player)
        self.timeline = Timeline()
        self.tools = TrimTools()
        self.crop_tools = CropTools()
        self._transport = Transport(self.player)
        self._state = ElidedLabel("", "muted")
        self._picture = QStackedWidget()
        self._picture.addWidget(self.player)
        self._picture.addWidget(self.sheet)
        self._bars = QStackedWidget()
        self._bars.addWidget(self.tools)
        self._bars.addWidget(self.crop_tools)
        # No higher than its bars: the picture has the room.
        self._bars.setFixedHeight(max(self.tools.sizeHint().height(), self.crop_tools.sizeHint().height()))
        layout = QVBoxLayout(self)
        layout.setContentsMargins(0, 0, 0, 0)
        layout.setSpacing(GRID)
        layout.addWidget(self._picture, 1)
        layout.addLayout(self._build_bar())
        layout.addWidget(self.timeline)
        layout.addWidget(self._state)
        layout.addWidget(self._bars)
        self.player.position_changed.connect(self._on_position_changed)
        self.sheet.position_chosen.connect(self.player.playback.seek)

    @property
    def shows_training(self) -> bool:
        """Whether the training view is shown."""
        return self._shows_training

    @property
    def shows_sheet(self) -> bool:
        """Whether the contact sheet is shown."""
        return self._picture.currentIndex() == 1

    def handlers(self) -> dict[str, Callable[[], object]]:
        """What the keys do here."""
        return {
            **self._transport.handlers(),
            "trim.zoom_in": lambda: self.timeline.zoom(1),
            "trim.zoom_out": lambda: self.timeline.zoom(-1),
            "trim.zoom_fit": self.timeline.zoom_to_fit,
        }

    def show_nothing(self, message: str) -> None:
        """There is no video to look at."""
        self._source = None
        self.player.show_strip(None, message=message)
        self.overlay.show_crop(None, None)
        self.timeline.show_clip(None, TrimRange(0, 1), None)
        self.place_changed.emit("", "")

    def show_source(self, source: SourceVideo, trim: TrimRange, frame: int) -> None:
        """Every frame of the source, looping in the range."""
        self._show_view(training=False)
        self._show_strip(source, whole_strip(source), frame)
        self.loop(trim)

    def show_trained(self, source: SourceVideo, sample: FrameSample, size: TrainedSize, frame: int) -> None:
        """The frames that train, at the bucket's size and 16 a second."""
        self._show_view(training=True)
        strip = trained_strip(source, sample, size)
        position = next((at for at, chosen in enumerate(sample.frames) if chosen >= frame), 0)
        self._show_strip(source, strip, position)
        self.player.keep_range(0, len(sample.frames))
        self.sheet.update()

    def show_sheet(self, *, on: bool) -> None:
        """Show the trained frames side by side, or the player."""
        self._picture.setCurrentIndex(1 if on else 0)
        self._sheet_button.setChecked(on)

    def loop(self, trim: TrimRange) -> None:
        """Play this range of the source, and keep it in memory."""
        if not self._shows_training:
            self.player.playback.set_loop(trim.start_frame, trim.end_frame)
            self.player.keep_range(trim.start_frame, trim.end_frame)

    def seek(self, frame: int) -> None:
        """Stand on a source frame, or on the trained one that is nearest before it."""
        strip = self.player.strip
        if strip is None:
            return
        if not self._shows_training:
            position = frame
        else:
            position = max((at for at, shown in enumerate(strip.frames) if shown <= frame), default=0)
        self.player.playback.step(position - self.player.playback.position)

    @property
    def state(self) -> str:
        """What is said under the timeline."""
        return self._state.whole_text

    def show_state(self, text: str, *, can_stop: bool = False) -> None:
        """Say how work in the background stands, or why a key does nothing now."""
        self._state.set_text(text)
        self.tools.show_stop(on=can_stop)

    def show_crop_tools(self, *, on: bool) -> None:
        """Show the bar of the crop, or that of the range."""
        self._bars.setCurrentIndex(1 if on else 0)

    def _build_bar(self) -> QHBoxLayout:
        self._source_button = button("Source", lambda: self.view_wanted.emit("source"))
        self._training_button = button("Training view", lambda: self.view_wanted.emit("training"))
        for made in (self._source_button, self._training_button):
            made.setCheckable(True)
            made.setToolTip(tip_with_key("trim.view"))
        self._source_button.setChecked(True)
        self._sheet_button = tool_button(
            tip_with_key("trim.sheet"), "grid-four", lambda: self.sheet_wanted.emit(not self.shows_sheet)
        )
        self._sheet_button.setCheckable(True)
        return row(self._transport, None, self._sheet_button, self._source_button, self._training_button)

    def _show_view(self, *, training: bool) -> None:
        self._shows_training = training
        self._training_button.setChecked(training)
        self._source_button.setChecked(not training)
        if not training:
            self.show_sheet(on=False)
        self.overlay.setVisible(not training)

    def _show_strip(self, source: SourceVideo, strip: Strip, position: int) -> None:
        self._source = source
        speed = self.player.playback.speed
        self.player.show_strip(strip, position)
        self._on_position_changed(self.player.playback.position)
        if speed:
            self.player.playback.play(speed)

    def _on_position_changed(self, position: int) -> None:
        if self._source is None:
            return
        frame = self.player.source_frame
        self.timeline.set_frame(frame)
        seconds = time_code(self._source.seconds_at(frame))
        if self._shows_training:
            self.place_changed.emit(seconds, f"{position + 1} of {self.player.playback.count} trained")
        else:
            self.place_changed.emit(seconds, f"frame {frame}")
