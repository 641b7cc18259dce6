"""The words of the command line."""

import argparse
from collections.abc import Sequence
from pathlib import Path

from wan_studio import __version__


def parse(argv: Sequence[str]) -> argparse.Namespace:
    """Parse the arguments; `command` is None when there is no subcommand.

    Raises:
        SystemExit: they are wrong (code 2, said on stderr), or help or version was asked for (0).
    """
    parser = argparse.ArgumentParser(
        prog="wan-studio",
        description="Make LoRAs for Wan 2.2 I2V A14B from video clips. Without a command the window opens.",
        epilog="Exit codes: 0 done, 1 the training failed, 2 bad input, 3 no plan fits, 130 stopped.",
    )
    parser.add_argument("--version", action="version", version=f"wan-studio {__version__}")
    commands = parser.add_subparsers(dest="command", metavar="COMMAND")
    _add_demo(commands)
    _add_train(commands)
    _add_run_commands(commands)
    _add_export_dataset(commands)
    _add_caption(commands)
    _add_plan(commands)
    commands.add_parser("doctor", help="what this machine has and lacks, and what to do about it")
    return parser.parse_args(list(argv))


def _add_demo(commands: "argparse._SubParsersAction[argparse.ArgumentParser]") -> None:
    demo = commands.add_parser(
        "demo", help="the whole way in a few minutes: made-up clips, the miniature model, a LoRA pair"
    )
    demo.add_argument(
        "--headless", action="store_true", help="in the terminal, even where there is a display"
    )
    demo.add_argument(
        "--out", type=Path, metavar="DIR", help="project folder (default: demo among the projects)"
    )


def _add_train(commands: "argparse._SubParsersAction[argparse.ArgumentParser]") -> None:
    train = commands.add_parser("train", help="train a LoRA pair on a folder of clips")
    train.add_argument("--clips", type=Path, required=True, metavar="DIR", help="folder of videos or images")
    train.add_argument(
        "--regularization",
        type=Path,
        metavar="DIR",
        help="folder of clips that keep what the model knows; they get no trigger word",
    )
    train.add_argument(
        "--validation",
        type=Path,
        metavar="DIR",
        help="folder of clips that do not train: the loss on them is measured",
    )
    train.add_argument(
        "--goal", required=True, choices=("motion", "style", "character"), help="what to learn"
    )
    train.add_argument(
        "--model",
        required=True,
        metavar="PATH|NAME|miniature",
        help="the base model: a folder in the diffusers layout or of the original release, ComfyUI's models folder "
        "or one of its expert files, a repository of the Hugging Face Hub, or the embedded miniature",
    )
    train.add_argument(
        "--trigger", metavar="WORD", help="the word that calls the LoRA; [trigger] in captions"
    )
    train.add_argument("--steps", type=int, metavar="N", help="optimizer steps over both experts together")
    train.add_argument(
        "--frames", type=int, metavar="N", help="frames of a clip as it trains: 5, 9, 13 ... 81"
    )
    train.add_argument("--resolution", metavar="512[,768]", help="side of the square whose area a clip keeps")
    train.add_argument("--name", metavar="NAME", help="of the project and its LoRA files")
    train.add_argument(
        "--out", type=Path, metavar="DIR", help="project folder; an existing project is gone on with"
    )
    train.add_argument(
        "--set",
        action="append",
        default=[],
        dest="assignments",
        metavar="SECTION.FIELD=VALUE",
        help="any setting, e.g. target.rank=32, or regularization.repeats=2 (may be repeated)",
    )
    train.add_argument(
        "--plan",
        choices=("balanced", "fastest", "safest", "none"),
        default="balanced",
        help="take the settings of memory, sizes and frames that suit this machine, but for those given"
        " (default: balanced; not for a project that is gone on with)",
    )
    train.add_argument("--skip-unreadable", action="store_true", help="leave out clips that cannot be read")
    train.add_argument(
        "--continue-by-itself",
        action="store_true",
        help="where GPU memory runs out, go on with the next plan that fits, once for each kind of change"
        " (in the terminal)",
    )
    train.add_argument(
        "--headless", action="store_true", help="in the terminal, even where there is a display"
    )


def _add_run_commands(commands: "argparse._SubParsersAction[argparse.ArgumentParser]") -> None:
    run_help = "a run's folder, or a project's (its latest run)"
    resume = commands.add_parser(
        "resume", help="go on with a run from its last checkpoint, or follow a live one"
    )
    resume.add_argument("run", type=Path, metavar="RUN", help=run_help)
    resume.add_argument(
        "--set",
        action="append",
        default=[],
        dest="assignments",
        metavar="SECTION.FIELD=VALUE",
        help="another setting of memory, e.g. model.layer_offloading=0.6 (may be repeated)",
    )
    resume.add_argument(
        "--continue-by-itself",
        action="store_true",
        help="where GPU memory runs out, go on with the next plan that fits, once for each kind of change",
    )
    stop = commands.add_parser("stop", help="let a live run save its state and end")
    stop.add_argument("run", type=Path, metavar="RUN", help=run_help)
    export = commands.add_parser("export", help="write a run's LoRA pair and verify it")
    export.add_argument("run", type=Path, metavar="RUN", help=run_help)
    export.add_argument("--step", type=int, metavar="N", help="checkpoint (default: the last)")
    export.add_argument(
        "--out", type=Path, metavar="DIR", help="folder (default: exports in the run's folder)"
    )
    export.add_argument("--name", metavar="NAME", help="start of the files' names (default: the run's name)")
    export.add_argument(
        "--format",
        choices=("original", "diffusers", "kohya"),
        help="whose key names (default: original, which ComfyUI reads)",
    )
    export.add_argument(
        "--dtype", choices=("bf16", "fp16", "fp32"), help="number type (default: the checkpoint's)"
    )
    export.add_argument(
        "--strength", type=float, metavar="S", help="fold a strength into the weights (default: 1)"
    )


