"""One pass over a video for its timeline: motion, cuts and a filmstrip; kept on disk."""

import hashlib
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import msgspec
import numpy as np
from numpy.typing import NDArray

from trainer.protocol.wire import write_atomic
from wan_studio.domain.clip import SourceVideo
from wan_studio.domain.clip_motion import ClipMotion
from wan_studio.errors import AppError
from wan_studio.services.frame_reader import upright_picture
from wan_studio.services.media_probe import (
    MEDIA_ERRORS,
    UnreadableVideoError,
    open_media,
    picture_stream,
    pts_of,
)
from wan_studio.services.motion_curve import MotionMeter
from wan_studio.services.picture_identity import picture_identity
from wan_studio.services.progress import Progress, untold
from wan_studio.services.scene_detection import SceneDetector

STRIP_HEIGHT = 54
"""Pixels of the filmstrip's pictures."""
MOST_STRIP_PICTURES = 96


class AnalysisCancelledError(AppError):
    """Looking through a video was cancelled."""

    def __init__(self) -> None:
        super().__init__("Looking for motion was cancelled.")


class _Kept(msgspec.Struct, frozen=True):
    """What is on disk: one file."""

    curve: tuple[float, ...]
    cut_scores: tuple[float, ...]
    strip_frames: tuple[int, ...]
    strip_shape: tuple[int, int, int]
    strip: bytes


@dataclass(frozen=True, slots=True)
class ClipAnalysis:
    """What the pass told.

    Attributes:
        motion: Per frame.
        strip_frames: The frames that the filmstrip shows, ascending.
        strip: Their pictures side by side, uint8 (height, width of all, 3).
    """

    motion: ClipMotion
    strip_frames: tuple[int, ...]
    strip: NDArray[np.uint8]


class AnalysisCache:
    """Analyses in one folder, which may be emptied at any time."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder

    def existing(self, source: SourceVideo) -> ClipAnalysis | None:
        """The analysis, if it was made before."""
        try:
            kept = msgspec.msgpack.decode(self._path(source).read_bytes(), type=_Kept)
            return _unpacked(kept, source)
        except (OSError, ValueError):
            return None

    def analysis(
        self,
        source: SourceVideo,
        on_progress: Progress = untold,
        is_cancelled: Callable[[], bool] = lambda: False,
    ) -> ClipAnalysis:
        """The analysis, made where it is not there.

        Raises:
            UnreadableVideoError: the source cannot be read.
            AnalysisCancelledError: it was cancelled.
        """
        path = self._path(source)
        known = self.existing(source)
        if known is not None:
            return known
        found = analyse(source, on_progress, is_cancelled)
        kept = _Kept(
            found.motion.curve,
            found.motion.cut_scores,
            found.strip_frames,
            (found.strip.shape[0], found.strip.shape[1], found.strip.shape[2]),
            found.strip.tobytes(),
        )
        try:
            self._folder.mkdir(parents=True, exist_ok=True)
            write_atomic(path, msgspec.msgpack.encode(kept))
        except OSError:
            # It is made again next time; nothing is lost but that time.
            return found
        return found

    def _path(self, source: SourceVideo) -> Path:
        identity = f"2\0{picture_identity(source)}"
        digest = hashlib.sha256(identity.encode("utf-8", "surrogateescape")).hexdigest()
        return self._folder / f"{digest[:32]}.motion"


def analyse(
    source: SourceVideo,
    on_progress: Progress = untold,
    is_cancelled: Callable[[], bool] = lambda: False,
) -> ClipAnalysis:
    """Decode every frame once.

    Raises:
        UnreadableVideoError: the source cannot be read.
        AnalysisCancelledError: it was cancelled.
    """
    path, count = Path(source.path), source.frame_count
    places = {pts: frame for frame, pts in enumerate(source.frame_pts)}
    curve, scores = [0.0] * count, [0.0] * count
    shown = set(_strip_frames(count))
    pictures: dict[int, NDArray[np.uint8]] = {}
    try:
        with open_media(path) as container:
            stream = picture_stream(path, container)
            stream.thread_type = "AUTO"
            detector, meter = SceneDetector(stream), MotionMeter()
            for done, frame in enumerate(container.decode(stream)):
                if is_cancelled():
                    raise AnalysisCancelledError
                at = places.get(pts_of(frame) or 0, done) if not source.is_image else 0
                if at >= count:
                    continue
                scores[at], grey = detector.look_at(frame)
                curve[at] = meter.change(grey)
                if at in shown:
                    pictures[at] = upright_picture(source, frame, 4 * STRIP_HEIGHT, STRIP_HEIGHT)
                if done % 16 == 15:
                    on_progress(done + 1, count)
    except MEDIA_ERRORS as error:
        raise UnreadableVideoError(path, f"cannot be read ({error}).", "Import it again.") from error
    frames = tuple(sorted(pictures))
    strip = (
        np.concatenate([pictures[frame] for frame in frames], axis=1)
        if frames
        else np.zeros((STRIP_HEIGHT, 0, 3), np.uint8)
    )
    return ClipAnalysis(ClipMotion(tuple(curve), tuple(scores)), frames, strip)


def _strip_frames(count: int) -> list[int]:
    pictures = min(count, MOST_STRIP_PICTURES)
    return [(2 * at + 1) * count // (2 * pictures) for at in range(pictures)]


def _unpacked(kept: _Kept, source: SourceVideo) -> ClipAnalysis:
    if len(kept.curve) != source.frame_count or len(kept.cut_scores) != source.frame_count:
        raise ValueError("It was made of another file.")
    strip = np.frombuffer(kept.strip, np.uint8).reshape(kept.strip_shape)
    return ClipAnalysis(ClipMotion(kept.curve, kept.cut_scores), kept.strip_frames, strip)
