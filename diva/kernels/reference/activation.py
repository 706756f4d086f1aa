"""Activations and their gradients: what DK_<NAME> of elementwise.h computes from x, y and the numbers p, q, r.

EXP, LOG1P, EXPM1 are the fixed programs of reference/functions.py in the type of x. In a backward function y is the
gradient.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from diva.kernels.reference.arithmetic import fma
from diva.kernels.reference.elementwise import Formula
from diva.kernels.reference.functions import erf_fixed, exp_fixed, expm1_fixed, log1p_unit, sigmoid_fixed

Array = np.ndarray[Any, Any]

_INVERSE_SQRT2 = np.float32(float.fromhex("0x1.6a09e6p-1"))
_BELL = np.float32(float.fromhex("0x1.988454p-2"))  # 1 / sqrt(2 pi)
_SQRT_2_PI = float.fromhex("0x1.9884533d43651p-1")  # sqrt(2 / pi)


def _c(x: Array, value: float) -> Any:
    return x.dtype.type(value)


def _hold(x: Array, low: Any, high: Any) -> Array:
    x = np.where(low > x, low, x)
    return np.where(high < x, high, x)


def gelu(x: Array) -> Array:
    """h = x / 2; fma(h, erf(x sqrt(1/2)), h). float32."""
    h = x * _c(x, 0.5)
    return fma(h, erf_fixed(x * _INVERSE_SQRT2), h)


def gelu_backward(x: Array, g: Array) -> Array:
    """c = fma(erf(x sqrt(1/2)), 1/2, 1/2), d = EXP(-1/2 (x x)) / sqrt(2 pi); g (c + x d). float32."""
    half = np.full_like(x, 0.5)
    c = fma(erf_fixed(x * _INVERSE_SQRT2), half, half)
    return g * (c + x * (exp_fixed(_c(x, -0.5) * (x * x)) * _BELL))


def gelu_inner(x: Array) -> Array:
    """2 i, i = k fma(0.044715 (x x), x, x), k = sqrt(2 / pi)."""
    i = _c(x, _SQRT_2_PI) * fma(_c(x, 0.044715) * (x * x), x, x)
    return i + i  # type: ignore[no-any-return]


def gelu_tanh_backward(x: Array, g: Array) -> Array:
    """s = sig(2 i), j = k fma(0.134145, x x, 1); g fma(((2 x) s) (1 - s), j, s)."""
    s = sigmoid_fixed(gelu_inner(x))
    j = _c(x, _SQRT_2_PI) * fma(np.full_like(x, 0.134145), x * x, np.ones_like(x))
    return g * fma(((x + x) * s) * (_c(x, 1) - s), j, s)  # type: ignore[no-any-return]


def softplus(x: Array, beta: Any, threshold: Any) -> Array:
    """t = x beta; t > threshold ? x : (max(t, 0) + LOG1P(EXP(-|t|))) / beta."""
    t = x * beta
    y = (np.where(t > 0, t, _c(x, 0)) + log1p_unit(exp_fixed(-np.abs(t)))) / beta
    return np.where(t > threshold, x, np.where(np.isnan(t), t, y))


def mish_factor(x: Array) -> Array:
    """tanh(log(1 + exp x)): e = EXP(-|x|), f = x < 0 ? e (e + 2) : fma(2, e, 1); f / (f + (x < 0 ? 2 : (e + e) e))."""
    e, one, two = exp_fixed(-np.abs(x)), np.ones_like(x), _c(x, 2)
    f = np.where(x < 0, e * (e + two), fma(two * one, e, one))
    return f / (f + np.where(x < 0, two, (e + e) * e))  # type: ignore[no-any-return]


def mish_backward(x: Array, g: Array) -> Array:
    """s = sig(x), t = mish's factor; g fma(x s, fma(-t, t, 1), t)."""
    s, t = sigmoid_fixed(x), mish_factor(x)
    return g * fma(x * s, fma(-t, t, np.ones_like(x)), t)  # type: ignore[no-any-return]


def log_sigmoid(x: Array) -> Array:
    """min(x, 0) - LOG1P(EXP(-|x|))."""
    y = np.where(x < 0, x, _c(x, 0)) - log1p_unit(exp_fixed(-np.abs(x)))
    return np.where(np.isnan(x), x, y)


def silu_backward(x: Array, g: Array) -> Array:
    """s = sig(x); (g s) fma(x, 1 - s, 1)."""
    s = sigmoid_fixed(x)
    return (g * s) * fma(x, _c(x, 1) - s, np.ones_like(x))  # type: ignore[no-any-return]


def _gate_backward(x: Array, g: Array, gate: Array) -> Array:
    s = sigmoid_fixed(gate)
    return (g * x) * ((_c(x, 1) - s) * s)  # type: ignore[no-any-return]


