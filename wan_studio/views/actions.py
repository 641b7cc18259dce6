"""The one table of actions: it feeds the menus, the tooltips, the shortcuts and the overlay of F1."""

from collections.abc import Callable
from dataclasses import dataclass

from PySide6.QtCore import Qt
from PySide6.QtGui import QAction, QKeySequence
from PySide6.QtWidgets import QMainWindow, QMenu

from wan_studio.domain.checks import Step
from wan_studio.views.page import STEP_TITLES

MENUS = ("File", "Edit", "View", "Clip", "Training", "Help")


@dataclass(frozen=True, slots=True)
class ActionSpec:
    """One thing that a user can do.

    Attributes:
        name: Stable, e.g. "trim.set_in".
        menu: Where it stands; one of `MENUS`.
        keys: Shortcuts, the first one is shown. Single letters act only outside of text fields.
        steps: Pages on which it works; empty for all.
        needs_project: Whether a project must be open.
        repeats: Whether a key that is held does it again and again.
        held: Keys that do it while both are held; the page hears them itself.
    """

    name: str
    text: str
    menu: str
    keys: tuple[str, ...] = ()
    steps: tuple[Step, ...] = ()
    needs_project: bool = False
    repeats: bool = True
    held: tuple[str, ...] = ()


_TRIM = (Step.TRIM,)
_PLAYERS = (Step.TRIM, Step.RESULTS)
_CAPTIONS = (Step.CAPTIONS,)
_CLIPS = (Step.CLIPS, Step.TRIM, Step.CAPTIONS)

