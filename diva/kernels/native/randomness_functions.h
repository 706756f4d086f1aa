// Logarithm and normal quantile inside the distributions: the fixed programs of reference/randomness.py.
#pragma once

#include "vec.h"

namespace dk {
namespace {

// Horner's rule, highest power first, each step one fma.
template <class T> DK_INLINE vec<T> horner(vec<T>, vec<T> value) { return value; }
template <class T, class... Rest> DK_INLINE vec<T> horner(vec<T> x, vec<T> value, T next, Rest... rest) {
    return horner<T>(x, fma(value, x, set<T>(next)), rest...);
}
template <class T, class... Rest> DK_INLINE vec<T> polynomial(vec<T> x, T first, Rest... rest) {
    return horner<T>(x, set<T>(first), rest...);
}

// log x for normal x > 0. Cephes: y = (f z) P(f), y = fma(e, ln2_low, y), y = fma(z, -1/2, y), fma(e, ln2_high, f + y).
DK_INLINE vec<float> plain_log(vec<float> x) {
    mask<float> bits = to_bits<float>(x), e = (bits - 0x3F3504F3) >> 23;
    vec<float> m = from_bits<float>(bits - (e << 23)), k = __builtin_convertvector(e, vec<float>);
    vec<float> f = m - 1.0f, z = f * f;
    vec<float> y = (f * z) * polynomial<float>(f, 7.0376836292e-2f, -1.1514610310e-1f, 1.1676998740e-1f, -1.2420140846e-1f,
                                               1.4249322787e-1f, -1.6668057665e-1f, 2.0000714765e-1f, -2.4999993993e-1f,
                                               3.3333331174e-1f);
    y = fma(k, set(-2.12194440e-4f), y);
    y = fma(z, set(-0.5f), y);
    return fma(k, set(0.693359375f), f + y);
}

// fdlibm: s = f / (f + 2), z = s s, R = z P(z), h = (f f) / 2, low = fma(s, h + R, e ln2_low), fma(e, ln2_high, -((h - low) - f)).
DK_INLINE vec<double> plain_log(vec<double> x) {
    mask<double> bits = to_bits<double>(x), e = (bits - 0x3FE6A09E667F3BCD) >> 52;
    vec<double> m = from_bits<double>(bits - (e << 52));
    // e as a number: its bits below those of 2^52 + 2^51, less that
    vec<double> k = from_bits<double>(e + 0x4338000000000000) - 0x1.8p52;
    vec<double> f = m - 1.0, s = f / (f + 2.0), z = s * s;
    vec<double> remainder = z * polynomial<double>(z, 1.479819860511658591e-01, 1.531383769920937332e-01, 1.818357216161805012e-01,
                                                   2.222219843214978396e-01, 2.857142874366239149e-01,
                                                   3.999999999940941908e-01, 6.666666666666735130e-01);
    vec<double> half = (f * f) * 0.5;
    vec<double> low = fma(s, half + remainder, k * 1.90821492927058770002e-10);
    return fma(k, set(6.93147180369123816490e-01), -((half - low) - f));
}

// AS241: the z >= 0 with upper tail p, q = 1/2 - p. PPND7; p >= 2^-33, so that its third branch is never reached.
DK_INLINE vec<float> quantile(vec<float> p, vec<float> q) {
    vec<float> r = fma(-q, q, set(0.180625f)), t = sqrt(-plain_log(p)) - 1.6f;
    mask<float> central = q <= 0.425f;
    vec<float> top = q * polynomial<float>(r, 5.9109374720e01f, 1.5929113202e02f, 5.0434271938e01f, 3.3871327179e00f);
    vec<float> bottom = polynomial<float>(r, 6.7187563600e01f, 7.8757757664e01f, 1.7895169469e01f, 1.0f);
    vec<float> tail_top = polynomial<float>(t, 1.7023821103e-01f, 1.3067284816e00f, 2.7568153900e00f, 1.4234372777e00f);
    vec<float> tail_bottom = polynomial<float>(t, 1.2021132975e-01f, 7.3700164250e-01f, 1.0f);
    return select<float>(central, top, tail_top) / select<float>(central, bottom, tail_bottom);
}

// PPND16.
DK_INLINE vec<double> quantile(vec<double> p, vec<double> q) {
    vec<double> r = fma(-q, q, set(0.180625)), t = sqrt(-plain_log(p));
    mask<double> central = q <= 0.425, far = t > 5.0;
    vec<double> top = q * polynomial<double>(r, 2509.0809287301226727, 33430.575583588128105, 67265.770927008700853,
                                             45921.953931549871457, 13731.693765509461125, 1971.5909503065514427,
                                             133.14166789178437745, 3.3871328727963666080);
    vec<double> bottom = polynomial<double>(r, 5226.4952788528545610, 28729.085735721942674, 39307.895800092710610,
                                            21213.794301586595867, 5394.1960214247511077, 687.18700749205790830,
                                            42.313330701600911252, 1.0);
    vec<double> near = t - 1.6, beyond = t - 5.0;
    vec<double> tail_top = polynomial<double>(near, 7.74545014278341407640e-4, 2.27238449892691845833e-2,
                                              2.41780725177450611770e-1, 1.27045825245236838258, 3.64784832476320460504,
                                              5.76949722146069140550, 4.63033784615654529590, 1.42343711074968357734);
    vec<double> tail_bottom = polynomial<double>(near, 1.05075007164441684324e-9, 5.47593808499534494600e-4,
                                                 1.51986665636164571966e-2, 1.48103976427480074590e-1,
                                                 6.89767334985100004550e-1, 1.67638483018380384940, 2.05319162663775882187, 1.0);
    vec<double> far_top = polynomial<double>(beyond, 2.01033439929228813265e-7, 2.71155556874348757815e-5,
                                             1.24266094738807843860e-3, 2.65321895265761230930e-2, 2.96560571828504891230e-1,
                                             1.78482653991729133580, 5.46378491116411436990, 6.65790464350110377720);
    vec<double> far_bottom = polynomial<double>(beyond, 2.04426310338993978564e-15, 1.42151175831644588870e-7,
                                                1.84631831751005468180e-5, 7.86869131145613259100e-4, 1.48753612908506148525e-2,
                                                1.36929880922735805310e-1, 5.99832206555887937690e-1, 1.0);
    tail_top = select<double>(far, far_top, tail_top), tail_bottom = select<double>(far, far_bottom, tail_bottom);
    return select<double>(central, top, tail_top) / select<double>(central, bottom, tail_bottom);
}

}  // namespace
}  // namespace dk
