"""Where two processes with an expert each meet."""

from trainer.objective.turns import ExpertTurns, TurnSettings
from trainer.protocol.job import Expert
from trainer.recipes.train_apart import Arrival, agreed_step


def test_they_meet_where_it_is_due_unless_the_first_asks():
    assert agreed_step([Arrival(40, asked=False), Arrival(100, asked=False)], due=100) == 100


def test_when_the_first_asks_they_meet_at_the_earliest_step_that_neither_has_passed():
    assert agreed_step([Arrival(40, asked=True), Arrival(25, asked=False)], due=100) == 40
    assert agreed_step([Arrival(40, asked=True), Arrival(60, asked=False)], due=100) == 60
    assert agreed_step([Arrival(0, asked=True), Arrival(0, asked=False)], due=100) == 0


def test_each_walks_from_one_of_its_own_steps_to_the_next():
    turns = ExpertTurns(TurnSettings(switch_every=3), 10)
    assert [turns.step_from(step, (Expert.LOW,)) for step in (0, 3, 5, 6, 10)] == [3, 3, 5, 9, None]
    assert turns.step_from(4, (Expert.HIGH,)) == 6
    assert [turns.step_from(step, tuple(Expert)) for step in (0, 9, 10)] == [0, 9, None]
