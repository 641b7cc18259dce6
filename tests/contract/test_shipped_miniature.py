"""The miniature that ships: sharp enough to be looked at, still by itself, and a LoRA turns its camera.

Measured on scenes that neither the miniature nor the demo's clips show, by the angle that the camera of
a known scene has turned by.
"""

import os
import subprocess
import sys
from pathlib import Path

import av
import msgspec
import numpy as np
import pytest
import torch
from PIL import Image

from trainer.model.experts import Experts
from trainer.model.layouts import open_base
from trainer.model.load import load_expert, load_text_encoder, load_vae, sampling_scheduler
from trainer.model.sampling import DenoiseRequest, denoise
from trainer.model.text import encode_prompts
from trainer.model.vae import decode_latents, encode_clip, encode_condition
from trainer.protocol.job import MINIATURE, BucketSize, Expert, SampleRow
from trainer.protocol.run_folder import RunFolder
from trainer.protocol.wire import write_json
from wan_studio.services.demo_project import DEMO_TRIGGER, make_demo_project
from wan_studio.services.demo_scenes import DEMO_DEGREES_PER_SECOND, demo_caption
from wan_studio.services.job_preparation import prepare_job
from wan_studio.services.scene import Camera, Scene
from wan_studio.services.scene_angle import estimate_azimuths
from wan_studio.services.scene_renderer import orbit, render

ROOT = Path(__file__).parents[2]
CPU = torch.device("cpu")
SIDE, FRAMES = 64, 17
HELD_OUT_SEED = 2_000
ORBIT_DEGREES = float(DEMO_DEGREES_PER_SECOND)
"""How far the demo's camera turns from a clip's first frame to its last."""


def unseen(index: int) -> tuple[Scene, Camera]:
    return Scene.random(HELD_OUT_SEED + index), Camera(37.0 * index)


def prompt_of(scene: Scene) -> str:
    return demo_caption(scene).replace("[trigger]", DEMO_TRIGGER)


def camera_turns(frames: np.ndarray, index: int) -> list[float]:
    """Degrees from the first frame's camera to those of the middle and the last frame."""
    scene, camera = unseen(index)
    return estimate_azimuths(frames[[FRAMES // 2, FRAMES - 1]], scene, camera, range(-80, 81, 8)).tolist()


def psnr(one: np.ndarray, other: np.ndarray) -> float:
    return float(10.0 * np.log10(255.0**2 / np.square(one.astype(float) - other.astype(float)).mean()))


@pytest.fixture(scope="module")
def base():
    return open_base(MINIATURE)


@pytest.fixture(scope="module")
def vae(base):
    return load_vae(base, CPU)


@pytest.mark.parametrize("side", [64, pytest.param(96, marks=pytest.mark.slow)])
def test_the_vae_restores_unseen_scenes_above_26_db(vae, side):
    levels = []
    for index in range(2):
        scene, camera = unseen(index)
        clip = orbit(scene, ORBIT_DEGREES, FRAMES, camera, side, side)
        levels.append(psnr(decode_latents(vae, encode_clip(vae, clip).x0_CTHW), clip))
    assert min(levels) > 26.0


def test_without_a_lora_the_camera_stands_still_though_the_prompt_speaks_of_an_orbit(base, vae):
    scene, camera = unseen(1)
    picture = render(scene, camera, SIDE, SIDE)
    rows = encode_prompts(load_text_encoder(base, torch.float32, CPU), [prompt_of(scene)])
    experts = Experts(
        {expert: load_expert(base, expert, torch.float32, CPU) for expert in Expert}, base.boundary_ratio
    )
    request = DenoiseRequest(
        condition_CTHW=encode_condition(vae, picture, FRAMES),
        prompt_LD=rows[0],
        negative_LD=None,
        steps=4,
        guidance_high=1.0,
        guidance_low=1.0,
        seed=42,
    )
    latents = denoise(experts, sampling_scheduler(base, "unipc", 5.0), request, lambda *_: None)
    frames = decode_latents(vae, latents)
    assert np.abs(camera_turns(frames, 1)).max() < 3.0
    assert psnr(frames, np.broadcast_to(picture, frames.shape)) > 23.0


@pytest.mark.slow
@pytest.mark.contract
def test_the_demos_lora_turns_the_camera_on_scenes_that_it_never_saw(tmp_path):
    store = make_demo_project(tmp_path / "demo")
    job = prepare_job(store.load(), store).job
    rows = []
    for index in range(4):
        scene, camera = unseen(index)
        path = tmp_path / f"scene_{index}.png"
        Image.fromarray(render(scene, camera, 192, 192)).save(path)
        size = BucketSize(width=SIDE, height=SIDE)
        rows.append(SampleRow(prompt=prompt_of(scene), image=str(path), size=size, num_frames=FRAMES))
    steps = job.training.steps
    sample = msgspec.structs.replace(job.sample, rows=tuple(rows), every=steps, at_start=True)
    write_json(tmp_path / "job.json", msgspec.structs.replace(job, sample=sample))
    run = RunFolder(tmp_path / "run")
    subprocess.run(
        [sys.executable, "-m", "trainer", "run", str(tmp_path / "job.json"), "--run-dir", str(run.path)],
        env=os.environ | {"PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1"},
        capture_output=True,
        check=True,
    )
    plain = [camera_turns(frames, index) for index, frames in enumerate(previews_of(run, 0))]
    taught = [camera_turns(frames, index) for index, frames in enumerate(previews_of(run, steps))]
    assert np.abs(plain).max() < 3.0
    middle, last = np.array(taught).T
    # The right way round in every scene, and on average more than half of the demo's own angle.
    assert middle.min() > 5.0
    assert last.min() > 10.0
    assert middle.mean() > 0.5 * ORBIT_DEGREES / 2.0
    assert last.mean() > 0.5 * ORBIT_DEGREES


def previews_of(run: RunFolder, step: int) -> list[np.ndarray]:
    clips = []
    for video in sorted(run.previews(step).glob("*.mp4")):
        with av.open(str(video)) as container:
            clips.append(np.stack([frame.to_ndarray(format="rgb24") for frame in container.decode(video=0)]))
    assert len(clips) == 4
    return clips
