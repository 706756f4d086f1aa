// Exponential, geometric, Cauchy, log-normal and truncated normal fillers.
#include "functions.h"
#include "randomness_fill.h"

namespace dk {
namespace {

// A scalar rounded to T, as a double. gcc 12 drops the conversions of two neighbours, double(float(a)) and double(float(b)),
// when it makes a vector of them; it may not look through a volatile.
template <class T> double rounded(double x) {
    volatile T y = T(x);
    return double(y);
}

// f of binary64, on numbers of either type; binary32 is rounded once, at the end
template <class F> DK_INLINE vec<double> in_double(vec<double> x, F f) { return f(x); }
template <class F> DK_INLINE vec<float> in_double(vec<float> x, F f) {
    halves h = widen_halves(x);
    return narrow_halves({f(h.low), f(h.high)});
}

template <class T> int32_t fill_exponential(T *out, int64_t n, uint64_t nonce, double rate) {
    FloatingPoint control;
    const T r = T(rate);
    fill(out, n, nonce, [=](auto word) { return in_double(unit(word), [](vec<double> u) { return -plain_log(u); }) / r; });
    return DK_OK;
}

template <class T> int32_t fill_log_normal(T *out, int64_t n, uint64_t nonce, double mean, double std) {
    FloatingPoint control;
    const T m = T(mean), s = T(std);
    fill(out, n, nonce, [=](auto word) {
        return in_double(fma(standard_normal(word), set(s), set(m)), [](vec<double> x) { return fixed_exp(x); });
    });
    return DK_OK;
}

// tan(pi x), 0 < |x| < 1/2. b = |x|, or 1/2 - |x| beyond 1/4; y = pi b; Taylor's sine and cosine of y; sine / cosine, or
// beyond 1/4 cosine / sine.
DK_INLINE vec<double> tangent_of_turn(vec<double> x) {
    mask<double> sign = to_bits<double>(x) & to_bits<double>(set(-0.0));
    vec<double> a = from_bits<double>(to_bits<double>(x) ^ sign);
    mask<double> steep = a > 0.25;
    vec<double> y = select<double>(steep, 0.5 - a, a) * 0x1.921fb54442d18p1, z = y * y;
    vec<double> sine = y * polynomial<double>(z, 1.0 / 355687428096000.0, -1.0 / 1307674368000.0, 1.0 / 6227020800.0,
                                              -1.0 / 39916800.0, 1.0 / 362880.0, -1.0 / 5040.0, 1.0 / 120.0, -1.0 / 6.0, 1.0);
    vec<double> cosine = polynomial<double>(z, 1.0 / 20922789888000.0, -1.0 / 87178291200.0, 1.0 / 479001600.0, -1.0 / 3628800.0,
                                            1.0 / 40320.0, -1.0 / 720.0, 1.0 / 24.0, -0.5, 1.0);
    vec<double> t = select<double>(steep, cosine, sine) / select<double>(steep, sine, cosine);
    return from_bits<double>(to_bits<double>(t) | sign);
}

template <class T> int32_t fill_cauchy(T *out, int64_t n, uint64_t nonce, double median, double scale) {
    FloatingPoint control;
    const double m = rounded<T>(median), s = rounded<T>(scale);
    fill(out, n, nonce, [=](auto word) {
        return in_double(unit(word), [=](vec<double> u) { return fma(tangent_of_turn(u - 0.5), set(s), set(m)); });
    });
    return DK_OK;
}

int32_t fill_geometric(double *out, int64_t n, uint64_t nonce, double log_failure) {
    FloatingPoint control;
    fill(out, n, nonce, [=](auto word) {
        vec<double> x = plain_log(unit(word)) / log_failure;
        vec<double> r = (x + 0x1p52) - 0x1p52;  // to nearest; from 2^52 on every number is an integer
        r = select<double>(r < x, r + 1.0, r);
        return select<double>(x < 0x1p52, r, x);
    });
    return DK_OK;
}

struct Truncation {
    double mean, std, low, high, from, width;
};
DK_INLINE vec<double> truncated(wide word, const Truncation &t) {
    vec<double> v = fma(unit(word), set(t.width), set(t.from));
    mask<double> lower = v <= 0.5;
    vec<double> tail = select<double>(lower, v, 1.0 - v), z = quantile(tail, 0.5 - tail);
    vec<double> x = fma(select<double>(lower, -z, z), set(t.std), set(t.mean));
    x = select<double>(x < t.low, set(t.low), x);
    return select<double>(x > t.high, set(t.high), x);
}

template <class T>
int32_t fill_truncated(T *out, int64_t n, uint64_t nonce, double mean, double std, double low, double high, double from,
                       double width) {
    FloatingPoint control;
    const Truncation given{rounded<T>(mean), rounded<T>(std), rounded<T>(low), rounded<T>(high), from, width};
    fill_by_blocks<64>(out, n, nonce, [=](const uint32_t *words, int64_t, T *to) {
        for (int64_t j = 0; j < 32; j += lanes<double>) {
            vec<double> x = truncated(wide_words_at(words, j), given);
            for (int64_t k = 0; k < lanes<double>; ++k) to[j + k] = T(x[k]);
        }
    });
    return DK_OK;
}

template <class T> int32_t fill_normal_each(T *out, int64_t n, uint64_t nonce, const T *mean, const T *std) {
    FloatingPoint control;
    bool good = true;
    for (int64_t i = 0; i < n; ++i) good &= std[i] >= 0;
    if (!good) return DK_BAD_ARGUMENT;
    fill(out, n, nonce, [](auto word) { return standard_normal(word); });
    parallel(n, 65536, [=](int64_t begin, int64_t end) {
        int64_t i = begin;
        for (; i + lanes<T> <= end; i += lanes<T>) store(out + i, fma(load(out + i), load(std + i), load(mean + i)));
        for (; i < end; ++i) out[i] = fma(out[i], std[i], mean[i]);
    });
    return DK_OK;
}

}  // namespace
}  // namespace dk

