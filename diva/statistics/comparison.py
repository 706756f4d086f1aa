"""Two sets of runs compared on one metric: the difference, how well it is known, and what tests make of it."""

from __future__ import annotations

import math
from dataclasses import asdict, dataclass, replace
from typing import TYPE_CHECKING, Any, Literal

from diva.errors import UsageError
from diva.statistics.multiplicity import holm
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
from diva.statistics.power import fewest_for_permutation, seeds_needed
from diva.statistics.resampling import EXACT_UP_TO, difference_interval, mean_interval, sign_flip_p, two_sample_p
from diva.statistics.summary import t_interval

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    import numpy

Design = Literal["paired", "unpaired"]
_ROUNDING = 2.0**-44  # of the largest value: differences that differ by less are equal but for rounding


@dataclass(frozen=True)
class Comparison:
    """A against B on one metric. A number that could not be computed is NaN.

    difference: mean(A) - mean(B) over the values that count; ci_t and ci_bootstrap (BCa) of it at `level`.
    p_permutation decides: by flipped signs of the pairs' differences, or by splitting the union anew (Welch's t as statistic). exact:
    whether all rearrangements were enumerated. p_rank: Wilcoxon's signed ranks, or Mann-Whitney. p_t: paired t, or Welch. All two-sided.
    effect: Cohen's d_z of the pairs, or Hedges' g. cliffs_delta: P(A > B) - P(A < B), within pairs or over all of A x B.
    p_adjusted: p_permutation after Holm's correction for `n_tests` tests; see `corrected`.
    more_seeds: about how many more pairs (or runs on each side) a t test would need to see a difference as large as this one with 80 %
    power; 0 when the question is settled, None when no number below 10,000 would do.
    """

    design: Design
    n_a: int
    n_b: int
    n_left_out: int
    mean_a: float
    mean_b: float
    difference: float
    level: float
    ci_t: Interval
    ci_bootstrap: Interval
    p_permutation: float
    exact: bool
    p_rank: float
    p_t: float
    effect: float
    cliffs_delta: float
    p_adjusted: float
    n_tests: int
    more_seeds: int | None

    @property
    def alpha(self) -> float:
        """The chance of a false alarm that is accepted: 1 - level."""
        return round(1 - self.level, 12)

    @property
    def settled(self) -> bool:
        """Whether the difference is more than seeds explain: p_adjusted <= alpha."""
        return self.p_adjusted <= self.alpha

    @property
    def effect_name(self) -> str:
        """What `effect` is."""
        return "Cohen's d_z" if self.design == "paired" else "Hedges' g"

    def to_json(self) -> dict[str, Any]:
        """As JSON: NaN becomes null, an interval [low, high]."""
        return dict(to_json(asdict(self)))

    @classmethod
    def from_json(cls, record: Mapping[str, Any]) -> Comparison:
        """What `to_json` wrote."""
        as_written = {"design", "n_a", "n_b", "n_left_out", "exact", "n_tests", "more_seeds"}
        given: dict[str, Any] = {
            name: value if name in as_written else interval(value) if name.startswith("ci_") else number(value)
            for name, value in record.items()
        }
        return cls(**given)


def compare_paired(a: Sequence[float], b: Sequence[float], *, level: float = 0.95) -> Comparison:
    """Compare runs of the same seeds: a[i] and b[i] are one pair.

    A pair with a value that is not finite is left out. One pair gives a difference and nothing else. The sign-flip test is exact for any
    noise whose differences are symmetric around 0 when A and B are equal. Errors: UsageError for unequal lengths.
    Sources: Fisher 1935, sec. 21 (sign flips); Wilcoxon 1945; Student 1908; Cohen 1988 (d_z); Cliff 1993.
    """
    checked_level(level)
    if len(a) != len(b):
        raise UsageError(
            f"{len(a)} and {len(b)} values are not pairs; give those of the same seeds, or compare unpaired."
        )
    pairs = [(float(x), float(y)) for x, y in zip(a, b, strict=True) if math.isfinite(x) and math.isfinite(y)]
    left_out, n = len(a) - len(pairs), len(pairs)
    if not n:
        return _nothing("paired", 0, 0, left_out, level)
    rounding = max(max(abs(x), abs(y)) for x, y in pairs) * _ROUNDING
    moves = with_ties([x - y for x, y in pairs], rounding)
    middle, sd = mean(moves), deviation(moves)
    effect = _ratio(middle, sd)
    p_sign, exact = sign_flip_p(moves, rounding * n) if n > 1 else (NAN, True)
    found = Comparison(
        design="paired", n_a=n, n_b=n, n_left_out=left_out,
        mean_a=mean([x for x, _ in pairs]), mean_b=mean([y for _, y in pairs]), difference=middle, level=level,
        ci_t=t_interval(middle, sd / math.sqrt(n), n - 1, level), ci_bootstrap=mean_interval(moves, level, "pairs"),
        p_permutation=p_sign, exact=exact, p_rank=_wilcoxon(moves), p_t=t_test_p(effect * math.sqrt(n), n - 1),
        effect=effect, cliffs_delta=(sum(d > 0 for d in moves) - sum(d < 0 for d in moves)) / n,
        p_adjusted=p_sign, n_tests=1, more_seeds=None,
    )  # fmt: skip
    return replace(found, more_seeds=_more_seeds(found))


