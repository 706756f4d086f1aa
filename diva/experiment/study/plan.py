"""What a study runs: a plan names its members, given how the earlier ones ended, and says what came of them."""

from __future__ import annotations

from abc import ABC, abstractmethod
from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from diva.records.study_folder import Member, Outcome, StudyFolder, StudyRecord
    from diva.report.console import Console

# The module of each kind of study; each defines `read_plan(record: StudyRecord) -> Plan`.
HOMES = {
    "runs": "diva.experiment.study.multi_run",
    "sweep": "diva.experiment.search.plan",
    "sensitivity": "diva.experiment.sensitivity.plan",
}


class Plan(ABC):
    """The members of a study, and what is said of them. Everything follows from the plan's record and the members' folders."""

    @abstractmethod
    def members(self, study: StudyFolder, outcomes: Sequence[Outcome]) -> Sequence[Member]:
        """All members named so far, in order; they only grow. `outcomes`: of those that it named before, in the same order.

        It is called again whenever a member ended. The study is over when every member that it names has ended.
        """

    def to_prune(self, study: StudyFolder, running: Sequence[Member]) -> Mapping[str, str]:
        """Names of members that need not go on, each with the reason in a line. Called twice a second, and of each member once more
        after it ended with a result: it must follow from the member's numbers alone, not from when it is asked."""
        return {}

    def n_members(self) -> int | None:
        """How many members there will be at most; None where nobody knows."""
        return None

    def groups(self, members: Sequence[Member]) -> Mapping[str, Sequence[Member]]:
        """The members whose curves are shown as one band, by the band's name: those of one configuration. Empty: no bands are shown."""
        names = dict.fromkeys(member.configuration for member in members)
        return {name: [member for member in members if member.configuration == name] for name in names}

    def conclude(self, study: StudyFolder, outcomes: Sequence[Outcome], console: Console) -> Mapping[str, Any]:
        """When all have ended: draw figures, say what there is to say, and return what joins `summary.json`; a pure function of them."""
        return {}

    def show(self, summary: Mapping[str, Any], console: Console) -> None:
        """Write what came of the study: of most kinds its members, and what they have in common."""
        from diva.experiment.study.summary import show

        show(summary, console)


def read_plan(record: StudyRecord) -> Plan:
    """The plan that a study's record holds."""
    plan: Plan = import_module(HOMES[record.kind]).read_plan(record)
    return plan
