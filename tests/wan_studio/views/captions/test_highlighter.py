"""The placeholder's colours in a caption."""

from PySide6.QtGui import QTextDocument
from PySide6.QtWidgets import QApplication

from wan_studio.views.captions.highlighter import TriggerHighlighter
from wan_studio.views.theme import DARK, LIGHT, Theme


def test_the_placeholder_takes_the_colours_of_a_scheme_that_is_chosen_later(qapp):
    theme = Theme(QApplication.instance())
    theme.set_appearance("light")
    document = QTextDocument("around [trigger]")
    marks = TriggerHighlighter(document)
    marks.rehighlight()
    assert _grounds(document) == {LIGHT.accent_soft}
    theme.set_appearance("dark")
    marks.recolour()
    assert _grounds(document) == {DARK.accent_soft}
    qapp.setStyleSheet("")


def _grounds(document):
    return {found.format.background().color().name() for found in document.firstBlock().layout().formats()}
