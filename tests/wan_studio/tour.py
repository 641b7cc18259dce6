"""A scripted tour of the Clips, Trim and Captions pages, as a user's keys and clicks would go, watched."""

import time

import msgspec
from PySide6.QtCore import Qt
from PySide6.QtTest import QTest

from tests.media import make_video
from tests.wan_studio.watchdog import Watchdog
from wan_studio.domain.checks import Step
from wan_studio.domain.project import Project, ProjectClip
from wan_studio.services.preset_store import settings_for
from wan_studio.services.project_store import ProjectStore


def many_clips(place, count):
    """The store of a project with so many clips of eight small videos, each with a caption of its own."""
    folder = place / "many"
    folder.mkdir()
    sources = [
        make_video(folder / f"source{at}.mp4", frames=40, fps=20, width=64, height=48) for at in range(8)
    ]
    for at in range(count):
        (folder / f"clip{at:04d}.txt").write_text(f"an orbit around castle {at}")
    clips = tuple(
        ProjectClip(
            id=f"c{at:04d}",
            source=str(sources[at % len(sources)]),
            caption_file=str(folder / f"clip{at:04d}.txt"),
        )
        for at in range(count)
    )
    store = ProjectStore(place / "big")
    store.save(msgspec.structs.replace(Project(name="big", settings=settings_for("motion")), clips=clips))
    return store


