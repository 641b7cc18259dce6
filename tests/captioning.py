"""Small caption requests for tests: real videos, and a tiny model with random weights."""

from pathlib import Path

import msgspec

from tests.jobs import clip_spec
from tests.media import make_video
from trainer.protocol.captioning import CaptionClip, CaptionRequest


def small_request(folder: Path, model: Path | str, clips: int = 2, **fields) -> CaptionRequest:
    """So many clips of 5 frames at 64 x 64, a few words about each, on the CPU."""
    folder.mkdir(parents=True, exist_ok=True)
    made = []
    for number in range(clips):
        path = folder / f"clip{number}.mp4"
        if not path.exists():
            make_video(path, frames=8, first_number=number * 20)
        made.append(
            CaptionClip(id=f"id{number}", key=f"key{number}", clip=clip_spec(path, "", frames=5, side=64))
        )
    request = CaptionRequest(
        model=str(model),
        instructions="What moves, and how?",
        clips=tuple(made),
        frame_pixels=64 * 64,
        max_new_tokens=8,
        gpu=None,
    )
    return msgspec.structs.replace(request, **fields)
