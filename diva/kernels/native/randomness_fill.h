// The loops that fill an array with what a distribution makes of each element's word.
#pragma once

#include "randomness_numbers.h"

namespace dk {
namespace {

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
