// REDUCE of D3 on a GPU: the 64 lanes of a block of 4096 terms are two for each thread of a warp.
//
// What is summed is said by a `step`, as on the CPU (native/reduce.h): step(acc, i) is `acc` after term i.
#pragma once

#include "device.h"

#if DK_HOST
#define DK_NO_UNROLL
#define DK_UNROLL_ALL _Pragma("GCC unroll 64")
#else
#define DK_NO_UNROLL _Pragma("unroll 1")
#define DK_UNROLL_ALL _Pragma("unroll")
#endif

namespace dk {

constexpr int64_t reduce_block_length = 4096;
constexpr int reduce_lanes = 64;
constexpr unsigned whole_warp = 0xffffffffu;

DK_INLINE int64_t reduce_block_count(int64_t n) { return (n + reduce_block_length - 1) / reduce_block_length; }

// The tree over 64 lanes of a warp: `low` is lane t's and `high` lane t + 32's; the sum in every thread.
template <class T> DK_INLINE T fold_warp(T low, T high) {
    T a = low + high;
    for (int w = 16; w; w /= 2) a = a + __shfl_down_sync(whole_warp, a, w);  // right in lanes below w, which is all that is used
    return __shfl_sync(whole_warp, a, 0);
}

// One block of at most 4096 terms, begin .. end - 1, by a whole warp; the sum in every thread.
template <class T, class Step> DK_INLINE T warp_reduce_block(int64_t begin, int64_t end, const Step &step) {
    T low = 0, high = 0;
    int64_t i = begin + threadIdx.x % 32;
    // Steps in a row without a test between them: their loads are on the way together.
    for (; i + (8 * reduce_lanes - 32) < end; i += 8 * reduce_lanes) {
        DK_UNROLL
        for (int r = 0; r < 8 * reduce_lanes; r += reduce_lanes) {
            low = step(low, i + r);
            high = step(high, i + r + 32);
        }
    }
    for (; i + 96 < end; i += 128) {
        low = step(low, i), high = step(high, i + 32);
        low = step(low, i + 64), high = step(high, i + 96);
    }
    if (i < end) low = step(low, i);
    if (i + 32 < end) high = step(high, i + 32);
    if (i + 64 < end) low = step(low, i + 64);
    return fold_warp(low, high);
}

// The 64 lanes of a REDUCE whose terms come one after another: two per thread of a warp.
template <class T> struct OpenLanes {
    T low = 0, high = 0;
    DK_INLINE void add(int64_t index, T term) {
        if (int(threadIdx.x) % 32 != int(index % 32)) return;
        if (index % 64 < 32)
            low = low + term;
        else
            high = high + term;
    }
    DK_INLINE T fold() const { return fold_warp(low, high); }
};

// REDUCE of n terms by a whole warp, n <= 4096^3; the sum in every thread. Blocks' results are terms of the next REDUCE.
template <class T, class Step> DK_INLINE T warp_reduce(int64_t n, const Step &step) {
    if (n <= reduce_block_length) return warp_reduce_block<T>(0, n, step);
    OpenLanes<T> inner, outer;  // of the blocks of 4096 terms, and of the groups of 4096 such
    const int64_t blocks = reduce_block_count(n);
    for (int64_t b = 0; b < blocks; ++b) {
        const int64_t begin = b * reduce_block_length, end = begin + reduce_block_length;
        inner.add(b, warp_reduce_block<T>(begin, end < n ? end : n, step));
        if ((b + 1) % reduce_block_length == 0 && b + 1 < blocks) {
            outer.add(b / reduce_block_length, inner.fold());
            inner = OpenLanes<T>();
        }
    }
    const T last = inner.fold();
    if (blocks <= reduce_block_length) return last;
    outer.add((blocks - 1) / reduce_block_length, last);
    return outer.fold();
}

// The same by a thread block of `warps` warps (2, 4, ..., 32), all of which come here; the sum in every thread. Warp w takes
// the blocks w, w + warps, ..., which are terms of its own lanes of the next REDUCE: w, w + warps, ... of the 64.
// block_reduce_by: block(begin, end) is what a warp makes of these terms, at most 4096;
template <class T, int warps, class Block> DK_INLINE T block_reduce_by(int64_t n, const Block &block) {
    __shared__ T lane_sums[reduce_lanes];
    const int t = int(threadIdx.x) % 32, warp = int(threadIdx.x) / 32;
    if (n <= reduce_block_length) return block(0, n);  // by each warp for itself
    OpenLanes<T> outer;
    T sum = 0;
    const int64_t blocks = reduce_block_count(n);
    for (int64_t first = 0; first < blocks; first += reduce_block_length) {
        const int64_t last = first + reduce_block_length < blocks ? first + reduce_block_length : blocks;
        T mine = 0;  // lane warp + t * warps
        for (int64_t b = first + warp; b < last; b += warps) {
            const int64_t begin = b * reduce_block_length, end = begin + reduce_block_length;
            const T term = block(begin, end < n ? end : n);
            if (t == int(b % reduce_lanes) / warps) mine = mine + term;
        }
        __syncthreads();  // who came first may still read the sums of the last time
        if (t < reduce_lanes / warps) lane_sums[warp + t * warps] = mine;
        __syncthreads();
        sum = fold_warp(lane_sums[t], lane_sums[t + 32]);
        outer.add(first / reduce_block_length, sum);
    }
    return blocks <= reduce_block_length ? sum : outer.fold();
}

template <class T, int warps, class Step> DK_INLINE T block_reduce(int64_t n, const Step &step) {
    return block_reduce_by<T, warps>(n, [&](int64_t begin, int64_t end) { return warp_reduce_block<T>(begin, end, step); });
}

template <class T> DK_INLINE T warp_sum(const T *x, int64_t n) {
    return warp_reduce<T>(n, [=](T acc, int64_t i) { return acc + x[i]; });
}

}  // namespace dk
