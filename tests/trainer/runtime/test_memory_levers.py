"""What to change when memory ran out, in the order that costs least."""

import msgspec

from trainer.protocol.job import ModelSection, QuantizationSection, TrainingSection
from trainer.runtime.memory_levers import MemorySettings, advice, levers
from trainer.runtime.out_of_memory import Doing


def settings(frames=41, resolution=512, **sections) -> MemorySettings:
    return MemorySettings(
        model=ModelSection(**sections.get("model", {})),
        quantization=QuantizationSection(**sections.get("quantization", {})),
        training=TrainingSection(**sections.get("training", {})),
        frames=frames,
        resolution=resolution,
    )


def first(doing: Doing, given: MemorySettings) -> str:
    return next((lever.setting for lever in levers(doing, given)), "")


def applied(given: MemorySettings, setting: str) -> MemorySettings:
    name, _, value = setting.partition("=")
    section, field = name.split(".")
    if section == "datasets":
        key = "frames" if field == "num_frames" else "resolution"
        return MemorySettings(
            given.model,
            given.quantization,
            given.training,
            **{"frames": given.frames, "resolution": given.resolution, key: int(value)},
        )
    old = getattr(given, section)
    new = msgspec.convert(msgspec.structs.asdict(old) | {field: value}, type(old), strict=False)
    parts = {part: getattr(given, part) for part in ("model", "quantization", "training")}
    return MemorySettings(**parts | {section: new}, frames=given.frames, resolution=given.resolution)


def test_levers_are_pulled_in_order_until_none_is_left():
    given = settings(
        training={"kept_blocks": 4, "kept_activations": "sums", "batch_size": 2}, frames=13, resolution=384
    )
    pulled = []
    while lever := first(Doing.BACKWARD, given):
        pulled.append(lever)
        given = applied(given, lever)
        assert len(pulled) < 40
    assert pulled[:15] == [
        "training.kept_blocks=0",
        "training.kept_activations=attention",
        "model.checkpoint_offloading=true",
        "model.layer_offloading=0.3",
        "model.layer_offloading=0.6",
        "model.layer_offloading=1",
        "model.feed_forward_chunks=4",
        "model.feed_forward_chunks=16",
        "training.kept_activations=nothing",
        "quantization.transformer=float8",
        "quantization.transformer=nf4",
        "training.batch_size=1",
        "datasets.num_frames=9",
        "datasets.num_frames=5",
        "datasets.resolutions=288",
    ]
    assert pulled[-1] == "datasets.resolutions=256"
    assert "Nothing is left" in advice(levers(Doing.BACKWARD, given))


def test_blocks_that_are_counted_are_halved():
    assert first(Doing.LOADING, settings(model={"resident_blocks": 20})) == "model.resident_blocks=10"
    none_left = settings(model={"resident_blocks": 0})
    assert first(Doing.LOADING, none_left) == "quantization.transformer=float8"


def test_what_is_not_checkpointed_is_checkpointed_before_all_else():
    given = settings(training={"gradient_checkpointing": False, "kept_blocks": 3})
    assert first(Doing.FORWARD, given) == "training.gradient_checkpointing=true"


def test_each_kind_of_work_has_its_own_levers():
    assert first(Doing.LOADING, settings(model={"low_vram": False})) == "model.low_vram=true"
    assert first(Doing.CACHING_TEXT, settings()) == "quantization.text_encoder=float8"
    assert first(Doing.CACHING_TEXT, settings(quantization={"text_encoder": "cpu"})) == ""
    assert first(Doing.CACHING_LATENTS, settings()) == "quantization.vae=bf16"
    half = settings(quantization={"vae": "bf16"})
    assert first(Doing.CACHING_LATENTS, half) == "datasets.num_frames=29"


def test_the_advice_says_what_the_run_can_go_on_with_and_what_needs_a_new_one():
    offloaded = settings(
        model={"layer_offloading": 1.0, "checkpoint_offloading": True, "feed_forward_chunks": 16},
        training={"kept_activations": "nothing"},
    )
    words = advice(levers(Doing.BACKWARD, offloaded))
    assert words.startswith("Start a new run with --set quantization.transformer=float8")
    assert advice(levers(Doing.BACKWARD, settings())).startswith(
        "Resume with --set model.checkpoint_offloading=true"
    )


def test_whatever_a_run_can_go_on_with_comes_before_what_needs_a_new_one():
    for doing in Doing:
        resumes = [lever.resumes for lever in levers(doing, settings(training={"kept_blocks": 2}))]
        assert resumes == sorted(resumes, reverse=True), doing
