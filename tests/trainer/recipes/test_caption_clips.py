"""Clips described by a real, tiny model of the Qwen-VL family, in this process."""

import json

import msgspec
import pytest
import torch

from tests.captioning import small_request
from tests.processes import events_of
from tests.tiny_vision_language import make_vision_language
from trainer.model import vision_language
from trainer.model.vision_language import (
    CaptionMemoryError,
    CaptionModelError,
    load_vision_language,
    weight_bytes,
)
from trainer.protocol.commands import Stop
from trainer.protocol.events import CaptionFailed, CaptionMade, Phase, PhaseProgress, RunFinished
from trainer.protocol.run_folder import RunFolder
from trainer.recipes.caption_clips import caption_clips
from trainer.runtime.control import Control
from trainer.runtime.reporter import Reporter


@pytest.fixture(scope="module")
def model(tmp_path_factory):
    return make_vision_language(tmp_path_factory.mktemp("model") / "tiny")


@pytest.fixture
def run(tmp_path):
    made = RunFolder(tmp_path / "run")
    made.path.mkdir()
    return made


def caption(run, request):
    with Reporter(run) as reporter:
        caption_clips(request, reporter, Control(run, reporter))
    return events_of(run)


def told(events, kind):
    return [event for event in events if isinstance(event, kind)]


def test_each_clip_becomes_one_event_with_progress_and_nothing_lies_beside_the_clips(tmp_path, model, run):
    clips = tmp_path / "clips"
    request = small_request(clips, model)
    before = sorted(clips.iterdir())
    events = caption(run, request)
    made = told(events, CaptionMade)
    assert [(one.clip, one.key) for one in made] == [("id0", "key0"), ("id1", "key1")]
    assert all(one.text and not one.is_whole and one.seconds > 0 for one in made)
    progress = [one for one in told(events, PhaseProgress) if one.phase is Phase.CAPTIONING]
    assert progress[0].message == "clip0.mp4"
    assert (progress[-1].done, progress[-1].total) == (2, 2)
    assert events[-1].reason == "completed"
    assert sorted(clips.iterdir()) == before


def test_the_frames_decide_what_is_said_and_the_same_frames_say_the_same(tmp_path, model, run):
    request = small_request(tmp_path, model, clips=2, max_new_tokens=60)
    same = msgspec.structs.replace(request, clips=(request.clips[0], request.clips[0], request.clips[1]))
    first, again, other = told(caption(run, same), CaptionMade)
    assert first.text == again.text != other.text


def test_a_bad_clip_is_a_sentence_and_the_rest_go_on(tmp_path, model, run):
    request = small_request(tmp_path, model, clips=3)
    (tmp_path / "clip0.mp4").unlink()
    spec = request.clips[1].clip
    path = tmp_path / "clip1.mp4"
    path.write_bytes(b"no video at all")
    stat = path.stat()
    broken = msgspec.structs.replace(
        request.clips[1],
        clip=msgspec.structs.replace(spec, source_bytes=stat.st_size, source_modified_ns=stat.st_mtime_ns),
    )
    request = msgspec.structs.replace(request, clips=(request.clips[0], broken, request.clips[2]))
    events = caption(run, request)
    gone, wrong = told(events, CaptionFailed)
    assert (gone.clip, wrong.key) == ("id0", "key1")
    assert "clip0.mp4 cannot be read: it is not there." in gone.message
    assert "clip1.mp4 cannot be read" in wrong.message
    assert [one.clip for one in told(events, CaptionMade)] == ["id2"]
    assert events[-1] == msgspec.structs.replace(
        RunFinished(reason="completed", step=1), time=events[-1].time
    )


def test_a_stop_ends_it_in_the_middle_of_a_caption(tmp_path, model, run, monkeypatch):
    request = small_request(tmp_path, model, max_new_tokens=100_000)
    look, looks = Control.look, []

    def counted(control):
        looks.append(1)
        if len(looks) == 20:
            run.send(Stop())
        look(control)

    monkeypatch.setattr(Control, "look", counted)
    events = caption(run, request)
    assert not told(events, CaptionMade)
    assert events[-1].reason == "stopped"
    assert len(looks) < 25


