// Stable radix sort of (key, position) pairs on a GPU: least significant digit first, integers alone.
//
// W is uint32_t or uint64_t, whichever holds both keys and positions. A source says pair i: key(i), position(i); check(key)
// is called once for each. A pass sorts by one digit: within a tile pairs are ranked by votes of the warps, tiles and digits
// are placed by prefix sums of counts. Up to block_sort_most pairs one block does all passes, in one launch; more take three
// launches for each pass.
#pragma once

#include "device.h"

namespace dk {

constexpr unsigned all_lanes = 0xffffffffu;
constexpr int digit_bits_most = 8, digits_most = 256;
constexpr int tile_threads = 256, tile_rounds = 8, tile_size = tile_threads * tile_rounds;
constexpr int block_sort_threads = 1024;
template <class W> constexpr int block_sort_rounds = 64 / sizeof(W);
template <class W> constexpr int block_sort_most = block_sort_threads * block_sort_rounds<W>;

template <class W> struct StoredPairs {
    const W *keys, *positions;
    DK_INLINE W key(int64_t i) const { return keys[i]; }
    DK_INLINE W position(int64_t i) const { return positions[i]; }
    DK_INLINE void check(W) const {}
};

// Indices as keys; n_dest for those to be left out, n_dest + 1 for bad ones.
template <class W> struct IndexKeys {
    const int64_t *index;
    int64_t n_dest, skip;
    int32_t *fault;
    DK_INLINE W key(int64_t i) const {
        const int64_t d = index[i];
        return W(uint64_t(d) >= uint64_t(n_dest) ? n_dest + 1 : d == skip ? n_dest : d);
    }
    DK_INLINE void check(W key) const {
        if (key > W(n_dest)) *fault = 1;
    }
    DK_INLINE W position(int64_t i) const { return W(i); }
};

DK_INLINE unsigned lanes_below() { return (1u << (threadIdx.x % 32)) - 1; }

template <class W> DK_INLINE unsigned digit_of(W key, int shift, int bits) {
    return unsigned(key >> shift) & ((1u << bits) - 1);
}

// counts[digit] += 1 for each active lane of a warp, all of which call; lanes alike the first active one add once.
DK_INLINE void count_digit(uint32_t *counts, unsigned digit, bool active) {
    const unsigned mask = __ballot_sync(all_lanes, active);
    if (!mask) return;
    const int first = __ffs(int(mask)) - 1;
    const unsigned common = __shfl_sync(all_lanes, digit, first);
    const unsigned alike = __ballot_sync(all_lanes, active && digit == common);
    if (int(threadIdx.x) % 32 == first)
        atomicAdd(&counts[digit], uint32_t(__popc(alike)));
    else if (active && digit != common)
        atomicAdd(&counts[digit], uint32_t(1));
}

// The place of an active lane's digit among those of its warp so far, which `counts` holds; counts it. All lanes call.
DK_INLINE uint32_t rank_digit(uint32_t *counts, unsigned digit, int bits, bool active) {
    unsigned alike = __ballot_sync(all_lanes, active);
    for (int b = 0; b < bits; ++b) {
        const unsigned ones = __ballot_sync(all_lanes, digit >> b & 1);
        alike &= digit >> b & 1 ? ones : ~ones;
    }
    const uint32_t before = uint32_t(__popc(alike & lanes_below())), old = active ? counts[digit] : 0;
    __syncwarp();
    if (active && before == 0) counts[digit] = old + uint32_t(__popc(alike));
    __syncwarp();
    return old + before;
}

template <class N> DK_INLINE N warp_inclusive(N x) {
    for (int by = 1; by < 32; by *= 2) {
        const N below = __shfl_up_sync(all_lanes, x, by);
        if (int(threadIdx.x) % 32 >= by) x = N(x + below);
    }
    return x;
}

// The sum over the threads below this one, for the first `digits_most` threads of a block: those beyond have 0. `sums` has a
// place for each warp that has more. `total`: over all.
template <class N> DK_INLINE N block_exclusive(N x, N *sums, N &total) {
    constexpr int warps = digits_most / 32;
    const N inclusive = threadIdx.x < digits_most ? warp_inclusive(x) : N(0);  // whole warps either way
    __syncthreads();  // who read `sums` before is done
    if (threadIdx.x % 32 == 31 && threadIdx.x < digits_most) sums[threadIdx.x / 32] = inclusive;
    __syncthreads();
    N below = 0, all = 0;
    for (int w = 0; w < warps; ++w) {
        if (w == int(threadIdx.x) / 32) below = all;
        all = N(all + sums[w]);
    }
    total = all;
    return N(below + inclusive - x);
}

// All passes of at most block_sort_most pairs by one block. `pairs` holds n keys and n positions, twice: pass by pass they go
// to the first and to the second half in turn.
template <class W, class Source>
__global__ void __launch_bounds__(block_sort_threads, 1)
sort_block(const Source source, W *pairs, int n, int passes, int bits) {
    constexpr int warps = block_sort_threads / 32;
    __shared__ uint32_t counts[warps][digits_most];
    __shared__ uint32_t sums[digits_most / 32];
    const int t = int(threadIdx.x), warp = t / 32, each = (n + block_sort_threads - 1) / block_sort_threads;
    const int start = warp * each * 32, first = start + t % 32, past = start + each * 32 < n ? start + each * 32 : n;
    const int rounds = past > start ? (past - start + 31) / 32 : 0;  // of this warp
    for (int pass = 0; pass < passes; ++pass) {
        W *const from = pairs + (pass % 2 ? 0 : 2 * n), *const to = pairs + (pass % 2 ? 2 * n : 0);
        for (int d = t; d < warps * digits_most; d += block_sort_threads) counts[d / digits_most][d % digits_most] = 0;
        __syncthreads();
        uint32_t ranks[block_sort_rounds<W> / 2] = {};  // two in each: they are below 512
        DK_UNROLL for (int eight = 0; eight < block_sort_rounds<W>; eight += 8) {
            uint32_t digit[8];
            DK_UNROLL for (int r = 0; r < 8; ++r) {
                const int i = first + 32 * (eight + r);
                digit[r] = 0;
                if (i < past) {
                    const W key = pass ? from[i] : source.key(i);
                    if (!pass) source.check(key);
                    digit[r] = digit_of(key, pass * bits, bits);
                }
            }
            DK_UNROLL for (int r = 0; r < 8; ++r)
                if (eight + r < rounds)
                    ranks[(eight + r) / 2] |= rank_digit(counts[warp], digit[r], bits, first + 32 * (eight + r) < past) << 16 * (r % 2);
        }
        __syncthreads();
        uint32_t of_digit = 0, total;
        if (t < digits_most)
            for (int w = 0; w < warps; ++w) of_digit += counts[w][t];
        uint32_t before = block_exclusive(of_digit, sums, total);
        if (t < digits_most)
            for (int w = 0; w < warps; ++w) {
                const uint32_t mine = counts[w][t];
                counts[w][t] = before, before += mine;
            }
        __syncthreads();
        DK_UNROLL for (int r = 0; r < block_sort_rounds<W>; ++r) {
            const int i = first + 32 * r;
            if (i < past) {
                const W key = pass ? from[i] : source.key(i);
                const uint32_t at = counts[warp][digit_of(key, pass * bits, bits)] + (ranks[r / 2] >> 16 * (r % 2) & 0xffff);
                to[at] = key;
                to[n + at] = pass ? from[n + i] : source.position(i);
            }
        }
        __syncthreads();
    }
}

// counts[digit * tiles + tile] of a tile for each block.
template <class W, class Source>
__global__ void __launch_bounds__(tile_threads)
sort_count(const Source source, W *counts, int64_t n, int64_t tiles, int shift, int bits) {
    __shared__ uint32_t held[digits_most];
    const int64_t tile = int64_t(blockIdx.x), from = tile * tile_size;
    held[threadIdx.x] = 0;
    __syncthreads();
    W key[tile_rounds];
    DK_UNROLL for (int r = 0; r < tile_rounds; ++r) {
        const int64_t i = from + r * tile_threads + threadIdx.x;
        key[r] = i < n ? source.key(i) : W(0);
    }
    DK_UNROLL for (int r = 0; r < tile_rounds; ++r) {
        const bool active = from + r * tile_threads + threadIdx.x < n;
        if (active && shift == 0) source.check(key[r]);
        count_digit(held, digit_of(key[r], shift, bits), active);
    }
    __syncthreads();
    if (threadIdx.x < 1u << bits) counts[int64_t(threadIdx.x) * tiles + tile] = held[threadIdx.x];
}

// A block for each digit: counts become sums over the tiles before; totals[digit].
template <class W> __global__ void __launch_bounds__(tile_threads) sort_scan(W *counts, W *totals, int64_t tiles) {
    __shared__ W sums[digits_most / 32];
    W *mine = counts + int64_t(blockIdx.x) * tiles, before = 0, total;
    for (int64_t from = 0; from < tiles; from += tile_threads) {
        const int64_t i = from + threadIdx.x;
        const W below = block_exclusive<W>(i < tiles ? mine[i] : W(0), sums, total);
        if (i < tiles) mine[i] = before + below;
        before += total;
    }
    if (threadIdx.x == 0) totals[blockIdx.x] = before;
}

template <class W, class Source>
__global__ void __launch_bounds__(tile_threads)
sort_scatter(const Source source, W *keys, W *positions, const W *counts, const W *totals, int64_t n, int64_t tiles,
             int shift, int bits) {
    constexpr int warps = tile_threads / 32;
    __shared__ uint32_t held[warps][digits_most];
    __shared__ W start[digits_most], sums[digits_most / 32];
    const int t = int(threadIdx.x), warp = t / 32;
    const int64_t tile = int64_t(blockIdx.x), from = tile * tile_size + warp * (32 * tile_rounds) + t % 32;
    for (int w = 0; w < warps; ++w) held[w][t] = 0;
    __syncthreads();
    uint32_t place[tile_rounds];
    W key[tile_rounds];
    DK_UNROLL for (int r = 0; r < tile_rounds; ++r) key[r] = from + 32 * r < n ? source.key(from + 32 * r) : W(0);
    DK_UNROLL for (int r = 0; r < tile_rounds; ++r)
        place[r] = rank_digit(held[warp], digit_of(key[r], shift, bits), bits, from + 32 * r < n);
    const bool digit = t < 1 << bits;
    W all;
    const W below = block_exclusive<W>(digit ? totals[t] : W(0), sums, all);
    if (digit) {
        start[t] = below + counts[int64_t(t) * tiles + tile];
        uint32_t before = 0;
        for (int w = 0; w < warps; ++w) {
            const uint32_t mine = held[w][t];
            held[w][t] = before, before += mine;
        }
    }
    __syncthreads();
    DK_UNROLL for (int r = 0; r < tile_rounds; ++r) {
        if (from + 32 * r < n) {
            const unsigned d = digit_of(key[r], shift, bits);
            const W at = start[d] + held[warp][d] + place[r];
            keys[at] = key[r], positions[at] = source.position(from + 32 * r);
        }
    }
}

}  // namespace dk

