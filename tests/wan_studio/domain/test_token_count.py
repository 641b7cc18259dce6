import pytest
from tokenizers import Tokenizer, models, normalizers, pre_tokenizers, trainers

from wan_studio.domain.token_count import UnigramCounter, estimated_tokens

TEXTS = [
    "orbit 360 around the castle, stone walls at dusk",
    "the camera slowly pans left while a woman in a red coat walks along the beach",
    "a close-up of two hands; they make a fist, then open again",
    "ゆっくりと右へ回るカメラ, naïve café",
]


@pytest.fixture(scope="module")
def unigram():
    """A sentencepiece-like tokenizer of the libraries, trained on a few lines."""
    made = Tokenizer(models.Unigram())
    made.normalizer = normalizers.NFKC()
    made.pre_tokenizer = pre_tokenizers.Metaspace()
    made.train_from_iterator(
        TEXTS[:3] * 20,
        trainers.UnigramTrainer(vocab_size=120, special_tokens=["<pad>", "</s>", "<unk>"], unk_token="<unk>"),
    )
    return made


@pytest.mark.parametrize("text", [*TEXTS, "", "walks walking walked", "zzz qqq", "１２ ｆｕｌｌ width"])
def test_tokens_are_counted_as_the_tokenizers_library_counts_them(unigram, text):
    import json

    vocabulary = json.loads(unigram.to_str())["model"]["vocab"]
    counter = UnigramCounter(dict(map(tuple, vocabulary[3:])))
    text = " ".join(text.split())
    expected = len(unigram.encode(text).ids) if text else 0
    assert counter.count(text) == expected + 1


def test_an_estimate_is_near_and_counts_long_words_and_signs():
    assert estimated_tokens("") == 1
    assert estimated_tokens("orbit around the castle, slowly") == 10
    assert estimated_tokens("猫が走る") == 5