@pytest.mark.parametrize("quantization", ["int8", "nf4"])
def test_a_quantized_model_describes_too(tmp_path, model, run, quantization):
    (made,) = told(caption(run, small_request(tmp_path, model, 1, quantization=quantization)), CaptionMade)
    assert made.text
    assert weight_bytes(model, quantization) < weight_bytes(model, "none")


def test_what_sees_and_what_chooses_words_is_never_quantized(model):
    parts = load_vision_language(model, "tiny", torch.device("cpu"), "nf4")
    kinds = {
        name: type(one).__name__
        for name, one in parts.model.named_modules()
        if "Linear" in type(one).__name__
    }
    quantized = {name for name, kind in kinds.items() if kind == "Linear4bit"}
    assert quantized
    assert all("language_model.layers" in name for name in quantized)
    assert kinds["lm_head"] == "Linear"


def refusal(run, request, kind=CaptionModelError) -> str:
    with pytest.raises(kind) as raised:
        caption(run, request)
    return str(raised.value)


def test_what_is_no_model_of_the_family_is_a_sentence(tmp_path, model, run):
    request = small_request(tmp_path / "clips", tmp_path / "nowhere", 1)
    assert "there is no such folder" in refusal(run, request)
    empty = tmp_path / "empty"
    empty.mkdir()
    assert "there is no config.json in it" in refusal(run, msgspec.structs.replace(request, model=str(empty)))
    (empty / "config.json").write_text(
        json.dumps({"model_type": "llama", "auto_map": {"AutoModel": "evil.py"}})
    )
    words = refusal(run, msgspec.structs.replace(request, model=str(empty)))
    assert "it is a llama model, not Qwen2-VL, Qwen2.5-VL or Qwen3-VL. Choose the folder" in words
    (empty / "config.json").write_text("{")
    assert "config.json cannot be read" in refusal(run, msgspec.structs.replace(request, model=str(empty)))


def test_a_model_that_is_not_whole_is_a_sentence(tmp_path, run):
    folder = make_vision_language(tmp_path / "model")
    request = small_request(tmp_path / "clips", folder, 1)
    config = json.loads((folder / "config.json").read_text())
    deeper = config | {"text_config": config["text_config"] | {"num_hidden_layers": 3, "layer_types": None}}
    (folder / "config.json").write_text(json.dumps(deeper))
    assert "its files lack " in refusal(run, request)
    stored = config | {"quantization_config": {"quant_method": "awq"}}
    (folder / "config.json").write_text(json.dumps(stored))
    assert "stored in the awq format" in refusal(run, request)
    (folder / "config.json").write_text(json.dumps(config))
    weights = (folder / "model.safetensors").read_bytes()
    (folder / "model.safetensors").write_bytes(weights[: len(weights) // 2])
    assert "damaged" in refusal(run, request)
    (folder / "model.safetensors").unlink()
    assert "model.safetensors is missing. Download it again" in refusal(run, request)


def test_code_that_came_with_the_weights_is_never_run(tmp_path, run):
    folder = make_vision_language(tmp_path / "model")
    config = json.loads((folder / "config.json").read_text())
    config["auto_map"] = {"AutoConfig": "mine.Config", "AutoModel": "mine.Model"}
    (folder / "config.json").write_text(json.dumps(config))
    (folder / "mine.py").write_text(f"open({str(tmp_path / 'ran')!r}, 'w')\n")
    assert told(caption(run, small_request(tmp_path / "clips", folder, 1)), CaptionMade)
    assert not (tmp_path / "ran").exists()


def test_a_model_that_does_not_fit_is_refused_before_it_is_loaded(tmp_path, model, run, monkeypatch):
    request = small_request(tmp_path, model, 1)
    monkeypatch.setattr(vision_language, "_WORK_BYTES", 2**50)
    words = refusal(run, request, CaptionMemoryError)
    assert "does not fit into RAM: it takes about 1048576.0 GiB, and " in words
    assert "Choose 4 bits" in words


def test_memory_that_runs_out_over_a_clip_is_a_sentence(tmp_path, model, run, monkeypatch):
    from trainer.recipes import caption_clips as recipe

    def full(*_):
        raise torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2.00 GiB")

    monkeypatch.setattr(recipe, "describe", full)
    words = refusal(run, small_request(tmp_path, model, 1), CaptionMemoryError)
    assert "does not suffice for 5 frames of 64 x 64 beside the model. Show it fewer frames" in words
