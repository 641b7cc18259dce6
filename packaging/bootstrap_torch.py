"""Which build of PyTorch suits this machine, and where pip finds it."""

from __future__ import annotations

import ctypes
import http.client
import os
import re
import shutil
import subprocess
import urllib.error
import urllib.request
from collections.abc import Sequence

PYTORCH_INDEXES = "https://download.pytorch.org/whl"
PROBE_SECONDS = 5
CPU_SIZE, CUDA_SIZE = "200 MB", "3 GB"


def cuda_driver_version() -> int | None:
    """Newest CUDA that the NVIDIA driver runs, as 12080 for 12.8; None without a driver."""
    for name in ("nvcuda.dll",) if os.name == "nt" else ("libcuda.so.1", "libcuda.so"):
        try:
            library = ctypes.CDLL(name)
        except OSError:
            continue
        version = ctypes.c_int(0)
        if library.cuDriverGetVersion(ctypes.byref(version)) == 0 and version.value:
            return version.value
    tool = shutil.which("nvidia-smi")
    if not tool:
        return None
    printed = subprocess.run(
        [tool], capture_output=True, encoding="utf-8", errors="replace", check=False
    ).stdout
    found = re.search(r"CUDA Version:\s*(\d+)\.(\d+)", printed)
    return int(found[1]) * 1000 + int(found[2]) * 10 if found else None


def torch_builds(driver_version: int | None) -> tuple[str, ...]:
    """PyTorch builds that this driver runs, best first; a driver too old for all of them counts as none."""
    if driver_version is None or driver_version < 12000:
        return ("cpu",)
    if driver_version >= 13000:
        return ("cu130", "cu128", "cu126")
    return ("cu128", "cu126") if driver_version >= 12080 else ("cu126",)


def describe_build(build: str) -> str:
    """`cu130` in words."""
    return "CPU build" if build == "cpu" else f"CUDA {build[2:-1]}.{build[-1]} build"


def fetch_text(url: str) -> str | None:
    """A page's text; empty where the server says no, None where no server answers in time."""
    try:
        with urllib.request.urlopen(url, timeout=PROBE_SECONDS) as answer:
            return answer.read().decode("utf-8", "replace")
    except urllib.error.HTTPError:
        return ""
    except (OSError, http.client.HTTPException):
        return None


def find_pytorch_index(
    version: str, builds: Sequence[str], indexes: str = PYTORCH_INDEXES
) -> tuple[str, str] | None:
    """PyTorch's own index for the first build that it has.

    Asked before pip is told of it: pip would retry an index that does not answer for every package.

    Returns:
        The build and the index's address; None where the server does not answer or has none of the builds.
    """
    for build in builds:
        page = fetch_text(f"{indexes}/{build}/torch/")
        if page is None:
            return None
        if re.search(rf"torch-{re.escape(version)}(%2B|\+){build}-", page, re.IGNORECASE):
            return build, f"{indexes}/{build}"
    return None


def parse_versions(printed: str) -> list[str]:
    """The versions in the output of `pip index versions`."""
    found = re.search(r"Available versions: (.*)", printed)
    return [version.strip() for version in found[1].split(",")] if found else []


def choose_torch(
    version: str, builds: Sequence[str], offered: Sequence[str], *, is_linux: bool
) -> tuple[str, str]:
    """The exact requirement for PyTorch, and what to say about it.

    Args:
        version: The pinned version.
        builds: Builds that suit the machine, best first.
        offered: Versions that pip finds, such as `2.13.0` and `2.13.0+cpu`; empty when unknown.
        is_linux: There the build without a tag brings CUDA; on Windows it is the CPU build.
    """
    for build in builds:
        if f"{version}+{build}" in offered:
            size = CPU_SIZE if build == "cpu" else CUDA_SIZE
            return (
                f"torch=={version}+{build}",
                f"Installing PyTorch {version} ({describe_build(build)}), about {size} ...",
            )
    if version in offered:
        # Three equals signs take the build without a tag alone; two would take a CPU build lying beside it.
        return f"torch==={version}", _untagged_sentence(
            version, wants_cuda=builds[0] != "cpu", is_linux=is_linux
        )
    if builds[0] != "cpu" and offered:
        return f"torch=={version}", (
            f"Installing PyTorch {version}. No CUDA build of it was found: training cannot use the graphics card."
        )
    return f"torch=={version}", f"Installing PyTorch {version} ..."


def _untagged_sentence(version: str, *, wants_cuda: bool, is_linux: bool) -> str:
    """What the build without a tag means on this machine."""
    if is_linux and not wants_cuda:
        return (
            f"Installing PyTorch {version}. No CPU build of it was found, only the one with NVIDIA's CUDA libraries:"
            f" about {CUDA_SIZE} to download. It runs without a graphics card, too."
        )
    if wants_cuda and not is_linux:
        return (
            f"Installing PyTorch {version} (CPU build, about {CPU_SIZE}): no CUDA build was found, so training cannot"
            " use the graphics card. Once PyTorch's own index can be reached, delete .venv and start again."
        )
    build, size = ("CUDA build", CUDA_SIZE) if wants_cuda else ("CPU build", CPU_SIZE)
    return f"Installing PyTorch {version} ({build}), about {size} ..."
