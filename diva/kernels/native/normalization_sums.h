// The sums that normalisations take: of one row, of a channel in planes, and of pairs of terms in one visit.
#pragma once

#include <cstdlib>

#include "pool.h"
#include "reduce.h"
#include "vec.h"

namespace dk {

// On a lambda: its body is part of the loop that calls it, for accumulators passed to a function would live in memory.
#define DK_IN_PLACE __attribute__((always_inline))

constexpr int64_t normalization_piece = 1 << 15;  // elements that are worth a thread

// Two sums of the same terms' places, visited once where there are registers for both.
template <class T> struct lanes64_pair {
    lanes64<T> a{}, b{};
    template <class A, class B> DK_INLINE void advance(const A &step_a, const B &step_b, int64_t begin, int64_t end) {
        if constexpr (vector_bytes < 64) {
            a.advance(step_a, begin, end);
            b.advance(step_b, begin, end);
        } else {
            int64_t i = begin;
            for (; i + reduce_lanes <= end; i += reduce_lanes) a.all.advance(step_a, i), b.all.advance(step_b, i);
            if (i < end) a.all.advance(step_a, i, end), b.all.advance(step_b, i, end);
        }
    }
};

template <class T> struct sums {
    T a, b;
};

// Both sums of n terms; pieces(lanes, begin, end) advances the pair over the terms begin .. end - 1, at most 4096.
// `results`: memory for 2 * blocks numbers, when n > 4096.
template <class T, class Pieces> DK_INLINE sums<T> reduce_pair(int64_t n, T *results, const Pieces &pieces) {
    int64_t blocks = (n + reduce_block_length - 1) / reduce_block_length;
    if (blocks <= 1) {
        lanes64_pair<T> lanes{};
        pieces(lanes, int64_t(0), n);
        return {lanes.a.fold(), lanes.b.fold()};
    }
    for (int64_t block = 0; block < blocks; ++block) {
        int64_t begin = block * reduce_block_length, end = begin + reduce_block_length;
        lanes64_pair<T> lanes{};
        pieces(lanes, begin, end < n ? end : n);
        results[block] = lanes.a.fold(), results[blocks + block] = lanes.b.fold();
    }
    return {reduce_sum(results, blocks), reduce_sum(results + blocks, blocks)};
}
inline int64_t pair_results(int64_t n) { return 2 * ((n + reduce_block_length - 1) / reduce_block_length); }

// One block of rows of V registers of columns, both sums: as column_lanes of reduce.h, n >= 64.
template <class T, int V, class A, class B>
DK_INLINE void pair_lanes(int64_t begin, int64_t n, int64_t c, const A &step_a, const B &step_b, T *out_a, T *out_b) {
    using R = registers<T, V>;
    constexpr int64_t width = V * lanes<T>;
    alignas(64) T lane[2][reduce_lanes * width];
    int64_t first = 0;
    for (; first + 4 * reduce_lanes <= n; first += 4 * reduce_lanes) {
        for (int64_t j = 0; j < reduce_lanes; ++j) {
            R a{}, b{};
            if (first) a.load_from(lane[0] + j * width), b.load_from(lane[1] + j * width);
            for (int64_t r = begin + first + j, k = 0; k < 4; ++k, r += reduce_lanes)
                a.advance_columns(step_a, r, c), b.advance_columns(step_b, r, c);
            a.store_to(lane[0] + j * width), b.store_to(lane[1] + j * width);
        }
    }
    for (; first < n; ++first) {
        R a, b;
        T *here = lane[0] + first % reduce_lanes * width, *there = lane[1] + first % reduce_lanes * width;
        a.load_from(here), b.load_from(there);
        a.advance_columns(step_a, begin + first, c), b.advance_columns(step_b, begin + first, c);
        a.store_to(here), b.store_to(there);
    }
    for (int64_t w = reduce_lanes / 2; w; w /= 2)
        for (int64_t j = 0; j < w; ++j)
            for (T *half : lane) {
                R a, b;
                a.load_from(half + j * width), b.load_from(half + (j + w) * width);
                (a + b).store_to(half + j * width);
            }
    R a, b;
    a.load_from(lane[0]), b.load_from(lane[1]);
    a.store_to(out_a), b.store_to(out_b);
}

template <class T, class A, class B>
void pair_block(int64_t begin, int64_t n, int64_t c, int64_t end, const A &step_a, const B &step_b, T *out_a, T *out_b) {
    constexpr int V = vector_bytes == 64 ? 4 : 2, L = lanes<T>;
    if (n >= 8 * reduce_lanes) {
        for (; c + V * L <= end; c += V * L) pair_lanes<T, V>(begin, n, c, step_a, step_b, out_a + c, out_b + c);
        for (; c + L <= end; c += L) pair_lanes<T, 1>(begin, n, c, step_a, step_b, out_a + c, out_b + c);
    }
    if (c < end) {
        reduce_column_block(begin, n, c, end, step_a, out_a);
        reduce_column_block(begin, n, c, end, step_b, out_b);
    }
}

// REDUCE of each of `columns` columns of n rows, for two sums at once. False: no memory.
template <class T, class A, class B>
bool reduce_column_pairs(int64_t n, int64_t columns, const A &step_a, const B &step_b, T *out_a, T *out_b) {
    constexpr int64_t tile = 4 * lanes<T> > 16 ? 4 * lanes<T> : 16;
    int64_t tiles = (columns + tile - 1) / tile, blocks = (n + reduce_block_length - 1) / reduce_block_length;
    if (blocks <= 1) {
        parallel(tiles, 1 + normalization_piece / (tile * (n + 1)), [&](int64_t first, int64_t last) {
            int64_t end = last * tile < columns ? last * tile : columns;
            pair_block(0, n, first * tile, end, step_a, step_b, out_a, out_b);
        });
        return true;
    }
    int64_t half = blocks * columns;
    T *results = static_cast<T *>(std::malloc(size_t(2 * half) * sizeof(T)));
    if (!results) return false;
    parallel(blocks * tiles, 1, [&](int64_t first, int64_t last) {
        for (int64_t item = first; item < last; ++item) {
            int64_t b = item / tiles, c = item % tiles * tile, begin = b * reduce_block_length;
            int64_t rows = n - begin < reduce_block_length ? n - begin : reduce_block_length;
            int64_t end = c + tile < columns ? c + tile : columns;
            pair_block(begin, rows, c, end, step_a, step_b, results + b * columns, results + half + b * columns);
        }
    });
    bool done = reduce_columns(blocks, columns, column_terms<T>{results, columns}, out_a) &&
                reduce_columns(blocks, columns, column_terms<T>{results + half, columns}, out_b);
    std::free(results);
    return done;
}

}  // namespace dk
