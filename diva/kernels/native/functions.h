// Fixed programs of the transcendental functions: the listed operations are the definition, about 1 ulp of error each.
//
// EXP32 and LOG32 of the specification are `fixed_exp` and `fixed_log` of vec<float>; those of vec<double> are the same
// idea in binary64. Step by step in reference/functions.py. Softmax, normalisation and random kernels include this file.
// NaN comes out for NaN. No table, no branch: the same operations for every lane.
#pragma once

#include "vec.h"

namespace dk {

template <class T> struct exponent;  // how many bits a number keeps below its exponent, and the exponent of 1
template <> struct exponent<float> {
    static constexpr int shift = 23, bias = 127;
    static constexpr float magic = 12582912.0f;  // 1.5 * 2^23: x + magic has round(x) in its last bits
    static constexpr float smallest = 0x1p-126f, lift = 0x1p23f;  // the smallest normal number; what makes a denormal one normal
};
template <> struct exponent<double> {
    static constexpr int shift = 52, bias = 1023;
    static constexpr double magic = 6755399441055744.0;  // 1.5 * 2^52
    static constexpr double smallest = 0x1p-1022, lift = 0x1p52;
};

// p * 2^n rounded once, p in [0.5, 2), n = t - magic an integer in [-2 bias - 40, 2 bias - 2], t = n + magic.
template <class T> DK_INLINE vec<T> scale(vec<T> p, vec<T> t) {
    using E = exponent<T>;
#if defined(DK_AVX512)
    if constexpr (sizeof(T) == 4)
        return (vec<T>)_mm512_maskz_scalef_ps(__mmask16(-1), (__m512)p, (__m512)(t - E::magic));
    else
        return (vec<T>)_mm512_maskz_scalef_pd(__mmask8(-1), (__m512d)p, (__m512d)(t - E::magic));
#else
    // two factors: the first product is exact, so the only rounding is that of the second
    mask<T> n = to_bits<T>(t) - to_bits<T>(set<T>(E::magic));
    mask<T> half = n >> 1;
    vec<T> low = from_bits<T>((half + E::bias) << E::shift);
    vec<T> high = from_bits<T>((n - half + E::bias) << E::shift);
    return p * low * high;
#endif
}

// EXP32. x is held in [-104, 89] (NaN passes); t = fma(x, 1/ln 2, magic), n = t - magic; f = fma(n, -ln2_high, x),
// f = fma(n, -ln2_low, f); a polynomial of degree 6 in f by Horner's rule in fma; times 2^n, rounded once.
// Largest error over all inputs: 0.857 ulp. exp(0) = 1, exp(-inf) = 0, exp(inf) = inf, denormal results are kept.
// exp_held is the part for numbers that are known to lie there.
DK_INLINE vec<float> exp_held(vec<float> x) {
    vec<float> t = fma(x, set(0x1.715476p0f), set(exponent<float>::magic));
    vec<float> n = t - exponent<float>::magic;
    vec<float> f = fma(n, set(-0x1.62e400p-1f), x);
    f = fma(n, set(-0x1.7f7d1cp-20f), f);
    vec<float> r = fma(set(0x1.694000p-10f), f, set(0x1.125edcp-7f));
    r = fma(r, f, set(0x1.555b5ap-5f));
    r = fma(r, f, set(0x1.555450p-3f));
    r = fma(r, f, set(0x1.fffff6p-2f));
    r = fma(r, f, set(1.0f));
    r = fma(r, f, set(1.0f));
    return scale<float>(r, t);
}
DK_INLINE vec<float> fixed_exp(vec<float> x) { return exp_held(lesser_of(set(89.0f), greater_of(set(-104.0f), x))); }

// The same in binary64: x held in [-746, 710], Taylor's polynomial of degree 13.
DK_INLINE vec<double> exp_held(vec<double> x) {
    vec<double> t = fma(x, set(0x1.71547652b82fep0), set(exponent<double>::magic));
    vec<double> n = t - exponent<double>::magic;
    vec<double> f = fma(n, set(-0x1.62e42fefa39efp-1), x);
    f = fma(n, set(-0x1.abc9e3b39803fp-56), f);
    vec<double> r = set(1.0 / 6227020800.0);
    r = fma(r, f, set(1.0 / 479001600.0));
    r = fma(r, f, set(1.0 / 39916800.0));
    r = fma(r, f, set(1.0 / 3628800.0));
    r = fma(r, f, set(1.0 / 362880.0));
    r = fma(r, f, set(1.0 / 40320.0));
    r = fma(r, f, set(1.0 / 5040.0));
    r = fma(r, f, set(1.0 / 720.0));
    r = fma(r, f, set(1.0 / 120.0));
    r = fma(r, f, set(1.0 / 24.0));
    r = fma(r, f, set(1.0 / 6.0));
    r = fma(r, f, set(0.5));
    r = fma(r, f, set(1.0));
    r = fma(r, f, set(1.0));
    return scale<double>(r, t);
}
DK_INLINE vec<double> fixed_exp(vec<double> x) { return exp_held(lesser_of(set(710.0), greater_of(set(-746.0), x))); }

// EXP of -|x|: the same result as fixed_exp.
template <class T> DK_INLINE vec<T> exp_of_minus_size(vec<T> x) {
    constexpr T lowest = sizeof(T) == 4 ? T(-104) : T(-746);
    return exp_held(greater_of(set(lowest), from_bits<T>(to_bits<T>(x) | to_bits<T>(set(T(-0.0))))));
}

// x = m * 2^e, m in [2/3, 4/3): e as a number, m. For x positive, finite or not, denormal or not.
template <class T> struct parts {
    vec<T> m, e;
};
template <class T> DK_INLINE parts<T> split_binary(vec<T> x) {
    using E = exponent<T>;
    constexpr bits_t<T> two_thirds = sizeof(T) == 4 ? bits_t<T>(0x3f2aaaab) : bits_t<T>(0x3fe5555555555555);
    mask<T> denormal = x < E::smallest;
    x = denormal ? x * E::lift : x;
    mask<T> e = (to_bits<T>(x) - two_thirds) >> E::shift;
    vec<T> m = from_bits<T>(to_bits<T>(x) - (e << E::shift));
    e = e - (denormal & E::shift);
    return {m, __builtin_convertvector(e, vec<T>)};
}

// What a logarithm gives beside its program: 0 -> -inf, below 0 -> NaN, inf -> inf, NaN -> NaN.
template <class T> DK_INLINE vec<T> finish_log(vec<T> x, vec<T> r) {
    constexpr T inf = T(__builtin_inf());
    r = x < inf ? r : x + x;                            // inf, NaN
    r = x > T(0) ? r : set(T(-inf));                    // zero
    return x >= T(0) ? r : (x - x) / (x - x);           // below zero, NaN
}

// log(1 + f) + n ln 2, -1/3 <= f <= 1/3: s = f * f; two interleaved polynomials; r = fma(r, s, f); fma(n, ln 2, r).
DK_INLINE vec<float> log_from(vec<float> f, vec<float> n) {
    vec<float> s = f * f;
    vec<float> r = fma(set(-0x1.0ae000p-3f), s, set(-0x1.f1988ap-4f));
    vec<float> t = fma(set(0x1.208000p-3f), s, set(0x1.1e5740p-3f));
    r = fma(r, s, set(-0x1.55b36ep-3f));
    t = fma(t, s, set(0x1.99d8b2p-3f));
    r = fma(r, s, set(-0x1.fffe02p-3f));
    r = fma(t, f, r);
    r = fma(r, f, set(0x1.5554fap-2f));
    r = fma(r, f, set(-0.5f));
    r = fma(r, s, f);
    return fma(n, set(0x1.62e430p-1f), r);
}

// LOG32. x = m * 2^n, m in [2/3, 4/3), f = m - 1. Largest error over all inputs: 0.846 ulp. log(1) = +0.
DK_INLINE vec<float> fixed_log(vec<float> x) {
    parts<float> p = split_binary<float>(x);
    return finish_log<float>(x, log_from(p.m - 1.0f, p.e));
}

// In binary64: f = m - 1, s = f / (2 + f), z = s * s; log(1 + f) = f - (h - s * (h + R)), h = f * f / 2, R = the series
// 2 z^k / (2 k + 1), k = 1..10, by Horner's rule in fma; e * ln2_high added after, e * ln2_low before.
DK_INLINE vec<double> fixed_log(vec<double> x) {
    parts<double> p = split_binary<double>(x);
    vec<double> f = p.m - 1.0;
    vec<double> s = f / (f + 2.0);
    vec<double> z = s * s;
    vec<double> r = set(2.0 / 23.0);
    r = fma(r, z, set(2.0 / 21.0));
    r = fma(r, z, set(2.0 / 19.0));
    r = fma(r, z, set(2.0 / 17.0));
    r = fma(r, z, set(2.0 / 15.0));
    r = fma(r, z, set(2.0 / 13.0));
    r = fma(r, z, set(2.0 / 11.0));
    r = fma(r, z, set(2.0 / 9.0));
    r = fma(r, z, set(2.0 / 7.0));
    r = fma(r, z, set(2.0 / 5.0));
    r = fma(r, z, set(2.0 / 3.0));
    r = r * z;
    vec<double> h = f * f * 0.5;
    vec<double> low = fma(p.e, set(0x1.ef35793c76730p-45), s * (h + r));  // ln 2 = 0x1.62e42fefa3800p-1 + this
    vec<double> y = fma(p.e, set(0x1.62e42fefa3800p-1), f - (h - low));
    return finish_log<double>(x, y);
}

}  // namespace dk
