"""Small real jobs for tests: real videos, the miniature, a few steps."""

from pathlib import Path
from typing import Any

import av
import msgspec

from tests.media import VideoOptions, make_video
from trainer.protocol.job import (
    BucketSize,
    ClipSpec,
    CropBox,
    DatasetSection,
    JobSection,
    JobSpec,
    ModelSection,
    SampleRow,
    SampleSection,
    SaveSection,
    TargetSection,
    TrainedSize,
    TrainingSection,
)


def clip_spec(path: Path, caption: str, frames: int = 5, side: int = 32) -> ClipSpec:
    """The first frames of a video that is at least as wide as high, cropped to a square."""
    with av.open(str(path)) as container:
        stream = container.streams.video[0]
        pts = sorted(packet.pts for packet in container.demux(stream) if packet.pts is not None)
        height = stream.height
    stat = path.stat()
    return ClipSpec(
        source=str(path),
        source_bytes=stat.st_size,
        source_modified_ns=stat.st_mtime_ns,
        windows=(tuple(pts[:frames]),),
        sizes=(
            TrainedSize(width=side, height=side, crop=CropBox(left=0, top=0, width=height, height=height)),
        ),
        caption=caption,
    )


def small_job(folder: Path, base: Path, **sections: dict[str, Any]) -> JobSpec:
    """Two clips of 5 frames at 32 x 32 on the given base; `sections` overrides fields by section."""
    folder.mkdir(parents=True, exist_ok=True)
    clips = []
    for number in range(2):
        path = folder / f"clip{number}.mp4"
        if not path.exists():
            make_video(path, VideoOptions(frames=8, first_number=number * 100))
        clips.append(clip_spec(path, f"orbit, number {number}"))
    job = JobSpec(
        job=JobSection(name="small"),
        model=ModelSection(base=str(base)),
        datasets=(DatasetSection(name="main", clips=tuple(clips), num_frames=5, resolutions=(32,)),),
        training=TrainingSection(steps=8, learning_rate=1e-3, gradient_checkpointing=False),
        target=TargetSection(rank=2),
        save=SaveSection(every=4, dtype="fp32"),
        sample=SampleSection(every=0),
        cache_folder=str(folder / "cache"),
    )
    for name, fields in sections.items():
        job = msgspec.structs.replace(job, **{name: msgspec.structs.replace(getattr(job, name), **fields)})
    return job


def preview_row(**fields: Any) -> SampleRow:
    """A preview of the first clip, as small as can be."""
    row = SampleRow(prompt="orbit", size=BucketSize(width=32, height=32), num_frames=5)
    return msgspec.structs.replace(row, **fields)
