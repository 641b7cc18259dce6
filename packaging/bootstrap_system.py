"""What the system must bring: Qt's shared libraries, and a Debian package where one may be installed."""

from __future__ import annotations

import ctypes
import os
import shutil
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path

from bootstrap_console import run_logged, say

# What Qt's core and its X11 plugin load from the system, by the Debian package that brings it.
QT_LIBRARIES: Mapping[str, tuple[str, ...]] = {
    "libegl1": ("libEGL.so.1",),
    "libgl1": ("libGL.so.1",),
    "libx11-6": ("libX11.so.6",),
    "libx11-xcb1": ("libX11-xcb.so.1",),
    "libxkbcommon0": ("libxkbcommon.so.0",),
    "libxkbcommon-x11-0": ("libxkbcommon-x11.so.0",),
    "libxcb1": ("libxcb.so.1",),
    "libxcb-cursor0": ("libxcb-cursor.so.0",),
    "libxcb-icccm4": ("libxcb-icccm.so.4",),
    "libxcb-image0": ("libxcb-image.so.0",),
    "libxcb-keysyms1": ("libxcb-keysyms.so.1",),
    "libxcb-randr0": ("libxcb-randr.so.0",),
    "libxcb-render0": ("libxcb-render.so.0",),
    "libxcb-render-util0": ("libxcb-render-util.so.0",),
    "libxcb-shape0": ("libxcb-shape.so.0",),
    "libxcb-shm0": ("libxcb-shm.so.0",),
    "libxcb-sync1": ("libxcb-sync.so.1",),
    "libxcb-util1": ("libxcb-util.so.1",),
    "libxcb-xfixes0": ("libxcb-xfixes.so.0",),
    "libxcb-xkb1": ("libxcb-xkb.so.1",),
    "libfontconfig1": ("libfontconfig.so.1",),
    "libfreetype6": ("libfreetype.so.6",),
    "libdbus-1-3": ("libdbus-1.so.3",),
    "libglib2.0-0": ("libglib-2.0.so.0", "libgthread-2.0.so.0"),
    "libgssapi-krb5-2": ("libgssapi_krb5.so.2",),
    "libbrotli1": ("libbrotlidec.so.1",),
    "libzstd1": ("libzstd.so.1",),
}


def may_use_apt() -> bool:
    """Whether system packages can be installed here without asking anybody."""
    return sys.platform == "linux" and os.geteuid() == 0 and shutil.which("apt-get") is not None


def apt_install(packages: Sequence[str], log_file: Path) -> bool:
    """Installs Debian packages; False where that fails."""
    environment = {**os.environ, "DEBIAN_FRONTEND": "noninteractive"}
    run_logged(["apt-get", "update"], log_file, environment)
    command = ["apt-get", "install", "-y", "--no-install-recommends", *packages]
    return run_logged(command, log_file, environment) == 0


def missing_libraries(libraries: Mapping[str, Sequence[str]] = QT_LIBRARIES) -> dict[str, str]:
    """Shared libraries that do not load, each with the Debian package that brings it."""
    missing = {}
    for package, names in libraries.items():
        for name in names:
            try:
                ctypes.CDLL(name)
            except OSError:
                missing[name] = package
    return missing


def has_qt_libraries(log_file: Path) -> bool:
    """Whether a window can open here; installs Qt's missing libraries where it may, else names the command."""
    missing = missing_libraries() if sys.platform == "linux" else {}
    if not missing:
        return True
    packages = sorted(set(missing.values()))
    if may_use_apt():
        say(f"Installing {len(packages)} system packages that the window needs ...")
        if apt_install(packages, log_file) and not missing_libraries():
            return True
    say(f"The window needs system libraries that are missing: {', '.join(missing)}.")
    if shutil.which("apt-get"):
        say(f"Install them with:\n    sudo apt-get install {' '.join(packages)}")
    else:
        say("Install them with your system's package manager.")
    return False
