// What an activation and its backward function share. Not part of the C interface.
#pragma once

#include "functions_fixed.h"

namespace dk {

// 2 i, i = k * fma(0.044715 * (x * x), x, x), k = sqrt(2 / pi)
template <class T> DK_INLINE vec<T> gelu_inner(vec<T> x) {
    vec<T> i = T(0x1.9884533d43651p-1) * fma(T(0.044715) * (x * x), x, x);
    return i + i;
}

// tanh(log(1 + exp x)): e = EXP(-|x|), f = x < 0 ? e * (e + 2) : fma(2, e, 1), d = f + (x < 0 ? 2 : 2 e e); f / d
template <class T> DK_INLINE vec<T> mish_factor(vec<T> x) {
    vec<T> e = exp_of_minus_size<T>(x);
    vec<T> f = x < T(0) ? e * (e + T(2)) : fma(set(T(2)), e, set(T(1)));
    vec<T> d = f + (x < T(0) ? set(T(2)) : (e + e) * e);
    return f / d;
}

}  // namespace dk
