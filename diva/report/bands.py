"""Bands: what several runs have in common at each step, and how far they are apart. Pure functions of their curves."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

import numpy as np

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from numpy.typing import ArrayLike, NDArray

    Line = tuple[NDArray[np.int64], NDArray[np.float64]]

STATISTICS: Final = ("mean", "mean_minus_sd", "mean_plus_sd", "min", "max", "n")


@dataclass(frozen=True)
class Band:
    """Several runs of one configuration at each step: arrays (T,), T the steps at which at least one of them has a number.

    sd is the sample's (divided by n - 1), NaN where n is 1. n: of how many runs; n_runs: how many have this metric at all.
    """

    steps: NDArray[np.int64]
    mean: NDArray[np.float64]
    sd: NDArray[np.float64]
    low: NDArray[np.float64]
    high: NDArray[np.float64]
    n: NDArray[np.int64]
    n_runs: int

    def columns(self) -> tuple[NDArray[np.float64], ...]:
        """What TensorBoard is given, in the order of `STATISTICS`; where there is one run, the band has no width."""
        sd = np.nan_to_num(self.sd, nan=0.0)
        return self.mean, self.mean - sd, self.mean + sd, self.low, self.high, self.n.astype(np.float64)


def since(band: Band, step: float) -> Band:
    """The band from a step on."""
    kept = band.steps >= step
    mean, sd, low, high = (found[kept] for found in (band.mean, band.sd, band.low, band.high))
    return Band(band.steps[kept], mean, sd, low, high, band.n[kept], band.n_runs)


def middle(bands: Iterable[Band]) -> float:
    """The step halfway from the first to the last of all bands; of at least one that is not empty."""
    ends = [float(band.steps[end]) for band in bands if len(band.steps) for end in (0, -1)]
    return (min(ends) + max(ends)) / 2


def band_of(curves: Sequence[tuple[ArrayLike, ArrayLike]], most_steps: int | None = None) -> Band:
    """The band of several curves, each of steps (T,), strictly increasing, and values (T,), T of its own.

    The steps are those of all curves together. At each the curves count that have a finite number there; a curve without that step
    counts with the straight line between its neighbours, if both are finite, and not at all before its first and after its last. Of
    curves with equal steps this is NumPy's mean, std(ddof=1), min and max over the runs, bit for bit. Curves of a single point each,
    as scores on the test split are, are taken at the last of their steps. A step without any finite number is left out.

    most_steps: keep so many steps at most, evenly among them, the first and the last always.
    """
    lines = [(np.asarray(steps, np.int64), np.asarray(values, np.float64)) for steps, values in curves]
    lines = [(steps, values) for steps, values in lines if len(steps)]
    if lines and all(len(steps) == 1 for steps, _ in lines):
        last = np.max(np.stack([steps for steps, _ in lines]), axis=0)
        lines = [(last, values) for _, values in lines]
    steps, matrix = _aligned(lines, most_steps)
    matrix[~np.isfinite(matrix)] = np.nan
    n = np.isfinite(matrix).sum(axis=0)
    some = n > 0
    steps, matrix, n = steps[some], matrix[:, some], n[some]
    with np.errstate(all="ignore"):
        if not len(n):
            mean = sd = np.zeros(0)
        elif (n == len(lines)).all():
            mean, sd = matrix.mean(axis=0), matrix.std(axis=0, ddof=1) if len(lines) > 1 else np.full(len(n), np.nan)
        else:
            mean = np.nanmean(matrix, axis=0)
            sd = np.full(len(n), np.nan)
            sd[n > 1] = np.nanstd(matrix[:, n > 1], axis=0, ddof=1)
    low, high = (np.nanmin(matrix, axis=0), np.nanmax(matrix, axis=0)) if len(n) else (mean, mean)
    return Band(steps, mean, sd, low, high, n.astype(np.int64), len(lines))


def thinned(n: int, most: int | None) -> NDArray[np.int64]:
    """At most `most` of the indices 0 .. n - 1, evenly among them, the first and the last always."""
    if most is None or n <= most:
        return np.arange(n)
    return np.linspace(0, n - 1, most).round().astype(np.int64)


def _aligned(lines: Sequence[Line], most_steps: int | None) -> tuple[NDArray[np.int64], NDArray[np.float64]]:
    """The common steps (T,) and each curve there (R, T), NaN where it has no number."""
    if not lines:
        return np.zeros(0, np.int64), np.zeros((0, 0))
    first = lines[0][0]
    if all(np.array_equal(steps, first) for steps, _ in lines[1:]):
        kept = thinned(len(first), most_steps)
        return first[kept], np.stack([values[kept] for _, values in lines])
    union = np.unique(np.concatenate([steps for steps, _ in lines]))
    steps = union[thinned(len(union), most_steps)]
    return steps, np.stack([_at(steps, *line) for line in lines])


def _at(steps: NDArray[np.int64], own: NDArray[np.int64], values: NDArray[np.float64]) -> NDArray[np.float64]:
    finite = np.where(np.isfinite(values), values, np.nan)
    return np.interp(steps, own, finite, left=np.nan, right=np.nan)
