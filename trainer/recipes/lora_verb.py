"""``python -m trainer lora ...``: the words of the tools for LoRA files, and the tool that they call.

Imports nothing heavy by itself: the command line is parsed before torch is loaded.
"""

import argparse
from collections.abc import Callable
from pathlib import Path

FORMATS = ("original", "diffusers", "kohya")
DTYPES = ("bf16", "fp16", "fp32")


def add_lora_verb(
    verbs: "argparse._SubParsersAction[argparse.ArgumentParser]", verb: Callable[[argparse.Namespace], int]
) -> None:
    """Add the verb and its tools; `verb` is called with the options, of which `run_tool` makes use."""
    lora = verbs.add_parser("lora", help="convert, resize, scale, merge or describe LoRA files")
    tools = lora.add_subparsers(required=True, metavar="TOOL", dest="tool")

    convert = tools.add_parser("convert", help="other names (ComfyUI: original) or another number type")
    _add_files(convert)
    convert.add_argument("--format", choices=FORMATS, help="whose key names; unchanged unless given")

    resize = tools.add_parser("resize", help="another rank, by singular values; reports what is lost")
    _add_files(resize)
    resize.add_argument("--rank", type=int, required=True)

    scale = tools.add_parser("scale", help="fold a strength into the weights")
    _add_files(scale)
    scale.add_argument("--strength", type=float, required=True)

    merge = tools.add_parser("merge", help="add two LoRAs of one expert up, each at a strength")
    merge.add_argument("first", type=Path, metavar="A")
    merge.add_argument("second", type=Path, metavar="B")
    _add_outcome(merge)
    merge.add_argument("--strength-a", type=float, default=1.0)
    merge.add_argument("--strength-b", type=float, default=1.0)
    merge.add_argument("--rank", type=int, help="of the result; the ranks' sum, exact, unless given")

    info = tools.add_parser("info", help="what a LoRA file is and holds")
    info.add_argument("source", type=Path, metavar="IN")
    _add_base(info)
    for tool in (convert, resize, scale, merge, info):
        tool.set_defaults(verb=verb)


def run_tool(options: argparse.Namespace) -> list[str]:
    """Do what the options say; returns lines to print, the path of a file made first.

    Raises:
        TrainerError: the tool cannot do it.
    """
    from trainer.recipes import edit_lora

    if options.tool == "info":
        return edit_lora.describe_file(options.source, options.base)
    outcome = edit_lora.Outcome(
        path=options.out,
        format=getattr(options, "format", None),
        dtype=options.dtype,
        base=options.base,
        force=options.force,
    )
    match options.tool:
        case "convert":
            return edit_lora.convert_lora(options.source, outcome)
        case "resize":
            return edit_lora.resize_lora(options.source, outcome, options.rank)
        case "scale":
            return edit_lora.scale_lora(options.source, outcome, options.strength)
        case _:
            request = edit_lora.MergeRequest(
                options.first, options.second, options.strength_a, options.strength_b, options.rank
            )
            return edit_lora.merge_loras(request, outcome)


def add_export_options(parser: argparse.ArgumentParser) -> None:
    """The options that shape exported files."""
    parser.add_argument("--format", choices=FORMATS, default="original", help="whose key names")
    parser.add_argument("--dtype", choices=DTYPES, help="number type; the checkpoint's unless given")
    parser.add_argument("--strength", type=float, default=1.0, help="folded into the weights")


def _add_files(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("source", type=Path, metavar="IN")
    _add_outcome(parser)


def _add_outcome(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("out", type=Path, metavar="OUT")
    parser.add_argument("--dtype", choices=DTYPES, help="number type; unchanged unless given")
    parser.add_argument("--force", action="store_true", help="replace OUT; merge whatever the experts")
    _add_base(parser)


def _add_base(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "--base", default="", help="base model to check against; A14B by the sizes unless given"
    )
