"""What the project's settings take on this machine, and what is recommended instead; always up to date."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace

from PySide6.QtCore import QElapsedTimer, QObject, QTimer, Signal

from trainer.protocol.job import MINIATURE
from wan_studio.bridge.background import Task, run_in_background
from wan_studio.bridge.calibration_keeper import CalibrationKeeper
from wan_studio.bridge.clip_library import ClipLibrary
from wan_studio.bridge.hardware_monitor import HardwareMonitor
from wan_studio.bridge.project_session import ProjectSession
from wan_studio.domain.calibration import CalibrationRecord
from wan_studio.domain.hardware import HardwareSnapshot, machine_of
from wan_studio.domain.machine import GIB, Machine
from wan_studio.domain.manual_card import ManualCard
from wan_studio.domain.plan_reasons import notes, reasons, ways_out
from wan_studio.domain.plan_space import PLANNED, nested
from wan_studio.domain.project import Settings
from wan_studio.domain.recommend import Flavour, Judgement, Planner, Recommendation, applied, values_of
from wan_studio.domain.workload import ClipExtent, clip_extents

VRAM_NOTICED, RAM_NOTICED = GIB // 4, GIB
"""Smaller changes of what is free are no news: a desktop makes them every second."""
_SETTLE_MILLISECONDS = 150
"""A recommendation waits for that long a pause: while somebody types, only the forecast follows."""
_MACHINE_MILLISECONDS = 3000
"""What the machine alone asks for comes no more often: another program's memory may come and go all the time."""


@dataclass(frozen=True, slots=True)
class FlavourPlan:
    """A recommendation in words.

    Attributes:
        reasons: Why each value, by "section.field".
        ways_out: What helps, where nothing fits.
    """

    recommendation: Recommendation
    reasons: Mapping[str, str]
    ways_out: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class _Question:
    """What a recommendation depends on."""

    planner: Planner
    settings: Settings


