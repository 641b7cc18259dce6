"""NVIDIA cards that can train: what each computes and moves at best, by the name that the driver gives it.

A tensor core's rate is that with 32-bit sums, which is what training takes: GeForce cards have half of what
they have with 16-bit sums, workstation cards all of it. Every rate follows from three figures of a card,

    multiprocessors x boost clock x operations that one of them does in a clock,

which is how NVIDIA's own tables come about; the tests hold the products to the rates that those print.
"""

import re
from dataclasses import dataclass
from functools import lru_cache
from typing import Literal, NamedTuple

GIB = 2**30

Build = Literal["desktop", "laptop", "workstation", "small", "server"]
"""How much power a card gets for what it could compute: "small" are workstation and server cards of 75 W."""


class Family(NamedTuple):
    """What one multiprocessor of an architecture does in a clock, in floating-point operations.

    Attributes:
        capability: Compute capability.
        half: bf16 or fp16 products with fp32 sums, on tensor cores.
        eighth: fp8 products with fp32 sums; 0 where there are none.
        single: fp32, outside tensor cores.
    """

    capability: tuple[int, int]
    half: int
    eighth: int
    single: int


@dataclass(frozen=True, slots=True)
class Card:
    """A card.

    Attributes:
        name: As people call it.
        family: Its architecture.
        multiprocessors: SMs.
        boost_mhz: Clock to which its maker rates it.
        memory_gib: Its memory.
        bandwidth: Of its memory, in GB/s (10^9 bytes).
        pcie: Generation and lanes.
        build: What it is made for.
        source: Where its figures stand.
    """

    name: str
    family: Family
    multiprocessors: int
    boost_mhz: int
    memory_gib: float
    bandwidth: float
    pcie: tuple[int, int]
    build: Build
    source: str

    @property
    def capability(self) -> tuple[int, int]:
        """Compute capability."""
        return self.family.capability

    @property
    def half_tflops(self) -> float:
        """Dense bf16 (before 8.0 fp16) TFLOP/s of its tensor cores, with fp32 sums."""
        return self._tflops(self.family.half)

    @property
    def eighth_tflops(self) -> float:
        """Dense fp8 TFLOP/s with fp32 sums; 0 where it has none."""
        return self._tflops(self.family.eighth)

    @property
    def single_tflops(self) -> float:
        """fp32 TFLOP/s outside its tensor cores."""
        return self._tflops(self.family.single)

    @property
    def link_gb(self) -> float:
        """Of its PCIe slot, one way, in GB/s."""
        generation, lanes = self.pcie
        return _LANE_GB[generation] * lanes

    def _tflops(self, operations: int) -> float:
        return self.multiprocessors * self.boost_mhz * operations * 1e-6


_LANE_GB = {3: 0.985, 4: 1.969, 5: 3.938}
"""GB/s of one lane, one way, by PCIe's generation (8, 16 and 32 GT/s in 128b/130b)."""

VOLTA = Family((7, 0), 1024, 0, 128)
TURING_GEFORCE, TURING = Family((7, 5), 512, 0, 128), Family((7, 5), 1024, 0, 128)
AMPERE_SERVER = Family((8, 0), 2048, 0, 128)
AMPERE_GEFORCE, AMPERE = Family((8, 6), 512, 0, 256), Family((8, 6), 1024, 0, 256)
ADA_GEFORCE, ADA = Family((8, 9), 512, 1024, 256), Family((8, 9), 1024, 2048, 256)
HOPPER = Family((9, 0), 4096, 8192, 256)
BLACKWELL_SERVER, BLACKWELL_ULTRA = Family((10, 0), 8192, 16384, 256), Family((10, 3), 8192, 16384, 256)
BLACKWELL_GEFORCE, BLACKWELL = Family((12, 0), 512, 1024, 256), Family((12, 0), 1024, 2048, 256)
BLACKWELL_SPARK = Family((12, 1), 1024, 2048, 256)

