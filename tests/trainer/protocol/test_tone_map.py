import math

import pytest

from trainer.protocol.tone_map import GRID, HLG, PQ, cube_text, is_hdr, mapped


def pq(nits):
    power = (nits / 10_000) ** (2610 / 16384)
    return ((3424 / 4096 + 2413 / 128 * power) / (1 + 2392 / 128 * power)) ** (2523 / 32)


def grey(signal, transfer):
    colour = mapped((signal, signal, signal), transfer)
    assert max(colour) - min(colour) < 0.002
    return colour[1]


def test_below_the_knee_light_stays_as_it_is_and_203_nits_are_white():
    for nits in (1, 10, 50, 80):
        assert grey(pq(nits), PQ) == pytest.approx((nits / 203) ** (1 / 2.4), abs=0.004)


def test_highlights_are_rolled_off_and_never_turn_back():
    levels = [grey(pq(nits), PQ) for nits in (100, 203, 400, 1000, 4000, 10_000)]
    assert levels == sorted(levels)
    assert 0.88 < levels[1] < 0.93
    assert levels[3] == pytest.approx(1, abs=0.002)


def test_hlgs_reference_white_comes_out_as_pqs_does():
    assert grey(0.75, HLG) == pytest.approx(grey(pq(203), PQ), abs=0.01)


@pytest.mark.parametrize("transfer", [PQ, HLG])
def test_every_colour_is_one_of_bt709(transfer):
    steps = [at / 8 for at in range(9)]
    for red in steps:
        for green in steps:
            for blue in steps:
                assert all(
                    0 <= part <= 1 and math.isfinite(part) for part in mapped((red, green, blue), transfer)
                )
    assert mapped((0, 0, 0), transfer) == (0, 0, 0)


def test_the_table_names_every_colour_red_fastest():
    lines = cube_text(PQ).splitlines()
    assert lines[0] == f"LUT_3D_SIZE {GRID}"
    assert len(lines) == 1 + GRID**3
    second = [float(part) for part in lines[2].split()]
    assert second == pytest.approx(mapped((1 / (GRID - 1), 0, 0), PQ), abs=1e-6)


def test_only_pq_and_hlg_are_mapped():
    assert [number for number in range(20) if is_hdr(number)] == [16, 18]
