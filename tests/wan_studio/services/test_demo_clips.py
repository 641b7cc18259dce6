"""The demo's clips are real videos with captions, made once and kept."""

from pathlib import Path

import av
import numpy as np
import pytest

from wan_studio.services import demo_clips
from wan_studio.services.demo_clips import DemoClipsError, make_demo_clips
from wan_studio.services.demo_scenes import demo_caption, demo_scene
from wan_studio.services.scene_renderer import render


@pytest.fixture(autouse=True)
def two_short_clips(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(demo_clips, "DEMO_CLIP_COUNT", 2)
    monkeypatch.setattr(demo_clips, "DEMO_FRAME_COUNT", 9)
    monkeypatch.setattr(demo_clips, "DEMO_FRAME_SIZE", 96)


def decoded(path: Path) -> np.ndarray:
    with av.open(path) as container:
        return np.stack([frame.to_ndarray(format="rgb24") for frame in container.decode(video=0)])


def test_clips_are_h264_with_every_frame_at_its_time_and_the_camera_turning(tmp_path: Path):
    path = make_demo_clips(tmp_path / "clips")[1]
    with av.open(path) as container:
        stream = container.streams.video[0]
        assert stream.codec_context.name == "h264"
        assert stream.codec_context.pix_fmt == "yuv420p"
        times = [frame.time for frame in container.decode(video=0)]
    assert times == pytest.approx([index / 24 for index in range(9)])
    frames = decoded(path)
    scene, camera = demo_scene(1)
    for index in (0, 8):
        truth = render(scene, camera.turned(45.0 * index / 24), 96, 96).astype(float)
        assert abs(frames[index] - truth).mean() < 4.0


def test_captions_stand_beside_the_clips_with_the_trigger_still_open(tmp_path: Path):
    for index, path in enumerate(make_demo_clips(tmp_path)):
        text = path.with_suffix(".txt").read_text(encoding="utf-8").strip()
        assert text == demo_caption(demo_scene(index)[0])
        assert text.startswith("orbit [trigger], the camera orbits around a")


def test_what_is_there_and_whole_is_kept_and_what_is_damaged_is_made_again(tmp_path: Path):
    first, second = make_demo_clips(tmp_path)
    kept = first.read_bytes(), first.stat().st_mtime_ns
    whole = second.read_bytes()
    second.write_bytes(whole[: len(whole) // 2])
    first.with_suffix(".txt").write_text("my own words", encoding="utf-8")
    assert make_demo_clips(tmp_path) == [first, second]
    assert (first.read_bytes(), first.stat().st_mtime_ns) == kept
    assert len(decoded(second)) == 9
    assert first.with_suffix(".txt").read_text(encoding="utf-8") == "my own words"
    assert sorted(path.suffix for path in tmp_path.iterdir()) == [".mp4", ".mp4", ".txt", ".txt"]


def test_progress_counts_the_clips(tmp_path: Path):
    seen: list[tuple[int, int]] = []
    make_demo_clips(tmp_path, lambda done, total: seen.append((done, total)))
    assert seen == [(0, 2), (1, 2), (2, 2)]


def test_a_folder_that_cannot_be_made_is_named_in_the_error(tmp_path: Path):
    (tmp_path / "taken").write_text("a file", encoding="utf-8")
    with pytest.raises(DemoClipsError, match=r"taken.*could not be written") as caught:
        make_demo_clips(tmp_path / "taken")
    assert caught.value.hint
