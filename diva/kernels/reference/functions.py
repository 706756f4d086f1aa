"""Transcendental functions: those that are correctly rounded, and those that are fixed programs, step by step.

Correctly rounded means that the specification is the function itself: the value rounded once to float32, to nearest
even. The fixed programs take float32 or float64 arrays and compute in that type.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from decimal import Decimal, localcontext
from fractions import Fraction
from typing import Any

import numpy as np

from diva.kernels.reference import arithmetic
from diva.kernels.reference import functions_tables as tables

Array = np.ndarray[Any, Any]


def fma(a: Any, b: Any, c: Any) -> Array:
    """a b + c rounded once, of arrays and numbers of one type."""
    return arithmetic.fma(np.asarray(a), np.asarray(b), np.asarray(c))


# Correctly rounded functions

_DOUBLE: dict[str, Callable[[Array], Array]] = {
    "exp": np.exp,
    "exp2": np.exp2,
    "expm1": np.expm1,
    "log": np.log,
    "log2": np.log2,
    "log10": np.log10,
    "log1p": np.log1p,
    "tanh": np.tanh,
    "sin": np.sin,
    "cos": np.cos,
}
ROUNDED = tuple(_DOUBLE)
_DIGITS = 120  # for a number below 2^128 this leaves more than 70 after the reduction by pi


def rounded(name: str, x: Array) -> Array:
    """The function `name` of a float32 array, correctly rounded.

    NumPy's binary64 value decides wherever every number within 2^-44 of it (relatively) rounds to the same float32: so
    any library will do whose functions are that good. The rest, some in ten million, is computed with 120 digits.
    """
    with np.errstate(all="ignore"):
        y = _DOUBLE[name](x.astype(np.float64))
        result = y.astype(np.float32)
        unclear = np.isfinite(y) & ((y * (1 - 2.0**-44)).astype(np.float32) != (y * (1 + 2.0**-44)).astype(np.float32))
    for index in zip(*np.nonzero(unclear), strict=True):
        result[index] = _to_float32(exact(name, float(x[index])))
    return result


def exact(name: str, x: float) -> Fraction:
    """The value of the function with about 100 digits, for the finite x at which it is finite and no special case."""
    if name == "exp2" and x == int(x):  # may lie in the middle between two float32
        return Fraction(2) ** int(x)
    with localcontext() as context:
        context.prec = _DIGITS
        context.Emin, context.Emax = -99999, 99999
        d = Decimal(x)
        values: dict[str, Callable[[], Decimal]] = {
            "exp": d.exp,
            "exp2": lambda: (d * Decimal(2).ln()).exp(),
            "expm1": lambda: d.exp() - 1,
            "log": d.ln,
            "log2": lambda: d.ln() / Decimal(2).ln(),
            "log10": d.log10,
            "log1p": lambda: (1 + d).ln(),
            "tanh": lambda: 1 - 2 / ((2 * d).exp() + 1),
            "sin": lambda: _sine(d),
            "cos": lambda: _sine(d + _pi() / 2),
        }
        return Fraction(values[name]())


def _pi() -> Decimal:
    """Machin: pi = 16 arctan(1/5) - 4 arctan(1/239)."""

    def arctan_inverse(n: int) -> Decimal:
        term = total = Decimal(1) / n
        k = 1
        while term:
            term = -term / (n * n)
            new = total + term / (2 * k + 1)
            if new == total:
                break
            total, k = new, k + 1
        return total

    return 16 * arctan_inverse(5) - 4 * arctan_inverse(239)


def _sine(d: Decimal) -> Decimal:
    period = 2 * _pi()
    d = d - period * (d / period).to_integral_value()
    term = total = d
    k = 1
    while True:
        term = -term * d * d / ((2 * k) * (2 * k + 1))
        if total + term == total:
            return total
        total, k = total + term, k + 1


def _to_float32(value: Fraction) -> np.float32:
    """Rounded once: to odd in binary64 first, then to float32."""
    near = float(value)
    if Fraction(near) != value and int(np.float64(near).view(np.int64)) & 1 == 0:
        near = math.nextafter(near, math.inf if value > Fraction(near) else -math.inf)
    with np.errstate(all="ignore"):
        return np.float32(near)


# Fixed programs

_LN2_HIGH = {np.float32: float.fromhex("0x1.62e400p-1"), np.float64: float.fromhex("0x1.62e42fefa39efp-1")}
_LN2_LOW = {np.float32: float.fromhex("0x1.7f7d1cp-20"), np.float64: float.fromhex("0x1.abc9e3b39803fp-56")}
_INVERSE_LN2 = {np.float32: float.fromhex("0x1.715476p0"), np.float64: float.fromhex("0x1.71547652b82fep0")}
_MAGIC = {np.float32: 12582912.0, np.float64: 6755399441055744.0}  # 1.5 * 2^23 and 1.5 * 2^52

# EXP32's polynomial, from the highest power; in binary64 Taylor's
_EXP32 = ["0x1.694000p-10", "0x1.125edcp-7", "0x1.555b5ap-5", "0x1.555450p-3", "0x1.fffff6p-2", "0x1p0", "0x1p0"]
_EXP = {
    np.float32: [float.fromhex(c) for c in _EXP32],
    np.float64: [1.0 / math.factorial(k) for k in range(13, -1, -1)],
}


def _constants(x: Array) -> Callable[[float], Array]:
    return lambda value: x.dtype.type(value)


def horner(coefficients: list[float], x: Array) -> Array:
    """A polynomial by Horner's rule in fma, the coefficient of the highest power first."""
    c = _constants(x)
    y = np.full_like(x, c(coefficients[0]))
    for coefficient in coefficients[1:]:
        y = fma(y, x, np.full_like(x, c(coefficient)))
    return y