def _add_export_dataset(commands: "argparse._SubParsersAction[argparse.ArgumentParser]") -> None:
    export = commands.add_parser(
        "export-dataset", help="write the trimmed and cropped clips with their captions for another trainer"
    )
    export.add_argument("project", type=Path, nargs="?", metavar="PROJECT", help="a project's folder")
    export.add_argument("--clips", type=Path, metavar="DIR", help="a folder of clips instead of a project")
    export.add_argument("--out", type=Path, required=True, metavar="DIR", help="folder to write into")
    export.add_argument(
        "--layout",
        choices=("folder", "ai-toolkit", "musubi-tuner"),
        default="folder",
        help="whose folders and configuration (default: folder, clips and captions alone)",
    )
    export.add_argument(
        "--codec",
        choices=("h264", "ffv1"),
        default="h264",
        help="H.264 near lossless, or FFV1, lossless (default: h264)",
    )
    export.add_argument(
        "--frames",
        choices=("source", "as-seen"),
        default="source",
        help="every frame of each range at its own time, or exactly those that train here, at 16 a second "
        "(default: source)",
    )
    export.add_argument("--trigger", metavar="WORD", help="the trigger word (default: the project's)")
    export.add_argument(
        "--set",
        action="append",
        default=[],
        dest="assignments",
        metavar="SECTION.FIELD=VALUE",
        help="any setting for this export alone, e.g. datasets.num_frames=81 (may be repeated)",
    )


def _add_caption(commands: "argparse._SubParsersAction[argparse.ArgumentParser]") -> None:
    caption = commands.add_parser(
        "caption", help="let a local vision-language model write captions for a folder of clips"
    )
    caption.add_argument(
        "--clips", type=Path, required=True, metavar="DIR", help="folder of videos or images"
    )
    caption.add_argument(
        "--model",
        required=True,
        metavar="PATH|NAME",
        help="a Qwen2-VL, Qwen2.5-VL or Qwen3-VL model: its folder, or its name on the Hugging Face Hub",
    )
    caption.add_argument(
        "--goal", required=True, choices=("motion", "style", "character"), help="what will be learnt"
    )
    caption.add_argument("--trigger", default="", metavar="WORD", help="captions name it as [trigger]")
    caption.add_argument(
        "--instructions",
        type=Path,
        metavar="FILE",
        help="what to tell the model, instead of what suits the goal",
    )
    caption.add_argument(
        "--overwrite",
        choices=("none", "all"),
        default="none",
        help="none: clips that have a caption are passed over (default); all: described, too, and written anew",
    )
    caption.add_argument(
        "--dry-run", action="store_true", help="show what would be written, and write nothing"
    )
    caption.add_argument(
        "--frames", type=int, default=12, metavar="N", help="most frames of a clip (default: 12)"
    )
    caption.add_argument(
        "--bits",
        type=int,
        choices=(16, 8, 4),
        default=16,
        help="how the language model is stored (default: 16)",
    )
    caption.add_argument(
        "--max-tokens", type=int, default=200, metavar="N", help="longest caption (default: 200)"
    )
    caption.add_argument(
        "--temperature", type=float, default=0.0, metavar="T", help="0 takes the likeliest words (default)"
    )
    caption.add_argument("--gpu", type=int, default=0, metavar="N", help="number of the GPU (default: 0)")
    caption.add_argument("--cpu", action="store_true", help="compute on the CPU")
    caption.add_argument("--json", action="store_true", help="for programs")


def _add_plan(commands: "argparse._SubParsersAction[argparse.ArgumentParser]") -> None:
    plan = commands.add_parser(
        "plan", help="the settings that suit this machine, or another, and what they take"
    )
    plan.add_argument("--vram", type=float, metavar="GIB", help="plan for a GPU of so much memory")
    plan.add_argument("--free-vram", type=float, metavar="GIB", help="of which so much is free")
    plan.add_argument("--ram", type=float, metavar="GIB", help="plan for so much RAM")
    plan.add_argument("--gpu", metavar="NAME", help='plan for this card, e.g. "RTX 4070"')
    plan.add_argument("--capability", metavar="X.Y", help="its compute capability, e.g. 8.9")
    plan.add_argument("--clips", type=Path, metavar="DIR", help="folder of the clips that will train")
    plan.add_argument(
        "--goal", default="motion", choices=("motion", "style", "character"), help="what to learn"
    )
    plan.add_argument(
        "--flavour",
        default="balanced",
        choices=("balanced", "fastest", "safest"),
        help="what matters most (default: balanced)",
    )
    plan.add_argument("--json", action="store_true", help="for programs")
