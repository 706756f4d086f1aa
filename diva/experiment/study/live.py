"""What TensorBoard shows of a study while its members are under way: their mean and spread, as far as they have come."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING

from diva.experiment.study.aggregate import Aggregation

if TYPE_CHECKING:
    from collections.abc import Sequence

    from diva.experiment.study.plan import Plan
    from diva.records.study_folder import Member, StudyFolder

REFRESH_S = 20.0


class Live:
    """Aggregates the members' curves now and then; does nothing for a study that keeps no TensorBoard."""

    def __init__(self, study: StudyFolder, plan: Plan) -> None:
        self._study, self._plan = study, plan
        self._wanted = bool(study.record().options["tensorboard"])
        self._members: Sequence[Member] = ()
        self._aggregation: Aggregation | None = None
        self._refreshed = time.monotonic()

    def follow(self, members: Sequence[Member]) -> None:
        """These are the members now."""
        if self._wanted and len(members) != len(self._members):
            groups = {
                name: [self._study.member(member.name) for member in group]
                for name, group in self._plan.groups(members).items()
            }
            self._members = members
            self._aggregation = (
                Aggregation(groups, self._study.path, self._study.record().task.name) if groups else None
            )

    def refresh(self, *, now: bool = False) -> None:
        """Show what came since; unless it has to be `now`, not more often than every 20 s."""
        if self._aggregation is not None and (now or time.monotonic() - self._refreshed >= REFRESH_S):
            self._aggregation.refresh()
            self._refreshed = time.monotonic()

    def close(self) -> None:
        """Let the files go."""
        self._aggregation = None
