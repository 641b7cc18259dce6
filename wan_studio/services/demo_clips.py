"""The demo's data set: short videos of a camera that orbits synthetic scenes, with captions beside them."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from fractions import Fraction
from pathlib import Path
from typing import Any, cast
from uuid import uuid4

import av
import av.error
import numpy as np
from numpy.typing import NDArray

from trainer.protocol.wire import write_atomic
from wan_studio.errors import AppError
from wan_studio.services.demo_scenes import DEMO_DEGREES_PER_SECOND, demo_caption, demo_scene
from wan_studio.services.scene import Camera, Scene
from wan_studio.services.scene_renderer import orbit_cameras, render

DEMO_CLIP_COUNT = 8
DEMO_FRAMES_PER_SECOND = 24
DEMO_FRAME_COUNT = 44
DEMO_FRAME_SIZE = 192

Progress = Callable[[int, int], None]
"""Called with clips done and clips in all."""


class DemoClipsError(AppError):
    """The demo's clips could not be written."""

    def __init__(self, path: Path, problem: str) -> None:
        super().__init__(
            f"The demo's clip {path} could not be written: {problem}.",
            hint="Choose a folder that can be written and has a few megabytes free.",
        )


def make_demo_clips(folder: Path, on_progress: Progress | None = None) -> list[Path]:
    """Write the demo's clips and captions; those already there and whole are kept as they are.

    Args:
        folder: Made if needed.
        on_progress: Called once at the start and after each clip.

    Returns:
        The H.264 files, `DEMO_CLIP_COUNT` of them, each with a ``.txt`` of the same name beside it.

    Raises:
        DemoClipsError: The folder or a file in it cannot be written.
    """
    paths = [folder / f"orbit_{number:02d}.mp4" for number in range(1, DEMO_CLIP_COUNT + 1)]
    if on_progress:
        on_progress(0, len(paths))
    for index, path in enumerate(paths):
        scene, start = demo_scene(index)
        try:
            folder.mkdir(parents=True, exist_ok=True)
            if not _is_whole(path):
                _write_clip(path, scene, start)
            caption = path.with_suffix(".txt")
            # A caption that is there may hold the user's own words: only its absence is mended.
            if not caption.is_file():
                write_atomic(caption, f"{demo_caption(scene)}\n".encode())
        except (OSError, av.error.FFmpegError) as error:
            raise DemoClipsError(path, str(error.strerror or error)) from error
        if on_progress:
            on_progress(index + 1, len(paths))
    return paths


def _is_whole(path: Path) -> bool:
    """Whether the file is a video that decodes to every frame; an unreadable or shorter one is made again."""
    if not path.is_file():
        return False
    try:
        with av.open(path) as container:
            return sum(1 for _ in container.decode(video=0)) == DEMO_FRAME_COUNT
    except (OSError, av.error.FFmpegError, IndexError):
        return False


def _write_clip(path: Path, scene: Scene, start: Camera) -> None:
    """Draw and encode one clip under a temporary name, then give it its own."""
    degrees = DEMO_DEGREES_PER_SECOND * (DEMO_FRAME_COUNT - 1) / DEMO_FRAMES_PER_SECOND
    cameras = orbit_cameras(degrees, DEMO_FRAME_COUNT, start)
    temporary = path.with_name(f".{path.stem}.{uuid4().hex[:8]}.tmp.mp4")
    try:
        _encode(temporary, (render(scene, camera, DEMO_FRAME_SIZE, DEMO_FRAME_SIZE) for camera in cameras))
        temporary.replace(path)
    finally:
        temporary.unlink(missing_ok=True)


def _encode(path: Path, frames: Iterable[NDArray[np.uint8]]) -> None:
    """H.264, yuv420p, frame times exact."""
    # PyAV's types of packets have an unknown parameter, which the strict checker would report at each use.
    with cast("Any", av.open(path, "w")) as container:
        stream = container.add_stream("libx264", rate=DEMO_FRAMES_PER_SECOND)
        stream.width = stream.height = DEMO_FRAME_SIZE
        stream.pix_fmt = "yuv420p"
        stream.options = {"crf": "14", "preset": "medium", "g": "12"}
        stream.time_base = Fraction(1, DEMO_FRAMES_PER_SECOND)
        for index, pixels in enumerate(frames):
            frame = av.VideoFrame.from_ndarray(pixels, format="rgb24")
            frame.pts, frame.time_base = index, Fraction(1, DEMO_FRAMES_PER_SECOND)
            container.mux(stream.encode(frame))
        container.mux(stream.encode())
