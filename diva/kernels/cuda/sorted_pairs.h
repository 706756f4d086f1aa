// Pairs (64-bit key, index) in the order of (key, index): one thread block in shared memory, or radix passes over many.
//
// A radix pass is stable: counts of each digit in each tile of 2048, their running sums, and each pair to its place. Integers
// alone are added, so that no order shows. One .cu file includes this: its kernels are no templates.
#pragma once

#include "device.h"

namespace dk {
namespace sorted_pairs {

constexpr int most_in_block = 2048;
constexpr int threads = 256, warps = threads / 32, per_thread = 8, tile = threads * per_thread, digits = 256;
constexpr unsigned whole = 0xffffffffu;

// The `size` pairs in shared memory, a power of 2, by all threads of the block (bitonic sort).
DK_INLINE void sort_in_block(uint64_t *key, uint32_t *index, int size) {
    for (int run = 2; run <= size; run *= 2) {
        for (int apart = run / 2; apart; apart /= 2) {
            __syncthreads();
            for (int p = int(threadIdx.x); p < size / 2; p += int(blockDim.x)) {
                const int i = p / apart * 2 * apart + p % apart, j = i + apart;
                const bool later = key[i] > key[j] || (key[i] == key[j] && index[i] > index[j]);
                if (later != ((i & run) == 0)) continue;
                const uint64_t k = key[i];
                const uint32_t n = index[i];
                key[i] = key[j], index[i] = index[j];
                key[j] = k, index[j] = n;
            }
        }
    }
    __syncthreads();
}

// Sum of v over the lanes of the warp up to this one.
DK_INLINE uint32_t sum_to_lane(uint32_t v) {
    for (int w = 1; w < 32; w *= 2) {
        const uint32_t other = __shfl_up_sync(whole, v, w);
        if (int(threadIdx.x) % 32 >= w) v += other;
    }
    return v;
}

// Sum of v over the threads before this one, of a block of 256.
DK_INLINE uint32_t sum_before(uint32_t v) {
    __shared__ uint32_t sums[warps];
    const int warp = int(threadIdx.x) / 32;
    const uint32_t x = sum_to_lane(v);
    if (threadIdx.x % 32 == 31) sums[warp] = x;
    __syncthreads();
    uint32_t before = 0;
    for (int w = 0; w < warp; ++w) before += sums[w];
    return before + x - v;
}

// What a pass sorts by: 8 bits of the key, or of the row of the index.
struct Digit {
    int32_t shift;
    uint32_t row_length;  // 0: the key
    DK_INLINE int of(uint64_t key, uint32_t index) const {
        return int((row_length ? uint64_t(index / row_length) : key) >> shift & (digits - 1));
    }
};

// counts[digit tiles + tile]
__global__ void __launch_bounds__(threads)
count_digits(uint32_t *counts, const uint64_t *key, const uint32_t *index, int64_t n, int64_t tiles, Digit digit) {
    __shared__ uint32_t count[digits];
    const int t = int(threadIdx.x);
    count[t] = 0;
    __syncthreads();
    for (int k = 0; k < per_thread; ++k) {
        const int64_t i = int64_t(blockIdx.x) * tile + k * threads + t;
        if (i < n) atomicAdd(&count[digit.of(key[i], index[i])], 1u);
    }
    __syncthreads();
    counts[t * tiles + blockIdx.x] = count[t];
}

// A warp for each digit: counts become sums over the tiles before, totals[digit] over all.
__global__ void __launch_bounds__(threads) add_counts(uint32_t *counts, uint32_t *totals, int64_t tiles) {
    const int t = int(threadIdx.x) % 32, digit = int(blockIdx.x) * warps + int(threadIdx.x) / 32;
    uint32_t *mine = counts + digit * tiles, running = 0;
    for (int64_t first = 0; first < tiles; first += 32) {
        const uint32_t count = first + t < tiles ? mine[first + t] : 0, sum = sum_to_lane(count);
        if (first + t < tiles) mine[first + t] = running + sum - count;
        running += __shfl_sync(whole, sum, 31);
    }
    if (t == 0) totals[digit] = running;
}

// Each pair to its place. Warp w has the pairs 256 w .. 256 w + 255 of the tile, 32 at a time. The last pass gives
// the indices alone, to `sorted`.
__global__ void __launch_bounds__(threads)
place_pairs(uint64_t *key_out, uint32_t *index_out, int64_t *sorted, const uint64_t *key, const uint32_t *index,
            const uint32_t *counts, const uint32_t *totals, int64_t n, int64_t tiles, Digit digit) {
    __shared__ uint32_t seen[warps][digits];
    const int t = int(threadIdx.x), lane = t % 32, warp = t / 32;
    for (int w = 0; w < warps; ++w) seen[w][t] = 0;
    uint32_t place = sum_before(totals[t]) + counts[t * tiles + blockIdx.x];
    __syncthreads();
    const int64_t first = int64_t(blockIdx.x) * tile + warp * (tile / warps) + lane;
    uint64_t keys[per_thread];
    uint32_t indices[per_thread], offset[per_thread];
    DK_UNROLL
    for (int k = 0; k < per_thread; ++k) {
        const int64_t i = first + k * 32;
        const bool there = i < n;
        keys[k] = there ? key[i] : 0, indices[k] = there ? index[i] : 0;
        const int d = digit.of(keys[k], indices[k]);
        uint32_t same = __ballot_sync(whole, there);  // the lanes with the same digit
        for (int b = 0; b < 8; ++b) {
            const uint32_t set = __ballot_sync(whole, d >> b & 1);
            same &= d >> b & 1 ? set : ~set;
        }
        const uint32_t before = __popc(same & ((1u << lane) - 1)), earlier = seen[warp][d];
        __syncwarp();
        if (there && before == 0) seen[warp][d] = earlier + __popc(same);
        __syncwarp();
        offset[k] = earlier + before;
    }
    __syncthreads();
    for (int w = 0; w < warps; ++w) {
        const uint32_t count = seen[w][t];
        seen[w][t] = place;
        place += count;
    }
    __syncthreads();
    DK_UNROLL
    for (int k = 0; k < per_thread; ++k) {
        if (first + k * 32 >= n) continue;
        const uint32_t to = seen[warp][digit.of(keys[k], indices[k])] + offset[k];
        if (sorted)
            sorted[to] = indices[k];
        else
            key_out[to] = keys[k], index_out[to] = indices[k];
    }
}

}  // namespace sorted_pairs
}  // namespace dk

