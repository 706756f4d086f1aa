// More fixed programs on the ground of functions.h: the listed operations are the definition. reference/functions.py.
#pragma once

#include "functions.h"

namespace dk {

// The number without its sign, and with the sign of another.
template <class T> DK_INLINE vec<T> size_of(vec<T> x) { return from_bits<T>(to_bits<T>(x) & ~to_bits<T>(set(T(-0.0)))); }
template <class T> DK_INLINE vec<T> with_sign(vec<T> size, vec<T> x) {
    return from_bits<T>(to_bits<T>(size) | (to_bits<T>(x) & to_bits<T>(set(T(-0.0)))));
}

// Towards zero: (|x| + 2^23) - 2^23, less 1 where that is above |x| (2^52 in binary64); larger numbers are integers.
template <class T> DK_INLINE vec<T> truncated(vec<T> x) {
    constexpr T whole = sizeof(T) == 4 ? T(0x1p23) : T(0x1p52);
    vec<T> size = size_of<T>(x);
    vec<T> t = (size + whole) - whole;
    t = t > size ? t - T(1) : t;
    return size < whole ? with_sign<T>(t, x) : x;
}

// EXPM1_32: n and f as in EXP32; q the polynomial of degree 4 with its first five coefficients, p = fma(f * f, q, f);
// 2^n p + (2^n - 1), with 2^n = A B, B (fma(A, p, A - 1 / B)); x held in [-60, 89]; where x is 0, x.
DK_INLINE vec<float> fixed_expm1(vec<float> given) {
    vec<float> x = given < -60.0f ? set(-60.0f) : given;
    x = x > 89.0f ? set(89.0f) : x;
    vec<float> t = fma(x, set(0x1.715476p0f), set(exponent<float>::magic));
    vec<float> n = t - exponent<float>::magic;
    vec<float> f = fma(n, set(-0x1.62e400p-1f), x);
    f = fma(n, set(-0x1.7f7d1cp-20f), f);
    vec<float> q = fma(set(0x1.694000p-10f), f, set(0x1.125edcp-7f));
    q = fma(q, f, set(0x1.555b5ap-5f));
    q = fma(q, f, set(0x1.555450p-3f));
    q = fma(q, f, set(0x1.fffff6p-2f));
    vec<float> p = fma(f * f, q, f);
    mask<float> k = to_bits<float>(t) - to_bits<float>(set(exponent<float>::magic));
    mask<float> half = k >> 1;
    vec<float> a = from_bits<float>((half + 127) << 23), b = from_bits<float>((k - half + 127) << 23);
    vec<float> y = b * fma(a, p, a - from_bits<float>((127 - (k - half)) << 23));
    return given == 0.0f ? given : y;
}

// LOG1P_32 of 0 <= x <= 1: x < 1/3: n = 0, f = x; else n = 1, f = (x - 1) / 2 (exact); then as LOG32.
DK_INLINE vec<float> fixed_log1p_unit(vec<float> x) {
    mask<float> near = x < 0x1.555556p-2f;
    vec<float> f = near ? x : fma(x, set(0.5f), set(-0.5f));
    vec<float> n = near ? vec<float>{} : set(1.0f);
    return log_from(f, n);
}

// exp(x) - 1 in binary64: n and f as in fixed_exp, q = (exp f - 1 - f) / f^2 (Taylor, degree 11), p = fma(f * f, q, f);
// (2^n - 1) + 2^n p; x held in [-60, 710]; where x is 0, x.
DK_INLINE vec<double> fixed_expm1(vec<double> given) {
    vec<double> x = given < -60.0 ? set(-60.0) : given;
    x = x > 710.0 ? set(710.0) : x;
    vec<double> t = fma(x, set(0x1.71547652b82fep0), set(exponent<double>::magic));
    vec<double> n = t - exponent<double>::magic;
    vec<double> f = fma(n, set(-0x1.62e42fefa39efp-1), x);
    f = fma(n, set(-0x1.abc9e3b39803fp-56), f);
    vec<double> q = set(1.0 / 6227020800.0);
    q = fma(q, f, set(1.0 / 479001600.0));
    q = fma(q, f, set(1.0 / 39916800.0));
    q = fma(q, f, set(1.0 / 3628800.0));
    q = fma(q, f, set(1.0 / 362880.0));
    q = fma(q, f, set(1.0 / 40320.0));
    q = fma(q, f, set(1.0 / 5040.0));
    q = fma(q, f, set(1.0 / 720.0));
    q = fma(q, f, set(1.0 / 120.0));
    q = fma(q, f, set(1.0 / 24.0));
    q = fma(q, f, set(1.0 / 6.0));
    q = fma(q, f, set(0.5));
    vec<double> p = fma(f * f, q, f);
    // 2^n in two factors, because of n = 1024
    mask<double> k = to_bits<double>(t) - to_bits<double>(set(exponent<double>::magic));
    mask<double> half = k >> 1;
    vec<double> first = from_bits<double>((half + 1023) << 52), second = from_bits<double>((k - half + 1023) << 52);
    vec<double> small = second * fma(first, p, first - from_bits<double>((1023 - (k - half)) << 52));
    return given == 0.0 ? given : small;
}

// log(1 + x) in binary64: u = 1 + x, c = x - (u - 1) (x >= 1: 1 - (u - x)); log(u) + c / u; x where it is 0 or inf.
DK_INLINE vec<double> fixed_log1p(vec<double> x) {
    vec<double> u = 1.0 + x;
    vec<double> c = x >= 1.0 ? 1.0 - (u - x) : x - (u - 1.0);
    vec<double> y = fixed_log(u);
    y = (u > 0.0) & (u < double(__builtin_inf())) ? y + c / u : y;
    return x == 0.0 ? x : y;
}

DK_INLINE vec<double> fixed_log1p_unit(vec<double> x) { return fixed_log1p(x); }

// sig: e = EXP(-|x|); (x < 0 ? e : 1) / (1 + e).
template <class T> DK_INLINE vec<T> fixed_sigmoid(vec<T> x) {
    vec<T> e = exp_of_minus_size<T>(x);
    return (x < T(0) ? e : set(T(1))) / (e + T(1));
}

// tanh in binary64: |x| held below 20, e = expm1(2 |x|); e / (e + 2) with the sign of x.
DK_INLINE vec<double> fixed_tanh(vec<double> x) {
    mask<double> sign = to_bits<double>(x) & to_bits<double>(set(-0.0));
    vec<double> size = from_bits<double>(to_bits<double>(x) ^ sign);
    size = size > 20.0 ? set(20.0) : size;
    vec<double> e = fixed_expm1(size + size);
    return from_bits<double>(to_bits<double>(e / (e + 2.0)) | sign);
}

// erf: t = |x|, s = x * x. t > 475/512: a polynomial in t, 1 - EXP32(it), with the sign of x; else x + x * a polynomial in s.
// Largest error 0.996 ulp.
DK_INLINE vec<float> fixed_erf(vec<float> x) {
    mask<float> sign = to_bits<float>(x) & to_bits<float>(set(-0.0f));
    vec<float> t = from_bits<float>(to_bits<float>(x) ^ sign);
    vec<float> s = x * x;
    vec<float> r = fma(set(-0x1.220000p-16f), t, set(0x1.91cfb2p-12f));
    vec<float> u = fma(set(-0x1.fd1438p-9f), t, set(0x1.8d6342p-6f));
    r = fma(r, s, u);
    r = fma(r, t, set(-0x1.b55cb8p-4f));
    r = fma(r, t, set(-0x1.450aa0p-1f));
    r = fma(r, t, set(-0x1.079d0cp-3f));
    r = fma(r, t, -t);
    r = t > 4.0f ? set(-20.0f) : r;  // 1; the polynomial is not for larger ones
    vec<float> far = from_bits<float>(to_bits<float>(1.0f - exp_held(r)) | sign);
    vec<float> p = fma(set(-0x1.38e000p-11f), s, set(0x1.471a58p-8f));
    p = fma(p, s, set(-0x1.b691b2p-6f));
    p = fma(p, s, set(0x1.ce1c44p-4f));
    p = fma(p, s, set(-0x1.812700p-2f));
    p = fma(p, s, set(0x1.06eba8p-3f));
    vec<float> near = fma(p, x, x);
    return t > 0.927734375f ? far : near;
}

}  // namespace dk