_LAPTOP = "NVIDIA's comparison of laptop GPUs: most clock; 8 lanes are assumed, as most laptops have"
_SHEET = "NVIDIA's datasheet; clock worked out from its tensor rate"

_Row = tuple[str, int, int, float, float, tuple[int, int]]
"""Name, multiprocessors, boost clock in MHz, GiB, GB/s, PCIe."""

_TABLE: tuple[tuple[Family, Build, str, tuple[_Row, ...]], ...] = (
    (
        TURING_GEFORCE,
        "desktop",
        "Turing whitepaper and NVIDIA's product pages",
        (
            ("RTX 2060", 30, 1680, 6, 336, (3, 16)),
            ("RTX 2060", 34, 1650, 12, 336, (3, 16)),
            ("RTX 2060 Super", 34, 1650, 8, 448, (3, 16)),
            ("RTX 2070", 36, 1620, 8, 448, (3, 16)),
            ("RTX 2070 Super", 40, 1770, 8, 448, (3, 16)),
            ("RTX 2080", 46, 1710, 8, 448, (3, 16)),
            ("RTX 2080 Super", 48, 1815, 8, 496, (3, 16)),
            ("RTX 2080 Ti", 68, 1545, 11, 616, (3, 16)),
        ),
    ),
    (
        TURING,
        "workstation",
        "Turing whitepaper",
        (
            ("Titan RTX", 72, 1770, 24, 672, (3, 16)),
            ("Quadro RTX 4000", 36, 1545, 8, 416, (3, 16)),
            ("Quadro RTX 5000", 48, 1815, 16, 448, (3, 16)),
            ("Quadro RTX 6000", 72, 1770, 24, 672, (3, 16)),
            ("Quadro RTX 8000", 72, 1770, 48, 672, (3, 16)),
        ),
    ),
    (TURING, "small", "T4 datasheet", (("T4", 40, 1590, 16, 320, (3, 16)),)),
    (
        VOLTA,
        "server",
        "V100 datasheet",
        (
            ("V100", 80, 1530, 16, 900, (3, 16)),
            ("V100", 80, 1530, 32, 900, (3, 16)),
            ("V100 PCIe", 80, 1370, 16, 900, (3, 16)),
            ("V100 PCIe", 80, 1370, 32, 900, (3, 16)),
            ("V100S PCIe", 80, 1597, 32, 1134, (3, 16)),
            ("Titan V", 80, 1455, 12, 653, (3, 16)),
        ),
    ),
    (
        AMPERE_SERVER,
        "server",
        "A100 and A30 datasheets",
        (
            ("A100", 108, 1410, 40, 1555, (4, 16)),
            ("A100", 108, 1410, 80, 2039, (4, 16)),
            ("A100 PCIe", 108, 1410, 40, 1555, (4, 16)),
            ("A100 PCIe", 108, 1410, 80, 1935, (4, 16)),
            ("A800", 108, 1410, 80, 2039, (4, 16)),
            ("A800 PCIe", 108, 1410, 80, 1935, (4, 16)),
            ("A30", 56, 1440, 24, 933, (4, 16)),
        ),
    ),
    (
        AMPERE_GEFORCE,
        "desktop",
        "GA102 whitepaper and NVIDIA's product pages",
        (
            ("RTX 3050", 18, 1470, 6, 168, (4, 8)),
            ("RTX 3050", 20, 1777, 8, 224, (4, 8)),
            ("RTX 3060", 28, 1777, 8, 240, (4, 16)),
            ("RTX 3060", 28, 1777, 12, 360, (4, 16)),
            ("RTX 3060 Ti", 38, 1665, 8, 448, (4, 16)),
            ("RTX 3070", 46, 1725, 8, 448, (4, 16)),
            ("RTX 3070 Ti", 48, 1770, 8, 608, (4, 16)),
            ("RTX 3080", 68, 1710, 10, 760, (4, 16)),
            ("RTX 3080", 70, 1710, 12, 912, (4, 16)),
            ("RTX 3080 Ti", 80, 1665, 12, 912, (4, 16)),
            ("RTX 3090", 82, 1695, 24, 936, (4, 16)),
            ("RTX 3090 Ti", 84, 1860, 24, 1008, (4, 16)),
        ),
    ),
    (
        AMPERE_GEFORCE,
        "laptop",
        _LAPTOP,
        (
            ("RTX 3050 Laptop", 16, 1500, 4, 192, (4, 8)),
            ("RTX 3050 Laptop", 20, 1500, 6, 168, (4, 8)),
            ("RTX 3050 Ti Laptop", 20, 1485, 4, 192, (4, 8)),
            ("RTX 3060 Laptop", 30, 1703, 6, 336, (4, 8)),
            ("RTX 3070 Laptop", 40, 1620, 8, 448, (4, 8)),
            ("RTX 3070 Ti Laptop", 46, 1485, 8, 448, (4, 8)),
            ("RTX 3080 Laptop", 48, 1710, 8, 448, (4, 8)),
            ("RTX 3080 Laptop", 48, 1710, 16, 448, (4, 8)),
            ("RTX 3080 Ti Laptop", 58, 1590, 16, 512, (4, 8)),
        ),
    ),
    (
        AMPERE,
        "workstation",
        "GA102 whitepaper and the cards' datasheets",
        (
            ("RTX A4000", 48, 1560, 16, 448, (4, 16)),
            ("RTX A4500", 56, 1650, 20, 640, (4, 16)),
            ("RTX A5000", 64, 1695, 24, 768, (4, 16)),
            ("RTX A5500", 80, 1665, 24, 768, (4, 16)),
            ("RTX A6000", 84, 1800, 48, 768, (4, 16)),
            ("A10", 72, 1695, 24, 600, (4, 16)),
            ("A40", 84, 1740, 48, 696, (4, 16)),
        ),
    ),
    (AMPERE_GEFORCE, "workstation", "A10G: rate that AWS gives", (("A10G", 80, 1710, 24, 600, (4, 16)),)),
    (
        AMPERE,
        "small",
        "RTX A2000 and A2 datasheets",
        (
            ("RTX A2000", 26, 1200, 6, 288, (4, 16)),
            ("RTX A2000", 26, 1200, 12, 288, (4, 16)),
            ("A2", 10, 1770, 16, 200, (4, 8)),
        ),
    ),
    (
        ADA_GEFORCE,
        "desktop",
        "Ada whitepaper and NVIDIA's product pages",
        (
            ("RTX 4060", 24, 2460, 8, 272, (4, 8)),
            ("RTX 4060 Ti", 34, 2535, 8, 288, (4, 8)),
            ("RTX 4060 Ti", 34, 2535, 16, 288, (4, 8)),
            ("RTX 4070", 46, 2475, 12, 504, (4, 16)),
            ("RTX 4070 Super", 56, 2475, 12, 504, (4, 16)),
            ("RTX 4070 Ti", 60, 2610, 12, 504, (4, 16)),
            ("RTX 4070 Ti Super", 66, 2610, 16, 672, (4, 16)),
            ("RTX 4080", 76, 2505, 16, 717, (4, 16)),
            ("RTX 4080 Super", 80, 2550, 16, 736, (4, 16)),
            ("RTX 4090", 128, 2520, 24, 1008, (4, 16)),
            ("RTX 4090 D", 114, 2520, 24, 1008, (4, 16)),
        ),
    ),
    (
        ADA_GEFORCE,
        "laptop",
        _LAPTOP,
        (
            ("RTX 4050 Laptop", 20, 2370, 6, 192, (4, 8)),
            ("RTX 4060 Laptop", 24, 2370, 8, 256, (4, 8)),
            ("RTX 4070 Laptop", 36, 2175, 8, 256, (4, 8)),
            ("RTX 4080 Laptop", 58, 2280, 12, 432, (4, 8)),
            ("RTX 4090 Laptop", 76, 2040, 16, 576, (4, 8)),
        ),
    ),
    (
        ADA,
        "workstation",
        "Ada whitepaper and the cards' datasheets",
        (
            ("RTX 4000 Ada", 48, 2175, 20, 360, (4, 16)),
            ("RTX 4500 Ada", 60, 2580, 24, 432, (4, 16)),
            ("RTX 5000 Ada", 100, 2550, 32, 576, (4, 16)),
            ("RTX 5880 Ada", 110, 2460, 48, 960, (4, 16)),
            ("RTX 6000 Ada", 142, 2505, 48, 960, (4, 16)),
            ("L40S", 142, 2490, 48, 864, (4, 16)),
        ),
    ),
    # Its datasheet gives half of the L40S's rates for the same chip at the same clock.
    (ADA_GEFORCE, "workstation", "L40 datasheet", (("L40", 142, 2490, 48, 864, (4, 16)),)),
    (
        ADA,
        "small",
        "The cards' datasheets",
        (
            ("RTX 2000 Ada", 22, 2130, 16, 224, (4, 8)),
            ("RTX 4000 SFF Ada", 48, 1560, 20, 280, (4, 16)),
            ("L4", 58, 2040, 24, 300, (4, 16)),
        ),
    ),
    (
        HOPPER,
        "server",
        _SHEET,
        (
            ("H100", 132, 1830, 80, 3350, (5, 16)),
            ("H100 PCIe", 114, 1620, 80, 2039, (5, 16)),
            ("H100 NVL", 132, 1545, 94, 3938, (5, 16)),
            ("H800", 132, 1830, 80, 3350, (5, 16)),
            ("H800 PCIe", 114, 1620, 80, 2039, (5, 16)),
            ("H20", 78, 463, 96, 4000, (5, 16)),
            ("H200", 132, 1830, 141, 4800, (5, 16)),
            ("H200 NVL", 132, 1545, 141, 4800, (5, 16)),
            # What joins it to its processor's RAM is several times as fast as the PCIe that is given here.
            ("GH200", 132, 1830, 96, 4000, (5, 16)),
            ("GH200", 132, 1830, 144, 4900, (5, 16)),
        ),
    ),
    (
        BLACKWELL_SERVER,
        "server",
        _SHEET,
        (("B200", 148, 1856, 180, 8000, (5, 16)), ("GB200", 148, 2062, 186, 8000, (5, 16))),
    ),
    (BLACKWELL_ULTRA, "server", _SHEET, (("B300", 148, 1856, 275, 8000, (5, 16)),)),
    (
        BLACKWELL_GEFORCE,
        "desktop",
        "RTX Blackwell whitepaper and NVIDIA's product pages",
        (
            ("RTX 5050", 20, 2572, 8, 320, (5, 8)),
            ("RTX 5060", 30, 2497, 8, 448, (5, 8)),
            ("RTX 5060 Ti", 36, 2572, 8, 448, (5, 8)),
            ("RTX 5060 Ti", 36, 2572, 16, 448, (5, 8)),
            ("RTX 5070", 48, 2512, 12, 672, (5, 16)),
            ("RTX 5070 Ti", 70, 2452, 16, 896, (5, 16)),
            ("RTX 5080", 84, 2617, 16, 960, (5, 16)),
            ("RTX 5090", 170, 2407, 32, 1792, (5, 16)),
            ("RTX 5090 D", 170, 2407, 32, 1792, (5, 16)),
        ),
    ),
    (
        BLACKWELL_GEFORCE,
        "laptop",
        _LAPTOP,
        (
            ("RTX 5050 Laptop", 20, 2520, 8, 384, (5, 8)),
            ("RTX 5060 Laptop", 26, 2497, 8, 448, (5, 8)),
            ("RTX 5070 Laptop", 36, 2347, 8, 448, (5, 8)),
            ("RTX 5070 Ti Laptop", 46, 2220, 12, 672, (5, 8)),
            ("RTX 5080 Laptop", 60, 2287, 16, 896, (5, 8)),
            ("RTX 5090 Laptop", 82, 2160, 24, 896, (5, 8)),
        ),
    ),
    (
        BLACKWELL,
        "workstation",
        _SHEET,
        (
            ("RTX PRO 4000 Blackwell", 70, 2054, 24, 672, (5, 16)),
            ("RTX PRO 4500 Blackwell", 82, 2512, 32, 896, (5, 16)),
            ("RTX PRO 5000 Blackwell", 110, 2290, 48, 1344, (5, 16)),
            ("RTX PRO 5000 Blackwell", 110, 2290, 72, 1344, (5, 16)),
            ("RTX PRO 6000 Blackwell", 188, 2617, 96, 1792, (5, 16)),
            ("RTX PRO 6000 Blackwell Max-Q", 188, 2280, 96, 1792, (5, 16)),
            ("RTX PRO 6000 Blackwell Server", 188, 2493, 96, 1597, (5, 16)),
        ),
    ),
    (
        BLACKWELL,
        "small",
        _SHEET,
        (
            ("RTX PRO 2000 Blackwell", 34, 1957, 16, 288, (5, 8)),
            ("RTX PRO 4000 SFF Blackwell", 70, 1337, 24, 432, (5, 8)),
        ),
    ),
    # Its memory is its processor's too.
    (BLACKWELL_SPARK, "workstation", _SHEET, (("GB10", 48, 2540, 120, 273, (5, 16)),)),
)

