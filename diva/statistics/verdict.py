"""The verdict on a comparison in words: which is better and by how much, or that it is open and what would settle it."""

from __future__ import annotations

import math
from dataclasses import dataclass
from decimal import ROUND_HALF_UP, Decimal
from typing import TYPE_CHECKING

from diva.statistics.power import fewest_for_permutation

if TYPE_CHECKING:
    from diva.statistics.comparison import Comparison

RATES = frozenset(
    {"accuracy", "iou", "f1", "precision", "recall", "map", "dice"}
)  # words in names of metrics from 0 to 1


@dataclass(frozen=True)
class Wording:
    """How a verdict speaks. scale: what numbers are multiplied by before they are shown, such as 100 for accuracies in points.

    a, b: names. unit: behind numbers, "" for none. less_is_better: of the metric.
    """

    a: str = "A"
    b: str = "B"
    less_is_better: bool = False
    unit: str = ""
    scale: float = 1.0

    @classmethod
    def of(cls, metric: str, a: str, b: str, *, less_is_better: bool) -> Wording:
        """The wording for a metric by its name: rates from 0 to 1 are told in points, of a hundred."""
        words = metric.rpartition("/")[2].lower().split("_")
        in_points = not RATES.isdisjoint(words) and words[-1] not in {"loss", "error"}
        return cls(a, b, less_is_better, "points" if in_points else "", 100.0 if in_points else 1.0)


def verdict(found: Comparison, wording: Wording | None = None) -> str:
    """One or two sentences: "A is better than B by 0.8 points (95 % CI 0.3 to 1.3; p = 0.008, ...)", or "Not settled: ..."."""
    say = wording or Wording()
    if min(found.n_a, found.n_b) == 0:
        return f"Nothing to compare: {say.a} has {found.n_a} finite values, {say.b} has {found.n_b}."
    better, worse = (say.a, say.b) if (found.difference > 0) != say.less_is_better else (say.b, say.a)
    gap = _number(abs(found.difference), say)
    if math.isnan(found.p_adjusted):
        what = f"{better} is ahead by {gap}" if found.difference else "the values are equal"
        where = "the only pair" if found.design == "paired" else "one run each"
        return f"Not settled: {what} in {where}; one seed says nothing about others."
    if found.settled:
        return f"{better} is better than {worse} by {gap} ({_interval(found, say, found.difference < 0)}{_evidence(found)})."
    if found.difference == 0 and found.ci_t.low == found.ci_t.high:
        return f"No difference: {say.a} and {say.b} have the same value in every run ({_runs(found)})."
    observed = f"{better} is ahead of {worse} by {gap}" if found.difference else "the means are equal"
    return f"Not settled: {observed} ({_interval(found, say, found.difference < 0)}{_evidence(found)}); {_what_next(found)}."


def p_text(p: float) -> str:
    """A p value to two digits, halves up; "-" for NaN."""
    if math.isnan(p):
        return "-"
    if p < 0.0001:
        return "< 0.0001"
    digits = 1 - math.floor(math.log10(p))
    return f"{float(Decimal(repr(p)).quantize(Decimal(1).scaleb(-digits), ROUND_HALF_UP)):.2g}"


def _number(value: float, say: Wording) -> str:
    return f"{value * say.scale:.3g}{f' {say.unit}' if say.unit else ''}"


def _interval(found: Comparison, say: Wording, turned: bool) -> str:
    """The t interval, seen from the better one, or nothing."""
    low, high = found.ci_t
    if not found.ci_t.exists:
        return ""
    low, high = (-high, -low) if turned else (low, high)
    alone = ", this difference alone" if found.n_tests > 1 else ""
    return f"{found.level * 100:g} % CI {low * say.scale:.3g} to {high * say.scale:.3g}{alone}; "


def _evidence(found: Comparison) -> str:
    shown = p_text(found.p_adjusted)
    p = f"p {shown}" if shown.startswith("<") else f"p = {shown}"
    many = f" after Holm for {found.n_tests} tests" if found.n_tests > 1 else ""
    return f"{p}{many}, {'sign flips' if found.design == 'paired' else 'permutation'}, {_runs(found)}"


def _runs(found: Comparison) -> str:
    return f"{found.n_a} pairs of seeds" if found.design == "paired" else f"{found.n_a} and {found.n_b} runs"


def _what_next(found: Comparison) -> str:
    if found.more_seeds is None:
        return "no practical number of seeds would settle a difference as small as this"
    have, paired = min(found.n_a, found.n_b), found.design == "paired"
    fewest = fewest_for_permutation(paired=paired, alpha=found.alpha / found.n_tests)
    few = "so few settle nothing, and " if have < fewest else ""
    more = f"{found.more_seeds} more seed{'s' if found.more_seeds > 1 else ''}" if paired else ""
    return (
        f"{few}about {more or f'{have + found.more_seeds} runs on each side'} would, if the true difference is this one"
    )
