// Uniform, normal, Bernoulli and integer fillers.
#include "randomness_fill.h"

namespace dk {
namespace {

template <class T> int32_t fill_uniform(T *out, int64_t n, uint64_t nonce, double low, double high) {
    FloatingPoint control;
    const T a = T(low), width = T(high) - a;
    fill(out, n, nonce, [=](auto word) { return fma(unit(word), set(width), set(a)); });
    return DK_OK;
}

template <class T> int32_t fill_normal(T *out, int64_t n, uint64_t nonce, double mean, double std) {
    FloatingPoint control;
    const T m = T(mean), s = T(std);
    fill(out, n, nonce, [=](auto word) { return fma(standard_normal(word), set(s), set(m)); });
    return DK_OK;
}

template <class T> int32_t fill_bernoulli(T *out, int64_t n, uint64_t nonce, double p) {
    FloatingPoint control;
    const uint64_t limit = threshold(p);
    fill_by_blocks<32>(out, n, nonce, [=](const uint32_t *words, int64_t, T *to) {
        for (int64_t j = 0; j < 64; ++j) to[j] = T(words[j] < limit);
    });
    return DK_OK;
}

int32_t fill_bernoulli(float *out, int64_t n, uint64_t nonce, double p) {
    FloatingPoint control;
    const uint64_t limit = threshold(p);
    const uint32_t below = uint32_t(limit);
    const vec<float> always = set(limit >> 32 ? 1.0f : 0.0f);
    fill_by_blocks<32>(out, n, nonce, [=](const uint32_t *words, int64_t, float *to) {
        for (int64_t j = 0; j < 64; j += lanes<float>)
            store(to + j, select<float>(mask<float>(words_at(words, j) < below), set(1.0f), always));
    });
    return DK_OK;
}

template <class T> int32_t fill_bernoulli_each(uint8_t *out, int64_t n, uint64_t nonce, const T *p) {
    FloatingPoint control;
    bool good = true;
    for (int64_t i = 0; i < n; ++i) good &= p[i] >= 0 && p[i] <= 1;
    if (!good) return DK_BAD_ARGUMENT;
    fill_by_blocks<32>(out, n, nonce, [=](const uint32_t *words, int64_t first, uint8_t *to) {
        const int64_t here = n - first < 64 ? n - first : 64;
        for (int64_t j = 0; j < here; ++j) to[j] = words[j] < threshold(double(p[first + j]));
    });
    return DK_OK;
}

}  // namespace
}  // namespace dk

extern "C" {

int32_t dk_philox(const uint32_t *counter, const uint32_t *key, uint32_t *words) {
    if (counter[3] != 0) return DK_BAD_ARGUMENT;
    uint32_t block[64];
    dk::philox_block(key[0] | uint64_t(key[1]) << 32, counter[0] | uint64_t(counter[1]) << 32, counter[2], block);
    for (int w = 0; w < 4; ++w) words[w] = block[16 * w];
    return DK_OK;
}

int32_t dk_uniform_f32(float *out, int64_t n, uint64_t nonce, double low, double high) {
    return dk::fill_uniform(out, n, nonce, low, high);
}
int32_t dk_uniform_f64(double *out, int64_t n, uint64_t nonce, double low, double high) {
    return dk::fill_uniform(out, n, nonce, low, high);
}
int32_t dk_normal_f32(float *out, int64_t n, uint64_t nonce, double mean, double std) {
    return dk::fill_normal(out, n, nonce, mean, std);
}
int32_t dk_normal_f64(double *out, int64_t n, uint64_t nonce, double mean, double std) {
    return dk::fill_normal(out, n, nonce, mean, std);
}
int32_t dk_bernoulli_f32(float *out, int64_t n, uint64_t nonce, double p) { return dk::fill_bernoulli(out, n, nonce, p); }
int32_t dk_bernoulli_f64(double *out, int64_t n, uint64_t nonce, double p) { return dk::fill_bernoulli(out, n, nonce, p); }
int32_t dk_bernoulli_u8(uint8_t *out, int64_t n, uint64_t nonce, double p) { return dk::fill_bernoulli(out, n, nonce, p); }
int32_t dk_bernoulli_each_f32(uint8_t *out, int64_t n, uint64_t nonce, const float *p) {
    return dk::fill_bernoulli_each(out, n, nonce, p);
}
int32_t dk_bernoulli_each_f64(uint8_t *out, int64_t n, uint64_t nonce, const double *p) {
    return dk::fill_bernoulli_each(out, n, nonce, p);
}

int32_t dk_integers(int64_t *out, int64_t n, uint64_t nonce, int64_t low, uint64_t range) {
    dk::fill_by_blocks<64>(out, n, nonce, [=](const uint32_t *words, int64_t, int64_t *to) {
        for (int j = 0; j < 32; ++j) {
            const uint32_t *row = words + 2 * dk::counters * (j / dk::counters) + j % dk::counters;
            uint64_t word = uint64_t(row[0]) << 32 | row[dk::counters];
            uint64_t part = range ? uint64_t((unsigned __int128)word * range >> 64) : word;
            to[j] = int64_t(uint64_t(low) + part);
        }
    });
    return DK_OK;
}
}