#if DK_HOST
#include "../native/diva_kernels.h"
#include "launch.h"

namespace dk {
namespace sorted_pairs {

// Room for up to `most` pairs, 0 < most < 2^32, and as many again.
class Pairs {
  public:
    explicit Pairs(int64_t most) : most_(most), memory_(size_t(most) * 24 + size_t(digits) * size_t(tiles_of(most) + 1) * 4) {
        key = memory_.as<uint64_t>();
        index = reinterpret_cast<uint32_t *>(key + 2 * most);
    }
    explicit operator bool() const { return bool(memory_); }
    uint64_t *key;  // to be filled, with the indices 0 .. n - 1
    uint32_t *index;

    // sorted = the indices of n pairs by (key, index); row_length > 0: by (index / row_length, key, index).
    int32_t sort(int64_t *sorted, int64_t n, int64_t row_length = 0) const {
        const int64_t tiles = tiles_of(n), rows = row_length ? (n + row_length - 1) / row_length : 1;
        uint32_t *counts = index + 2 * most_, *totals = counts + digits * tiles;
        int passes = 8;
        while (passes < 12 && (int64_t(1) << (8 * (passes - 8))) < rows) ++passes;
        for (int pass = 0; pass < passes; ++pass) {
            const Digit digit{8 * (pass % 8), pass < 8 ? 0 : uint32_t(row_length)};
            const int64_t from = pass % 2 * most_, to = most_ - from;
            const dim3 grid = dim3(unsigned(tiles));
            int32_t status = launch<count_digits>(grid, threads, counts, key + from, index + from, n, tiles, digit);
            if (!status) status = launch<add_counts>(digits / warps, threads, counts, totals, tiles);
            if (!status)
                status = launch<place_pairs>(grid, threads, key + to, index + to, pass + 1 == passes ? sorted : nullptr,
                                             key + from, index + from, counts, totals, n, tiles, digit);
            if (status) return status;
        }
        return DK_OK;
    }

  private:
    static int64_t tiles_of(int64_t n) { return (n + tile - 1) / tile; }
    const int64_t most_;
    Scratch memory_;
};

}  // namespace sorted_pairs
}  // namespace dk
#endif
