"""What storing the base in fewer bits costs, on made-up weights: measured, printed, held to its bounds."""

import dataclasses

import pytest
import torch

from trainer.model.frozen.realistic import (
    channel_sizes,
    common_directions,
    realistic_inputs,
    realistic_weight,
)
from trainer.recipes.measure_errors import (
    MODES,
    StackPlan,
    measure_linear,
    measure_stack,
    report_errors,
    stack_table,
)

MEASURES = ("block", "block_change", "prediction", "gradient")


@pytest.fixture(scope="module")
def errors():
    # Rank 3 of 256 is the share that 64 is of the real model's 5120.
    rows = measure_stack(StackPlan(width=256, layers=2, rank=3))
    print(f"\n{stack_table(rows)}")
    return {row.mode: row for row in rows}


def test_weights_as_they_are_err_in_nothing(errors):
    assert all(getattr(errors["none"], measure) == 0.0 for measure in MEASURES)
    assert errors["none"].cosine == pytest.approx(1.0, abs=1e-9)


@pytest.mark.parametrize("measure", MEASURES)
def test_recovery_leaves_at_most_0_6_of_the_error_of_nf4(errors, measure):
    ratio = getattr(errors["nf4_recovered"], measure) / getattr(errors["nf4"], measure)
    print(f"\n{measure}: {ratio:.2f}")
    assert ratio <= 0.6


@pytest.mark.parametrize("measure", MEASURES)
def test_eight_bits_err_less_than_four_and_more_than_none(errors, measure):
    for mode in ("float8", "float8_compute"):
        assert 0.0 < getattr(errors[mode], measure) < getattr(errors["nf4"], measure) / 2


def test_the_gradient_points_the_better_way_the_less_is_lost(errors):
    assert errors["nf4"].cosine < errors["nf4_recovered"].cosine < errors["none"].cosine


def test_the_same_plan_gives_the_same_numbers():
    plan = StackPlan(width=128, layers=1, rank=2)
    first, second = (measure_stack(plan, ["nf4_recovered"]) for _ in range(2))
    assert first == second
    assert measure_stack(dataclasses.replace(plan, seed=1), ["nf4_recovered"]) != first


def test_a_stack_in_bfloat16_is_measured_too():
    (row,) = measure_stack(StackPlan(width=128, layers=1, rank=2, dtype=torch.bfloat16), ["nf4"])
    assert 0.01 < row.prediction < 0.5


def test_one_linear_keeps_at_most_0_6_of_the_error_on_average():
    ratios = []
    for seed in range(3):
        # A single small linear has only four loud channels, and much depends on how loud they happen to be.
        errors = {row.mode: row for row in measure_linear((512, 1024), 13, seed=seed)}
        assert errors["none"].output < 1e-5
        assert errors["nf4"].output == pytest.approx(0.092, abs=0.02)
        assert errors["nf4"].input_gradient == pytest.approx(0.092, abs=0.02)
        assert errors["nf4_recovered"].input_gradient < errors["nf4"].input_gradient
        ratios.append(errors["nf4_recovered"].output / errors["nf4"].output)
    print(f"\nratios {', '.join(f'{one:.2f}' for one in ratios)}")
    assert sum(ratios) / len(ratios) <= 0.6


def test_the_report_has_a_line_for_each_mode_and_says_what_was_left_out(monkeypatch):
    seen = []

    def remembered(plan, modes):
        seen.append(plan)
        return measure_stack(dataclasses.replace(plan, width=128, layers=1), modes)

    monkeypatch.setattr("trainer.recipes.measure_errors.measure_stack", remembered)
    whole = report_errors(torch.device("cpu"))
    assert [line.split(" | ")[0] for line in whole[-5:]] == [f"| {mode}" for mode in MODES]
    assert (seen[0].width, seen[0].rank) == (512, 6)
    monkeypatch.setattr("trainer.recipes.measure_errors.why_no_float8_products", lambda _: "too old")
    short = report_errors(torch.device("cpu"))
    assert short[-1] == "float8_compute is left out: too old."
    assert not any(line.startswith("| float8_compute") for line in short)


@pytest.mark.parametrize("spectrum", [0.25, 0.5])
def test_singular_values_fall_as_they_are_told_to(spectrum):
    weight = realistic_weight((512, 512), torch.Generator().manual_seed(0), spectrum)
    sizes = torch.linalg.svdvals(weight)
    # Between the first, which a few loud columns lift, and the last, which two Gaussians press down.
    slope = torch.log(sizes[63] / sizes[7]) / torch.log(torch.tensor(64 / 8))
    assert float(slope) == pytest.approx(-spectrum, abs=0.15)
    assert float(weight.std()) * 512**0.5 == pytest.approx(1.0, rel=1e-3)


def test_entries_have_heavier_tails_than_a_gaussian():
    weight = realistic_weight((512, 512), torch.Generator().manual_seed(0))
    standard = weight / weight.std()
    assert float(standard.pow(4).mean()) > 3.5


def test_a_few_channels_of_the_inputs_are_loud_for_every_token():
    generator = torch.Generator().manual_seed(0)
    sizes = channel_sizes(1024, generator)
    x = realistic_inputs(400, sizes, common_directions(1024, generator), generator)
    rms = x.square().mean(0).sqrt()
    loud = rms > 8 * rms.median()
    assert 2 <= int(loud.sum()) <= 10
    assert float(rms[loud].square().sum() / rms.square().sum()) > 0.3
