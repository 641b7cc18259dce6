"""The configurations beside exported clips, read back: their keys, paths, and what they say of frames."""

import tomllib

import msgspec
import pytest
import yaml

from tests.wan_studio.domain.test_export_plan import clip, planned, project, video
from wan_studio.domain.ai_toolkit_config import ai_toolkit_files
from wan_studio.domain.musubi_config import musubi_files
from wan_studio.domain.project import ProjectDataset

ROOT = '/data/my "set" ü'
MIXED = {"a": video("a.mp4", fps=25), "b": video("b.mp4", fps=30), "c": video("c.png", frames=1)}
CLIPS = (clip("a", "a.mp4"), clip("b", "b.mp4"), clip("c", "c.png"))

MUSUBI_KEYS = {
    "caption_extension", "batch_size", "num_repeats", "resolution", "enable_bucket", "bucket_no_upscale",
    "video_directory", "image_directory", "cache_directory", "target_frames", "frame_extraction", "frame_stride",
    "frame_sample", "max_frames", "source_fps",
}  # fmt: skip


def job_of(plan):
    files, notes = ai_toolkit_files(plan, ROOT)
    return yaml.safe_load(files["ai-toolkit.yaml"])["config"]["process"][0], notes


def data_sets_of(plan):
    files, notes = musubi_files(plan, ROOT)
    return tomllib.loads(files["musubi-tuner.toml"]), notes


def with_settings(wished, **sections):
    return msgspec.structs.replace(wished, settings=wished.settings.with_values(sections))


def test_ai_toolkit_gets_the_projects_own_settings():
    wished = with_settings(
        project(*CLIPS, trigger="frung", repeats=2, caption_dropout=0.1),
        target={"rank": 24, "only_if_contains": ["self_attn", "cross_attn.o", "ffn.0"]},
        training={"steps": 321, "learning_rate": 2e-5, "timestep_bias": "high_noise"},
        multistage={"switch_every": 7, "stages": "high", "boundary": 0.875},
        quantization={"transformer": "nf4_recovered"},
        model={"low_vram": False, "layer_offloading": 0.4},
    )
    job, notes = job_of(planned(wished, sources=MIXED, layout="ai-toolkit"))
    assert job["trigger_word"] == "frung"
    assert (job["network"]["linear"], job["network"]["linear_alpha"]) == (24, 24)
    assert job["network"]["network_kwargs"] == {"only_if_contains": ["attn1", "attn2.to_out", "ffn.net.0"]}
    train, model = job["train"], job["model"]
    assert (train["steps"], train["lr"], train["content_or_style"]) == (321, 2e-5, "content")
    assert train["switch_boundary_every"] == 7
    assert model["arch"] == "wan22_14b_i2v"
    assert model["model_kwargs"] == {"train_high_noise": True, "train_low_noise": False}
    assert model["qtype"].startswith("uint4|")
    assert (model["low_vram"], model["layer_offloading_transformer_percent"]) == (False, 0.4)
    (dataset,) = job["datasets"]
    assert dataset["folder_path"] == f"{ROOT}/clips"
    assert (dataset["num_repeats"], dataset["caption_dropout_rate"]) == (2, 0.1)
    assert job["sample"]["samples"][0]["ctrl_img"] == f"{ROOT}/first_frames/a.png"
    assert not any("0.875" in note for note in notes)


def test_ai_toolkit_takes_exactly_the_frames_that_were_written():
    alike = job_of(planned(project(*CLIPS), sources=MIXED, frames="as_seen", layout="ai-toolkit"))[0]
    frames = alike["datasets"][0]
    assert (frames["num_frames"], frames["shrink_video_to_frames"], frames["auto_frame_count"]) == (
        41,
        True,
        False,
    )
    shorter = {**MIXED, "b": video("b.mp4", frames=40, fps=30)}
    varied = job_of(planned(project(*CLIPS), sources=shorter, frames="as_seen", layout="ai-toolkit"))[0]
    frames = varied["datasets"][0]
    assert (frames["num_frames"], frames["auto_frame_count"], frames["fps"]) == (41, True, 16)


def test_ai_toolkit_is_told_how_to_take_frames_of_sources_or_the_user_that_it_cannot():
    long = job_of(planned(project(*CLIPS), sources=MIXED, layout="ai-toolkit"))
    assert not long[0]["datasets"][0]["shrink_video_to_frames"]
    assert any("as the model sees them" in note for note in long[1])
    short = job_of(planned(project(*CLIPS, num_frames=81), sources=MIXED, layout="ai-toolkit"))
    assert short[0]["datasets"][0]["auto_frame_count"]
    whole = job_of(planned(project(*CLIPS, sampling="whole_range"), sources=MIXED, layout="ai-toolkit"))
    assert whole[0]["datasets"][0]["shrink_video_to_frames"]
    assert not whole[0]["datasets"][0]["auto_frame_count"]


