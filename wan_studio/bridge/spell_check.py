"""Judges the words of captions in the background; what was judged once is known at once."""

from collections.abc import Callable
from typing import Any, TypeVar

from PySide6.QtCore import QObject, QTimer, Signal

from wan_studio.bridge.background import Task, run_in_background
from wan_studio.bridge.workbench import Workbench
from wan_studio.domain.spelling import Spelt, right_words, words_to_check
from wan_studio.services.spell_dictionaries import SpellDictionary, find_dictionaries
from wan_studio.services.spell_process import SpellProcess

T = TypeVar("T")

_ON = "spelling.on"
_LANGUAGE = "spelling.language"
_WORDS = "spelling.words"
_DEFAULT_LANGUAGE = "en_US"
_GATHER_MILLISECONDS = 50
_SLICE = 200
"""So many words are judged at a time: the first ones are marked while others wait."""


class SpellCheck(QObject):
    """Spelling of the open project's captions.

    The dictionary is loaded when the first text is looked at, by a process of its own.

    Signals:
        judged: Words are known to be right or wrong that were not known before.
        state_changed: It was switched on or off, has another language, or cannot work.
    """

    judged = Signal()
    state_changed = Signal()

    def __init__(self, bench: Workbench, parent: QObject) -> None:
        super().__init__(parent)
        self._bench = bench
        self._verdicts: dict[str, bool] = {}
        self._wanted: dict[str, None] = {}
        self._right: frozenset[str] = frozenset()
        self._speller: SpellProcess | None = None
        self._is_loading = False
        self._is_judging = False
        under_way: set[Task[Any]] = set()
        self._under_way = under_way
        held: list[SpellProcess] = []
        self._held = held
        self.destroyed.connect(lambda: [task.cancel() for task in under_way])
        self.destroyed.connect(lambda: [process.close() for process in held])
        self.dictionaries: list[SpellDictionary] = []
        self.problem = ""
        self.is_on = bench.settings.values.get(_ON, "yes") == "yes"
        self._timer = QTimer(self)
        self._timer.setSingleShot(True)
        self._timer.setInterval(_GATHER_MILLISECONDS)
        self._timer.timeout.connect(self._judge_some)
        bench.session.project_opened.connect(self._renew_right)
        bench.session.project_changed.connect(self._renew_right)

    @property
    def language(self) -> str:
        """Of the dictionary that is in use; empty while there is none."""
        return "" if self._speller is None else self._speller.language

    @property
    def is_ready(self) -> bool:
        """Whether a dictionary is there and in use."""
        return self._speller is not None

    @property
    def my_words(self) -> tuple[str, ...]:
        """The user's own words, for all projects."""
        return tuple(self._bench.settings.values.get(_WORDS, "").split("\n")) if self._has_my_words else ()

    def wrong_in(self, text: str) -> list[Spelt]:
        """The words of a text that are known to be wrong; those that are not known yet will be judged."""
        if not self.is_on:
            return []
        if self._speller is None:
            self._load()
            return []
        wrong: list[Spelt] = []
        for spelt in words_to_check(text, self._right, self._speller.language):
            verdict = self._verdicts.get(spelt.word)
            if verdict is None:
                self._wanted[spelt.word] = None
            elif not verdict:
                wrong.append(spelt)
        if self._wanted and not self._timer.isActive():
            self._timer.start()
        return wrong

    def suggest(self, word: str, on_done: Callable[[list[str]], object]) -> Task[list[str]] | None:
        """Look for what may be meant, in the background."""
        speller = self._speller
        if speller is None:
            return None
        return run_in_background(lambda: speller.suggest(word), on_done, lambda _: on_done([]), urgent=True)

    def set_on(self, *, is_on: bool) -> None:
        """Switch it on or off; remembered."""
        self.is_on = is_on
        self._bench.remember_value(_ON, "yes" if is_on else "no")
        if not is_on:
            self._let_go()
        self.state_changed.emit()

    def set_language(self, language: str) -> None:
        """Take another dictionary; remembered."""
        self._bench.remember_value(_LANGUAGE, language)
        if language != self.language:
            self._let_go()
            self._load()

    def add_my_word(self, word: str) -> None:
        """Never call this word wrong again, in any project."""
        words = dict.fromkeys((*self.my_words, word))
        self._bench.remember_value(_WORDS, "\n".join(words))
        self._renew_right()

    def look_again(self) -> None:
        """Dictionaries may have come or gone."""
        self._load()

    @property
    def _has_my_words(self) -> bool:
        return bool(self._bench.settings.values.get(_WORDS))

    def _load(self) -> None:
        if self._is_loading or not self.is_on:
            return
        self._is_loading = True
        wanted = self._bench.settings.values.get(_LANGUAGE, "")
        old = self._speller

        def work() -> tuple[list[SpellDictionary], SpellProcess | None]:
            found = find_dictionaries()
            chosen = _chosen(found, wanted)
            if chosen is None or (old is not None and old.language == chosen.language):
                return found, old if chosen is not None else None
            return found, SpellProcess(chosen)

        self._renew_right()
        self._run(work, self._on_loaded, self._on_load_failed)

    def _on_loaded(self, found: tuple[list[SpellDictionary], SpellProcess | None]) -> None:
        self._is_loading = False
        self.dictionaries, speller = found
        self.problem = "" if speller is not None else "No dictionary was found on this machine."
        if speller is not self._speller:
            self._let_go()
            self._speller = speller
            self._held[:] = [] if speller is None else [speller]
        if speller is None:
            # Nothing to check with; the menu says what to do and looks again.
            self.is_on = False
        self.state_changed.emit()

    def _on_load_failed(self, error: Exception) -> None:
        self._is_loading = False
        self.problem = str(error)
        self.is_on = False
        self.dictionaries = self.dictionaries or []
        self.state_changed.emit()

    def _let_go(self) -> None:
        """End the dictionary's process; another dictionary judges anew."""
        if self._speller is not None:
            self._speller.close()
        self._speller = None
        self._held.clear()
        self._verdicts.clear()

    def _judge_some(self) -> None:
        speller = self._speller
        if speller is None or not self._wanted:
            return
        if self._is_judging:
            self._timer.start()
            return
        self._is_judging = True
        words = list(self._wanted)[:_SLICE]
        for word in words:
            del self._wanted[word]

        def on_done(verdicts: dict[str, bool]) -> None:
            self._is_judging = False
            if speller is self._speller:
                self._verdicts |= verdicts
                self.judged.emit()
            if self._wanted:
                self._timer.start()

        self._run(lambda: speller.judge(words), on_done, lambda _: on_done({}))

    def _renew_right(self) -> None:
        if not self._bench.session.is_open:
            return
        right = right_words(self._bench.session.project, self.my_words)
        if right != self._right:
            self._right = right
            self.judged.emit()

    def _run(
        self,
        work: Callable[[], T],
        on_done: Callable[[T], object],
        on_error: Callable[[Exception], object],
    ) -> None:
        """Run in the background; forgotten when this goes."""
        under_way = self._under_way

        def deliver(result: T) -> None:
            under_way.discard(task)
            on_done(result)

        def deliver_error(error: Exception) -> None:
            under_way.discard(task)
            on_error(error)

        task = run_in_background(work, deliver, deliver_error)
        under_way.add(task)


def _chosen(found: list[SpellDictionary], wanted: str) -> SpellDictionary | None:
    """The wanted language, else American English, else the first English, else any."""
    by_language = {one.language: one for one in found}
    english = [one for one in found if one.language.lower().startswith("en")]
    return (
        by_language.get(wanted)
        or by_language.get(_DEFAULT_LANGUAGE)
        or (english[0] if english else found[0] if found else None)
    )
