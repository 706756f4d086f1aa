"""Trials: a point of the space and the runs that measure it; what stands in `trials/` and what followed from it."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from diva.experiment.search.samplers import Told
from diva.experiment.search.space import frozen
from diva.experiment.study.curves import CurveReader
from diva.records.files import read_json, write_json
from diva.records.study_folder import Member

if TYPE_CHECKING:
    from pathlib import Path

    from diva.experiment.search.space import Dimension
    from diva.records.run_folder import RunFolder
    from diva.records.study_folder import Outcome, StudyFolder


@dataclass(frozen=True)
class Trial:
    """A point that is tried. suggestion: what the service that suggested it calls it; "" where none did.

    failed_before: the runs of earlier trials that had failed when it was suggested; its own are never compared with them, even if
    they are run again and finish.
    """

    number: int
    point: Mapping[str, Any]
    suggestion: str = ""
    failed_before: tuple[str, ...] = ()

    @property
    def name(self) -> str:
        """The configuration's name in the study."""
        return f"trial-{self.number:04}"

    def members(self, seeds: Sequence[int]) -> list[Member]:
        """Its runs, one per seed."""
        values = {name: list(value) if isinstance(value, tuple) else value for name, value in self.point.items()}
        if len(seeds) == 1:
            return [Member(self.name, self.name, {**values, "seed": seeds[0]})]
        return [Member(f"{self.name}-seed-{seed}", self.name, {**values, "seed": seed}) for seed in seeds]


def trials_of(study: StudyFolder) -> Path:
    """Where a sweep's trials are written, `<number>.json` each, before their runs start."""
    return study.path / "trials"


def write_trial(study: StudyFolder, trial: Trial) -> None:
    """Write a trial down; from here on it is what is tried, whatever would be suggested later."""
    trials_of(study).mkdir(exist_ok=True)
    row: dict[str, Any] = {"number": trial.number, "point": dict(trial.point)}
    if trial.suggestion:
        row["suggestion"] = trial.suggestion
    if trial.failed_before:
        row["failed_before"] = list(trial.failed_before)
    write_json(trials_of(study) / f"{trial.number:04}.json", row)


def read_trials(study: StudyFolder, space: Sequence[Dimension], known: Sequence[Trial] = ()) -> list[Trial]:
    """The trials written so far, in order, their values in that of the space; `known` are not read again."""
    found = list(known)
    while (path := trials_of(study) / f"{len(found):04}.json").exists():
        row = read_json(path)
        point = {dimension.name: frozen(row["point"][dimension.name]) for dimension in space}
        found.append(Trial(row["number"], point, row.get("suggestion", ""), tuple(row.get("failed_before", ()))))
    return found


def tell(trial: Trial, outcomes: Sequence[Outcome], n_runs: int, monitor: str) -> Told:
    """What came of a trial: the mean of `monitor` over its runs, exactly rounded, once all `n_runs` have finished.

    A trial with a run that failed has failed, since the mean of the others is of other seeds; so has one whose mean is no number.
    """
    point, states = dict(trial.point), {outcome.status for outcome in outcomes}
    if "waiting" in states or len(outcomes) < n_runs:
        return Told(trial.number, point, "running")
    if states != {"finished"}:
        return Told(trial.number, point, "pruned" if "pruned" in states else "failed")
    values = [outcome.metrics.get(monitor, math.nan) for outcome in outcomes]
    mean = math.fsum(values) / len(values) if all(map(math.isfinite, values)) else math.nan
    if not math.isfinite(mean):
        return Told(trial.number, point, "failed")
    return Told(trial.number, point, "finished", mean)


def is_ahead(told: Told, other: Told, *, less: bool) -> bool:
    """Whether a finished trial beats another finished one; of equals the first stays ahead."""
    assert told.value is not None and other.value is not None
    return told.value < other.value if less else told.value > other.value


def best_of(told: Sequence[Told], *, less: bool) -> Told | None:
    """The finished trial with the best value, the first of equals; None when none finished."""
    best: Told | None = None
    for trial in told:
        if trial.state == "finished" and (best is None or is_ahead(trial, best, less=less)):
            best = trial
    return best


class MonitorReader:
    """The validation curves of runs that may still be under way; reads what was added since it was last asked."""

    def __init__(self, monitor: str) -> None:
        self._monitor = monitor
        self._readers: dict[Path, CurveReader] = {}

    def read(self, run: RunFolder) -> list[float]:
        """The metric after epochs 0, 1, ... as far as they are whole; [] for a run that has not begun."""
        reader = self._readers.setdefault(run.metrics_file, CurveReader(run.metrics_file))
        reader.read()
        curve = reader.curves().get(self._monitor)
        return [] if curve is None else [float(value) for value in curve.values]