#if DK_HOST
#include "../native/diva_kernels.h"
#include "launch.h"

namespace dk {

// Sorts n pairs, whose keys are below 2^key_bits, n < 2^31 * tile_size. Memory lives as long as this object.
template <class W> class Sort {
  public:
    Sort(int64_t n, int key_bits)
        : n_(n), passes_(key_bits < 1 ? 1 : (key_bits + digit_bits_most - 1) / digit_bits_most),
          bits_(key_bits < 1 ? 1 : (key_bits + passes_ - 1) / passes_), tiles_((n + tile_size - 1) / tile_size),
          memory_(size_t(4 * n + (n > block_sort_most<W> ? digits_most * (tiles_ + 1) : 0)) * sizeof(W)) {}
    explicit operator bool() const { return bool(memory_); }

    template <class Source> int32_t operator()(const Source &source) {
        W *pairs[2] = {memory_.template as<W>(), memory_.template as<W>() + 2 * n_}, *counts = pairs[0] + 4 * n_;
        sorted_ = pairs[(passes_ - 1) % 2];
        if (n_ <= block_sort_most<W>)
            return launch<sort_block<W, Source>>(1, block_sort_threads, source, pairs[0], int(n_), passes_, bits_);
        int32_t status = pass(source, pairs[0], counts, 0);
        for (int p = 1; p < passes_ && !status; ++p) {
            const W *from = pairs[(p - 1) % 2];
            status = pass(StoredPairs<W>{from, from + n_}, pairs[p % 2], counts, p * bits_);
        }
        return status;
    }

    const W *keys() const { return sorted_; }
    const W *positions() const { return sorted_ + n_; }

  private:
    template <class Source> int32_t pass(const Source &source, W *to, W *counts, int shift) {
        const unsigned tiles = unsigned(tiles_);
        W *totals = counts + digits_most * tiles_;
        int32_t status = launch<sort_count<W, Source>>(tiles, tile_threads, source, counts, n_, tiles_, shift, bits_);
        if (!status) status = launch<sort_scan<W>>(1u << bits_, tile_threads, counts, totals, tiles_);
        if (status) return status;
        return launch<sort_scatter<W, Source>>(tiles, tile_threads, source, to, to + n_, counts, totals, n_, tiles_, shift, bits_);
    }

    int64_t n_;
    int passes_, bits_;
    int64_t tiles_;
    Scratch memory_;
    W *sorted_ = nullptr;
};

// Bits of the largest of keys 0 .. last.
inline int bits_of_keys(uint64_t last) {
    int bits = 0;
    for (; last >> bits; ++bits)
        if (bits == 63) return 64;
    return bits;
}

}  // namespace dk
#endif
