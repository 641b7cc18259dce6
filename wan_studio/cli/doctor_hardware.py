"""What `doctor` says of GPUs, memory and disks: a snapshot of the machine in words."""

import importlib.metadata
from collections.abc import Iterator

from wan_studio.cli.finding import Finding, Verdict
from wan_studio.domain.hardware import DiskUse, GpuSnapshot, HardwareSnapshot, ThrottleReason
from wan_studio.domain.hardware_alerts import AlertKind, alerts_of

_GIB = 1024**3
_BFLOAT16_FROM, _FLOAT8_FROM = (8, 0), (8, 9)
_LEAST_DISK_BYTES, _ROOMY_DISK_BYTES, _LEAST_RAM_BYTES = _GIB, 20 * _GIB, 2 * _GIB
_INSTALL = "Install what is missing with: python3 packaging/bootstrap.py run"


def hardware_findings(snapshot: HardwareSnapshot) -> Iterator[Finding]:
    """Everything that the snapshot says, GPUs first."""
    yield from _driver(snapshot)
    for gpu in snapshot.gpus:
        yield from _gpu(gpu)
    yield from _alerts(snapshot)
    if any(gpu.is_ready for gpu in snapshot.gpus):
        yield from _torch()
    if snapshot.is_wsl:
        yield _wsl()
    yield _memory(snapshot)
    yield _swap(snapshot)
    yield from _disks(snapshot)


def _driver(snapshot: HardwareSnapshot) -> Iterator[Finding]:
    if snapshot.words.text:
        yield Finding("GPU", Verdict.WARNING, *snapshot.words)
    if snapshot.driver_version:
        cuda = snapshot.cuda_version
        served = f", serves CUDA up to {cuda[0]}.{cuda[1]}" if cuda else ""
        yield Finding("NVIDIA driver", Verdict.OK, f"{snapshot.driver_version}{served}")


def _gpu(gpu: GpuSnapshot) -> Iterator[Finding]:
    topic = f"GPU {gpu.index}"
    if not gpu.is_ready:
        yield Finding(topic, Verdict.WARNING, *gpu.words)
        return
    yield Finding(topic, Verdict.OK, f"{gpu.label}, {_vram(gpu)}")
    yield _arithmetic(topic, gpu)
    yield _state(topic, gpu)
    link = _link(topic, gpu)
    if link is not None:
        yield link
    if gpu.drives_display:
        yield Finding(topic, Verdict.OK, "it drives a display: the desktop takes a part of its VRAM")
    elif gpu.drives_display is not None:
        yield Finding(topic, Verdict.OK, "it drives no display")
    yield _users(topic, gpu)


def _vram(gpu: GpuSnapshot) -> str:
    total, free = gpu.vram_total_bytes, gpu.vram_free_bytes
    if total is None or free is None:
        return "the driver does not tell how much VRAM"
    return f"{total / _GIB:.1f} GiB VRAM, {free / _GIB:.1f} GiB free"


def _arithmetic(topic: str, gpu: GpuSnapshot) -> Finding:
    if gpu.capability is None:
        return Finding(topic, Verdict.WARNING, "the driver does not tell its compute capability")
    words = f"compute capability {gpu.capability[0]}.{gpu.capability[1]}"
    if gpu.capability < _BFLOAT16_FROM:
        return Finding(
            topic,
            Verdict.WARNING,
            f"{words}: no bf16 (from 8.0) and no products in 8 bits (from 8.9); it computes in 32 bits, which takes "
            "twice the memory, and longer",
            "Choose 4 or 8 bits for the weights, and small clips; or train on a card of 2020 or later.",
        )
    if gpu.capability < _FLOAT8_FROM:
        return Finding(
            topic,
            Verdict.OK,
            f"{words}: bf16, but no products in 8 bits (from 8.9): quantization float8 stores in 8 bits, "
            "float8_compute is for newer cards",
        )
    return Finding(topic, Verdict.OK, f"{words}: bf16 and products in 8 bits")


def _state(topic: str, gpu: GpuSnapshot) -> Finding:
    parts: list[str] = []
    if gpu.utilization_percent is not None:
        parts.append(f"{gpu.utilization_percent} % busy")
    if gpu.temperature_celsius is not None:
        limit = "" if gpu.slowdown_celsius is None else f" (slows down at {gpu.slowdown_celsius} °C)"
        parts.append(f"{gpu.temperature_celsius} °C{limit}")
    if gpu.power_watts is not None:
        limit = "" if gpu.power_limit_watts is None else f" of {gpu.power_limit_watts:.0f}"
        parts.append(f"{gpu.power_watts:.0f}{limit} W")
    if gpu.throttle_reasons is not None:
        held = [reason.value for reason in ThrottleReason if reason in gpu.throttle_reasons]
        parts.append(f"clock held by: {', '.join(held)}" if held else "nothing holds its clock")
    return Finding(topic, Verdict.OK, ", ".join(parts) or "the driver tells neither load nor heat")


