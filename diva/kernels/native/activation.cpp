// Activations: DK_RELU .. of elementwise.h.
#include "activation_parts.h"
#include "diva_kernels.h"
#include "elementwise_loop.h"

namespace dk {
namespace {

template <class T> DK_INLINE vec<T> softplus(vec<T> x, vec<T> beta, vec<T> threshold) {
    vec<T> t = x * beta;
    vec<T> positive = t > T(0) ? t : vec<T>{};
    vec<T> y = (positive + fixed_log1p_unit(fixed_exp(-size_of<T>(t)))) / beta;
    return t > threshold ? x : t != t ? t : y;
}

template <class T> DK_INLINE vec<T> log_sigmoid(vec<T> x) {
    vec<T> negative = x < T(0) ? x : vec<T>{};
    vec<T> y = negative - fixed_log1p_unit(fixed_exp(-size_of<T>(x)));
    return x == x ? y : x;
}

template <class T> DK_INLINE vec<T> hold(vec<T> x, vec<T> low, vec<T> high) {
    x = x < low ? low : x;
    return x > high ? high : x;
}

FUNCTION(Relu, (x < T(0) ? vec<T>{} : x))
FUNCTION(Threshold, x <= p ? q : x)
FUNCTION(Sigmoid, fixed_sigmoid<T>(x))
FUNCTION(Silu, x * fixed_sigmoid<T>(x))
FUNCTION(GeluTanh, x * fixed_sigmoid<T>(gelu_inner<T>(x)))
FUNCTION(Softplus, softplus<T>(x, p, q))
FUNCTION(Mish, x * mish_factor<T>(x))
FUNCTION(Elu, x > T(0) ? x * q : (p * q) * fixed_expm1(x * r))
FUNCTION(LogSigmoid, log_sigmoid<T>(x))
FUNCTION(Hardtanh, hold<T>(x, p, q))
FUNCTION(Hardswish, (x * hold<T>(x + T(3), vec<T>{}, set(T(6)))) / T(6))
FUNCTION(Hardsigmoid, hold<T>(x + T(3), vec<T>{}, set(T(6))) / T(6))
FUNCTION(LeakyRelu, x > T(0) ? x : x * p)
FUNCTION(Prelu, x > T(0) ? x : y * x)
FUNCTION(Hardshrink, ((x >= -p) & (x <= p) ? vec<T>{} : x))
FUNCTION(Softshrink, x > p ? x - p : x < -p ? x + p : x * T(0))
FUNCTION(Glu, x * fixed_sigmoid<T>(y))

struct Gelu {
    static DK_INLINE vec<float> of(const Given<float> &g) {
        vec<float> h = g.x * 0.5f;
        return fma(h, fixed_erf(g.x * 0x1.6a09e6p-1f), h);
    }
};

}  // namespace

template <class T> Entry<T> activation_entry(int f) {
    switch (f) {
        case DK_RELU: return {loop<Relu, 1, T>, cheap};
        case DK_THRESHOLD: return {loop<Threshold, 1, T>, cheap};
        case DK_SIGMOID: return {loop<Sigmoid, 1, T>, costly};
        case DK_SILU: return {loop<Silu, 1, T>, costly};
        case DK_GELU:
            if constexpr (sizeof(T) == 4) return {loop<Gelu, 1, T>, costly};
            return {};
        case DK_GELU_TANH: return {loop<GeluTanh, 1, T>, costly};
        case DK_SOFTPLUS: return {loop<Softplus, 1, T>, costly};
        case DK_MISH: return {loop<Mish, 1, T>, costly};
        case DK_ELU: return {loop<Elu, 1, T>, costly};
        case DK_LOG_SIGMOID: return {loop<LogSigmoid, 1, T>, costly};
        case DK_HARDTANH: return {loop<Hardtanh, 1, T>, cheap};
        case DK_HARDSWISH: return {loop<Hardswish, 1, T>, cheap};
        case DK_HARDSIGMOID: return {loop<Hardsigmoid, 1, T>, cheap};
        case DK_LEAKY_RELU: return {loop<LeakyRelu, 1, T>, cheap};
        case DK_PRELU: return {loop<Prelu, 2, T>, cheap};
        case DK_HARDSHRINK: return {loop<Hardshrink, 1, T>, cheap};
        case DK_SOFTSHRINK: return {loop<Softshrink, 1, T>, cheap};
        case DK_GLU: return {loop<Glu, 2, T>, costly};
        default: return {};
    }
}
template Entry<float> activation_entry<float>(int);
template Entry<double> activation_entry<double>(int);

}  // namespace dk
