"""`wan-studio caption`, with a process that only speaks in the model's place."""

import json

import pytest

from tests.media import make_video
from tests.wan_studio.conftest import STAND_IN_CAPTIONER, use_trainer
from wan_studio import cli
from wan_studio.paths import user_data_folder
from wan_studio.services.caption_history import CaptionHistory

pytestmark = [pytest.mark.media, pytest.mark.usefixtures("home")]


@pytest.fixture
def clips(tmp_path, monkeypatch):
    use_trainer(monkeypatch, tmp_path, STAND_IN_CAPTIONER)
    folder = tmp_path / "clips"
    folder.mkdir()
    for name in ("a.mp4", "b.mp4"):
        make_video(folder / name, frames=30, width=64, height=48)
    (folder / "a.txt").write_text("mine")
    return folder


def run(clips, *words):
    return cli.main(
        ["caption", "--clips", str(clips), "--model", "tiny", "--goal", "motion", "--cpu", *words],
        lambda _: 0,
    )


def test_captions_are_written_where_there_is_none(clips, capsys):
    assert run(clips, "--trigger", "frung", "--frames", "3") == 0
    assert (clips / "a.txt").read_text() == "mine"
    assert (clips / "b.txt").read_text() == "[trigger], a slow orbit around b, seen in 3 frames."
    said = capsys.readouterr().out
    assert "a.mp4 (has a caption)" in said
    assert "b.mp4 (written)\n  [trigger], a slow orbit" in said


def test_a_dry_run_writes_nothing_and_tells_programs_all(clips, capsys):
    assert run(clips, "--dry-run", "--overwrite", "all", "--json") == 0
    told = json.loads(capsys.readouterr().out)
    assert [(one["caption"], one["written"], one["problem"]) for one in told] == [
        ("mine", False, ""),
        ("", False, ""),
    ]
    assert told[0]["proposed"] == "A slow orbit around a, seen in 12 frames."
    assert [path.name for path in clips.glob("*.txt")] == ["a.txt"]


def test_what_is_written_over_is_kept_in_the_history(clips):
    assert run(clips, "--overwrite", "all") == 0
    assert (clips / "a.txt").read_text().startswith("A slow orbit")
    versions = CaptionHistory(user_data_folder()).versions_of(clips / "a.txt")
    assert [version.content for version in versions][-1] == b"mine"


def test_a_bad_clip_is_a_complaint_and_the_others_go_on(clips, capsys):
    (clips / "bad.mp4").write_bytes((clips / "b.mp4").read_bytes())
    (clips / "cut.mp4").write_bytes(b"no video")
    assert run(clips) == 1
    errors = capsys.readouterr().err
    assert "bad.mp4: bad.mp4 cannot be read. Convert it." in errors
    assert "cut.mp4: " in errors
    assert (clips / "b.txt").is_file()
    assert not (clips / "bad.txt").exists()


def test_wrong_input_is_a_sentence(clips, capsys, tmp_path):
    assert run(clips, "--model", "foreign") == 2
    assert "foreign cannot describe clips. Choose another." in capsys.readouterr().err
    assert run(clips, "--frames", "0") == 2
    assert "--frames cannot be that: expected int >= 1." in capsys.readouterr().err
    assert run(clips, "--instructions", str(tmp_path / "none.txt")) == 2
    assert "cannot be read" in capsys.readouterr().err
    assert list(clips.glob("*.txt")) == [clips / "a.txt"]


def test_the_users_own_instructions_are_taken(clips, tmp_path, monkeypatch):
    from wan_studio.cli import caption

    asked = []
    start = caption.start_captioning
    monkeypatch.setattr(caption, "start_captioning", lambda *a: asked.append(a[1]) or start(*a))
    words = tmp_path / "words.txt"
    words.write_text("Only the weather.")
    assert run(clips, "--instructions", str(words), "--bits", "4", "--max-tokens", "50") == 0
    (request,) = asked
    assert (request.instructions, request.quantization, request.max_new_tokens) == (
        "Only the weather.",
        "nf4",
        50,
    )
