"""The looping clip beside its caption: as it was filmed, or exactly as the model will see it."""

from PySide6.QtCore import Qt, Signal
from PySide6.QtWidgets import QVBoxLayout, QWidget

from wan_studio.domain.clip import SourceVideo
from wan_studio.domain.frame_sampling import MODEL_FRAMES_PER_SECOND
from wan_studio.domain.project import Project, ProjectClip
from wan_studio.views.actions import tip_with_key
from wan_studio.views.player.player import Player, whole_strip
from wan_studio.views.theme import GRID
from wan_studio.views.trim.panel import speed_in_words
from wan_studio.views.trim.shown_clip import sample_of, size_of, trained_strip, valid_trim
from wan_studio.views.widgets import ElidedLabel, button, row, set_role

_LEAST_PLAYER_HEIGHT = 96


class ClipSide(QWidget):
    """Player, and above it which of the two views is shown and what it means.

    Signals:
        view_wanted: The user wants the other view, or this one. arg: whether the training view
    """

    view_wanted = Signal(bool)

    def __init__(self) -> None:
        super().__init__()
        self.player = Player("Clip")
        self.player.setMinimumHeight(_LEAST_PLAYER_HEIGHT)
        self.shows_training = False
        self._note = ElidedLabel("", "muted")
        self._source_button = button("Source", lambda: self.view_wanted.emit(False))  # noqa: FBT003
        self._training_button = button("Training view", lambda: self.view_wanted.emit(True))  # noqa: FBT003
        for made in (self._source_button, self._training_button):
            made.setCheckable(True)
            made.setToolTip(tip_with_key("trim.view"))
            # Typing goes on in the editor.
            made.setFocusPolicy(Qt.FocusPolicy.TabFocus)
        self._source_button.setChecked(True)
        bar = row(self._note, self._source_button, self._training_button)
        bar.setStretch(0, 1)
        layout = QVBoxLayout(self)
        layout.setContentsMargins(0, 0, 0, 0)
        layout.setSpacing(GRID // 2)
        layout.addLayout(bar)
        layout.addWidget(self.player, 1)

    @property
    def note(self) -> str:
        """What is said above the clip."""
        return self._note.whole_text

    def show_message(self, message: str) -> None:
        """There is nothing to look at, for this reason."""
        self._note.set_text("")
        self.player.show_strip(None, message=message)

    def show_clip(
        self, project: Project, clip: ProjectClip, source: SourceVideo, *, play: bool = False
    ) -> None:
        """Play the clip in the chosen view; where it is shown already, it goes on as it plays, or `play`s."""
        trim = valid_trim(clip, source)
        if self.shows_training:
            sample = sample_of(project, source, trim, clip.dataset)
            size = size_of(project, clip, source)
            strip, first, end = trained_strip(source, sample, size), 0, len(sample.frames)
            frames = "1 frame" if end == 1 else f"{end} frames at {MODEL_FRAMES_PER_SECOND} fps"
            note = f"{frames}, {size.width} × {size.height}, {speed_in_words(sample.speed)}"
            if sample.is_shortened:
                note += f"; too short for {sample.wanted_frames}"
            tone_name = "warn" if sample.is_shortened or not 0.8 <= sample.speed <= 1.2 else "muted"
        else:
            strip, first, end = whole_strip(source), trim.start_frame, trim.end_frame
            seconds = f"{source.seconds_at(first):.2f} to {source.seconds_at(end):.2f} s"
            note = "Still image" if source.is_image else f"Loops from {seconds}"
            tone_name = "muted"
        set_role(self._note, tone_name)
        self._note.set_text(note)
        is_other = strip != self.player.strip
        if is_other:
            self.player.show_strip(strip, first)
        self.player.playback.set_loop(first, end)
        if self.shows_training:
            self.player.keep_range(first, end)
        if source.is_image:
            self.player.playback.stop()
        elif is_other or play:
            self.player.playback.play()

    def set_training(self, *, on: bool) -> None:
        """Say which view is to be shown; `show_clip` shows it."""
        self.shows_training = on
        self._training_button.setChecked(on)
        self._source_button.setChecked(not on)
