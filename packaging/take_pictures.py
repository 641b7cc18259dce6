"""Takes a picture of every page of the window: python packaging/take_pictures.py PROJECT_FOLDER OUT_FOLDER.

For looking at the window without sitting in front of it. Needs a display (real or virtual).
"""

import argparse
import os
import sys
import tempfile
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

SIZES = ((1280, 800), (1920, 1080))
SETTLE_MILLISECONDS = 500


def main() -> int:
    """Take the pictures; the user's own settings are neither read nor written."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("project", type=Path, help="a project folder")
    parser.add_argument("out", type=Path, help="where the PNG files go")
    parser.add_argument("--sizes", default=",".join(f"{w}x{h}" for w, h in SIZES))
    parser.add_argument("--schemes", default="light,dark")
    parser.add_argument("--steps", default="", help="pages by name; all without it")
    parser.add_argument("--empty", action="store_true", help="without a project: the empty states")
    arguments = parser.parse_args()
    arguments.out.mkdir(parents=True, exist_ok=True)
    os.environ["WAN_STUDIO_HOME"] = tempfile.mkdtemp()

    from PySide6.QtCore import QEventLoop, QTimer
    from PySide6.QtWidgets import QApplication

    from wan_studio.app import build_window
    from wan_studio.bridge.background import wait_for_background
    from wan_studio.domain.checks import Step

    def wait(milliseconds: int) -> None:
        # QTest.qWait would hold Python's lock, and the workers would starve.
        loop = QEventLoop()
        QTimer.singleShot(milliseconds, loop.quit)
        loop.exec()

    app = QApplication(sys.argv[:1])
    window = build_window(app)
    window.show()
    window.bench.hardware.start()
    if not arguments.empty:
        window.bench.open_project(arguments.project)
    wait(2500)
    steps = [Step(name) for name in arguments.steps.split(",") if name] or list(Step)
    for size in arguments.sizes.split(","):
        width, height = (int(part) for part in size.split("x"))
        window.resize(width, height)
        for scheme in arguments.schemes.split(","):
            window.theme.set_appearance(scheme)
            for step in steps:
                window.go_to(step)
                wait(SETTLE_MILLISECONDS)
                number = list(Step).index(step)
                name = f"{number:02d}_{step}_{scheme}_{size}.png"
                window.grab().save(str(arguments.out / name))
                print(arguments.out / name)
    window.close()
    wait_for_background()
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
