"""The table of a study: a row per run, a column per metric, and below what they come to."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

from diva.statistics.summary import summarise

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from diva.statistics.summary import Summary


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
    return [
        ["n", *(str(one.n) for one in found)],
        ["mean", *(_text(one.mean) for one in found)],
        ["sd", *(_text(one.sd) for one in found)],
        ["median", *(_text(one.median) for one in found)],
        ["min to max", *(_range(one.min, one.max) for one in found)],
        [f"{percent} CI (t)", *(_range(*one.ci_t) for one in found)],
        [f"{percent} CI (BCa)", *(_range(*one.ci_bootstrap) for one in found)],
    ]


def _text(value: float) -> str:
    return f"{value:.5g}"


def _range(low: float, high: float) -> str:
    return "" if math.isnan(low) or math.isnan(high) else f"{_text(low)} to {_text(high)}"
