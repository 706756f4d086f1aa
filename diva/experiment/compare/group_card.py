"""A comparison of studies, or of runs with studies, as a card: the verdict first, then the numbers it rests on, then what went in."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING, Any

from diva.experiment.compare.card import MOST_COLUMNS, inputs_json, inputs_sections, number, parted_json, turned, where
from diva.experiment.compare.groups import (
    chosen_metrics,
    compare_pairs,
    incomparable,
    paired_draws,
    shown_metrics,
    why_not,
)
from diva.experiment.compare.parting import part
from diva.statistics.summary import summarise
from diva.statistics.table import interval_text, number_text
from diva.statistics.verdict import p_text

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from diva.experiment.compare.groups import Tested
    from diva.experiment.compare.parting import Parted
    from diva.experiment.compare.subjects import Draw, Subject

    Section = dict[str, Any]

MOST_SEEDS = 20
PAIRING = (
    "Runs of the same seed (and streams) are pairs where two groups share at least two of them, and half of either's; else all runs count. "
    "p is that of a permutation test, the interval is Student's."
)


def compare_groups(
    subjects: Sequence[Subject], metrics: Sequence[str] = (), *, everything: bool = False, diff: bool = False
) -> dict[str, Any]:
    """The card of groups of runs; `comparison` in it is the same for scripts. metrics: those that are tested, () for the monitored one."""
    chosen = chosen_metrics(subjects, metrics)
    tested = compare_pairs(subjects, chosen)
    refused = incomparable(subjects)
    parted = _parted(subjects)
    alike = [representative(subject, subjects) for subject in subjects]
    return {
        "title": " and ".join(subject.name for subject in subjects)
        if len(subjects) == 2
        else f"{len(subjects)} groups",
        "status": _status(tested, refused),
        "sections": [
            _verdict(subjects, tested, refused, chosen),
            _groups(subjects),
            _summaries(subjects),
            *_tests(tested, chosen),
            *(_by_seed(subjects, metric) for metric in chosen if len(subjects) <= MOST_COLUMNS),
            *_partings(subjects, parted),
            *inputs_sections(alike, everything=everything, diff=diff, groups=subjects),
        ],
        "comparison": {
            "base": subjects[0].label,
            "not_comparable": refused,
            "groups": [_group_json(subject) for subject in subjects],
            "tests": [_test_json(one) for one in tested],
            "same_seeds": [
                {"run": subject.label, "seed": draw.seed, "streams": list(draw.streams), **parted_json(found)}
                for subject, of_draws in zip(subjects[1:], parted, strict=True)
                for draw, found in of_draws.items()
            ],
            "differ": inputs_json(alike, subjects),
        },
    }


def representative(subject: Subject, subjects: Sequence[Subject]) -> Subject:
    """The group as one run, since its runs differ by what they drew alone: the first whose draw all groups have, else its first."""
    common = set.intersection(*(set(one.by_draw) for one in subjects))
    return replace(
        subject, runs=(next((run for draw, run in subject.by_draw.items() if draw in common), subject.first),)
    )


def _status(tested: Sequence[Tested], refused: Mapping[str, str]) -> str:
    if refused:
        more = "" if not tested else f"; of the others {_settled(tested)}"
        return f"not comparable: {why_not(refused, bool(tested))}{more}"
    return (
        tested[0].words.partition(" (" if tested[0].found.settled else ":")[0] if len(tested) == 1 else _settled(tested)
    )


def _settled(tested: Sequence[Tested]) -> str:
    return f"{sum(one.found.settled for one in tested)} of {len(tested)} differences are settled"


def _is_tested(tested: Tested) -> bool:
    """Whether there was anything to test: of two single values there is not."""
    return tested.found.p_adjusted == tested.found.p_adjusted


def _groups(subjects: Sequence[Subject]) -> Section:
    rows: list[list[Any]] = []
    for subject in subjects:
        seeds = ", ".join(map(str, subject.finished_draws[:MOST_SEEDS]))
        more = len(subject.finished) - MOST_SEEDS
        left_out = "; ".join(subject.missing[:3]) + (
            f" and {len(subject.missing) - 3} more" if len(subject.missing) > 3 else ""
        )
        rows.append([
            subject.label, subject.name, len(subject.finished), seeds + (f" and {more} more" if more > 0 else ""), left_out,
        ])  # fmt: skip
    return {"name": "Groups", "table": {"headers": ["", "study or run", "n", "seeds", "does not count"], "rows": rows}}


def _verdict(
    subjects: Sequence[Subject], tested: Sequence[Tested], refused: Mapping[str, str], chosen: Sequence[str]
) -> Section:
    """A sentence per pair; many pairs of single runs, of which nothing can be said, share one. No verdict on what is not comparable."""
    rows = [["not comparable", f"{why_not(refused, bool(tested))}"]] if refused else []
    said = [one for one in tested if _is_tested(one)] or list(tested)
    if len(said) > 1 and not _is_tested(said[0]):
        more = f"{len(said)} pairs of one run each: one seed says nothing about others. Give each configuration several, with --runs."
        return {"name": "Verdict", "rows": [*rows, ["nothing to test", more]]}
    rows += [[_name(one, chosen), one.words] for one in said]
    silent = len(tested) - len(said)
    rest = [["not tested", f"{silent} pairs of one run each: one seed says nothing about others."]] if silent else []
    base = f"All others are compared with {subjects[0].label}; --base names another. " if len(subjects) > 2 else ""
    return {"name": "Verdict", "rows": [*rows, *rest, *([["how", base + PAIRING]] if said else [])]}


def _name(tested: Tested, chosen: Sequence[str]) -> str:
    return f"{tested.one} - {tested.two}" + (f", {tested.metric}" if len(chosen) > 1 else "")


def _tests(tested: Sequence[Tested], chosen: Sequence[str]) -> list[Section]:
    """The differences and how well they are known; then the other tests and the effect sizes."""
    first, second = [], []
    for one in filter(_is_tested, tested):
        found, name = one.found, _name(one, chosen)
        n = f"{found.n_a} pairs" if one.draws else f"{found.n_a} and {found.n_b}"
        first.append([name, _signed(found.difference), interval_text(found.ci_t), p_text(found.p_adjusted), n])
        p_t, effect = p_text(found.p_t), f"{found.effect_name} {_short(found.effect)}"
        if min(found.n_a, found.n_b) == 1:
            p_t = effect = "-"  # the spread of one side alone: no basis for either
        p_values = [p_text(found.p_permutation), p_text(found.p_rank), p_t]
        effects = [effect, _short(found.cliffs_delta)]
        second.append([name, interval_text(found.ci_bootstrap), *p_values, *effects])
    if not first:
        return []
    said = f" of {chosen[0]}" if len(chosen) == 1 else ""
    many = len(first) > 1
    interval, holm = f"95 % interval{' of it alone' if many else ''}", f"p{' (Holm)' if many else ''}, decides"
    headers = ["", "bootstrap interval", "p (permutation)", "p (rank)", "p (t)", "effect", "Cliff's delta"]
    return [
        {
            "name": f"Differences{said}",
            "table": {"headers": ["", "difference", interval, holm, "n"], "rows": first},
        },
        {"name": "Other tests and effect sizes, which decide nothing", "table": {"headers": headers, "rows": second}},
    ]


def _short(value: float) -> str:
    return f"{value:.3g}" if value == value else "-"


def _signed(value: float) -> str:
    return f"{value:+.4f}" if value == value else "-"


def _summaries(subjects: Sequence[Subject]) -> Section:
    """Mean and sd of every metric in every group."""
    rows = []
    for metric in shown_metrics(subjects):
        cells: list[str] = []
        for subject in subjects:
            found = summarise(list(subject.values(metric).values()))
            spread = f" ± {found.sd:.4f}" if found.sd == found.sd else ""
            fewer = f" (n = {found.n})" if found.n < len(subject.finished) else ""
            cells.append(f"{number_text(found.mean)}{spread}{fewer}" if found.n else "-")
        rows.append([metric, *cells])
    headers = ["metric", *(f"{subject.label} (n = {len(subject.finished)})" for subject in subjects)]
    table = {"headers": headers, "rows": rows}
    return {"name": "Mean and standard deviation", "table": turned(table) if len(subjects) > MOST_COLUMNS else table}


def _by_seed(subjects: Sequence[Subject], metric: str) -> Section:
    """A row per seed, and stream where these vary; of two groups that are paired also the difference."""
    values = [subject.values(metric) for subject in subjects]
    draws = sorted(dict.fromkeys(draw for of_one in values for draw in of_one), key=lambda draw: draw.seed)
    paired = len(subjects) == 2 and not incomparable(subjects) and bool(paired_draws(subjects[0], subjects[1], metric))
    rows: list[list[Any]] = []
    for draw in draws[:MOST_SEEDS]:
        found = [of_one.get(draw) for of_one in values]
        there = [value for value in found if value is not None]
        cells = [None if value is None else number(value, there) for value in found]
        moved = _signed(there[0] - there[1]) if len(there) == 2 else "-"
        rows.append([str(draw), *cells, *([moved] if paired else [])])
    headers = [
        "seed",
        *(subject.label for subject in subjects),
        *([" - ".join(subject.label for subject in subjects)] if paired else []),
    ]
    more = {"rows": [["", f"and {len(draws) - MOST_SEEDS} more seeds"]]} if len(draws) > MOST_SEEDS else {}
    streams = " and stream" if any(draw.streams for draw in draws) else ""
    return {"name": f"{metric} by seed{streams}", "table": {"headers": headers, "rows": rows}, **more}


def _parted(subjects: Sequence[Subject]) -> list[dict[Draw, Parted]]:
    """Of each group but the first: where its runs part from those of the first that have the same seed and streams."""
    first = subjects[0].by_draw
    return [
        {draw: part(first[draw], run) for draw, run in subject.by_draw.items() if draw in first and not draw.run}
        for subject in subjects[1:]
    ]


def _partings(subjects: Sequence[Subject], parted: Sequence[dict[Draw, Parted]]) -> list[Section]:
    """How many runs of the same seed have the same bits, and where the first of the others part."""
    rows = []
    for subject, of_draws in zip(subjects[1:], parted, strict=True):
        same = sum(one.identical for one in of_draws.values())
        if not of_draws or (not same and len(subjects) > MOST_COLUMNS):
            continue
        other = next((one for one in of_draws.values() if not one.identical), None)
        said = f"{same} of {len(of_draws)} are identical to those of {subjects[0].label} with the same seed"
        rows.append([subject.label, said + (f"; the first of the others: {where(other)}" if other else "")])
    if not rows and any(parted):
        rows = [["", f"none is identical to that of {subjects[0].label}"]]
    return [{"name": "Runs of the same seed", "rows": rows}] if rows else []


def _group_json(subject: Subject) -> dict[str, Any]:
    return {
        "label": subject.label, "name": subject.name, "configuration": subject.configuration, "n": len(subject.finished),
        "seeds": [draw.seed for draw in subject.finished_draws], "streams": [list(draw.streams) for draw in subject.finished_draws],
        "missing": list(subject.missing),
        "metrics": {
            metric: {"by_seed": {str(draw): v for draw, v in values.items()}, **summarise(list(values.values())).to_json()}
            for metric in shown_metrics([subject])
            if (values := subject.values(metric))
        },
    }  # fmt: skip


def _test_json(tested: Tested) -> dict[str, Any]:
    return {
        "metric": tested.metric, "pair": [tested.one, tested.two], "verdict": tested.words,
        "seeds": [draw.seed for draw in tested.draws], "streams": [list(draw.streams) for draw in tested.draws], **tested.found.to_json(),
    }  # fmt: skip
