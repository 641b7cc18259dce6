"""The menu of the caption: what a wrong word may mean, lists of right words, and the checker's switch."""

from collections.abc import Callable

import msgspec
from PySide6.QtCore import QLocale, QUrl
from PySide6.QtGui import QAction, QActionGroup, QDesktopServices
from PySide6.QtWidgets import QMenu

from wan_studio.bridge.project_session import ProjectSession
from wan_studio.bridge.spell_check import SpellCheck
from wan_studio.services.spell_dictionaries import dictionaries_folder
from wan_studio.undo.edits import edit_project

_LOOKING = "Looking for suggestions"


class SpellMenu:
    """Adds to the editor's menu.

    Args:
        spelling: Judges words.
        session: Where the project is open: it has a list of right words.
    """

    def __init__(self, spelling: SpellCheck, session: ProjectSession) -> None:
        self._spelling = spelling
        self._session = session

    def add_to(self, menu: QMenu, word: str, replace: Callable[[str], object]) -> None:
        """Put the wrong word's actions first, and the checker's last.

        Args:
            menu: The editor's; it is not shown yet.
            word: The wrong word under the pointer; empty for none.
            replace: Takes what is to stand in its place.
        """
        if word:
            self._add_word(menu, word, replace)
        menu.addSeparator()
        self._add_switch(menu)

    def add_to_project(self, word: str) -> None:
        """Make a word right in this project; an undoable step."""
        project = self._session.project
        words = tuple(dict.fromkeys((*project.words, word)))
        changed = msgspec.structs.replace(project, words=words)
        edit_project(self._session, f'Add "{word}" to the project\'s words', changed)

    def _add_word(self, menu: QMenu, word: str, replace: Callable[[str], object]) -> None:
        first = menu.actions()[0] if menu.actions() else None
        waiting = QAction(_LOOKING, menu)
        waiting.setEnabled(False)
        to_project = QAction(f'Add "{word}" to the project\'s words', menu)
        to_project.triggered.connect(lambda: self.add_to_project(word))
        to_mine = QAction(f'Add "{word}" to my words, for all projects', menu)
        to_mine.triggered.connect(lambda: self._spelling.add_my_word(word))
        for action in (waiting, to_project, to_mine):
            menu.insertAction(first, action) if first is not None else menu.addAction(action)
        menu.insertSeparator(to_project)
        if first is not None:
            menu.insertSeparator(first)

        def on_done(found: list[str]) -> None:
            if not found:
                waiting.setText("No suggestion")
                return
            for text in found:
                action = QAction(text, menu)
                font = action.font()
                font.setBold(True)
                action.setFont(font)
                action.triggered.connect(lambda _=False, text=text: replace(text))
                menu.insertAction(waiting, action)
            menu.removeAction(waiting)

        task = self._spelling.suggest(word, on_done)
        if task is not None:
            # What comes after the menu has gone must not touch it.
            menu.destroyed.connect(task.cancel)

    def _add_switch(self, menu: QMenu) -> None:
        spelling = self._spelling
        inner = menu.addMenu("Spelling")
        switch = inner.addAction("Check spelling")
        switch.setCheckable(True)
        switch.setChecked(spelling.is_on)
        switch.toggled.connect(lambda on: spelling.set_on(is_on=on))
        inner.addSeparator()
        if spelling.problem:
            for line in (
                spelling.problem,
                "Put a Hunspell dictionary (.aff and .dic) into the dictionaries folder,",
            ):
                inner.addAction(line).setEnabled(False)
            inner.addAction("or install one, e.g. hunspell-en-us or LibreOffice.").setEnabled(False)
        group = QActionGroup(inner)
        for dictionary in spelling.dictionaries:
            name = language_name(dictionary.language)
            choice = inner.addAction(f"{name} (built in)" if dictionary.is_built_in else name)
            choice.setCheckable(True)
            choice.setChecked(dictionary.language == spelling.language)
            choice.setToolTip(str(dictionary.stem))
            choice.triggered.connect(lambda _=False, one=dictionary: spelling.set_language(one.language))
            group.addAction(choice)
        inner.addSeparator()
        inner.addAction("Open the dictionaries folder").triggered.connect(_open_folder)
        inner.addAction("Look for dictionaries again").triggered.connect(
            lambda: (spelling.set_on(is_on=True), spelling.look_again())
        )


def language_name(language: str) -> str:
    """A dictionary's language in words, e.g. "English (United Kingdom)"; as its file is called where unknown."""
    locale = QLocale(language)
    if locale.language() == QLocale.Language.C:
        return language
    name = QLocale.languageToString(locale.language())
    has_territory = "_" in language or "-" in language
    return f"{name} ({QLocale.territoryToString(locale.territory())})" if has_territory else name


def _open_folder() -> None:
    folder = dictionaries_folder()
    folder.mkdir(parents=True, exist_ok=True)
    QDesktopServices.openUrl(QUrl.fromLocalFile(str(folder)))
