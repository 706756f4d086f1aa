"""Interpolation and padding gradients as specified (D9), in NumPy: one axis after the other, each output from its taps."""

from __future__ import annotations

from fractions import Fraction
from math import floor
from typing import Literal

import numpy as np

from diva.kernels.reference.arithmetic import dot, fma

Mode = Literal["nearest", "nearest-exact", "linear", "cubic"]


def taps(
    n_in: int, n_out: int, mode: Mode, align_corners: bool, scale: float, dtype: type
) -> tuple[np.ndarray, np.ndarray | None]:
    """Indices (n_out, K) and weights (n_out, K), None for the nearest modes; scale 0 where no factor was given.

    Position of output i: align_corners i (in - 1) / (out - 1); nearest i in / out; nearest-exact (i + 1/2) in / out; else
    (i + 1/2) in / out - 1/2, exactly; with a factor i / scale, (i + 0.5) / scale and (i + 0.5) / scale - 0.5 in binary64.
    """
    indices, weights = [], []
    for i in range(n_out):
        position: Fraction | float
        if mode == "nearest" and n_out in (n_in, 2 * n_in):
            indices.append([i * n_in // n_out])
            continue
        if mode in ("nearest", "nearest-exact"):
            shift = 0.0 if mode == "nearest" else 0.5
            position = (i + shift) / scale if scale > 0 else (i + Fraction(shift)) * n_in / n_out
            indices.append([min(floor(position), n_in - 1)])
            continue
        if align_corners:
            position = Fraction(i * (n_in - 1), n_out - 1) if n_out > 1 else Fraction(0)
        elif scale > 0:
            position = (i + 0.5) / scale - 0.5
        else:
            position = (i + Fraction(1, 2)) * n_in / n_out - Fraction(1, 2)
        if mode == "linear" and position < 0:
            position = Fraction(0)
        first = min(floor(position), n_in - 1)
        if isinstance(position, Fraction):
            t = dtype(float(position - first))  # one division, correctly rounded, then once to the type
        else:
            t = dtype(min(max(position - float(first), 0.0), 1.0))
        one = dtype(1)
        if mode == "linear":
            indices.append([first, min(first + 1, n_in - 1)])
            weights.append([one - t, t])
        else:
            indices.append([min(max(first - 1 + k, 0), n_in - 1) for k in range(4)])
            weights.append([_far(t + one), _near(t), _near(one - t), _far((one - t) + one)])
    return np.array(indices), np.array(weights, dtype) if weights else None


def _near(x: np.floating) -> np.ndarray:
    c = [np.asarray(v, x.dtype) for v in (1.25, -2.25, 1)]
    return fma(fma(c[0], np.asarray(x), c[1]) * x, np.asarray(x), c[2])


def _far(x: np.floating) -> np.ndarray:
    c = [np.asarray(v, x.dtype) for v in (-0.75, 3.75, -6, 3)]
    return fma(fma(fma(c[0], np.asarray(x), c[1]), np.asarray(x), c[2]), np.asarray(x), c[3])


def _copied(n_in: int, n_out: int, mode: Mode, scale: float) -> bool:
    return n_in == n_out and not (mode == "nearest-exact" and scale > 0)


def resample(
    x: np.ndarray, out: tuple[int, ...], mode: Mode, align_corners: bool, scales: tuple[float, ...]
) -> np.ndarray:
    """Interpolate the last len(out) axes of x: the last axis first; y = x_0 w_0, then fma(x_k, w_k, y), k ascending."""
    for k in range(len(out) - 1, -1, -1):
        axis = x.ndim - len(out) + k
        if _copied(x.shape[axis], out[k], mode, scales[k]):
            continue
        index, weight = taps(x.shape[axis], out[k], mode, align_corners, scales[k], x.dtype.type)
        moved = np.moveaxis(x, axis, -1)
        y = moved[..., index[:, 0]]
        if weight is not None:
            with np.errstate(all="ignore"):
                y = y * weight[:, 0]
            for tap in range(1, index.shape[1]):
                y = fma(moved[..., index[:, tap]], weight[:, tap], y)
        x = np.moveaxis(y, -1, axis)
    return x


def resample_backward(
    gy: np.ndarray, sizes: tuple[int, ...], mode: Mode, align_corners: bool, scales: tuple[float, ...]
) -> np.ndarray:
    """The gradient of resample's x: the first axis first, each input DOT over the (output, tap) that read it, ascending."""
    for k, size in enumerate(sizes):
        axis = gy.ndim - len(sizes) + k
        n_out = gy.shape[axis]
        if not _copied(size, n_out, mode, scales[k]):
            gy = _gather(gy, axis, size, *taps(size, n_out, mode, align_corners, scales[k], gy.dtype.type))
    return gy


def pad_backward(
    gy: np.ndarray, sizes: tuple[int, ...], left: tuple[int, ...], mode: Literal["reflect", "replicate"]
) -> np.ndarray:
    """The gradient of padding the last axes: sums over the outputs that read an input, ascending, the first axis first."""
    for k, size in enumerate(sizes):
        axis = gy.ndim - len(sizes) + k
        positions = np.arange(gy.shape[axis]) - left[k]
        if mode == "replicate":
            index = np.clip(positions, 0, size - 1)
        else:
            index = np.abs(positions)
            index = np.where(index < size, index, 2 * (size - 1) - index)
        if gy.shape[axis] != size or left[k]:
            gy = _gather(gy, axis, size, index[:, None], None)
    return gy


def _gather(gy: np.ndarray, axis: int, size: int, index: np.ndarray, weight: np.ndarray | None) -> np.ndarray:
    moved = np.moveaxis(gy, axis, -1)
    result = np.zeros((*moved.shape[:-1], size), gy.dtype)
    for i in range(size):
        outputs, tap = np.nonzero(index == i)  # row-major: outputs ascending, then taps
        w = np.ones(len(outputs), gy.dtype) if weight is None else weight[outputs, tap]
        result[..., i] = dot(w, moved[..., outputs])
    return np.moveaxis(result, -1, axis)
