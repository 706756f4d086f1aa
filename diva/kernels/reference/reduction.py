"""Reductions, executed as they are specified: the reduced dimensions in row-major order, then REDUCE of D3."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from diva.kernels.reference.arithmetic import CHUNK, reduce_dot, reduce_sum

Dims = Sequence[int] | None


def rows(x: np.ndarray, dims: Dims = None) -> np.ndarray:
    """x with `dims` (None: all) flattened in row-major order into the last axis, the others before it in their order."""
    reduced = sorted(d % x.ndim for d in (range(x.ndim) if dims is None else dims))
    kept = [d for d in range(x.ndim) if d not in reduced]
    moved = np.ascontiguousarray(x.transpose(*kept, *reduced))
    return moved.reshape(*(x.shape[d] for d in kept), int(np.prod([x.shape[d] for d in reduced], dtype=np.int64)))


def total(x: np.ndarray, dims: Dims = None) -> np.ndarray:
    """REDUCE(x)."""
    return reduce_sum(rows(x, dims))


def mean(x: np.ndarray, dims: Dims = None) -> np.ndarray:
    """REDUCE(x) / n, n rounded to the type of x."""
    terms = rows(x, dims)
    with np.errstate(all="ignore"):
        return np.asarray(reduce_sum(terms) / x.dtype.type(terms.shape[-1]))


def number_total(x: np.ndarray, dims: Dims = None) -> np.ndarray:
    """nansum: REDUCE(x is NaN ? +0 : x)."""
    return reduce_sum(rows(np.where(np.isnan(x), x.dtype.type(0), x), dims))


def variance(
    x: np.ndarray, dims: Dims = None, correction: float = 1.0, root: bool = False
) -> tuple[np.ndarray, np.ndarray]:
    """(var or its root, mean): d = x - mean; REDUCE_fma(d, d) / max(n - correction, 0), the divisor rounded once."""
    terms = rows(x, dims)
    middle = mean(terms, [-1])
    with np.errstate(all="ignore"):
        d = terms - middle[..., None]
        var = reduce_dot(d, d) / x.dtype.type(max(terms.shape[-1] - correction, 0.0))
        return (np.sqrt(var) if root else var), middle


def norm(x: np.ndarray, order: float = 2.0, dims: Dims = None) -> np.ndarray:
    """2: sqrt(REDUCE_fma(x, x)); 1: REDUCE(|x|); 0: REDUCE(x != 0); inf and -inf: the largest and smallest |x|."""
    terms = rows(x, dims)
    if order == 2:
        return np.asarray(np.sqrt(reduce_dot(terms, terms)))
    if order == 1:
        return reduce_sum(np.abs(terms))
    if order == 0:
        return reduce_sum((terms != 0).astype(x.dtype))
    return np.asarray(np.abs(terms).max(-1) if order > 0 else np.abs(terms).min(-1))


def product(x: np.ndarray, dims: Dims = None) -> np.ndarray:
    """Chains p = p x from 1 over chunks of 256, ascending; the chunks' results are multiplied ascending, from 1."""
    terms = rows(x, dims)
    whole = np.ones(terms.shape[:-1], x.dtype)
    with np.errstate(all="ignore"):
        for start in range(0, terms.shape[-1], CHUNK):
            chain = np.ones_like(whole)
            for k in range(start, min(start + CHUNK, terms.shape[-1])):
                chain = chain * terms[..., k]
            whole = whole * chain
    return whole


def running_sum(x: np.ndarray, dim: int) -> np.ndarray:
    """cumsum: chains p = p + x from +0 inside chunks of 256; y = R + p, R = the chunks before, folded ascending from +0."""
    return _running(x, dim, np.add, 0)


def running_product(x: np.ndarray, dim: int) -> np.ndarray:
    """cumprod: the same with multiplication, from 1."""
    return _running(x, dim, np.multiply, 1)


def _running(x: np.ndarray, dim: int, join: np.ufunc, start: int) -> np.ndarray:
    terms = np.moveaxis(x, dim, 0)
    y = np.empty_like(terms)
    carry = np.full(terms.shape[1:], start, x.dtype)
    with np.errstate(all="ignore"):
        for first in range(0, len(terms), CHUNK):
            chain = np.full(terms.shape[1:], start, x.dtype)
            for k in range(first, min(first + CHUNK, len(terms))):
                chain = join(chain, terms[k])
                y[k] = join(carry, chain)
            carry = join(carry, chain)
    return np.moveaxis(y, 0, dim)
