"""What a card reaches of its figures in a training step, and how fast its link to RAM is."""

from dataclasses import dataclass, replace
from functools import lru_cache

from wan_studio.domain.cards import Build, Card, card_like, card_named
from wan_studio.domain.machine import PlannedGpu


@dataclass(frozen=True, slots=True)
class Efficiency:
    """Shares of a card's figures, 0..1, that hold under the load of a long run, and seconds of each kernel.

    Attributes:
        product: Of the tensor rate, for large bf16 products.
        eighth: The same in fp8.
        attention: Of the bf16 tensor rate, in attention's forward pass.
        attention_gradient: And in its backward pass.
        memory: Of the bandwidth, in passes between products.
        link: Of PCIe, copies from and to pinned RAM.
        kernel_gap: Seconds between kernels in which the card is idle or fills up.
        kernel_launch: Seconds that Python takes to launch one: the least time of a step of very small clips.
    """

    product: float
    eighth: float
    attention: float
    attention_gradient: float
    memory: float
    link: float
    kernel_gap: float
    kernel_launch: float


# One NVIDIA H200 (torch 2.11, cuDNN 9.19), November 2026. Fitted to the rows of tests/benchmarks/README.md
# between the rates that the same card showed for single products and for attention: bf16 690, fp8 1300,
# attention 621 to 697 forward and 534 to 559 backward (TFLOP/s); copies to it 55.5 GB/s. The launch is a guess.
# Fitted to the rows at 512 alone, with attention as it was measured by itself, they meet the others within 3.5 %.
H200 = Efficiency(
    product=0.69,
    eighth=0.67,
    attention=0.64,
    attention_gradient=0.545,
    memory=0.58,
    link=0.88,
    kernel_gap=6e-6,
    kernel_launch=12e-6,
)

# Not measured here: others publish 70 to 76 of 71 TFLOP/s for products on an RTX 3090, 210 to 224 of 210 on
# an RTX 5090, 247 of 312 on an A100, 1696 of 2250 on a B200. Desktop cards are held by their tensor cores,
# which boost beyond their rating; the rest by their power. The shares of the other rates follow the H200's.
_PRODUCT: dict[Build, float] = {
    "desktop": 0.92,
    "laptop": 0.75,
    "workstation": 0.70,
    "small": 0.50,
    "server": H200.product,
}
_FLOAT32 = 0.85
"""Of the fp32 rate, for products on cards without bf16."""


@dataclass(frozen=True, slots=True)
class Rates:
    """What a card reaches, a second: operations and bytes.

    Attributes:
        half: Products in bf16; in fp32 where the card has no bf16.
        eighth: Products in fp8; 0 where it has none.
        attention: Attention forward.
        attention_gradient: And backward.
        memory: Bytes through its memory.
        link: Bytes from RAM, or to it.
        kernel_gap: Seconds between two kernels.
        kernel_launch: Least seconds for each.
        has_bfloat16: Cards before capability 8.0 train in fp32.
        card: Name of the card whose figures these are.
        is_estimate: Whether the GPU is not in the table, so that a card like it stands in.
    """

    half: float
    eighth: float
    attention: float
    attention_gradient: float
    memory: float
    link: float
    kernel_gap: float
    kernel_launch: float
    has_bfloat16: bool
    card: str
    is_estimate: bool

    @property
    def told(self) -> str:
        """A sentence on where they come from."""
        if self.is_estimate:
            return f"This card is not in the table; it is taken to be like the {self.card}."
        return f"Computed from the figures of the {self.card}."


@lru_cache(maxsize=64)
def rates_of(gpu: PlannedGpu) -> Rates:
    """The rates of a GPU; of one that is not known, those of a card like it."""
    found = card_named(gpu.name, gpu.total_bytes) if gpu.name else None
    card = found or card_like(gpu.name, gpu.total_bytes, gpu.capability)
    share = efficiency_of(card)
    has_bfloat16 = card.capability >= (8, 0)
    half = card.half_tflops * 1e12
    if not has_bfloat16:
        # Nothing but plain attention is to be had there, in fp32 outside the tensor cores.
        single = card.single_tflops * 1e12
        half, share = single, _in_float32(share)
    return Rates(
        half=half * share.product,
        eighth=card.eighth_tflops * 1e12 * share.eighth,
        attention=half * share.attention,
        attention_gradient=half * share.attention_gradient,
        memory=card.bandwidth * 1e9 * share.memory,
        link=gpu.link_bytes_per_second or card.link_gb * 1e9 * share.link,
        kernel_gap=share.kernel_gap,
        kernel_launch=share.kernel_launch,
        has_bfloat16=has_bfloat16,
        card=card.name,
        is_estimate=found is None,
    )


def efficiency_of(card: Card) -> Efficiency:
    """The shares for a card: the H200's, scaled to what cards of its build reach in products."""
    scale = _PRODUCT[card.build] / H200.product
    return replace(
        H200,
        product=H200.product * scale,
        eighth=H200.eighth * scale,
        attention=H200.attention * scale,
        attention_gradient=H200.attention_gradient * scale,
    )


def _in_float32(share: Efficiency) -> Efficiency:
    return replace(
        share,
        product=_FLOAT32,
        eighth=0.0,
        attention=_FLOAT32 * H200.attention / H200.product,
        attention_gradient=_FLOAT32 * H200.attention_gradient / H200.product,
    )
