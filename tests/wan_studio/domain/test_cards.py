"""The table of cards: NVIDIA's own rates, plausible figures, and the names that drivers give."""

import pytest

from wan_studio.domain.card_rates import rates_of
from wan_studio.domain.cards import CARDS, GIB, card_like, card_named
from wan_studio.domain.machine import PlannedGpu

# Dense, with fp32 accumulate, as NVIDIA prints them: the architecture whitepapers' tables for GeForce and
# workstation cards, datasheets for the rest (half of what those give "with sparsity").
PRINTED = [
    ("RTX 2080 Ti", 11, 53.8, 0),
    ("Titan RTX", 24, 130.5, 0),
    ("T4", 16, 65, 0),
    ("V100", 32, 125, 0),
    ("V100 PCIe", 16, 112, 0),
    ("A100", 80, 312, 0),
    ("A30", 24, 165, 0),
    ("A10", 24, 125, 0),
    ("A40", 48, 149.7, 0),
    ("RTX 3080", 10, 59.5, 0),
    ("RTX 3090", 24, 71.1, 0),
    ("RTX 3090 Ti", 24, 80, 0),
    ("RTX A4000", 16, 76.7, 0),
    ("RTX A6000", 48, 154.8, 0),
    ("RTX 4060 Ti", 16, 44.1, 88.2),
    ("RTX 4080", 16, 97.5, 194.9),
    ("RTX 4090", 24, 165.2, 330.3),
    ("RTX 4000 Ada", 20, 106.9, 213.8),
    ("RTX 5000 Ada", 32, 261.1, 522.1),
    ("RTX 6000 Ada", 48, 364.2, 728.5),
    ("L4", 24, 121, 242),
    ("L40", 48, 181, 362),
    ("L40S", 48, 362, 733),
    ("H100", 80, 989.4, 1978.9),
    ("H100 PCIe", 80, 756, 1513),
    ("H100 NVL", 94, 835, 1671),
    ("H200", 141, 989.4, 1978.9),
    ("B200", 180, 2250, 4500),
    ("RTX 5070", 12, 61.7, 123.5),
    ("RTX 5080", 16, 112.6, 225.1),
    ("RTX 5090", 32, 209.5, 419),
    ("RTX PRO 6000 Blackwell", 96, 503.8, 1007.6),
]

NAMES = [
    ("NVIDIA GeForce RTX 4090", 23.99, "RTX 4090"),
    ("NVIDIA GeForce RTX 4090 D", 23.99, "RTX 4090 D"),
    ("NVIDIA GeForce RTX 4090 Laptop GPU", 15.99, "RTX 4090 Laptop"),
    ("NVIDIA GeForce RTX 4070 Ti SUPER", 15.99, "RTX 4070 Ti Super"),
    ("NVIDIA GeForce RTX 3080 Ti Laptop GPU", 16.0, "RTX 3080 Ti Laptop"),
    ("NVIDIA GeForce RTX 3050 6GB Laptop GPU", 6.0, "RTX 3050 Laptop"),
    ("NVIDIA GeForce RTX 5060 Ti", 15.93, "RTX 5060 Ti"),
    ("GeForce RTX 2080 Ti", 10.76, "RTX 2080 Ti"),
    ("NVIDIA TITAN RTX", 23.65, "Titan RTX"),
    ("Quadro RTX 8000", 47.5, "Quadro RTX 8000"),
    ("NVIDIA RTX A2000 12GB", 11.99, "RTX A2000"),
    ("NVIDIA RTX A6000", 47.99, "RTX A6000"),
    ("NVIDIA RTX 4000 SFF Ada Generation", 19.99, "RTX 4000 SFF Ada"),
    ("NVIDIA RTX 6000 Ada Generation", 47.99, "RTX 6000 Ada"),
    ("NVIDIA RTX PRO 6000 Blackwell Workstation Edition", 95.6, "RTX PRO 6000 Blackwell"),
    ("NVIDIA RTX PRO 6000 Blackwell Max-Q Workstation Edition", 95.6, "RTX PRO 6000 Blackwell Max-Q"),
    ("NVIDIA RTX PRO 6000 Blackwell Server Edition", 95.6, "RTX PRO 6000 Blackwell Server"),
    ("Tesla T4", 15.0, "T4"),
    ("Tesla V100-SXM2-32GB", 32.0, "V100"),
    ("Tesla V100-PCIE-16GB", 16.0, "V100 PCIe"),
    ("NVIDIA A10G", 22.5, "A10G"),
    ("NVIDIA A100-SXM4-40GB", 40.0, "A100"),
    ("NVIDIA A100-PCIE-40GB", 40.0, "A100 PCIe"),
    ("NVIDIA A100 80GB PCIe", 80.0, "A100 PCIe"),
    ("NVIDIA L40S", 45.0, "L40S"),
    ("NVIDIA H100 80GB HBM3", 79.6, "H100"),
    ("NVIDIA H100 PCIe", 79.6, "H100 PCIe"),
    ("NVIDIA H100 NVL", 93.6, "H100 NVL"),
    ("NVIDIA H200", 140.4, "H200"),
    ("NVIDIA GH200 480GB", 95.6, "GH200"),
    ("NVIDIA B200", 179.0, "B200"),
    ("NVIDIA B300 SXM6 AC", 275.0, "B300"),
    ("NVIDIA GB10", 119.7, "GB10"),
    ("RTX 3080 12 GB", 12.0, "RTX 3080"),
    ("rtx4090", 24.0, None),
    ("NVIDIA GeForce RTX 4080 with Max-Q Design", 12.0, None),
    ("NVIDIA GeForce GTX 1080 Ti", 11.0, None),
    ("", 24.0, None),
]


