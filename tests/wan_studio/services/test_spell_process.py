"""The dictionary's process: judges, suggests, says why it cannot, and ends with whoever asked."""

import pytest

from tests.wan_studio.services.test_spell_dictionaries import put_dictionary
from wan_studio.errors import AppError
from wan_studio.services.spell_dictionaries import SpellDictionary
from wan_studio.services.spell_process import SpellProcess


def test_words_are_judged_and_mended_in_a_process_that_ends_when_told(tmp_path):
    put_dictionary(tmp_path, "en_GB", "castle/S")
    speller = SpellProcess(SpellDictionary("en_GB", tmp_path / "en_GB"))
    assert speller.judge(["castles", "castel"]) == {"castles": True, "castel": False}
    assert speller.suggest("castel")[0] == "castle"
    speller.close()
    assert speller._process.returncode is not None
    assert (speller.judge(["castles"]), speller.suggest("castel")) == ({}, [])


def test_a_broken_dictionary_is_told_by_its_process(tmp_path):
    put_dictionary(tmp_path, "en_GB", "castle")
    (tmp_path / "en_GB.aff").write_bytes(b"SET UTF-8\nSFX \xff\xfe")
    with pytest.raises(AppError, match=r"en_GB\.dic cannot be read"):
        SpellProcess(SpellDictionary("en_GB", tmp_path / "en_GB"))
