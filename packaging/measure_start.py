"""Measures a start of the window: python packaging/measure_start.py [RUNS].

From the start of the process to the first painted window, in seconds, and whether torch came in.
"""

import os
import subprocess
import sys
import tempfile
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
PROBE = """
import os, psutil, sys, time
from PySide6.QtCore import QEvent, QObject
from PySide6.QtWidgets import QApplication
from wan_studio.app import build_window

class Painted(QObject):
    def eventFilter(self, watched, event):
        if watched is window.centralWidget() and event.type() == QEvent.Type.Paint:
            print(time.time() - psutil.Process().create_time(), "torch" in sys.modules, "pyqtgraph" in sys.modules, flush=True)
            os._exit(0)
        return False

app = QApplication([])
window = build_window(app)
painted = Painted()
window.centralWidget().installEventFilter(painted)
window.show()
app.exec()
"""


def main() -> int:
    """Start the window some times and print each time."""
    runs = int(sys.argv[1]) if len(sys.argv) > 1 else 3
    environment = {**os.environ, "WAN_STUDIO_HOME": tempfile.mkdtemp(), "PYTHONPATH": str(ROOT)}
    for _ in range(runs):
        done = subprocess.run(
            [sys.executable, "-c", PROBE], env=environment, capture_output=True, text=True, check=False
        )
        if done.returncode:
            print(done.stderr, file=sys.stderr)
            return 1
        seconds, has_torch, has_plot = done.stdout.split()
        print(f"first paint after {float(seconds):.2f} s, torch: {has_torch}, pyqtgraph: {has_plot}")
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
