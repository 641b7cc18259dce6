"""Automatic captions as the app meets them: a process that tells of each caption, and can be stopped at any moment."""

import time

import msgspec
import pytest

from tests.captioning import small_request
from tests.media import make_video
from tests.processes import events_of, go, trainer, wait_for
from tests.tiny_vision_language import make_vision_language
from trainer.protocol.captioning import request_file
from trainer.protocol.commands import Stop
from trainer.protocol.events import CaptionMade, Phase, PhaseProgress, RunFailed
from trainer.protocol.run_folder import RunFolder
from trainer.protocol.wire import write_json
from wan_studio.bridge.background import wait_for_background
from wan_studio.bridge.workbench import Workbench
from wan_studio.domain.auto_caption import CaptionOptions
from wan_studio.domain.project import Project
from wan_studio.services.clip_import import import_clips
from wan_studio.services.preset_store import settings_for
from wan_studio.services.project_store import ProjectStore

pytestmark = [pytest.mark.contract, pytest.mark.slow]


@pytest.fixture(scope="module")
def model(tmp_path_factory):
    return make_vision_language(tmp_path_factory.mktemp("model") / "tiny")


@pytest.fixture
def run(tmp_path):
    made = RunFolder(tmp_path / "run")
    made.path.mkdir()
    return made


def ask(run, request):
    write_json(request_file(run), request)
    return "trainer", "caption", request_file(run), "--run-dir", run.path


def test_clips_are_described_by_a_process_and_a_wrong_model_is_its_last_word(tmp_path, model, run):
    words = ask(run, small_request(tmp_path / "clips", model))
    go(*words)
    assert len([one for one in events_of(run) if isinstance(one, CaptionMade)]) == 2
    assert events_of(run)[-1].reason == "completed"
    assert not run.is_alive()
    go(*ask(run, small_request(tmp_path / "clips", tmp_path)), code=1)
    failed = events_of(run)[-1]
    assert isinstance(failed, RunFailed)
    assert (failed.kind, "no config.json" in failed.message) == ("caption_model", True)
    request_file(run).write_text("{}")
    assert "error: " in go("trainer", "caption", request_file(run), "--run-dir", run.path, code=2)


def test_a_stop_ends_it_within_two_seconds(tmp_path, model, run):
    process = trainer(*ask(run, small_request(tmp_path / "clips", model, max_new_tokens=1_000_000)))
    wait_for(process, lambda: any(is_describing(one) for one in events_of(run)))
    run.send(Stop())
    told = time.time()
    words, _ = process.communicate(timeout=60)
    assert process.returncode == 0, words
    assert events_of(run)[-1].reason == "stopped"
    assert events_of(run)[-1].time - told < 2


def is_describing(event):
    return isinstance(event, PhaseProgress) and event.phase is Phase.CAPTIONING


def test_the_app_gets_captions_of_its_project_from_a_real_model(qtbot, tmp_path, model, monkeypatch):
    monkeypatch.setenv("OMP_NUM_THREADS", "1")
    monkeypatch.setenv("WAN_STUDIO_HOME", str(tmp_path / "home"))
    (tmp_path / "clips").mkdir()
    for name in ("a.mp4", "b.mp4"):
        make_video(tmp_path / "clips" / name, frames=40, fps=20, width=64, height=48)
    store = ProjectStore(tmp_path / "orbit")
    store.save(import_clips(Project(name="orbit", settings=settings_for("motion")), [tmp_path / "clips"]))
    bench = Workbench()
    bench.session.open(store, store.load())
    desk, ids = bench.auto_captions, [clip.id for clip in bench.session.project.clips]
    options = CaptionOptions(model=str(model), gpu=None, max_new_tokens=20, frames=4)
    with qtbot.waitSignal(desk.ended, timeout=120_000):
        desk.start(ids, options)
    assert desk.problem == ("", "")
    assert all(one.text and not one.is_whole for one in desk.proposals.values())
    with qtbot.waitSignal(desk.ended, timeout=120_000):
        desk.start(ids, msgspec.structs.replace(options, max_new_tokens=1_000_000))
        qtbot.waitUntil(lambda: desk.is_describing, timeout=120_000)
        desk.cancel()
    assert len(desk.proposals) == 2
    bench.close()
    wait_for_background()
