"""Cropping on the player: the box, its bar, and what they change."""

from trainer.protocol.job import CropBox
from wan_studio.bridge.background import run_in_background
from wan_studio.bridge.workbench import Workbench
from wan_studio.domain.buckets import bucket_for
from wan_studio.domain.clip import SourceVideo
from wan_studio.domain.crop_aspects import FREE, CropAspect, crop_aspects
from wan_studio.views.trim.edits import TrimEdits
from wan_studio.views.trim.stage import TrimStage


class Cropping:
    """Begins, follows and ends the editing of one clip's crop."""

    def __init__(self, bench: Workbench, stage: TrimStage, edits: TrimEdits) -> None:
        self._bench = bench
        self._stage = stage
        self._edits = edits
        self._source: SourceVideo | None = None
        self._crop: CropBox | None = None
        overlay, bar = stage.overlay, stage.crop_tools
        overlay.changed.connect(self._on_changed)
        overlay.applied.connect(self._on_applied)
        overlay.cancelled.connect(self._on_cancelled)
        bar.aspect_chosen.connect(self._on_aspect_chosen)
        bar.apply_wanted.connect(overlay.apply)
        bar.cancel_wanted.connect(overlay.cancel)
        bar.whole_wanted.connect(self._on_whole_wanted)
        bar.bars_wanted.connect(self._find_bars)

    @property
    def crop(self) -> CropBox | None:
        """The crop that is stored with the clip."""
        return self._crop

    def show_clip(self, source: SourceVideo, crop: CropBox | None) -> None:
        """Another clip, or another crop of it."""
        self._source, self._crop = source, crop
        self._stage.overlay.show_crop(source, crop)
        self._stage.overlay.setVisible(not self._stage.shows_training)
        self._stage.show_crop_tools(on=False)

    def toggle(self) -> None:
        """Begin to change the crop, or leave it as it was."""
        if self._stage.overlay.is_editing:
            self.cancel()
        elif self._source is not None:
            if self._stage.shows_training:
                self._stage.view_wanted.emit("source")
            source = self._source
            width = source.width * source.pixel_aspect
            self._stage.crop_tools.show_aspects(crop_aspects(width, source.height, self._resolution))
            self._stage.show_crop_tools(on=True)
            self._stage.player.playback.stop()
            self._stage.overlay.begin()

    def cancel(self) -> None:
        """Leave the crop as it was."""
        self._stage.overlay.cancel()

    @property
    def _resolution(self) -> int:
        return max(self._bench.session.project.settings.datasets.resolutions)

    def _on_changed(self, crop: CropBox) -> None:
        source = self._source
        if source is not None:
            upscale = self._bench.session.project.settings.datasets.allow_upscale
            width = crop.width * source.pixel_aspect
            bucket = bucket_for(width, crop.height, self._resolution, allow_upscale=upscale)
            self._stage.show_state(
                f"{crop.width} × {crop.height} pixels, trains at {bucket.width} × {bucket.height}. "
                "Arrows move it, + and - resize it, Enter applies it."
            )

    def _on_applied(self, crop: CropBox) -> None:
        source = self._source
        self._stage.show_crop_tools(on=False)
        self._stage.show_state("")
        if source is not None:
            self._crop = None if crop == source.whole_picture else crop
            self._stage.overlay.show_crop(source, self._crop)
            self._edits.set_crop(source, crop)

    def _on_cancelled(self) -> None:
        if self._source is not None:
            self.show_clip(self._source, self._crop)

    def _on_aspect_chosen(self, aspect: CropAspect) -> None:
        self._stage.overlay.set_ratio(aspect.ratio)
        self._stage.overlay.setFocus()

    def _on_whole_wanted(self) -> None:
        if self._source is not None:
            self._stage.overlay.set_ratio(FREE.ratio)
            self._stage.overlay.set_crop(self._source.whole_picture)

    def _find_bars(self) -> None:
        source, clip = self._source, self._bench.session.clip
        if source is None or clip is None:
            return
        trim = clip.trim or source.whole_range

        def work() -> CropBox | None:
            from wan_studio.services.letterbox import picture_without_bars

            return picture_without_bars(source, trim)

        def on_done(found: CropBox | None) -> None:
            if self._source == source and self._stage.overlay.is_editing:
                self._stage.overlay.set_ratio(FREE.ratio)
                self._stage.overlay.set_crop(found or source.whole_picture)

        run_in_background(work, on_done, self._bench.error_happened.emit, urgent=True)
