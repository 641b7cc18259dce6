"""The maker of test videos makes what it says."""

import av
import numpy as np
import pytest

from tests.media import is_upright, make_video, number_in, packet_times


@pytest.mark.parametrize(
    ("name", "changes"),
    [
        ("plain.mp4", {}),
        ("sound.mp4", {"sound": True}),
        ("rotated.mp4", {"rotation": 270}),
        ("upside_down.mov", {"rotation": 180}),
        ("bframes.mkv", {"b_frames": 2, "gop": 16}),
        ("ten_bit.mkv", {"codec": "libx265", "pixel_format": "yuv420p10le"}),
        ("old.avi", {"codec": "mpeg4", "sound": True}),
        ("odd.mkv", {"width": 129, "height": 97, "pixel_format": "yuv444p"}),
        ("web.webm", {"codec": "libvpx-vp9"}),
        ("variable.mp4", {"times": [0, 0.1, 0.15, 0.4, 0.41, 1.0]}),
    ],
)
def test_a_made_video_has_its_numbers_in_order(tmp_path, name, changes):
    path = make_video(tmp_path / name, **{"frames": 12, **changes})
    with av.open(str(path)) as container:
        frames = list(container.decode(video=0))
    pictures = [frame.to_ndarray(format="rgb24") for frame in frames]
    quarter_turns = changes.get("rotation", 0) // 90
    assert all((frame.rotation - 90 * quarter_turns) % 360 == 0 for frame in frames)
    upright = [np.rot90(picture, quarter_turns) for picture in pictures]
    assert [number_in(picture) for picture in upright] == list(range(len(changes.get("times", range(12)))))
    assert all(is_upright(picture) for picture in upright)
    assert len(packet_times(path)) == len(frames)
