"""`wan-studio plan`, as a program and a person read it."""

import json

import pytest

from wan_studio.cli import main

WANTED = {
    "low_vram",
    "layer_offloading",
    "resident_blocks",
    "transformer_quantization",
    "text_encoder_quantization",
    "resolutions",
    "num_frames",
    "switch_every",
    "batch_size",
    "rank",
    "peak_vram_gib",
    "peak_ram_gib",
    "seconds_per_step",
    "hours",
    "fits",
    "reasons",
}


@pytest.fixture(autouse=True)
def own_folders(tmp_path, monkeypatch):
    monkeypatch.setenv("WAN_STUDIO_HOME", str(tmp_path))


def no_window(_: object) -> int:
    raise AssertionError("a command opens no window")


def run(capsys, *words: str) -> tuple[int, str, str]:
    code = main(["plan", *words], no_window)
    told = capsys.readouterr()
    return code, told.out, told.err


def test_a_plan_for_another_card_has_every_field_and_a_reason_for_each(capsys):
    code, out, _ = run(capsys, "--vram", "24", "--ram", "64", "--capability", "8.9", "--json")
    plan = json.loads(out)
    assert code == 0
    assert plan.keys() >= WANTED
    assert plan["fits"] is True
    assert plan["low_vram"] is True
    assert plan["layer_offloading"] == 0
    assert plan["resident_blocks"] == 40
    assert plan["resolutions"] == [512]
    assert plan["num_frames"] == 41
    assert 0 < plan["peak_vram_gib"] < 24
    for field in ("low_vram", "layer_offloading", "transformer_quantization", "resolutions", "num_frames"):
        assert plan["reasons"][field].endswith(".")


def test_where_nothing_fits_the_exit_code_is_3_and_ways_out_are_told(capsys):
    code, out, _ = run(capsys, "--vram", "6", "--ram", "8")
    assert code == 3
    assert "No plan fits." in out
    assert "bytes" in out
    code, out, _ = run(capsys, "--vram", "6", "--ram", "8", "--json")
    plan = json.loads(out)
    assert code == 3
    assert plan["fits"] is False
    assert plan["missing_bytes"]["ram"] > 0
    assert plan["ways_out"]


def test_a_card_is_known_by_its_name(capsys):
    _, out, _ = run(capsys, "--gpu", "RTX 4090", "--ram", "64", "--json")
    plan = json.loads(out)
    assert plan["transformer_quantization"] == "float8_compute"
    assert plan["gpu"] == "RTX 4090"


def test_what_is_free_counts_and_not_what_the_card_has(capsys):
    _, out, _ = run(capsys, "--vram", "24", "--free-vram", "10", "--ram", "64", "--json")
    plan = json.loads(out)
    assert plan["layer_offloading"] > 0
    assert plan["peak_vram_gib"] < 10


def test_a_person_reads_the_values_with_their_reasons(capsys):
    code, out, _ = run(capsys, "--vram", "24", "--ram", "64", "--capability", "8.9", "--flavour", "safest")
    assert code == 0
    assert "layer_offloading" in out
    assert "Peak VRAM" in out
    assert "s a step" in out


@pytest.mark.parametrize(
    ("words", "told"),
    [
        (("--vram", "24", "--capability", "eight"), "is not a compute capability"),
        (("--gpu", "Voodoo 3"), "--vram"),
        (("--vram", "-1"), "no size"),
        (("--vram", "24", "--clips", "/nowhere/at/all"), "/nowhere/at/all"),
    ],
)
def test_bad_input_is_a_sentence_and_exit_code_2(capsys, words, told):
    code, _, error = run(capsys, *words)
    assert code == 2
    assert told in error


def test_the_clips_of_a_folder_decide_frames_and_sizes(capsys, tmp_path):
    from PIL import Image

    folder = tmp_path / "clips"
    folder.mkdir()
    for number in range(6):
        Image.new("RGB", (640, 360)).save(folder / f"{number}.png")
    code, out, _ = run(
        capsys, "--vram", "48", "--ram", "128", "--capability", "8.9", "--clips", str(folder), "--json"
    )
    plan = json.loads(out)
    assert code == 0
    # Pictures of that size never get the larger bucket.
    assert plan["resolutions"] == [512]
