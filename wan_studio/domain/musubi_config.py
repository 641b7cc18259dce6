"""The configuration of musubi-tuner for exported clips: its data set file, and the commands that cache and train.

Keys and options are those of its own parsers (0.3). It would train one LoRA for both experts at once; a pair
takes two runs, one for each, which is what the commands do. What it has no option for is a note.
"""

import json
from collections.abc import Mapping, Sequence
from typing import Any

from trainer.protocol.job import Expert
from wan_studio.domain.export_names import plain_name
from wan_studio.domain.export_plan import ExportedClip, ExportedSet, ExportPlan, rate_of
from wan_studio.domain.frame_sampling import MODEL_FRAMES_PER_SECOND, valid_frame_count
from wan_studio.domain.musubi_commands import training_arguments
from wan_studio.domain.project import DatasetSettings

DATASET_FILE = "musubi-tuner.toml"

_HEAD = "# Made by Wan Studio for musubi-tuner. If this folder is moved, export again.\n"


def musubi_files(plan: ExportPlan, root: str) -> tuple[dict[str, str], tuple[str, ...]]:
    """The configuration's files by their paths, and notes.

    Args:
        plan: With the clips that were written.
        root: The target folder, absolute.
    """
    notes: list[str] = []
    trained = [one for one in plan.sets if one.role != "validation"]
    if any(one.role == "regularization" for one in trained):
        notes.append(
            "musubi-tuner knows no regularization: those clips train like the others, with their own captions."
        )
    if any(letter in root for letter in "[]*?"):
        notes.append(
            f"musubi-tuner cannot find its caches in a folder with [, ], * or ? in its path: {root}. "
            "Export into another one."
        )
    training = plan.project.settings.training
    parts = [
        _HEAD,
        "\n[general]\n",
        _table({"caption_extension": ".txt", "batch_size": training.batch_size, "enable_bucket": True}),
    ]
    for one in trained:
        for folder in one.folders:
            for resolution in one.settings.resolutions:
                parts += ["\n[[datasets]]\n", _table(_dataset(one, folder, resolution, plan, root, notes))]
    arguments = {
        expert: training_arguments(plan.project.settings, expert, notes) for expert in _experts(plan)
    }
    name = plain_name(plan.project.name) or "lora"
    files = {
        DATASET_FILE: "".join(parts),
        "musubi-tuner.sh": _shell_script(name, arguments),
        "musubi-tuner.bat": _batch_script(name, arguments),
    }
    return files, tuple(dict.fromkeys(notes))


def _experts(plan: ExportPlan) -> list[Expert]:
    stages = plan.project.settings.multistage.stages
    return [expert for expert, other in ((Expert.HIGH, "low"), (Expert.LOW, "high")) if stages != other]


def _dataset(
    one: ExportedSet, folder: str, resolution: int, plan: ExportPlan, root: str, notes: list[str]
) -> dict[str, Any]:
    settings, clips = one.settings, one.clips_in(folder)
    is_images = clips[0].recipe.kind != "video"
    repeats = max(1, round(settings.repeats * settings.weight))
    if repeats != settings.repeats * settings.weight:
        notes.append(
            f"{one.name}: musubi-tuner takes whole repeats; {repeats} stand for "
            f"{settings.repeats * settings.weight:g}."
        )
    _note_what_is_lost(one, notes)
    made: dict[str, Any] = {
        "image_directory" if is_images else "video_directory": f"{root}/{folder}",
        "cache_directory": f"{root}/cache/{folder}-{resolution}",
        "resolution": [resolution, resolution],
        "bucket_no_upscale": not settings.allow_upscale,
        "num_repeats": repeats,
    }
    if is_images:
        return made
    if plan.options.frames == "as_seen":
        longest = max(len(clip.recipe.frames) for clip in clips)
        # The files hold exactly the frames that train, at the model's rate: all of them are taken.
        return {**made, "frame_extraction": "full", "max_frames": longest}
    return {**made, **_frames_of_sources(one, clips, notes)}


def _note_what_is_lost(one: ExportedSet, notes: list[str]) -> None:
    settings, plain = one.settings, DatasetSettings()
    lost = [
        words
        for words, field in (
            ("caption dropout", "caption_dropout"),
            ("the weight of the loss", "loss_weight"),
            ("the LoRA's strength", "lora_strength"),
        )
        if getattr(settings, field) != getattr(plain, field)
    ]
    if lost:
        notes.append(f"{one.name}: musubi-tuner has no setting for {' and '.join(lost)} of a data set.")


