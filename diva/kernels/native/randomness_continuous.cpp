// Exponential, geometric, Cauchy, log-normal and truncated normal fillers.
#include "randomness_fill.h"

namespace dk {
namespace {

// A scalar rounded to T, as a double. gcc 12 drops the conversions of two neighbours, double(float(a)) and double(float(b)),
// when it makes a vector of them; it may not look through a volatile.
template <class T> double rounded(double x) {
    volatile T y = T(x);
    return double(y);
}

template <class T> int32_t fill_exponential(T *out, int64_t n, uint64_t nonce, double rate) {
    FloatingPoint control;
    const T r = T(rate);
    fill(out, n, nonce, [=](auto word) { return waiting_time(word) / r; });
    return DK_OK;
}

template <class T> int32_t fill_log_normal(T *out, int64_t n, uint64_t nonce, double mean, double std) {
    FloatingPoint control;
    const T m = T(mean), s = T(std);
    fill(out, n, nonce, [=](auto word) { return log_normal_number<T>(word, m, s); });
    return DK_OK;
}

template <class T> int32_t fill_cauchy(T *out, int64_t n, uint64_t nonce, double median, double scale) {
    FloatingPoint control;
    const double m = rounded<T>(median), s = rounded<T>(scale);
    fill(out, n, nonce, [=](auto word) { return cauchy_number(word, m, s); });
    return DK_OK;
}

int32_t fill_geometric(double *out, int64_t n, uint64_t nonce, double log_failure) {
    FloatingPoint control;
    fill(out, n, nonce, [=](auto word) { return geometric_number(word, log_failure); });
    return DK_OK;
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