def _reduce_exp(x: Array) -> tuple[Array, Array]:
    """n = round(x / ln 2) and f = x - n ln 2, by two fma."""
    c, kind = _constants(x), x.dtype.type
    with np.errstate(all="ignore"):
        n = fma(x, c(_INVERSE_LN2[kind]), c(_MAGIC[kind])) - c(_MAGIC[kind])
        return n, fma(n, c(-_LN2_LOW[kind]), fma(n, c(-_LN2_HIGH[kind]), x))


def _hold(x: Array, low: float, high: float) -> Array:
    """low where x is below, high where it is above; NaN passes."""
    c = _constants(x)
    with np.errstate(all="ignore"):
        x = np.where(c(low) > x, c(low), x)
        return np.where(c(high) < x, c(high), x)


def exp_fixed(x: Array) -> Array:
    """EXP32, and its like in binary64: exp(x) = 2^n r(f), r a polynomial of degree 6 (13), the last product rounded once.

    x is held in [-104, 89] ([-746, 710]). float32: 0.857 ulp. exp(0) = 1, exp(-inf) = 0, exp(inf) = inf.
    """
    kind = x.dtype.type
    x = _hold(x, *((-104, 89) if kind is np.float32 else (-746, 710)))
    n, f = _reduce_exp(x)
    r = horner(_EXP[kind], f)
    n = np.where(np.isnan(n), 0, n)
    with np.errstate(all="ignore"):
        if kind is np.float32:  # binary64 holds the product exactly
            return (r.astype(np.float64) * np.exp2(n.astype(np.float64))).astype(np.float32)
        half = np.floor(n / 2)
        return r * np.exp2(half) * np.exp2(n - half)  # type: ignore[no-any-return]


def expm1_fixed(x: Array) -> Array:
    """exp(x) - 1: q = (exp f - 1 - f) / f^2 by the polynomial of EXP without its last two, p = fma(f f, q, f).

    2^n p + (2^n - 1) as B fma(A, p, A - 1 / B), A = 2^(n // 2), A B = 2^n. x is held in [-60, 89] ([-60, 710]).
    """
    kind = x.dtype.type
    held = _hold(x, -60, 89 if kind is np.float32 else 710)
    n, f = _reduce_exp(held)
    with np.errstate(all="ignore"):
        p = fma(f * f, horner(_EXP[kind][:-2], f), f)
        n = np.where(np.isnan(n), 0, n)
        half = np.floor(n / 2)
        a, b, inverse = np.exp2(half), np.exp2(n - half), np.exp2(half - n)
        return np.where(x == 0, x, b * fma(a, p, a - inverse))


def split_binary(x: Array) -> tuple[Array, Array]:
    """x = m 2^n with m in [2/3, 4/3), by its bits; denormal numbers too. Meaningless below zero, and for inf and NaN."""
    single = x.dtype.type is np.float32
    bits: Any
    bits, shift, first = (np.int32, 23, 0x3F2AAAAB) if single else (np.int64, 52, 0x3FE5555555555555)
    denormal = x < np.finfo(x.dtype).tiny
    with np.errstate(all="ignore"):
        lifted = np.where(denormal, x * x.dtype.type(2.0**shift), x)
        n = (lifted.view(bits) - bits(first)) >> shift
        m = (lifted.view(bits) - (n << shift)).view(x.dtype)
    return m, np.where(denormal, n - shift, n).astype(x.dtype)


