"""grid_sample and its gradients as specified in native/resampling_grid.h, in NumPy, position by position."""

from __future__ import annotations

from itertools import product
from math import floor
from typing import Literal, NamedTuple

import numpy as np

from diva.kernels.reference.arithmetic import fma

Interpolation = Literal["bilinear", "nearest", "bicubic"]
Padding = Literal["zeros", "border", "reflection"]


class Tap(NamedTuple):
    """One input along one axis: its index, the weight and the weight's slope."""

    at: int
    weight: np.floating
    slope: np.floating


def _clamped(p: np.floating, size: int, factor: np.floating) -> tuple[np.floating, np.floating]:
    t = type(p)
    if not p > 0:
        return t(0), t(0)
    if p >= t(size - 1):
        return t(size - 1), t(0)
    return p, factor


def _padded(
    p: np.floating, size: int, padding: Padding, align: bool, factor: np.floating
) -> tuple[np.floating, np.floating]:
    t = type(p)
    if padding == "zeros":
        return p, factor
    if padding == "border":
        return _clamped(p, size, factor)
    low, span = (t(0), t(size - 1)) if align else (t(-0.5), t(size))
    if span == 0:
        return t(0), t(0)
    d = p - low
    if d < 0:
        d, factor = -d, -factor
    if not d / span < 2**31:
        return t(-100), t(0)
    flips = floor(d / span)
    rest = _fma(t(-flips), span, d)
    if flips % 2:
        rest, factor = span - rest, -factor
    return _clamped(rest + low, size, factor)


def _fma(a: np.floating, b: np.floating, c: np.floating) -> np.floating:
    return type(a)(fma(np.asarray(a), np.asarray(b), np.asarray(c)))


def _guarded(p: np.floating) -> np.floating:
    t = type(p)
    return p if -t(2147483648.0) < p < t(2147483647.0) else t(-100)


def axis_taps(
    value: np.floating, size: int, interpolation: Interpolation, padding: Padding, align: bool
) -> tuple[list[Tap], np.floating]:
    """The taps of one number of the grid, and dp/dg with the padding's part."""
    t = type(value)
    n, one, two = t(size), t(1), t(2)
    with np.errstate(all="ignore"):
        p = (value + one) / two * (n - one) if align else ((value + one) * n - one) / two
        factor = (n - one) / two if align else n / two
        if interpolation == "bicubic":
            p = _guarded(p)
            first = t(floor(p))
            f = p - first
            taps = []
            for k in range(4):
                place, _ = _padded(first + t(k - 1), size, padding, align, one)
                taps.append(Tap(int(_guarded(place)), _cubic(f, k), _cubic_slope(f, k)))
            return taps, factor
        p, factor = _padded(p, size, padding, align, factor)
        p = _guarded(p)
        first = t(floor(p))
        if interpolation == "nearest":
            return [Tap(int(np.rint(p)), one, t(0))], factor
        return [Tap(int(first), (first + one) - p, -one), Tap(int(first) + 1, p - first, one)], factor


def _cubic(f: np.floating, k: int) -> np.floating:
    t = type(f)
    x = (f + t(1), f, t(1) - f, (t(1) - f) + t(1))[k]
    if k in (1, 2):
        return _fma(_fma(t(1.25), x, t(-2.25)) * x, x, t(1))
    return _fma(_fma(_fma(t(-0.75), x, t(3.75)), x, t(-6)), x, t(3))


def _cubic_slope(f: np.floating, k: int) -> np.floating:
    t = type(f)
    x = (f + t(1), f, t(1) - f, (t(1) - f) + t(1))[k]
    if k in (1, 2):
        slope = _fma(t(3.75), x, t(-4.5)) * x
    else:
        slope = _fma(_fma(t(-2.25), x, t(7.5)), x, t(-6))
    return slope if k < 2 else -slope


def grid_sample(
    x: np.ndarray, grid: np.ndarray, gy: np.ndarray, interpolation: Interpolation, padding: Padding, align: bool
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """(y, gx, ggrid) of x (N, C, *sizes), grid (N, P, axes) and gy (N, C, P)."""
    axes, sizes = grid.shape[-1], x.shape[2:]
    y, gx, ggrid = np.zeros_like(gy), np.zeros_like(x), np.zeros_like(grid)
    for n, p in np.ndindex(grid.shape[:2]):
        found = [axis_taps(grid[n, p, a], sizes[-1 - a], interpolation, padding, align) for a in range(axes)]
        reached = []
        for taps in product(*(found[a][0] for a in range(axes - 1, -1, -1))):  # z, y, x: the last runs fastest
            place = tuple(tap.at for tap in taps)
            if all(0 <= i < s for i, s in zip(place, sizes, strict=True)):
                reached.append((place, taps[::-1]))
        for c in range(x.shape[1]):
            for place, taps in reached:
                weights = [tap.weight for tap in taps]
                weight = _times(weights)
                y[n, c, p] = _fma(x[(n, c, *place)], weight, y[n, c, p])
                gx[(n, c, *place)] = _fma(gy[n, c, p], weight, gx[(n, c, *place)])
                if interpolation == "nearest":
                    continue
                with np.errstate(all="ignore"):
                    both = x[(n, c, *place)] * gy[n, c, p]
                for a in range(axes):
                    slope = _times([tap.slope if b == a else tap.weight for b, tap in enumerate(taps)])
                    ggrid[n, p, a] = _fma(both, slope, ggrid[n, p, a])
        if interpolation != "nearest":
            for a in range(axes):
                ggrid[n, p, a] *= found[a][1]
    return y, gx, ggrid


def _times(factors: list[np.floating]) -> np.floating:
    result = factors[0]
    for factor in factors[1:]:
        result = result * factor
    return result
