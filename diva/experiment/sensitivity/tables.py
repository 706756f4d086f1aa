"""The tables of a sensitivity study: the spread by source, the effect of each factor, its levels, and trees."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final

from diva.errors import UsageError, nearest
from diva.experiment.sensitivity.analysis import FEWEST_FOR_SHARES, enough_for_shares
from diva.statistics.table import interval_text

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

    from diva.report.console import Console

MOST_TREES: Final = 6
Rows = list[list[str]]


def show(summary: Mapping[str, Any], console: Console, metric: str | None = None) -> None:
    """Write the tables of one metric: the one asked for, else the one that the study shows. UsageError for one that no run has."""
    found = summary["sensitivity"]
    shown = metric or found["metric"]
    n_failed = sum(row["status"] != "finished" for row in summary["members"])
    n = len(summary["members"])
    if n_failed:
        console.warn(f"{n_failed} of {n} runs gave no result and are left out: what is left is a selection")
    if metric is not None and metric not in found["metrics"]:
        raise UsageError(f"--metric {metric}: no run has it; {nearest(metric, found['metrics'])}")
    if shown not in found["metrics"]:
        return
    of_metric = found["metrics"][shown]
    console.result(f"{shown} of {n - n_failed} runs\n")
    parts = [spread_table(of_metric), effect_table(of_metric), level_table(of_metric), *tree_tables(found.get("trees"))]
    for headers, rows in parts:
        if rows:
            console.result(console.table(headers, rows) + "\n")
    for line in verdicts(of_metric):
        console.result(line)


def spread_table(found: Mapping[str, Any]) -> tuple[Sequence[str], Rows]:
    """What seeds, and single streams, do; their shares of the variance where there are runs enough to tell."""
    headers = ("randomness of", "runs", "mean", "lowest", "highest", "range", "sd", "95 % of sd")
    rows = [
        [
            _source(row["name"]),
            str(row["n"]),
            *(_number(row[key]) for key in ("mean", "low", "high", "range", "sd")),
            _interval(row["ci_sd"]),
        ]
        for row in found["spread"]
    ]
    if not enough_for_shares(found["shares"]):
        return headers, rows
    shares = found["shares"]["sources"]
    for row, entry in zip(rows, found["spread"], strict=True):
        share = shares.get(entry["name"])
        row += [_percent(share["share"]), _interval(share["ci_f"], _percent)] if share else ["100 %", ""]
    return (*headers, "variance", "95 % of it"), rows


def effect_table(found: Mapping[str, Any]) -> tuple[Sequence[str], Rows]:
    """What each knob and option does, the strongest first."""
    headers = (
        "factor",
        "levels",
        "runs",
        "lowest mean",
        "highest mean",
        "range",
        "95 % of range",
        "sd",
        "p",
        "more than seeds?",
    )
    ordered = sorted(found["effects"], key=lambda row: -(row["range"] or 0))
    return headers, [
        [
            row["name"],
            str(row["n_levels"]),
            str(row["n_runs"]),
            *(f"{_mean(row, row[end])} at {row[end]}" for end in ("low", "high")),
            _number(row["range"]),
            _interval(row["ci_range"]),
            _number(row["sd"]),
            "" if row["p_adjusted"] is None else f"{row['p_adjusted']:.3g}",
            _flag(row),
        ]
        for row in ordered
    ]


def _flag(row: Mapping[str, Any]) -> str:
    """Whether a factor does more than seeds: that it was not shown does not say that it does not."""
    if row["p_adjusted"] is None:
        return "unknown"
    return "yes" if row["exceeds"] else "no: the same values" if _changes_nothing(row) else "not shown"


def _changes_nothing(row: Mapping[str, Any]) -> bool:
    return all(level["values"] == row["levels"][0]["values"] for level in row["levels"])


def level_table(found: Mapping[str, Any]) -> tuple[Sequence[str], Rows]:
    """Every level of every factor, and its difference to the base over the same seeds."""
    headers = ("factor", "level", "runs", "mean", "sd", "95 % of mean", "minus base", "95 % of it")
    rows = []
    for row in found["effects"]:
        for level in row["levels"]:
            against = (
                ["base", ""]
                if level["is_base"]
                else [_number(level["difference"], "+"), _interval(level["ci_difference"])]
            )
            n = str(level["n"]) + (f" ({level['n_missing']} failed)" if level["n_missing"] else "")
            rows.append(
                [
                    row["name"],
                    level["label"],
                    n,
                    _number(level["mean"]),
                    _number(level["sd"]),
                    _interval(level["ci_t"]),
                    *against,
                ]
            )
    return headers, rows


def tree_tables(trees: Mapping[str, Any] | None) -> list[tuple[Sequence[str], Rows]]:
    """How far trees are apart by factor, and the most frequent ones; nothing where no run grew any."""
    if not trees:
        return []
    apart = [
        [
            _source(row["name"]),
            str(row["n_runs"]),
            str(row["n_trees"]),
            _number(row["distance"]),
            _number(row["largest"]),
        ]
        for row in trees["factors"]
    ]
    frequent = [[one["tree"], str(len(one["members"]))] for one in trees["trees"][:MOST_TREES]]
    more = len(trees["trees"]) - len(frequent)
    return [
        (("trees that differ by", "runs", "different trees", "mean distance", "largest"), apart),
        (("tree" if not more else f"tree, and {more} more", "runs"), frequent),
    ]


def verdicts(found: Mapping[str, Any]) -> list[str]:
    """In words, a line per factor and one for the shares of variance."""
    seeds = found["spread"][0]
    lines = []
    for row in sorted(found["effects"], key=lambda row: -(row["range"] or 0)):
        if row["p_adjusted"] is None:
            lines.append(f"{row['name']}: cannot be told from seeds: {row['method']}")
            continue
        if _changes_nothing(row):
            lines.append(
                f"{row['name']}: changes nothing, every seed gives the same value at all {row['n_levels']} levels"
            )
            continue
        times = "" if row["range_over_seeds"] is None else f", {row['range_over_seeds']:.1f} times the sd of seeds"
        what = (
            "moves the result more than seeds alone do"
            if row["exceeds"]
            else "not shown to do more than seeds alone do"
        )
        lines.append(
            f"{row['name']}: {what} (range {_number(row['range'])}{times}; {row['method']}, p = {row['p_adjusted']:.3g} after Holm)"
        )
    if found["shares"] and seeds["sd"]:
        lines.append(_shares_in_words(found["shares"]))
    return lines


def _shares_in_words(shares: Mapping[str, Any]) -> str:
    """The shares of streams with their intervals; of few runs only that there are too few: a ratio of two variances could be anything."""
    if not enough_for_shares(shares):
        runs = [("seed", shares["n"]), *((_source(name), one["n"]) for name, one in shares["sources"].items())]
        told = ", ".join(f"{name} {n}" for name, n in runs)
        return f"too few runs to split the variance of seeds by stream ({told}): at least {FEWEST_FOR_SHARES} of each, better 20"
    ordered = sorted(shares["sources"].items(), key=lambda item: -(item[1]["share"] or 0))
    told = ", ".join(
        f"{_source(name)} {_percent(one['share'])} ({_interval(one['ci_f'], _percent)})" for name, one in ordered
    )
    return f"of the variance that seeds make (95 % of it): {told}; {_remainder(shares['remainder'])}"


def _remainder(share: float) -> str:
    if share < 0:
        return f"{_percent(1 - share)} in all, more than there is: what one of them does, others do as well"
    return f"the rest, {_percent(share)}, is what streams do that were not varied, and what they do together only"


def _source(name: str) -> str:
    return "all: seed" if name == "seed" else name.removeprefix("stream:")


def _mean(row: Mapping[str, Any], label: str) -> str:
    return next((_number(level["mean"]) for level in row["levels"] if level["label"] == label), "")


def _number(value: float | None, sign: str = "") -> str:
    return "" if value is None else f"{value:{sign}.4f}" if abs(value) >= 1e-3 or value == 0 else f"{value:{sign}.2e}"


def _percent(value: float | None) -> str:
    return "" if value is None else f"{100 * value:.0f} %"


def _interval(ends: Sequence[float | None], written: Callable[[float], str] = _number) -> str:
    return interval_text(ends, written, missing="")
