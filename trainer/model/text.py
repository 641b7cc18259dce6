"""Prompts as the experts get them: cleaned, tokenized and encoded exactly as Wan does."""

# L tokens of a prompt, D width of the text encoder

import html
import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import ftfy
import torch
from torch import Tensor
from transformers import UMT5EncoderModel

from trainer.model.frozen.linear import described_weights

MAX_TOKENS = 512
"""Length that the experts see; longer prompts are cut, shorter ones padded with zeros."""


Tokenize = Callable[..., Any]
"""From prompts to `input_ids` and `attention_mask`, called as transformers' tokenizers are."""


@dataclass(frozen=True, slots=True)
class TextEncoder:
    """UMT5 with its tokenizer."""

    tokenizer: Tokenize
    model: UMT5EncoderModel


def clean_prompt(text: str) -> str:
    """Mend encoding accidents, resolve HTML entities (twice nested ones too), collapse white space."""
    mended = html.unescape(html.unescape(ftfy.fix_text(text)))
    return re.sub(r"\s+", " ", mended).strip()


@torch.no_grad()
def encode_prompts(encoder: TextEncoder, prompts: Sequence[str]) -> list[Tensor]:
    """Encode each prompt by itself, so that its rows never depend on the company it is in.

    Args:
        encoder: Tokenizer and model; the rows have the model's number type.
        prompts: As the user wrote them.

    Returns:
        For each prompt its rows (L, D) on the CPU, 1 <= L <= 512: true tokens only, the end token included.
    """
    return [_encode(encoder, clean_prompt(prompt)) for prompt in prompts]


def pad_rows(rows_LD: Tensor, length: int = MAX_TOKENS) -> Tensor:
    """Pad with rows of zeros, which is what the experts were trained to see behind a prompt.

    Raises:
        ValueError: there are more rows than `length`.
    """
    missing = length - rows_LD.shape[0]
    if missing < 0:
        raise ValueError(f"{rows_LD.shape[0]} rows do not fit into {length}")
    return torch.cat([rows_LD, rows_LD.new_zeros(missing, rows_LD.shape[1])])


def _encode(encoder: TextEncoder, prompt: str) -> Tensor:
    tokens = encoder.tokenizer(
        [prompt],
        # Padded although the padding is cut off again: it is how the experts' own text was made.
        padding="max_length",
        max_length=MAX_TOKENS,
        truncation=True,
        add_special_tokens=True,
        return_attention_mask=True,
        return_tensors="pt",
    )
    mask_BL = tokens["attention_mask"].to(encoder.model.device)
    # The class asks for the number type of weights that may be stored otherwise.
    with described_weights():
        output = encoder.model(input_ids=tokens["input_ids"].to(encoder.model.device), attention_mask=mask_BL)
    true_length = int(mask_BL.sum())
    return output.last_hidden_state[0, :true_length].clone().cpu()
