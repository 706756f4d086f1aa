// Activations: DK_RELU .. of elementwise.h.
#include "activation_parts.h"
#include "diva_kernels.h"
#include "elementwise_loop.h"

namespace dk {
namespace {

template <class T> DK_INLINE vec<T> softplus(vec<T> x, vec<T> beta, vec<T> threshold) {
    vec<T> t = x * beta;
    vec<T> positive = t > T(0) ? t : vec<T>{};
    vec<T> y = (positive + fixed_log1p_unit(exp_of_minus_size<T>(t))) / beta;
    return t > threshold ? x : t != t ? t : y;
}

template <class T> DK_INLINE vec<T> log_sigmoid(vec<T> x) {
    vec<T> negative = x < T(0) ? x : vec<T>{};
    vec<T> y = negative - fixed_log1p_unit(exp_of_minus_size<T>(x));
    return x == x ? y : x;
}

template <class T> DK_INLINE vec<T> hold(vec<T> x, vec<T> low, vec<T> high) {
    return lesser_of(high, greater_of(low, x));
}

FUNCTION(Relu, greater_of(vec<T>{}, x))
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
        case DK_RELU: return simple<Relu, 1, T>();
        case DK_THRESHOLD: return simple<Threshold, 1, T>();
        case DK_SIGMOID: return program<Sigmoid, 1, T>();
        case DK_SILU: return program<Silu, 1, T>();
        case DK_GELU:
            if constexpr (sizeof(T) == 4) return program<Gelu, 1, T>();
            return {};
        case DK_GELU_TANH: return program<GeluTanh, 1, T>();
        case DK_SOFTPLUS: return program<Softplus, 1, T>();
        case DK_MISH: return program<Mish, 1, T>();
        case DK_ELU: return program<Elu, 1, T>();
        case DK_LOG_SIGMOID: return program<LogSigmoid, 1, T>();
        case DK_HARDTANH: return simple<Hardtanh, 1, T>();
        case DK_HARDSWISH: return simple<Hardswish, 1, T>();
        case DK_HARDSIGMOID: return simple<Hardsigmoid, 1, T>();
        case DK_LEAKY_RELU: return simple<LeakyRelu, 1, T>();
        case DK_PRELU: return simple<Prelu, 2, T>();
        case DK_HARDSHRINK: return simple<Hardshrink, 1, T>();
        case DK_SOFTSHRINK: return simple<Softshrink, 1, T>();
        case DK_GLU: return program<Glu, 2, T>();
        default: return {};
    }
}
template Entry<float> activation_entry<float>(int);
template Entry<double> activation_entry<double>(int);

}  // namespace dk
