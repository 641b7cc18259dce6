"""An export writes what is missing, goes on after an end at any time, and touches nothing that is not its own."""

import json
import subprocess
import sys
from pathlib import Path

import av
import msgspec
import numpy as np
import pytest

from tests.media import make_video
from tests.small_disk import run_on_a_small_disk
from wan_studio.domain.clip import TrimRange
from wan_studio.domain.export_plan import ExportOptions, plan_export
from wan_studio.domain.project import Project
from wan_studio.services.clip_import import import_clips
from wan_studio.services.dataset_export import (
    NothingToExportError,
    TooLittleRoomError,
    clip_files,
    export_dataset,
    forecast_export,
)
from wan_studio.services.export_errors import ExportCancelledError
from wan_studio.services.export_manifest import ExportFolderError
from wan_studio.services.job_preparation import probe_clips
from wan_studio.services.media_probe import probe
from wan_studio.services.render_process import RenderProcess

pytestmark = pytest.mark.media

NAMES = ("a.mp4", "b.mp4", "c.mp4")


@pytest.fixture(scope="module")
def made(tmp_path_factory):
    folder = tmp_path_factory.mktemp("clips")
    for name in NAMES:
        make_video(folder / name, frames=24, fps=16, width=64, height=48)
    (folder / "a.txt").write_text("[trigger] walks")
    return folder


@pytest.fixture
def project(made):
    return import_clips(Project(name="walks", trigger="frung"), [made])


def planned(project, **options):
    probed = probe_clips(project)
    problems = {clip_id: str(error) for clip_id, error in probed.errors.items()}
    files = clip_files(project, probed.sources, problems, Path("captions"))
    return plan_export(project, files, ExportOptions(**options))


def export(plan, folder, is_cancelled=lambda: False, on_progress=lambda progress: None, process=None):
    return export_dataset(plan, folder, on_progress, is_cancelled, process)


def trimmed(project, number, trim):
    changed = msgspec.structs.replace(project.clips[number], trim=trim)
    return project.with_clip(changed)


def files_in(folder):
    return sorted(path.relative_to(folder).as_posix() for path in folder.rglob("*") if path.is_file())


def test_a_second_export_writes_only_what_is_missing_or_changed(project, tmp_path):
    out = tmp_path / "out"
    first = export(planned(project), out)
    assert (first.written, first.kept, first.skipped) == (3, 0, ())
    assert files_in(out) == [
        *(f"clips/{name}" for name in ("a.mp4", "a.txt", "b.mp4", "b.txt", "c.mp4", "c.txt")),
        "wan-studio-export.json",
    ]
    assert (out / "clips/a.txt").read_text() == "frung walks"
    before = {name: (out / "clips" / name).stat().st_mtime_ns for name in NAMES}
    (out / "clips/c.mp4").unlink()
    changed = planned(trimmed(project, 1, TrimRange(2, 20)))
    assert forecast_export(changed, out).to_write == 2
    second = export(changed, out)
    assert (second.written, second.kept) == (2, 1)
    assert (out / "clips/a.mp4").stat().st_mtime_ns == before["a.mp4"]
    assert probe(out / "clips/b.mp4").frame_count == 18
    assert probe(out / "clips/c.mp4").frame_count == 24
    third = export(changed, out)
    assert (third.written, third.kept) == (0, 3)


def test_a_cancelled_export_leaves_whole_files_and_the_next_goes_on(project, tmp_path):
    out = tmp_path / "out"
    reached = []

    def is_cancelled():
        return bool(reached) and reached[-1].done >= 1

    with pytest.raises(ExportCancelledError):
        export(planned(project, codec="ffv1"), out, is_cancelled, reached.append)
    assert files_in(out) == ["clips/a.mkv", "clips/a.txt", "wan-studio-export.json"]
    report = export(planned(project, codec="ffv1"), out)
    assert (report.written, report.kept) == (2, 1)


