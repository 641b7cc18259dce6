"""What a LoRA file tells of its job: enough to judge it by, nothing of the user's machine or captions."""

import json

import msgspec

from trainer.output.lora_metadata import parse_metadata
from trainer.protocol.job import (
    BucketSize,
    ClipSpec,
    CropBox,
    DatasetSection,
    Expert,
    JobSection,
    JobSpec,
    ModelSection,
    MultistageSection,
    SampleRow,
    SampleSection,
    TargetSection,
    TrainedSize,
    TrainingSection,
)
from trainer.recipes.describe_lora import lora_metadata, public_settings

BOX = CropBox(left=0, top=0, width=640, height=480)


def clip(number: int, caption: str) -> ClipSpec:
    return ClipSpec(
        source=f"/home/ann/secret/{number}.mp4",
        source_bytes=1,
        source_modified_ns=1,
        windows=((0, 1, 2, 3, 4), tuple(range(9))) if number else ((0, 1, 2, 3, 4),),
        sizes=(
            TrainedSize(width=64, height=48, crop=BOX),
            TrainedSize(width=128, height=96, crop=BOX),
        ),
        caption=caption,
    )


def job(**target) -> JobSpec:
    clips = tuple(clip(number, "whispered 0rbit" if number else "whispered words") for number in range(3))
    held_out = (clip(0, "whispered too"),)
    return JobSpec(
        job=JobSection(name="orbit", trigger="0rbit"),
        model=ModelSection(base="C:\\Users\\ann\\Wan2.2-I2V", vae="/home/ann/own_vae.safetensors"),
        multistage=MultistageSection(
            boundary=0.9, boundary_overlap=0.05, high_rank=8, low_learning_rate=5e-5
        ),
        target=TargetSection(start_high="/home/ann/loras/old.safetensors", **target),
        training=TrainingSection(steps=1000, optimizer="adamw", warmup_steps=10),
        datasets=(
            DatasetSection(
                name="turns", clips=clips, num_frames=9, resolutions=(64, 112), repeats=2, trigger=""
            ),
            DatasetSection(name="held", clips=held_out, role="validation", num_frames=5, resolutions=(64,)),
            DatasetSection(
                name="keep", clips=held_out, role="regularization", num_frames=5, resolutions=(64,)
            ),
        ),
        sample=SampleSection(
            rows=(
                SampleRow(
                    prompt="0rbit, a cup",
                    image="/home/ann/cup.png",
                    size=BucketSize(width=64, height=64),
                    num_frames=5,
                ),
            )
        ),
        cache_folder="/home/ann/cache",
    )


def strings(expert: Expert, **target) -> dict[str, str]:
    return lora_metadata(job(**target), "ba5e", 0.9, expert, 600, 200).to_strings(1.0)


def test_each_expert_is_told_with_its_own_values():
    high = lora_metadata(job(), "ba5e", 0.9, Expert.HIGH, 600, 200)
    low = lora_metadata(job(alpha=4.0), "ba5e", 0.9, Expert.LOW, 600, 400)
    assert (high.rank, high.alpha, low.rank, low.alpha) == (8, 8.0, 16, 4.0)
    assert (high.steps, high.steps_of_expert, low.steps_of_expert) == (600, 200, 400)
    assert high.interval == (0.85, 1.0)
    assert low.interval == (0.0, 0.95)
    assert (high.name, high.trigger, high.base_fingerprint, high.boundary) == ("orbit", "0rbit", "ba5e", 0.9)
    assert high.details["ss_learning_rate"] == "0.0001"
    assert low.details["ss_learning_rate"] == "5e-05"
    assert parse_metadata(high.to_strings(8.0)) == high


def test_the_same_job_and_steps_give_the_same_metadata_without_a_date():
    first, second = strings(Expert.HIGH), strings(Expert.HIGH)
    assert list(first.items()) == list(second.items())
    assert "modelspec.date" not in first


def test_the_settings_can_be_read_and_hold_every_section():
    settings = json.loads(strings(Expert.HIGH)["wan_studio.settings"])
    whole = msgspec.to_builtins(job())
    assert settings.keys() == whole.keys() - {"cache_folder"} | {"left_out"}
    for section in ("job", "multistage", "save", "training", "advanced"):
        assert settings[section] == json.loads(json.dumps(whole[section]))
    assert settings["training"]["steps"] == 1000
    assert settings["model"]["base"] == "Wan2.2-I2V"
    assert settings["model"]["vae"] == "own_vae.safetensors"
    assert settings["target"]["start_high"] == "old.safetensors"
    assert settings["target"]["start_low"] == ""
    assert [dataset["clips"] for dataset in settings["datasets"]] == [3, 1, 1]
    assert settings["sample"]["rows"][0]["prompt"] == "0rbit, a cup"
    assert "datasets.clips" in settings["left_out"]


def test_nothing_leads_back_to_the_user():
    everything = json.dumps(strings(Expert.LOW)).lower()
    for secret in ("ann", "secret", "cup.png", "whispered", "home", "c:", 'cache_folder\\":'):
        assert secret not in everything
    # The job itself is left as it was.
    before = job()
    public_settings(before)
    assert before == job()


def test_the_data_set_is_summed_up():
    told = strings(Expert.HIGH)
    turns, held, keep = json.loads(told["wan_studio.dataset"])
    assert turns == {
        "name": "turns",
        "role": "training",
        "clips": 3,
        "windows": 5,
        "repeats": 2,
        "frames": [5, 9],
        "resolutions": [64, 112],
        "sizes": ["128x96", "64x48"],
    }
    assert (held["role"], keep["role"]) == ("validation", "regularization")
    assert told["modelspec.resolution"] == told["ss_resolution"] == "128x96"
    assert (told["ss_num_train_images"], told["ss_num_reg_images"]) == ("6", "1")
    assert json.loads(told["ss_dataset_dirs"]) == {"turns": {"n_repeats": 2, "img_count": 3}}


def test_managers_find_their_words():
    told = strings(Expert.HIGH)
    assert (
        told.items()
        >= {
            "ss_network_dim": "8",
            "ss_optimizer": "adamw",
            "ss_steps": "200",
            "ss_max_train_steps": "1000",
            "ss_lr_warmup_steps": "10",
            "ss_lr_scheduler": "constant",
            "ss_output_name": "orbit_high_noise",
            "ss_base_model_version": "wan_2.2_14b",
            "modelspec.trigger_phrase": "0rbit",
            "modelspec.title": "orbit (high noise)",
            "modelspec.encoder_layer": "1",
        }.items()
    )
    # Two of the three captions hold the trigger.
    assert json.loads(told["ss_tag_frequency"]) == {"turns": {"0rbit": 2}}
    assert "ss_network_args" not in told
    assert json.loads(strings(Expert.HIGH, type="dora")["ss_network_args"]) == {"algo": "dora"}


def test_without_a_trigger_there_are_no_tags():
    plain = msgspec.structs.replace(job(), job=JobSection(name="orbit"))
    told = lora_metadata(plain, "ba5e", 0.9, Expert.LOW, 1, 1).to_strings(1.0)
    assert not {"ss_tag_frequency", "modelspec.trigger_phrase"} & told.keys()


def test_a_data_sets_own_trigger_counts_there():
    before = job()
    own = msgspec.structs.replace(before.datasets[0], trigger="words")
    told = lora_metadata(msgspec.structs.replace(before, datasets=(own,)), "b", 0.9, Expert.LOW, 1, 1)
    assert json.loads(told.details["ss_tag_frequency"]) == {"turns": {"words": 1}}
