"""Matrix products, D1: every element is one DOT; alpha, beta and the addend are rounded operations after it."""

from __future__ import annotations

import numpy as np

from diva.kernels.reference import arithmetic


def matmul(a: np.ndarray, b: np.ndarray) -> np.ndarray:
    """(..., m, k) x (..., k, n) -> (..., m, n): DOT of each row of `a` and each column of `b`, k ascending."""
    with np.errstate(all="ignore"):
        return arithmetic.dot(a[..., :, None, :], np.swapaxes(b, -1, -2)[..., None, :, :])


def matmul_add(c: np.ndarray, a: np.ndarray, b: np.ndarray, beta: float = 1.0, alpha: float = 1.0) -> np.ndarray:
    """beta c + alpha (a b): two products and one sum, each rounded; beta == 0 leaves out the addend. addmm, baddbmm, addmv."""
    return _combine(c, matmul(a, b), beta, alpha)


def matmul_sum_add(c: np.ndarray, a: np.ndarray, b: np.ndarray, beta: float = 1.0, alpha: float = 1.0) -> np.ndarray:
    """addbmm: the terms of the DOT are (batch, k), batch the slower."""
    batch, m, k = a.shape
    rows = np.swapaxes(a, 0, 1).reshape(m, batch * k)
    return _combine(c, matmul(rows, b.reshape(batch * k, b.shape[2])), beta, alpha)


def dot(x: np.ndarray, y: np.ndarray) -> np.ndarray:
    """DOT of two vectors."""
    return arithmetic.dot(x, y)


def _combine(c: np.ndarray, r: np.ndarray, beta: float, alpha: float) -> np.ndarray:
    number = r.dtype.type
    with np.errstate(all="ignore"):
        scaled = r if number(alpha) == 1 else number(alpha) * r
        if number(beta) == 0:
            return scaled
        result: np.ndarray = (c if number(beta) == 1 else number(beta) * c) + scaled
        return result
