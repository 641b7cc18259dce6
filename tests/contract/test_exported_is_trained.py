"""What is exported "as the model sees it" is what the trainer reads of the sources, frame for frame."""

from pathlib import Path

import numpy as np
import pytest

from tests.media import make_video, numbers_in
from trainer.data.clip_frames import read_frames
from trainer.protocol.job import TrainedSize
from wan_studio.domain.dataset_builder import ClipFiles
from wan_studio.domain.export_plan import ExportOptions, plan_export
from wan_studio.domain.job_builder import build_job
from wan_studio.domain.project import Project, ProjectClip, Settings
from wan_studio.services.clip_renderer import render
from wan_studio.services.media_probe import probe

pytestmark = [pytest.mark.media]

KINDS = {
    "25 fps": {"fps": 25},
    "10 fps": {"fps": 10},
    "variable rate": {"times": [0.0, *(round(0.031 * at + 0.0004 * at * at, 4) for at in range(1, 60))]},
    "rotated": {"rotation": 90, "width": 96, "height": 128},
}


@pytest.mark.parametrize("changes", KINDS.values(), ids=KINDS.keys())
@pytest.mark.parametrize("sampling", ["real_speed", "whole_range", "sliding"])
def test_the_exported_frames_are_those_that_the_trainer_reads(tmp_path, changes, sampling):
    source = probe(make_video(tmp_path / "a.mp4", **{"frames": 60, **changes}))
    wishes = {"num_frames": 9, "sampling": sampling, "windows": 2, "window_stride": 5}
    project = Project(
        name="x",
        clips=(ProjectClip(id="c", source=source.path, caption_file="a.txt"),),
        settings=Settings().with_values({"datasets": wishes}),
    )
    (spec,) = build_job(project, {"c": source}, {}, "/cache").job.datasets[0].clips
    options = ExportOptions(codec="ffv1", frames="as_seen")
    plan = plan_export(project, ClipFiles({"c": source}, {}, {}), options)
    whole = TrainedSize(width=source.width, height=source.height, crop=source.whole_picture)
    assert len(plan.files) == len(spec.windows)
    for clip, window in zip(plan.files, spec.windows, strict=True):
        written = tmp_path / Path(clip.path).name
        render(clip.source, clip.recipe, written, lambda done, count: None)
        exported = probe(written)
        trained = read_frames(Path(source.path), window, whole)
        read = read_frames(written, exported.frame_pts, whole)
        assert numbers_in(read) == numbers_in(trained)
        # Turned, colour samples lie elsewhere between the pixels: rounding apart, the same picture.
        assert np.abs(read.astype(int) - trained).mean() < (1.5 if source.rotation else 0.01)
        # Any trainer at 16 frames a second takes each of them once.
        assert exported.frames_per_second == pytest.approx(16, rel=0.01)
