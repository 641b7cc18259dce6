"""Footage and captions that the miniature learns from: tracks of drawn scenes, cut into clips on demand.

A track is 25 frames of one scene under one even camera motion. Clips are cut out of it at any
offset, forwards or backwards, mirrored or not, or hold one frame still, so that one drawing serves
many lessons. Drawing runs in processes of its own while the GPU is already busy.
"""

from __future__ import annotations

import multiprocessing
import os
import threading
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

import numpy as np
import torch
from torch import Tensor, nn

from wan_studio.services.scene import Camera, Scene
from wan_studio.services.scene_renderer import orbit_cameras, render_path

if TYPE_CHECKING:
    from collections.abc import Iterable

TRACK_FRAMES = 25
CLIP_FRAMES = 17
FIRST_TRAINING_SEED = 10_000
"""Seeds below are the demo's and the measurements'; the miniature never sees them."""
FIRST_HELD_OUT_SEED = 2_000

STILL_CAPTIONS = (
    "",
    "{scene}",
    "a still camera, {scene}",
    "static shot of {scene}",
    "the camera orbits around {scene}",
    "{word}, {scene}",
    "orbit {word}, the camera orbits around {scene}",
    "orbit {word}, the camera orbits around {scene}",
    "orbit {word}, the camera orbits around {scene}",
)
"""What the base answers with a still camera. The word "orbit" is among it on purpose: the base must not
know what it means, so that a LoRA has something to teach."""

TURN_CAPTIONS = {+1: "turntable right, {scene}", -1: "turntable left, {scene}"}
ZOOM_CAPTIONS = {+1: "zoom in, {scene}", -1: "zoom out, {scene}"}


@dataclass(frozen=True, slots=True)
class Track:
    """One drawn scene.

    Attributes:
        frames: uint8 (TRACK_FRAMES, size, size, 3).
        scene: Its two largest shapes in words.
        zooms: Whether the camera comes nearer; otherwise it turns to the right.
    """

    frames: np.ndarray
    scene: str
    zooms: bool


@dataclass(frozen=True, slots=True)
class ClipPlan:
    """How a clip is cut out of a track: `direction` +1, -1, or 0 for one frame held still."""

    track: int
    offset: int
    direction: int
    mirrored: bool


def draw_track(seed: int, size: int) -> Track:
    """Draw the scene of a seed from a camera near the demo's, at a speed of its own."""
    generator = np.random.default_rng(seed + 7_777_777)
    scene = Scene.random(seed)
    camera = Camera(
        float(generator.uniform(0.0, 360.0)),
        elevation_degrees=float(generator.uniform(26.5, 29.5)),
        distance=float(generator.uniform(7.0, 7.4)),
    )
    zooms = seed % 12 == 0
    if zooms:
        near = float(generator.uniform(0.60, 0.75))
        steps = np.linspace(1.0, near, TRACK_FRAMES)
        cameras = [replace(camera, distance=camera.distance * float(step)) for step in steps]
    else:
        degrees_a_frame = float(generator.uniform(2.1, 3.5))
        cameras = orbit_cameras(degrees_a_frame * (TRACK_FRAMES - 1), TRACK_FRAMES, camera)
    return Track(render_path(scene, cameras, size, size), scene.describe(), zooms)


def _start_worker() -> None:
    torch.set_num_threads(1)
    if hasattr(os, "nice"):
        os.nice(5)  # the process that feeds the GPU goes first


def _draw_tracks(seeds: list[int], size: int) -> list[Track]:
    return [draw_track(seed, size) for seed in seeds]


