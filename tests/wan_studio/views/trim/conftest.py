"""The trim page on three small clips."""

import pytest

from wan_studio.domain.checks import Step


@pytest.fixture
def page(qtbot, open_window):
    open_window.go_to(Step.TRIM)
    made = open_window.page(Step.TRIM)
    qtbot.waitUntil(lambda: made.source is not None)
    return made
