"""The options with which musubi-tuner trains one expert as a project says."""

from trainer.protocol.job import Expert
from wan_studio.domain.project import Settings

_BLOCKS = 40
_BOUNDARY = 0.9
_SAMPLING = {"linear": "uniform", "weighted": "uniform", "sigmoid": "sigmoid", "shift": "shift"}
_OPTIMIZERS = {
    "adamw8bit": "AdamW8bit",
    "adamw": "AdamW",
    "adafactor": "Adafactor",
    "prodigy": "prodigyopt.Prodigy",
    "lion": "bitsandbytes.optim.Lion",
}
_SCHEDULES = {"constant": "constant", "cosine": "cosine", "linear": "linear"}


def training_arguments(settings: Settings, expert: Expert, notes: list[str]) -> list[str]:
    """The words after the script's name, without paths; what they cannot say is added to the notes."""
    training, target = settings.training, settings.target

    def own(field: str, common: object) -> object:
        found = settings.multistage.override(expert, field)
        return common if found is None else found

    rank = own("rank", target.rank)
    kind = str(own("timestep_type", training.timestep_type))
    words = [
        *("--sdpa", "--mixed_precision", "bf16", "--gradient_checkpointing"),
        *("--network_module", "networks.lokr" if target.type == "lokr" else "networks.lora_wan"),
        *("--network_dim", f"{rank}", "--network_alpha", f"{target.alpha or rank:g}"),
        *("--learning_rate", f"{own('learning_rate', training.learning_rate):g}"),
        *("--optimizer_type", _OPTIMIZERS[training.optimizer], *_optimizer_arguments(settings)),
        *("--lr_scheduler", _schedule(settings), "--max_grad_norm", f"{training.max_grad_norm:g}"),
        *(
            "--max_train_steps",
            f"{_steps(settings, expert)}",
            "--save_every_n_steps",
            f"{settings.save.every}",
        ),
        *("--save_precision", settings.save.dtype, "--seed", f"{training.seed}"),
        *("--gradient_accumulation_steps", f"{training.gradient_accumulation}"),
        *("--timestep_sampling", _SAMPLING[kind]),
        *_range(settings, expert),
        *("--max_data_loader_n_workers", "2", "--persistent_data_loader_workers"),
    ]
    if kind == "shift":
        words += ["--discrete_flow_shift", f"{own('timestep_shift', training.timestep_shift):g}"]
        notes.append("musubi-tuner shifts the sigmoid's noise levels, not evenly spread ones.")
    if training.warmup_steps:
        words += ["--lr_warmup_steps", f"{training.warmup_steps}"]
    if target.dropout:
        words += ["--network_dropout", f"{target.dropout:g}"]
    if settings.quantization.transformer != "none":
        words += ["--fp8_base", "--fp8_scaled"]
    swapped = _BLOCKS - settings.model.resident_of(_BLOCKS)
    if swapped:
        words += ["--blocks_to_swap", f"{min(swapped, _BLOCKS - 1)}"]
    _note_what_is_lost(settings, kind, notes)
    return words


def _optimizer_arguments(settings: Settings) -> list[str]:
    words = [f"weight_decay={settings.training.weight_decay:g}"]
    if settings.training.optimizer == "adafactor":
        words += ["scale_parameter=False", "relative_step=False", "warmup_init=False"]
    return ["--optimizer_args", *words]


def _schedule(settings: Settings) -> str:
    training = settings.training
    is_warmed_up = training.warmup_steps and training.lr_schedule == "constant"
    return "constant_with_warmup" if is_warmed_up else _SCHEDULES[training.lr_schedule]


def _steps(settings: Settings, expert: Expert) -> int:
    """Of this expert's run: its part of the steps over both."""
    stages, steps = settings.multistage, settings.training.steps
    if stages.stages == "both":
        share = stages.high_share if expert is Expert.HIGH else 1 - stages.high_share
        steps = max(1, round(steps * share))
    most = stages.override(expert, "steps")
    return steps if most is None else min(steps, most)


def _range(settings: Settings, expert: Expert) -> list[str]:
    """The noise levels of the expert; the shape of their distribution is kept."""
    stages = settings.multistage
    boundary = _BOUNDARY if stages.boundary is None else stages.boundary
    if expert is Expert.HIGH:
        lowest, highest = max(0.0, boundary - stages.boundary_overlap), 1.0
    else:
        lowest, highest = 0.0, min(1.0, boundary + stages.boundary_overlap)
    return [
        *("--min_timestep", f"{round(1000 * lowest)}", "--max_timestep", f"{round(1000 * highest)}"),
        "--preserve_distribution_shape",
    ]


def _note_what_is_lost(settings: Settings, kind: str, notes: list[str]) -> None:
    training = settings.training
    lost = [
        words
        for words, is_set in (
            ("DoRA", settings.target.type == "dora"),
            ("4-bit storage (8 bits are used)", settings.quantization.transformer.startswith("nf4")),
            ("output preservation", training.diff_output_preservation or training.blank_prompt_preservation),
            ("differential guidance", settings.advanced.differential_guidance),
            ("a loss other than the squared one", training.loss != "mse"),
            ("a moving average", bool(training.ema_decay)),
            ("weighted or biased noise levels", kind == "weighted" or training.timestep_bias != "balanced"),
            (
                "a choice of layers",
                bool(settings.target.only_if_contains or settings.target.ignore_if_contains),
            ),
        )
        if is_set
    ]
    if lost:
        notes.append(f"musubi-tuner's commands leave out: {', '.join(lost)}.")
