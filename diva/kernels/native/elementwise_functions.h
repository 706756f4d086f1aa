// The formulas of the transcendental functions: DK_EXP .. DK_LOGIT_BACKWARD of elementwise.h. For the CPU and the GPU.
#pragma once

#include "elementwise.h"
#include "elementwise_formula.h"
#include "functions_fixed.h"
#include "functions_rounded.h"

namespace dk {
namespace functions {

constexpr float infinity = __builtin_inff();

// f in binary64 for both halves, rounded to float32.
template <Doubles (*f)(Doubles)> DK_INLINE vec<float> through_doubles(vec<float> x) {
    halves h = widen_halves(x);
    return narrow_halves({f(h.low), f(h.high)});
}

DK_INLINE vec<float> hold(vec<float> x, float low, float high) {  // NaN passes
    return lesser_of(set(high), greater_of(set(low), x));
}

DK_INLINE bool any(mask<float> m) {
#if defined(DK_AVX512)
    return _mm512_movepi32_mask((__m512i)m) != 0;
#elif defined(DK_AVX2)
    return _mm256_movemask_ps((__m256)m) != 0;
#else
    int32_t found = 0;
    for (int i = 0; i < lanes<float>; i++) found |= m[i];
    return found != 0;
#endif
}

#define FUNCTION_OF_FLOAT(name, formula)                              \
    struct name {                                                     \
        static DK_INLINE vec<float> of(const Given<float> &g) {       \
            const vec<float> x = g.x, y = g.y, p = g.p;               \
            (void)x, (void)y, (void)p;                                \
            return formula;                                           \
        }                                                             \
    };

// log2 of a number without sign, for pow: also of 0 and infinity.
DK_INLINE Doubles power_log(Doubles x) {
    Doubles r = rounded_log2(x);
    r = x < double(infinity) ? r : x;
    return x > 0.0 ? r : set(-double(infinity));
}
DK_INLINE Doubles hold_exponent(Doubles t) {
    t = t < -200.0 ? set(-200.0) : t;
    return t > 200.0 ? set(200.0) : t;
}

struct Exp {
    static DK_INLINE vec<float> of(const Given<float> &g) { return through_doubles<rounded_exp>(hold(g.x, -110.0f, 90.0f)); }
    static DK_INLINE vec<double> of(const Given<double> &g) { return fixed_exp(g.x); }
};
struct Exp2 {
    static DK_INLINE vec<float> of(const Given<float> &g) { return through_doubles<rounded_exp2>(hold(g.x, -160.0f, 130.0f)); }
};
struct Expm1 {
    static DK_INLINE vec<float> of(const Given<float> &g) {
        return g.x == 0.0f ? g.x : through_doubles<rounded_expm1>(hold(g.x, -110.0f, 90.0f));
    }
    static DK_INLINE vec<double> of(const Given<double> &g) { return fixed_expm1(g.x); }
};
struct Log {
    static DK_INLINE vec<float> of(const Given<float> &g) { return finish_log<float>(g.x, through_doubles<rounded_log>(g.x)); }
    static DK_INLINE vec<double> of(const Given<double> &g) { return fixed_log(g.x); }
};
struct Log2 {
    static DK_INLINE vec<float> of(const Given<float> &g) { return finish_log<float>(g.x, through_doubles<rounded_log2>(g.x)); }
    static DK_INLINE vec<double> of(const Given<double> &g) { return fixed_log(g.x) * 0x1.71547652b82fep+0; }
};
struct Log10 {
    static DK_INLINE vec<float> of(const Given<float> &g) { return finish_log<float>(g.x, through_doubles<rounded_log10>(g.x)); }
    static DK_INLINE vec<double> of(const Given<double> &g) { return fixed_log(g.x) * 0x1.bcb7b1526e50ep-2; }
};
struct Log1p {
    static DK_INLINE vec<float> of(const Given<float> &g) {
        vec<float> y = finish_log<float>(g.x + 1.0f, through_doubles<rounded_log1p>(g.x));
        y = g.x > -1.0f && g.x < infinity ? through_doubles<rounded_log1p>(g.x) : y;
        return g.x == 0.0f ? g.x : y;
    }
    static DK_INLINE vec<double> of(const Given<double> &g) { return fixed_log1p(g.x); }
};
struct Tanh {
    static DK_INLINE vec<float> of(const Given<float> &g) {
        mask<float> sign = to_bits<float>(g.x) & to_bits<float>(set(-0.0f));
        vec<float> size = from_bits<float>(to_bits<float>(g.x) ^ sign);
        size = size > 10.0f ? set(10.0f) : size;
        return from_bits<float>(to_bits<float>(through_doubles<rounded_tanh>(size)) | sign);
    }
    static DK_INLINE vec<double> of(const Given<double> &g) { return fixed_tanh(g.x); }
};

// sin(x + quarter pi / 2). Large numbers are reduced one by one, and take the place of what the short way made of them.
template <int quarter> DK_INLINE vec<float> sine(vec<float> x) {
    mask<float> sign = to_bits<float>(x) & to_bits<float>(set(-0.0f));
    vec<float> size = from_bits<float>(to_bits<float>(x) ^ sign);
    mask<float> large = (size >= 0x1p26f) & (size < infinity);
    halves h = widen_halves(x);
    Angle low = reduce_angle(h.low), high = reduce_angle(h.high);
    if (__builtin_expect(any(large), 0)) {
        constexpr int half = lanes<double>;
        float numbers[lanes<float>];
        double g[2 * half], rest[2 * half];
        int64_t q[2 * half];
        store(numbers, x), store(g, low.g), store(g + half, high.g), store(rest, low.rest), store(rest + half, high.rest);
        store(q, low.q), store(q + half, high.q);
        for (int i = 0; i < lanes<float>; i++)
            if (large[i]) reduce_large_angle(numbers[i], g + i, rest + i, q + i);
        low = {load(g), load(rest), load(q)}, high = {load(g + half), load(rest + half), load(q + half)};
    }
    vec<float> y = narrow_halves({finish_sine(low, quarter), finish_sine(high, quarter)});
    y = size < infinity ? y : x - x;
    return quarter == 0 ? (x == 0.0f ? x : y) : y;
}
struct Sin {
    static DK_INLINE vec<float> of(const Given<float> &g) { return sine<0>(g.x); }
};
struct Cos {
    static DK_INLINE vec<float> of(const Given<float> &g) { return sine<1>(g.x); }
};
struct Erf {
    static DK_INLINE vec<float> of(const Given<float> &g) { return fixed_erf(g.x); }
};

// x^y. |x| = 2^L: t = y L, 2^t, in binary64; |x| = 1: 1; the sign of x where y is an odd integer, NaN where y is none.
DK_INLINE vec<float> power(vec<float> x, vec<float> y) {
    vec<float> size = size_of<float>(x), exponent_size = size_of<float>(y);
    halves s = widen_halves(size), t = widen_halves(y);
    s.low = t.low * power_log(s.low), s.high = t.high * power_log(s.high);
    halves held = {hold_exponent(s.low), hold_exponent(s.high)};
    vec<float> r = narrow_halves({rounded_exp2(held.low), rounded_exp2(held.high)});
    mask<float> integer = truncated<float>(y) == y;
    mask<float> odd = integer & (exponent_size < 0x1p24f) & (truncated<float>(y * 0.5f) != y * 0.5f);
    r = size == 1.0f ? set(1.0f) : r;
    r = (x < 0.0f) & (integer == 0) & (size < infinity) ? (x - x) / (x - x) : r;
    r = odd ? with_sign<float>(r, x) : r;
    r = (x != x) | (y != y) ? x + y : r;
    return (y == 0.0f) | (x == 1.0f) ? set(1.0f) : r;
}
FUNCTION_OF_FLOAT(Pow, power(x, y))
FUNCTION_OF_FLOAT(PowScalar, power(x, p))
FUNCTION_OF_FLOAT(ScalarPow, power(p, x))

template <class T> DK_INLINE vec<T> logaddexp(vec<T> x, vec<T> y) {
    vec<T> m = x < y ? y : x;
    vec<T> r = m + fixed_log1p_unit(exp_of_minus_size<T>(x - y));
    r = (x == y) & (size_of<T>(x) == T(infinity)) ? x : r;
    return (x != x) | (y != y) ? x + y : r;
}
template <class T> DK_INLINE vec<T> xlogy(vec<T> x, vec<T> y) {
    vec<T> r = x * fixed_log(y);
    return y != y ? y : x == T(0) ? vec<T>{} : r;
}
template <class T> DK_INLINE vec<T> logit(vec<T> x, vec<T> eps) {
    vec<T> low = eps >= T(0) ? eps : x, high = eps >= T(0) ? T(1) - eps : x;
    x = x < low ? low : x;
    x = x > high ? high : x;
    return fixed_log(x / (T(1) - x));
}
template <class T> DK_INLINE vec<T> logit_backward(vec<T> x, vec<T> g, vec<T> eps) {
    vec<T> low = eps >= T(0) ? eps : vec<T>{}, high = T(1) - low;
    vec<T> outside = eps >= T(0) ? vec<T>{} : (x - x) / (x - x);
    return (x < low) | (x > high) ? outside : g / (x * (T(1) - x));
}
FUNCTION(Logaddexp, logaddexp<T>(x, y))
FUNCTION(Xlogy, xlogy<T>(x, y))
FUNCTION(XlogyScalar, xlogy<T>(x, p))
FUNCTION(ScalarXlogy, xlogy<T>(p, x))
FUNCTION(Logit, logit<T>(x, p))
FUNCTION(LogitBackward, logit_backward<T>(x, y, p))

#if !defined(__CUDACC_RTC__)
template <class Use> typename Use::Entry entry(int f) {
    switch (f) {
        PROGRAM(DK_EXP, Exp, 1);
        PROGRAM_OF_FLOAT(DK_EXP2, Exp2, 1);
        PROGRAM(DK_EXPM1, Expm1, 1);
        PROGRAM(DK_LOG, Log, 1);
        PROGRAM(DK_LOG2, Log2, 1);
        PROGRAM(DK_LOG10, Log10, 1);
        PROGRAM(DK_LOG1P, Log1p, 1);
        PROGRAM(DK_TANH, Tanh, 1);
        PROGRAM_OF_FLOAT(DK_SIN, Sin, 1);
        PROGRAM_OF_FLOAT(DK_COS, Cos, 1);
        PROGRAM_OF_FLOAT(DK_ERF, Erf, 1);
        PROGRAM_OF_FLOAT(DK_POW, Pow, 2);
        PROGRAM_OF_FLOAT(DK_POW_SCALAR, PowScalar, 1);
        PROGRAM_OF_FLOAT(DK_SCALAR_POW, ScalarPow, 1);
        PROGRAM(DK_LOGADDEXP, Logaddexp, 2);
        PROGRAM(DK_XLOGY, Xlogy, 2);
        PROGRAM(DK_XLOGY_SCALAR, XlogyScalar, 1);
        PROGRAM(DK_SCALAR_XLOGY, ScalarXlogy, 1);
        PROGRAM(DK_LOGIT, Logit, 1);
        PROGRAM(DK_LOGIT_BACKWARD, LogitBackward, 2);
        default: return {};
    }
}
#endif

}  // namespace functions
}  // namespace dk