CARDS: tuple[Card, ...] = tuple(
    Card(name, family, multiprocessors, mhz, gib, bandwidth, pcie, build, source)
    for family, build, source, rows in _TABLE
    for name, multiprocessors, mhz, gib, bandwidth, pcie in rows
)
"""All of them; several of one name differ in memory."""

_SIZES = re.compile(r"\b\d+ ?gi?b?\b")
_WORDS = re.compile(r"[a-z0-9]+")
_EMPTY_WORDS = re.compile(
    "nvidia|geforce|tesla|quadro|gpu|graphics|generation|edition|workstation|dgxs|ac|hbm\\d+e?|sxm\\d*"
)


def _words(name: str) -> frozenset[str]:
    """The words of a name that tell one card from another; of memory sizes there is a better account."""
    plain = _SIZES.sub(" ", name.lower().replace("-", " ").replace("_", " "))
    return frozenset(word for word in _WORDS.findall(plain) if not _EMPTY_WORDS.fullmatch(word))


_BY_WORDS: dict[frozenset[str], list[Card]] = {}
for _card in CARDS:
    _BY_WORDS.setdefault(_words(_card.name), []).append(_card)


@lru_cache(maxsize=256)
def card_named(name: str, total_bytes: int) -> Card | None:
    """The card that a driver or a person calls so; None if it is none of these.

    Args:
        name: Such as "NVIDIA GeForce RTX 4090 Laptop GPU", "Tesla V100-SXM2-32GB" or "RTX 3080".
        total_bytes: Its memory; decides between cards of one name.
    """
    found = _BY_WORDS.get(_words(name), ())
    return min(found, key=lambda card: abs(card.memory_gib * GIB - total_bytes), default=None)


@lru_cache(maxsize=256)
def card_like(name: str, total_bytes: int, capability: tuple[int, int] | None) -> Card:
    """For a card that is not in the table, one that it resembles: of its generation and build, with as much memory.

    Of several the slowest, so that an estimate errs to the long side.

    Args:
        name: Of no use but to tell laptops.
        total_bytes: Its memory.
        capability: None where it is not known; then one that computes in bf16 is taken.
    """
    wanted: Build = "laptop" if "laptop" in name.lower() else "desktop"
    alike = [card for card in CARDS if card.build == wanted]
    if capability is None:
        of_age = [card for card in alike if card.capability >= (8, 0)]
    else:
        same = [card for card in CARDS if card.capability == capability]
        # Of a generation that is not here, the newest before it.
        known = [card.capability for card in alike if card.capability <= capability]
        newest = max(known, default=CARDS[0].capability)
        of_age = [card for card in same if card.build == wanted] or same
        of_age = of_age or [card for card in alike if card.capability == newest] or alike
    return min(of_age, key=lambda card: (abs(card.memory_gib * GIB - total_bytes), card.half_tflops))
