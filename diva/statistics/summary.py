"""What several seeds gave for one metric: its middle, its spread, and how well its mean is known."""

from __future__ import annotations

import math
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Any

from diva.statistics.numbers import (
    NAN,
    NO_INTERVAL,
    Interval,
    checked_level,
    deviation,
    finite,
    interval,
    mean,
    number,
    to_json,
)
from diva.statistics.resampling import RESAMPLES, SEED, mean_interval

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

BOOTSTRAP = f"BCa, {RESAMPLES} resamples, seed {SEED}"


@dataclass(frozen=True)
class Summary:
    """One metric over several runs. A number that does not exist is NaN: the sd of one value, anything of none.

    n: values that count. n_left_out: those that are NaN or infinite and do not. sd: with n - 1. ci_t: Student's interval of the mean,
    ci_bootstrap: BCa; both at `level` and NaN for fewer than two values. quartiles: linear between order statistics, as NumPy's.
    """

    n: int
    n_left_out: int
    mean: float
    sd: float
    median: float
    min: float
    max: float
    quartile_1: float
    quartile_3: float
    level: float
    ci_t: Interval
    ci_bootstrap: Interval
    bootstrap: str = BOOTSTRAP

    @property
    def notes(self) -> tuple[str, ...]:
        """What a reader must know before believing the numbers, a sentence each; empty when there is nothing."""
        said = []
        if self.n_left_out:
            whole = self.n + self.n_left_out
            said.append(f"{self.n_left_out} of {whole} values are not finite and left out: the rest is a selection.")
        if self.n == 1:
            said.append("One value has no spread: run more seeds.")
        elif self.n and self.min == self.max:
            said.append(f"All {self.n} values are equal: the intervals cannot say what another seed would give.")
        return tuple(said)

    def line(self, *, unit: str = "", scale: float = 1.0) -> str:
        """In one line: mean, sd, interval (t), n. scale: what the numbers are multiplied by, such as 100 for points."""
        if not self.n:
            return "no finite value"
        of = f"{self.mean * scale:.4g}{f' {unit}' if unit else ''}"
        if self.n == 1:
            return f"{of}, n = 1"
        low, high = self.ci_t
        ci = f"{self.level * 100:g} % CI {low * scale:.4g} to {high * scale:.4g}"
        return f"{of}, sd {self.sd * scale:.2g}, {ci}, n = {self.n}"

    def to_json(self) -> dict[str, Any]:
        """As JSON: NaN becomes null, an interval [low, high]."""
        return dict(to_json(asdict(self)))

    @classmethod
    def from_json(cls, record: Mapping[str, Any]) -> Summary:
        """What `to_json` wrote."""
        given: dict[str, Any] = {
            name: interval(value) if name.startswith("ci_") else number(value)
            for name, value in record.items()
            if name not in {"n", "n_left_out", "bootstrap"}
        }
        return cls(**given, **{name: record[name] for name in ("n", "n_left_out", "bootstrap")})


def summarise(values: Sequence[float], *, level: float = 0.95) -> Summary:
    """The summary of one metric over several runs, the same bits for any order of the values.

    level: of the intervals, in (0, 1). NaN and infinite values are left out and counted. Mean and sd are correctly rounded.
    Sources: Student 1908; Efron 1987 (BCa); Hyndman and Fan 1996, definition 7 (quartiles).
    """
    import numpy

    checked_level(level)
    kept = finite(values)
    n, left_out = len(kept), len(values) - len(kept)
    if not n:
        return Summary(0, left_out, NAN, NAN, NAN, NAN, NAN, NAN, NAN, level, NO_INTERVAL, NO_INTERVAL)
    middle, sd = mean(kept), deviation(kept)
    first, median, third = (float(value) for value in numpy.quantile(kept, [0.25, 0.5, 0.75]))
    return Summary(
        n, left_out, middle, sd, median, kept[0], kept[-1], first, third, level,
        t_interval(middle, sd / math.sqrt(n), n - 1, level), mean_interval(kept, level, "summary"),
    )  # fmt: skip


def t_interval(middle: float, standard_error: float, df: float, level: float) -> Interval:
    """Student's interval around `middle`; none where the error is NaN. df may be broken, as Welch's is."""
    from scipy.special import stdtrit

    if math.isnan(standard_error):
        return NO_INTERVAL
    reach = float(stdtrit(df, (1 + level) / 2)) * standard_error if standard_error > 0 else 0.0
    return Interval(middle - reach, middle + reach)
