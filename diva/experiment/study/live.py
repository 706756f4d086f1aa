"""What TensorBoard shows of a study while its members are under way: their mean and spread, as far as they have come."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING

from diva.experiment.study.aggregate import Aggregation

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from diva.experiment.study.plan import Plan
    from diva.records.run_folder import RunFolder
    from diva.records.study_folder import Member, StudyFolder

REFRESH_S = 20.0


class Live:
    """Aggregates the members' curves now and then; does nothing for a study that keeps no TensorBoard, or whose plan wants no bands."""

    def __init__(self, study: StudyFolder, plan: Plan) -> None:
        self._study, self._plan = study, plan
        self._aggregation = Aggregation({}, study.path, study.record().task.name)
        self._wanted = bool(study.record().options["tensorboard"])
        self._shown = False
        self._refreshed = time.monotonic()

    def follow(self, members: Sequence[Member]) -> None:
        """These are the members now."""
        groups = run_groups(self._study, self._plan, members) if self._wanted else {}
        self._aggregation.follow(groups)
        self._shown = bool(groups)

    def refresh(self, *, now: bool = False) -> None:
        """Show what came since; unless it has to be `now`, not more often than every 20 s."""
        if self._shown and (now or time.monotonic() - self._refreshed >= REFRESH_S):
            self._aggregation.refresh()
            self._refreshed = time.monotonic()


def run_groups(study: StudyFolder, plan: Plan, members: Sequence[Member]) -> Mapping[str, Sequence[RunFolder]]:
    """The folders of the runs that are shown as one band, by the band's name."""
    return {
        name: [study.member(member.name) for member in group] for name, group in plan.groups(members).items() if group
    }
