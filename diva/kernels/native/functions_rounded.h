// Correctly rounded functions of float32: binary64 inside, with an error so small that the last rounding is right.
//
// The specification is the function itself, rounded to nearest even; scripts/check_functions compares all 2^32 inputs.
#pragma once

#include "functions.h"
#include "functions_tables.h"

namespace dk {
namespace {

using Doubles = vec<double>;
using Integers = mask<double>;

// table[index], 0 <= index < 16
DK_INLINE Doubles look_up(const double *table, Integers index) {
#if defined(DK_AVX512)
    return (Doubles)_mm512_permutex2var_pd(_mm512_load_pd(table), (__m512i)index, _mm512_load_pd(table + 8));
#elif defined(DK_AVX2)
    return (Doubles)_mm256_i64gather_pd(table, (__m256i)index, 8);
#elif defined(DK_NEON)
    return Doubles{table[index[0]], table[index[1]]};
#else
    return Doubles{table[index[0]]};
#endif
}

template <int n> DK_INLINE Doubles polynomial(const double (&c)[n], Doubles x) {
    Doubles y = set(c[n - 1]);
    DK_UNROLL
    for (int i = n - 2; i >= 0; i--) y = fma(y, x, set(c[i]));
    return y;
}

// e^x or 2^x = 2^k T (1 + p): n = round(16 x / ln 2), k = n / 16, T = 2^((n mod 16) / 16), p = exp(f) - 1, f = x - n ln 2 / 16.
struct Power {
    Doubles p;
    Integers n;
};
DK_INLINE Power natural_power(Doubles x) {
    Doubles t = fma(x, set(0x1.71547652b82fep+4), set(exponent<double>::magic));
    Doubles n = t - exponent<double>::magic;
    Doubles f = fma(n, set(-0x1.62e42fefa39efp-5), x);
    f = fma(n, set(-0x1.abc9e3b39803fp-60), f);
    return {fma(f * f, polynomial(exp_tail, f), f), to_bits<double>(t)};
}
DK_INLINE Power binary_power(Doubles x) {
    Doubles t = fma(x, set(16.0), set(exponent<double>::magic));
    Doubles f = fma(t - exponent<double>::magic, set(-0.0625), x);
    return {f * fma(f, polynomial(exp2_tail, f), set(0x1.62e42fefa39efp-1)), to_bits<double>(t)};
}
// 2^k T (1 + p), for -1022 <= k <= 1023
DK_INLINE Doubles raised(Power a) {
    Doubles s = from_bits<double>(to_bits<double>(look_up(power_high, a.n & 15)) + ((a.n & ~int64_t(15)) << 48));
    return fma(s, a.p, s);
}
DK_INLINE Doubles rounded_exp(Doubles x) { return raised(natural_power(x)); }
DK_INLINE Doubles rounded_exp2(Doubles x) { return raised(binary_power(x)); }

DK_INLINE Doubles rounded_expm1(Doubles x) {
    Power a = natural_power(x);
    Doubles s = from_bits<double>(((a.n & ~int64_t(15)) << 48) + (int64_t(1023) << 52));
    Doubles high = look_up(power_high, a.n & 15) * s;
    Doubles low = look_up(power_low, a.n & 15) * s;
    return (high - 1.0) + fma(high, a.p, low);
}

// tanh of x >= 0
DK_INLINE Doubles rounded_tanh(Doubles x) {
    Doubles e = rounded_expm1(x + x);
    return e / (e + 2.0);
}

// log(x) to a base, x > 0: x = 2^e m, r = m / c - 1; e log 2 + log c + r / ln b + r^2 tail(r).
struct Base {
    const double *high, *low;
    double two_high, two_low, one_high, one_low;
};
constexpr Base natural = {ln_high, ln_low, 0x1.62e42fefa3800p-1, 0x1.ef35793c76730p-45, 1.0, 0.0};
constexpr Base binary = {log2_high, log2_low, 1.0, 0.0, 0x1.71547652b82fep+0, 0x1.777d0ffda0d24p-56};
constexpr Base decimal = {log10_high, log10_low, 0x1.34413509f8000p-2, -0x1.80433b83b532ap-44, 0x1.bcb7b1526e50ep-2,
                          0x1.95355baaafad3p-57};

struct Reduced {
    Doubles e, r;
    Integers index;
};
DK_INLINE Reduced reduce_log(Doubles x) {
    constexpr int64_t first = 0x3fe6600000000000;
    Integers bits = to_bits<double>(x) - first;
    Integers e = bits >> 52;
    Integers index = (bits >> 48) & 15;
    Doubles m = from_bits<double>(to_bits<double>(x) - (bits & (int64_t(0xfff) << 52)));
    Doubles number = from_bits<double>(e + to_bits<double>(set(exponent<double>::magic))) - exponent<double>::magic;
    return {number, fma(m, look_up(inverse, index), set(-1.0)), index};
}
template <int n> DK_INLINE Doubles finish_rounded_log(const Base &b, const double (&tail)[n], Reduced a) {
    Doubles high = fma(a.e, set(b.two_high), look_up(b.high, a.index));
    Doubles low = fma(a.e, set(b.two_low), look_up(b.low, a.index));
    Doubles r = a.r;
    if (b.one_low != 0.0) {
        r = a.r * b.one_high;
        low = low + fma(a.r, set(b.one_low), fma(a.r, set(b.one_high), -r));
    }
    Doubles sum = high + r;
    Doubles rest = (high - sum) + r;
    return sum + fma(a.r * a.r, polynomial(tail, a.r), rest + low);
}
DK_INLINE Doubles rounded_log(Doubles x) { return finish_rounded_log(natural, log_tail, reduce_log(x)); }
DK_INLINE Doubles rounded_log2(Doubles x) { return finish_rounded_log(binary, log2_tail, reduce_log(x)); }
DK_INLINE Doubles rounded_log10(Doubles x) { return finish_rounded_log(decimal, log10_tail, reduce_log(x)); }
DK_INLINE Doubles rounded_log1p(Doubles x) {
    Reduced a = reduce_log(1.0 + x);
    Integers near = (a.index == 9) & (a.e == 0.0);  // 1 + x lost bits, and is reduced by c = 1
    a.r = near ? x : a.r;
    return finish_rounded_log(natural, log_tail, a);
}

// x = q pi/2 + g + rest, |g| <= pi/4
struct Angle {
    Doubles g, rest;
    Integers q;
};
DK_INLINE Angle reduce_angle(Doubles x) {  // |x| < 2^26: x - n P1 is exact
    Doubles t = fma(x, set(0x1.45f306dc9c883p-1), set(exponent<double>::magic));
    Doubles n = t - exponent<double>::magic;
    Doubles f = fma(n, set(-0x1.921fb54442d18p+0), x);
    Doubles g = fma(n, set(-0x1.1a62633145c07p-54), f);
    return {g, fma(n, set(-0x1.1a62633145c07p-54), f - g), to_bits<double>(t)};
}

// A number of 128 bits as the nearest binary64, in steps that every compiler has: the first 63 bits, the last of them set
// where a bit below is, are rounded by the conversion to nearest. rest is what that leaves.
struct Nearest {
    double number;
    __int128 rest;
};
DK_INLINE Nearest nearest(__int128 x) {
    unsigned __int128 size = x < 0 ? -(unsigned __int128)x : (unsigned __int128)x;
    int below = 0;
    for (int w = 32; w; w /= 2)
        if (size >> (below + w - 1) >> 63) below += w;
    uint64_t first = uint64_t(size >> below);
    bool more = (unsigned __int128)first << below != size;
    double number = double(int64_t(first | uint64_t(more)));
    __int128 rest = __int128(size - ((unsigned __int128)uint64_t(number) << below));
    number *= from_bits<double>(set<int64_t>(int64_t(1023 + below) << 52))[0];
    return x < 0 ? Nearest{-number, -rest} : Nearest{number, rest};
}

// The same for one number of any size, 2^25 <= |x| < inf: with 128 bits of 2 / pi where x needs them.
inline void reduce_large_angle(float x, double *g, double *rest, int64_t *q) {
    int32_t bits;
    std::memcpy(&bits, &x, sizeof bits);
    const int offset = ((bits >> 23) & 255) - 150 - 2;
    const int word = offset / 64, shift = offset % 64;
    const unsigned long long *w = two_over_pi + word;
    const uint64_t upper = shift ? (w[0] << shift) | (w[1] >> (64 - shift)) : w[0];
    const uint64_t lower = shift ? (w[1] << shift) | (w[2] >> (64 - shift)) : w[1];
    unsigned __int128 product = ((unsigned __int128)upper << 64 | lower) * uint64_t((bits & 0x7fffff) | 0x800000);
    int64_t quarter = int64_t((product + ((unsigned __int128)1 << 125)) >> 126);
    Nearest fraction = nearest(__int128(product - ((unsigned __int128)quarter << 126)));
    double high = fraction.number, low = nearest(fraction.rest).number;
    high *= 0x1p-126, low *= 0x1p-126;
    double f = high * 0x1.921fb54442d18p+0;
    double error = fma(high, 0x1.921fb54442d18p+0, -f) + (high * 0x1.1a62633145c07p-54 + low * 0x1.921fb54442d18p+0);
    *g = f + error, *rest = error - (*g - f), *q = quarter;
    if (bits < 0) *g = -*g, *rest = -*rest, *q = -quarter;
}

// sin(x + quarter pi / 2)
DK_INLINE Doubles finish_sine(Angle a, int64_t quarter) {
    Doubles z = a.g * a.g;
    Doubles sine = a.g + fma(a.g * z, polynomial(sin_tail, z), a.rest * fma(z, set(-0.5), set(1.0)));
    Doubles w = fma(z, set(-0.5), set(1.0));
    Doubles lost = fma(z, set(-0.5), 1.0 - w);
    Doubles square_error = fma(a.g, a.g, -z);
    Doubles cosine = w + fma(z * z, polynomial(cos_tail, z), lost - fma(a.g, a.rest, 0.5 * square_error));
    Integers q = a.q + quarter;
    Integers odd = (q & 1) != 0;
    Doubles y = odd ? cosine : sine;
    return from_bits<double>(to_bits<double>(y) ^ ((q & 2) << 62));
}

}  // namespace
}  // namespace dk