def test_regularization_is_said_and_held_out_clips_are_not_trained():
    clips = [clip(f"c{at}", f"v{at}.mp4") for at in range(10)]
    extra = (ProjectDataset(name="regular", role="regularization"),)
    wished = project(*clips, clip("r", "r.mp4", dataset="regular"), extra=extra, validation_share=0.2)
    job, _ = job_of(planned(wished, layout="ai-toolkit"))
    assert [(one["folder_path"], one["is_reg"]) for one in job["datasets"]] == [
        (f"{ROOT}/clips", False),
        (f"{ROOT}/regular", True),
    ]
    found, notes = data_sets_of(planned(wished, layout="musubi-tuner"))
    assert [one["video_directory"] for one in found["datasets"]] == [
        f"{ROOT}/clips-25fps",
        f"{ROOT}/regular-25fps",
    ]
    assert any("knows no regularization" in note for note in notes)


def test_musubi_tuner_gets_a_table_for_each_folder_and_resolution_with_keys_that_it_knows():
    wished = project(*CLIPS, resolutions=(512, 768), repeats=3)
    found, _ = data_sets_of(planned(wished, sources=MIXED, layout="musubi-tuner"))
    assert len(found["datasets"]) == 6
    assert {key for one in (found["general"], *found["datasets"]) for key in one} <= MUSUBI_KEYS
    assert len({one["cache_directory"] for one in found["datasets"]}) == 6
    first = found["datasets"][0]
    assert first["video_directory"] == f"{ROOT}/clips-25fps"
    assert (first["source_fps"], first["frame_extraction"], first["max_frames"]) == (25.0, "full", 41)
    assert isinstance(first["source_fps"], float)
    assert (first["resolution"], first["num_repeats"]) == ([512, 512], 3)
    images = found["datasets"][-1]
    assert images["image_directory"] == f"{ROOT}/clips-images"
    assert "source_fps" not in images


def test_musubi_tuner_takes_exactly_the_frames_that_were_written():
    plan = planned(project(*CLIPS), sources=MIXED, frames="as_seen", layout="musubi-tuner")
    first = data_sets_of(plan)[0]["datasets"][0]
    assert "source_fps" not in first
    assert (first["frame_extraction"], first["max_frames"]) == ("full", 41)


@pytest.mark.parametrize(
    ("sampling", "extraction"), [("sliding", "slide"), ("random", "uniform"), ("whole_range", "full")]
)
def test_musubi_tuners_ways_to_take_windows_stand_for_ours_with_a_note(sampling, extraction):
    plan = planned(project(*CLIPS, sampling=sampling), sources=MIXED, layout="musubi-tuner")
    found, notes = data_sets_of(plan)
    assert found["datasets"][0]["frame_extraction"] == extraction
    assert any("musubi-tuner" in note for note in notes)


def test_slow_sources_and_varying_rates_are_said():
    slow = {"a": video("a.mp4", fps=10, frames=40)}
    notes = data_sets_of(planned(project(CLIPS[0]), sources=slow, layout="musubi-tuner"))[1]
    assert any("1.6 times too fast" in note for note in notes)
    stamps = tuple(at * at for at in range(60))
    varying = {"a": video("a.mp4", frame_pts=stamps)}
    notes = data_sets_of(planned(project(CLIPS[0]), sources=varying, layout="musubi-tuner"))[1]
    assert any("takes every rate for constant, which is wrong for a.mp4" in note for note in notes)


def test_musubi_tuners_commands_train_each_expert_with_its_own_settings():
    wished = with_settings(
        project(*CLIPS),
        training={"steps": 1000},
        multistage={"high_share": 0.25, "high_rank": 8, "low_learning_rate": 5e-5, "boundary_overlap": 0.05},
        model={"layer_offloading": 0.5},
        quantization={"transformer": "float8"},
    )
    files, _ = musubi_files(planned(wished, sources=MIXED, layout="musubi-tuner"), ROOT)
    for name, variable in (("musubi-tuner.sh", "$DIT_HIGH"), ("musubi-tuner.bat", "%DIT_HIGH%")):
        high, low = [line for line in files[name].splitlines() if "--dit " in line]
        assert variable in high.replace("{", "").replace("}", "")
        for words in ("--max_train_steps 250", "--network_dim 8", "--min_timestep 850 --max_timestep 1000"):
            assert words in high
        for words in (
            "--max_train_steps 750",
            "--network_dim 16",
            "--learning_rate 5e-05",
            "--max_timestep 950",
        ):
            assert words in low
        assert "--fp8_base --fp8_scaled --blocks_to_swap 20" in low
        assert "--i2v" in files[name]
    only = with_settings(wished, multistage={"stages": "low"})
    files, _ = musubi_files(planned(only, sources=MIXED, layout="musubi-tuner"), ROOT)
    (low,) = [line for line in files["musubi-tuner.sh"].splitlines() if "--dit " in line]
    assert "--max_train_steps 1000" in low
