// Words into uniform and normal numbers, and the loops that fill an array with them.
#pragma once

#include "randomness_functions.h"
#include "randomness_philox.h"

namespace dk {
namespace {

// (2 (word >> 9) + 1) 2^-24
DK_INLINE vec<float> unit(words32 word) {
    words32 odd = (word >> 9) * 2 + 1;
    return __builtin_convertvector((mask<float>)odd, vec<float>) * 0x1p-24f;
}

// 52 bits m as the number m 2^-52, exactly: below the exponent of 1, less 1
DK_INLINE vec<double> fraction(wide m) { return (vec<double>)(m | 0x3FF0000000000000) - 1.0; }

// (2 (word >> 12) + 1) 2^-53
DK_INLINE vec<double> unit(wide word) { return fraction(word >> 12) + 0x1p-53; }

DK_INLINE vec<float> standard_normal(words32 word) {
    mask<float> m = (mask<float>)(word & 0x7FFFFFFF), sign = (mask<float>)(word & 0x80000000);
    vec<float> p = fma(__builtin_convertvector(m, vec<float>), set(0x1p-32f), set(0x1p-33f));
    vec<float> q = fma(__builtin_convertvector(m ^ 0x7FFFFFFF, vec<float>), set(0x1p-32f), set(0x1p-33f));
    return from_bits<float>(to_bits<float>(quantile(p, q)) | sign);
}

DK_INLINE vec<double> standard_normal(wide word) {
    const uint64_t all = 0xFFFFFFFFFFFFF;
    wide m = (word >> 11) & all;
    vec<double> p = fma(fraction(m), set(0.5), set(0x1p-54)), q = fma(fraction(m ^ all), set(0.5), set(0x1p-54));
    return from_bits<double>(to_bits<double>(quantile(p, q)) | (mask<double>)(word & 0x8000000000000000));
}

// out[i] = value(word of i), registers of words in, registers of numbers out
template <class Value> void fill(float *out, int64_t n, uint64_t nonce, Value value) {
    fill_by_blocks<32>(out, n, nonce, [=](const uint32_t *words, int64_t, float *to) {
        for (int64_t j = 0; j < 64; j += lanes<float>) store(to + j, vec<float>(value(words_at(words, j))));
    });
}
template <class Value> void fill(double *out, int64_t n, uint64_t nonce, Value value) {
    fill_by_blocks<64>(out, n, nonce, [=](const uint32_t *words, int64_t, double *to) {
        for (int64_t j = 0; j < 32; j += lanes<double>) store(to + j, vec<double>(value(wide_words_at(words, j))));
    });
}

}  // namespace
}  // namespace dk
