from wan_studio.domain.preset_change import carried_over
from wan_studio.domain.project import Settings


def test_what_the_user_changed_stays_and_the_rest_follows_the_new_preset():
    old = Settings().with_values({"training": {"steps": 2000}, "target": {"rank": 16}})
    new = Settings().with_values({"training": {"steps": 2500}, "target": {"rank": 32}})
    current = old.with_values({"training": {"steps": 700}, "datasets": {"resolutions": [512, 768]}})
    result = carried_over(current, old, new)
    assert result.training.steps == 700
    assert result.target.rank == 32
    assert result.datasets.resolutions == (512, 768)


def test_untouched_settings_become_the_new_preset():
    old, new = Settings(), Settings().with_values({"target": {"rank": 32}})
    assert carried_over(old, old, new) == new
