// Philox4x32-10, a counter for each thread: what native/randomness_philox.h is for registers of counters.
#pragma once

#include "device.h"
#include "nonce.h"

namespace dk {

template <> struct bits_type<uint32_t> { using type = int32_t; };
template <> struct bits_type<uint64_t> { using type = int64_t; };

using words32 = lane<uint32_t>;
using wide = lane<uint64_t>;

// The words as the integers of the same bits.
DK_INLINE mask<float> signed_words(words32 w) { return mask<float>(int32_t(w.v)); }
DK_INLINE mask<double> signed_words(wide w) { return mask<double>(int64_t(w.v)); }

struct PhiloxWords {
    uint32_t w[4];
    // The 64-bit word of half h: words 2 h (high) and 2 h + 1.
    DK_INLINE uint64_t half(int h) const { return uint64_t(w[2 * h]) << 32 | w[2 * h + 1]; }
};

// Counter (low 32, high 32, stage, 0) under the key `nonce`.
DK_INLINE PhiloxWords philox(uint64_t nonce, uint64_t counter, uint32_t stage = 0) {
    uint32_t c0 = uint32_t(counter), c1 = uint32_t(counter >> 32), c2 = stage, c3 = 0;
    uint32_t k0 = uint32_t(nonce), k1 = uint32_t(nonce >> 32);
    DK_UNROLL
    for (int round = 0; round < 10; ++round) {
        const uint64_t p0 = uint64_t(c0) * 0xD2511F53u, p1 = uint64_t(c2) * 0xCD9E8D57u;
        c0 = uint32_t(p1 >> 32) ^ c1 ^ k0, c1 = uint32_t(p1);
        c2 = uint32_t(p0 >> 32) ^ c3 ^ k1, c3 = uint32_t(p0);
        k0 += 0x9E3779B9u, k1 += 0xBB67AE85u;
    }
    return {{c0, c1, c2, c3}};
}

// The words of element i alone (D7): word32 is word (i / 16) % 4 of counter (i / 64) 16 + i % 16; word64 is half
// (i / 16) % 2 of counter (i / 32) 16 + i % 16.
DK_INLINE uint32_t word32_of(uint64_t nonce, int64_t i) {
    const PhiloxWords four = philox(nonce, uint64_t(i / 64 * 16 + i % 16));
    const int w = int(i / 16 % 4);
    return w < 2 ? (w == 0 ? four.w[0] : four.w[1]) : (w == 2 ? four.w[2] : four.w[3]);
}
DK_INLINE uint64_t word64_of(uint64_t nonce, int64_t i) {
    const PhiloxWords four = philox(nonce, uint64_t(i / 32 * 16 + i % 16));
    return i / 16 % 2 ? four.half(1) : four.half(0);
}

// The counter of this thread, and the elements that it serves: element(w) for word w of 32 bits, or half w of 64.
DK_INLINE int64_t counter_of_thread() { return int64_t(blockIdx.x) * blockDim.x + threadIdx.x; }
DK_INLINE int64_t element32(int64_t counter, int w) { return counter / 16 * 64 + w * 16 + counter % 16; }
DK_INLINE int64_t element64(int64_t counter, int h) { return counter / 16 * 32 + h * 16 + counter % 16; }

#if DK_HOST
// Counters that serve n elements, so many threads.
inline int64_t counters32(int64_t n) { return (n + 63) / 64 * 16; }
inline int64_t counters64(int64_t n) { return (n + 31) / 32 * 16; }
#endif

}  // namespace dk
