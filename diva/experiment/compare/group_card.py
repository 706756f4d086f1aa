"""A comparison of studies, or of runs with studies, as a card: the verdict first, then the numbers it rests on, then what went in."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING, Any

from diva.experiment.compare.card import MOST_COLUMNS, inputs_json, inputs_sections, number, parted_json, turned, where
from diva.experiment.compare.groups import chosen_metrics, compare_pairs, paired_seeds, shown_metrics
from diva.experiment.compare.parting import part
from diva.statistics.summary import summarise

if TYPE_CHECKING:
    from collections.abc import Sequence

    from diva.experiment.compare.groups import Tested
    from diva.experiment.compare.parting import Parted
    from diva.experiment.compare.subjects import Subject
    from diva.statistics.numbers import Interval

    Section = dict[str, Any]

MOST_SEEDS = 20
PAIRING = (
    "Runs of the same seed are pairs where two groups share at least two seeds, and half of either's; else all runs count. "
    "p is that of a permutation test, the interval is Student's."
)


def compare_groups(
    subjects: Sequence[Subject], metrics: Sequence[str] = (), *, everything: bool = False, diff: bool = False
) -> dict[str, Any]:
    """The card of groups of runs; `comparison` in it is the same for scripts. metrics: those that are tested, () for the monitored one."""
    chosen = chosen_metrics(subjects, metrics)
    tested = compare_pairs(subjects, chosen)
    parted = _parted(subjects)
    alike = [representative(subject, subjects) for subject in subjects]
    return {
        "title": " and ".join(subject.name for subject in subjects)
        if len(subjects) == 2
        else f"{len(subjects)} groups",
        "status": _status(tested),
        "sections": [
            _verdict(tested, chosen),
            _groups(subjects),
            _summaries(subjects),
            *_tests(tested, chosen),
            *(_by_seed(subjects, metric) for metric in chosen if len(subjects) <= MOST_COLUMNS),
            *_partings(subjects, parted),
            *inputs_sections(alike, everything=everything, diff=diff, of_groups=True),
        ],
        "comparison": {
            "groups": [_group_json(subject) for subject in subjects],
            "tests": [_test_json(one) for one in tested],
            "same_seeds": [
                {"run": subject.label, "seed": seed, **parted_json(found)}
                for subject, of_seeds in zip(subjects[1:], parted, strict=True)
                for seed, found in of_seeds.items()
            ],
            "differ": inputs_json(alike),
        },
    }


def representative(subject: Subject, subjects: Sequence[Subject]) -> Subject:
    """The group as one run: of the smallest seed that all groups have, else its first; its runs differ by their seed alone."""
    common = set.intersection(*({run.seed for run in one.runs} for one in subjects))
    runs = [run for run in subject.runs if not common or run.seed == min(common)]
    return replace(subject, runs=tuple(runs or subject.runs)[:1])


def _status(tested: Sequence[Tested]) -> str:
    if len(tested) == 1:
        return tested[0].words.partition(" (" if tested[0].found.settled else ":")[0]
    settled = sum(one.found.settled for one in tested)
    return f"{settled} of {len(tested)} differences are settled"


def _is_tested(tested: Tested) -> bool:
    """Whether there was anything to test: of two single values there is not."""
    return tested.found.p_adjusted == tested.found.p_adjusted


def _groups(subjects: Sequence[Subject]) -> Section:
    rows: list[list[Any]] = []
    for subject in subjects:
        seeds = ", ".join(str(run.seed) for run in subject.finished[:MOST_SEEDS])
        more = len(subject.finished) - MOST_SEEDS
        left_out = "; ".join(subject.missing[:3]) + (
            f" and {len(subject.missing) - 3} more" if len(subject.missing) > 3 else ""
        )
        rows.append([
            subject.label, subject.name, len(subject.finished), seeds + (f" and {more} more" if more > 0 else ""), left_out,
        ])  # fmt: skip
    return {"name": "Groups", "table": {"headers": ["", "study or run", "n", "seeds", "does not count"], "rows": rows}}


def _verdict(tested: Sequence[Tested], chosen: Sequence[str]) -> Section:
    """A sentence per pair; many pairs of single runs, of which nothing can be said, share one."""
    said = [one for one in tested if _is_tested(one)] or list(tested)
    if not _is_tested(said[0]) and len(said) > 1:
        more = f"{len(said)} pairs of one run each: one seed says nothing about others. Give each configuration several, with --runs."
        return {"name": "Verdict", "rows": [["nothing to test", more]]}
    rows = [[_name(one, chosen), one.words] for one in said]
    silent = len(tested) - len(said)
    rest = [["not tested", f"{silent} pairs of one run each: one seed says nothing about others."]] if silent else []
    return {"name": "Verdict", "rows": [*rows, *rest, ["how", PAIRING]]}


def _name(tested: Tested, chosen: Sequence[str]) -> str:
    return f"{tested.one} - {tested.two}" + (f", {tested.metric}" if len(chosen) > 1 else "")


def _tests(tested: Sequence[Tested], chosen: Sequence[str]) -> list[Section]:
    """The differences and how well they are known; then the other tests and the effect sizes."""
    first, second = [], []
    for one in filter(_is_tested, tested):
        found, name = one.found, _name(one, chosen)
        n = f"{found.n_a} pairs" if one.seeds else f"{found.n_a} and {found.n_b}"
        first.append([name, _signed(found.difference), _interval(found.ci_t), _short(found.p_adjusted), n])
        p_values = [_short(p) for p in (found.p_permutation, found.p_rank, found.p_t)]
        effects = [f"{found.effect_name} {_short(found.effect)}", _short(found.cliffs_delta)]
        second.append([name, _interval(found.ci_bootstrap), *p_values, *effects])
    if not first:
        return []
    said = f" of {chosen[0]}" if len(chosen) == 1 else ""
    holm = "p" if len(tested) == 1 else "p (Holm)"
    headers = ["", "bootstrap interval", "p (permutation)", "p (rank)", "p (t)", "effect", "Cliff's delta"]
    return [
        {
            "name": f"Differences{said}",
            "table": {"headers": ["", "difference", "95 % interval", holm, "n"], "rows": first},
        },
        {"name": "Other tests and effect sizes", "table": {"headers": headers, "rows": second}},
    ]


def _short(value: float) -> str:
    return f"{value:.3g}" if value == value else "-"


def _signed(value: float) -> str:
    return f"{value:+.4f}" if value == value else "-"


def _interval(found: Interval) -> str:
    return f"{found.low:.4f} to {found.high:.4f}" if found.exists else "-"


def _summaries(subjects: Sequence[Subject]) -> Section:
    """Mean and sd of every metric in every group."""
    rows = []
    for metric in shown_metrics(subjects):
        cells: list[str] = []
        for subject in subjects:
            found = summarise(list(subject.values(metric).values()))
            spread = f" ± {found.sd:.4f}" if found.sd == found.sd else ""
            cells.append(f"{found.mean:.4f}{spread}" if found.n else "-")
        rows.append([metric, *cells])
    headers = ["metric", *(f"{subject.label} (n = {len(subject.finished)})" for subject in subjects)]
    table = {"headers": headers, "rows": rows}
    return {"name": "Mean and standard deviation", "table": turned(table) if len(subjects) > MOST_COLUMNS else table}


def _by_seed(subjects: Sequence[Subject], metric: str) -> Section:
    """A row per seed; of two groups that are paired also the difference."""
    values = [subject.values(metric) for subject in subjects]
    seeds = sorted(set().union(*values))
    paired = len(subjects) == 2 and bool(paired_seeds(subjects[0], subjects[1], metric))
    rows: list[list[Any]] = []
    for seed in seeds[:MOST_SEEDS]:
        found = [of_one.get(seed) for of_one in values]
        there = [value for value in found if value is not None]
        cells = [None if value is None else number(value, there) for value in found]
        moved = _signed(there[0] - there[1]) if len(there) == 2 else "-"
        rows.append([str(seed), *cells, *([moved] if paired else [])])
    headers = ["seed", *(subject.label for subject in subjects), *(["A - B"] if paired else [])]
    more = {"rows": [["", f"and {len(seeds) - MOST_SEEDS} more seeds"]]} if len(seeds) > MOST_SEEDS else {}
    return {"name": f"{metric} by seed", "table": {"headers": headers, "rows": rows}, **more}


def _parted(subjects: Sequence[Subject]) -> list[dict[int, Parted]]:
    """Of each group but the first: where its runs part from those of the first that have the same seed."""
    first = {run.seed: run for run in subjects[0].runs}
    return [
        {run.seed: part(first[run.seed], run) for run in subject.runs if run.seed in first} for subject in subjects[1:]
    ]


def _partings(subjects: Sequence[Subject], parted: Sequence[dict[int, Parted]]) -> list[Section]:
    """How many runs of the same seed have the same bits, and where the first of the others part."""
    rows = []
    for subject, of_seeds in zip(subjects[1:], parted, strict=True):
        same = sum(one.identical for one in of_seeds.values())
        if not of_seeds or (not same and len(subjects) > MOST_COLUMNS):
            continue
        other = next((one for _, one in sorted(of_seeds.items()) if not one.identical), None)
        said = f"{same} of {len(of_seeds)} are identical to those of {subjects[0].label} with the same seed"
        rows.append([subject.label, said + (f"; the first of the others: {where(other)}" if other else "")])
    if not rows and any(parted):
        rows = [["", f"none is identical to that of {subjects[0].label}"]]
    return [{"name": "Runs of the same seed", "rows": rows}] if rows else []


def _group_json(subject: Subject) -> dict[str, Any]:
    return {
        "label": subject.label, "name": subject.name, "n": len(subject.finished),
        "seeds": [run.seed for run in subject.finished], "missing": list(subject.missing),
        "metrics": {
            metric: {"by_seed": {str(seed): v for seed, v in values.items()}, **summarise(list(values.values())).to_json()}
            for metric in shown_metrics([subject])
            if (values := subject.values(metric))
        },
    }  # fmt: skip


def _test_json(tested: Tested) -> dict[str, Any]:
    return {
        "metric": tested.metric, "pair": [tested.one, tested.two], "seeds": list(tested.seeds), "verdict": tested.words,
        **tested.found.to_json(),
    }  # fmt: skip