def test_files_that_are_not_of_the_export_are_left_alone_and_listed(project, tmp_path):
    out = tmp_path / "out"
    (out / "clips").mkdir(parents=True)
    (out / "clips/a.mp4").write_text("mine")
    (out / "clips/b.txt").write_text("my caption")
    report = export(planned(project), out)
    assert (out / "clips/a.mp4").read_text() == "mine"
    assert (out / "clips/b.txt").read_text() == "my caption"
    assert [one.name for one in report.skipped] == ["a.mp4"]
    assert "clips/a.mp4 lies in the folder already" in report.skipped[0].sentence
    assert report.kept_texts == ("clips/b.txt",)
    assert not (out / "clips/a.txt").exists()


def test_what_is_no_longer_exported_goes_unless_it_was_changed(project, tmp_path):
    out = tmp_path / "out"
    export(planned(project, layout="ai-toolkit"), out)
    (out / "clips/c.mp4").write_bytes(b"another")
    (out / "ai-toolkit.yaml").write_text("changed: true\n")
    less = project.without_clips({project.clips[1].id, project.clips[2].id})
    report = export(planned(less, layout="ai-toolkit"), out)
    assert report.removed == 1
    assert files_in(out / "clips") == ["a.mp4", "a.txt", "c.mp4"]
    assert (out / "ai-toolkit.yaml").read_text() == "changed: true\n"
    assert report.kept_texts == ("ai-toolkit.yaml",)


def test_a_changed_caption_is_written_anew_without_its_clip(project, made, tmp_path):
    out = tmp_path / "out"
    export(planned(project), out)
    before = (out / "clips/a.mp4").stat().st_mtime_ns
    project = msgspec.structs.replace(project, trigger="blip")
    report = export(planned(project), out)
    assert (report.written, report.kept) == (0, 3)
    assert (out / "clips/a.txt").read_text() == "blip walks"
    assert (out / "clips/a.mp4").stat().st_mtime_ns == before


def test_an_export_that_was_killed_before_a_file_took_its_place_goes_on(project, tmp_path):
    """The manifest names a file before it is there: it must neither be missed nor be taken for the user's."""
    out = tmp_path / "out"
    export(planned(project), out)
    manifest = json.loads((out / "wan-studio-export.json").read_bytes())
    entry = manifest["clips"]["clips/a.mp4"]
    entry["former_bytes"], entry["size_bytes"] = entry["size_bytes"], entry["size_bytes"] + 7
    (out / "wan-studio-export.json").write_text(json.dumps(manifest))
    (out / "clips/.a.part.mp4").write_bytes(b"half")
    report = export(planned(project), out)
    assert (report.written, report.kept, report.skipped) == (1, 2, ())
    assert probe(out / "clips/a.mp4").frame_count == 24
    assert not (out / "clips/.a.part.mp4").exists()


def test_unreadable_clips_are_skipped_and_a_worker_that_falls_takes_one_clip(project, made, tmp_path):
    broken = tmp_path / "more"
    broken.mkdir()
    (broken / "text.mp4").write_text("no video")
    (broken / "word.mp4").write_bytes((made / "a.mp4").read_bytes())
    (broken / "word.txt").write_bytes("Überschrift".encode("cp1252"))
    report = export(planned(import_clips(project, [broken])), tmp_path / "out")
    assert report.written == 3
    sentences = {one.name: one.sentence for one in report.skipped}
    assert "is not a video that can be read" in sentences["text.mp4"]
    assert "is not UTF-8 text" in sentences["word.mp4"]
    falling = RenderProcess((sys.executable, "-c", "import sys; sys.stdin.buffer.read(9); sys.exit(1)"))
    report = export(planned(project), tmp_path / "other", process=falling)
    assert report.written == 0
    assert all("brought the decoder down" in one.sentence for one in report.skipped)
    assert not list((tmp_path / "other").rglob("*.part.*"))


def test_a_worker_that_says_nothing_is_ended(project, tmp_path):
    mute = RenderProcess((sys.executable, "-c", "import time; time.sleep(60)"), seconds_allowed=0.3)
    report = export(planned(trimmed(project, 0, None)), tmp_path / "out", process=mute)
    assert all("gave no frame for" in one.sentence for one in report.skipped)


