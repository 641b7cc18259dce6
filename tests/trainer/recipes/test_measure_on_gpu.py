"""Measurements on a real GPU: times, memory by phase, the floor, and cards that are emulated."""

import pytest
import torch

from tests.trainer.small_experts import small_configs
from trainer.model.block.passes import compilation
from trainer.recipes.measure import measure
from trainer.recipes.measure_case import Case, explain

pytestmark = [pytest.mark.gpu, pytest.mark.skipif(not torch.cuda.is_available(), reason="needs CUDA")]


def test_a_case_has_seconds_memory_a_floor_and_what_stays(monkeypatch):
    # Compiling takes longer than all the rest; whether it works is tested elsewhere.
    monkeypatch.setattr(compilation, "wish", lambda on_failure: None)
    device = torch.device("cuda", torch.cuda.current_device())
    config = small_configs()
    small = {"layers": 3, "width": 128, "height": 128, "frames": 9, "mode": "float8", "rank": 4, "steps": 2}
    large = small | {"width": 512, "height": 512, "frames": 41}
    cases = [Case(**small), Case(**small, resident=0, offload=True), Case(**large, cap=1.01), Case(**small)]
    lines = []
    plain, streamed, capped, last = measure(cases, device, lines.append, config)
    assert len(lines) == 4
    for one in (plain, streamed, last):
        assert not one.error
        assert one.seconds > 0
        assert one.ratio > 1.0
        assert list(one.peaks) == ["forward", "backward", "optimizer"]
        assert 0 < one.allocated <= one.reserved
        assert one.loss == pytest.approx(plain.loss, rel=0.05)
    assert plain.moved == 0
    assert streamed.moved > 0
    assert streamed.ram > plain.ram > 0
    # A card of which torch may reserve 10 MiB.
    assert capped.error.startswith("out of memory")
    assert "resident blocks" in "".join(explain(plain))


def test_every_work_has_seconds_memory_by_phase_and_what_lies_outside_of_torch():
    device = torch.device("cuda", torch.cuda.current_device())
    size = {"width": 64, "height": 64, "frames": 9, "steps": 2}
    cases = [
        Case(work="latents", **size),
        Case(work="decode", **size),
        Case(work="text", mode="none", steps=1),
        Case(work="text", mode="float8", steps=1),
        Case(work="preview", mode="float8", layers=2, rank=2, **size),
    ]
    for one in measure(cases, device, lambda line: None, small_configs()):
        assert not one.error
        assert one.seconds > 0
        assert 0 < one.allocated <= one.reserved
        assert max(one.peaks.values()) == one.allocated
        # A CUDA context alone takes a tenth of a GiB.
        assert one.outside > 2**26
