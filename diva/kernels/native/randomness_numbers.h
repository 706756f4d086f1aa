// Words into numbers: each distribution's program (reference/randomness.py), on a CPU and on a GPU.
#pragma once

#if defined(DK_DEVICE)
#include "../cuda/philox.h"
#else
#include "randomness_philox.h"
#endif
#include "functions.h"
#include "randomness_functions.h"

namespace dk {
namespace {

// (2 (word >> 9) + 1) 2^-24
DK_INLINE vec<float> unit(words32 word) {
    words32 odd = (word >> 9) * 2 + 1;
    return __builtin_convertvector(signed_words(odd), vec<float>) * 0x1p-24f;
}

// 52 bits m as the number m 2^-52, exactly: below the exponent of 1, less 1
DK_INLINE vec<double> fraction(wide m) { return from_bits<double>(signed_words(m | 0x3FF0000000000000)) - 1.0; }

// (2 (word >> 12) + 1) 2^-53
DK_INLINE vec<double> unit(wide word) { return fraction(word >> 12) + 0x1p-53; }

DK_INLINE vec<float> standard_normal(words32 word) {
    mask<float> m = signed_words(word & 0x7FFFFFFF), sign = signed_words(word & 0x80000000);
    vec<float> p = fma(__builtin_convertvector(m, vec<float>), set(0x1p-32f), set(0x1p-33f));
    vec<float> q = fma(__builtin_convertvector(m ^ 0x7FFFFFFF, vec<float>), set(0x1p-32f), set(0x1p-33f));
    return from_bits<float>(to_bits<float>(quantile(p, q)) | sign);
}

DK_INLINE vec<double> standard_normal(wide word) {
    const uint64_t all = 0xFFFFFFFFFFFFF;
    wide m = (word >> 11) & all;
    vec<double> p = fma(fraction(m), set(0.5), set(0x1p-54)), q = fma(fraction(m ^ all), set(0.5), set(0x1p-54));
    return from_bits<double>(to_bits<double>(quantile(p, q)) | signed_words(word & 0x8000000000000000));
}

// f of binary64, on numbers of either type; binary32 is rounded once, at the end
template <class F> DK_INLINE vec<double> in_double(vec<double> x, F f) { return f(x); }
template <class F> DK_INLINE vec<float> in_double(vec<float> x, F f) {
    halves h = widen_halves(x);
    return narrow_halves({f(h.low), f(h.high)});
}

// round(p 2^32), ties to even: adding and taking away 3 2^51 rounds to an integer
DK_INLINE uint64_t threshold(double p) { return uint64_t((p * 0x1p32 + 0x1.8p52) - 0x1.8p52); }

// -log(u)
template <class Words> DK_INLINE auto waiting_time(Words word) {
    return in_double(unit(word), [](vec<double> u) { return -plain_log(u); });
}

// tan(pi x), 0 < |x| < 1/2. b = |x|, or 1/2 - |x| beyond 1/4; y = pi b; Taylor's sine and cosine of y; sine / cosine, or
// beyond 1/4 cosine / sine.
DK_INLINE vec<double> tangent_of_turn(vec<double> x) {
    mask<double> sign = to_bits<double>(x) & to_bits<double>(set(-0.0));
    vec<double> a = from_bits<double>(to_bits<double>(x) ^ sign);
    mask<double> steep = a > 0.25;
    vec<double> y = select<double>(steep, 0.5 - a, a) * 0x1.921fb54442d18p1, z = y * y;
    vec<double> sine = y * polynomial<double>(z, 1.0 / 355687428096000.0, -1.0 / 1307674368000.0, 1.0 / 6227020800.0,
                                              -1.0 / 39916800.0, 1.0 / 362880.0, -1.0 / 5040.0, 1.0 / 120.0, -1.0 / 6.0, 1.0);
    vec<double> cosine = polynomial<double>(z, 1.0 / 20922789888000.0, -1.0 / 87178291200.0, 1.0 / 479001600.0, -1.0 / 3628800.0,
                                            1.0 / 40320.0, -1.0 / 720.0, 1.0 / 24.0, -0.5, 1.0);
    vec<double> t = select<double>(steep, cosine, sine) / select<double>(steep, sine, cosine);
    return from_bits<double>(to_bits<double>(t) | sign);
}

template <class Words> DK_INLINE auto cauchy_number(Words word, double median, double scale) {
    return in_double(unit(word), [=](vec<double> u) { return fma(tangent_of_turn(u - 0.5), set(scale), set(median)); });
}

template <class T, class Words> DK_INLINE vec<T> log_normal_number(Words word, T mean, T std) {
    return in_double(fma(standard_normal(word), set(std), set(mean)), [](vec<double> x) { return fixed_exp(x); });
}

// ceil(log(u) / log_failure)
DK_INLINE vec<double> geometric_number(wide word, double log_failure) {
    vec<double> x = plain_log(unit(word)) / log_failure;
    vec<double> r = (x + 0x1p52) - 0x1p52;  // to nearest; from 2^52 on every number is an integer
    r = select<double>(r < x, r + 1.0, r);
    return select<double>(x < 0x1p52, r, x);
}

struct Truncation {
    double mean, std, low, high, from, width;
};
DK_INLINE vec<double> truncated(wide word, const Truncation &t) {
    vec<double> v = fma(unit(word), set(t.width), set(t.from));
    mask<double> lower = v <= 0.5;
    vec<double> tail = select<double>(lower, v, 1.0 - v), z = quantile(tail, 0.5 - tail);
    vec<double> x = fma(select<double>(lower, -z, z), set(t.std), set(t.mean));
    x = select<double>(x < t.low, set(t.low), x);
    return select<double>(x > t.high, set(t.high), x);
}

}  // namespace
}  // namespace dk