def compare_unpaired(a: Sequence[float], b: Sequence[float], *, level: float = 0.95) -> Comparison:
    """Compare runs that share no seeds. Values that are not finite are left out.

    The permutation test takes Welch's t as its statistic, so that it is exact when A and B have the same distribution and holds its level,
    in large samples, also when only their means are equal. One run against several is judged by Student's t with the spread of the
    several (Crawford and Howell 1998) and by its rank among them; there are no bootstrap interval and no p below 1 / (n + 1) then.
    Sources: Welch 1947; Janssen 1997; Mann and Whitney 1947; Hedges 1981; Cliff 1993.
    """
    checked_level(level)
    first, second = finite(a), finite(b)
    n_a, n_b, left_out = len(first), len(second), len(a) + len(b) - len(first) - len(second)
    if not n_a or not n_b:
        return _nothing("unpaired", n_a, n_b, left_out, level)
    middle = mean(first) - mean(second)
    error, df = _standard_error(first, second)
    p_split, exact = _split_p(first, second) if n_a + n_b > 2 else (NAN, True)
    above = sum((x > y) - (x < y) for x in first for y in second)
    found = Comparison(
        design="unpaired", n_a=n_a, n_b=n_b, n_left_out=left_out,
        mean_a=mean(first), mean_b=mean(second), difference=middle, level=level,
        ci_t=t_interval(middle, error, df, level), ci_bootstrap=difference_interval(first, second, level),
        p_permutation=p_split, exact=exact, p_rank=_mann_whitney(first, second), p_t=t_test_p(_ratio(middle, error), df),
        effect=hedges_g(first, second), cliffs_delta=above / (n_a * n_b),
        p_adjusted=p_split, n_tests=1, more_seeds=None,
    )  # fmt: skip
    return replace(found, more_seeds=_more_seeds(found))


def corrected(comparisons: Mapping[str, Comparison]) -> dict[str, Comparison]:
    """The same comparisons, told that they were made together: p_adjusted is Holm's, verdict and more_seeds follow from it."""
    adjusted = holm([one.p_permutation for one in comparisons.values()])
    n_tests = sum(not math.isnan(p) for p in adjusted)
    together = {
        name: replace(one, p_adjusted=p, n_tests=max(n_tests, 1))
        for (name, one), p in zip(comparisons.items(), adjusted, strict=True)
    }
    return {name: replace(one, more_seeds=_more_seeds(one)) for name, one in together.items()}


def with_ties(values: Sequence[float], rounding: float) -> list[float]:
    """The values, ascending, magnitudes that differ by no more than rounding made equal, and those below it 0.

    0.97 - 0.95 and 0.96 - 0.94 are not the same float; to a test they are a tie.
    """
    tied, magnitude = [], 0.0
    last = 0.0
    for value in sorted(values, key=abs):
        if abs(value) - last > rounding:
            magnitude = abs(value)
        last = abs(value)
        tied.append(math.copysign(magnitude, value) if magnitude else 0.0)
    return sorted(tied)


def t_test_p(t: float, df: float) -> float:
    """Two-sided p of a t value; 1 for 0 / 0 (no difference and no spread), 0 for an infinite one."""
    from scipy.special import stdtr

    if math.isnan(t) or math.isnan(df):
        return NAN
    return 0.0 if math.isinf(t) else min(1.0, 2 * float(stdtr(df, -abs(t))))


def hedges_g(a: Sequence[float], b: Sequence[float]) -> float:
    """The difference of means over the pooled sd, without its bias in small samples; infinite without any spread.

    NaN when neither has two values. Source: Hedges 1981, eq. 6.
    """
    df = len(a) + len(b) - 2
    if df < 1:
        return NAN
    pooled = math.hypot(*(deviation(one) * math.sqrt((len(one) - 1) / df) for one in (a, b) if len(one) > 1))
    unbiased = math.exp(math.lgamma(df / 2) - math.lgamma((df - 1) / 2)) / math.sqrt(df / 2) if df > 1 else NAN
    return _ratio(mean(a) - mean(b), pooled) * unbiased


def _nothing(design: Design, n_a: int, n_b: int, left_out: int, level: float) -> Comparison:
    return Comparison(
        design=design, n_a=n_a, n_b=n_b, n_left_out=left_out, mean_a=NAN, mean_b=NAN, difference=NAN, level=level,
        ci_t=NO_INTERVAL, ci_bootstrap=NO_INTERVAL, p_permutation=NAN, exact=True, p_rank=NAN, p_t=NAN, effect=NAN,
        cliffs_delta=NAN, p_adjusted=NAN, n_tests=1, more_seeds=None,
    )  # fmt: skip


