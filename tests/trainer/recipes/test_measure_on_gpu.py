"""Measurements on a real GPU: times, memory by phase, the floor, and cards that are emulated."""

import pytest
import torch

from tests.trainer.small_experts import SMALL, expert_weights
from trainer.model.block.passes import compilation
from trainer.recipes.measure import Case, explain, measure

pytestmark = [pytest.mark.gpu, pytest.mark.skipif(not torch.cuda.is_available(), reason="needs CUDA")]


def test_a_case_has_seconds_memory_a_floor_and_what_stays(monkeypatch):
    # Compiling takes longer than all the rest; whether it works is tested elsewhere.
    monkeypatch.setattr(compilation, "wish", lambda on_failure: None)
    device = torch.device("cuda", torch.cuda.current_device())
    config = dict(expert_weights(SMALL).config)
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
