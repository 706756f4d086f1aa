"""Convolution as specified (D2): every output is one DOT, whose order is that of the axes named here.

Arrays are (batch, channels, spatial...) with any number of spatial axes; weights are (out, in / groups, spatial...).
A tap is one position of the kernel; taps are numbered row-major. All results are float32 or float64, as the arguments are.
The forward pass of a transposed convolution is `input_gradient` (its weight is (in, out / groups, spatial...), the very
layout that `input_gradient` takes), its input gradient is `forward`, and its weight gradient is `weight_gradient` with
the two images exchanged.
"""

from __future__ import annotations

from collections.abc import Sequence
from itertools import product

import numpy as np

from diva.kernels.reference.arithmetic import dot, reduce_sum

Ints = Sequence[int]


def output_size(size: Ints, kernel: Ints, stride: Ints, padding: Ints, dilation: Ints) -> tuple[int, ...]:
    """Spatial size of a convolution's output: (size + 2 padding - dilation (kernel - 1) - 1) // stride + 1."""
    axes = zip(size, kernel, stride, padding, dilation, strict=True)
    return tuple((n + 2 * p - d * (k - 1) - 1) // s + 1 for n, k, s, p, d in axes)


def forward(
    x: np.ndarray,
    weight: np.ndarray,
    bias: np.ndarray | None,
    stride: Ints,
    padding: Ints,
    dilation: Ints,
    groups: int = 1,
) -> np.ndarray:
    """y[n, o, q] = DOT over (i, tap) of x[n, i, q stride - padding + tap dilation] weight[o, i, tap], then + bias[o].

    i runs over the channels of o's group, ascending; inside one channel the taps ascend; x is +0 outside of the image.
    The bias is one rounded addition after the DOT.
    """
    kernel = weight.shape[2:]
    size = output_size(x.shape[2:], kernel, stride, padding, dilation)
    padded = np.pad(x, [(0, 0), (0, 0), *((p, p) for p in padding)])
    taps = []
    for tap in np.ndindex(kernel):
        axes = zip(tap, size, stride, dilation, strict=True)
        where = tuple(slice(t * d, t * d + (q - 1) * s + 1, s) for t, q, s, d in axes)
        taps.append(padded[(slice(None), slice(None), *where)])
    columns = np.stack(taps, axis=-1)  # (N, I, spatial, taps)
    columns = np.moveaxis(columns, 1, -2)  # (N, spatial, I, taps)
    out, per_group = weight.shape[:2]
    y = np.zeros((x.shape[0], out, *size), x.dtype)
    for o in range(out):
        first = o // (out // groups) * per_group
        a = columns[..., first : first + per_group, :].reshape(*columns.shape[:-2], -1)
        y[:, o] = dot(a, weight[o].reshape(-1))
        if bias is not None:
            y[:, o] = y[:, o] + bias[o]
    return y


def input_gradient(
    g: np.ndarray,
    weight: np.ndarray,
    size: Ints,
    stride: Ints,
    padding: Ints,
    dilation: Ints,
    groups: int = 1,
    bias: np.ndarray | None = None,
) -> np.ndarray:
    """dx[n, i, q] = DOT over (o, tap) of g[n, o, (q + padding - tap dilation) / stride] weight[o, i, tap], then + bias[i].

    o runs over the output channels of i's group, ascending; inside one channel run, ascending, only those taps for which
    the division by the stride has no remainder on every axis; g is +0 outside of its image. `size` is dx's spatial size.
    The bias, which only a transposed convolution has, is one rounded addition after the DOT.
    """
    out, per_group = weight.shape[:2]
    out_per_group = out // groups
    dx = np.zeros((g.shape[0], groups * per_group, *size), g.dtype)
    for q in np.ndindex(tuple(size)):
        matching = []  # per axis: (tap, position in g) where the stride matches
        for axis, (here, s, p, d) in enumerate(zip(q, stride, padding, dilation, strict=True)):
            taps = range(weight.shape[2 + axis])
            matching.append([(t, (here + p - t * d) // s) for t in taps if (here + p - t * d) % s == 0])
        columns, weights = [], []
        for taps_here in product(*matching):
            position = [place for _, place in taps_here]
            inside = all(0 <= place < n for place, n in zip(position, g.shape[2:], strict=True))
            columns.append(g[(slice(None), slice(None), *position)] if inside else np.zeros(g.shape[:2], g.dtype))
            tap: tuple[int | slice, ...] = (slice(None), slice(None), *(t for t, _ in taps_here))
            weights.append(weight[tap])
        if not columns:
            continue
        column = np.stack(columns, axis=-1)  # (N, O, taps)
        w = np.stack(weights, axis=-1)  # (O, I / groups, taps)
        for i in range(groups * per_group):
            rows = slice(i // per_group * out_per_group, (i // per_group + 1) * out_per_group)
            a = column[:, rows].reshape(g.shape[0], -1)
            where: tuple[int | slice, ...] = (slice(None), i, *q)
            dx[where] = dot(a, w[rows, i % per_group].reshape(-1))
    if bias is not None:
        dx = dx + bias.reshape(1, -1, *(1 for _ in size))
    return dx


def weight_gradient(
    g: np.ndarray,
    x: np.ndarray,
    kernel: Ints,
    stride: Ints,
    padding: Ints,
    dilation: Ints,
    groups: int = 1,
) -> np.ndarray:
    """dw[o, i, tap] = DOT over (n, q) of g[n, o, q] x[n, i, q stride - padding + tap dilation], q row-major, x +0 outside."""
    out, size = g.shape[1], g.shape[2:]
    per_group = x.shape[1] // groups
    padded = np.pad(x, [(0, 0), (0, 0), *((p, p) for p in padding)])
    dw = np.zeros((out, per_group, *kernel), g.dtype)
    flat = np.moveaxis(g, 1, 0).reshape(out, -1)  # (O, N spatial)
    for tap in np.ndindex(tuple(kernel)):
        axes = zip(tap, size, stride, dilation, strict=True)
        where = tuple(slice(t * d, t * d + (q - 1) * s + 1, s) for t, q, s, d in axes)
        seen = np.moveaxis(padded[(slice(None), slice(None), *where)], 1, 0).reshape(x.shape[1], -1)
        for o in range(out):
            first = o // (out // groups) * per_group
            dw[(o, slice(None), *tap)] = dot(seen[first : first + per_group], flat[o])
    return dw


def bias_gradient(g: np.ndarray) -> np.ndarray:
    """db[o] = REDUCE over (n, q) of g[n, o, q], row-major."""
    return reduce_sum(np.moveaxis(g, 1, 0).reshape(g.shape[1], -1))