def _finish_log(x: Array, r: Array) -> Array:
    with np.errstate(all="ignore"):
        r = np.where(x < np.inf, r, x + x)
        r = np.where(x > 0, r, -np.inf)
        return np.where(x >= 0, r, np.nan).astype(x.dtype)


_LOG_ODD = [float.fromhex(c) for c in ("0x1.208000p-3", "0x1.1e5740p-3", "0x1.99d8b2p-3")]
_LOG_EVEN = [float.fromhex(c) for c in ("-0x1.0ae000p-3", "-0x1.f1988ap-4", "-0x1.55b36ep-3", "-0x1.fffe02p-3")]


def _log32_from(f: Array, n: Array) -> Array:
    """log(1 + f) + n ln 2, -1/3 <= f <= 1/3."""
    c = _constants(f)
    with np.errstate(all="ignore"):
        s = f * f
        r = fma(horner(_LOG_ODD, s), f, horner(_LOG_EVEN, s))
        r = fma(r, f, np.full_like(f, c(float.fromhex("0x1.5554fap-2"))))
        r = fma(r, f, np.full_like(f, c(-0.5)))
        return fma(n, c(float.fromhex("0x1.62e430p-1")), fma(r, s, f))


def log_fixed(x: Array) -> Array:
    """LOG32: f = m - 1, s = f f, r = t(s) f + e(s), then 1/3.., -1/2, and fma(n, ln 2, fma(r, s, f)). 0.846 ulp.

    binary64: s = f / (f + 2), z = s s, R = z (2/3 + 2/5 z + .. + 2/23 z^10), h = f f / 2,
    n ln2_high + (f - (h - fma(n, ln2_low, s (h + R)))).
    """
    m, n = split_binary(x)
    f = m - x.dtype.type(1)
    if x.dtype.type is np.float32:
        return _finish_log(x, _log32_from(f, n))
    with np.errstate(all="ignore"):
        s = f / (f + 2.0)
        z = s * s
        r = horner([2.0 / k for k in range(23, 1, -2)], z) * z
        h = f * f * 0.5
        low = fma(n, np.float64(float.fromhex("0x1.ef35793c76730p-45")), s * (h + r))
        return _finish_log(x, fma(n, np.float64(float.fromhex("0x1.62e42fefa3800p-1")), f - (h - low)))


def log1p_fixed(x: Array) -> Array:
    """log(1 + x) in binary64: u = 1 + x, c = what that lost; log(u) + c / u."""
    with np.errstate(all="ignore"):
        u = 1.0 + x
        c = np.where(x >= 1, 1.0 - (u - x), x - (u - 1.0))
        y = log_fixed(u)
        y = np.where((u > 0) & (u < np.inf), y + c / u, y)
    return np.where(x == 0, x, y)


def log1p_unit(x: Array) -> Array:
    """log(1 + x) for 0 <= x <= 1. float32: x < 1/3: f = x, n = 0; else f = (x - 1) / 2, n = 1; then as LOG32."""
    if x.dtype.type is np.float64:
        return log1p_fixed(x)
    near = x < np.float32(float.fromhex("0x1.555556p-2"))
    f = np.where(near, x, fma(x, np.float32(0.5), np.full_like(x, -0.5)))
    return _log32_from(f, np.where(near, np.float32(0), np.float32(1)))


def tanh_fixed(x: Array) -> Array:
    """tanh in binary64: e = expm1(2 min(|x|, 20)); e / (e + 2) with the sign of x."""
    size = np.where(np.abs(x) > 20, 20.0, np.abs(x))
    e = expm1_fixed(size + size)
    with np.errstate(all="ignore"):
        return np.copysign(e / (e + 2.0), x)


def sigmoid_fixed(x: Array) -> Array:
    """e = EXP(-|x|); (x < 0 ? e : 1) / (1 + e)."""
    c = _constants(x)
    e = exp_fixed(-np.abs(x))
    with np.errstate(all="ignore"):
        return np.where(x < 0, e, c(1)) / (e + c(1))  # type: ignore[no-any-return]


