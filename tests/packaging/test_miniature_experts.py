"""Text with short padding is the same text, and times stay on their side."""

import pytest
import torch

pytestmark = pytest.mark.usefixtures("one_thread")


@pytest.fixture(scope="module")
def learning():
    import miniature_experts

    return miniature_experts


def test_text_with_short_padding_gives_the_experts_the_same_answer(learning, config):
    from trainer.model.miniature import build_expert, build_text_encoder, build_tokenizer

    torch.manual_seed(1)
    expert, tokenizer = build_expert(config), build_tokenizer()
    text = build_text_encoder(config, len(tokenizer)).eval()
    rows = learning.encode_prompts(tokenizer, text, ["orbit ohwx, a red sphere", ""])
    assert rows.shape[1] < 60
    assert not rows[:, -1].any()
    latents, moment = torch.randn(2, 36, 2, 4, 4), torch.tensor([950.0, 200.0])
    with torch.no_grad():
        whole = expert(latents, moment, learning.padded(rows), return_dict=False)[0]
        naive = expert(latents, moment, rows, return_dict=False)[0]
        learning.use_short_text(expert)
        short = expert(latents, moment, rows, return_dict=False)[0]
    assert learning.padded(rows).shape[1] == 512
    assert torch.allclose(short, whole, atol=2e-5)
    # Without the correction the answer is another: the padding has weight.
    assert not torch.allclose(naive, whole, atol=1e-3)


def test_each_experts_times_stay_on_its_side_of_the_boundary(learning):
    high = learning.draw_times(4000, learning.Side.HIGH, torch.device("cpu"))
    low = learning.draw_times(4000, learning.Side.LOW, torch.device("cpu"))
    assert 0.9 <= high.min() < 0.902 < 0.998 < high.max() <= 1.0
    assert 0.0 <= low.min() < 0.01 < 0.89 < low.max() <= 0.9