def _ratio(difference: float, spread: float) -> float:
    """difference / spread; 0 for 0 / 0, infinite for a difference without spread, NaN for an unknown spread."""
    if spread == 0:
        return math.copysign(math.inf, difference) if difference else 0.0
    return difference / spread


def _standard_error(a: Sequence[float], b: Sequence[float]) -> tuple[float, float]:
    """Standard error of mean(a) - mean(b) and its degrees of freedom (Welch 1947); of one value, with the other's spread."""
    n_a, n_b = len(a), len(b)
    if n_a == n_b == 1:
        return NAN, NAN
    if min(n_a, n_b) == 1:
        return deviation(max(a, b, key=len)) * math.sqrt(1 / n_a + 1 / n_b), max(n_a, n_b) - 1
    error_a, error_b = deviation(a) / math.sqrt(n_a), deviation(b) / math.sqrt(n_b)
    error = math.hypot(error_a, error_b)
    if error == 0:
        return 0.0, n_a + n_b - 2
    share = (error_a / error) ** 2  # of the squared error: a ratio, since squares of small errors underflow
    return error, 1 / (share**2 / (n_a - 1) + (1 - share) ** 2 / (n_b - 1))


def _split_p(a: Sequence[float], b: Sequence[float]) -> tuple[float, bool]:
    """Permutation p of Welch's t squared, or of the squared difference where one sample is a single value."""
    import numpy

    n_a, n_b = len(a), len(b)
    middle = mean([*a, *b])
    pooled = numpy.array([value - middle for value in (*a, *b)])
    largest = float(numpy.max(numpy.abs(pooled)))
    if largest == 0:
        return 1.0, True
    pooled /= largest
    total, squares = float(pooled.sum()), float((pooled**2).sum())

    def welch(first: numpy.ndarray) -> numpy.ndarray:
        chosen = pooled[first]
        sum_a, square_a = chosen.sum(axis=1), (chosen**2).sum(axis=1)
        gap = (sum_a / n_a - (total - sum_a) / n_b) ** 2
        if min(n_a, n_b) == 1:
            return numpy.asarray(gap)
        spread_a = numpy.maximum(square_a - sum_a**2 / n_a, 0) / (n_a - 1) / n_a
        spread_b = numpy.maximum(squares - square_a - (total - sum_a) ** 2 / n_b, 0) / (n_b - 1) / n_b
        error = spread_a + spread_b
        flat = error < 1e-13  # no spread within but for rounding, hence a gap: of all values the largest is 1
        return numpy.where(flat, numpy.inf, gap / numpy.where(flat, 1.0, error))

    return two_sample_p(welch, n_a + n_b, n_a)


def _wilcoxon(moves: Sequence[float]) -> float:
    """Two-sided p of the signed ranks, zeros dropped: exact with or without ties up to 16 pairs, beyond SciPy's."""
    from scipy.stats import rankdata, wilcoxon

    moving = [value for value in moves if value != 0]
    if len(moves) < 2:
        return NAN
    if 2 ** len(moving) <= EXACT_UP_TO:
        ranks = rankdata([abs(value) for value in moving]) if moving else []
        return sign_flip_p([math.copysign(float(rank), value) for rank, value in zip(ranks, moving, strict=True)])[0]
    return float(wilcoxon(moving).pvalue)


def _mann_whitney(a: Sequence[float], b: Sequence[float]) -> float:
    """Two-sided p of the rank sum: exact with or without ties up to 2**16 splits, beyond SciPy's normal approximation."""
    from scipy.stats import mannwhitneyu, rankdata

    if len(a) + len(b) < 3:
        return NAN
    if math.comb(len(a) + len(b), len(a)) > EXACT_UP_TO:
        return float(mannwhitneyu(a, b, method="asymptotic").pvalue)
    ranks = rankdata([*a, *b])
    expected = len(a) * float(ranks.sum()) / len(ranks)
    return two_sample_p(lambda first: abs(ranks[first].sum(axis=1) - expected), len(ranks), len(a))[0]


def _more_seeds(found: Comparison) -> int | None:
    """About how many more seeds would settle it: by the power of a t test, and at least what a permutation needs."""
    if math.isnan(found.p_adjusted):
        return None
    if found.settled:
        return 0
    paired, alpha = found.design == "paired", found.alpha / found.n_tests
    needed = seeds_needed(found.effect, paired=paired, alpha=alpha)
    if needed is None:
        return None
    have = min(found.n_a, found.n_b)
    return max(needed, fewest_for_permutation(paired=paired, alpha=alpha), have + 1) - have
