"""Resampling: bootstrap intervals and permutation tests, from words of fixed streams, so that they repeat on every machine."""

from __future__ import annotations

import itertools
import math
from typing import TYPE_CHECKING, Any

from diva.seeding import Seeds
from diva.statistics.numbers import NO_INTERVAL, Interval, mean

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence

    import numpy

SEED = 0  # of all that is drawn here; changing it would change every interval ever reported
RESAMPLES = 9_999
EXACT_UP_TO = 2**16  # rearrangements that are enumerated; beyond, as many less one are drawn
_WORDS_AT_ONCE = 2**20


def words(*name: str | int) -> Any:
    """The generator (Philox) of the stream `name`; its `random_raw` is the same in every NumPy."""
    import numpy

    return numpy.random.Philox(key=Seeds(SEED).key("statistics", *name))


def bootstrap_means(values: Sequence[float], *name: str | int) -> numpy.ndarray:
    """Means of `RESAMPLES` samples drawn with replacement from ascending `values`, float64 (RESAMPLES,).

    The sum runs over the draws, so that it has one order on every machine.
    """
    import numpy

    data, generator = numpy.asarray(values, dtype=numpy.float64), words("bootstrap", *name)
    total = numpy.zeros(RESAMPLES)
    for _ in range(len(data)):
        total += data[picks(generator.random_raw(RESAMPLES), len(data))]
    return total / len(data)


def picks(raw: numpy.ndarray, n: int) -> numpy.ndarray:
    """Indices in [0, n) from 64-bit words: the product of n and the upper 32 bits; uneven by less than n / 2**32."""
    import numpy

    return ((raw >> numpy.uint64(32)) * numpy.uint64(n)) >> numpy.uint64(32)


def bca(drawn: numpy.ndarray, observed: float, acceleration: float, level: float) -> Interval:
    """The BCa interval of a statistic: `drawn` from resamples, `observed` in the data. Ties count half.

    Source: Efron 1987; DiCiccio and Efron 1996, eq. 2.3 to 2.5.
    """
    import numpy
    from scipy.special import ndtr, ndtri

    tie = 1e-12 * float(numpy.max(numpy.abs(drawn - observed), initial=0.0))
    below = float(numpy.count_nonzero(drawn < observed - tie) + numpy.count_nonzero(drawn <= observed + tie)) / 2
    bias = float(ndtri(min(max(below, 0.5), len(drawn) - 0.5) / len(drawn)))

    def place(tail: float) -> float:
        shifted = bias + float(ndtri(tail))
        room = 1 - acceleration * shifted
        return float(ndtr(bias + shifted / room)) if room > 0 else float(shifted > 0)

    low, high = numpy.quantile(drawn, [place((1 - level) / 2), place((1 + level) / 2)])
    return Interval(float(low), float(high))


def acceleration_of(samples: Sequence[Sequence[float]]) -> float:
    """The acceleration of BCa for a sum or difference of means, from the influence of each value; 0 where nothing varies.

    samples: each with the sign that it has in the statistic. Source: DiCiccio and Efron 1996, sec. 4; jackknife values of a mean
    are its deviations.
    """
    influences = []
    for sample in samples:
        middle = mean(sample)
        influences += [(value - middle) / len(sample) for value in sample]
    largest = max(map(abs, influences))
    if largest == 0:
        return 0.0
    scaled = [influence / largest for influence in influences]  # or cubes underflow
    return math.fsum(u**3 for u in scaled) / (6 * math.pow(math.fsum(u**2 for u in scaled), 1.5))


def mean_interval(values: Sequence[float], level: float, *name: str | int) -> Interval:
    """The BCa interval of the mean of ascending values; none for fewer than two."""
    if len(values) < 2:
        return NO_INTERVAL
    middle = mean(values)
    centred = [value - middle for value in values]
    found = bca(bootstrap_means(centred, *name), 0.0, acceleration_of([centred]), level)
    return Interval(middle + found.low, middle + found.high)


def difference_interval(a: Sequence[float], b: Sequence[float], level: float) -> Interval:
    """The BCa interval of mean(a) - mean(b), each ascending and resampled by itself; none where one has fewer than two."""
    if min(len(a), len(b)) < 2:
        return NO_INTERVAL
    middle_a, middle_b = mean(a), mean(b)
    first, second = [value - middle_a for value in a], [middle_b - value for value in b]
    drawn = bootstrap_means(first, "a") + bootstrap_means(second, "b")
    found = bca(drawn, 0.0, acceleration_of([first, second]), level)
    return Interval(middle_a - middle_b + found.low, middle_a - middle_b + found.high)


def sign_flip_p(differences: Sequence[float], tolerance: float = 0.0) -> tuple[float, bool]:
    """Two-sided p of the sum of `differences` when the sign of each is a coin, and whether all signs were enumerated.

    Zeros change nothing and are dropped. Up to 16 others are enumerated; for more, 65,535 sign vectors are drawn and the observed one
    counts as one of them. tolerance: sums that differ by no more are ties, which is what rounding leaves of equal sums.
    Source: Fisher 1935, sec. 21; Phipson and Smyth 2010 for the + 1.
    """
    import numpy

    moving = [value for value in differences if value != 0]
    observed = abs(math.fsum(moving))
    if 2 ** len(moving) <= EXACT_UP_TO:
        sums = numpy.zeros(1)
        for value in moving:
            sums = numpy.concatenate([sums + value, sums - value])
        return int(numpy.count_nonzero(numpy.abs(sums) >= observed - tolerance)) / len(sums), True
    drawn, generator = numpy.zeros(EXACT_UP_TO - 1), words("signs")
    for start in range(0, len(moving), 64):
        raw = generator.random_raw(len(drawn))
        for place, value in enumerate(moving[start : start + 64]):
            drawn += numpy.where((raw >> numpy.uint64(place)) & numpy.uint64(1), value, -value)
    return (1 + int(numpy.count_nonzero(numpy.abs(drawn) >= observed - tolerance))) / (1 + len(drawn)), False


def two_sample_p(
    statistic: Callable[[numpy.ndarray], numpy.ndarray], n_all: int, n_first: int, tolerance: float = 1e-9
) -> tuple[float, bool]:
    """P of a statistic when any `n_first` of `n_all` values could have been the first sample, and whether all were enumerated.

    statistic: gets int64 (k, n_first), indices of the first sample in k rearrangements, and returns float64 (k,), large for evidence;
    the observed one is range(n_first). tolerance: relative, for ties. At most 2**16 rearrangements are enumerated, otherwise 65,535 drawn.
    """
    import numpy

    threshold = float(statistic(numpy.arange(n_first)[None])[0]) * (1 - tolerance)
    if math.comb(n_all, n_first) <= EXACT_UP_TO:
        chosen = numpy.array(list(itertools.combinations(range(n_all), n_first)), dtype=numpy.int64)
        return int(numpy.count_nonzero(statistic(chosen) >= threshold)) / len(chosen), True
    hits = 0
    for order in orders(EXACT_UP_TO - 1, n_all, "split"):
        hits += int(numpy.count_nonzero(statistic(order[:, :n_first]) >= threshold))
    return (1 + hits) / EXACT_UP_TO, False


def orders(how_many: int, n: int, *name: str | int) -> Iterator[numpy.ndarray]:
    """Random permutations of range(n), int64 (k, n) at a time: the stable order of random words."""
    import numpy

    generator, at_once = words(*name), max(1, _WORDS_AT_ONCE // n)
    for start in range(0, how_many, at_once):
        raw = generator.random_raw((min(at_once, how_many - start), n))
        yield numpy.argsort(raw, axis=1, kind="stable")
