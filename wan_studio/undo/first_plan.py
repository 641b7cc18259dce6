"""A project whose settings nobody has touched takes over the plan for this machine, so that it fits unasked."""

from typing import Any

import msgspec
from PySide6.QtCore import QObject

from wan_studio.bridge.plan_desk import PlanDesk
from wan_studio.bridge.project_session import ProjectSession
from wan_studio.domain.plan_space import PLANNED
from wan_studio.domain.recommend import Flavour, values_of
from wan_studio.services.preset_store import settings_for
from wan_studio.undo.edits import edit_project

USE_RECOMMENDED = "Use recommended plan"
"""Name of the step."""


class FirstPlan(QObject):
    """Takes over the balanced plan once for each goal and base, and once more when the clips are known.

    Only where every planned value is still the preset's or this object's own: what was set by hand, or taken
    back, stays. What the recommendation says later is shown beside the values and not taken over.
    """

    def __init__(self, session: ProjectSession, plans: PlanDesk) -> None:
        super().__init__(session)
        self._session, self._plans = session, plans
        self._answered: set[tuple[str, str, bool]] = set()
        self._given: dict[str, Any] | None = None
        session.project_opened.connect(self._forget)
        plans.recommended.connect(self._take_over)

    def _forget(self) -> None:
        self._answered, self._given = set(), None

    def _take_over(self) -> None:
        plan = self._plans.plans.get(Flavour.BALANCED)
        if plan is None or not plan.recommendation.changes or not self._session.is_open:
            return
        project = self._session.project
        base = project.settings.model.base
        question = project.goal, base, self._plans.knows_the_clips
        if question in self._answered:
            return
        self._answered.add(question)
        now, begun = values_of(project.settings, PLANNED), settings_for(project.goal, base)
        if now not in (values_of(begun, PLANNED), self._given):
            return
        settings = self._plans.recommended_for(project.settings)
        self._given = values_of(settings, PLANNED)
        edit_project(self._session, USE_RECOMMENDED, msgspec.structs.replace(project, settings=settings))
