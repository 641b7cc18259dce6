"""`wan-studio export-dataset` in a terminal."""

import pytest

from tests.media import make_video
from wan_studio.cli import export_dataset, main
from wan_studio.cli.console import EXIT_BAD_INPUT, EXIT_DONE, EXIT_STOPPED
from wan_studio.domain.project import Project
from wan_studio.services.clip_import import import_clips
from wan_studio.services.media_probe import probe
from wan_studio.services.project_store import ProjectStore

pytestmark = pytest.mark.media


@pytest.fixture
def clips(tmp_path):
    folder = tmp_path / "walks"
    folder.mkdir()
    for name in ("a.mp4", "b.mp4"):
        make_video(folder / name, frames=30, fps=30, width=64, height=48)
    (folder / "a.txt").write_text("[trigger] walks")
    return folder


def run(*words):
    return main(["export-dataset", *map(str, words)], lambda folder: 0)


def test_a_folder_of_clips_is_exported_and_a_second_time_nothing_is_written(clips, tmp_path, capsys):
    words = ("--clips", clips, "--out", tmp_path / "out", "--layout", "ai-toolkit", "--trigger", "frung")
    assert run(*words, "--frames", "as-seen", "--set", "datasets.num_frames=9") == EXIT_DONE
    said = capsys.readouterr().out
    assert "Clips: 3 written, 0 there already" in said
    assert f"Configuration: {tmp_path / 'out' / 'ai-toolkit.yaml'}" in said
    assert probe(tmp_path / "out/clips/a.mp4").frame_count == 9
    assert run(*words, "--frames", "as-seen", "--set", "datasets.num_frames=9") == EXIT_DONE
    assert "Clips: 0 written, 3 there already" in capsys.readouterr().out


def test_a_project_is_exported_with_its_ranges(clips, tmp_path, capsys):
    store = ProjectStore(tmp_path / "project")
    store.save(import_clips(Project(name="walks", trigger="frung"), [clips]))
    assert run(store.folder, "--out", tmp_path / "out", "--codec", "ffv1") == EXIT_DONE
    assert (tmp_path / "out/clips/a.txt").read_text() == "frung walks"
    assert probe(tmp_path / "out/clips/b.mkv").frame_count == 30


def test_bad_input_is_a_sentence(clips, tmp_path, capsys):
    assert run("--out", tmp_path / "out") == EXIT_BAD_INPUT
    assert "Give either a project's folder or --clips" in capsys.readouterr().err
    assert run(tmp_path / "none", "--out", tmp_path / "out") == EXIT_BAD_INPUT
    assert "does not exist" in capsys.readouterr().err
    bad = tmp_path / "bad"
    bad.mkdir()
    (bad / "bad.mp4").write_text("no video")
    assert run("--clips", bad, "--out", tmp_path / "out") == EXIT_BAD_INPUT
    said = capsys.readouterr().err
    assert "is not a video that can be read" in said
    assert "There is no clip to export." in said


def test_ctrl_c_leaves_whole_files_and_the_same_command_goes_on(clips, tmp_path, capsys, monkeypatch):
    class Interrupted(export_dataset._Shown):
        def show(self, progress):
            if progress.done:
                raise KeyboardInterrupt

    with monkeypatch.context() as patched:
        patched.setattr(export_dataset, "_Shown", Interrupted)
        assert run("--clips", clips, "--out", tmp_path / "out") == EXIT_STOPPED
    assert "the same command goes on from there" in capsys.readouterr().err
    assert not list((tmp_path / "out").rglob("*.part.*"))
    assert run("--clips", clips, "--out", tmp_path / "out") == EXIT_DONE
    assert "Clips: 1 written, 1 there already" in capsys.readouterr().out