class Tour:
    """Does one thing after another, with a name each for the watchdog, and lets the window live between.

    Args:
        window: The main window; its project is open, and each page was shown once.
        rest_milliseconds: After each thing.
    """

    def __init__(self, window, rest_milliseconds=25):
        self.window = window
        self.bench = window.bench
        self.watchdog = Watchdog()
        self._rest = rest_milliseconds

    def do(self, name, what, rest=None):
        """Do this, and let the event loop turn."""
        self.watchdog.mark(name)
        what()
        QTest.qWait(self._rest if rest is None else rest)

    def until(self, is_so, seconds=60):
        """Let the event loop turn until something is so."""
        end = time.perf_counter() + seconds
        while not is_so():
            assert time.perf_counter() < end, f"it never came to be: {self.watchdog.marks[-1:]}"
            QTest.qWait(3)

    def run(self):
        """All three pages; returns the watchdog."""
        with self.watchdog:
            self.clips()
            self.trim()
            self.captions()
            self.do("back to Clips", lambda: self.window.go_to(Step.CLIPS))
        return self.watchdog

    def clips(self):
        """Look again, search, scroll, choose, rate, reject, take back, follow a finding."""
        window, bench = self.window, self.bench
        page = window.page(Step.CLIPS)
        stack, model = bench.session.undo_stack, page.model
        self.do("open Clips", lambda: window.go_to(Step.CLIPS))
        some = [clip.id for clip in bench.session.project.clips][:200]
        self.do("Clips: look again", lambda: bench.library.look_again(some))
        for query in ("o", "or", "orb", "orbit", "orbit caption:any", "orbit duration:>1", ""):
            self.do(f"Clips: search '{query}'", lambda query=query: page.show_query(query))
        for view in ("table", "grid"):
            self.do(f"Clips: {view}", lambda view=view: page.show_view(view))
            shown = page.browser.table if view == "table" else page.browser.grid
            bar = shown.verticalScrollBar()
            for part in range(13):
                place = bar.maximum() * part // 12
                self.do(f"Clips: scroll the {view}", lambda bar=bar, place=place: bar.setValue(place))
            for key in (Qt.Key.Key_Home, Qt.Key.Key_Down, Qt.Key.Key_Down, Qt.Key.Key_Right, Qt.Key.Key_End):
                self.do(f"Clips: keys in the {view}", lambda shown=shown, key=key: QTest.keyClick(shown, key))
        one = model.ids[:1]
        self.do("Clips: rate one", lambda: page.edits.rate(one, 3))
        self.do("Clips: reject one", lambda: page.edits.reject(one))
        self.do("Clips: undo one", stack.undo)
        self.do("Clips: choose all", page.browser.select_all)
        self.do("Clips: rate all", lambda: page.edits.rate(model.ids, 4), 150)
        self.do("Clips: undo all ratings", stack.undo, 150)
        self.do("Clips: reject all", lambda: page.edits.reject_all(model.ids), 150)
        self.do("Clips: undo all rejections", stack.undo, 150)
        self.do("Clips: redo them", stack.redo, 150)
        self.do("Clips: undo them again", stack.undo, 150)
        self.do("Clips: a finding", lambda: page.health.chip("untrimmed").click())
        self.do("Clips: all again", lambda: page.show_query(""))
        self.do("Clips: order", lambda: model.sort(1))
        self.do("Clips: own order", lambda: model.sort(-1))

    def trim(self):
        """Open clips, scrub, play, set in and out points, see the training view and its contact sheet."""
        window, bench = self.window, self.bench
        page = window.page(Step.TRIM)
        act = page.handlers()
        self.do("open Trim", lambda: window.go_to(Step.TRIM))
        self.until(lambda: page.source is not None)
        for _ in range(6):
            self.do("Trim: next clip", act["clip.next"])
        last = page.source.frame_count - 1
        for part in range(16):
            frame = last * (part * 7 % 16) // 15
            self.do("Trim: scrub", lambda frame=frame: page._seek(frame), 12)
        for key in (Qt.Key.Key_L, Qt.Key.Key_L, Qt.Key.Key_K, Qt.Key.Key_J, Qt.Key.Key_K):
            self.do(f"Trim: key {key.name[-1]}", lambda key=key: QTest.keyClick(window, key), 80)
        self.do("Trim: to a third", lambda: page._seek(last // 3))
        self.do("Trim: set in", act["trim.set_in"])
        self.do("Trim: to two thirds", lambda: page._seek(2 * last // 3))
        self.do("Trim: set out", act["trim.set_out"])
        for name in ("fit", "snap", "nudge_on", "nudge_back", "whole"):
            self.do(f"Trim: {name}", act[f"trim.{name}"])
        self.do("Trim: training view", act["trim.view"], 80)
        self.do("Trim: contact sheet", act["trim.sheet"], 120)
        self.do("Trim: next clip's sheet", act["clip.next"], 80)
        self.do("Trim: sheet closed", act["trim.sheet"])
        self.do("Trim: source view", act["trim.view"], 60)
        self.do("Trim: crop", act["trim.crop"])
        self.do("Trim: crop done", act["trim.crop"])
        for _ in range(4):
            self.do("Trim: undo", bench.session.undo_stack.undo)

    def captions(self):
        """Type, search, go on, replace everywhere with a preview, and take it back."""
        window, bench = self.window, self.bench
        page = window.page(Step.CAPTIONS)
        desk, stack = bench.captions, bench.session.undo_stack
        self.do("open Captions", lambda: window.go_to(Step.CAPTIONS))
        count = len(bench.session.project.clips)
        self.until(lambda: len(page._model.ids) == count)
        for _ in range(6):
            self.do("Captions: next clip", lambda: bench.session.select_neighbour(1))
        for letter in ", slow camera":
            self.do("Captions: type", lambda letter=letter: QTest.keyClicks(page.editor, letter), 12)
        self.do("Captions: saved", page._sheet.save, 60)
        search = page._list.search
        for end in range(1, len("orbit AND tokens:>3") + 1):
            text = "orbit AND tokens:>3"[:end]
            self.do(f"Captions: search '{text}'", lambda text=text: search.setText(text))
        self.do("Captions: all again", search.clear)
        bar = page._list.list.verticalScrollBar()
        for part in range(9):
            place = bar.maximum() * part // 8
            self.do("Captions: scroll", lambda place=place: bar.setValue(place))
        panel = page._top.replace
        self.do("Captions: open replace", page.open_replace)
        self.do("Captions: what to find", lambda: panel.sought.setText("orbit"))
        self.do("Captions: what for", lambda: panel.replacement.setText("circle"))
        self.until(lambda: panel.model.rowCount() >= count // 2)
        self.do("Captions: replace in all", panel._on_apply)
        self.until(lambda: desk.is_saved)
        self.do("Captions: after the replace", lambda: None, 200)
        self.do("Captions: undo in all", stack.undo)
        self.until(lambda: desk.is_saved)
        self.do("Captions: after the undo", lambda: None, 200)