class PlanDesk(QObject):
    """Judges the project's settings at once, and recommends in the background; the latest question wins.

    Signals:
        judged: There is another judgement, or none, or another machine.
        recommended: There is another recommendation, or none.
        manual_card_changed: The user plans for another card. arg: ManualCard, or None for this machine's own
    """

    judged = Signal()
    recommended = Signal()
    manual_card_changed = Signal(object)

    def __init__(
        self,
        session: ProjectSession,
        library: ClipLibrary,
        hardware: HardwareMonitor,
        calibration: CalibrationKeeper,
        manual_card: ManualCard | None = None,
    ) -> None:
        super().__init__(session)
        self._session = session
        self._library = library
        self._hardware = hardware
        self._manual = manual_card
        self._calibration = calibration
        self._machine: Machine | None = None
        self._clips: tuple[ClipExtent, ...] = ()
        self._clips_of: tuple[object, ...] = ()
        self._planner: Planner | None = None
        self._judgement: Judgement | None = None
        self._judged_for: Machine | None = None
        self._notes: tuple[str, ...] = ()
        self._plans: dict[Flavour, FlavourPlan] = {}
        self._asked: _Question | None = None
        self._task: Task[FlavourPlan] | None = None
        self._since_recommended = QElapsedTimer()
        self._since_recommended.start()
        self._clips_timer = self._make_timer(self._look_at_clips)
        self._recommend_timer = self._make_timer(self._recommend)
        session.project_opened.connect(self._on_project_opened)
        session.project_changed.connect(self._renew)
        library.clip_changed.connect(self._clips_timer.start)
        hardware.snapshot_taken.connect(self._on_snapshot)
        calibration.calibrated.connect(self._renew)
        calibration.load()
        self._on_project_opened()
        self._renew()

    @property
    def machine(self) -> Machine | None:
        """What is planned for; None until the hardware was looked at."""
        return self._machine

    @property
    def judgement(self) -> Judgement | None:
        """Of the project's settings; None without a project or a machine, and for the miniature."""
        return self._judgement

    @property
    def notes(self) -> tuple[str, ...]:
        """What the clips do to these settings, a sentence each."""
        return self._notes

    @property
    def plans(self) -> Mapping[Flavour, FlavourPlan]:
        """What is recommended; flavours that are not worked out yet are missing."""
        return self._plans

    @property
    def manual_card(self) -> ManualCard | None:
        """The card that the user plans for instead of this machine's."""
        return self._manual

    @property
    def knows_the_clips(self) -> bool:
        """Whether there are clips, and each that trains was looked at: plans are for just these."""
        if not self._session.is_open:
            return False
        training = [clip.id for clip in self._session.project.clips if not clip.rejected]
        return bool(training) and all(self._library.facts_of(clip_id).is_known for clip_id in training)

    def flavours_now(self) -> tuple[Flavour, ...]:
        """Which recommendations the project follows in every value; none when it was changed by hand."""
        if not self._session.is_open:
            return ()
        settings = self._session.project.settings
        plans = ((flavour, plan.recommendation.changes) for flavour, plan in self._plans.items())
        return tuple(
            flavour
            for flavour, changes in plans
            if changes and values_of(settings, tuple(changes)) == changes
        )

    def recommended_for(self, settings: Settings, flavour: Flavour = Flavour.BALANCED) -> Settings:
        """These settings with a plan's values; as they are where there is no plan."""
        plan = self._plans.get(flavour)
        if plan is None or not plan.recommendation.changes:
            return settings
        return applied(settings, plan.recommendation)

    def set_manual_card(self, card: ManualCard | None) -> None:
        """Plan for this card; None plans for this machine's own."""
        if card == self._manual:
            return
        self._manual = card
        self.manual_card_changed.emit(card)
        self._renew()
        if self._recommend_timer.isActive():
            self._recommend_timer.start(_SETTLE_MILLISECONDS)

    def _make_timer(self, on_timeout: Callable[[], object]) -> QTimer:
        timer = QTimer(self)
        timer.setSingleShot(True)
        timer.setInterval(_SETTLE_MILLISECONDS)
        timer.timeout.connect(on_timeout)
        return timer

    def _on_project_opened(self) -> None:
        # What was recommended for another project is nothing for this one.
        self._clips_of, self._asked, self._plans = (), None, {}
        if self._task is not None:
            self._task.cancel()

    def _on_snapshot(self, snapshot: HardwareSnapshot) -> None:
        if self._take_machine(snapshot):
            self._renew()

    def _take_machine(self, snapshot: HardwareSnapshot) -> bool:
        """Take what is news of the machine; whether anything was."""
        gpu = snapshot.gpu_or_first(self._session.project.settings.job.gpu if self._session.is_open else 0)
        machine = machine_of(snapshot, 0 if gpu is None else gpu.index, own_pids=self._hardware.own_pids)
        if self._manual is not None:
            machine = replace(machine, gpu=self._manual.gpu)
        if self._machine is not None and not _is_news(self._machine, machine):
            return False
        self._machine = machine
        return True

    def _look_at_clips(self) -> None:
        self._clips_of = ()
        self._renew()

    def _renew(self) -> None:
        """Judge the settings as they are, here: a few tenths of a millisecond, and six for 500 clips."""
        latest = self._hardware.latest
        if latest is not None:
            self._take_machine(latest)
        planner, judgement = self._make_planner(), None
        if planner is not None:
            settings, judgement = self._session.project.settings, self._judgement
            if judgement is None or planner != self._planner or settings != judgement.settings:
                judgement = planner.judge(settings)
        is_news = judgement is not self._judgement or self._machine is not self._judged_for
        self._planner = planner
        if is_news:
            self._judgement, self._judged_for = judgement, self._machine
            self._notes = notes(planner, judgement) if planner is not None and judgement is not None else ()
            self.judged.emit()
        self._ask()

    def _make_planner(self) -> Planner | None:
        if self._machine is None or not self._session.is_open:
            return None
        project = self._session.project
        if project.settings.model.base == MINIATURE:
            return None
        data = project.settings.datasets
        clips_of = (project.clips, project.extra_datasets, data.windows, data.sampling)
        if clips_of != self._clips_of:
            facts = self._library.facts.items()
            known = {clip_id: one.source for clip_id, one in facts if one.source is not None}
            self._clips, self._clips_of = clip_extents(project, known), clips_of
        return Planner(self._machine, project.goal, self._clips, self._measured())

    def _measured(self) -> tuple[CalibrationRecord, ...]:
        assert self._machine is not None
        gpu = self._machine.gpu
        if gpu is None or not gpu.name:
            return ()
        return self._calibration.calibration.of_gpu(gpu.name)

    def _ask(self) -> None:
        """Work out recommendations anew where they depend on what has changed."""
        question = None
        if self._planner is not None and self._planner.machine.gpu is not None:
            settings = self._session.project.settings
            question = _Question(self._planner, settings.with_values(nested(_BEFORE_PLANNING)))
        if question == self._asked:
            return
        before, self._asked = self._asked, question
        if self._task is not None:
            self._task.cancel()
            self._task = None
        if question is None:
            self._recommend_timer.stop()
            self._plans = {}
            self.recommended.emit()
        elif before is None:
            self._recommend()
        elif replace(before.planner, machine=question.planner.machine) == question.planner and (
            before.settings == question.settings
        ):
            since = self._since_recommended.elapsed()
            self._recommend_timer.start(max(_SETTLE_MILLISECONDS, _MACHINE_MILLISECONDS - since))
        else:
            self._recommend_timer.start(_SETTLE_MILLISECONDS)

    def _recommend(self) -> None:
        if self._asked is not None:
            self._since_recommended.start()
            self._work_out(self._asked, tuple(Flavour), {})

    def _work_out(
        self, question: _Question, flavours: tuple[Flavour, ...], found: dict[Flavour, FlavourPlan]
    ) -> None:
        """One flavour after another, the recommended one first: it is shown before the others are known."""
        flavour, rest = flavours[0], flavours[1:]

        def on_done(plan: FlavourPlan) -> None:
            found[flavour] = plan
            # What was known before stays until there is something new of the same flavour.
            self._plans = {**self._plans, **found}
            self.recommended.emit()
            if rest:
                self._work_out(question, rest, found)

        self._task = run_in_background(lambda: _worked_out(question, flavour), on_done, urgent=True)


