"""Does a factor do more than seeds alone? A test per factor, with a controlled chance of any false alarm among all of them."""

from __future__ import annotations

import itertools
import math
from collections.abc import Mapping
from dataclasses import asdict, dataclass, replace
from functools import cache
from typing import TYPE_CHECKING, Any

from diva.errors import UsageError
from diva.statistics.multiplicity import holm
from diva.statistics.numbers import NAN, NO_INTERVAL, Interval, checked_level, deviation, mean, to_json, variance
from diva.statistics.resampling import EXACT_UP_TO, orders, two_sample_p

if TYPE_CHECKING:
    from collections.abc import Sequence

    import numpy

BASE = "base"
Runs = Mapping[Any, float]  # seed -> value


@dataclass(frozen=True)
class Effect:
    """What one factor does to a metric. A number that could not be computed is NaN.

    low, high: the levels with the smallest and the largest mean; range: their distance, ci_range: its Tukey-Kramer interval, which
    allows for their having been picked, cut at 0. sd: of the means of the levels. n_levels: with the base; n_runs: the fewest of a level.
    noise_sd: of runs that differ by their seed alone, as the test took it. p_adjusted: Holm's over all factors.
    method: the test in words.
    """

    n_levels: int
    n_runs: int
    low: str
    high: str
    range: float
    ci_range: Interval
    sd: float
    noise_sd: float
    p: float
    p_adjusted: float
    level: float
    method: str

    @property
    def exceeds(self) -> bool:
        """Whether it is flagged: p_adjusted <= 1 - level."""
        return self.p_adjusted <= round(1 - self.level, 12)

    @property
    def assumes_normal(self) -> bool:
        """Whether the test takes the noise to be normal; then a single run that collapsed may be the reason of a flag."""
        return self.method.startswith("F test")

    def to_json(self) -> dict[str, Any]:
        """As JSON: NaN becomes null, an interval [low, high]; with `exceeds` and `assumes_normal`."""
        return {**to_json(asdict(self)), "exceeds": self.exceeds, "assumes_normal": self.assumes_normal}


@dataclass(frozen=True)
class _Noise:
    """What seeds alone do: variance of a single run, its degrees of freedom."""

    variance: float
    df: int


def exceeds_noise(
    factors: Mapping[str, Mapping[str, Runs]],
    yardstick: Runs | None = None,
    *,
    level: float = 0.95,
) -> dict[str, Effect]:
    """For each factor: whether what its levels do exceeds what seeds alone do. At most 1 - level of studies flag any absent effect.

    factors: factor -> level -> seed -> value, without the base when there is a yardstick. yardstick: seed -> value at the base, which is
    a level of every factor then. In a grid a key is all that runs of different levels share: the seed and the other knobs. Values that
    are not finite are left out.
    The test depends on which seeds the levels share, never on the values:
    - two or more shared by all levels: the levels are permuted within each seed (randomised blocks);
    - none shared: the runs are permuted over the levels;
    - where so few rearrangements exist that even one level far off all others could not be flagged, and where one seed is shared:
      an F test of the means of the levels against the yardstick's other seeds (or the residuals), which takes the noise to be normal.
    Sources: Fisher 1935; Edgington and Onghena 2007, ch. 4 and 6; Scheffe 1959, ch. 4; Kramer 1956; Holm 1979.
    """
    checked_level(level)
    alpha = (1 - level) / max(len(factors), 1)
    found = {name: _effect(name, levels, yardstick or {}, alpha, level) for name, levels in factors.items()}
    adjusted = holm([one.p for one in found.values()])
    return {name: replace(one, p_adjusted=p) for (name, one), p in zip(found.items(), adjusted, strict=True)}


def fewest_seeds(n_levels: int, n_factors: int = 1, *, level: float = 0.95) -> int:
    """How many seeds every level must be run with so that `exceeds_noise` permutes and need not take the noise to be normal.

    n_levels: of the factor that has fewest, with the base. The levels must share these seeds.
    """
    if n_levels < 2:
        raise UsageError(f"{n_levels} level: a factor needs at least 2, the base among them.")
    n_seeds = 2
    while _too_few(n_levels, n_seeds, (1 - checked_level(level)) / n_factors):
        n_seeds += 1
    return n_seeds


def _too_few(n_levels: int, n_seeds: int, alpha: float) -> bool:
    """Whether permuting within seeds could not even flag a level that is far off all others at every seed."""
    return n_levels * float(n_levels) ** -n_seeds > alpha * (1 + 1e-9)


