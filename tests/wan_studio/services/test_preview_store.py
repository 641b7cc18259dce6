import json

from trainer.protocol.run_folder import RunFolder
from wan_studio.services.preview_store import PreviewMixtures


def write(run, name, rows=1):
    folder = run.previews_folder / name
    folder.mkdir(parents=True, exist_ok=True)
    entries = [
        {"row": row, "video": f"{row:02d}.mp4", "poster": f"{row:02d}.jpg", "prompt": "an orbit"}
        for row in range(rows)
    ]
    (folder / "previews.json").write_text(json.dumps({"previews": entries}))
    return folder


def test_mixtures_are_read_from_their_folders_and_checkpoints_own_previews_are_not(tmp_path):
    run = RunFolder(tmp_path)
    write(run, "high_000040_low_000120_strength_0.80", rows=2)
    write(run, "high_000040_low_000080")
    write(run, "step_000040")
    plain, weak = PreviewMixtures(run).look()
    assert (plain.high, plain.low, plain.strength, plain.step) == (40, 80, 1.0, 80)
    assert (weak.high, weak.low, weak.strength, weak.step) == (40, 120, 0.8, 120)
    assert [preview.video for preview in weak.previews] == [
        "previews/high_000040_low_000120_strength_0.80/00.mp4",
        "previews/high_000040_low_000120_strength_0.80/01.mp4",
    ]


def test_what_is_damaged_or_unfinished_is_left_out_until_it_is_whole(tmp_path):
    run = RunFolder(tmp_path)
    mixtures = PreviewMixtures(run)
    assert mixtures.look() == ()
    folder = write(run, "high_000001_low_000002")
    (folder / "previews.json").write_text("{torn")
    write(run, "high_what_low_ever")
    assert mixtures.look() == ()
    write(run, "high_000001_low_000002")
    assert [found.step for found in mixtures.look()] == [2]
