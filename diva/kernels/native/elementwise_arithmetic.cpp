// Arithmetic of operands and numbers: DK_ADD .. DK_HYPOT of elementwise.h, each formula in a line.
#include <cmath>

#include "diva_kernels.h"
#include "elementwise_loop.h"
#include "functions_fixed.h"

namespace dk {
namespace {

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

// fmod is exact by the C standard, so that a library's may be used.
template <class T> T modulo(T a, T b) { return std::fmod(a, b); }

template <class T> T remainder(T a, T b) {
    T m = modulo(a, b);
    return m != 0 && (b < 0) != (m < 0) ? m + b : m;
}

// The integer below a / b, from the exact remainder, so that a / b rounding up to an integer does no harm.
template <class T> T floor_divide(T a, T b) {
    if (b == 0) return a / b;
    T m = modulo(a, b);
    T d = (a - m) / b;
    if (m != 0 && (b < 0) != (m < 0)) d -= T(1);
    if (d == 0) return std::copysign(T(0), a / b);
    T below = std::floor(d);
    return d - below > T(0.5) ? below + T(1) : below;
}

template <class T, T (*f)(T, T)> void one_by_one(int64_t n, T *out, const T *x, const T *y, const T *, const T *) {
    for (int64_t i = 0; i < n; i++) out[i] = f(x[i], y[i]);
}

}  // namespace

template <class T> Entry<T> arithmetic_entry(int f) {
    switch (f) {
        case DK_ADD: return simple<Add, 2, T>();
        case DK_ADD_SCALAR: return simple<AddScalar, 1, T>();
        case DK_ADD_SCALED: return simple<AddScaled, 2, T>();
        case DK_ADD_SCALED_SCALAR: return simple<AddScaledScalar, 1, T>();
        case DK_SUB: return simple<Sub, 2, T>();
        case DK_RSUB_SCALAR: return simple<RsubScalar, 1, T>();
        case DK_RSUB_SCALED: return simple<RsubScaled, 1, T>();
        case DK_MUL: return simple<Mul, 2, T>();
        case DK_MUL_SCALAR: return simple<MulScalar, 1, T>();
        case DK_DIV: return simple<Div, 2, T>();
        case DK_DIV_SCALAR: return simple<DivScalar, 1, T>();
        case DK_RDIV_SCALAR: return simple<RdivScalar, 1, T>();
        case DK_SQRT: return simple<Sqrt, 1, T>();
        case DK_RSQRT: return simple<Rsqrt, 1, T>();
        case DK_ADDCMUL: return simple<Addcmul, 3, T>();
        case DK_ADDCDIV: return simple<Addcdiv, 3, T>();
        case DK_LERP: return simple<Lerp, 3, T>();
        case DK_LERP_SCALAR: return simple<LerpScalar, 2, T>();
        case DK_MAXIMUM: return simple<Maximum, 2, T>();
        case DK_MINIMUM: return simple<Minimum, 2, T>();
        case DK_SQUARE: return simple<Square, 1, T>();
        case DK_CUBE: return simple<Cube, 1, T>();
        case DK_DIV_TRUNC: return simple<DivTrunc, 2, T>();
        case DK_HYPOT: return simple<Hypot, 2, T>();
        case DK_FMAX: return simple<Fmax, 2, T>();
        case DK_FMIN: return simple<Fmin, 2, T>();
        case DK_CLAMP_MIN: return simple<ClampMin, 1, T>();
        case DK_CLAMP_MAX: return simple<ClampMax, 1, T>();
        case DK_CLAMP: return simple<Clamp, 1, T>();
        case DK_CLAMP_MIN_TENSOR: return simple<ClampMinTensor, 2, T>();
        case DK_CLAMP_MAX_TENSOR: return simple<ClampMaxTensor, 2, T>();
        case DK_CLAMP_TENSOR: return simple<ClampTensor, 3, T>();
        case DK_DIV_FLOOR: return {one_by_one<T, floor_divide<T>>, costly};
        case DK_FMOD: return {one_by_one<T, modulo<T>>, costly};
        case DK_REMAINDER: return {one_by_one<T, remainder<T>>, costly};
        default: return {};
    }
}
template Entry<float> arithmetic_entry<float>(int);
template Entry<double> arithmetic_entry<double>(int);

}  // namespace dk