def test_a_folder_of_another_project_or_a_file_is_refused(project, tmp_path):
    export(planned(project), tmp_path / "out")
    other = msgspec.structs.replace(project, name="runs")
    with pytest.raises(ExportFolderError, match='holds the export of the project "walks"'):
        export(planned(other), tmp_path / "out")
    assert "walks" in forecast_export(planned(other), tmp_path / "out").problem
    (tmp_path / "file").write_text("x")
    with pytest.raises(ExportFolderError, match="is a file"):
        export(planned(project), tmp_path / "file")
    with pytest.raises(NothingToExportError):
        export(planned(Project(name="none")), tmp_path / "none")


def test_too_little_room_is_said_before_anything_is_written(project, tmp_path, monkeypatch):
    class Usage:
        free = 1000

    monkeypatch.setattr("wan_studio.services.dataset_export.shutil.disk_usage", lambda place: Usage)
    with pytest.raises(TooLittleRoomError, match="this export takes about"):
        export(planned(project), tmp_path / "out")
    assert files_in(tmp_path / "out") == []


FILL_THE_DISK = """
import sys
from pathlib import Path
from tests.wan_studio.services.test_dataset_export import export, files_in, planned
from wan_studio.domain.project import Project
from wan_studio.errors import AppError
from wan_studio.services import dataset_export
from wan_studio.services.clip_import import import_clips

dataset_export.SURELY_TOO_LITTLE = 0.0
out = Path(sys.argv[1])
project = import_clips(Project(name="noise"), [out.parent / "noise"])
try:
    export(planned(project, codec="ffv1"), out)
except AppError as error:
    print(type(error).__name__, error)
print(files_in(out))
"""


def make_noise(path):
    """Eight frames that nothing can compress: 115 kB each."""
    with av.open(str(path), "w") as container:
        stream = container.add_stream("ffv1", rate=16)
        stream.width, stream.height, stream.pix_fmt = 320, 240, "yuv420p"
        random = np.random.default_rng(1)
        for _ in range(8):
            picture = random.integers(0, 255, (360, 320), np.uint8)
            container.mux(stream.encode(av.VideoFrame.from_ndarray(picture, format="yuv420p")))
        container.mux(stream.encode(None))


def test_a_full_disk_is_told_and_leaves_no_half_file(tmp_path):
    (tmp_path / "noise").mkdir()
    (tmp_path / "small").mkdir()
    for name in ("a.mkv", "b.mkv"):
        make_noise(tmp_path / "noise" / name)
    told = run_on_a_small_disk(FILL_THE_DISK, tmp_path / "small", "1500k").splitlines()
    assert told[0].startswith("NoRoomError The disk of")
    assert "goes on where this one stopped" in told[0]
    assert told[1] == "['clips/a.mkv', 'clips/a.txt', 'wan-studio-export.json']"


def test_configurations_lie_beside_and_name_the_folders(project, tmp_path):
    for layout, names in (
        ("ai-toolkit", ("ai-toolkit.yaml",)),
        ("musubi-tuner", ("musubi-tuner.toml", "musubi-tuner.sh", "musubi-tuner.bat")),
    ):
        out = tmp_path / layout
        report = export(planned(project, layout=layout, frames="as_seen"), out)
        assert report.configuration == names
        text = (out / names[0]).read_text(encoding="utf-8")
        assert Path(out).as_posix() in text
    assert (tmp_path / "ai-toolkit/first_frames/a.png").is_file()
    assert (tmp_path / "ai-toolkit/clips/a.txt").read_text() == "[trigger] walks"
    assert (tmp_path / "musubi-tuner/clips/b.txt").read_text() == "frung"
    if sys.platform != "win32":
        subprocess.run(["sh", "-n", str(tmp_path / "musubi-tuner/musubi-tuner.sh")], check=True)
