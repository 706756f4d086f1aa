"""Pooling as the specification has it: maxima, averages and adaptive windows, forward and backward (D9).

A window is, per dimension, a run of input positions start, start + dilation, ...; adaptive pooling's window o of O over I
positions is floor(o I / O) .. ceil((o + 1) I / O) - 1. Positions outside the input are left out. Positions are visited in
row-major order.

Maximum: from -Inf and the first position of the window; a position is taken when its value is greater than the best so
far, or NaN. So the first of equal maxima wins (+0 and -0 are equal), and the last NaN. A dilated window may have no
position inside: its value is -Inf and its index -1. Backward: the gradient of an input element is the sum, from +0, of
the gradients of the outputs that took it, outputs ascending.

Average: the chain sum = sum + x from +0, then one true division by the count (the window's positions, those in the padding
among them where they are to be counted, or a given divisor). Backward: the sum, from +0, outputs ascending, of the
gradients of the outputs whose window holds the element, each divided by its count. Adaptive averages the same; torch
takes a mean (REDUCE) where an adaptive average has one output.
"""

from __future__ import annotations

from dataclasses import dataclass
from itertools import product
from typing import Any

import numpy as np

Array = Any  # numpy.ndarray of float32 or float64


@dataclass(frozen=True)
class Window:
    """One output's positions along one dimension, and how many it counts as."""

    positions: tuple[int, ...]
    count: int


def output_size(size: int, kernel: int, stride: int, padding: int, dilation: int, ceil_mode: bool) -> int:
    """Windows that fit; with ceil_mode also one that begins in the input or its left padding and reaches beyond."""
    room = size + 2 * padding - dilation * (kernel - 1) - 1 + (stride - 1 if ceil_mode else 0)
    n = room // stride + 1
    return n - 1 if ceil_mode and (n - 1) * stride >= size + padding else n


def windows(
    size: int,
    kernel: int,
    stride: int,
    padding: int = 0,
    dilation: int = 1,
    *,
    ceil_mode: bool = False,
    include_pad: bool = True,
) -> list[Window]:
    """The windows along one dimension."""
    found = []
    for o in range(output_size(size, kernel, stride, padding, dilation, ceil_mode)):
        start = o * stride - padding
        inside = tuple(i for i in range(start, start + kernel * dilation, dilation) if 0 <= i < size)
        padded = min(start + kernel, size + padding) - start
        found.append(Window(inside, padded if include_pad else len(inside)))
    return found


def adaptive_windows(size: int, outputs: int) -> list[Window]:
    """The windows of adaptive pooling along one dimension."""
    bounds = [(o * size // outputs, -(-(o + 1) * size // outputs)) for o in range(outputs)]
    return [Window(tuple(range(a, b)), b - a) for a, b in bounds]


def max_pool(x: Array, along: list[list[Window]]) -> tuple[Array, Array]:
    """(maxima, their positions in the flattened space) of x (P, *space), windows per dimension of space."""
    space = x.shape[1:]
    flat = x.reshape(x.shape[0], -1)
    shape = (x.shape[0], *map(len, along))
    values: Array = np.empty(shape, x.dtype)
    indices: Array = np.empty(shape, np.int64)
    for o in product(*(range(len(w)) for w in along)):
        taps = _taps(along, o, space)
        best, where = np.full(x.shape[0], -np.inf, x.dtype), np.full(x.shape[0], taps[0] if taps else -1)
        for tap in taps:
            value = flat[:, tap]
            with np.errstate(invalid="ignore"):
                take = (value > best) | (value != value)
            best, where = np.where(take, value, best), np.where(take, tap, where)
        values[(slice(None), *o)], indices[(slice(None), *o)] = best, where
    return values, indices


def max_pool_backward(g: Array, indices: Array, space: tuple[int, ...]) -> Array:
    """dx (P, *space) of g and indices (P, *outputs)."""
    planes = g.shape[0]
    dx = np.zeros((planes, int(np.prod(space))), g.dtype)
    grad, index = g.reshape(planes, -1), indices.reshape(planes, -1)
    for o, p in product(range(grad.shape[1]), range(planes)):
        with np.errstate(all="ignore"):
            if index[p, o] >= 0:
                dx[p, index[p, o]] += grad[p, o]
    return dx.reshape(planes, *space)


def average_pool(x: Array, along: list[list[Window]], divisor: int | None = None) -> Array:
    """Averages of x (P, *space)."""
    flat = x.reshape(x.shape[0], -1)
    y: Array = np.empty((x.shape[0], *map(len, along)), x.dtype)
    for o in product(*(range(len(w)) for w in along)):
        total = np.zeros(x.shape[0], x.dtype)
        with np.errstate(all="ignore"):
            for tap in _taps(along, o, x.shape[1:]):
                total = total + flat[:, tap]
            y[(slice(None), *o)] = total / x.dtype.type(_count(along, o, divisor))
    return y


def average_pool_backward(
    g: Array, along: list[list[Window]], space: tuple[int, ...], divisor: int | None = None
) -> Array:
    """dx (P, *space) of g (P, *outputs)."""
    dx = np.zeros((g.shape[0], int(np.prod(space))), g.dtype)
    with np.errstate(all="ignore"):
        for o in product(*(range(len(w)) for w in along)):
            share = g[(slice(None), *o)] / g.dtype.type(_count(along, o, divisor))
            for tap in _taps(along, o, space):
                dx[:, tap] = dx[:, tap] + share
    return dx.reshape(g.shape[0], *space)


def _taps(along: list[list[Window]], o: tuple[int, ...], space: tuple[int, ...]) -> list[int]:
    chosen = [w[i].positions for w, i in zip(along, o, strict=True)]
    return [int(np.ravel_multi_index(tap, space)) for tap in product(*chosen)]


def _count(along: list[list[Window]], o: tuple[int, ...], divisor: int | None) -> int:
    counts = [w[i].count for w, i in zip(along, o, strict=True)]
    return divisor if divisor else int(np.prod(counts))
