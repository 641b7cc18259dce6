"""A card that the user names instead of the driver: where there is none, or to plan for another one."""

from dataclasses import dataclass

from wan_studio.domain.machine import GIB, PlannedGpu

SERIES: tuple[tuple[str, tuple[int, int]], ...] = (
    ("RTX 20 series", (7, 5)),
    ("RTX 30 series", (8, 6)),
    ("RTX 40 series", (8, 9)),
    ("RTX 50 series or newer", (12, 0)),
)
"""What users know of a card, and what it can compute; the same for the workstation cards of those years."""

FEWEST_GIB, MOST_GIB = 4, 1024


@dataclass(frozen=True, slots=True)
class ManualCard:
    """A card by the two figures that decide most; nobody else uses its memory.

    Attributes:
        gib: Its memory.
        capability: Compute capability.
    """

    gib: int
    capability: tuple[int, int]

    @property
    def gpu(self) -> PlannedGpu:
        """It as a plan sees it; its speed is that of a card like it."""
        size = self.gib * GIB
        return PlannedGpu("", size, size, self.capability)

    @property
    def label(self) -> str:
        """What it is called: "a card of 24 GiB, RTX 40 series"."""
        series = next((name for name, one in SERIES if one == self.capability), "")
        return f"a card of {self.gib} GiB{', ' if series else ''}{series}"

    @property
    def remembered(self) -> str:
        """It as a text for the app's settings."""
        return f"{self.gib} {self.capability[0]}.{self.capability[1]}"


def manual_card(remembered: str) -> ManualCard | None:
    """The card of such a text; None where it says none."""
    try:
        size, capability = remembered.split()
        major, minor = capability.split(".")
        gib, made = int(size), (int(major), int(minor))
    except ValueError:
        return None
    is_known = FEWEST_GIB <= gib <= MOST_GIB and made in [one for _, one in SERIES]
    return ManualCard(gib, made) if is_known else None
