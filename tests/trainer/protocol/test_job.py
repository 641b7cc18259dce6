"""The job is strict: a misspelt or impossible field is an error that names it."""

import msgspec
import pytest

from trainer.protocol.job import (
    ClipSpec,
    CropBox,
    DatasetSection,
    JobSection,
    JobSpec,
    ModelSection,
    TrainedSize,
)
from trainer.protocol.wire import WireError, read_json, write_json


def small_job() -> JobSpec:
    size = TrainedSize(width=64, height=64, crop=CropBox(left=0, top=0, width=64, height=64))
    clip = ClipSpec(
        source="/clips/a.mp4",
        source_bytes=1,
        source_modified_ns=2,
        windows=((0, 1),),
        sizes=(size,),
        caption="a",
    )
    dataset = DatasetSection(name="main", clips=(clip,), num_frames=5, resolutions=(64,))
    return JobSpec(
        job=JobSection(name="orbit"), model=ModelSection(), datasets=(dataset,), cache_folder="/cache"
    )


def test_a_job_survives_the_disk(tmp_path):
    write_json(tmp_path / "job.json", small_job())
    assert read_json(tmp_path / "job.json", JobSpec) == small_job()


@pytest.mark.parametrize(
    ("section", "change", "named"),
    [
        ("training", {"stps": 5}, "stps"),
        ("training", {"steps": 0}, r"\$\.training\.steps"),
        ("target", {"rank": "many"}, r"\$\.target\.rank"),
        ("save", {"dtype": "int8"}, r"\$\.save\.dtype"),
        ("job", {"name": "a/b"}, r"\$\.job\.name"),
        ("multistage", {"boundary": 1.0}, r"\$\.multistage\.boundary"),
    ],
)
def test_a_wrong_field_is_named_with_its_file(tmp_path, section, change, named):
    job = msgspec.to_builtins(small_job())
    job[section] |= change
    (tmp_path / "job.json").write_bytes(msgspec.json.encode(job))
    with pytest.raises(WireError, match=named) as raised:
        read_json(tmp_path / "job.json", JobSpec)
    assert "job.json" in str(raised.value)


def test_a_missing_file_is_named(tmp_path):
    with pytest.raises(WireError, match=r"nowhere\.json"):
        read_json(tmp_path / "nowhere.json", JobSpec)
