// REDUCE of D3 along columns: a thread block sums 8 columns of up to 4096 rows, a thread for each of the 64 lanes of each.
//
// 8 neighbours of float32 are a sector of memory, so nothing is read in vain, and a matrix of few columns still fills a GPU.
#pragma once

#include "device.h"
#include "reduce.h"

namespace dk {

constexpr int tile_columns = 8;
constexpr int column_threads = tile_columns * reduce_lanes;
constexpr int column_shared = 16 * tile_columns;  // numbers of shared memory for each sum

// The column, within its tile, and the lane of this thread. A warp has the lanes w, w + 16, w + 32, w + 48.
DK_INLINE int column_of_thread() { return int(threadIdx.x) % tile_columns; }
DK_INLINE int lane_of_thread() { return int(threadIdx.x) / 32 + int(threadIdx.x) % 32 / tile_columns * 16; }

// The trees over the lanes of each column, for S sums, in every thread of the column.
template <int S, class T> DK_INLINE void fold_columns(T (&acc)[S], T *shared) {
    const int t = int(threadIdx.x) % 32, column = t % tile_columns, k = t / tile_columns;
    DK_UNROLL
    for (int s = 0; s < S; ++s) {
        acc[s] = acc[s] + __shfl_xor_sync(whole_warp, acc[s], 16);  // lanes 32 apart
        acc[s] = acc[s] + __shfl_xor_sync(whole_warp, acc[s], 8);   // 16
        if (k == 0) shared[s * column_shared + int(threadIdx.x) / 32 * tile_columns + column] = acc[s];
    }
    __syncthreads();
    DK_UNROLL
    for (int s = 0; s < S; ++s) {
        const T *lane = shared + s * column_shared + k * tile_columns + column;
        T a = (lane[0] + lane[8 * tile_columns]) + (lane[4 * tile_columns] + lane[12 * tile_columns]);
        a = a + __shfl_xor_sync(whole_warp, a, 16);  // lanes 2 apart
        acc[s] = a + __shfl_xor_sync(whole_warp, a, 8);
    }
    __syncthreads();
}

// S sums of n <= 4096 rows from `begin` on, in every thread of a column. step.get(row) reads what the term of this thread's
// column is made of, step.add(acc, term) adds it; `inside`: there is such a column. All threads of the block come here.
template <int S, class T, class Step>
DK_INLINE void column_sums(T (&acc)[S], int64_t begin, int n, bool inside, const Step &step, T *shared) {
    constexpr int batch = 8 / S, stride = batch * reduce_lanes;
    DK_UNROLL
    for (int s = 0; s < S; ++s) acc[s] = 0;
    int r = lane_of_thread();
    if (inside && r + stride - reduce_lanes < n) {
        decltype(step.get(begin)) here[batch], next[batch];
        auto read = [&](decltype(here) &to) {
            DK_UNROLL
            for (int k = 0; k < batch; ++k) to[k] = step.get(begin + r + k * reduce_lanes);
        };
        auto add = [&] {
            DK_UNROLL
            for (int k = 0; k < batch; ++k) step.add(acc, here[k]);
        };
        read(here);
        for (r += stride; r + stride - reduce_lanes < n; r += stride) {
            read(next), add();  // each batch is read before the last one is waited for
            DK_UNROLL
            for (int k = 0; k < batch; ++k) here[k] = next[k];
        }
        add();
    }
    for (; inside && r < n; r += 4 * reduce_lanes) {  // the rows that are left
        decltype(step.get(begin)) some[4] = {};
        DK_UNROLL
        for (int k = 0; k < 4; ++k)
            if (r + k * reduce_lanes < n) some[k] = step.get(begin + r + k * reduce_lanes);
        DK_UNROLL
        for (int k = 0; k < 4; ++k)
            if (r + k * reduce_lanes < n) step.add(acc, some[k]);
    }
    fold_columns(acc, shared);
}

// The column of a matrix.
template <class T> struct ColumnTerms {
    const T *x;  // at the column
    int64_t stride;
    DK_INLINE T get(int64_t row) const { return x[row * stride]; }
    DK_INLINE void add(T (&acc)[1], T term) const { acc[0] = acc[0] + term; }
};

// REDUCE of n numbers `stride` apart for each column, n <= 4096^2, in every thread of the column.
template <class T> DK_INLINE T column_total(const T *x, int64_t n, int64_t stride, bool inside, T *shared) {
    T sum[1], outer[1] = {0};
    const ColumnTerms<T> step{x, stride};
    if (n <= reduce_block_length) {
        column_sums(sum, 0, int(n), inside, step, shared);
        return sum[0];
    }
    for (int64_t begin = 0, b = 0; begin < n; begin += reduce_block_length, ++b) {
        const int64_t left = n - begin;
        column_sums(sum, begin, int(left < reduce_block_length ? left : reduce_block_length), inside, step, shared);
        if (lane_of_thread() == int(b % reduce_lanes)) outer[0] = outer[0] + sum[0];
    }
    fold_columns(outer, shared);
    return outer[0];
}

// S sums of n <= 4096 terms by one thread: for many columns, or short ones. The lanes are taken in the order in which the tree
// joins them, so that few sums are open.
template <int S, class T, class Step> DK_INLINE void thread_sums(T (&acc)[S], int64_t begin, int n, const Step &step) {
    int bits = 6;
    while (bits && 1 << (bits - 1) >= n) --bits;  // lanes from 1 << bits on are +0
    T open[6][S] = {};
    for (int k = 0; k < 1 << bits; ++k) {
        const int mirrored = (k & 1) << 5 | (k & 2) << 3 | (k & 4) << 1 | (k & 8) >> 1 | (k & 16) >> 3 | (k & 32) >> 5;
        DK_UNROLL
        for (int s = 0; s < S; ++s) acc[s] = 0;
        for (int i = mirrored >> (6 - bits); i < n; i += reduce_lanes) step.add(acc, step.get(begin + i));
        DK_UNROLL
        for (int s = 0; s < S; ++s)
            if (bits < 6) acc[s] = acc[s] + T(0);
        DK_UNROLL
        for (int level = 0; level < 6; ++level) {
            const bool full = k >> level & 1;
            DK_UNROLL
            for (int s = 0; s < S; ++s) {
                if (full)
                    acc[s] = open[level][s] + acc[s];
                else
                    open[level][s] = acc[s];
            }
            if (!full) break;
        }
    }
}

// This thread's column of the thread block's tile, and the block of rows: tiles are the faster.
struct ColumnShare {
    int64_t column, block, begin;
    int rows;
    bool inside;
    DK_INLINE ColumnShare(int64_t n, int64_t columns) {
        const int64_t tiles = (columns + tile_columns - 1) / tile_columns;
        block = int64_t(blockIdx.x) / tiles;
        column = (int64_t(blockIdx.x) - block * tiles) * tile_columns + column_of_thread();
        begin = block * reduce_block_length;
        rows = int(n - begin < reduce_block_length ? n - begin : reduce_block_length);
        inside = column < columns;
    }
};

}  // namespace dk