def _frames_of_sources(one: ExportedSet, clips: Sequence[ExportedClip], notes: list[str]) -> dict[str, Any]:
    """How windows are taken from clips at their sources' own rate, which all of a folder share."""
    settings, wanted = one.settings, valid_frame_count(one.settings.num_frames)
    rate = float(rate_of(clips[0].source))
    if rate < MODEL_FRAMES_PER_SECOND:
        notes.append(
            f"{one.name}: musubi-tuner repeats no frames, so clips of {rate:g} frames a second are learnt "
            f"{MODEL_FRAMES_PER_SECOND / rate:.1f} times too fast. Export the frames as the model sees them."
        )
    varying = [clip.source.name for clip in clips if clip.source.has_variable_rate]
    if varying:
        notes.append(
            f"musubi-tuner takes every rate for constant, which is wrong for {', '.join(dict.fromkeys(varying))}. "
            "Export the frames as the model sees them."
        )
    made: dict[str, Any] = {"source_fps": rate}
    match settings.sampling:
        case "sliding":
            notes.append(f"{one.name}: musubi-tuner passes over clips shorter than {wanted} frames.")
            return {
                **made,
                "target_frames": [wanted],
                "frame_extraction": "slide",
                "frame_stride": settings.window_stride,
            }
        case "random":
            notes.append(
                f"{one.name}: musubi-tuner spreads its {settings.windows} windows evenly, not by chance, and "
                f"passes over clips shorter than {wanted} frames."
            )
            return {
                **made,
                "target_frames": [wanted],
                "frame_extraction": "uniform",
                "frame_sample": settings.windows,
            }
        case "middle" | "whole_range":
            notes.append(
                f"{one.name}: musubi-tuner takes each clip's first frames; it cannot take "
                f"{'its middle' if settings.sampling == 'middle' else 'the whole of it'}. "
                "Export the frames as the model sees them."
            )
        case "real_speed":
            pass
    # As many as there are, up to this: "head" would pass over shorter clips.
    return {**made, "frame_extraction": "full", "max_frames": wanted}


def _table(values: Mapping[str, Any]) -> str:
    """Lines of TOML; its strings, numbers, truths and lists of them are written as JSON's are."""
    return "".join(f"{key} = {json.dumps(value, ensure_ascii=False)}\n" for key, value in values.items())


_VARIABLES = (
    ("MUSUBI", "/path/to/musubi-tuner", "its folder; its Python environment must be active"),
    ("DIT_HIGH", "/path/to/wan2.2_i2v_high_noise_14B_fp16.safetensors", "the high-noise expert"),
    ("DIT_LOW", "/path/to/wan2.2_i2v_low_noise_14B_fp16.safetensors", "the low-noise expert"),
    ("VAE", "/path/to/Wan2.1_VAE.pth", "of Wan 2.1, which 2.2 A14B uses"),
    ("T5", "/path/to/models_t5_umt5-xxl-enc-bf16.pth", "the text encoder"),
)
_ABOUT = (
    "Made by Wan Studio: caches the exported clips and trains a LoRA for each expert with musubi-tuner.",
    "Set these five paths, here or in the environment, and run it. LoRAs go to the folder output beside it.",
)


def _commands(name: str, arguments: Mapping[Expert, list[str]], variable: str, here: str) -> list[list[str]]:
    """The programs to run, one after another, as words.

    Args:
        name: Start of the LoRAs' names.
        arguments: Of each expert's training.
        variable: How a variable is written, with {} for its name.
        here: How the folder of the script is written.
    """

    def of(variable_name: str) -> str:
        return f'"{variable.format(variable_name)}"'

    def script(file: str) -> str:
        return f'"{variable.format("MUSUBI")}/src/musubi_tuner/{file}"'

    dataset = ["--dataset_config", f'"{here}/{DATASET_FILE}"']
    commands = [
        ["python", script("wan_cache_latents.py"), *dataset, "--vae", of("VAE"), "--i2v"],
        [
            "python",
            script("wan_cache_text_encoder_outputs.py"),
            *dataset,
            "--t5",
            of("T5"),
            "--batch_size",
            "16",
        ],
    ]
    for expert, words in arguments.items():
        dit = of("DIT_HIGH" if expert is Expert.HIGH else "DIT_LOW")
        commands.append(
            [
                *("accelerate", "launch", "--num_cpu_threads_per_process", "1", "--mixed_precision", "bf16"),
                *(script("wan_train_network.py"), "--task", "i2v-A14B", "--dit", dit, *dataset, *words),
                *("--output_dir", f'"{here}/output"', "--output_name", f"{name}_{expert}"),
            ]
        )
    return commands


def _shell_script(name: str, arguments: Mapping[Expert, list[str]]) -> str:
    lines = ["#!/bin/sh", *(f"# {line}" for line in _ABOUT), "set -eu", 'HERE=$(cd "$(dirname "$0")" && pwd)']
    lines += [f': "${{{name_}:={path}}}"  # {what}' for name_, path, what in _VARIABLES]
    for command in _commands(name, arguments, "${}", "$HERE"):
        lines += ["", " ".join(command)]
    return "\n".join(lines) + "\n"


def _batch_script(name: str, arguments: Mapping[Expert, list[str]]) -> str:
    lines = ["@echo off", *(f"rem {line}" for line in _ABOUT), "setlocal"]
    for name_, path, what in _VARIABLES:
        lines += [f"rem {name_}: {what}", f'if not defined {name_} set "{name_}={path}"']
    for command in _commands(name, arguments, "%{}%", "%~dp0."):
        lines += ["", f"{' '.join(command)} || exit /b 1"]
    return "\r\n".join(lines) + "\r\n"