ACTIONS: tuple[ActionSpec, ...] = (
    ActionSpec("file.new", "New project…", "File", ("Ctrl+N",)),
    ActionSpec("file.open", "Open project…", "File", ("Ctrl+O",)),
    ActionSpec("file.folder", "Show project folder", "File", needs_project=True),
    ActionSpec("file.close", "Close window", "File", ("Ctrl+Q",)),
    ActionSpec("edit.history", "Undo history…", "Edit", ("Ctrl+Alt+Z",), needs_project=True),
    *(
        ActionSpec(f"view.{step}", STEP_TITLES[step], "View", (f"Ctrl+{number}",))
        for number, step in enumerate(Step)
    ),
    ActionSpec("view.primary", "Primary action of the page", "View", ("Ctrl+Return", "Ctrl+Enter")),
    ActionSpec("clip.add_files", "Add clips…", "Clip", needs_project=True),
    ActionSpec("clip.add_folder", "Add folder…", "Clip", needs_project=True),
    ActionSpec(
        "clip.export", "Export data set…", "Clip", ("Ctrl+Shift+E",), (Step.CLIPS,), needs_project=True
    ),
    ActionSpec("clip.next", "Next clip", "Clip", ("Ctrl+Down",), _CLIPS, needs_project=True),
    ActionSpec("clip.previous", "Previous clip", "Clip", ("Ctrl+Up",), _CLIPS, needs_project=True),
    ActionSpec("clip.reject", "Reject or restore clip", "Clip", ("X",), (Step.CLIPS, Step.TRIM)),
    ActionSpec("clip.rename", "Rename clip", "Clip", ("F2",), (Step.CLIPS, Step.CAPTIONS)),
    ActionSpec("clip.remove", "Remove clip from project", "Clip", ("Delete",), (Step.CLIPS,)),
    ActionSpec("caption.next", "Next clip that needs attention", "Clip", ("Ctrl+J",), _CAPTIONS),
    ActionSpec("caption.focus", "Go to the caption", "Clip", ("Ctrl+L",), _CAPTIONS),
    ActionSpec("caption.search", "Search captions", "Clip", ("Ctrl+F",), _CAPTIONS),
    ActionSpec("caption.replace", "Find and replace", "Clip", ("Ctrl+H",), _CAPTIONS),
    ActionSpec("caption.trigger", "Insert [trigger]", "Clip", ("Ctrl+T",), _CAPTIONS),
    ActionSpec(
        "caption.trigger_all", "Add [trigger] to selected captions", "Clip", ("Ctrl+Shift+T",), _CAPTIONS
    ),
    ActionSpec("caption.copy", "Copy caption", "Clip", ("Ctrl+Shift+C",), _CAPTIONS),
    ActionSpec("caption.paste", "Paste caption into selected clips", "Clip", ("Ctrl+Shift+V",), _CAPTIONS),
    ActionSpec("caption.history", "Earlier versions of the caption", "Clip", ("Ctrl+Shift+H",), _CAPTIONS),
    ActionSpec("caption.auto", "Automatic captions", "Clip", ("Ctrl+Shift+A",), _CAPTIONS),
    ActionSpec("caption.misspelt", "Next wrong word", "Clip", ("F7",), _CAPTIONS),
    ActionSpec("caption.spelling", "Spell check on or off", "Clip", ("Shift+F7",), _CAPTIONS),
    ActionSpec("clip.paste", "Paste clips", "Clip", ("Ctrl+V",), (Step.CLIPS,), needs_project=True),
    ActionSpec("clip.search", "Search clips", "Clip", ("Ctrl+F",), (Step.CLIPS,)),
    ActionSpec("clip.attention", "Next clip that needs attention", "Clip", ("Ctrl+J",), (Step.CLIPS,)),
    ActionSpec("clip.select_all", "Select all clips", "Clip", ("Ctrl+A",), (Step.CLIPS,)),
    ActionSpec("clip.invert", "Invert selection", "Clip", ("Ctrl+I",), (Step.CLIPS,)),
    *(
        ActionSpec(f"clip.rate_{stars}", f"Rate {stars}", "Clip", (str(stars),), (Step.CLIPS,))
        for stars in range(1, 6)
    ),
    ActionSpec("clip.rate_0", "Take rating away", "Clip", ("0",), (Step.CLIPS,)),
    ActionSpec("clip.table", "Grid or table", "View", ("Ctrl+Shift+L",), (Step.CLIPS,)),
    ActionSpec("clip.keep_best", "Reject duplicates, keep the best", "Clip", (), (Step.CLIPS,)),
    ActionSpec("clip.relink", "Find missing clips…", "Clip", (), (Step.CLIPS,)),
    ActionSpec("play.toggle", "Play or pause", "Clip", ("Space",), _PLAYERS, repeats=False),
    ActionSpec("play.stop", "Stop", "Clip", ("K",), _PLAYERS, repeats=False),
    ActionSpec("play.back", "Play backward, faster each time", "Clip", ("J",), _PLAYERS, repeats=False),
    ActionSpec("play.forward", "Play forward, faster each time", "Clip", ("L",), _PLAYERS, repeats=False),
    ActionSpec("play.slow_back", "Slow motion back; tap: one frame", "Clip", (), _PLAYERS, held=("K", "J")),
    ActionSpec("play.slow_on", "Slow motion on; tap: one frame", "Clip", (), _PLAYERS, held=("K", "L")),
    ActionSpec("play.step_back", "One frame back", "Clip", ("Left", ","), _PLAYERS),
    ActionSpec("play.step_on", "One frame on", "Clip", ("Right", "."), _PLAYERS),
    ActionSpec("play.jump_back", "Ten frames back", "Clip", ("Shift+Left",), _PLAYERS),
    ActionSpec("play.jump_on", "Ten frames on", "Clip", ("Shift+Right",), _PLAYERS),
    ActionSpec("play.first", "First frame", "Clip", ("Home",), _PLAYERS),
    ActionSpec("play.last", "Last frame", "Clip", ("End",), _PLAYERS),
    ActionSpec("play.loop", "Loop", "Clip", ("Ctrl+Shift+L",), _PLAYERS),
    ActionSpec("trim.set_in", "Set in point", "Clip", ("I",), _TRIM),
    ActionSpec("trim.set_out", "Set out point", "Clip", ("O",), _TRIM),
    ActionSpec("trim.go_in", "Go to in point", "Clip", ("Shift+I",), _TRIM),
    ActionSpec("trim.go_out", "Go to out point", "Clip", ("Shift+O",), _TRIM),
    ActionSpec("trim.clear_in", "Clear in point", "Clip", ("Alt+I",), _TRIM),
    ActionSpec("trim.clear_out", "Clear out point", "Clip", ("Alt+O",), _TRIM),
    ActionSpec("trim.nudge_back", "Move selection one frame back", "Clip", ("[",), _TRIM),
    ActionSpec("trim.nudge_on", "Move selection one frame on", "Clip", ("]",), _TRIM),
    ActionSpec("trim.fit", "Fit selection to the trained length", "Clip", ("F",), _TRIM),
    ActionSpec("trim.snap", "Snap selection to 4n + 1 frames", "Clip", ("Shift+F",), _TRIM),
    ActionSpec("trim.motion", "Trim to motion", "Clip", ("M",), _TRIM),
    ActionSpec("trim.previous_cut", "Previous cut or range", "Clip", ("Ctrl+Left",), _TRIM),
    ActionSpec("trim.next_cut", "Next cut or range", "Clip", ("Ctrl+Right",), _TRIM),
    ActionSpec("trim.split", "Split into two clips", "Clip", ("B",), _TRIM),
    ActionSpec("trim.split_at_cuts", "Split at cuts", "Clip", ("Ctrl+B",), _TRIM),
    ActionSpec("trim.add_range", "Add another range of this video", "Clip", ("Shift+B",), _TRIM),
    ActionSpec("trim.crop", "Crop", "Clip", ("C",), _TRIM),
    ActionSpec("trim.copy", "Copy trim and crop", "Clip", ("Ctrl+Alt+C",), _TRIM),
    ActionSpec("trim.paste", "Paste trim and crop", "Clip", ("Ctrl+Alt+V",), _TRIM),
    ActionSpec("trim.still_ends", "Trim still heads and tails of all clips…", "Clip", (), _TRIM),
    ActionSpec("trim.bars", "Cut off black bars of all clips…", "Clip", (), _TRIM),
    ActionSpec("trim.view", "Source or training view", "Clip", ("T", "F4"), (*_TRIM, *_CAPTIONS)),
    ActionSpec("trim.sheet", "Contact sheet of the trained frames", "Clip", ("Shift+T",), _TRIM),
    ActionSpec("trim.zoom_in", "Zoom timeline in", "Clip", ("+", "="), _TRIM),
    ActionSpec("trim.zoom_out", "Zoom timeline out", "Clip", ("-",), _TRIM),
    ActionSpec("trim.zoom_fit", "Zoom timeline to the whole video", "Clip", ("Z",), _TRIM),
    ActionSpec("run.stop", "Stop training", "Training", (), (Step.MONITOR,)),
    ActionSpec("run.pause", "Pause or continue training", "Training", (), (Step.MONITOR,)),
    ActionSpec("run.save", "Save a checkpoint now", "Training", (), (Step.MONITOR,)),
    ActionSpec("results.export", "Export LoRA pair", "Training", ("E",), (Step.RESULTS,)),
    ActionSpec("help.keys", "Keyboard shortcuts", "Help", ("F1", "?")),
    ActionSpec("help.log", "Show log file", "Help"),
)