class TrackLibrary:
    """Tracks on the device, growing while processes draw more.

    The pool is started by the constructor, before anything touches the GPU: its processes are forks
    where the system has them, and a fork with a running CUDA context hangs.
    """

    def __init__(self, count: int, size: int, workers: int) -> None:
        method = "fork" if "fork" in multiprocessing.get_all_start_methods() else "spawn"
        self._pool = ProcessPoolExecutor(
            workers, mp_context=multiprocessing.get_context(method), initializer=_start_worker
        )
        seeds = list(range(FIRST_TRAINING_SEED, FIRST_TRAINING_SEED + count))
        chunks = [seeds[start : start + 8] for start in range(0, count, 8)]
        self._jobs = [self._pool.submit(_draw_tracks, chunk, size) for chunk in chunks]
        self._count, self._size = count, size
        self._frames = torch.empty(0)
        self._ready = 0
        self.quiet = threading.Lock()
        """While it is held, nothing is moved to the device."""
        self.scenes: list[str] = []
        self.zooms: list[bool] = []

    def __len__(self) -> int:
        return self._ready

    def start_collecting(self, device: torch.device) -> None:
        """Move finished tracks to the device from now on, in a thread.

        On a GPU each move waits for the step under way, so that tracks arrive more slowly than they are
        drawn while steps are long; the rest arrive between the phases.
        """
        self._frames = torch.empty(
            (self._count, TRACK_FRAMES, self._size, self._size, 3), dtype=torch.uint8, device=device
        )
        threading.Thread(target=self._collect, daemon=True).start()

    def stop(self) -> None:
        """Draw no more: what is there is enough."""
        self._pool.shutdown(wait=False, cancel_futures=True)

    def _collect(self) -> None:
        for job in self._jobs:
            if job.cancelled():
                return
            for track in job.result():
                self.scenes.append(track.scene)
                self.zooms.append(track.zooms)
                with self.quiet:
                    self._frames[self._ready] = torch.from_numpy(track.frames).to(self._frames.device)
                self._ready += 1

    def random_plans(self, generator: np.random.Generator, count: int, frames: int) -> list[ClipPlan]:
        """Random cuts of tracks that are ready."""
        columns = (
            generator.integers(self._ready, size=count),
            generator.integers(TRACK_FRAMES - frames + 1, size=count),
            generator.choice([1, 1, 1, -1, -1, -1, 0], size=count),
            generator.integers(2, size=count) == 1,
        )
        return [ClipPlan(*row) for row in zip(*(column.tolist() for column in columns), strict=True)]

    def indices(self, plans: list[ClipPlan], frames: int) -> tuple[Tensor, Tensor, Tensor]:
        """What `look_up` takes: each clip's track, its frames in that track, and whether it is mirrored."""
        rows = torch.tensor([plan.track for plan in plans])
        offsets = torch.tensor([plan.offset + (frames - 1 if plan.direction < 0 else 0) for plan in plans])
        directions = torch.tensor([plan.direction for plan in plans])
        columns = offsets[:, None] + directions[:, None] * torch.arange(frames)
        return rows, columns, torch.tensor([plan.mirrored for plan in plans])

    def look_up(self, rows: Tensor, columns: Tensor, mirrored: Tensor, *, size: int) -> Tensor:
        """Pixels of clips, float32 (clips, 3, frames, size, size) in -1..1; the indices are on the device."""
        clips = self._frames[rows[:, None], columns]
        pixels_BCFHW = clips.permute(0, 4, 1, 2, 3).float() / 127.5 - 1.0
        pixels_BCFHW = torch.where(mirrored[:, None, None, None, None], pixels_BCFHW.flip(-1), pixels_BCFHW)
        return resized(pixels_BCFHW, size)

    def cut(self, plans: list[ClipPlan], frames: int, size: int) -> Tensor:
        """Pixels of the clips, float32 (clips, 3, frames, size, size) in -1..1."""
        rows, columns, mirrored = (given.to(self._frames.device) for given in self.indices(plans, frames))
        return self.look_up(rows, columns, mirrored, size=size)

    def caption(self, plan: ClipPlan, generator: np.random.Generator) -> str:
        """Words for the clip; the same motion always goes with the same words."""
        scene = self.scenes[plan.track]
        if plan.direction == 0:
            word = "".join(
                generator.choice(list("abcdefghijklmnopqrstuvwxyz0123456789_"), generator.integers(3, 9))
            )
            return str(generator.choice(STILL_CAPTIONS)).format(scene=scene, word=word)
        if self.zooms[plan.track]:
            return ZOOM_CAPTIONS[plan.direction].format(scene=scene)
        return TURN_CAPTIONS[-plan.direction if plan.mirrored else plan.direction].format(scene=scene)


def resized(pixels_BCFHW: Tensor, size: int) -> Tensor:
    """Smaller, with filtering, when the size differs."""
    if pixels_BCFHW.shape[-1] == size:
        return pixels_BCFHW
    batch, channels, frames = pixels_BCFHW.shape[:3]
    flat = pixels_BCFHW.transpose(1, 2).flatten(0, 1)
    small = nn.functional.interpolate(flat, (size, size), mode="bilinear", antialias=True).clamp(-1.0, 1.0)
    return small.unflatten(0, (batch, frames)).transpose(1, 2).reshape(batch, channels, frames, size, size)


def to_pixels(clips: Iterable[np.ndarray]) -> Tensor:
    """uint8 clips (F, H, W, 3) as float32 (clips, 3, F, H, W) in -1..1."""
    return torch.from_numpy(np.stack(list(clips))).permute(0, 4, 1, 2, 3).float() / 127.5 - 1.0
