// The formulas of arithmetic: DK_ADD .. DK_CLAMP_TENSOR of elementwise.h. For the CPU and the GPU.
#pragma once

#include <cmath>
#include <cstring>

#include "elementwise.h"
#include "elementwise_formula.h"
#include "functions_fixed.h"

namespace dk {
namespace arithmetic {

// x + w (y - x) in the form that is exact at w = 0 and at w = 1.
template <class T> DK_INLINE vec<T> lerp(vec<T> x, vec<T> y, vec<T> w) {
    vec<T> d = y - x;
    mask<T> near = (w < T(0.5)) & (w > T(-0.5));
    return near ? fma(w, d, x) : fma(w - T(1), d, y);
}

template <class T> DK_INLINE vec<T> hypot(vec<T> x, vec<T> y) {
    constexpr T inf = T(__builtin_inf());
    vec<T> a = x < T(0) ? -x : x, b = y < T(0) ? -y : y;
    vec<T> h;
    if constexpr (sizeof(T) == 4) {
        halves s = widen_halves(a), t = widen_halves(b);
        s.low = sqrt(fma(s.low, s.low, t.low * t.low));
        s.high = sqrt(fma(s.high, s.high, t.high * t.high));
        h = narrow_halves(s);
    } else {
        vec<T> big = a > b ? a : b, small = a > b ? b : a;
        vec<T> c = small / big;
        h = big * sqrt(fma(c, c, set(T(1))));
        h = big > T(0) ? h : a + b;
    }
    return (a == inf) | (b == inf) ? set(inf) : h;
}

template <class T> DK_INLINE vec<T> clamp_min(vec<T> x, vec<T> p) { return p != p ? p : greater_of(p, x); }
template <class T> DK_INLINE vec<T> clamp_max(vec<T> x, vec<T> p) { return p != p ? p : lesser_of(p, x); }

FUNCTION(Add, x + y)
FUNCTION(AddScalar, x + p)
FUNCTION(AddScaled, fma(p, y, x))
FUNCTION(AddScaledScalar, fma(p, q, x))
FUNCTION(Sub, x - y)
FUNCTION(RsubScalar, p - x)
FUNCTION(RsubScaled, fma(-q, x, p))
FUNCTION(Mul, x * y)
FUNCTION(MulScalar, x * p)
FUNCTION(Div, x / y)
FUNCTION(DivScalar, x / p)
FUNCTION(RdivScalar, p / x)
FUNCTION(Sqrt, sqrt(x))
FUNCTION(Rsqrt, T(1) / sqrt(x))
FUNCTION(Addcmul, fma(p * y, z, x))
FUNCTION(Addcdiv, x + (p * y) / z)
FUNCTION(Lerp, lerp<T>(x, y, z))
FUNCTION(LerpScalar, lerp<T>(x, y, p))
FUNCTION(Maximum, x != x ? x : greater_of(x, y))
FUNCTION(Minimum, x != x ? x : lesser_of(x, y))
FUNCTION(Square, x *x)
FUNCTION(Cube, (x * x) * x)
FUNCTION(DivTrunc, truncated<T>(x / y))
FUNCTION(Hypot, hypot<T>(x, y))
FUNCTION(Fmax, (x > y) | (y != y) ? x : y)
FUNCTION(Fmin, (x < y) | (y != y) ? x : y)
FUNCTION(ClampMin, clamp_min<T>(x, p))
FUNCTION(ClampMax, clamp_max<T>(x, p))
FUNCTION(Clamp, clamp_max<T>(clamp_min<T>(x, p), q))
FUNCTION(ClampMinTensor, clamp_min<T>(x, y))
FUNCTION(ClampMaxTensor, clamp_max<T>(x, y))
FUNCTION(ClampTensor, clamp_max<T>(clamp_min<T>(x, y), z))

DK_INLINE float floor_of(float a) { return ::floorf(a); }
DK_INLINE double floor_of(double a) { return ::floor(a); }
DK_INLINE float zero_like(float a) { return ::copysignf(0.0f, a); }
DK_INLINE double zero_like(double a) { return ::copysign(0.0, a); }

template <class To, class From> DK_INLINE To same_bits(From x) {
    To y;
    std::memcpy(&y, &x, sizeof y);
    return y;
}

// fmod, exact: with |a| = m 2^i, |b| = n 2^j in integers, r = m 2^(i - j) mod n, as many powers of 2 at a time as fit into
// 64 bits; then r 2^j with the sign of a. CUDA's own goes through approximate reciprocals.
template <class T> DK_INLINE T modulo(T a, T b) {
    using E = exponent<T>;
    using Bits = bits_t<T>;
    constexpr Bits sign = Bits(1) << (8 * sizeof(T) - 1), infinite = Bits(2 * E::bias + 1) << E::shift;
    constexpr int room = 63 - E::shift;
    const Bits x = same_bits<Bits>(a) & ~sign, y = same_bits<Bits>(b) & ~sign;
    if (x >= infinite || y > infinite || y == 0) return (a * b) / (a * b);
    if (x < y) return a;
    constexpr Bits one = Bits(1) << E::shift;
    const int i = int(x >> E::shift), j = int(y >> E::shift);
    uint64_t r = uint64_t(i ? (x & (one - 1)) | one : x);
    const uint64_t n = uint64_t(j ? (y & (one - 1)) | one : y);
    int rest = (i ? i : 1) - (j ? j : 1);
    do {
        const int step = rest < room ? rest : room;
        r = (r << step) % n;
        rest -= step;
    } while (rest > 0);
    const int power = (j ? j : 1) - 1;  // of 2, in units of the smallest denormal number
    const Bits unit = power < E::shift ? Bits(1) << power : Bits(power - E::shift + 1) << E::shift;
    const T size = T(int64_t(r)) * same_bits<T>(unit);
    return same_bits<T>(Bits(same_bits<Bits>(size) | (same_bits<Bits>(a) & sign)));
}

template <class T> DK_INLINE T remainder_of(T a, T b) {
    T m = modulo(a, b);
    return m != 0 && (b < 0) != (m < 0) ? m + b : m;
}

// The integer below a / b, from the exact remainder, so that a / b rounding up to an integer does no harm.
template <class T> DK_INLINE T floor_divide(T a, T b) {
    if (b == 0) return a / b;
    T m = modulo(a, b);
    T d = (a - m) / b;
    if (m != 0 && (b < 0) != (m < 0)) d -= T(1);
    if (d == 0) return zero_like(a / b);
    T below = floor_of(d);
    return d - below > T(0.5) ? below + T(1) : below;
}

FUNCTION_OF_NUMBERS(DivFloor, floor_divide(x, y))
FUNCTION_OF_NUMBERS(Fmod, modulo(x, y))
FUNCTION_OF_NUMBERS(Remainder, remainder_of(x, y))

#if !defined(__CUDACC_RTC__)
template <class Use> typename Use::Entry entry(int f) {
    switch (f) {
        SIMPLE(DK_ADD, Add, 2);
        SIMPLE(DK_ADD_SCALAR, AddScalar, 1);
        SIMPLE(DK_ADD_SCALED, AddScaled, 2);
        SIMPLE(DK_ADD_SCALED_SCALAR, AddScaledScalar, 1);
        SIMPLE(DK_SUB, Sub, 2);
        SIMPLE(DK_RSUB_SCALAR, RsubScalar, 1);
        SIMPLE(DK_RSUB_SCALED, RsubScaled, 1);
        SIMPLE(DK_MUL, Mul, 2);
        SIMPLE(DK_MUL_SCALAR, MulScalar, 1);
        SIMPLE(DK_DIV, Div, 2);
        SIMPLE(DK_DIV_SCALAR, DivScalar, 1);
        SIMPLE(DK_RDIV_SCALAR, RdivScalar, 1);
        SIMPLE(DK_SQRT, Sqrt, 1);
        SIMPLE(DK_RSQRT, Rsqrt, 1);
        SIMPLE(DK_ADDCMUL, Addcmul, 3);
        SIMPLE(DK_ADDCDIV, Addcdiv, 3);
        SIMPLE(DK_LERP, Lerp, 3);
        SIMPLE(DK_LERP_SCALAR, LerpScalar, 2);
        SIMPLE(DK_MAXIMUM, Maximum, 2);
        SIMPLE(DK_MINIMUM, Minimum, 2);
        SIMPLE(DK_SQUARE, Square, 1);
        SIMPLE(DK_CUBE, Cube, 1);
        SIMPLE(DK_DIV_TRUNC, DivTrunc, 2);
        SIMPLE(DK_HYPOT, Hypot, 2);
        SIMPLE(DK_FMAX, Fmax, 2);
        SIMPLE(DK_FMIN, Fmin, 2);
        SIMPLE(DK_CLAMP_MIN, ClampMin, 1);
        SIMPLE(DK_CLAMP_MAX, ClampMax, 1);
        SIMPLE(DK_CLAMP, Clamp, 1);
        SIMPLE(DK_CLAMP_MIN_TENSOR, ClampMinTensor, 2);
        SIMPLE(DK_CLAMP_MAX_TENSOR, ClampMaxTensor, 2);
        SIMPLE(DK_CLAMP_TENSOR, ClampTensor, 3);
        ONE_BY_ONE(DK_DIV_FLOOR, DivFloor);
        ONE_BY_ONE(DK_FMOD, Fmod);
        ONE_BY_ONE(DK_REMAINDER, Remainder);
        default: return {};
    }
}
#endif

}  // namespace arithmetic
}  // namespace dk
