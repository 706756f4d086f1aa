"""Losses, executed as they are specified: each sample's value in a few rounded operations, then REDUCE of D3."""

from __future__ import annotations

from typing import Literal

import numpy as np

from diva.kernels.reference.arithmetic import reduce_dot, reduce_sum

Reduction = Literal["none", "mean", "sum"]


def nll(
    x: np.ndarray, target: np.ndarray, weight: np.ndarray | None, reduction: Reduction, ignored: int = -100
) -> tuple[np.ndarray, np.ndarray]:
    """(loss, total weight) of x (samples, classes, ...) and target (samples, ...).

    v = -(x[target] * w), without weights -x[target]; +0 where ignored, and so is w. total = REDUCE(w), samples row-major;
    sum: REDUCE(v); mean: REDUCE(v) / total.
    """
    kept = target != ignored
    classes = np.where(kept, target, 0)
    picked = np.take_along_axis(x, classes[:, None], 1)[:, 0]
    w = np.where(kept, np.ones_like(picked) if weight is None else weight[classes], 0).astype(x.dtype)
    v = np.where(kept, -picked if weight is None else -(picked * w), x.dtype.type(0)).astype(x.dtype)
    if reduction == "none":
        return v, x.dtype.type(0)
    total, loss = reduce_sum(w.ravel()), reduce_sum(v.ravel())
    with np.errstate(all="ignore"):
        return (loss / total if reduction == "mean" else loss), total


def nll_backward(
    grad: np.ndarray,
    shape: tuple[int, ...],
    target: np.ndarray,
    weight: np.ndarray | None,
    reduction: Reduction,
    total: np.ndarray,
    ignored: int = -100,
) -> np.ndarray:
    """+0 but at the targets: -(w * g), without weights -g; g = grad / total for the mean, else grad."""
    dx = np.zeros(shape, grad.dtype)
    with np.errstate(all="ignore"):
        g = np.broadcast_to(grad / total if reduction == "mean" else grad, target.shape)
    for place in np.ndindex(target.shape):
        t = target[place]
        if t != ignored:
            dx[(place[0], t, *place[1:])] = -g[place] if weight is None else -(weight[t] * g[place])
    return dx


def pair(
    kind: Literal["mse", "smooth_l1", "huber"],
    x: np.ndarray,
    y: np.ndarray,
    reduction: Reduction,
    parameter: float = 1.0,
) -> np.ndarray:
    """d = x - y, z = |d|. mse: d d (REDUCE_fma(d, d) where it is summed); smooth_l1: z < p ? ((z / 2) z) / p : z - p / 2;

    huber: z <= p ? (z / 2) z : p (z - p / 2). sum: REDUCE; mean: REDUCE / n.
    """
    p, half = x.dtype.type(parameter), x.dtype.type(0.5)
    with np.errstate(all="ignore"):
        d = x - y
        z = np.abs(d)
        if kind == "mse":
            v = d * d
        elif kind == "smooth_l1":
            v = np.where(z < p, ((half * z) * z) / p, z - half * p)
        else:
            v = np.where(z <= p, (half * z) * z, p * (z - half * p))
        if reduction == "none":
            return np.asarray(v)
        total = reduce_dot(d.ravel(), d.ravel()) if kind == "mse" else reduce_sum(v.ravel())
        return total / x.dtype.type(x.size) if reduction == "mean" else total


def pair_backward(
    kind: Literal["mse", "smooth_l1", "huber"],
    grad: np.ndarray,
    x: np.ndarray,
    y: np.ndarray,
    reduction: Reduction,
    parameter: float = 1.0,
) -> np.ndarray:
    """q g with c = 1 / n for the mean, else 1. mse: q = (2 c) d; smooth_l1: q = d <= -p ? -c : d >= p ? c : (c d) / p;

    huber: q = d < -p ? -(c p) : d > p ? c p : c d.
    """
    p, two = x.dtype.type(parameter), x.dtype.type(2)
    with np.errstate(all="ignore"):
        c = x.dtype.type(1) / x.dtype.type(x.size) if reduction == "mean" else x.dtype.type(1)
        d = x - y
        if kind == "mse":
            q = (two * c) * d
        elif kind == "smooth_l1":
            q = np.where(d <= -p, -c, np.where(d >= p, c, (c * d) / p))
        else:
            q = np.where(d < -p, -(c * p), np.where(d > p, c * p, c * d))
        return np.asarray(q * grad)
