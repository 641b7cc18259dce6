"""How figures and states are put into words, the same on every page."""

from datetime import datetime, timedelta

from trainer.protocol.events import Phase
from wan_studio.domain.run_state import Outcome, RunState
from wan_studio.errors import AppError
from wan_studio.views.theme import ToneName

PHASE_NAMES: dict[Phase, str] = {
    Phase.LOADING: "Loading the model",
    Phase.CACHING_TEXT: "Caching captions",
    Phase.CACHING_LATENTS: "Caching clips",
    Phase.TRAINING: "Training",
    Phase.REHEARSING: "Testing training steps",
    Phase.VALIDATING: "Measuring the loss on held-out clips",
    Phase.PREVIEWING: "Rendering previews",
    Phase.SAVING: "Saving",
    Phase.CAPTIONING: "Writing captions",
}

OUTCOME_WORDS: dict[Outcome, tuple[str, str, ToneName]] = {
    Outcome.WAITING: ("Waiting", "clock", "muted"),
    Outcome.RUNNING: ("Running", "play-circle", "accent"),
    Outcome.PAUSED: ("Paused", "pause-circle", "warn"),
    Outcome.COMPLETED: ("Completed", "check-circle", "good"),
    Outcome.STOPPED: ("Stopped", "stop-circle", "muted"),
    Outcome.FAILED: ("Failed", "x-circle", "bad"),
    Outcome.CRASHED: ("Crashed", "x-circle", "bad"),
}


def gigabytes(size_bytes: float, *, unit: bool = True) -> str:
    """Bytes as gigabytes with one decimal; GB here is 2**30 bytes, as GPU tools count."""
    number = f"{size_bytes / 2**30:.1f}"
    return f"{number} GB" if unit else number


def gib(size_bytes: float, *, unit: bool = True) -> str:
    """The same under the unit's exact name, for pages where sums have to add up."""
    number = f"{size_bytes / 2**30:.1f}"
    return f"{number} GiB" if unit else number


def duration(seconds: float) -> str:
    """A length of time in its two largest units."""
    whole = max(0, round(seconds))
    hours, rest = divmod(whole, 3600)
    minutes, secs = divmod(rest, 60)
    if hours:
        return f"{hours} h {minutes:02d} min"
    if minutes:
        return f"{minutes} min {secs:02d} s"
    return f"{secs} s"


def finish_time(seconds_left: float) -> str:
    """The clock time at which something ends; with the day when it is not today."""
    now = datetime.now().astimezone()
    then = now + timedelta(seconds=seconds_left)
    return then.strftime("%H:%M" if then.date() == now.date() else "%a %H:%M")


def seconds_per_step(seconds: float) -> str:
    """The pace of training."""
    return f"{seconds:.2f} s" if seconds < 10 else f"{seconds:.1f} s"


def time_code(seconds: float) -> str:
    """A place in a video."""
    minutes, rest = divmod(max(0.0, seconds), 60.0)
    return f"{int(minutes):02d}:{rest:06.3f}"


def percent_done(state: RunState) -> str:
    """How much of a run's steps are done."""
    if not state.total_steps:
        return "…"
    return f"{100 * state.step // state.total_steps} %"


def count(number: int, thing: str) -> str:
    """A number with its noun, e.g. "1 clip", "3 clips"."""
    return f"{number} {thing}" if number == 1 else f"{number} {thing}s"


def error_texts(error: Exception) -> tuple[str, str]:
    """What happened and what to do, of any error."""
    if isinstance(error, AppError):
        return error.message, error.hint
    if isinstance(error, OSError):
        name = f"{error.filename}: " if error.filename else ""
        return f"{name}{error.strerror or error}.", "Check the path, its permissions and the free space."
    return f"{type(error).__name__}: {error}", "This is a fault of Wan Studio; the log has the details."
