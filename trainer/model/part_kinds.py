"""Which part of which model a file's weights are, told by their names and shapes alone."""

from collections.abc import Collection, Mapping
from pathlib import Path

from trainer.model.base_errors import WrongModelError, WrongPartError
from trainer.model.weight_names import EXPERT_PREFIXES

LATENT_CHANNELS = 16
INPUT_CHANNELS = 36
VAE_WORDS = "the VAE of Wan 2.1, which Wan 2.2 I2V uses"
TEXT_WORDS = "the text encoder UMT5-XXL"

_FIVE_B_CHANNELS = 48
_IMAGE_MARKS = (".k_img.", ".add_k_proj.", "img_emb.", "condition_embedder.image_embedder.")
_LORA_MARKS = (".lora_A.", ".lora_B.", ".lora_down.", ".lora_up.", ".lokr_w1", ".hada_w1_a")

Shapes = Mapping[str, tuple[int, ...]]


def expert_prefix(names: Collection[str]) -> str | None:
    """What stands before every name of an expert's weights; None if these are no weights of a Wan model."""
    return next(
        (
            prefix
            for prefix in EXPERT_PREFIXES
            if f"{prefix}patch_embedding.weight" in names
            and (
                f"{prefix}head.modulation" in names or f"{prefix}condition_embedder.time_proj.weight" in names
            )
        ),
        None,
    )


def is_vae(names: Collection[str]) -> bool:
    """Whether these are weights of a VAE of Wan's kind, in the original or diffusers' names."""
    return (
        "encoder.conv1.weight" in names
        and "decoder.middle.0.residual.0.gamma" in names
        and "conv2.weight" in names
    ) or ("post_quant_conv.weight" in names and "encoder.mid_block.resnets.0.norm1.gamma" in names)


def is_text_encoder(names: Collection[str]) -> bool:
    """Whether these are weights of T5 or UMT5."""
    return (
        "encoder.block.0.layer.0.SelfAttention.q.weight" in names
        or "blocks.0.pos_embedding.embedding.weight" in names
    )


def words_for(names: Collection[str]) -> str:
    """What a file holds, as a sentence names it."""
    if any(mark in name for name in names for mark in _LORA_MARKS):
        return "it holds a LoRA"
    if expert_prefix(names) is not None:
        return "it holds one of the experts"
    if is_vae(names):
        return "it holds a VAE"
    if is_text_encoder(names):
        return "it holds a text encoder"
    return "it holds weights of another model"


def check_expert(place: Path, names: Collection[str], patch_shape: tuple[int, ...]) -> None:
    """Tell an expert of Wan 2.2 I2V from other models of the family.

    Args:
        place: Its file, for the error.
        names: Of its weights, in either naming.
        patch_shape: Of the weight that takes the input apart, (width, channels, 1, 2, 2).

    Raises:
        WrongModelError: it is of another model.
    """
    channels = patch_shape[1] if len(patch_shape) == 5 else 0
    if channels == LATENT_CHANNELS:
        raise WrongModelError(place, f"it takes {channels} channels: a text-to-video model")
    if channels == _FIVE_B_CHANNELS:
        raise WrongModelError(place, f"it takes {channels} channels: the model with 5B parameters")
    if channels != INPUT_CHANNELS:
        raise WrongModelError(place, f"it takes {channels} channels instead of {INPUT_CHANNELS}")
    if any(mark in name for name in names for mark in _IMAGE_MARKS):
        raise WrongModelError(place, "it wants an image encoder, as Wan 2.1 does")


def check_vae(place: Path, latent_shape: tuple[int, ...]) -> None:
    """Tell the VAE of Wan 2.1 from that of the 5B model.

    Args:
        place: Its file, for the error.
        latent_shape: Of the first weight that latents meet, (channels, channels, 1, 1, 1).

    Raises:
        WrongPartError: it is another.
    """
    if latent_shape[0] != LATENT_CHANNELS:
        found = f"it has {latent_shape[0]} latent channels"
        more = " (as Wan 2.2 5B has)" if latent_shape[0] == _FIVE_B_CHANNELS else ""
        raise WrongPartError(place, VAE_WORDS, f"{found}{more} instead of {LATENT_CHANNELS}")


def check_text_encoder(place: Path, names: Collection[str]) -> None:
    """Tell UMT5 from T5, by transformers' names.

    Raises:
        WrongPartError: it is T5, whose blocks share one table of positions.
    """
    if "encoder.block.1.layer.0.SelfAttention.relative_attention_bias.weight" not in names:
        raise WrongPartError(place, TEXT_WORDS, "it holds T5, another text encoder")