_ERF_NEAR = ["-0x1.38e000p-11", "0x1.471a58p-8", "-0x1.b691b2p-6", "0x1.ce1c44p-4", "-0x1.812700p-2", "0x1.06eba8p-3"]


def erf_fixed(x: Array) -> Array:
    """erf in float32, t = |x|, s = x x. t > 475/512: 1 - EXP32(r(t)) with the sign of x, r = -20 beyond 4; else fma(p(s), x, x)."""

    def c(text: str) -> np.float32:
        return np.float32(float.fromhex(text))

    t, one = np.abs(x), np.ones_like(x)
    with np.errstate(all="ignore"):
        s = x * x
        r = fma(one * c("-0x1.220000p-16"), t, one * c("0x1.91cfb2p-12"))
        u = fma(one * c("-0x1.fd1438p-9"), t, one * c("0x1.8d6342p-6"))
        r = fma(r, s, u)
        for text in ("-0x1.b55cb8p-4", "-0x1.450aa0p-1", "-0x1.079d0cp-3"):
            r = fma(r, t, one * c(text))
        r = np.where(t > 4, np.float32(-20), fma(r, t, -t))
        far = np.copysign(np.float32(1) - exp_fixed(r), x)
        near = fma(horner([float.fromhex(v) for v in _ERF_NEAR], s), x, x)
    return np.where(t > np.float32(0.927734375), far, near)


def pow_fixed(x: Array, y: Array) -> Array:
    """x^y in float32 by binary64: t = y log2|x| held in [-200, 200], 2^t, rounded to float32.

    1 where y is 0 or x is 1; |x| = 1: 1; the sign of x where y is an odd integer; NaN for x < 0 and y no integer.
    """
    x, y = np.broadcast_arrays(x, y)
    with np.errstate(all="ignore"):
        size = np.abs(x)
        t = y.astype(np.float64) * _log2_double(size.astype(np.float64))
        r = _exp2_double(_hold(t, -200, 200)).astype(np.float32)
        integer = np.trunc(y) == y
        odd = integer & (np.abs(y) < 2.0**24) & (np.trunc(y / 2) != y / 2)
        r = np.where(size == 1, np.float32(1), r)
        r = np.where((x < 0) & ~integer & (size < np.inf), np.float32(np.nan), r)
        r = np.where(odd, np.copysign(r, x), r)
        r = np.where(np.isnan(x) | np.isnan(y), np.float32(np.nan), r)
    return np.where((y == 0) | (x == 1), np.float32(1), r)


def _log2_double(x: Array) -> Array:
    """x >= 0: x = 2^e m, r = fma(m, 1 / c, -1); (e + high) + r / ln 2 in two parts, and r^2 tail(r)."""
    inverse_ln2, rest = float.fromhex("0x1.71547652b82fep+0"), float.fromhex("0x1.777d0ffda0d24p-56")
    with np.errstate(all="ignore"):
        bits = x.view(np.int64) - np.int64(0x3FE6600000000000)
        e, index = bits >> 52, (bits >> 48) & 15
        m = (x.view(np.int64) - (e << 52)).view(np.float64)
        r = fma(m, np.array(tables.INVERSES)[index], np.float64(-1))
        high = e.astype(np.float64) + np.array(tables.LOG2_HIGH)[index]
        low = np.array(tables.LOG2_LOW)[index]
        q = r * inverse_ln2
        low = low + fma(r, np.float64(rest), fma(r, np.float64(inverse_ln2), -q))
        total = high + q
        lost = (high - total) + q
        y = total + fma(r * r, horner(tables.LOG2_TAIL[::-1], r), lost + low)
        y = np.where(x < np.inf, y, x)
        return np.where(x > 0, y, -np.inf)


def _exp2_double(t: Array) -> Array:
    """n = round(16 t), f = t - n / 16, p = f fma(f, tail(f), ln 2); s = 2^(n / 16) from the table, fma(s, p, s)."""
    with np.errstate(all="ignore"):
        n = fma(t, np.float64(16), np.float64(_MAGIC[np.float64])) - _MAGIC[np.float64]
        f = fma(n, np.float64(-0.0625), t)
        p = f * fma(f, horner(tables.EXP2_TAIL[::-1], f), np.float64(float.fromhex("0x1.62e42fefa39efp-1")))
        k = np.where(np.isnan(n), 0, n).astype(np.int64)
        s = np.array(tables.POWERS)[k & 15] * np.exp2((k >> 4).astype(np.float64))
        return fma(s, p, s)
