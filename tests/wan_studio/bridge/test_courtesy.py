"""While a trainer is at work, clips are looked at by one process, and the page says so."""

from PySide6.QtCore import QObject, Signal

from wan_studio.bridge.clip_library import ClipLibrary
from wan_studio.bridge.courtesy import Courtesy
from wan_studio.bridge.project_session import ProjectSession
from wan_studio.services.media_pool import MediaPool


class Runs(QObject):
    """The desk's word on whether a run is at work."""

    state_changed = Signal(object)
    is_training = False

    def say(self, *, is_training):
        self.is_training = is_training
        self.state_changed.emit(None)


def test_work_stands_back_when_a_run_begins_and_goes_on_when_it_ends(qtbot, tmp_path):
    runs, pool = Runs(), MediaPool(3)
    courtesy = Courtesy(runs, ClipLibrary(ProjectSession(), tmp_path, pool), pool)
    with qtbot.waitSignal(courtesy.yielding_changed) as told:
        runs.say(is_training=True)
    assert (told.args, pool._limit) == ([True], 1)
    runs.say(is_training=True)
    with qtbot.waitSignal(courtesy.yielding_changed) as told:
        runs.say(is_training=False)
    assert (told.args, pool._limit) == ([False], 3)


def test_a_trainer_of_another_window_counts_as_well(qtbot, tmp_path):
    runs, pool = Runs(), MediaPool(3)
    courtesy = Courtesy(runs, ClipLibrary(ProjectSession(), tmp_path, pool), pool)
    courtesy._on_looked(sees_others=True)
    assert courtesy.is_yielding
    runs.say(is_training=False)
    assert courtesy.is_yielding
    courtesy._on_looked(sees_others=False)
    assert not courtesy.is_yielding
