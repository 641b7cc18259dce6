"""The commands as a user types them; the trainer is the stand-in that speaks the contract."""

import os
import shlex
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from tests.media import make_video
from wan_studio.cli import main
from wan_studio.cli.doctor import examine
from wan_studio.cli.finding import Verdict
from wan_studio.services import demo_clips
from wan_studio.services.project_store import ProjectStore
from wan_studio.services.run_process import kill_run, process_runs
from wan_studio.services.run_store import RunStore, current_state

if os.name == "nt":
    pytest.skip("the displays and signals of Linux are used here", allow_module_level=True)

pytestmark = [pytest.mark.usefixtures("home", "stand_in_trainer", "no_display"), pytest.mark.media]


@pytest.fixture
def no_display(monkeypatch):
    for name in ("DISPLAY", "WAYLAND_DISPLAY"):
        monkeypatch.delenv(name, raising=False)


@pytest.fixture
def a_display(no_display, tmp_path, monkeypatch):
    """A display that is there, as far as can be told without asking it."""
    (tmp_path / "wayland-7").touch()
    monkeypatch.setenv("XDG_RUNTIME_DIR", str(tmp_path))
    monkeypatch.setenv("WAYLAND_DISPLAY", "wayland-7")


@pytest.fixture
def clips(tmp_path):
    folder = tmp_path / "my clips"
    folder.mkdir()
    for number in range(2):
        make_video(folder / f"{number}.mp4", frames=40, fps=24)
        (folder / f"{number}.txt").write_text("a [trigger] turns")
    return folder


def no_window(folder):
    raise AssertionError("a window was opened")


def wan_studio(*words, open_window=no_window) -> int:
    return main([str(word) for word in words], open_window)


def train(clips, *words, **options) -> int:
    return wan_studio(
        "train", "--clips", clips, "--goal", "motion", "--model", "miniature", *words, **options
    )


def test_train_goes_from_clips_to_the_pair_and_prints_its_files(tmp_path, clips, capsys):
    out = tmp_path / "out"
    assert train(clips, "--trigger", "w", "--out", out, "--set", "save.every=10", "--frames", "9") == 0
    lines = capsys.readouterr().out.splitlines()
    (run,) = RunStore(out / "runs").runs()
    job = run.read_job()
    assert (job.save.every, job.datasets[0].num_frames, job.clips[0].caption) == (10, 9, "a w turns")
    assert f"Project: {out}" in lines
    assert any(line.startswith("Training: step") and "loss high" in line for line in lines)
    exports = [line.rpartition(": ")[2] for line in lines if line.startswith("LoRA of")]
    assert [Path(path).is_file() for path in exports] == [True, True]
    assert ProjectStore(out).load().trigger == "w"


def test_further_folders_become_data_sets_of_their_role(tmp_path, clips, capsys):
    out, people, unseen = tmp_path / "out", clips / "people", tmp_path / "unseen"
    for folder in (people, unseen):
        folder.mkdir()
        make_video(folder / "clip.mp4", frames=40, fps=24)
        (folder / "clip.txt").write_text("a [trigger] walks left")
    words = ["--regularization", people, "--validation", unseen, "--out", out, "--trigger", "w"]
    changes = ["regularization.loss_weight=0.5", "validation.num_frames=5", "datasets.flip_horizontal=true"]
    for change in changes:
        words += ["--set", change]
    assert train(clips, *words) == 0
    job = RunStore(out / "runs").runs()[0].read_job()
    assert [(d.role, len(d.clips), d.loss_weight, d.num_frames) for d in job.datasets] == [
        ("training", 4, 1.0, 17),
        ("regularization", 1, 0.5, 17),
        ("validation", 1, 1.0, 5),
    ]
    assert [d.clips[0].caption for d in job.datasets] == ["a w turns", "a walks left", "a w walks left"]
    assert train(clips, "--out", out, "--set", "validation.num_frames=9") == 0
    job = RunStore(out / "runs").runs()[0].read_job()
    assert [(len(d.clips), d.num_frames) for d in job.datasets] == [(4, 17), (1, 17), (1, 9)]
    assert train(clips, "--out", out, "--set", "validation.loss_weight=9") == 2
    assert "validation.loss_weight" in capsys.readouterr().err


def test_the_default_project_folder_is_named_by_the_clips(home, clips, capsys):
    assert train(clips) == 0
    assert (home / "projects" / "my clips-lora" / "project.json").is_file()


def test_a_second_training_goes_on_with_the_project_and_its_settings(tmp_path, clips, capsys):
    out = tmp_path / "out"
    assert train(clips, "--out", out, "--set", "target.rank=3", "--trigger", "w") == 0
    assert train(clips, "--out", out, "--steps", "7") == 0
    assert "Going on with the project" in capsys.readouterr().out
    newest, oldest = RunStore(out / "runs").runs()
    assert (newest.read_job().target.rank, newest.read_job().training.steps) == (3, 7)
    assert newest.read_job().job.trigger == "w"
    assert oldest.read_job().training.steps != 7
    assert len(newest.read_job().clips) == 2


