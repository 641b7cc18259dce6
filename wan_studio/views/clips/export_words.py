"""How an export is put into words, before and after."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from wan_studio.domain.export_plan import Skipped
from wan_studio.views.theme import ToneName
from wan_studio.views.wording import count, duration

if TYPE_CHECKING:
    from wan_studio.services.dataset_export import ExportForecast, ExportReport


@dataclass(frozen=True, slots=True)
class ExportWords:
    """A state in words.

    Attributes:
        can_start: Whether an export may begin.
        more: Further sentences.
    """

    icon: str
    tone: ToneName
    headline: str
    line: str
    can_start: bool = False
    more: tuple[str, ...] = ()


def forecast_words(forecast: "ExportForecast") -> ExportWords:
    """What will be written, or why nothing can be."""
    sets = [one for one in forecast.plan.sets if one.clips]
    total = forecast.to_write + forecast.there
    if forecast.problem:
        return ExportWords("x-circle", "bad", "This folder cannot take the export", forecast.problem)
    if not total:
        return ExportWords(
            "warning", "warn", "There is no clip to export", "Add clips, or take back rejected ones."
        )
    room = "" if forecast.free_bytes is None else f" of {size(forecast.free_bytes)} free"
    needs = f"About {size(forecast.needed_bytes)}{room}."
    if forecast.surely_lacks_room:
        return ExportWords(
            "x-circle",
            "bad",
            "There is too little room",
            f"{needs} Make room, or choose a folder on another disk.",
        )
    headline = f"{count(total, 'clip')} in {count(len(sets), 'data set')}"
    if forecast.there:
        headline = f"{count(forecast.to_write, 'clip')} to write, {forecast.there} there already"
    parts = [f"{one.name}: {len(one.clips)}" for one in sets] if len(sets) > 1 else []
    left_out = len(forecast.plan.skipped)
    if left_out:
        parts.append(f"{left_out} left out")
    line = f"{', '.join(parts)}. {needs}" if parts else needs
    if not forecast.to_write:
        line = "Captions and configuration are brought up to date."
    return ExportWords("info", "accent", headline, line, can_start=True)


def report_words(report: "ExportReport") -> ExportWords:
    """What came of an export."""
    parts = [f"{report.kept} there already"] if report.kept else []
    if report.removed:
        parts.append(f"{report.removed} of an earlier export removed")
    if report.skipped:
        parts.append(f"{len(report.skipped)} left out")
    if report.configuration:
        parts.append(f"configuration: {', '.join(report.configuration)}")
    is_whole = not report.skipped and not report.kept_texts
    return ExportWords(
        "check-circle" if is_whole else "warning",
        "good" if is_whole else "warn",
        f"{count(report.written, 'file')} written in {duration(report.seconds)}",
        f"{report.folder}\n{', '.join(parts)}".strip(),
        more=tuple(
            f"{path} is not as an export wrote it; it was left as it is." for path in report.kept_texts
        ),
    )


def skipped_words(skipped: Sequence[Skipped]) -> list[str]:
    """Why clips are left out."""
    return [one.sentence for one in skipped]


def size(size_bytes: float) -> str:
    """Bytes in GB, where they are many, or MB."""
    return f"{size_bytes / 2**30:.1f} GB" if size_bytes >= 2**30 / 10 else f"{size_bytes / 2**20:.0f} MB"
