"""Numbers as text, and the table of a study: a row per run, a column per metric, and below what they come to."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any

from diva.statistics.numbers import interval, number
from diva.statistics.summary import summarise

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

    from diva.statistics.summary import Summary


def number_text(value: Any, missing: str = "-") -> str:
    """A number with four digits after the point, given as it is or as JSON holds it; `missing` for one that does not exist."""
    found = number(value)
    return missing if math.isnan(found) else f"{found:.4f}"


def interval_text(ends: Sequence[Any], written: Callable[[float], str] = number_text, missing: str = "-") -> str:
    """Both ends of an interval, given as it is or as JSON holds it; `missing` for one that does not exist. written: an end as text."""
    found = interval(ends)
    return f"{written(found.low)} to {written(found.high)}" if found.exists else missing


FEWEST_RESAMPLED = 8  # of fewer runs a bootstrap interval says little more than the smallest and the largest


def seed_table(
    runs: Mapping[str, Mapping[str, float]],
    metrics: Sequence[str] | None = None,
    *,
    first: str = "seed",
    level: float = 0.95,
) -> tuple[list[str], list[list[str]]]:
    """Headers and rows of text: each run's value of each metric, then mean, sd, median, range and both intervals of the column.

    runs: what the first column says -> metric -> value, in the order to be shown. metrics: columns; all that any run has, sorted, when
    None. A cell is empty where a run has no such metric. The rows of the summary leave out what is not finite and say how many count.
    """
    columns = list(metrics) if metrics is not None else sorted({name for values in runs.values() for name in values})
    rows = [[run, *(_text(values[name]) if name in values else "" for name in columns)] for run, values in runs.items()]
    found = [summarise([values[name] for values in runs.values() if name in values], level=level) for name in columns]
    return [first, *columns], rows + _summary_rows(found, level)


def _summary_rows(found: Sequence[Summary], level: float) -> list[list[str]]:
    percent = f"{level * 100:g} %"
    rows = [
        ["n", *(str(one.n) for one in found)],
        ["mean", *(_known(one.mean) for one in found)],
        ["sd", *(_known(one.sd) for one in found)],
        ["median", *(_known(one.median) for one in found)],
        ["min to max", *(interval_text((one.min, one.max), _text) for one in found)],
        [f"{percent} CI (t)", *(interval_text(one.ci_t, _text) for one in found)],
    ]
    if any(one.n >= FEWEST_RESAMPLED for one in found):
        rows.append([f"{percent} CI (BCa)", *(interval_text(one.ci_bootstrap, _text) for one in found)])
    return rows


def _known(value: float) -> str:
    return "-" if math.isnan(value) else _text(value)


def _text(value: float) -> str:
    return f"{value:.5g}"
