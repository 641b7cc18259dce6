"""``python -m trainer measure``: the words of the measurements, and what they print.

Imports nothing heavy by itself: the command line is parsed before torch is loaded.
"""

import argparse
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

from trainer.errors import TrainerError

if TYPE_CHECKING:
    from trainer.recipes.measure_case import Case, Measured


class CaseError(TrainerError):
    """A case that cannot be read."""

    kind = "measure_case"

    def __init__(self, text: str, problem: str) -> None:
        super().__init__(
            f"--case {text} cannot be measured: {problem}.",
            "Write it like --case width=768,height=768,mode=nf4,resident=0,keep=nothing,cap=12.",
        )


def add_measure_options(parser: argparse.ArgumentParser) -> None:
    """Add what the verb takes."""
    parser.add_argument(
        "--case",
        action="append",
        default=[],
        metavar="NAME=VALUE,...",
        help="what to measure, as often as wanted: work (step, latents, text, preview, decode), width, height, frames, mode (none, float8, float8_compute, "
        "nf4, nf4_recovered), keep (nothing, attention, sums, everything), kept_blocks, resident, low_vram, offload, "
        "chunks, cap, experts, rank, batch, layers, steps, vae (none, bf16)",
    )
    parser.add_argument("--cap", type=float, metavar="GIB", help="emulate a card of this size in every case")
    parser.add_argument("--explain", action="store_true", help="list what stays on the GPU")
    parser.add_argument("--errors", action="store_true", help="instead: what each mode costs in precision")
    parser.add_argument("--json", type=Path, metavar="FILE", help="write the results for programs, too")
    parser.add_argument("--gpu", type=int, default=0)


def run_measure(options: argparse.Namespace) -> list[str]:
    """Measure what the options say and print it as it comes; returns lines that are still to be printed.

    Raises:
        TrainerError: a case cannot be read, or there is no such GPU.
    """
    import msgspec
    import torch

    from trainer.protocol.wire import write_atomic
    from trainer.recipes.measure import measure
    from trainer.recipes.measure_case import explain
    from trainer.runtime.device import choose_device

    cases = [read_case(text, options.cap) for text in options.case or [""]]
    device = choose_device(options.gpu)
    if options.errors:
        from trainer.recipes.measure_errors import report_errors

        return report_errors(device)
    if device.type != "cuda" and any(_needs_gpu(case) for case in cases):
        raise TrainerError(
            "There is no GPU here, and the real model takes minutes for this on a CPU.",
            "Measure fewer blocks: --case layers=1,width=128,height=128,frames=5.",
        )
    _say(
        f"torch {torch.__version__}, {torch.cuda.get_device_name(device) if device.type == 'cuda' else 'CPU'}"
    )

    def keep(results: "list[Measured]") -> None:
        if options.json:
            # After each case: a measurement may take an hour, and be stopped.
            write_atomic(options.json, msgspec.json.format(msgspec.json.encode(results)))
        if options.explain:
            for line in explain(results[-1]):
                _say(line)

    measure(cases, device, _say, on_result=keep)
    return []


def _needs_gpu(case: "Case") -> bool:
    from trainer.model.random_base import ModelConfigs
    from trainer.runtime.device import MOST_CPU_WIDTH

    if case.work == "text":
        return ModelConfigs().text["d_model"] > MOST_CPU_WIDTH
    return case.work in ("step", "preview") and case.layers > 2


def read_case(text: str, cap: float | None) -> Any:
    """A case from its words; what they leave out is as in `Case`.

    Raises:
        CaseError: an unknown name, or a value that it does not take.
    """
    import msgspec

    from trainer.recipes.measure_case import Case

    given: dict[str, str] = {} if cap is None else {"cap": str(cap)}
    for part in filter(None, text.split(",")):
        name, equals, value = part.partition("=")
        if not equals:
            raise CaseError(text, f"{part} has no value")
        given[name.strip()] = value.strip()
    try:
        return msgspec.convert(given, Case, strict=False)
    except msgspec.ValidationError as error:
        raise CaseError(text, str(error).replace("`", "")) from error


def _say(line: str) -> None:
    sys.stdout.write(f"{line}\n")
    sys.stdout.flush()
