"""Types into a field of the real window without a pause, until it is killed: run by test_killed.py.

Prints the time and the length of the text at each key.
"""

import sys
import time
from pathlib import Path

from PySide6.QtCore import QTimer
from PySide6.QtTest import QTest
from PySide6.QtWidgets import QApplication

from wan_studio.app import build_window
from wan_studio.domain.checks import Step

WORDS = "the camera orbits slowly around a wet stone tower while birds rise "
STEPS = {"caption": Step.CAPTIONS, "default": Step.CAPTIONS, "trigger": Step.GOAL, "prompt": Step.REVIEW}


def field_of(window, name):
    page = window.page(STEPS[name])
    if name == "caption":
        return page.editor
    if name == "default":
        return page._default._field
    if name == "trigger":
        return page._trigger
    page._samples.add_row()
    return page._samples.rows[0].prompt


def main(folder, name):
    app = QApplication([])
    window = build_window(app)
    window.show()
    window.bench.open_project(Path(folder))
    state = {"field": None, "typed": 0}

    def type_next():
        library = window.bench.library
        if state["field"] is None:
            if not window.bench.session.is_open or library.waiting or not library.facts:
                return
            window.go_to(STEPS[name])
            if any(facts.caption is None for facts in library.facts.values()):
                return
            state["field"] = field_of(window, name)
            state["field"].setFocus()
            return
        QTest.keyClicks(state["field"], WORDS[state["typed"] % len(WORDS)])
        state["typed"] += 1
        print(f"{time.time()} {state['typed']}", flush=True)

    timer = QTimer()
    timer.timeout.connect(type_next)
    timer.start(25)
    app.exec()


if __name__ == "__main__":
    main(*sys.argv[1:])
