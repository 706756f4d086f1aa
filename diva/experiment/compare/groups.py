"""Groups of runs compared by their numbers: pairwise where seeds and streams are the same; all tests corrected for their number."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from diva.errors import UsageError, nearest
from diva.experiment.study.summary import is_whole, outcome_metric
from diva.learning.task import less_is_better
from diva.statistics.comparison import Comparison, compare_paired, compare_unpaired, corrected
from diva.statistics.verdict import Wording, verdict

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from diva.experiment.compare.subjects import Draw, Subject

FEWEST_PAIRS = 2


@dataclass(frozen=True)
class Tested:
    """One metric of two groups. draws: of the pairs, or () where all runs of both were compared without pairs."""

    metric: str
    one: str
    two: str
    draws: tuple[Draw, ...]
    found: Comparison

    @property
    def words(self) -> str:
        """The verdict."""
        return verdict(
            self.found, Wording.of(self.metric, self.one, self.two, less_is_better=less_is_better(self.metric))
        )


def compare_pairs(subjects: Sequence[Subject], metrics: Sequence[str]) -> list[Tested]:
    """Every metric of the first, the base, against each other that is comparable, if either is a group. p values are Holm's over all."""
    base, groups = subjects[0], [subject for subject in subjects[1:] if subject.is_group or subjects[0].is_group]
    tested = [_test(base, other, metric) for metric in metrics for other in groups if not unlike(base, other)]
    found = corrected({f"{t.metric} {t.one} {t.two}": t.found for t in tested})
    return [Tested(t.metric, t.one, t.two, t.draws, found[f"{t.metric} {t.one} {t.two}"]) for t in tested]


def unlike(one: Subject, two: Subject) -> str:
    """Why numbers of the two are of different things, as "task differs (digits, clouds)"; "" where they can be compared."""
    left, right = one.first.manifest, two.first.manifest
    tasks = [f"{manifest.task.name} ({manifest.task.class_name})" for manifest in (left, right)]
    if tasks[0] != tasks[1]:
        names = [left.task.name, right.task.name] if left.task.name != right.task.name else tasks
        return f"task differs ({', '.join(names)})"
    digests = [manifest.data.digest if manifest.data else "" for manifest in (left, right)]
    if digests[0] == digests[1]:
        return ""
    shown = [f"{m.data.name} {m.data.digest[:15]}..." if m.data else "none" for m in (left, right)]
    return f"data differ ({', '.join(shown)})"


def incomparable(subjects: Sequence[Subject]) -> dict[str, str]:
    """Of each other that is not comparable with the first, by label: why."""
    return {subject.label: why for subject in subjects[1:] if (why := unlike(subjects[0], subject))}


def why_not(refused: Mapping[str, str], others: bool = False) -> str:
    """The reasons of `incomparable` in a line, with whom each is true of where there are other reasons or `others` who are comparable."""
    reasons: dict[str, list[str]] = {}
    for label, why in refused.items():
        reasons.setdefault(why, []).append(label)
    if len(reasons) == 1 and not others:
        return next(iter(reasons))
    return "; ".join(f"{', '.join(labels)}: {why}" for why, labels in reasons.items())


def _test(one: Subject, two: Subject, metric: str) -> Tested:
    left, right = one.values(metric), two.values(metric)
    draws = paired_draws(one, two, metric)
    if draws:
        found = compare_paired([left[draw] for draw in draws], [right[draw] for draw in draws])
    else:
        found = compare_unpaired(list(left.values()), list(right.values()))
    return Tested(metric, one.label, two.label, draws, found)


def paired_draws(one: Subject, two: Subject, metric: str) -> tuple[Draw, ...]:
    """The seeds, with streams, that both groups have, when these are at least two and at least half of either's; else none: no pairs."""
    left, right = one.values(metric), two.values(metric)
    both = tuple(draw for draw in left if draw in right and not draw.run)
    return both if len(both) >= FEWEST_PAIRS and 2 * len(both) >= max(len(left), len(right)) else ()


def chosen_metrics(subjects: Sequence[Subject], asked: Sequence[str]) -> list[str]:
    """The metrics that are tested: those asked for, else the monitored one as it came out on test, or on val where test has it not.

    With a sweep among the groups it is that of val: test is not what chooses a trial.

    UsageError for one that no run measured, and for groups of which none has finished.
    """
    known = shown_metrics(subjects)
    if not known:
        raise UsageError(
            "none of these runs has finished, so there are no metrics to compare; diva resume continues them"
        )
    for name in asked:
        if name not in known:
            raise UsageError(f"--metric {name}: measured by none of these runs; {nearest(name, known)}")
    if asked:
        return list(dict.fromkeys(asked))
    monitor = subjects[0].monitor
    searched = any(subject.study is not None and subject.study.record().kind == "sweep" for subject in subjects)
    metric = monitor if searched and monitor in known else outcome_metric(monitor, known)
    return [metric if metric in known else known[0]]


def shown_metrics(subjects: Sequence[Subject]) -> list[str]:
    """The metrics that some finished run has, without those of single classes; test before val."""
    names = {name for subject in subjects for run in subject.finished for name in run.metrics}
    return sorted(filter(is_whole, names))
