"""Fit the memory model's constants to half of the measurements; run by hand after new ones.

python tests/wan_studio/domain/fit_memory_constants.py

Prints what least squares find beside what stands in `memory_constants`. The other half is left out, so that the
test of the model on it tests something.
"""

import sys
from pathlib import Path

import numpy as np

sys.path.insert(0, str(Path(__file__).resolve().parents[3]))

from tests.wan_studio.domain.memory_cases import CASES, forecast_of, shape_of
from wan_studio.domain import memory_constants as constants
from wan_studio.domain.memory_constants import GIB
from wan_studio.domain.model_sizes import A14B
from wan_studio.domain.vram_plan import Part

KEEPS = ("nothing", "attention", "sums", "everything")


def main() -> None:
    """Fit and print."""
    fitted = [case for case in CASES if case["fitted"]]
    rows, wanted, slack = [], [], []
    for case in fitted:
        forecast = forecast_of(case)
        width = A14B.expert.width
        unit = case["batch"] * shape_of(case).tokens * width * 2 / GIB
        stays = (
            sum(size for part, size in forecast.parts if part not in (Part.WORK, Part.RESERVE, Part.CUDA))
            / GIB
        )
        is_dense = case["mode"] not in ("none", "float8_compute")
        dense = width * A14B.expert.feed_forward * 2 / GIB if is_dense else 0.0
        keep = "everything" if case["kept_blocks"] else case["keep"]
        rows.append(
            [
                *(unit if keep == one else 0.0 for one in KEEPS),
                -unit if case["mode"] != "float8_compute" else 0.0,
                -unit if case["chunks"] > 1 else 0.0,
                1.0,
            ]
        )
        wanted.append(case["allocated_gib"] - stays - dense - 10 * case["rank"] / width * unit)
        slack.append((unit, case["reserved_gib"] - case["allocated_gib"]))
    found, *_ = np.linalg.lstsq(np.array(rows), np.array(wanted), rcond=None)
    units, spare = np.array(slack).T
    reserve, *_ = np.linalg.lstsq(np.stack([units, np.ones_like(units)], 1), spare, rcond=None)
    standing = [
        *(constants.BACKWARD_ROWS[keep] for keep in KEEPS),
        constants.PLAIN_ROWS_SAVED,
        constants.CHUNKED_ROWS_SAVED,
        constants.STEP_BYTES / GIB,
        constants.RESERVE_ROWS,
        constants.RESERVE_BYTES / GIB,
    ]
    names = [
        *(f"rows, {keep} kept" for keep in KEEPS),
        "plain saves",
        "chunks save",
        "step, GiB",
        "reserve rows",
    ]
    for name, one, now in zip([*names, "reserve, GiB"], [*found, *reserve], standing, strict=True):
        print(f"{name:<24} fitted {one:7.3f}   stands {now:7.3f}")


if __name__ == "__main__":
    main()
