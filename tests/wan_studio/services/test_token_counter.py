import json

from trainer.protocol.job import ModelSection
from wan_studio.services.shipped_files import shipped_file
from wan_studio.services.token_counter import find_vocabulary, load_counter


def test_the_miniatures_own_tokenizer_counts_as_the_library_does():
    from tokenizers import Tokenizer

    counter = load_counter(ModelSection())
    library = Tokenizer.from_file(str(shipped_file("miniature/tokenizer/tokenizer.json")))
    for text in ("the camera orbits left around a red cube", "frung, Ünïcode 猫", "a"):
        assert counter.count(text) == len(library.encode(text).ids), text
    assert not counter.is_estimate


def test_a_base_without_a_tokenizer_is_estimated_and_says_so(tmp_path, monkeypatch):
    monkeypatch.setenv("HF_HUB_CACHE", str(tmp_path / "hub"))
    assert load_counter(ModelSection(base=str(tmp_path))).is_estimate
    (tmp_path / "tokenizer.json").write_text('{"model": {"type": "BPE", "vocab": {"a": 0}}}')
    assert load_counter(ModelSection(base=str(tmp_path))).is_estimate
    (tmp_path / "tokenizer.json").write_text('{"model": {"type": "Unigram", "vocab": [["<pad>", 0.0]')
    assert load_counter(ModelSection(base=str(tmp_path))).is_estimate


def test_the_tokenizer_is_found_in_every_layout(tmp_path, monkeypatch):
    monkeypatch.setenv("HF_HUB_CACHE", str(tmp_path / "hub"))
    base = tmp_path / "base"
    for place in ("tokenizer", "google/umt5-xxl"):
        file = base / place / "tokenizer.json"
        file.parent.mkdir(parents=True)
        file.write_text("{}")
        assert find_vocabulary(ModelSection(base=str(base))) == file
        file.unlink()
    hub = tmp_path / "hub/models--google--umt5-xxl/snapshots/abc/tokenizer.json"
    hub.parent.mkdir(parents=True)
    hub.write_text("{}")
    assert find_vocabulary(ModelSection(base=str(base))) == hub


def test_a_vocabulary_of_the_real_size_is_umt5s(tmp_path):
    vocabulary = [["<pad>", 0.0], ["</s>", 0.0], ["<unk>", 0.0], ["\u2581a", -1.0]]
    vocabulary += [[f"piece{i}", -9.5] for i in range(100_000)]
    data = {"model": {"type": "Unigram", "unk_id": 2, "vocab": vocabulary}}
    (tmp_path / "tokenizer.json").write_text(json.dumps(data, indent=1), encoding="utf-8")
    counter = load_counter(ModelSection(base=str(tmp_path)))
    assert counter.tokenizer == "UMT5"
    assert counter.count("a a") == 3
