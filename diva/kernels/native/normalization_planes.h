// A channel of a tensor of planes, as one run of numbers; and walks over columns with constants in registers.
#pragma once

#include "normalization_sums.h"

namespace dk {

template <class T> DK_INLINE void copy_run(T *to, const T *from, int64_t n) {
    int64_t i = 0;
    for (; i + lanes<T> <= n; i += lanes<T>) store(to + i, load(from + i));
    if (i < n) store(to + i, load(from + i, n - i), n - i);
}

// body(i, count...) for the registers of n numbers, the last with its count when it is not full.
template <class T, class Body> DK_INLINE void for_registers(int64_t n, const Body &body) {
    int64_t i = 0;
    for (; i + lanes<T> <= n; i += lanes<T>) body(i);
    if (i < n) body(i, n - i);
}

// Planes `stride` apart that REDUCE runs over as one row: each begins at lane 0, for there is one, or they are whole rows of
// 64. Otherwise they have to be gathered into one first.
struct Planes {
    int64_t n, space, stride;
    int64_t count() const { return n * space; }
    bool in_lanes() const { return n == 1 || space % reduce_lanes == 0; }
    Planes gathered() const { return {1, count(), 0}; }

    // body(offset, length) for the pieces of the terms begin .. end - 1.
    template <class Body> DK_INLINE void pieces(int64_t begin, int64_t end, const Body &body) const {
        int64_t plane = begin / space, at = begin - plane * space;
        while (begin < end) {
            int64_t run = space - at < end - begin ? space - at : end - begin;
            body(plane * stride + at, run);
            begin += run, ++plane, at = 0;
        }
    }
    template <class T> void gather(const T *x, T *to) const {
        for (int64_t i = 0; i < n; ++i, x += stride, to += space) copy_run(to, x, space);
    }
};

// REDUCE over planes; make(offset) gives the step of a piece. `results`: memory for a number per block.
template <class T, class Make> DK_INLINE T reduce_planes(const Planes &planes, T *results, const Make &make) {
    int64_t n = planes.count(), blocks = (n + reduce_block_length - 1) / reduce_block_length;
    for (int64_t block = 0; block < blocks; ++block) {
        int64_t begin = block * reduce_block_length, end = begin + reduce_block_length;
        lanes64<T> lanes{};
        planes.pieces(begin, end < n ? end : n,
                      [&](int64_t offset, int64_t length) DK_IN_PLACE { lanes.advance(make(offset), 0, length); });
        results[block] = lanes.fold();
    }
    return blocks == 1 ? results[0] : reduce_sum(results, blocks);
}

// f(offset, v...) for each register of a tile, v its share of each of the constants.
template <int N, class T, class F, class... C>
DK_INLINE void each_register(const F &f, int64_t offset, const registers<T, N> &first, const C &...more) {
    if constexpr (N == 1) {
        f(offset, first.v, more.v...);
    } else {
        each_register<N / 2, T>(f, offset, first.low, more.low...);
        each_register<N / 2, T>(f, offset + N / 2 * lanes<T>, first.high, more.high...);
    }
}

// For a matrix of columns: f(offset, constants..., count...) for each register of it; the constants are arrays with one number
// per column. Parallel over rows; a tile of columns keeps its constants in registers for some rows.
template <class T, class F, class... C> void for_columns(int64_t rows, int64_t columns, const F &f, const C *...constants) {
    constexpr int64_t L = lanes<T>, V = vector_bytes == 64 ? 4 : 1, visit = 64;
    parallel((rows + visit - 1) / visit, 1 + normalization_piece / (visit * columns + 1), [&](int64_t first, int64_t last) {
        for (int64_t begin = first * visit; begin < last * visit; begin += visit) {
            int64_t end = begin + visit < rows ? begin + visit : rows, c = 0;
            auto some = [&](auto v, int64_t c) {
                constexpr int N = decltype(v)::value;
                auto loaded = [&](const T *p) {
                    registers<T, N> r;
                    r.load_from(p + c);
                    return r;
                };
                auto run = [&](const auto &...held) {
                    for (int64_t r = begin; r < end; ++r) each_register<N, T>(f, r * columns + c, held...);
                };
                run(loaded(constants)...);
            };
            for (; c + V * L <= columns; c += V * L) some(std::integral_constant<int, int(V)>{}, c);
            for (; c + L <= columns; c += L) some(std::integral_constant<int, 1>{}, c);
            if (c < columns)
                for (int64_t r = begin; r < end; ++r) f(r * columns + c, load(constants + c, columns - c)..., columns - c);
        }
    });
}

}  // namespace dk
