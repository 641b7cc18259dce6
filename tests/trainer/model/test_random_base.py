"""A base of random weights: the sizes of the real model's parts, and parts that load and compute as real ones do."""

import pytest
import torch

from tests.trainer.small_experts import small_configs
from trainer.model.load import load_text_encoder, load_vae
from trainer.model.random_base import random_base
from trainer.model.text import encode_prompts
from trainer.protocol.job import Expert

CPU = torch.device("cpu")


def parameters_of(source) -> int:
    # A tied weight has two names and is one.
    names = [name for name in source.shapes if name != "encoder.embed_tokens.weight"]
    return sum(torch.Size(source.shapes[name]).numel() for name in names)


@pytest.mark.parametrize(
    ("open_source", "billions"),
    [
        (lambda base: base.expert_source(Expert.HIGH), 14.29),
        # What the published files have: 508 MB in float32, 11.36 GB in bf16.
        (lambda base: base.vae_source(), 0.12689),
        (lambda base: base.text_source(), 5.681),
    ],
)
def test_its_parts_are_as_large_as_the_real_models(open_source, billions):
    assert parameters_of(open_source(random_base(CPU))) / 1e9 == pytest.approx(billions, rel=2e-3)


def test_its_parts_load_like_real_ones_and_every_prompt_has_its_full_length():
    base = random_base(CPU, small_configs())
    vae = load_vae(base, CPU)
    assert not any(one.is_meta or one.requires_grad for one in vae.parameters())
    encoder = load_text_encoder(base, torch.float32, CPU)
    (rows_LD,) = encode_prompts(encoder, ["short"])
    assert rows_LD.shape == (512, 64)
    assert rows_LD.isfinite().all()
    assert encoder.model.shared.weight is encoder.model.encoder.embed_tokens.weight