def _effect(
    name: str,
    levels: Mapping[str, Runs],
    yardstick: Runs,
    alpha: float,
    level: float,
) -> Effect:
    if BASE in levels and yardstick:
        raise UsageError(f"factor {name}: a level is called {BASE!r} as the yardstick is; rename it.")
    everything = {**({BASE: yardstick} if yardstick else {}), **levels}
    groups = {
        label: {seed: float(x) for seed, x in runs.items() if math.isfinite(x)} for label, runs in everything.items()
    }
    groups = {label: groups[label] for label in sorted(groups) if groups[label]}
    shared = sorted(set.intersection(*map(set, groups.values())), key=repr) if groups else []
    if len(groups) < 2:
        return _no_effect(groups, level, "one level, nothing to test")
    if len(shared) >= 2:
        return _within_seeds(groups, shared, alpha, level)
    if len(shared) == 1 and min(map(len, groups.values())) == 1:
        return _against_yardstick(groups, shared, level)
    return _between_groups(groups, alpha, level)


def _within_seeds(groups: Mapping[str, Runs], shared: Sequence[Any], alpha: float, level: float) -> Effect:
    """Levels run with the same seeds: permuted within each seed, or an F test where that has too few rearrangements."""
    n_levels, n_seeds = len(groups), len(shared)
    same = {label: {seed: runs[seed] for seed in shared} for label, runs in groups.items()}
    too_few = _too_few(n_levels, n_seeds, alpha)
    if too_few and len(groups.get(BASE, {})) - n_seeds >= 2:
        return _against_yardstick(groups, shared, level)
    table = [[runs[seed] for runs in same.values()] for seed in shared]
    noise = _residual(table)
    if too_few:
        p, method = _f_test(same, noise), f"F test within {n_seeds} seeds, noise taken to be normal"
    else:
        p, exact = _block_p(table)
        method = f"permutation within {n_seeds} seeds, {'exact' if exact else f'{EXACT_UP_TO - 1} draws'}"
    return _described(same, noise, p, method, level)


def _against_yardstick(groups: Mapping[str, Runs], shared: Sequence[Any], level: float) -> Effect:
    """Levels at a few common seeds against the spread of the yardstick's other seeds: an F test."""
    same = {label: {seed: runs[seed] for seed in shared} for label, runs in groups.items()}
    others = [value for seed, value in groups.get(BASE, {}).items() if seed not in set(shared)]
    if len(others) < 2:
        return _described(same, _Noise(NAN, 0), NAN, "no seeds to measure the noise with", level)
    noise = _Noise(variance(others), len(others) - 1)
    method = f"F test against {len(others)} seeds of the base, noise taken to be normal"
    return _described(same, noise, _f_test(same, noise), method, level)


def _between_groups(groups: Mapping[str, Runs], alpha: float, level: float) -> Effect:
    """Levels with seeds of their own: runs permuted over levels, or the F test of one-way analysis of variance."""
    samples = [sorted(runs.values()) for runs in groups.values()]
    sizes = [len(sample) for sample in samples]
    df = sum(sizes) - len(sizes)
    if df < 1:
        return _described(groups, _Noise(NAN, 0), NAN, "no seeds to measure the noise with", level)
    noise = _Noise(math.fsum(variance(one) * (len(one) - 1) for one in samples if len(one) > 1) / df, df)
    if max(sizes.count(size) / math.comb(sum(sizes), size) for size in sizes) > alpha:
        return _described(groups, noise, _f_test(groups, noise), "F test between runs, noise taken to be normal", level)
    p, exact = _split_p(samples)
    method = f"permutation of runs, {'exact' if exact else f'{EXACT_UP_TO - 1} draws'}"
    return _described(groups, noise, p, method, level)


def _no_effect(groups: Mapping[str, Runs], level: float, method: str) -> Effect:
    label = next(iter(groups), "")
    n_runs = len(groups[label]) if groups else 0
    return Effect(len(groups), n_runs, label, label, NAN, NO_INTERVAL, NAN, NAN, NAN, NAN, level, method)


def _described(groups: Mapping[str, Runs], noise: _Noise, p: float, method: str, level: float) -> Effect:
    means = {label: mean(sorted(runs.values())) for label, runs in groups.items()}
    low, high = min(means, key=lambda label: means[label]), max(means, key=lambda label: means[label])
    spread = means[high] - means[low]
    return Effect(
        n_levels=len(groups), n_runs=min(map(len, groups.values())), low=low, high=high, range=spread,
        ci_range=_tukey(spread, len(groups[low]), len(groups[high]), len(groups), noise, level),
        sd=deviation(sorted(means.values())), noise_sd=math.sqrt(noise.variance), p=p, p_adjusted=p, level=level, method=method,
    )  # fmt: skip


