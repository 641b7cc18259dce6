import pytest

from wan_studio.settings import (
    MOST_RECENT_PROJECTS,
    AppSettings,
    load_settings,
    save_settings,
    settings_file,
)


def test_settings_come_back_as_they_were(home):
    assert load_settings() == AppSettings()
    settings = AppSettings(theme="dark", open_expanders=("training.optimizer",), values={"goal": "motion"})
    save_settings(settings)
    assert load_settings() == settings


@pytest.mark.parametrize("content", [b"", b"{", b"\xff", b'{"recent_projects": 5}'])
def test_damaged_settings_are_set_aside_and_never_an_obstacle(home, content):
    save_settings(AppSettings(theme="dark"))
    settings_file().write_bytes(content)
    assert load_settings() == AppSettings()
    assert settings_file().with_suffix(".damaged.json").read_bytes() == content
    save_settings(AppSettings(theme="light"))
    assert load_settings().theme == "light"


def test_a_newer_apps_settings_are_read_as_far_as_they_are_known(home):
    save_settings(AppSettings())
    settings_file().write_bytes(b'{"theme": "dark", "unheard_of": [1]}')
    assert load_settings().theme == "dark"


def test_recent_projects_are_latest_first_once_each_and_few(home, tmp_path):
    settings = AppSettings()
    for number in range(MOST_RECENT_PROJECTS + 3):
        settings = settings.with_recent_project(tmp_path / str(number))
    settings = settings.with_recent_project(tmp_path / "5")
    assert settings.recent_projects[0] == str(tmp_path / "5")
    assert len(settings.recent_projects) == len(set(settings.recent_projects)) == MOST_RECENT_PROJECTS
    assert str(tmp_path / "5") not in settings.without_recent_project(str(tmp_path / "5")).recent_projects
