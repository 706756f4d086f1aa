// Philox4x32-10 sixteen counters at a time, and the loops that hand its words to a distribution.
#pragma once

#include "diva_kernels.h"
#include "pool.h"
#include "vec.h"

namespace dk {
namespace {

constexpr int64_t counters = 16;             // of one block: 64 words of 32 bits, or 32 words of 64 bits
constexpr int64_t grain_blocks = 512;        // blocks of one piece of work: 32768 words
constexpr uint32_t multiplier0 = 0xD2511F53, multiplier1 = 0xCD9E8D57, step0 = 0x9E3779B9, step1 = 0xBB67AE85;

// 64-bit lanes that hold 32-bit words in their low halves (the high halves are ignored).
constexpr int wide_lanes = lanes<double>;
typedef uint64_t wide __attribute__((vector_size(wide_lanes * 8)));
typedef uint32_t thin __attribute__((vector_size(wide_lanes * 4)));  // as many words of 32 bits

DK_INLINE wide multiply_low_halves(wide a, wide b) {
#if defined(DK_AVX512)
    return (wide)_mm512_maskz_mul_epu32(0xFF, (__m512i)a, (__m512i)b);  // unmasked, gcc 12 warns of its own header
#elif defined(DK_AVX2)
    return (wide)_mm256_mul_epu32((__m256i)a, (__m256i)b);
#elif defined(DK_NEON)
    return (wide)vmull_u32(vmovn_u64((uint64x2_t)a), vmovn_u64((uint64x2_t)b));
#else
    return wide{uint64_t(uint32_t(a[0])) * uint32_t(b[0])};
#endif
}

DK_INLINE thin low_halves(wide a) {
#if defined(DK_AVX512)
    return (thin)_mm512_maskz_cvtepi64_epi32(0xFF, (__m512i)a);
#else
    return __builtin_convertvector(a, thin);
#endif
}

// words[16 w + j] = word w of counter first + j under the key `nonce`; the counter's upper half is (stage, 0).
DK_INLINE void philox_block(uint64_t nonce, uint64_t first, uint32_t stage, uint32_t *words) {
    constexpr int groups = int(counters) / wide_lanes;
    // Two registers of counters in flight hide the multiplications' latency.
    constexpr int together = groups >= 2 ? 2 : 1;
    const wide m0 = wide{} + multiplier0, m1 = wide{} + multiplier1;
    for (int group = 0; group < groups; group += together) {
        wide c0[together], c1[together], c2[together], c3[together];
#pragma GCC unroll 2
        for (int t = 0; t < together; ++t) {
            wide counter = wide{} + (first + uint64_t(group + t) * wide_lanes);
#pragma GCC unroll 8
            for (int j = 0; j < wide_lanes; ++j) counter[j] += uint64_t(j);
            c0[t] = counter, c1[t] = counter >> 32, c2[t] = wide{} + stage, c3[t] = wide{};
        }
        uint32_t k0 = uint32_t(nonce), k1 = uint32_t(nonce >> 32);
#pragma GCC unroll 10
        for (int round = 0; round < 10; ++round) {
#pragma GCC unroll 2
            for (int t = 0; t < together; ++t) {
                wide p0 = multiply_low_halves(c0[t], m0), p1 = multiply_low_halves(c2[t], m1);
                c0[t] = (p1 >> 32) ^ c1[t] ^ (wide{} + k0), c1[t] = p1;
                c2[t] = (p0 >> 32) ^ c3[t] ^ (wide{} + k1), c3[t] = p0;
            }
            k0 += step0, k1 += step1;
        }
#pragma GCC unroll 2
        for (int t = 0; t < together; ++t) {
            thin w[4] = {low_halves(c0[t]), low_halves(c1[t]), low_halves(c2[t]), low_halves(c3[t])};
            for (int k = 0; k < 4; ++k) std::memcpy(words + counters * k + (group + t) * wide_lanes, &w[k], sizeof w[k]);
        }
    }
}

// How many elements of T one block serves: 64 of 32 bits, 32 of 64 bits.
template <int bits> constexpr int64_t block_length = bits == 32 ? 64 : 32;

// make(words, first, out): the `block_length<bits>` elements from `first` on; out has room for all of them.
template <int bits, class Out, class Make> void fill_by_blocks(Out *out, int64_t n, uint64_t nonce, Make &&make) {
    constexpr int64_t length = block_length<bits>;
    parallel((n + length - 1) / length, grain_blocks, [&](int64_t begin, int64_t end) {
        alignas(64) uint32_t words[64];
        alignas(64) Out last[length];
        for (int64_t block = begin; block < end; ++block) {
            philox_block(nonce, uint64_t(block * counters), 0, words);
            int64_t first = block * length;
            if (first + length <= n) {
                make(words, first, out + first);
            } else {
                make(words, first, last);
                std::memcpy(out + first, last, size_t(n - first) * sizeof(Out));
            }
        }
    });
}

// The 32-bit words as they lie, one register: element j of the block is word j.
typedef uint32_t words32 __attribute__((vector_size(lanes<float> * 4)));
DK_INLINE words32 words_at(const uint32_t *words, int64_t j) {
    words32 w;
    std::memcpy(&w, words + j, sizeof w);
    return w;
}

// The words as the integers of the same bits.
DK_INLINE mask<float> signed_words(words32 w) { return (mask<float>)w; }
DK_INLINE mask<double> signed_words(wide w) { return (mask<double>)w; }

// Elements j.. of 64 bits, j a multiple of the lanes: high half from row 2 h, low half from row 2 h + 1, h = j / 16.
DK_INLINE wide wide_words_at(const uint32_t *words, int64_t j) {
    const uint32_t *row = words + 2 * counters * (j / counters) + j % counters;
    thin high, low;
    std::memcpy(&high, row, sizeof high);
    std::memcpy(&low, row + counters, sizeof low);
    return (__builtin_convertvector(high, wide) << 32) | __builtin_convertvector(low, wide);
}

}  // namespace
}  // namespace dk