def _tukey(spread: float, n_low: int, n_high: int, n_levels: int, noise: _Noise, level: float) -> Interval:
    """The interval of the largest difference of means among `n_levels`, simultaneous over all pairs. Source: Kramer 1956."""
    if noise.df < 1:
        return NO_INTERVAL
    error = math.sqrt(noise.variance / 2 * (1 / n_low + 1 / n_high))
    reach = _studentized_range(level, n_levels, noise.df) * error if error else 0.0
    return Interval(max(0.0, spread - reach), spread + reach)


@cache  # a tenth of a second each, and the same for every metric of a study
def _studentized_range(level: float, n_levels: int, df: int) -> float:
    from scipy.stats import studentized_range

    return float(studentized_range.ppf(level, n_levels, df))


def _f_test(groups: Mapping[str, Runs], noise: _Noise) -> float:
    """P of the variance between levels over the noise; runs of a level count by their number."""
    from scipy.special import fdtrc

    values = [value for runs in groups.values() for value in runs.values()]
    grand, df = mean(sorted(values)), len(groups) - 1
    between = math.fsum(len(runs) * (mean(sorted(runs.values())) - grand) ** 2 for runs in groups.values()) / df
    if noise.variance == 0:
        return 1.0 if between == 0 else 0.0
    return float(fdtrc(df, noise.df, between / noise.variance))


def _residual(table: Sequence[Sequence[float]]) -> _Noise:
    """The residual variance of a two-way table (seeds, levels) without replication: what levels and seeds do not explain."""
    n_seeds, n_levels = len(table), len(table[0])
    by_seed = [mean(row) for row in table]
    by_level = [mean(column) for column in zip(*table, strict=True)]
    grand = mean(by_seed)
    squares = ((x - by_seed[i] - by_level[j] + grand) ** 2 for i, row in enumerate(table) for j, x in enumerate(row))
    df = (n_seeds - 1) * (n_levels - 1)
    return _Noise(math.fsum(squares) / df, df)


def _block_p(table: Sequence[Sequence[float]]) -> tuple[float, bool]:
    """P of the sum of squared totals of the levels when the values of each seed could stand under any level; whether exact."""
    import numpy

    rows = numpy.array([[value - mean(row) for value in row] for row in table])  # (seeds, levels)
    scale = float(numpy.max(numpy.abs(rows)))
    if scale == 0:
        return 1.0, True
    rows /= scale
    threshold = float((rows.sum(axis=0) ** 2).sum()) * (1 - 1e-9)
    n_seeds, n_levels = rows.shape
    totals = rows[:1]  # the first seed may keep its order: only the others relative to it matter
    if exact := math.factorial(n_levels) ** (n_seeds - 1) <= EXACT_UP_TO:
        places = numpy.array(list(itertools.permutations(range(n_levels))))
        for row in rows[1:]:
            totals = (totals[:, None, :] + row[places][None]).reshape(-1, n_levels)
    else:
        for block, row in enumerate(rows[1:]):
            totals = totals + row[numpy.concatenate(list(orders(EXACT_UP_TO - 1, n_levels, "block", block)))]
    hits = int(numpy.count_nonzero((totals**2).sum(axis=1) >= threshold))
    return (hits / len(totals), True) if exact else ((1 + hits) / (1 + len(totals)), False)


def _split_p(samples: Sequence[Sequence[float]]) -> tuple[float, bool]:
    """P of the variance between groups when any run could be of any group; enumerated for two groups, drawn for more."""
    import numpy

    values = [value for sample in samples for value in sample]
    middle, sizes = mean(values), numpy.array([len(sample) for sample in samples])
    pooled = numpy.array([value - middle for value in values])
    scale = float(numpy.max(numpy.abs(pooled)))
    if scale == 0:
        return 1.0, True
    pooled, starts = pooled / scale, numpy.concatenate([[0], numpy.cumsum(sizes)[:-1]])
    if len(sizes) == 2:  # around the mean of all, the totals of two groups differ by their sign alone
        return two_sample_p(lambda first: pooled[first].sum(axis=1) ** 2, len(pooled), len(samples[0]))

    def between(rows: numpy.ndarray) -> numpy.ndarray:
        totals: numpy.ndarray = numpy.add.reduceat(rows, starts, axis=1)
        return numpy.asarray((totals**2 / sizes).sum(axis=1))

    threshold = float(between(pooled[None])[0]) * (1 - 1e-9)
    drawn = orders(EXACT_UP_TO - 1, len(pooled), "groups")
    hits = sum(int(numpy.count_nonzero(between(pooled[order]) >= threshold)) for order in drawn)
    return (1 + hits) / EXACT_UP_TO, False
