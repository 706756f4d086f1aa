"""The simplest study: one configuration, many seeds."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from diva.errors import UsageError
from diva.experiment.study.plan import Plan
from diva.experiment.study.values import listed
from diva.records.study_folder import Member
from diva.seeding import MAX_SEED, Seeds

if TYPE_CHECKING:
    from collections.abc import Sequence

    from diva.records.study_folder import Outcome, StudyFolder, StudyRecord


class MultiRun(Plan):
    """A member per seed."""

    def __init__(self, seeds: Sequence[int]) -> None:
        self._members = [Member(f"seed-{seed}", "", {"seed": seed}) for seed in seeds]

    def members(self, study: StudyFolder, outcomes: Sequence[Outcome]) -> Sequence[Member]:
        """All of them, from the start."""
        return self._members

    def n_members(self) -> int:
        """One per seed."""
        return len(self._members)


def read_plan(record: StudyRecord) -> Plan:
    """The plan of a recorded study."""
    return MultiRun(record.plan["seeds"])


def multi_run(seeds: Sequence[int]) -> dict[str, Any]:
    """The record of such a plan."""
    return {"seeds": list(seeds)}


def derived_seeds(seed: int, n: int) -> list[int]:
    """The seeds of `--runs n`: distinct, in [0, 2**31), of the stream "runs"; those of fewer runs come first in those of more."""
    if n < 1:
        raise UsageError(f"--runs {n}: must be at least 1")
    drawn = (key >> 32 for key in Seeds(seed).keys(2 * n + 8, "runs"))
    return list(dict.fromkeys(drawn))[:n]


def given_seeds(text: str) -> list[int]:
    """The seeds of `--seeds`, as "1,2,3" or "0:10"; UsageError for what is none."""
    seeds = []
    for value in listed(text, "--seeds"):
        if not value.isascii() or not value.isdigit() or int(value) > MAX_SEED:
            raise UsageError(f"--seeds {value}: is no seed; allowed are whole numbers from 0 to {MAX_SEED}")
        seeds.append(int(value))
    if len(set(seeds)) < len(seeds):
        raise UsageError(f"--seeds {text}: names a seed twice; the runs would be the same")
    return seeds
