"""Wrong words are marked in the caption, mended from the menu, and learnt."""

import pytest
from PySide6.QtCore import Qt
from PySide6.QtGui import QTextCharFormat
from PySide6.QtTest import QTest
from PySide6.QtWidgets import QMenu

from tests.wan_studio.services.test_spell_dictionaries import put_dictionary
from wan_studio.domain.checks import Step
from wan_studio.services.spell_dictionaries import dictionaries_folder

pytestmark = pytest.mark.media


@pytest.fixture
def page(qtbot, open_window, home, monkeypatch):
    # The screen of the tests cannot show menus.
    monkeypatch.setattr(QMenu, "popup", lambda *_: None)
    put_dictionary(dictionaries_folder(), "en_US", "orbit", "around", "the", "castle/S", "slow")
    put_dictionary(dictionaries_folder(), "en_GB", "colour")
    open_window.go_to(Step.CAPTIONS)
    made = open_window.page(Step.CAPTIONS)
    qtbot.waitUntil(lambda: made._spelling.is_ready and made.editor.text != "")
    return made


def marked(page):
    """The words with a wavy underline."""
    block = page.editor.document().firstBlock()
    wave = QTextCharFormat.UnderlineStyle.WaveUnderline
    spans = [one for one in block.layout().formats() if one.format.underlineStyle() == wave]
    units = block.text().encode("utf-16-le")
    return [units[2 * one.start : 2 * (one.start + one.length)].decode("utf-16-le") for one in spans]


def open_menu(qtbot, page):
    QTest.keyClick(page.editor, Qt.Key.Key_F7)
    qtbot.waitUntil(lambda: page.editor.findChildren(QMenu) != [])
    return page.editor.findChildren(QMenu)[0]


def entry(menu, text):
    return next(one for one in menu.actions() if text in one.text())


def test_a_wrong_word_is_marked_once_it_is_typed_and_the_trigger_is_none(qtbot, page):
    QTest.keyClicks(page.editor, " castel")
    qtbot.wait(150)
    assert marked(page) == []
    page.editor.insertPlainText(", slow frung 🌸 castels")
    QTest.keyClick(page.editor, Qt.Key.Key_Home)
    qtbot.waitUntil(lambda: marked(page) == ["castel", "castels"])


def test_a_suggestion_from_the_menu_takes_the_words_place_as_one_step(qtbot, page):
    QTest.keyClicks(page.editor, " castel ")
    qtbot.waitUntil(lambda: marked(page) == ["castel"])
    menu = open_menu(qtbot, page)
    qtbot.waitUntil(lambda: any(one.text() == "castle" for one in menu.actions()))
    entry(menu, "castle").trigger()
    menu.close()
    assert page.editor.text == "orbit around the [trigger] castle "
    qtbot.waitUntil(lambda: marked(page) == [])


def test_a_word_of_the_project_is_right_until_that_is_undone(qtbot, page):
    QTest.keyClicks(page.editor, " bokeh ")
    qtbot.waitUntil(lambda: marked(page) == ["bokeh"])
    page._sheet.save()
    menu = open_menu(qtbot, page)
    entry(menu, "to the project's words").trigger()
    menu.close()
    assert page.session.project.words == ("bokeh",)
    qtbot.waitUntil(lambda: marked(page) == [])
    page.session.undo_stack.undo()
    qtbot.waitUntil(lambda: marked(page) == ["bokeh"])
    page._spelling.add_my_word("bokeh")
    qtbot.waitUntil(lambda: marked(page) == [])
    assert page.bench.settings.values["spelling.words"] == "bokeh"


def test_it_is_switched_off_and_takes_another_language_and_both_are_remembered(qtbot, page):
    QTest.keyClicks(page.editor, " colour ")
    qtbot.waitUntil(lambda: marked(page) == ["colour"])
    QTest.keyClick(page.editor, Qt.Key.Key_F7, Qt.KeyboardModifier.ShiftModifier)
    qtbot.waitUntil(lambda: marked(page) == [])
    page._spelling.set_on(is_on=True)
    page._spelling.set_language("en_GB")
    qtbot.waitUntil(lambda: page._spelling.language == "en_GB")
    qtbot.waitUntil(lambda: "colour" not in marked(page) and "orbit" in marked(page))
    values = page.bench.settings.values
    assert (values["spelling.on"], values["spelling.language"]) == ("yes", "en_GB")


def test_without_a_dictionary_the_menu_says_what_to_do(qtbot, page, monkeypatch):
    monkeypatch.setattr("wan_studio.bridge.spell_check.find_dictionaries", list)
    page._spelling.look_again()
    qtbot.waitUntil(lambda: page._spelling.problem != "")
    page.editor.open_menu(page.editor.rect().center())
    menu = page.editor.findChildren(QMenu)[0]
    inner = entry(menu, "Spelling").menu()
    texts = [one.text() for one in inner.actions()]
    assert "No dictionary was found on this machine." in texts
    assert any("hunspell-en-us" in text for text in texts)
    menu.close()
