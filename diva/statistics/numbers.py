"""Numbers in and out: which values count, their exact mean and spread, and how a result becomes JSON and comes back."""

from __future__ import annotations

import math
import statistics
from typing import TYPE_CHECKING, Any, NamedTuple

from diva.errors import UsageError

if TYPE_CHECKING:
    from collections.abc import Sequence

NAN = math.nan


class Interval(NamedTuple):
    """A confidence interval, both ends included; NaN at both ends where there is none."""

    low: float
    high: float

    @property
    def exists(self) -> bool:
        """Whether there is one."""
        return not (math.isnan(self.low) or math.isnan(self.high))


NO_INTERVAL = Interval(NAN, NAN)


def finite(values: Sequence[float]) -> list[float]:
    """The values that are numbers and not infinite, ascending: nothing that follows depends on the order they came in."""
    return sorted(value for value in map(float, values) if math.isfinite(value))


def mean(values: Sequence[float]) -> float:
    """The mean, correctly rounded: equal values have that very value as their mean. NaN for none."""
    return float(statistics.mean(values)) if values else NAN


def variance(values: Sequence[float]) -> float:
    """The variance with n - 1, correctly rounded; NaN for fewer than two values, infinite where no float is large enough."""
    try:
        return float(statistics.variance(values)) if len(values) > 1 else NAN
    except OverflowError:
        return math.inf


def deviation(values: Sequence[float]) -> float:
    """The standard deviation with n - 1, correctly rounded; NaN for fewer than two values."""
    return float(statistics.stdev(values)) if len(values) > 1 else NAN


def checked_level(level: float) -> float:
    """A confidence level in (0, 1)."""
    if not 0 < level < 1:
        raise UsageError(f"confidence level {level}: allowed is a number between 0 and 1, such as 0.95.")
    return level


def to_json(value: Any) -> Any:
    """A value as JSON holds it: NaN becomes null, infinities "Infinity" and "-Infinity", tuples lists."""
    if isinstance(value, float) and not math.isfinite(value):
        return None if math.isnan(value) else ("Infinity" if value > 0 else "-Infinity")
    if isinstance(value, dict):
        return {str(key): to_json(part) for key, part in value.items()}
    if isinstance(value, (list, tuple)):
        return [to_json(part) for part in value]
    return value


def number(value: Any) -> float:
    """A number that `to_json` wrote."""
    return NAN if value is None else float(value)


def interval(value: Any) -> Interval:
    """An interval that `to_json` wrote."""
    low, high = value
    return Interval(number(low), number(high))
