"""How measurements of this machine correct the memory that was computed."""

import statistics
from collections.abc import Sequence

from trainer.protocol.job import Expert
from wan_studio.domain.calibration import CalibrationRecord, WorkKind
from wan_studio.domain.project import Settings
from wan_studio.domain.step_plan import step_plan
from wan_studio.domain.vram_plan import MemoryForecast, Phase, PhaseMemory, corrected
from wan_studio.domain.workload import ClipShape

MEASURED_ERROR = 0.02
"""By how much a peak may be off that was measured with the very same plan and shape."""
_ENOUGH = 1.0
"""No correction."""


def corrected_memory(
    forecast: MemoryForecast, settings: Settings, records: Sequence[CalibrationRecord]
) -> MemoryForecast:
    """The forecast, corrected where the same plan was measured, or ran out of memory.

    What torch reserved for steps of a shape replaces what was computed for it; other shapes are scaled by the
    median ratio. Other plans say nothing about this one: another number of resident blocks is computed exactly.
    Where memory ran out, so much at least is needed as was held and asked for, until a later process has done
    the same work in less; that goes for clips that are encoded and previews as well.
    """
    plans = {step_plan(settings, expert) for expert in Expert}
    own = [one for one in records if one.plan in plans and one.batch in (settings.training.batch_size, 1)]
    measured, least = _peaks(own, "step", settings), _floors(own, "step", settings)
    known = {
        shape: max(measured.get(shape, 0), least.get(shape, 0)) for shape in measured.keys() | least.keys()
    }
    computed = {one.shape: one for one in forecast.of(Phase.TRAINING) if one.shape in known}
    ratios = [known[shape] / one.reserved for shape, one in computed.items()]
    # A shape that ran out says so much at least: no other one is forecast to take less for it.
    typical = statistics.median(ratios) if ratios else _ENOUGH
    typical = typical if measured else max(typical, _ENOUGH)
    beside = {
        Phase.LATENTS: _floors(own, "encode", settings),
        Phase.PREVIEW: _floors(own, "preview", settings),
    }

    def factor(one: PhaseMemory) -> float:
        if one.phase is not Phase.TRAINING:
            return max(_ENOUGH, _least_for(one, beside.get(one.phase, {})) / one.reserved)
        if one.shape not in known:
            return typical
        ratio = known[one.shape] / one.reserved
        return ratio if one.shape in measured else max(ratio, _ENOUGH)

    is_touched = bool(ratios) or any(factor(one) != _ENOUGH for one in forecast.phases)
    if not is_touched:
        return forecast
    is_exact = forecast.training.shape in measured
    return corrected(forecast, factor, MEASURED_ERROR if is_exact else forecast.error)


def _least_for(memory: PhaseMemory, floors: dict[ClipShape, int]) -> int:
    """What a shape was found to need at least; clips are encoded and decoded four frames at a time."""
    if memory.shape is None:
        return 0
    size = memory.shape.width, memory.shape.height
    return max((floor for shape, floor in floors.items() if (shape.width, shape.height) == size), default=0)


def _peaks(records: Sequence[CalibrationRecord], kind: WorkKind, settings: Settings) -> dict[ClipShape, int]:
    """What the newest process that did this work took for each shape, of both experts the more."""
    peaks: dict[ClipShape, tuple[float, int]] = {}
    for one in records:
        if not one.reserved_bytes or one.ran_out or not _is_alike(one, kind, settings):
            continue
        peak = one.process_started, one.reserved_bytes
        peaks[one.shape] = max(peak, peaks.get(one.shape, peak))
    return {shape: size for shape, (_, size) in peaks.items()}


def _floors(records: Sequence[CalibrationRecord], kind: WorkKind, settings: Settings) -> dict[ClipShape, int]:
    """What each shape needs at least, because memory ran out and no later process has found room."""
    done: dict[ClipShape, float] = {}
    for one in records:
        if not one.ran_out and _is_alike(one, kind, settings):
            done[one.shape] = max(one.process_started, done.get(one.shape, 0.0))
    floors: dict[ClipShape, int] = {}
    for one in records:
        if one.ran_out and _is_alike(one, kind, settings) and one.process_started >= done.get(one.shape, 0.0):
            floors[one.shape] = max(one.reserved_bytes, floors.get(one.shape, 0))
    return floors


def _is_alike(record: CalibrationRecord, kind: WorkKind, settings: Settings) -> bool:
    """Whether it is of such work, done as the settings have it; what its plan says was looked at before."""
    if record.kind != kind:
        return False
    if kind == "step":
        return record.batch == settings.training.batch_size
    has_same_vae = record.vae == settings.quantization.vae
    return has_same_vae and (kind == "encode" or record.in_tiles == settings.sample.in_tiles)