@pytest.mark.parametrize(
    ("words", "said"),
    [
        ("--set target.rnk=8", "target.rnk"),
        ("--set target.rank=many", "target.rank cannot be 'many'"),
        ("--set rank", "rank"),
        ("--steps 0", "training.steps"),
        ("--resolution 500", "datasets.resolutions"),
        ("--name a/b", "'a/b'"),
        ("--set job.name=", "The name ''"),
        ("--set datasets.loss_weight=-1", "datasets.loss_weight cannot be '-1'"),
        ("--set datasets.sampling=tail", "datasets.sampling cannot be 'tail'"),
        ("--set datasets.flip=true", "datasets.flip"),
        ("--set regularization.weight=2", "regularization.weight"),
        ("--regularization /no/such/folder", "/no/such/folder"),
        ("--model /no/such/model", "/no/such/model"),
        ("--set model.vae=/no/such/vae.pth", "/no/such/vae.pth"),
        ("--clips /no/such/folder", "/no/such/folder"),
    ],
)
def test_bad_words_are_a_sentence_with_code_2_and_nothing_is_written(tmp_path, clips, capsys, words, said):
    out = tmp_path / "out"
    assert train(clips, "--out", out, *shlex.split(words)) == 2
    captured = capsys.readouterr()
    assert said in captured.err
    assert "Traceback" not in captured.err
    assert not out.exists()


def test_bad_files_are_a_sentence_with_code_2_and_nothing_is_written(tmp_path, clips, capsys):
    out = tmp_path / "out"
    empty = tmp_path / "empty"
    empty.mkdir()
    assert train(empty, "--out", out) == 2
    assert str(empty) in capsys.readouterr().err

    (clips / "1.txt").write_bytes("ゆっくりと右へ回る".encode("cp932"))
    assert train(clips, "--out", out) == 2
    said = capsys.readouterr().err
    assert "1.txt" in said
    assert "Shift JIS" in said

    (clips / "1.txt").unlink()
    (clips / "broken.mp4").write_text("no video")
    assert train(clips, "--out", out) == 2
    assert "broken.mp4" in capsys.readouterr().err
    assert not out.exists()

    assert train(clips, "--out", out, "--skip-unreadable") == 0
    assert "broken.mp4" in capsys.readouterr().out


def test_an_output_that_cannot_be_written_is_a_sentence(tmp_path, clips, capsys):
    (tmp_path / "file").write_text("x")
    assert train(clips, "--out", tmp_path / "file" / "project") == 2
    assert "--out" in capsys.readouterr().err


@pytest.mark.skipif(os.geteuid() == 0, reason="root may write everywhere")
def test_a_folder_without_rights_is_a_sentence(tmp_path, clips, capsys):
    shut = tmp_path / "shut"
    shut.mkdir(mode=0o500)
    assert train(clips, "--out", shut / "project") == 2
    assert str(shut) in capsys.readouterr().err


def test_a_damaged_or_newer_project_is_left_alone(tmp_path, clips, capsys):
    out = tmp_path / "out"
    out.mkdir()
    for content in ("{", '{"format_version": 99}'):
        (out / "project.json").write_text(content)
        assert train(clips, "--out", out) == 2
        assert "project.json" in capsys.readouterr().err
        assert (out / "project.json").read_text() == content


@pytest.mark.parametrize(
    ("mode", "said"),
    [("crash", "Killed by the stand-in"), ("mute", "no such module"), ("fail", "Put it back.")],
)
def test_a_training_that_fails_says_why_and_ends_with_1(tmp_path, clips, capsys, monkeypatch, mode, said):
    monkeypatch.setenv("STAND_IN", mode)
    assert train(clips, "--out", tmp_path / "out") == 1
    captured = capsys.readouterr().err
    assert said in captured
    assert "wan-studio resume" in captured
    monkeypatch.setenv("STAND_IN", "")
    assert wan_studio("resume", tmp_path / "out") == 0
    assert "LoRA of the high-noise expert" in capsys.readouterr().out


@pytest.mark.usefixtures("a_display")
def test_with_a_display_the_window_opens_on_the_live_project(tmp_path, clips, capsys, monkeypatch):
    monkeypatch.setenv("STAND_IN", "slow")
    opened = []

    def open_window(folder):
        opened.append(folder)
        (run,) = RunStore(folder / "runs").runs()
        assert not current_state(run).has_ended
        return 0

    out = tmp_path / "out"
    assert train(clips, "--out", out, open_window=open_window) == 0
    assert opened == [out]
    assert "goes on in the background" in capsys.readouterr().out
    # A second start would fight for the GPU.
    assert train(clips, "--out", out) == 2
    assert "training already" in capsys.readouterr().err
    assert wan_studio("stop", out) == 0
    assert "its state is saved" in capsys.readouterr().out
    assert wan_studio("stop", out) == 2


def test_without_a_command_and_a_display_a_sentence_says_so(capsys):
    assert wan_studio() == 2
    assert "display" in capsys.readouterr().err


