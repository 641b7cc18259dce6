"""Calls and ends between two processes, with a connection that does as the test says."""

import pytest

from trainer.errors import TrainerError
from trainer.protocol.job import Expert
from trainer.protocol.run_folder import RunFolder
from trainer.runtime import pair as module
from trainer.runtime.distributed import FirstHasEndedError
from trainer.runtime.pair import OtherFailedError, OtherLostError, Pair, SecondControl
from trainer.runtime.reporter import Reporter, SilentReporter


class Arrived:
    """A barrier that is passed at the third look, or broken."""

    def __init__(self, is_broken: bool) -> None:
        self._is_broken = is_broken
        self._looks = 0

    def is_completed(self) -> bool:
        self._looks += 1
        return self._looks > 2

    def wait(self) -> None:
        if self._is_broken:
            raise RuntimeError("Connection closed by peer")


class Line:
    """One end of a connection."""

    def __init__(self, is_first: bool) -> None:
        self.is_first = is_first
        self.is_broken = False

    def share(self, value):
        return "token"

    def arrive(self) -> Arrived:
        return Arrived(self.is_broken)


@pytest.fixture
def pairs(tmp_path, monkeypatch):
    monkeypatch.setattr(module, "SECONDS_BETWEEN_LOOKS", 0.001)
    monkeypatch.setattr(module, "SECONDS_TO_BE_HEARD", 0.01)
    run = RunFolder(tmp_path)
    with Reporter(run) as reporter:
        yield Pair(Line(True), run, reporter, 0), Pair(Line(False), run, SilentReporter(), 0)


def test_the_first_has_the_high_noise_expert(pairs):
    assert [one.expert for one in pairs] == [Expert.HIGH, Expert.LOW]


def test_a_call_is_for_the_next_meeting_alone(pairs):
    first, second = pairs
    assert not second.is_called()
    first.call()
    first.call()
    assert second.is_called()
    looks = []
    first.meet(lambda: looks.append(1))
    second.meet(lambda: looks.append(2))
    assert looks == [1, 1], "the second only waits"
    assert not second.is_called()


def test_a_failure_of_the_second_is_the_firsts_to_tell(pairs):
    first, second = pairs

    class FullError(TrainerError):
        kind = "out_of_memory"
        step = 7
        remedy = "model.low_vram=true"

    with pytest.raises(FullError), second.together():
        raise FullError("It is full.", "Empty it.")
    with pytest.raises(OtherFailedError) as caught:
        first.listen()
    told = caught.value
    assert (told.kind, told.message, told.hint) == ("out_of_memory", "It is full.", "Empty it.")
    assert (told.step, told.remedy) == (7, "model.low_vram=true")


def test_a_lost_connection_says_who_is_gone(pairs):
    first, second = pairs
    first.team.is_broken = second.team.is_broken = True
    with pytest.raises(OtherLostError, match="low-noise expert has ended without a word"):
        first.meet(lambda: None)
    with pytest.raises(FirstHasEndedError):
        second.meet(lambda: None)


def test_the_second_goes_when_the_first_has_ended(pairs, tmp_path):
    first, second = pairs
    control = SecondControl(RunFolder(tmp_path), second, second.reporter)
    control.look()
    with pytest.raises(ValueError, match="broken"), first.together():
        raise ValueError("broken")
    with pytest.raises(FirstHasEndedError):
        control.raise_if_stopped()


def test_a_good_end_leaves_nothing_behind(pairs):
    first, second = pairs
    with second.together(), first.together():
        first.call()
    assert not RunFolder(first._run.path).pair_folder.exists()
