"""Indexed sums, selection by (value, index), bags and folded windows as specified (D9-D12), in NumPy."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Literal

import numpy as np

from diva.kernels.reference.arithmetic import fma

CHUNK = 256  # contributions to one destination that make one chain
Operation = Literal["sum", "prod", "amax", "amin"]


def _combine(a: np.ndarray, x: np.ndarray, operation: Operation) -> np.ndarray:
    with np.errstate(all="ignore"):
        if operation == "sum":
            return np.asarray(a + x)
        if operation == "prod":
            return np.asarray(a * x)
        better = (x > a) if operation == "amax" else (x < a)
        return np.where(np.isnan(a), a, np.where(better | np.isnan(x), x, a))


def contribute(held: np.ndarray, rows: Iterable[np.ndarray], operation: Operation) -> np.ndarray:
    """What a destination holds after the rows, in order: one chain from what it held; for sums and products the first 256
    rows, then chains of 256 from 0 (1), each combined with the result when it is complete or the rows end."""
    result = held
    chain: np.ndarray | None = None
    for rank, row in enumerate(rows):
        if rank < CHUNK or operation in ("amax", "amin"):
            result = _combine(result, row, operation)
            continue
        if rank % CHUNK == 0:
            if chain is not None:
                result = _combine(result, chain, operation)
            chain = np.full_like(held, 0 if operation == "sum" else 1)
        assert chain is not None
        chain = _combine(chain, row, operation)
    return result if chain is None else _combine(result, chain, operation)


def index_reduce(
    x: np.ndarray,
    index: np.ndarray,
    source: np.ndarray,
    operation: Operation,
    alpha: float = 1.0,
    by_count: bool = False,
    skip: int = -1,
) -> np.ndarray:
    """x (n_dest, width) with source (n, width) contributed at index (n,): rows alpha source, or source (1 / count)."""
    result = x.copy()
    for d in range(len(x)):
        rows = source[index == d]
        if d == skip or not len(rows):
            continue
        with np.errstate(all="ignore"):
            if by_count:
                rows = rows * (x.dtype.type(1) / x.dtype.type(len(rows)))
            elif alpha != 1:
                rows = rows * x.dtype.type(alpha)
        result[d] = contribute(x[d], rows, operation)
    return result


def scatter_reduce(x: np.ndarray, index: np.ndarray, source: np.ndarray, operation: Operation) -> np.ndarray:
    """x (outer, n_dest, inner); index and source (outer, n, inner)."""
    result = x.copy()
    for o in range(x.shape[0]):
        for k in range(x.shape[2]):
            column = x[o, :, k : k + 1]
            result[o, :, k : k + 1] = index_reduce(column, index[o, :, k], source[o, :, k : k + 1], operation)
    return result


def order(x: np.ndarray, largest: bool) -> np.ndarray:
    """Positions of the last axis by value, NaN greatest, -0 = +0; equal values by ascending position."""
    nan = np.isnan(x)
    numbers = np.where(nan, 0, x)
    if largest:
        return np.lexsort((np.broadcast_to(np.arange(x.shape[-1]), x.shape), -numbers, ~nan), axis=-1)
    return np.lexsort((np.broadcast_to(np.arange(x.shape[-1]), x.shape), numbers, nan), axis=-1)


def embedding_bag(
    weight: np.ndarray,
    index: np.ndarray,
    offsets: np.ndarray,
    mode: Literal["sum", "mean"],
    per_sample: np.ndarray | None,
    padding: int,
) -> np.ndarray:
    """(bags, width): chains of 256 from +0, folded ascending; weighted by fused multiply-adds; mean divides by the number."""
    result = []
    for first, last in zip(offsets, [*offsets[1:], len(index)], strict=True):
        taken = [i for i in range(first, last) if index[i] != padding]
        total = np.zeros(weight.shape[1], weight.dtype)
        for start in range(0, len(taken), CHUNK):
            chain = np.zeros_like(total)
            for i in taken[start : start + CHUNK]:
                row = weight[index[i]]
                chain = chain + row if per_sample is None else fma(np.full_like(row, per_sample[i]), row, chain)
            total = total + chain
        result.append(total / weight.dtype.type(len(taken)) if mode == "mean" and taken else total)
    return np.array(result, weight.dtype)


def fold_windows(
    x: np.ndarray,
    height: int,
    width: int,
    kernel: tuple[int, int],
    dilation: tuple[int, int],
    padding: tuple[int, int],
    stride: tuple[int, int],
) -> np.ndarray:
    """col2im of (planes, kernel_h * kernel_w, rows, columns): each pixel adds its taps in ascending order from +0."""
    out = np.zeros((len(x), height, width), x.dtype)
    for tap in range(kernel[0] * kernel[1]):
        for wy in range(x.shape[2]):
            for wx in range(x.shape[3]):
                y = wy * stride[0] + tap // kernel[1] * dilation[0] - padding[0]
                z = wx * stride[1] + tap % kernel[1] * dilation[1] - padding[1]
                if 0 <= y < height and 0 <= z < width:
                    out[:, y, z] = out[:, y, z] + x[:, tap, wy, wx]
    return out
