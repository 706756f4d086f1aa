// Backward functions of the activations: DK_THRESHOLD_BACKWARD .. of elementwise.h; y is the gradient.
#include "activation_parts.h"
#include "diva_kernels.h"
#include "elementwise_loop.h"

namespace dk {
namespace {

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

}  // namespace

template <class T> Entry<T> backward_entry(int f) {
    switch (f) {
        case DK_THRESHOLD_BACKWARD: return simple<ThresholdBackward, 2, T>();
        case DK_SIGMOID_BACKWARD: return simple<SigmoidBackward, 2, T>();
        case DK_TANH_BACKWARD: return simple<TanhBackward, 2, T>();
        case DK_SILU_BACKWARD: return program<SiluBackward, 2, T>();
        case DK_GELU_BACKWARD:
            if constexpr (sizeof(T) == 4) return program<GeluBackward, 2, T>();
            return {};
        case DK_GELU_TANH_BACKWARD: return program<GeluTanhBackward, 2, T>();
        case DK_SOFTPLUS_BACKWARD: return program<SoftplusBackward, 2, T>();
        case DK_MISH_BACKWARD: return program<MishBackward, 2, T>();
        case DK_ELU_BACKWARD: return program<EluBackward, 2, T>();
        case DK_ELU_BACKWARD_RESULT: return simple<EluBackwardResult, 2, T>();
        case DK_LOG_SIGMOID_BACKWARD: return program<LogSigmoidBackward, 2, T>();
        case DK_HARDTANH_BACKWARD: return simple<HardtanhBackward, 2, T>();
        case DK_HARDSWISH_BACKWARD: return simple<HardswishBackward, 2, T>();
        case DK_HARDSIGMOID_BACKWARD: return simple<HardsigmoidBackward, 2, T>();
        case DK_LEAKY_RELU_BACKWARD: return simple<LeakyReluBackward, 2, T>();
        case DK_PRELU_BACKWARD: return simple<PreluBackward, 3, T>();
        case DK_PRELU_BACKWARD_WEIGHT: return simple<PreluBackwardWeight, 2, T>();
        case DK_HARDSHRINK_BACKWARD: return simple<HardshrinkBackward, 2, T>();
        case DK_GLU_BACKWARD_GATE: return program<GluBackwardGate, 3, T>();
        default: return {};
    }
}
template Entry<float> backward_entry<float>(int);
template Entry<double> backward_entry<double>(int);

}  // namespace dk
