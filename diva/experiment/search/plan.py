"""A sweep as a study: trials are suggested when the earlier ones they follow from have ended, and named for good by `trials/`."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

from diva.errors import UsageError
from diva.experiment.search import SAMPLERS
from diva.experiment.search.journal import OptunaJournal
from diva.experiment.search.pruning import Curve, Verdict, prune
from diva.experiment.search.report import report, show_search
from diva.experiment.search.samplers import N_STARTUP, Told, load_optuna, suggest
from diva.experiment.search.sigopt_service import SigOptTrials, check_sigopt
from diva.experiment.search.space import Dimension, dimension_of, grid, n_points
from diva.experiment.search.trials import MonitorReader, Trial, read_trials, tell, write_trial
from diva.experiment.study.plan import Plan
from diva.learning.task import less_is_better

if TYPE_CHECKING:
    from diva.records.study_folder import Member, Outcome, StudyFolder, StudyRecord
    from diva.report.console import Console

N_TRIALS = 20


@dataclass(frozen=True)
class SweepPlan:
    """What a sweep was asked for. lag: trial t is suggested once trials 0 to t - lag have ended, of which alone it is a function.

    seeds: of the runs of each trial, the same for all. prune_after: the first epoch at which a trial can be pruned; None for never.
    library: what suggests, where it is not diva.
    """

    space: tuple[Dimension, ...]
    sampler: str
    trials: int
    seed: int
    seeds: tuple[int, ...]
    lag: int
    prune_after: int | None = None
    library: str = ""

    @property
    def waits(self) -> bool:
        """Whether a trial hangs on how earlier ones ended."""
        return self.sampler in ("tpe", "sigopt") or self.prune_after is not None

    def to_json(self) -> dict[str, Any]:
        """As `study.json` holds it."""
        fields = {name: getattr(self, name) for name in self.__dataclass_fields__}
        return {**fields, "space": [d.to_json() for d in self.space], "seeds": list(self.seeds)}


def plan_sweep(
    space: Sequence[Dimension],
    sampler: str,
    trials: int | None,
    seed: int,
    seeds: Sequence[int],
    *,
    monitor: str,
    prune_after: int | None = None,
) -> SweepPlan:
    """The plan of a sweep; UsageError for what cannot be searched so.

    trials: 20 when None, all points of a grid. The lag is 1: one trial at a time.
    """
    if sampler not in SAMPLERS:
        raise UsageError(f"--sampler {sampler}: allowed: {', '.join(SAMPLERS)}")
    if not monitor.startswith("val/"):
        raise UsageError(
            f"--monitor {monitor}: a sweep compares by a metric of val, as val/loss: test is for the one that is chosen"
        )
    if trials is not None and trials < 1:
        raise UsageError(f"--trials {trials}: must be at least 1")
    if prune_after is not None and prune_after < 1:
        raise UsageError(
            f"--prune-after {prune_after}: must be at least 1; before training there is nothing to compare"
        )
    size = n_points(space)
    if sampler == "grid":
        n = len(grid(space))
        if trials is not None and trials < n:
            raise UsageError(f"--trials {trials}: the grid has {n} points; leave --trials out, or use --sampler random")
        trials = n
    library = ""
    if sampler == "tpe":
        library = f"optuna {load_optuna().__version__}"
    elif sampler == "sigopt":
        library = check_sigopt()
    n_trials = N_TRIALS if trials is None else trials
    if size is not None and sampler != "sigopt":
        n_trials = min(n_trials, size)
    return SweepPlan(tuple(space), sampler, n_trials, seed, tuple(seeds), 1, prune_after, library)


def lag_of(jobs: int, n_runs: int) -> int:
    """The lag with which so many jobs have work: trials under way at once, one more than fill them, so that none waits for a last run."""
    return min(jobs, -(-jobs // n_runs) + 1)


def read_plan(record: StudyRecord) -> Plan:
    """The plan of a recorded sweep."""
    kept = dict(record.plan)
    space = tuple(dimension_of(dimension) for dimension in kept["space"])
    return Sweep(SweepPlan(**{**kept, "space": space, "seeds": tuple(kept["seeds"])}), record)


class Sweep(Plan):
    """Trials of one space, a configuration each."""

    def __init__(self, plan: SweepPlan, record: StudyRecord) -> None:
        self.plan, self.record = plan, record
        self.less = less_is_better(record.monitor)
        self._trials: list[Trial] = []
        self._curves = MonitorReader(record.monitor)
        self._verdicts: dict[str, Verdict] = {}
        self._cleared: dict[str, int] = {}  # of a run, the number of epochs after which it went on
        self._ended: dict[int, Told] = {}
        self._settled: dict[str, Curve] = {}
        self._journal = OptunaJournal(plan.space, less=self.less)
        self._service = SigOptTrials(plan.space, plan.trials, plan.lag, record) if plan.sampler == "sigopt" else None

    def n_members(self) -> int:
        """As many runs as all trials have, where none fails or is pruned."""
        return self.plan.trials * max(1, len(self.plan.seeds))

    def members(self, study: StudyFolder, outcomes: Sequence[Outcome]) -> Sequence[Member]:
        """The runs of all trials that can be suggested by now."""
        self._trials = read_trials(study, self.plan.space, self._trials)
        told = self._told(study, outcomes)
        self._journal.follow(study, told)
        if self._service is not None:
            self._service.observe(study, self._trials, told, outcomes)
        while len(self._trials) < self.plan.trials and self._may_go_on(told):
            number = len(self._trials)
            trial = replace(self._suggest(study, number, told), failed_before=self._failed_before(number, outcomes))
            write_trial(study, trial)
            self._trials.append(trial)
            told.append(Told(number, dict(trial.point), "running"))
        return [member for trial in self._trials for member in trial.members(self.plan.seeds)]

    def groups(self, members: Sequence[Member]) -> Mapping[str, Sequence[Member]]:
        """A band per trial of several runs; trials of one have no spread to show."""
        return super().groups(members) if len(self.plan.seeds) > 1 else {}

    def to_prune(self, study: StudyFolder, running: Sequence[Member]) -> Mapping[str, str]:
        """Of the runs under way, those that the median rule stops."""
        if self.plan.prune_after is None:
            return {}
        self._trials = read_trials(study, self.plan.space, self._trials)
        names = {
            m.name: (trial, place) for trial in self._trials for place, m in enumerate(trial.members(self.plan.seeds))
        }
        verdicts = {
            member.name: self._verdict(study, *names[member.name]) for member in running if member.name in names
        }
        return {name: verdict.reason for name, verdict in verdicts.items() if verdict is not None}

    def conclude(self, study: StudyFolder, outcomes: Sequence[Outcome], console: Console) -> Mapping[str, Any]:
        """Rank the trials, draw them, and write the best one down as a configuration."""
        self._trials = read_trials(study, self.plan.space, self._trials)
        told = self._told(study, outcomes)
        self._journal.follow(study, told)
        if self._service is not None:
            self._service.observe(study, self._trials, told, outcomes)
            self._service.say_best(study, console)
        return report(study, self.record, self.plan.space, self.plan.sampler, told, outcomes, console)

    def show(self, summary: Mapping[str, Any], console: Console) -> None:
        """Write the best points, and which knobs matter."""
        show_search(summary, console)

    def _suggest(self, study: StudyFolder, number: int, told: Sequence[Told]) -> Trial:
        if self._service is not None:
            return self._service.suggest(study, number, self._trials)
        seen = [
            trial if trial.number <= number - self.plan.lag else replace(trial, state="running", value=None, curve=())
            for trial in told
        ]
        return Trial(number, suggest(self.plan.sampler, self.plan.space, self.plan.seed, seen, less=self.less))

    def _earlier(self, number: int) -> list[Trial]:
        """The trials that had ended before trial `number` was suggested, of which alone it is a function."""
        return self._trials[: max(0, number - self.plan.lag + 1)]

    def _failed_before(self, number: int, outcomes: Sequence[Outcome]) -> tuple[str, ...]:
        """The runs that a new trial is not to be compared with: their curves ended anywhere, and grow when they are run again."""
        if self.plan.prune_after is None:
            return ()
        earlier = {trial.name for trial in self._earlier(number)}
        return tuple(o.member.name for o in outcomes if o.status == "failed" and o.member.configuration in earlier)

    def _may_go_on(self, told: Sequence[Told]) -> bool:
        """Whether all that the next trial follows from is known."""
        if not self.plan.waits or (
            self.plan.sampler == "tpe" and self.plan.prune_after is None and len(told) < N_STARTUP
        ):
            return True
        return all(t.state != "running" for t in told[: max(0, len(told) - self.plan.lag + 1)])

    def _told(self, study: StudyFolder, outcomes: Sequence[Outcome]) -> list[Told]:
        by_trial: dict[str, list[Outcome]] = {}
        for outcome in outcomes:
            by_trial.setdefault(outcome.member.configuration, []).append(outcome)
        return [self._tell(study, trial, by_trial.get(trial.name, [])) for trial in self._trials]

    def _tell(self, study: StudyFolder, trial: Trial, outcomes: Sequence[Outcome]) -> Told:
        if trial.number not in self._ended:
            told = tell(trial, outcomes, len(self.plan.seeds), self.record.monitor)
            if told.state == "running":
                return told
            first = trial.members(self.plan.seeds)[0]
            curve = self._curves.read(study.member(first.name))
            verdict = self._verdict(study, trial, 0) if told.state == "pruned" else None
            self._ended[trial.number] = replace(told, curve=tuple(curve[: verdict.epoch + 1] if verdict else curve))
        return self._ended[trial.number]

    def _verdict(self, study: StudyFolder, trial: Trial, place: int) -> Verdict | None:
        """Whether the run of the seed number `place` is to be pruned, by the runs of the same seed of the trials before."""
        member = trial.members(self.plan.seeds)[place]
        if member.name in self._verdicts:
            return self._verdicts[member.name]
        assert self.plan.prune_after is not None
        values = self._curves.read(study.member(member.name))
        first = max(self.plan.prune_after, self._cleared.get(member.name, 0))
        if len(values) <= first:
            return None
        earlier = [
            self._settled_curve(study, other, place)
            for other in self._earlier(trial.number)
            if other.members(self.plan.seeds)[place].name not in trial.failed_before
        ]
        verdict = prune(values, earlier, first, self.record.monitor, less=self.less)
        if verdict is None:
            self._cleared[member.name] = len(values)
        else:
            self._verdicts[member.name] = verdict
        return verdict

    def _settled_curve(self, study: StudyFolder, trial: Trial, place: int) -> Curve:
        """What later trials are compared with: a finished run's curve, a pruned one's as far as it counts.

        Asked only of runs that had finished or were pruned when the later trial was suggested, which no retry changes.
        """
        member = trial.members(self.plan.seeds)[place]
        if member.name not in self._settled:
            pruned = study.outcome(member).status == "pruned"
            values = self._curves.read(study.member(member.name))
            if pruned:
                verdict = self._verdict(study, trial, place)
                values = values[: verdict.epoch + 1] if verdict else []
            self._settled[member.name] = Curve(values, ended=not pruned)
        return self._settled[member.name]
