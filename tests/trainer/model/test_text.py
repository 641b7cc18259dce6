import pytest
import torch

from trainer.model.layouts import open_base
from trainer.model.load import load_text_encoder
from trainer.model.text import MAX_TOKENS, clean_prompt, encode_prompts, pad_rows

PROMPTS = [
    "",
    "   ",
    "a red sphere on the floor, camera orbits around the scene",
    "  two\tspaces,\n\na line &amp;amp; an entity &lt;b&gt; ",
    "schÃ¶n, naïve, 手話 “quoted”…",
    "word " * 700,
]


@pytest.fixture(scope="module")
def encoder(miniature_folder):
    return load_text_encoder(open_base(str(miniature_folder)), torch.float32, torch.device("cpu"))


@pytest.mark.parametrize(
    ("text", "cleaned"),
    [
        ("", ""),
        ("  a \n\t b  ", "a b"),
        ("a &amp;lt; b", "a < b"),
        ("&amp;amp;", "&"),
        ("1 < 2 &amp;amp; 3", "1 < 2 & 3"),
        ("schÃ¶n", "schön"),
        ("Keeps CASE", "Keeps CASE"),
        ("non\u00a0breaking", "non breaking"),
    ],
)
def test_prompts_are_mended_and_their_white_space_collapsed(text, cleaned):
    assert clean_prompt(text) == cleaned


@pytest.mark.parametrize("prompt", PROMPTS)
def test_padded_rows_are_bit_for_bit_the_pipelines_prompt_embeddings(encoder, pipeline, prompt):
    # The pipeline's own call runs without gradients; with them, torch takes other kernels.
    with torch.no_grad():
        expected, _ = pipeline.encode_prompt(
            prompt, do_classifier_free_guidance=False, max_sequence_length=512
        )
    padded = pad_rows(encode_prompts(encoder, [prompt])[0])
    assert torch.equal(padded[None], expected)


def test_rows_end_where_the_prompt_ends(encoder):
    empty, short, long = encode_prompts(encoder, ["", "a b", "word " * 700])
    assert empty.shape == (1, 64)
    assert short.shape == (len(encoder.tokenizer("a b")["input_ids"]), 64)
    assert long.shape == (MAX_TOKENS, 64)


def test_a_prompts_rows_do_not_depend_on_its_company(encoder):
    together = encode_prompts(encoder, PROMPTS[2:5])
    alone = [encode_prompts(encoder, [prompt])[0] for prompt in PROMPTS[2:5]]
    backwards = encode_prompts(encoder, PROMPTS[4:1:-1])[::-1]
    for one, other, third in zip(together, alone, backwards, strict=True):
        assert torch.equal(one, other)
        assert torch.equal(one, third)


def test_different_prompts_have_different_rows(encoder):
    left, right = encode_prompts(encoder, ["camera turns left", "camera turns right"])
    assert not torch.equal(left, right)


def test_rows_hold_no_gradients_and_nothing_but_themselves(encoder):
    rows = encode_prompts(encoder, ["a red cube"])[0]
    assert not rows.requires_grad
    assert rows.untyped_storage().nbytes() == rows.numel() * rows.element_size()


def test_padding_is_zeros_and_refuses_what_does_not_fit():
    rows = torch.ones(3, 2, dtype=torch.bfloat16)
    padded = pad_rows(rows, 5)
    assert padded.tolist() == [[1, 1]] * 3 + [[0, 0]] * 2
    assert padded.dtype == torch.bfloat16
    with pytest.raises(ValueError, match="3 rows do not fit into 2"):
        pad_rows(rows, 2)
