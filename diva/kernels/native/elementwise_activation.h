// The formulas of activations, DK_RELU .. of elementwise.h, and of their backward functions, DK_THRESHOLD_BACKWARD .., where
// y is the gradient. For the CPU and the GPU.
#pragma once

#include "activation_parts.h"
#include "elementwise.h"
#include "elementwise_formula.h"

namespace dk {
namespace activation {

template <class T> DK_INLINE vec<T> softplus(vec<T> x, vec<T> beta, vec<T> threshold) {
    vec<T> t = x * beta;
    vec<T> positive = t <= T(0) ? vec<T>{} : t;
    vec<T> y = (positive + fixed_log1p_unit(exp_of_minus_size<T>(t))) / beta;
    return t > threshold ? x : t != t ? t : y;
}

template <class T> DK_INLINE vec<T> log_sigmoid(vec<T> x) {
    vec<T> negative = x >= T(0) ? vec<T>{} : x;
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

#if !defined(__CUDACC_RTC__)
template <class Use> typename Use::Entry entry(int f) {
    switch (f) {
        SIMPLE(DK_RELU, Relu, 1);
        SIMPLE(DK_THRESHOLD, Threshold, 1);
        PROGRAM(DK_SIGMOID, Sigmoid, 1);
        PROGRAM(DK_SILU, Silu, 1);
        PROGRAM_OF_FLOAT(DK_GELU, Gelu, 1);
        PROGRAM(DK_GELU_TANH, GeluTanh, 1);
        PROGRAM(DK_SOFTPLUS, Softplus, 1);
        PROGRAM(DK_MISH, Mish, 1);
        PROGRAM(DK_ELU, Elu, 1);
        PROGRAM(DK_LOG_SIGMOID, LogSigmoid, 1);
        SIMPLE(DK_HARDTANH, Hardtanh, 1);
        SIMPLE(DK_HARDSWISH, Hardswish, 1);
        SIMPLE(DK_HARDSIGMOID, Hardsigmoid, 1);
        SIMPLE(DK_LEAKY_RELU, LeakyRelu, 1);
        SIMPLE(DK_PRELU, Prelu, 2);
        SIMPLE(DK_HARDSHRINK, Hardshrink, 1);
        SIMPLE(DK_SOFTSHRINK, Softshrink, 1);
        PROGRAM(DK_GLU, Glu, 2);
        default: return {};
    }
}
#endif

}  // namespace activation

namespace activation_backward {

template <class T> DK_INLINE vec<T> silu_backward(vec<T> x, vec<T> g) {
    vec<T> s = fixed_sigmoid<T>(x);
    return (g * s) * fma(x, T(1) - s, set(T(1)));
}

template <class T> DK_INLINE vec<T> gelu_tanh_backward(vec<T> x, vec<T> g) {
    vec<T> s = fixed_sigmoid<T>(gelu_inner<T>(x));
    vec<T> j = T(0x1.9884533d43651p-1) * fma(set(T(0.134145)), x * x, set(T(1)));
    return g * fma(((x + x) * s) * (T(1) - s), j, s);
}

template <class T> DK_INLINE vec<T> mish_backward(vec<T> x, vec<T> g) {
    vec<T> s = fixed_sigmoid<T>(x), t = mish_factor<T>(x);
    return g * fma(x * s, fma(-t, t, set(T(1))), t);
}

template <class T> DK_INLINE vec<T> gate_backward(vec<T> x, vec<T> g, vec<T> gate) {
    vec<T> s = fixed_sigmoid<T>(gate);
    return (g * x) * ((T(1) - s) * s);
}

FUNCTION(ThresholdBackward, (x <= p ? vec<T>{} : y))
FUNCTION(SigmoidBackward, y *((T(1) - x) * x))
FUNCTION(TanhBackward, y *fma(-x, x, set(T(1))))
FUNCTION(SiluBackward, silu_backward<T>(x, y))
FUNCTION(GeluTanhBackward, gelu_tanh_backward<T>(x, y))
FUNCTION(SoftplusBackward, x *p > q ? y : y * fixed_sigmoid<T>(x * p))
FUNCTION(MishBackward, mish_backward<T>(x, y))
FUNCTION(EluBackward, x <= T(0) ? (y * r) * ((p * q) * fixed_exp(x * r)) : y * q)
FUNCTION(EluBackwardResult, x <= T(0) ? (y * r) * (x + p * q) : y * q)
FUNCTION(LogSigmoidBackward, y *fixed_sigmoid<T>(-x))
FUNCTION(HardtanhBackward, ((x <= p) | (x >= q) ? vec<T>{} : y))
FUNCTION(HardswishBackward, (x <= T(-3) ? vec<T>{} : x < T(3) ? y * (x / T(3) + T(0.5)) : y))
FUNCTION(HardsigmoidBackward, ((x > T(-3)) & (x < T(3)) ? y * T(1.0 / 6.0) : vec<T>{}))
FUNCTION(LeakyReluBackward, x > T(0) ? y : y * p)
FUNCTION(PreluBackward, x > T(0) ? y : z * y)
FUNCTION(PreluBackwardWeight, (x > T(0) ? vec<T>{} : x * y))
FUNCTION(HardshrinkBackward, ((x >= -p) & (x <= p) ? vec<T>{} : y))
FUNCTION(GluBackwardGate, gate_backward<T>(x, y, z))

struct GeluBackward {
    static DK_INLINE vec<float> of(const Given<float> &g) {
        vec<float> c = fma(fixed_erf(g.x * 0x1.6a09e6p-1f), set(0.5f), set(0.5f));
        vec<float> d = fixed_exp(-0.5f * (g.x * g.x)) * 0x1.988454p-2f;
        vec<float> bell = g.x * d;
        return g.y * (c + bell);
    }
};

#if !defined(__CUDACC_RTC__)
template <class Use> typename Use::Entry entry(int f) {
    switch (f) {
        SIMPLE(DK_THRESHOLD_BACKWARD, ThresholdBackward, 2);
        SIMPLE(DK_SIGMOID_BACKWARD, SigmoidBackward, 2);
        SIMPLE(DK_TANH_BACKWARD, TanhBackward, 2);
        PROGRAM(DK_SILU_BACKWARD, SiluBackward, 2);
        PROGRAM_OF_FLOAT(DK_GELU_BACKWARD, GeluBackward, 2);
        PROGRAM(DK_GELU_TANH_BACKWARD, GeluTanhBackward, 2);
        PROGRAM(DK_SOFTPLUS_BACKWARD, SoftplusBackward, 2);
        PROGRAM(DK_MISH_BACKWARD, MishBackward, 2);
        PROGRAM(DK_ELU_BACKWARD, EluBackward, 2);
        SIMPLE(DK_ELU_BACKWARD_RESULT, EluBackwardResult, 2);
        PROGRAM(DK_LOG_SIGMOID_BACKWARD, LogSigmoidBackward, 2);
        SIMPLE(DK_HARDTANH_BACKWARD, HardtanhBackward, 2);
        SIMPLE(DK_HARDSWISH_BACKWARD, HardswishBackward, 2);
        SIMPLE(DK_HARDSIGMOID_BACKWARD, HardsigmoidBackward, 2);
        SIMPLE(DK_LEAKY_RELU_BACKWARD, LeakyReluBackward, 2);
        SIMPLE(DK_PRELU_BACKWARD, PreluBackward, 3);
        SIMPLE(DK_PRELU_BACKWARD_WEIGHT, PreluBackwardWeight, 2);
        SIMPLE(DK_HARDSHRINK_BACKWARD, HardshrinkBackward, 2);
        PROGRAM(DK_GLU_BACKWARD_GATE, GluBackwardGate, 3);
        default: return {};
    }
}
#endif

}  // namespace activation_backward
}  // namespace dk
