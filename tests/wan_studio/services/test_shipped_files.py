import pytest

from wan_studio.services.preset_store import settings_for
from wan_studio.services.shipped_files import ShippedFileError, shipped_file


def test_a_shipped_file_is_found():
    assert shipped_file("presets/motion.toml").is_file()


def test_an_installation_that_is_not_whole_is_told_in_a_sentence(tmp_path, monkeypatch):
    monkeypatch.setenv("WAN_STUDIO_RESOURCES", str(tmp_path))
    with pytest.raises(ShippedFileError) as raised:
        settings_for("motion")
    assert "presets/motion.toml" in raised.value.message
    assert raised.value.hint == "Install Wan Studio again."
