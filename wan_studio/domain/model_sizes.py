"""Sizes of the base's parts, from the numbers that describe them."""

from dataclasses import dataclass

from trainer.protocol.job import MINIATURE

BFLOAT16_BYTES = 2
FLOAT32_BYTES = 4
NF4_BITS = 4.5
"""Four bits a weight, and a float32 peak for each 64 of them."""
TEXT_TOKENS = 512
"""Rows of text that the experts take, padded."""


@dataclass(frozen=True, slots=True)
class ExpertSizes:
    """What the size of an expert follows from; the names are those of its config.

    Attributes:
        width: Of a token: heads times their width.
        feed_forward: Width inside the feed-forward.
        heads: Of attention.
        layers: Blocks.
        text_width: Of the text encoder's rows.
        frequencies: Width of the timestep's sinusoids.
        channels_in: Of the latents that it takes: noise, mask and condition.
        channels_out: Of those that it gives.
    """

    width: int
    feed_forward: int
    heads: int
    layers: int
    text_width: int
    frequencies: int = 256
    channels_in: int = 36
    channels_out: int = 16

    @property
    def linear_shapes(self) -> tuple[tuple[int, int], ...]:
        """Output and input width of a block's ten linears: two attentions of four, and the feed-forward."""
        square = (self.width, self.width)
        return (*(square,) * 8, (self.feed_forward, self.width), (self.width, self.feed_forward))

    @property
    def block_weights(self) -> int:
        """Weights of a block's ten linears, which quantization shrinks."""
        return sum(rows * columns for rows, columns in self.linear_shapes)

    def block_bytes(self, mode: str, recovery_rank: int, dtype_bytes: int) -> int:
        """A block's ten linears as they are stored.

        Args:
            mode: `quantization.transformer`.
            recovery_rank: Of the side branch of "nf4_recovered".
            dtype_bytes: Of a number in the type that computes, 2 for bfloat16.
        """
        weights = self.block_weights
        if mode == "none":
            return weights * dtype_bytes
        if mode in ("float8", "float8_compute"):
            return weights + sum(rows for rows, _ in self.linear_shapes) * FLOAT32_BYTES
        packed = round(weights * NF4_BITS / 8)
        if mode == "nf4":
            return packed
        # Linears with one input share a branch: queries, keys and values; keys and values of the text.
        groups = ((3, 1), (1, 1), (1, 1), (2, 1), (1, 1))
        square = sum(rows + columns for rows, columns in groups) * self.width
        wide = 2 * (self.width + self.feed_forward)
        return packed + recovery_rank * (square + wide) * dtype_bytes

    def kept_bytes(self, keep: str, tokens: int, batch: int, dtype_bytes: int, *, chunks: int = 1) -> int:
        """What one block keeps from its forward pass for its backward pass.

        Its input always. With "attention" also self-attention's output, the log-sum-exp of each head in
        float32, and keys and values of the text; with "sums" the two sums, cross-attention's query and
        output as well; with "everything" also queries, keys and values, and the feed-forward's first product,
        unless that is computed in parts.

        Args:
            keep: As `training.kept_activations`, or "everything".
            tokens: Of one clip.
            batch: Clips at once.
            dtype_bytes: Of a number in the type that computes.
            chunks: `model.feed_forward_chunks`.
        """
        row = batch * tokens * self.width * dtype_bytes
        if keep == "nothing":
            return row
        sums_of_heads = batch * tokens * self.heads * FLOAT32_BYTES
        kept = 2 * row + sums_of_heads + batch * TEXT_TOKENS * 2 * self.width * dtype_bytes
        if keep in ("sums", "everything"):
            kept += 4 * row + sums_of_heads
        if keep == "everything":
            kept += 3 * row
            kept += batch * tokens * self.feed_forward * dtype_bytes if chunks == 1 else 0
        return kept

    @property
    def rest_weights(self) -> int:
        """Everything but the blocks' linears: embeddings, time projection, head, biases."""
        width = self.width
        patch = self.channels_in * 4 * width + width
        text = (self.text_width + width + 2) * width
        projection = 6 * width * (width + 1)
        head = (width + 1) * self.channels_out * 4
        biases = sum(rows for rows, _ in self.linear_shapes) * self.layers
        return patch + text + projection + head + biases

    @property
    def rest_float32(self) -> int:
        """Numbers that stay in float32: norms, modulation tables, the timestep's embedding."""
        width = self.width
        time = (self.frequencies + width + 2) * width
        # Four norms of queries and keys, the second norm's weight and bias, six rows of modulation.
        return time + self.layers * 12 * width + 2 * width

    def rest_bytes(self, dtype_bytes: int) -> int:
        """What is on the GPU of an expert whatever happens to its blocks."""
        return self.rest_weights * dtype_bytes + self.rest_float32 * FLOAT32_BYTES

    def lora_weights(self, rank: int) -> int:
        """Of a LoRA of this rank on all ten linears of every block."""
        return self.layers * rank * sum(rows + columns for rows, columns in self.linear_shapes)


@dataclass(frozen=True, slots=True)
class BaseSizes:
    """A whole base.

    Attributes:
        expert: Of each of the two experts.
        vae_weights: Of the VAE, which computes in float32.
        vae_width: Channels of its finest level.
        text_linears: Weights of the text encoder's linears.
        text_embeddings: And of its table of tokens.
    """

    expert: ExpertSizes
    vae_weights: int
    vae_width: int
    text_linears: int
    text_embeddings: int

    def text_encoder_bytes(self, mode: str, dtype_bytes: int) -> int:
        """As `quantization.text_encoder` has it stored: its linears in 8 bits or not at all."""
        linears = self.text_linears * (1 if mode == "float8" else dtype_bytes)
        return linears + self.text_embeddings * dtype_bytes


A14B = BaseSizes(
    expert=ExpertSizes(width=5120, feed_forward=13824, heads=40, layers=40, text_width=4096),
    vae_weights=126_892_531,
    vae_width=96,
    # 24 layers: four linears of 4096 x 4096 in attention, three of 4096 x 10240 in the feed-forward.
    text_linears=24 * (4 * 4096 * 4096 + 3 * 4096 * 10240),
    text_embeddings=256_384 * 4096,
)
"""Wan 2.2 I2V A14B with its VAE and UMT5-XXL; from the models' configs."""

SMALL = BaseSizes(
    expert=ExpertSizes(width=128, feed_forward=512, heads=2, layers=5, text_width=64, frequencies=64),
    # Of the VAE and the text encoder only the order of magnitude counts: the miniature fits anywhere.
    vae_weights=2_000_000,
    vae_width=24,
    text_linears=2 * (4 * 64 * 64 + 3 * 64 * 128),
    text_embeddings=152 * 64,
)
"""The miniature that the app ships."""


def base_sizes(base: str) -> BaseSizes:
    """Of the base that a project names; all but the miniature are A14B."""
    return SMALL if base == MINIATURE else A14B
