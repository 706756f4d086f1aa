"""Shares of variance: how much of what seeds do to a metric comes from each source of randomness alone."""

from __future__ import annotations

import math
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Any

from diva.statistics.numbers import NAN, NO_INTERVAL, Interval, checked_level, deviation, finite, to_json, variance
from diva.statistics.resampling import RESAMPLES, picks, words

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    import numpy


@dataclass(frozen=True)
class Share:
    """What one source does alone. share: its variance over that of all together; NaN where there is none to share.

    ci_bootstrap: percentile bootstrap, for any distribution, approximate. ci_f: from the F distribution, right for any number of runs when
    the metric is normal, and only then.
    """

    n: int
    sd: float
    share: float
    ci_bootstrap: Interval
    ci_f: Interval


@dataclass(frozen=True)
class Shares:
    """The spread of a metric, split by source. n, sd: of the runs in which all sources vary.

    remainder: 1 minus the shares: what sources do together only, or a source that was not varied; below 0 when they
    cancel each other, or by chance.
    """

    n: int
    sd: float
    level: float
    sources: Mapping[str, Share]
    remainder: float
    ci_remainder: Interval

    def to_json(self) -> dict[str, Any]:
        """As JSON: NaN becomes null, an interval [low, high]."""
        return dict(to_json(asdict(self)))


def variance_shares(
    sources: Mapping[str, Sequence[float]], together: Sequence[float], *, level: float = 0.95
) -> Shares:
    """Split the variance of a metric by source.

    sources: name -> its values over runs in which this source alone varied; together: over runs in which all varied. Runs of different
    sources must be different ones. Values that are not finite are left out. Shares need not add up to 1; see `Shares.remainder`.
    Sources: Sobol 1993 (first-order indices: each share is one, at fixed values of the others); Bouthillier et al. 2021 for the design;
    Snedecor and Cochran 1989, sec. 6.12 (F interval of a ratio of variances).
    """
    checked_level(level)
    whole = finite(together)
    total, drawn_total = variance(whole), _bootstrap_variances(whole, "together")
    found, drawn_sum = {}, 0.0 * drawn_total
    for name, values in sources.items():
        kept = finite(values)
        drawn = _bootstrap_variances(kept, "source", name)
        drawn_sum = drawn_sum + drawn
        share = variance(kept) / total if total > 0 else NAN
        found[name] = Share(
            n=len(kept), sd=deviation(kept), share=share, ci_bootstrap=_between(drawn, drawn_total, share, level),
            ci_f=_f_interval(share, len(kept), len(whole), level),
        )  # fmt: skip
    remainder = 1 - math.fsum(one.share for one in found.values())
    ci = _between(drawn_sum, drawn_total, remainder, level)
    return Shares(len(whole), deviation(whole), level, found, remainder, Interval(1 - ci.high, 1 - ci.low))


def _bootstrap_variances(values: Sequence[float], *name: str) -> numpy.ndarray:
    """Variances of resamples, float64 (RESAMPLES,), times n / (n - 1) so that their mean is the variance of the data."""
    import numpy

    n = len(values)
    if n < 2:
        return numpy.full(RESAMPLES, NAN)
    data = numpy.array(values) - values[n // 2]
    generator, total, squares = words("variance", *name), numpy.zeros(RESAMPLES), numpy.zeros(RESAMPLES)
    for _ in range(n):
        drawn = data[picks(generator.random_raw(RESAMPLES), n)]
        total += drawn
        squares += drawn**2
    return numpy.maximum(squares - total**2 / n, 0) * n / (n - 1) ** 2


def _between(drawn: numpy.ndarray, drawn_total: numpy.ndarray, share: float, level: float) -> Interval:
    """The percentile interval of drawn / drawn_total; none where there is no share."""
    import numpy

    if math.isnan(share):
        return NO_INTERVAL
    with numpy.errstate(divide="ignore", invalid="ignore"):
        ratio = drawn / drawn_total
    ratio = ratio[numpy.isfinite(ratio)]
    if not len(ratio):
        return NO_INTERVAL
    low, high = numpy.quantile(ratio, [(1 - level) / 2, (1 + level) / 2])
    return Interval(float(low), float(high))


def _f_interval(share: float, n: int, n_total: int, level: float) -> Interval:
    from scipy.special import fdtri

    if math.isnan(share):
        return NO_INTERVAL
    low, high = (float(fdtri(n - 1, n_total - 1, tail)) for tail in ((1 + level) / 2, (1 - level) / 2))
    return Interval(share / low, share / high)