@pytest.mark.parametrize("form", [":{}", "unix:{}.0"])
def test_a_display_that_does_not_answer_is_none(capsys, monkeypatch, form):
    # A number far above those that servers take, so that a virtual display beside the test does not answer.
    monkeypatch.setenv("DISPLAY", form.format(31_977))
    assert wan_studio() == 2
    assert "does not answer" in capsys.readouterr().err


@pytest.mark.usefixtures("a_display")
def test_without_a_command_the_window_opens():
    assert wan_studio(open_window=lambda folder: 0 if folder is None else 1) == 0


def test_resuming_a_complete_run_prints_its_files_again(tmp_path, clips, capsys):
    out = tmp_path / "out"
    train(clips, "--out", out)
    capsys.readouterr()
    assert wan_studio("resume", out) == 0
    assert "complete" in capsys.readouterr().out


def test_export_writes_where_it_is_told(tmp_path, clips, capsys):
    train(clips, "--out", tmp_path / "out")
    capsys.readouterr()
    assert wan_studio("export", tmp_path / "out", "--out", tmp_path / "files", "--name", "mine") == 0
    assert str(tmp_path / "files" / "mine_high_noise.safetensors") in capsys.readouterr().out


@pytest.mark.parametrize("command", ["resume", "export", "stop"])
def test_a_path_that_is_no_run_is_a_sentence(tmp_path, capsys, command):
    assert wan_studio(command, tmp_path / "gone") == 2
    assert "does not exist" in capsys.readouterr().err
    assert wan_studio(command, tmp_path) == 2
    assert "neither a run nor a project" in capsys.readouterr().err


def test_the_demo_reuses_what_is_there(home, capsys, monkeypatch):
    for name, value in (("DEMO_CLIP_COUNT", 2), ("DEMO_FRAME_COUNT", 30), ("DEMO_FRAME_SIZE", 64)):
        monkeypatch.setattr(demo_clips, name, value)
    assert wan_studio("demo", "--headless") == 0
    first = capsys.readouterr().out
    assert "LoRA of the high-noise expert" in first
    assert wan_studio("demo", "--headless") == 0
    second = capsys.readouterr().out
    assert "trained already" in second
    assert [line for line in first.splitlines() if line.startswith("LoRA")] == [
        line for line in second.splitlines() if line.startswith("LoRA")
    ]
    assert len(RunStore(home / "projects" / "demo" / "runs").runs()) == 1


def test_the_doctor_finds_python_and_says_what_to_do_about_every_problem(capsys):
    findings = list(examine())
    assert {"Python", "Trainer", "Memory", "Disk", "Display", "Data folder"} <= {f.topic for f in findings}
    assert next(f for f in findings if f.topic == "Display").verdict is Verdict.WARNING
    assert all(finding.hint for finding in findings if finding.verdict is Verdict.PROBLEM)
    assert wan_studio("doctor") == int(any(finding.stops_training for finding in findings))


def command_line(*words):
    return subprocess.Popen(
        [sys.executable, "-m", "wan_studio", *map(str, words)],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        encoding="utf-8",
        start_new_session=True,
    )


@pytest.mark.parametrize("times", [1, 2])
def test_ctrl_c_lets_the_trainer_save_and_a_second_one_leaves_it_alone(tmp_path, clips, monkeypatch, times):
    monkeypatch.setenv("STAND_IN", "slow" if times == 1 else "deaf")
    out = tmp_path / "out"
    process = command_line(
        "train", "--clips", clips, "--goal", "motion", "--model", "miniature", "--out", out
    )
    deadline = time.monotonic() + 20
    while time.monotonic() < deadline:
        runs = RunStore(out / "runs").runs()
        if runs and current_state(runs[0]).step > 1:
            break
        time.sleep(0.05)
    (run,) = runs
    for _ in range(times):
        process.send_signal(signal.SIGINT)
        time.sleep(0.5)
    printed, complained = process.communicate(timeout=20)
    assert process.returncode == 130
    assert "saves its state first" in printed
    assert f"wan-studio resume {run.path}" in complained
    if times == 1:
        assert "its state is saved" in complained
    else:
        assert "goes on in the background" in complained
        assert process_runs(run)
        assert kill_run(run)


def test_commands_load_neither_qt_nor_torch(clips, tmp_path):
    code = (
        "import sys; from wan_studio.cli import main\n"
        "code = main(sys.argv[1:], lambda folder: 9)\n"
        "loaded = {'torch', 'diffusers', 'transformers', 'PySide6'} & set(sys.modules)\n"
        "sys.exit(f'{code} {loaded}' if code or loaded else 0)"
    )
    words = ["train", "--clips", clips, "--goal", "style", "--model", "miniature", "--out", tmp_path / "out"]
    subprocess.run([sys.executable, "-c", code, *map(str, words)], check=True, capture_output=True)


def test_version_and_help_end_with_0(capsys):
    for word in ("--version", "--help"):
        with pytest.raises(SystemExit) as raised:
            wan_studio(word)
        assert raised.value.code == 0
    with pytest.raises(SystemExit) as raised:
        wan_studio("trian")
    assert raised.value.code == 2
