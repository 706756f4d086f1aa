"""What every family's reference stands on: a fused multiply-add, the DOT of D1 and the REDUCE of D3."""

from __future__ import annotations

from fractions import Fraction

import numpy as np

CHUNK = 256  # length of a chain of fused multiply-adds, D1
LANES = 64  # of REDUCE, D3
BLOCK = 4096  # of REDUCE, D3


def fma(a: np.ndarray, b: np.ndarray, c: np.ndarray) -> np.ndarray:
    """a b + c rounded once, elementwise with broadcasting; float32 or float64, as `a` is.

    float32: the product is exact in binary64; the sum with c is rounded to odd there (Boldo and Melquiond 2008), so that
    the last rounding, to binary32, is the only one that counts. float64: exact rational arithmetic, slow.
    """
    a, b, c = np.broadcast_arrays(a, b, c)
    if a.dtype == np.float32:
        with np.errstate(all="ignore"):
            product = a.astype(np.float64) * b.astype(np.float64)
            addend = c.astype(np.float64)
            total = product + addend
            # the error of that addition, exactly (Knuth's TwoSum); where it is not zero and the last bit is even, the
            # sum moves to the odd neighbour on the side of the error.
            back = total - product
            error = (product - (total - back)) + (addend - back)
            bits = total.view(np.int64)
            move = np.isfinite(total) & (error != 0) & (bits & 1 == 0)
            up = (error > 0) == (total > 0)
            odd = np.where(move, bits + np.where(up, 1, -1), bits).view(np.float64)
            return odd.astype(np.float32)
    result = np.empty(a.shape, np.float64)
    for index in np.ndindex(a.shape):
        result[index] = _fma64(float(a[index]), float(b[index]), float(c[index]))
    return result


def _fma64(a: float, b: float, c: float) -> float:
    if not (np.isfinite(a) and np.isfinite(b) and np.isfinite(c)):
        with np.errstate(all="ignore"):
            return float(np.float64(a) * np.float64(b) + np.float64(c))
    exact = Fraction(a) * Fraction(b) + Fraction(c)
    if exact == 0:  # the sign of an exact zero is that of IEEE addition
        return float(np.float64(a) * np.float64(b) + np.float64(c)) if a == 0 or b == 0 else 0.0
    try:
        return float(exact)  # true division of integers is correctly rounded
    except OverflowError:
        return np.inf if exact > 0 else -np.inf


def dot(a: np.ndarray, b: np.ndarray) -> np.ndarray:
    """DOT of D1 over the last axis, elementwise over the others (broadcasting): chains of 256, folded ascending."""
    a, b = np.broadcast_arrays(a, b)
    total = np.zeros(a.shape[:-1], a.dtype)
    for start in range(0, a.shape[-1], CHUNK):
        chain = np.zeros_like(total)
        for k in range(start, min(start + CHUNK, a.shape[-1])):
            chain = fma(a[..., k], b[..., k], chain)
        total = total + chain
    return total


def reduce_sum(x: np.ndarray) -> np.ndarray:
    """REDUCE of D3 over the last axis."""
    return _reduce(x, None)


def reduce_dot(x: np.ndarray, y: np.ndarray) -> np.ndarray:
    """REDUCE_fma of D3 over the last axis: sums of products x y, each lane a chain of fused multiply-adds."""
    x, y = np.broadcast_arrays(x, y)
    return _reduce(x, y)


def _reduce(x: np.ndarray, y: np.ndarray | None) -> np.ndarray:
    n = x.shape[-1]
    blocks = []
    for start in range(0, n, BLOCK):
        stop = min(start + BLOCK, n)
        lanes = np.zeros((*x.shape[:-1], LANES), x.dtype)
        for first in range(start, stop, LANES):
            here = slice(first, min(first + LANES, stop))
            width = here.stop - here.start
            old = lanes[..., :width]
            with np.errstate(all="ignore"):
                lanes[..., :width] = old + x[..., here] if y is None else fma(x[..., here], y[..., here], old)
        width = LANES // 2
        while width:
            with np.errstate(all="ignore"):
                lanes = lanes[..., :width] + lanes[..., width : 2 * width]
            width //= 2
        blocks.append(lanes[..., 0])
    if not blocks:
        return np.zeros(x.shape[:-1], x.dtype)
    if len(blocks) == 1:
        return blocks[0]
    return reduce_sum(np.stack(blocks, axis=-1))
