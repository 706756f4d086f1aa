"""Optimizer steps, D8: torch.optim's single-tensor functions, each operation rounded once, on NumPy arrays."""

from __future__ import annotations

import numpy as np

from diva.kernels.reference.arithmetic import fma


def _prepared(
    p: np.ndarray, g: np.ndarray, weight_decay: float, maximize: bool, decoupled_scale: float | None = None
) -> tuple[np.ndarray, np.ndarray]:
    """Parameter and gradient after maximize and weight decay: g = -g; g = fma(weight_decay, p, g), or p = p scale."""
    g = -g if maximize else g
    if weight_decay != 0 and decoupled_scale is not None:
        return p * p.dtype.type(decoupled_scale), g
    if weight_decay != 0:
        return p, fma(np.asarray(p.dtype.type(weight_decay)), p, g)
    return p, g


def sgd(
    p: np.ndarray, g: np.ndarray, buffer: np.ndarray | None, *, lr: float, momentum: float = 0.0, dampening: float = 0.0,
    weight_decay: float = 0.0, nesterov: bool = False, maximize: bool = False,
) -> tuple[np.ndarray, np.ndarray | None]:  # fmt: skip
    """New parameter and momentum buffer (None: there is none yet, or no momentum).

    b = g at first, then fma(1 - dampening, g, momentum b); g = fma(momentum, b, g) with Nesterov, else b;
    p = fma(-lr, g, p). 1 - dampening is computed in binary64, then rounded.
    """
    t = p.dtype.type
    p, g = _prepared(p, g, weight_decay, maximize)
    if momentum != 0:
        buffer = g.copy() if buffer is None else fma(np.asarray(t(1 - dampening)), g, buffer * t(momentum))
        g = fma(np.asarray(t(momentum)), buffer, g) if nesterov else buffer
    return fma(np.asarray(t(-lr)), g, p), buffer


def lerp(start: np.ndarray, end: np.ndarray, weight: float) -> np.ndarray:
    """w = the weight, rounded; |w| < 1/2: fma(w, end - start, start), else fma(w - 1, end - start, end)."""
    w, way = start.dtype.type(weight), end - start
    if abs(w) < 0.5:
        return fma(np.asarray(w), way, start)
    return fma(np.asarray(w - start.dtype.type(1)), way, end)


def adam(
    p: np.ndarray, g: np.ndarray, mean: np.ndarray, square: np.ndarray, maximum: np.ndarray | None, step: float, *,
    lr: float, beta1: float, beta2: float, eps: float, weight_decay: float = 0.0, maximize: bool = False,
    decoupled: bool = False,
) -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray | None]:  # fmt: skip
    """New parameter, first moment, second moment and its maximum (None without AMSGrad). `step` counts from 1.

    m = lerp(m, g, 1 - beta1); v = fma((1 - beta2) g, g, beta2 v); p = p + (-step_size m) / (sqrt(v) / root + eps), with
    step_size = lr / (1 - beta1^step) and root = (1 - beta2^step)^0.5 in binary64, then rounded.
    """
    t = p.dtype.type
    p, g = _prepared(p, g, weight_decay, maximize, 1 - lr * weight_decay if decoupled else None)
    mean = lerp(mean, g, 1 - beta1)
    square = fma(g * t(1 - beta2), g, square * t(beta2))
    maximum = None if maximum is None else np.maximum(maximum, square)
    root, step_size = (1 - beta2**step) ** 0.5, lr / (1 - beta1**step)
    denominator = np.sqrt(square if maximum is None else maximum) / t(root) + t(eps)
    return p + (mean * t(-step_size)) / denominator, mean, square, maximum


def adagrad(
    p: np.ndarray, g: np.ndarray, total: np.ndarray, step: float, *,
    lr: float, lr_decay: float, eps: float, weight_decay: float = 0.0, maximize: bool = False,
) -> tuple[np.ndarray, np.ndarray]:  # fmt: skip
    """New parameter and sum of squares: s = fma(g, g, s); p = p + (-clr g) / (sqrt(s) + eps), clr = lr / (1 + (step - 1) lr_decay)."""
    t = p.dtype.type
    p, g = _prepared(p, g, weight_decay, maximize)
    total = fma(g, g, total)
    return p + (g * t(-lr / (1 + (step - 1) * lr_decay))) / (np.sqrt(total) + t(eps)), total