def _link(topic: str, gpu: GpuSnapshot) -> Finding | None:
    rate, width, widest = gpu.link_bytes_per_second, gpu.pcie_width, gpu.pcie_max_width
    if rate is None or width is None or widest is None:
        return None
    words = (
        f"PCIe generation {gpu.pcie_max_generation} with {widest} lanes at most, about {rate / 1e9:.0f} GB/s"
    )
    if width < widest:
        return Finding(
            topic,
            Verdict.WARNING,
            f"{words}; {width} lanes now, narrower than this card can.",
            "An idle card may save power so. Where it stays narrow at work, put it into the mainboard's first slot and "
            "seat it firmly: blocks and checkpoints that wait in RAM pass through it.",
        )
    if gpu.pcie_generation is not None and gpu.pcie_generation < (gpu.pcie_max_generation or 0):
        return Finding(topic, Verdict.OK, f"{words}; generation {gpu.pcie_generation} now, as idle cards do")
    return Finding(topic, Verdict.OK, words)


def _users(topic: str, gpu: GpuSnapshot) -> Finding:
    if gpu.processes is None:
        return Finding(topic, Verdict.OK, "the driver does not tell which programs use it")
    if not gpu.processes:
        return Finding(topic, Verdict.OK, "no program that the driver lists uses it")
    told = [
        one.words if one.vram_bytes is None else f"{one.words} {one.vram_bytes / _GIB:.1f} GiB"
        for one in gpu.processes
    ]
    more = f" and {len(told) - 8} more" if len(told) > 8 else ""
    note = "; Windows does not tell how much each of them holds" if gpu.is_wddm else ""
    return Finding(topic, Verdict.OK, f"VRAM is used by {', '.join(told[:8])}{more}{note}")


def _alerts(snapshot: HardwareSnapshot) -> Iterator[Finding]:
    for alert in alerts_of(snapshot):
        # A GPU that cannot be used has been told of.
        if alert.kind is not AlertKind.GPU_UNUSABLE:
            yield Finding(f"GPU {alert.gpu_index}", Verdict.WARNING, alert.text, alert.hint)


def _torch() -> Iterator[Finding]:
    try:
        version = importlib.metadata.version("torch")
    except importlib.metadata.PackageNotFoundError:
        return
    if "+cpu" in version:
        text = f"{version} is the CPU build; it cannot use the GPU."
        yield Finding("PyTorch", Verdict.WARNING, text, _INSTALL)


def _wsl() -> Finding:
    return Finding(
        "WSL",
        Verdict.OK,
        "this is Linux inside Windows: it may use about half of the computer's RAM, and files under /mnt are slow",
        "Raise the limit with memory= in .wslconfig, and keep clips, models and projects inside Linux.",
    )


def _memory(snapshot: HardwareSnapshot) -> Finding:
    text = f"{snapshot.ram_available_bytes / _GIB:.1f} of {snapshot.ram_total_bytes / _GIB:.1f} GiB available"
    if snapshot.container_limit_bytes is not None:
        text += "; a container or control group sets this limit"
    if snapshot.ram_available_bytes < _LEAST_RAM_BYTES:
        return Finding("Memory", Verdict.WARNING, text, "Close other programs: the miniature needs 2 GiB.")
    return Finding("Memory", Verdict.OK, text)


def _swap(snapshot: HardwareSnapshot) -> Finding:
    topic = "Page file" if snapshot.is_windows else "Swap"
    total, free = snapshot.swap_total_bytes, snapshot.swap_free_bytes
    if total is None or free is None:
        return Finding(topic, Verdict.OK, "the system does not tell")
    if not total:
        return Finding(topic, Verdict.OK, "none: when RAM runs out, a program is ended")
    return Finding(topic, Verdict.OK, f"{free / _GIB:.1f} of {total / _GIB:.1f} GiB free")


def _disks(snapshot: HardwareSnapshot) -> Iterator[Finding]:
    by_folder: dict[str, list[DiskUse]] = {}
    for disk in snapshot.disks:
        by_folder.setdefault(str(disk.folder), []).append(disk.use)
    for folder, uses in by_folder.items():
        yield _disk(
            " and ".join(uses), folder, snapshot.free_bytes_for(uses[0]), is_main=DiskUse.RUNS in uses
        )


def _disk(uses: str, folder: str, free_bytes: int | None, *, is_main: bool) -> Finding:
    topic = "Disk" if is_main else f"Disk for {uses}"
    if free_bytes is None:
        return Finding(topic, Verdict.WARNING, f"how much is free at {folder} cannot be told")
    text = f"{free_bytes / _GIB:.1f} GiB free at {folder}, for {uses}"
    if not is_main:
        return Finding(topic, Verdict.OK, text)
    if free_bytes < _LEAST_DISK_BYTES:
        hint = "Free some space, or choose another folder."
        return Finding(topic, Verdict.PROBLEM, text, hint, stops_training=True)
    if free_bytes < _ROOMY_DISK_BYTES:
        hint = "The demo fits; the real model's caches and files want 20 GiB."
        return Finding(topic, Verdict.WARNING, text, hint)
    return Finding(topic, Verdict.OK, text)