extern "C" {

int32_t dk_exponential_f32(float *out, int64_t n, uint64_t nonce, double rate) { return dk::fill_exponential(out, n, nonce, rate); }
int32_t dk_exponential_f64(double *out, int64_t n, uint64_t nonce, double rate) { return dk::fill_exponential(out, n, nonce, rate); }
int32_t dk_log_normal_f32(float *out, int64_t n, uint64_t nonce, double mean, double std) {
    return dk::fill_log_normal(out, n, nonce, mean, std);
}
int32_t dk_log_normal_f64(double *out, int64_t n, uint64_t nonce, double mean, double std) {
    return dk::fill_log_normal(out, n, nonce, mean, std);
}
int32_t dk_cauchy_f32(float *out, int64_t n, uint64_t nonce, double median, double scale) {
    return dk::fill_cauchy(out, n, nonce, median, scale);
}
int32_t dk_cauchy_f64(double *out, int64_t n, uint64_t nonce, double median, double scale) {
    return dk::fill_cauchy(out, n, nonce, median, scale);
}
int32_t dk_geometric(double *out, int64_t n, uint64_t nonce, double log_failure) {
    return dk::fill_geometric(out, n, nonce, log_failure);
}
int32_t dk_truncated_normal_f32(float *out, int64_t n, uint64_t nonce, double mean, double std, double low, double high,
                                double from, double width) {
    return dk::fill_truncated(out, n, nonce, mean, std, low, high, from, width);
}
int32_t dk_truncated_normal_f64(double *out, int64_t n, uint64_t nonce, double mean, double std, double low, double high,
                                double from, double width) {
    return dk::fill_truncated(out, n, nonce, mean, std, low, high, from, width);
}
int32_t dk_normal_each_f32(float *out, int64_t n, uint64_t nonce, const float *mean, const float *std) {
    return dk::fill_normal_each(out, n, nonce, mean, std);
}
int32_t dk_normal_each_f64(double *out, int64_t n, uint64_t nonce, const double *mean, const double *std) {
    return dk::fill_normal_each(out, n, nonce, mean, std);
}
}
