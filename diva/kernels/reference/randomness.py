"""Random numbers, D7: Philox4x32-10 counters, and what each distribution makes of them, one IEEE operation after another.

A nonce of 62 bits is the key. Element i of a tensor (row-major, whatever the memory layout) takes

    `word32`: word w = (i / 16) % 4 of the counter (i / 64) 16 + i % 16
    `word64`: words 2 h (high half) and 2 h + 1 (low half), h = (i / 16) % 2, of the counter (i / 32) 16 + i % 16

so that 16 neighbours are 16 counters: registers of any width, and warps, read and write them without a shuffle.
The counter's 128 bits are (low 32, high 32, stage, 0); stage is 0 but where a function says otherwise.
"""

from __future__ import annotations

import numpy as np

from diva.kernels.reference.arithmetic import fma

MULTIPLIERS = (0xD2511F53, 0xCD9E8D57)
KEY_STEPS = (0x9E3779B9, 0xBB67AE85)
ROUNDS = 10
_LOW = np.uint64(0xFFFFFFFF)
_32 = np.uint64(32)

# AS241 (Wichura 1988): PPND7 for binary32, PPND16 for binary64; highest power first.
CENTRAL_32 = (
    (5.9109374720e01, 1.5929113202e02, 5.0434271938e01, 3.3871327179e00),
    (6.7187563600e01, 7.8757757664e01, 1.7895169469e01, 1.0),
)
TAIL_32 = (
    (1.7023821103e-01, 1.3067284816e00, 2.7568153900e00, 1.4234372777e00),
    (1.2021132975e-01, 7.3700164250e-01, 1.0),
)
CENTRAL_64 = (
    (2509.0809287301226727, 33430.575583588128105, 67265.770927008700853, 45921.953931549871457,
     13731.693765509461125, 1971.5909503065514427, 133.14166789178437745, 3.3871328727963666080),
    (5226.4952788528545610, 28729.085735721942674, 39307.895800092710610, 21213.794301586595867,
     5394.1960214247511077, 687.18700749205790830, 42.313330701600911252, 1.0),
)  # fmt: skip
TAIL_64 = (
    (7.74545014278341407640e-4, 2.27238449892691845833e-2, 2.41780725177450611770e-1, 1.27045825245236838258,
     3.64784832476320460504, 5.76949722146069140550, 4.63033784615654529590, 1.42343711074968357734),
    (1.05075007164441684324e-9, 5.47593808499534494600e-4, 1.51986665636164571966e-2, 1.48103976427480074590e-1,
     6.89767334985100004550e-1, 1.67638483018380384940, 2.05319162663775882187, 1.0),
)  # fmt: skip
FAR_64 = (
    (2.01033439929228813265e-7, 2.71155556874348757815e-5, 1.24266094738807843860e-3, 2.65321895265761230930e-2,
     2.96560571828504891230e-1, 1.78482653991729133580, 5.46378491116411436990, 6.65790464350110377720),
    (2.04426310338993978564e-15, 1.42151175831644588870e-7, 1.84631831751005468180e-5, 7.86869131145613259100e-4,
     1.48753612908506148525e-2, 1.36929880922735805310e-1, 5.99832206555887937690e-1, 1.0),
)  # fmt: skip
# log: Cephes logf for binary32, fdlibm for binary64
LOG_32 = (7.0376836292e-2, -1.1514610310e-1, 1.1676998740e-1, -1.2420140846e-1, 1.4249322787e-1,
          -1.6668057665e-1, 2.0000714765e-1, -2.4999993993e-1, 3.3333331174e-1)  # fmt: skip
LOG_64 = (1.479819860511658591e-01, 1.531383769920937332e-01, 1.818357216161805012e-01, 2.222219843214978396e-01,
          2.857142874366239149e-01, 3.999999999940941908e-01, 6.666666666666735130e-01)  # fmt: skip
LN2_32 = (0.693359375, -2.12194440e-4)
LN2_64 = (6.93147180369123816490e-01, 1.90821492927058770002e-10)