def _six(x: Array) -> Array:
    return _hold(x + _c(x, 3), _c(x, 0), _c(x, 6))


FORMULAS: dict[str, Formula] = {
    "RELU": lambda x, y, z, p, q, r: np.where(x < 0, _c(x, 0), x),
    "THRESHOLD": lambda x, y, z, p, q, r: np.where(x <= p, q, x),
    "SIGMOID": lambda x, y, z, p, q, r: sigmoid_fixed(x),
    "SILU": lambda x, y, z, p, q, r: x * sigmoid_fixed(x),
    "GELU": lambda x, y, z, p, q, r: gelu(x),
    "GELU_TANH": lambda x, y, z, p, q, r: x * sigmoid_fixed(gelu_inner(x)),
    "SOFTPLUS": lambda x, y, z, p, q, r: softplus(x, p, q),
    "MISH": lambda x, y, z, p, q, r: x * mish_factor(x),
    "ELU": lambda x, y, z, p, q, r: np.where(x > 0, x * q, (p * q) * expm1_fixed(x * r)),
    "LOG_SIGMOID": lambda x, y, z, p, q, r: log_sigmoid(x),
    "HARDTANH": lambda x, y, z, p, q, r: _hold(x, p, q),
    "HARDSWISH": lambda x, y, z, p, q, r: (x * _six(x)) / _c(x, 6),
    "HARDSIGMOID": lambda x, y, z, p, q, r: _six(x) / _c(x, 6),
    "LEAKY_RELU": lambda x, y, z, p, q, r: np.where(x > 0, x, x * p),
    "PRELU": lambda x, y, z, p, q, r: np.where(x > 0, x, y * x),
    "HARDSHRINK": lambda x, y, z, p, q, r: np.where((x >= -p) & (x <= p), _c(x, 0), x),
    "SOFTSHRINK": lambda x, y, z, p, q, r: np.where(x > p, x - p, np.where(x < -p, x + p, x * _c(x, 0))),
    "GLU": lambda x, y, z, p, q, r: x * sigmoid_fixed(y),
    "THRESHOLD_BACKWARD": lambda x, y, z, p, q, r: np.where(x <= p, _c(x, 0), y),
    "SIGMOID_BACKWARD": lambda x, y, z, p, q, r: y * ((_c(x, 1) - x) * x),
    "TANH_BACKWARD": lambda x, y, z, p, q, r: y * fma(-x, x, np.ones_like(x)),
    "SILU_BACKWARD": lambda x, y, z, p, q, r: silu_backward(x, y),
    "GELU_BACKWARD": lambda x, y, z, p, q, r: gelu_backward(x, y),
    "GELU_TANH_BACKWARD": lambda x, y, z, p, q, r: gelu_tanh_backward(x, y),
    "SOFTPLUS_BACKWARD": lambda x, y, z, p, q, r: np.where(x * p > q, y, y * sigmoid_fixed(x * p)),
    "MISH_BACKWARD": lambda x, y, z, p, q, r: mish_backward(x, y),
    "ELU_BACKWARD": lambda x, y, z, p, q, r: np.where(x <= 0, (y * r) * ((p * q) * exp_fixed(x * r)), y * q),
    "ELU_BACKWARD_RESULT": lambda x, y, z, p, q, r: np.where(x <= 0, (y * r) * (x + p * q), y * q),
    "LOG_SIGMOID_BACKWARD": lambda x, y, z, p, q, r: y * sigmoid_fixed(-x),
    "HARDTANH_BACKWARD": lambda x, y, z, p, q, r: np.where((x <= p) | (x >= q), _c(x, 0), y),
    "HARDSWISH_BACKWARD": lambda x, y, z, p, q, r: np.where(
        x <= -3, _c(x, 0), np.where(x < 3, y * (x / _c(x, 3) + _c(x, 0.5)), y)
    ),
    "HARDSIGMOID_BACKWARD": lambda x, y, z, p, q, r: np.where((x > -3) & (x < 3), y * _c(x, 1 / 6), _c(x, 0)),
    "LEAKY_RELU_BACKWARD": lambda x, y, z, p, q, r: np.where(x > 0, y, y * p),
    "PRELU_BACKWARD": lambda x, y, z, p, q, r: np.where(x > 0, y, z * y),
    "PRELU_BACKWARD_WEIGHT": lambda x, y, z, p, q, r: np.where(x > 0, _c(x, 0), x * y),
    "HARDSHRINK_BACKWARD": lambda x, y, z, p, q, r: np.where((x >= -p) & (x <= p), _c(x, 0), y),
    "GLU_BACKWARD_GATE": lambda x, y, z, p, q, r: _gate_backward(x, y, z),
}
