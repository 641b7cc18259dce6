"""How measurements of this machine correct the memory that was computed."""

import statistics
from collections.abc import Sequence

from trainer.protocol.job import Expert
from wan_studio.domain.calibration import CalibrationRecord
from wan_studio.domain.project import Settings
from wan_studio.domain.step_plan import step_plan
from wan_studio.domain.vram_plan import MemoryForecast, Phase, PhaseMemory, corrected

MEASURED_ERROR = 0.02
"""By how much a peak may be off that was measured with the very same plan and shape."""


def corrected_memory(
    forecast: MemoryForecast, settings: Settings, records: Sequence[CalibrationRecord]
) -> MemoryForecast:
    """The forecast, corrected where steps of the same plan were measured.

    What torch reserved for a shape replaces what was computed for it; other shapes are scaled by the median
    ratio. Other plans say nothing about this one: another number of resident blocks is computed exactly.
    """
    plans = {step_plan(settings, expert) for expert in Expert}
    batch = settings.training.batch_size
    known = {
        one.shape: one.reserved_bytes
        for one in records
        if one.kind == "step" and one.plan in plans and one.batch == batch and one.reserved_bytes
    }
    ratios = [known[one.shape] / one.reserved for one in forecast.of(Phase.TRAINING) if one.shape in known]
    if not ratios:
        return forecast
    largest = forecast.training

    def factor(one: PhaseMemory) -> float:
        return known[one.shape] / one.reserved if one.shape in known else statistics.median(ratios)

    is_exact = largest.shape in known
    return corrected(forecast, factor, MEASURED_ERROR if is_exact else forecast.error)