class ActionTable:
    """The window's actions, made from the table; what they do is connected by name."""

    def __init__(self, window: QMainWindow) -> None:
        self._window = window
        self._actions: dict[str, QAction] = {}
        self._page_handlers: dict[tuple[Step, str], Callable[[], object]] = {}
        self._step = Step.PROJECTS
        self.menus: dict[str, QMenu] = {}
        for title in MENUS:
            menu = window.menuBar().addMenu(f"&{title}")
            self.menus[title] = menu
        for spec in ACTIONS:
            action = QAction(spec.text, window)
            action.setShortcuts([QKeySequence(key) for key in spec.keys])
            action.setAutoRepeat(spec.repeats)
            action.setShortcutContext(Qt.ShortcutContext.WindowShortcut)
            action.triggered.connect(lambda _=False, name=spec.name: self._on_triggered(name))
            self._actions[spec.name] = action
            self.menus[spec.menu].addAction(action)
            window.addAction(action)
        self._handlers: dict[str, Callable[[], object]] = {}

    def action(self, name: str) -> QAction:
        """The action of this name."""
        return self._actions[name]

    def connect(self, name: str, handler: Callable[[], object]) -> None:
        """What a window-wide action does."""
        self._handlers[name] = handler

    def connect_page(self, step: Step, handlers: dict[str, Callable[[], object]]) -> None:
        """What actions do while a page is shown."""
        for name, handler in handlers.items():
            self._page_handlers[step, name] = handler

    def set_context(self, step: Step, *, has_project: bool) -> None:
        """Enable what works on this page now."""
        self._step = step
        for spec in ACTIONS:
            works_here = not spec.steps or (step, spec.name) in self._page_handlers
            self._actions[spec.name].setEnabled(works_here and (has_project or not spec.needs_project))

    def _on_triggered(self, name: str) -> None:
        handler = self._page_handlers.get((self._step, name)) or self._handlers.get(name)
        if handler is not None:
            handler()


def tip_with_key(name: str) -> str:
    """A tooltip: what the action does and its key, e.g. "Set in point (I)"."""
    spec = next(spec for spec in ACTIONS if spec.name == name)
    if not spec.keys:
        return spec.text
    key = QKeySequence(spec.keys[0]).toString(QKeySequence.SequenceFormat.NativeText)
    return f"{spec.text} ({key})"
