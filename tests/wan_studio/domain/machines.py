"""Machines for tests of what is said about them: small real snapshots."""

from dataclasses import replace

from wan_studio.domain.hardware import GpuProcess, GpuSnapshot, HardwareSnapshot

GIB = 2**30

CARD = GpuSnapshot(
    index=0,
    uuid="GPU-0",
    name="NVIDIA GeForce RTX 4090",
    vram_total_bytes=24 * GIB,
    vram_used_bytes=GIB // 2,
    utilization_percent=0,
    temperature_celsius=40,
    slowdown_celsius=90,
    power_watts=20.0,
    power_limit_watts=450.0,
    throttle_reasons=frozenset(),
    processes=(),
    pcie_generation=1,
    pcie_max_generation=4,
    pcie_width=16,
    pcie_max_width=16,
    capability=(8, 9),
    drives_display=True,
)


def machine(*gpus, **changes):
    """32 GiB of RAM, and these GPUs."""
    whole = HardwareSnapshot(gpus=gpus, ram_total_bytes=32 * GIB, ram_available_bytes=20 * GIB)
    return replace(whole, **changes)


def card(**changes):
    """The card with these figures changed."""
    return replace(CARD, **changes)


def program(pid, name, gib):
    """A program on the card; None for a share that the driver does not tell."""
    return GpuProcess(pid, name, None if gib is None else round(gib * GIB))
