"""Elementwise arithmetic: what DK_<NAME> of elementwise.h computes from x, y, z and the numbers p, q, r."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np

from diva.kernels.reference import functions
from diva.kernels.reference.arithmetic import fma

Array = np.ndarray[Any, Any]
Formula = Callable[[Array, Array, Array, Any, Any, Any], Array]


def lerp(x: Array, y: Array, w: Array) -> Array:
    """d = y - x; |w| < 1/2: fma(w, d, x), else fma(w - 1, d, y)."""
    d = y - x
    return np.where(np.abs(w) < 0.5, fma(w * np.ones_like(d), d, x), fma((w - 1) * np.ones_like(d), d, y))


def maximum(x: Array, y: Array) -> Array:
    """NaN where one is; else x > y ? x : y, so that of two zeros the second is taken."""
    return np.where(np.isnan(x), x, np.where(np.isnan(y), y, np.where(x > y, x, y)))


def minimum(x: Array, y: Array) -> Array:
    """NaN where one is; else x < y ? x : y."""
    return np.where(np.isnan(x), x, np.where(np.isnan(y), y, np.where(x < y, x, y)))


def clamp_min(x: Array, low: Array) -> Array:
    """low > x ? low : x; NaN where one is."""
    return np.where(np.isnan(low) | (low > x), low, x)


def clamp_max(x: Array, high: Array) -> Array:
    """high < x ? high : x; NaN where one is."""
    return np.where(np.isnan(high) | (high < x), high, x)


def remainder(x: Array, y: Array) -> Array:
    """The exact fmod, with y added where their signs differ."""
    m = np.fmod(x, y)
    return np.where((m != 0) & ((y < 0) != (m < 0)), m + y, m)


def floor_divide(x: Array, y: Array) -> Array:
    """m = fmod(x, y), d = (x - m) / y, less 1 where the signs of m and y differ; rounded to the nearest integer."""
    m = np.fmod(x, y)
    d = (x - m) / y
    d = np.where((m != 0) & ((y < 0) != (m < 0)), d - 1, d)
    below = np.floor(d)
    whole = np.where(d - below > 0.5, below + 1, below)
    whole = np.where(d == 0, np.copysign(0 * d, x / y), whole)
    return np.where(y == 0, x / y, whole).astype(x.dtype)


def hypot(x: Array, y: Array) -> Array:
    """float32: sqrt(fma(a, a, b b)) in binary64; float64: big * sqrt(fma(c, c, 1)), c = small / big; inf where one is."""
    a, b = np.abs(x), np.abs(y)
    if x.dtype == np.float32:
        a64, b64 = a.astype(np.float64), b.astype(np.float64)
        h = np.sqrt(fma(a64, a64, b64 * b64)).astype(np.float32)
    else:
        big, small = np.where(a > b, a, b), np.where(a > b, b, a)
        c = small / big
        h = np.where(big > 0, big * np.sqrt(fma(c, c, np.ones_like(c))), a + b)
    return np.asarray(np.where((a == np.inf) | (b == np.inf), x.dtype.type(np.inf), h))


def logaddexp(x: Array, y: Array) -> Array:
    """m = x < y ? y : x; m + LOG1P(EXP(-|x - y|)); equal infinities: themselves."""
    y_larger = np.where(x < y, y, x)
    r = y_larger + functions.log1p_unit(functions.exp_fixed(-np.abs(x - y)))
    r = np.where((x == y) & np.isinf(x), x, r)
    return np.where(np.isnan(x) | np.isnan(y), x + y, r)


def xlogy(x: Array, y: Array) -> Array:
    """x LOG(y); NaN where y is; 0 where x is 0."""
    r = x * functions.log_fixed(y * np.ones_like(x))
    return np.where(np.isnan(y), y, np.where(x == 0, x.dtype.type(0), r))


def logit(x: Array, eps: Any) -> Array:
    """LOG(x / (1 - x)); eps >= 0: x held in [eps, 1 - eps] before."""
    one = x.dtype.type(1)
    if eps >= 0:
        x = np.where(x < eps, eps, x)
        x = np.where(x > one - eps, one - eps, x)
    return functions.log_fixed(x / (one - x))


def logit_backward(x: Array, g: Array, eps: Any) -> Array:
    """g / (x (1 - x)); eps < 0: NaN outside [0, 1], else 0 outside [eps, 1 - eps]."""
    one = x.dtype.type(1)
    low = eps if eps >= 0 else x.dtype.type(0)
    outside = x.dtype.type(0 if eps >= 0 else np.nan)
    return np.asarray(np.where((x < low) | (x > one - low), outside, g / (x * (one - x))))


def _function(name: str) -> Formula:
    """Correctly rounded in float32, a fixed program in float64."""
    double: dict[str, Callable[[Array], Array]] = {
        "exp": functions.exp_fixed,
        "expm1": functions.expm1_fixed,
        "log": functions.log_fixed,
        "log2": lambda x: functions.log_fixed(x) * float.fromhex("0x1.71547652b82fep+0"),
        "log10": lambda x: functions.log_fixed(x) * float.fromhex("0x1.bcb7b1526e50ep-2"),
        "log1p": functions.log1p_fixed,
        "tanh": functions.tanh_fixed,
    }

    def formula(x: Array, y: Array, z: Array, p: Any, q: Any, r: Any) -> Array:
        return functions.rounded(name, x) if x.dtype == np.float32 else double[name](x)

    return formula


ONLY_FLOAT32 = ("EXP2", "SIN", "COS", "ERF", "POW", "POW_SCALAR", "SCALAR_POW", "GELU", "GELU_BACKWARD")
FORMULAS: dict[str, Formula] = {
    "ADD": lambda x, y, z, p, q, r: x + y,
    "ADD_SCALAR": lambda x, y, z, p, q, r: x + p,
    "ADD_SCALED": lambda x, y, z, p, q, r: fma(p * np.ones_like(x), y, x),
    "ADD_SCALED_SCALAR": lambda x, y, z, p, q, r: fma(p * np.ones_like(x), q, x),
    "SUB": lambda x, y, z, p, q, r: x - y,
    "RSUB_SCALAR": lambda x, y, z, p, q, r: p - x,
    "RSUB_SCALED": lambda x, y, z, p, q, r: fma(-q * np.ones_like(x), x, p),
    "MUL": lambda x, y, z, p, q, r: x * y,
    "MUL_SCALAR": lambda x, y, z, p, q, r: x * p,
    "DIV": lambda x, y, z, p, q, r: x / y,
    "DIV_SCALAR": lambda x, y, z, p, q, r: x / p,
    "RDIV_SCALAR": lambda x, y, z, p, q, r: p / x,
    "SQRT": lambda x, y, z, p, q, r: np.sqrt(x),
    "RSQRT": lambda x, y, z, p, q, r: 1 / np.sqrt(x),
    "ADDCMUL": lambda x, y, z, p, q, r: fma(p * y, z, x),
    "ADDCDIV": lambda x, y, z, p, q, r: x + (p * y) / z,
    "LERP": lambda x, y, z, p, q, r: lerp(x, y, z),
    "LERP_SCALAR": lambda x, y, z, p, q, r: lerp(x, y, p),
    "MAXIMUM": lambda x, y, z, p, q, r: maximum(x, y),
    "MINIMUM": lambda x, y, z, p, q, r: minimum(x, y),
    "SQUARE": lambda x, y, z, p, q, r: x * x,
    "CUBE": lambda x, y, z, p, q, r: (x * x) * x,
    "DIV_FLOOR": lambda x, y, z, p, q, r: floor_divide(x, y),
    "DIV_TRUNC": lambda x, y, z, p, q, r: np.trunc(x / y),
    "FMOD": lambda x, y, z, p, q, r: np.fmod(x, y),
    "REMAINDER": lambda x, y, z, p, q, r: remainder(x, y),
    "HYPOT": lambda x, y, z, p, q, r: hypot(x, y),
    "FMAX": lambda x, y, z, p, q, r: np.where((x > y) | np.isnan(y), x, y),
    "FMIN": lambda x, y, z, p, q, r: np.where((x < y) | np.isnan(y), x, y),
    "CLAMP_MIN": lambda x, y, z, p, q, r: clamp_min(x, p),
    "CLAMP_MAX": lambda x, y, z, p, q, r: clamp_max(x, p),
    "CLAMP": lambda x, y, z, p, q, r: clamp_max(clamp_min(x, p), q),
    "CLAMP_MIN_TENSOR": lambda x, y, z, p, q, r: clamp_min(x, y),
    "CLAMP_MAX_TENSOR": lambda x, y, z, p, q, r: clamp_max(x, y),
    "CLAMP_TENSOR": lambda x, y, z, p, q, r: clamp_max(clamp_min(x, y), z),
    **{name.upper(): _function(name) for name in functions.ROUNDED},
    "ERF": lambda x, y, z, p, q, r: functions.erf_fixed(x),
    "POW": lambda x, y, z, p, q, r: functions.pow_fixed(x, y),
    "POW_SCALAR": lambda x, y, z, p, q, r: functions.pow_fixed(x, p),
    "SCALAR_POW": lambda x, y, z, p, q, r: functions.pow_fixed(p, x),
    "LOGADDEXP": lambda x, y, z, p, q, r: logaddexp(x, y),
    "XLOGY": lambda x, y, z, p, q, r: xlogy(x, y),
    "XLOGY_SCALAR": lambda x, y, z, p, q, r: xlogy(x, p),
    "SCALAR_XLOGY": lambda x, y, z, p, q, r: xlogy(p * np.ones_like(x), x),
    "LOGIT": lambda x, y, z, p, q, r: logit(x, p),
    "LOGIT_BACKWARD": lambda x, y, z, p, q, r: logit_backward(x, y, p),
}