_BEFORE_PLANNING = values_of(Settings(), PLANNED)
"""Recommendations are worked out from these: else they would follow what is changed by hand."""


def _worked_out(question: _Question, flavour: Flavour) -> FlavourPlan:
    """On a pool thread."""
    planner = question.planner
    plan = planner.recommend(question.settings, flavour)
    return FlavourPlan(plan, reasons(planner, plan), ways_out(planner, plan))


def _is_news(before: Machine, now: Machine) -> bool:
    """Whether a machine differs from what is planned for by more than its usual flicker."""
    if before.gpu is None or now.gpu is None:
        return before.gpu is not now.gpu or _is_news_of_ram(before, now)
    is_same_card = replace(before.gpu, free_bytes=0) == replace(now.gpu, free_bytes=0)
    is_free = abs(before.gpu.free_bytes - now.gpu.free_bytes) < VRAM_NOTICED
    return not (is_same_card and is_free) or _is_news_of_ram(before, now)


def _is_news_of_ram(before: Machine, now: Machine) -> bool:
    if (before.ram_total_bytes, before.is_windows) != (now.ram_total_bytes, now.is_windows):
        return True
    disks = before.disk_free_bytes, now.disk_free_bytes
    if (disks[0] is None) != (disks[1] is None):
        return True
    is_disk_same = abs((disks[0] or 0) - (disks[1] or 0)) < RAM_NOTICED
    return abs(before.ram_available_bytes - now.ram_available_bytes) >= RAM_NOTICED or not is_disk_same
