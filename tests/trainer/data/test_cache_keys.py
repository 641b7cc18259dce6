"""Cached values are found again when nothing changed, and made again when anything did."""

import msgspec

from trainer.data.cache_keys import latents_key, text_key
from trainer.protocol.job import ClipSpec, CropBox, TrainedSize

CLIP = ClipSpec(
    source="/clips/a.mp4",
    source_bytes=1000,
    source_modified_ns=5,
    windows=((0, 1, 2, 3, 4), (5, 6, 7, 8, 9)),
    sizes=(
        TrainedSize(width=64, height=48, crop=CropBox(left=0, top=0, width=640, height=480)),
        TrainedSize(width=64, height=48, crop=CropBox(left=1, top=0, width=640, height=480)),
    ),
    caption="a",
)


def test_everything_that_the_latents_depend_on_changes_their_key():
    replace = msgspec.structs.replace
    wider = replace(CLIP.sizes[0], width=80)
    keys = [
        latents_key(CLIP, 0, 0, "vae"),
        latents_key(CLIP, 1, 0, "vae"),
        latents_key(CLIP, 0, 1, "vae"),
        latents_key(CLIP, 0, 0, "other vae"),
        latents_key(replace(CLIP, source="/clips/b.mp4"), 0, 0, "vae"),
        latents_key(replace(CLIP, source_bytes=1001), 0, 0, "vae"),
        latents_key(replace(CLIP, source_modified_ns=6), 0, 0, "vae"),
        latents_key(replace(CLIP, windows=((0, 1, 2, 3, 5),)), 0, 0, "vae"),
        latents_key(replace(CLIP, sizes=(wider,)), 0, 0, "vae"),
    ]
    assert len(set(keys)) == len(keys)


def test_caption_and_place_in_the_job_leave_the_latents_valid():
    moved = msgspec.structs.replace(
        CLIP, caption="b", windows=CLIP.windows[1:], sizes=CLIP.sizes[1:] + CLIP.sizes[:1]
    )
    assert latents_key(moved, 0, 1, "vae") == latents_key(CLIP, 1, 0, "vae")


def test_a_prompt_is_found_by_its_text_and_encoder():
    assert text_key("a bird", "umt5") == text_key("a bird", "umt5")
    assert len({text_key("a bird", "umt5"), text_key("a  bird", "umt5"), text_key("a bird", "other")}) == 3
