"""Automatic captions as the app meets them: a process that tells of each caption, and can be stopped at any moment."""

import time

import pytest

from tests.captioning import small_request
from tests.processes import events_of, go, trainer, wait_for
from tests.tiny_vision_language import make_vision_language
from trainer.protocol.captioning import request_file
from trainer.protocol.commands import Stop
from trainer.protocol.events import CaptionMade, Phase, PhaseProgress, RunFailed
from trainer.protocol.run_folder import RunFolder
from trainer.protocol.wire import write_json

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
    began = time.monotonic()
    words, _ = process.communicate(timeout=60)
    assert time.monotonic() - began < 2
    assert process.returncode == 0, words
    assert events_of(run)[-1].reason == "stopped"


def is_describing(event):
    return isinstance(event, PhaseProgress) and event.phase is Phase.CAPTIONING