def philox(counter: np.ndarray, key: np.ndarray) -> np.ndarray:
    """Philox4x32-10 of Salmon et al. 2011. counter: (..., 4), key: (..., 2), both uint32. Returns uint32 (..., 4)."""
    c = [counter[..., k].astype(np.uint64) for k in range(4)]
    k = [key[..., j].astype(np.uint64) for j in range(2)]
    for _ in range(ROUNDS):
        first, second = c[0] * np.uint64(MULTIPLIERS[0]), c[2] * np.uint64(MULTIPLIERS[1])
        c = [(second >> _32) ^ c[1] ^ k[0], second & _LOW, (first >> _32) ^ c[3] ^ k[1], first & _LOW]
        k = [(k[j] + np.uint64(KEY_STEPS[j])) & _LOW for j in range(2)]
    return np.stack(c, axis=-1).astype(np.uint32)


def counter_words(nonce: int, counter: np.ndarray, stage: int = 0) -> np.ndarray:
    """The four words of each counter (int64, (...)). Returns uint32 (..., 4)."""
    counter = counter.astype(np.uint64)
    zero = np.zeros_like(counter)
    four = np.stack([counter & _LOW, counter >> _32, zero + np.uint64(stage), zero], axis=-1)
    key = np.array([nonce & 0xFFFFFFFF, nonce >> 32], np.uint32)
    return philox(four.astype(np.uint32), np.broadcast_to(key, (*counter.shape, 2)))


