"""The configuration of ai-toolkit for exported clips: a job for Wan 2.2 I2V 14B with the project's settings.

Its keys and their meaning are those of its own parser and loader (0.12). What it has no key for is a note.
"""

import re
from typing import Any

import yaml

from trainer.protocol.base_names import is_hub_name
from wan_studio.domain.caption import with_trigger
from wan_studio.domain.clip import TrimRange
from wan_studio.domain.export_plan import ExportedSet, ExportPlan
from wan_studio.domain.frame_sampling import MODEL_FRAMES_PER_SECOND, sampled_length, valid_frame_count
from wan_studio.domain.project import Settings

_BASE = "ai-toolkit/Wan2.2-I2V-A14B-Diffusers-bf16"
_RECOVERY_4_BIT = "uint4|ostris/accuracy_recovery_adapters/wan22_14b_i2v_torchao_uint4.safetensors"
_LAYER_NAMES = (
    ("self_attn", "attn1"),
    ("cross_attn", "attn2"),
    (r"\.([qkv])$", r".to_\1"),
    (r"\.o$", ".to_out"),
    (r"ffn\.(?=\d)", "ffn.net."),
)
_BIAS = {"balanced": "balanced", "high_noise": "content", "low_noise": "style"}
_QTYPES = {"float8": "qfloat8", "float8_compute": "qfloat8", "nf4": "uint4", "nf4_recovered": _RECOVERY_4_BIT}


def ai_toolkit_files(plan: ExportPlan, root: str) -> tuple[dict[str, str], tuple[str, ...]]:
    """The configuration file by its path, and notes.

    Args:
        plan: With the clips that were written.
        root: The target folder, absolute.
    """
    notes: list[str] = []
    settings, project = plan.project.settings, plan.project
    datasets = [_dataset(one, plan, root, notes) for one in plan.sets if one.role != "validation"]
    process: dict[str, Any] = {
        "type": "sd_trainer",
        "training_folder": "output",
        "device": f"cuda:{settings.job.gpu}",
        **({"trigger_word": project.trigger.strip()} if project.trigger.strip() else {}),
        "network": _network(settings, notes),
        "save": {
            "dtype": settings.save.dtype,
            "save_every": settings.save.every,
            "max_step_saves_to_keep": settings.save.keep,
        },
        "datasets": datasets,
        "train": _train(settings, notes),
        "model": _model(settings),
        "sample": _sample(plan, root),
    }
    if not plan.rows:
        process["train"]["disable_sampling"] = True
    config = {
        "job": "extension",
        "config": {"name": project.name, "process": [process]},
        "meta": {"name": "[name]", "version": "1.0"},
    }
    head = (
        "# Made by Wan Studio for ai-toolkit: python run.py FILE. If this folder is moved, export again.\n"
        "# Captions have [trigger] where the trigger word stands.\n"
    )
    text = head + yaml.safe_dump(config, sort_keys=False, allow_unicode=True, width=1000)
    if settings.multistage.boundary != 0.875:
        notes.append("ai-toolkit divides the experts at 0.875, whatever is set here.")
    return {"ai-toolkit.yaml": text}, tuple(notes)


def _dataset(one: ExportedSet, plan: ExportPlan, root: str, notes: list[str]) -> dict[str, Any]:
    settings = one.settings
    made: dict[str, Any] = {
        "folder_path": f"{root}/{one.folders[0]}",
        "caption_ext": "txt",
        "resolution": list(settings.resolutions),
        **_frames(one, plan, notes),
        "num_repeats": max(1, round(settings.repeats * settings.weight)),
        "caption_dropout_rate": settings.caption_dropout,
        "loss_multiplier": settings.loss_weight,
        "network_weight": settings.lora_strength,
        "is_reg": one.role == "regularization",
        # Mirrored copies are files of their own, with captions turned round.
        "flip_x": False,
        "flip_y": False,
    }
    if one.trigger and one.trigger != plan.project.trigger.strip():
        made["trigger_word"] = one.trigger
    if settings.repeats * settings.weight != made["num_repeats"]:
        notes.append(
            f"{one.name}: ai-toolkit takes whole repeats; {made['num_repeats']} stand for "
            f"{settings.repeats * settings.weight:g}."
        )
    return made


def _frames(one: ExportedSet, plan: ExportPlan, notes: list[str]) -> dict[str, Any]:
    """How it takes frames: evenly over the whole clip, or at a rate from the clip's start."""
    settings = one.settings
    wanted = valid_frame_count(settings.num_frames)
    videos = [clip for clip in one.clips if clip.recipe.kind == "video"]
    if plan.options.frames == "as_seen" or not videos:
        # Every frame of every clip: clips of one length are taken evenly, others by their own length.
        lengths = {len(clip.recipe.frames) for clip in videos}
        length = max(lengths, default=1)
        return _frame_keys(length, is_shrunk=True, is_by_length=len(lengths) > 1)
    if settings.sampling == "whole_range":
        return _frame_keys(wanted, is_shrunk=True, is_by_length=False)
    longest = max(
        sampled_length(
            clip.source, TrimRange(clip.recipe.frames[0], clip.recipe.frames[-1] + 1), 10_001
        ).frames
        for clip in videos
    )
    if longest <= wanted:
        return _frame_keys(wanted, is_shrunk=True, is_by_length=True)
    notes.append(
        f"{one.name}: ai-toolkit takes {wanted} frames from a place by chance, in whole steps of the clip's own "
        'frames, not exactly 16 a second. Export the frames "as the model sees them" to train on the same ones.'
    )
    return _frame_keys(wanted, is_shrunk=False, is_by_length=False)


