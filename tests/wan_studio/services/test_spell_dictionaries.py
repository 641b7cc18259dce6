"""Dictionaries are found where systems keep them, and read with their affixes."""

import pytest

from wan_studio.services.spell_dictionaries import (
    DictionaryError,
    SpellDictionary,
    Speller,
    dictionaries_folder,
    find_dictionaries,
)

AFFIXES = "SET UTF-8\nSFX S Y 1\nSFX S 0 s .\n"


def put_dictionary(folder, name, *words):
    folder.mkdir(parents=True, exist_ok=True)
    (folder / f"{name}.aff").write_text(AFFIXES, encoding="utf-8")
    (folder / f"{name}.dic").write_text("\n".join([str(len(words)), *words]), encoding="utf-8")
    return folder


def test_dictionaries_are_found_in_folders_and_one_below_and_hyphenation_is_none(tmp_path):
    first = put_dictionary(tmp_path / "mine", "en_GB", "colour/S")
    put_dictionary(tmp_path / "system" / "dict-fr", "fr_FR", "couleur")
    second = put_dictionary(tmp_path / "system", "en_GB", "color")
    (second / "hyph_en_GB.dic").write_text("x")
    found = find_dictionaries([first, second, tmp_path / "nowhere"])
    assert [one.language for one in found] == ["en_GB", "fr_FR"]
    assert found[0].stem == first / "en_GB"


def test_the_users_folder_and_dicpath_come_before_the_built_in_english(tmp_path, home, monkeypatch):
    monkeypatch.setenv("DICPATH", str(put_dictionary(tmp_path / "given", "xx_XX", "word")))
    put_dictionary(dictionaries_folder(), "en_US", "mine")
    found = {one.language: one for one in find_dictionaries()}
    assert found["xx_XX"].stem == tmp_path / "given" / "xx_XX"
    assert not found["en_US"].is_built_in


def test_affixes_hyphens_and_suggestions_work(tmp_path):
    folder = put_dictionary(tmp_path, "en_GB", "castle/S", "stone")
    speller = Speller(SpellDictionary("en_GB", folder / "en_GB"))
    assert [speller.is_right(word) for word in ("castles", "stone-castle", "castel")] == [True, True, False]
    assert speller.suggest("castel")[0] == "castle"


def test_a_broken_dictionary_is_a_sentence(tmp_path):
    (tmp_path / "en_GB.aff").write_bytes(b"SET UTF-8\nSFX \xff\xfe")
    (tmp_path / "en_GB.dic").write_bytes(b"\xff\xfe\x00")
    with pytest.raises(DictionaryError, match=r"en_GB\.dic cannot be read"):
        Speller(SpellDictionary("en_GB", tmp_path / "en_GB"))
