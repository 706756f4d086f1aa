// REDUCE of D3 on a GPU: the 64 lanes of a block of 4096 terms are two for each thread of a warp.
//
// What is summed is said by a `step`, as on the CPU (native/reduce.h): step(acc, i) is `acc` after term i.
#pragma once

#include "device.h"

namespace dk {

constexpr int64_t reduce_block_length = 4096;
constexpr int reduce_lanes = 64;
constexpr unsigned whole_warp = 0xffffffffu;

// The tree over 64 lanes of a warp: `low` is lane t's and `high` lane t + 32's; the sum in every thread.
template <class T> DK_INLINE T fold_warp(T low, T high) {
    T a = low + high;
    for (int w = 16; w; w /= 2) a = a + __shfl_down_sync(whole_warp, a, w);  // right in lanes below w, which is all that is used
    return __shfl_sync(whole_warp, a, 0);
}

// One block of at most 4096 terms, begin .. end - 1, by a whole warp; the sum in every thread.
template <class T, class Step> DK_INLINE T warp_reduce_block(int64_t begin, int64_t end, const Step &step) {
    const int t = int(threadIdx.x) % 32;
    T low = 0, high = 0;
    for (int64_t i = begin + t; i < end; i += 64) {
        low = step(low, i);
        if (i + 32 < end) high = step(high, i + 32);
    }
    return fold_warp(low, high);
}

// REDUCE of n terms by a whole warp, n <= 4096^3; the sum in every thread. Blocks' results are terms of the next REDUCE:
// `open` holds the 64 lanes of it, two per thread, and block b goes to lane b % 64.
template <class T, class Step> DK_INLINE T warp_reduce(int64_t n, const Step &step) {
    if (n <= reduce_block_length) return warp_reduce_block<T>(0, n, step);
    const int t = int(threadIdx.x) % 32;
    T low[2] = {0, 0}, high[2] = {0, 0};  // of the blocks of 4096 terms, and of the blocks of 4096 such
    const int64_t blocks = (n + reduce_block_length - 1) / reduce_block_length;
    for (int64_t b = 0; b < blocks; ++b) {
        const int64_t begin = b * reduce_block_length, end = begin + reduce_block_length;
        T sum = warp_reduce_block<T>(begin, end < n ? end : n, step);
        if (t == int(b % 32)) (b % 64 < 32 ? low[0] : high[0]) = (b % 64 < 32 ? low[0] : high[0]) + sum;
        if ((b + 1) % reduce_block_length == 0 && b + 1 < blocks) {
            const int64_t group = b / reduce_block_length;
            T outer = fold_warp(low[0], high[0]);
            if (t == int(group % 32)) (group % 64 < 32 ? low[1] : high[1]) = (group % 64 < 32 ? low[1] : high[1]) + outer;
            low[0] = high[0] = 0;
        }
    }
    T last = fold_warp(low[0], high[0]);
    if (blocks <= reduce_block_length) return last;
    const int64_t group = (blocks - 1) / reduce_block_length;
    if (t == int(group % 32)) (group % 64 < 32 ? low[1] : high[1]) = (group % 64 < 32 ? low[1] : high[1]) + last;
    return fold_warp(low[1], high[1]);
}

template <class T> DK_INLINE T warp_sum(const T *x, int64_t n) {
    return warp_reduce<T>(n, [=](T acc, int64_t i) { return acc + x[i]; });
}

}  // namespace dk