def _frame_keys(frames: int, *, is_shrunk: bool, is_by_length: bool) -> dict[str, Any]:
    return {
        "num_frames": frames,
        "shrink_video_to_frames": is_shrunk,
        "auto_frame_count": is_by_length,
        "fps": MODEL_FRAMES_PER_SECOND,
    }


def _network(settings: Settings, notes: list[str]) -> dict[str, Any]:
    target, stages = settings.target, settings.multistage
    made: dict[str, Any] = {
        "type": target.type,
        "linear": target.rank,
        "linear_alpha": target.alpha or target.rank,
    }
    if target.dropout:
        made["dropout"] = target.dropout
    words = {
        name: [_layer_name(word) for word in value]
        for name, value in (
            ("only_if_contains", target.only_if_contains),
            ("ignore_if_contains", target.ignore_if_contains),
        )
        if value
    }
    if words:
        made["network_kwargs"] = words
    if target.alpha is not None and target.alpha != target.rank:
        notes.append("ai-toolkit trains this model's LoRA at a strength of one, whatever its alpha.")
    own = [
        field
        for field in stages.__struct_fields__
        if field.startswith(("high_", "low_"))
        and field != "high_share"
        and getattr(stages, field) is not None
    ]
    if own or stages.high_share != 0.5:
        notes.append(
            "ai-toolkit trains both experts alike: what is set for one of them alone, and their share of the "
            "steps, is left out."
        )
    return made


def _layer_name(word: str) -> str:
    """A part of a layer's name as diffusers has it, which ai-toolkit goes by."""
    for ours, theirs in _LAYER_NAMES:
        word = re.sub(ours, theirs, word)
    return word


def _train(settings: Settings, notes: list[str]) -> dict[str, Any]:
    training = settings.training
    schedule: dict[str, Any] = {"lr_scheduler": training.lr_schedule}
    if training.lr_schedule == "linear":
        schedule["lr_scheduler_params"] = {"start_factor": 1.0, "end_factor": 0.0}
    if training.warmup_steps and training.lr_schedule == "constant":
        schedule = {
            "lr_scheduler": "constant_with_warmup",
            "lr_scheduler_params": {"num_warmup_steps": training.warmup_steps},
        }
    elif training.warmup_steps:
        notes.append("ai-toolkit has no warmup for this schedule; it is left out.")
    made: dict[str, Any] = {
        "batch_size": training.batch_size,
        "steps": training.steps,
        "gradient_accumulation": training.gradient_accumulation,
        "train_unet": True,
        "train_text_encoder": False,
        "gradient_checkpointing": True,
        "noise_scheduler": "flowmatch",
        "timestep_type": training.timestep_type,
        "content_or_style": _BIAS[training.timestep_bias],
        "loss_type": {"huber": "pseudo_huber"}.get(training.loss, training.loss),
        "optimizer": training.optimizer,
        "optimizer_params": {"weight_decay": training.weight_decay},
        "lr": training.learning_rate,
        "max_grad_norm": training.max_grad_norm,
        **schedule,
        "dtype": "bf16",
        "switch_boundary_every": settings.multistage.switch_every,
        "cache_text_embeddings": True,
        "diff_output_preservation": training.diff_output_preservation,
        "diff_output_preservation_class": training.diff_output_preservation_class,
        "diff_output_preservation_multiplier": training.preservation_multiplier,
        "blank_prompt_preservation": training.blank_prompt_preservation,
        "blank_prompt_preservation_multiplier": training.preservation_multiplier,
        "do_differential_guidance": settings.advanced.differential_guidance,
        "differential_guidance_scale": settings.advanced.differential_guidance_scale,
    }
    if training.ema_decay:
        made["ema_config"] = {"use_ema": True, "ema_decay": training.ema_decay}
    if training.diff_output_preservation and training.blank_prompt_preservation:
        made["blank_prompt_preservation"] = False
        notes.append("ai-toolkit keeps either the class's output or the empty prompt's; here the class's.")
    return made


def _model(settings: Settings) -> dict[str, Any]:
    model, stored = settings.model, settings.quantization.transformer
    is_repository = is_hub_name(model.base) and model.base.endswith("-Diffusers")
    made: dict[str, Any] = {
        "name_or_path": model.base if is_repository else _BASE,
        "arch": "wan22_14b_i2v",
        "quantize": stored != "none",
        **({"qtype": _QTYPES[stored]} if stored != "none" else {}),
        "quantize_te": settings.quantization.text_encoder == "float8",
        "qtype_te": "qfloat8",
        "low_vram": model.low_vram,
        "model_kwargs": {
            "train_high_noise": settings.multistage.stages != "low",
            "train_low_noise": settings.multistage.stages != "high",
        },
    }
    if model.layer_offloading:
        made["layer_offloading"] = True
        made["layer_offloading_transformer_percent"] = model.layer_offloading
    return made


def _sample(plan: ExportPlan, root: str) -> dict[str, Any]:
    sample = plan.project.settings.sample
    made: dict[str, Any] = {
        "sampler": "flowmatch",
        "sample_every": max(1, sample.every),
        "fps": MODEL_FRAMES_PER_SECOND,
        "neg": sample.negative_prompt,
        "walk_seed": sample.walk_seed,
        "guidance_scale": sample.guidance_high,
        "sample_steps": sample.steps,
    }
    # Every one has its first frame: without one this model cannot be sampled.
    made["samples"] = [
        {
            "prompt": with_trigger(row.prompt, plan.project.trigger),
            "ctrl_img": row.picture if _is_absolute(row.picture) else f"{root}/{row.picture}",
            "width": row.width,
            "height": row.height,
            "num_frames": row.num_frames,
            "seed": row.seed,
        }
        for row in plan.rows
    ]
    return made


def _is_absolute(path: str) -> bool:
    return path.startswith(("/", "\\")) or path[1:2] == ":"