def gpu(name: str, gib: float, capability: tuple[int, int] | None = None) -> PlannedGpu:
    return PlannedGpu(name, round(gib * GIB), round(gib * GIB), capability)


@pytest.mark.parametrize(("name", "gib", "half", "eighth"), PRINTED)
def test_rates_are_those_that_nvidia_prints(name, gib, half, eighth):
    card = card_named(name, gib * GIB)
    assert card is not None
    assert card.half_tflops == pytest.approx(half, rel=0.02)
    assert card.eighth_tflops == pytest.approx(eighth, rel=0.02)


@pytest.mark.parametrize("card", CARDS, ids=lambda card: f"{card.name}, {card.memory_gib} GB")
def test_the_figures_of_a_card_agree_with_each_other(card):
    assert (card.eighth_tflops > 0) == (card.capability >= (8, 9))
    assert 150 <= card.bandwidth <= 8000
    # No card moves less than 1.5 or more than 16 bytes for a thousand operations of its tensor cores.
    assert 1.5 <= card.bandwidth / card.half_tflops <= 16 or card.name == "H20"
    assert 4 <= card.memory_gib <= 288
    assert card.source
    assert ("Laptop" in card.name) == (card.build == "laptop")


def test_no_two_rows_are_one_card():
    assert len({(card.name, card.memory_gib) for card in CARDS}) == len(CARDS)


@pytest.mark.parametrize(("name", "gib", "expected"), NAMES)
def test_names_are_matched_as_drivers_give_them(name, gib, expected):
    card = card_named(name, round(gib * GIB))
    assert (card.name if card else None) == expected


def test_memory_tells_cards_of_one_name_apart():
    small, large = card_named("NVIDIA GeForce RTX 3080", 10 * GIB), card_named("RTX 3080", 12 * GIB)
    assert small is not None
    assert large is not None
    assert (small.memory_gib, large.memory_gib) == (10, 12)
    assert large.half_tflops > small.half_tflops


def test_an_unknown_card_is_estimated_from_one_of_its_generation():
    rates = rates_of(gpu("NVIDIA GeForce RTX 5075", 16, (12, 0)))
    assert rates.is_estimate
    assert "like the RTX 5060 Ti" in rates.told
    assert rates.eighth > 0
    known = rates_of(gpu("NVIDIA GeForce RTX 5060 Ti", 16, (12, 0)))
    assert not known.is_estimate
    assert known.half == rates.half


def test_a_newer_generation_than_all_is_taken_to_be_like_the_newest():
    assert card_like("NVIDIA GeForce RTX 6090", 32 * GIB, (13, 0)).name == "RTX 5090"
    assert card_like("NVIDIA H100 64GB HBM2", 64 * GIB, (9, 0)).name == "H100 PCIe"
    assert card_like("NVIDIA GeForce GTX 1080 Ti", 11 * GIB, (6, 1)).capability == (7, 5)
    assert card_like("NVIDIA GeForce RTX 5085 Laptop GPU", 16 * GIB, (12, 0)).name == "RTX 5080 Laptop"


def test_a_card_of_which_only_the_memory_is_known_is_the_slowest_of_that_size_with_bf16():
    assert card_like("", 24 * GIB, None).name == "RTX 3090"


def test_the_h200_reaches_what_was_measured_on_it():
    rates = rates_of(gpu("NVIDIA H200", 140.4))
    assert rates.half == pytest.approx(690e12, rel=0.02)
    assert rates.eighth == pytest.approx(1300e12, rel=0.03)
    assert 621e12 <= rates.attention <= 697e12
    assert 534e12 <= rates.attention_gradient <= 559e12
    assert rates.link == pytest.approx(55.5e9, rel=0.01)


def test_a_link_that_was_measured_counts_more_than_the_slot():
    slow = PlannedGpu("NVIDIA GeForce RTX 4090", 24 * GIB, 23 * GIB, link_bytes_per_second=6e9)
    assert rates_of(slow).link == 6e9


def test_cards_without_bf16_compute_in_fp32():
    rates = rates_of(gpu("GeForce RTX 2080 Ti", 10.8))
    assert not rates.has_bfloat16
    assert rates.eighth == 0
    # 13.4 TFLOP/s outside the tensor cores, in the whitepaper.
    assert 0.8 * 13.4e12 < rates.half < 13.4e12