def word32(nonce: int, n: int, stage: int = 0) -> np.ndarray:
    """The 32-bit words of elements 0..n-1, uint32."""
    i = np.arange(n, dtype=np.int64)
    words = counter_words(nonce, i // 64 * 16 + i % 16, stage)
    return words[i, i // 16 % 4] if n else np.zeros(0, np.uint32)


def word64(nonce: int, n: int, stage: int = 0) -> np.ndarray:
    """The 64-bit words of elements 0..n-1, uint64."""
    i = np.arange(n, dtype=np.int64)
    words = counter_words(nonce, i // 32 * 16 + i % 16, stage).astype(np.uint64)
    half = i // 16 % 2
    return (words[i, 2 * half] << _32) | words[i, 2 * half + 1] if n else np.zeros(0, np.uint64)


def unit(nonce: int, n: int, dtype: type = np.float32, stage: int = 0) -> np.ndarray:
    """Uniform in (0, 1), never 0 or 1: (2 (word32 >> 9) + 1) 2^-24; binary64: (2 (word64 >> 12) + 1) 2^-53. Exact."""
    if dtype == np.float32:
        odd = 2 * (word32(nonce, n, stage) >> np.uint32(9)) + np.uint32(1)
        return (odd.astype(np.float32) * np.float32(2.0**-24)).astype(np.float32)
    odd64 = np.uint64(2) * (word64(nonce, n, stage) >> np.uint64(12)) + np.uint64(1)
    return odd64.astype(np.float64) * 2.0**-53


def uniform(nonce: int, n: int, low: float, high: float, dtype: type = np.float32) -> np.ndarray:
    """fma(u, high - low, low), the bounds rounded to the type first; a bound may be reached by that rounding.

    low == high gives low (+0 for -0).
    """
    a, b = dtype(low), dtype(high)
    return fma(unit(nonce, n, dtype), np.asarray(b - a), np.asarray(a))


def normal(nonce: int, n: int, mean: float, std: float, dtype: type = np.float32) -> np.ndarray:
    """fma(z, std, mean), z the standard normal numbers."""
    return fma(standard_normal(nonce, n, dtype), np.asarray(dtype(std)), np.asarray(dtype(mean)))


def standard_normal(nonce: int, n: int, dtype: type = np.float32) -> np.ndarray:
    """Standard normal by inverse CDF, AS241.

    The word's top bit is the sign (1: negative), the rest, m, the tail: binary32: m the low 31 bits,
    p = fma(m, 2^-32, 2^-33), q = fma(2^31 - 1 - m, 2^-32, 2^-33); binary64: m = (word64 >> 11) mod 2^52,
    p = (2 m + 1) 2^-54, q = (2 (2^52 - 1 - m) + 1) 2^-54 (exact). p is the probability beyond, q = 1/2 - p; |z| is `quantile`.
    """
    if dtype == np.float32:
        word = word32(nonce, n)
        m = (word & np.uint32(0x7FFFFFFF)).astype(np.int32)
        scale, half = np.float32(2.0**-32), np.float32(2.0**-33)
        p = fma(m.astype(np.float32), np.asarray(scale), np.asarray(half))
        q = fma((0x7FFFFFFF - m).astype(np.float32), np.asarray(scale), np.asarray(half))
        negative = (word >> np.uint32(31)).astype(bool)
    else:
        wide = word64(nonce, n)
        m64 = ((wide >> np.uint64(11)) & np.uint64(2**52 - 1)).astype(np.int64)
        p = (2 * m64 + 1).astype(np.float64) * 2.0**-54
        q = (2 * (2**52 - 1 - m64) + 1).astype(np.float64) * 2.0**-54
        negative = (wide >> np.uint64(63)).astype(bool)
    z = quantile(p, q)
    return np.where(negative, -z, z)


def quantile(p: np.ndarray, q: np.ndarray) -> np.ndarray:
    """The z >= 0 whose upper tail is p, q = 1/2 - p: AS241's rational functions, Horner's rule by fma, then one division.

    q <= 0.425: r = fma(-q, q, 0.180625), z = (q N(r)) / D(r). Else t = sqrt(-log p), r = t - 1.6, z = N(r) / D(r);
    in binary64 with t > 5: r = t - 5.
    """
    dtype = p.dtype.type
    central, tail = (CENTRAL_32, TAIL_32) if dtype == np.float32 else (CENTRAL_64, TAIL_64)
    r = fma(-q, q, np.asarray(dtype(0.180625)))
    t = np.sqrt(-log(p))
    near = t - dtype(1.6)
    z_central = (q * _horner(central[0], r)) / _horner(central[1], r)
    z = _horner(tail[0], near) / _horner(tail[1], near)
    if dtype == np.float64:
        far = t - 5.0
        z = np.where(t > 5.0, _horner(FAR_64[0], far) / _horner(FAR_64[1], far), z)
    return np.asarray(np.where(q <= dtype(0.425), z_central, z))


def log(x: np.ndarray) -> np.ndarray:
    """The logarithm inside the distributions, for normal positive x: a fixed program of about 1 ulp.

    x = 2^e m, m in [sqrt(1/2), sqrt(2)) by comparing bit patterns; f = m - 1.
    binary32 (Cephes): z = f f; y = fma(z (f P(f)), ...) as below. binary64 (fdlibm): s = f / (2 + f), z = s s.
    """
    if x.dtype == np.float32:
        bits = x.view(np.int32)
        e = (bits - np.int32(0x3F3504F3)) >> 23
        m = (bits - (e << 23)).view(np.float32)
        f, k = m - np.float32(1), e.astype(np.float32)
        z = f * f
        y = (f * z) * _horner(LOG_32, f)
        y = fma(k, np.asarray(np.float32(LN2_32[1])), y)
        y = fma(z, np.asarray(np.float32(-0.5)), y)
        return fma(k, np.asarray(np.float32(LN2_32[0])), f + y)
    bits64 = x.view(np.int64)
    e64 = (bits64 - np.int64(0x3FE6A09E667F3BCD)) >> 52
    m = (bits64 - (e64 << 52)).view(np.float64)
    f, k = m - 1.0, e64.astype(np.float64)
    s = f / (f + 2.0)
    z = s * s
    remainder = z * _horner(LOG_64, z)
    half = (f * f) * 0.5
    low = fma(s, half + remainder, k * LN2_64[1])
    return fma(k, np.asarray(LN2_64[0]), -((half - low) - f))


def threshold(p: float) -> int:
    """round(p 2^32), ties to even: a word below it counts as success. 0 (never) for p < 2^-33, 2^32 (always) for p = 1."""
    return round(float(p) * 2.0**32)


def bernoulli(nonce: int, n: int, p: float | np.ndarray) -> np.ndarray:
    """1 where word32 < threshold(p), else 0 (bool); p a number or one per element, in [0, 1]."""
    limits = np.array([threshold(v) for v in np.broadcast_to(p, (n,))], np.uint64)
    return word32(nonce, n).astype(np.uint64) < limits


def _horner(coefficients: tuple[float, ...], x: np.ndarray) -> np.ndarray:
    dtype = x.dtype.type
    value = np.full_like(x, dtype(coefficients[0]))
    for c in coefficients[1:]:
        value = fma(value, x, np.asarray(dtype(c)))
    return value


def exponential(nonce: int, n: int, rate: float, dtype: type = np.float32) -> np.ndarray:
    """-log(u) / rate, the logarithm in binary64, rounded to the type before the division."""
    u = unit(nonce, n, dtype).astype(np.float64)
    return np.asarray((-log(u)).astype(dtype) / dtype(rate))


def cauchy(nonce: int, n: int, median: float, scale: float, dtype: type = np.float32) -> np.ndarray:
    """fma(tan(pi (u - 1/2)), scale, median) in binary64 for both types, scalars rounded to the type, then the result.

    x = u - 1/2 (exact), b = |x| or 1/2 - |x| beyond 1/4, y = pi b; Taylor's sine (to y^17) and cosine (to y^16) by
    Horner's rule in y y; sine / cosine, beyond 1/4 cosine / sine; the sign of x.
    """
    x = unit(nonce, n, dtype).astype(np.float64) - 0.5
    steep = np.abs(x) > 0.25
    y = np.where(steep, 0.5 - np.abs(x), np.abs(x)) * np.pi
    z = y * y
    sine = y * _horner(tuple((-1.0) ** k / _factorial(2 * k + 1) for k in range(8, -1, -1)), z)
    cosine = _horner(tuple((-1.0) ** k / _factorial(2 * k) for k in range(8, -1, -1)), z)
    tangent = np.where(steep, cosine, sine) / np.where(steep, sine, cosine)
    signed = np.copysign(tangent, x)
    return fma(signed, np.asarray(np.float64(dtype(scale))), np.asarray(np.float64(dtype(median)))).astype(dtype)


def geometric(nonce: int, n: int, log_failure: float) -> np.ndarray:
    """ceil(log(u) / log(1 - p)), binary64."""
    return np.ceil(log(unit(nonce, n, np.float64)) / np.float64(log_failure))


def truncated_normal(
    nonce: int, n: int, mean: float, std: float, low: float, high: float, start: float, width: float,
    dtype: type = np.float32,
) -> np.ndarray:  # fmt: skip
    """v = fma(u, width, start) is a probability; t = v or 1 - v, whichever is at most 1/2; z = quantile(t, 1/2 - t),
    negative for v <= 1/2; fma(z, std, mean), held in [low, high]. In binary64; scalars rounded to the type, then the result.
    """
    v = fma(unit(nonce, n, np.float64), np.asarray(np.float64(width)), np.asarray(np.float64(start)))
    lower = v <= 0.5
    tail = np.where(lower, v, 1.0 - v)
    z = quantile(tail, 0.5 - tail)
    m, s, a, b = (np.asarray(np.float64(dtype(value))) for value in (mean, std, low, high))
    return np.asarray(np.clip(fma(np.where(lower, -z, z), s, m), a, b).astype(dtype))


def permutation(nonce: int, n: int) -> np.ndarray:
    """The indices sorted by (word64, index)."""
    return np.argsort(word64(nonce, n), kind="stable")


def multinomial(nonce: int, weights: np.ndarray, count: int, replacement: bool) -> np.ndarray:
    """weights: float64 (rows, n). Returns int64 (rows, count).

    With replacement: c = the running sum of the weights, j ascending; x = u c_last, u the element row count + draw; the
    first j with c_j > x, or if rounding leaves none the last with a positive weight. Without: the `count` smallest of
    e / w, e = -log(u), u the element row n + j, over positive weights, ascending, ties to the smaller j.
    """
    rows, n = weights.shape
    result = np.zeros((rows, count), np.int64)
    if replacement:
        u = unit(nonce, rows * count, np.float64).reshape(rows, count)
        for r in range(rows):
            sums = np.cumsum(weights[r])
            found = np.searchsorted(sums, u[r] * sums[-1], side="right")
            result[r] = np.where(found < n, found, np.flatnonzero(weights[r])[-1])
        return result
    times = -log(unit(nonce, rows * n, np.float64)).reshape(rows, n)
    for r in range(rows):
        positive = np.flatnonzero(weights[r])
        order = np.argsort(times[r][positive] / weights[r][positive], kind="stable")
        result[r] = positive[order[:count]]
    return result


def _factorial(n: int) -> float:
    return 1.0 if n < 2 else n * _factorial(n - 1)
