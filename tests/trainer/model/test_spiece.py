import json
from pathlib import Path

import pytest

from tests.base_layouts import spiece_bytes, spiece_of
from trainer.model.base_errors import PartNotLoadedError
from trainer.model.prompt_tokenizer import load_tokenizer, tokenizer_of_spiece
from trainer.model.spiece import SpieceError, read_spiece

PIECES = [("<pad>", 0.0, 3), ("</s>", 0.0, 3), ("<unk>", 0.0, 2), ("▁", -2.5, 1), ("手話", -3.25, 1)]
PROMPTS = ["", "a red sphere, camera orbits", "Word <unk> ~ 手話", "x" * 600]


def test_pieces_their_scores_and_the_character_map_are_read():
    model = read_spiece(spiece_bytes(PIECES, b"\x00rules"))
    assert model.pieces == tuple((text, score) for text, score, _ in PIECES)
    assert model.unknown == 2
    assert model.character_map == b"\x00rules"


def test_a_tokenizer_made_of_it_equals_the_one_of_tokenizer_json(miniature_folder):
    folder = miniature_folder / "tokenizer"
    pieces = json.loads((folder / "tokenizer.json").read_text(encoding="utf-8"))["model"]["vocab"]
    made = tokenizer_of_spiece(spiece_of(folder), Path("spiece.model"))
    stored = load_tokenizer(folder)
    assert len(pieces) == len(made) == len(stored)
    for prompt in PROMPTS:
        options = {"padding": "max_length", "max_length": 512, "truncation": True}
        assert dict(made([prompt], **options)) == dict(stored([prompt], **options))


@pytest.mark.parametrize(
    "content",
    [b"", b"hello world", b"\x0a\xff\xff\xff\xff\x0f", b"\x0a", spiece_bytes(PIECES)[:40], b"\x0b\x00"],
)
def test_other_bytes_are_refused(content):
    with pytest.raises(SpieceError):
        read_spiece(content)
    with pytest.raises(PartNotLoadedError, match=r"spiece\.model cannot be loaded"):
        tokenizer_of_spiece(content, Path("spiece.model"))


def test_a_model_of_another_family_is_refused():
    with pytest.raises(PartNotLoadedError, match="token for the unknown is 0 instead of 2"):
        tokenizer_of_spiece(spiece_bytes([("<unk>", 0.0, 2), ("a", 0.0, 1)]), Path("spiece.model"))
