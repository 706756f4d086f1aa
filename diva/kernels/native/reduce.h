// REDUCE of D3, for every kernel that sums: one row, rows in pieces, and many columns side by side.
//
// REDUCE(n terms): blocks of 4096; inside a block 64 lanes, lane j takes terms j, j + 64, j + 128, ... ascending from +0;
// then the tree a[j] += a[j + w] for w = 32, 16, ..., 1; the results of the blocks go through REDUCE again.
//
// What is summed is said by a `step`: step(acc, i) is the register `acc` after the terms i .. i + lanes<T> - 1, one per
// lane of the register; step(acc, i, count) the same where only `count` of them exist (the others are ignored). A generic
// lambda says both, since load() takes the count too:
//     sum:           [=](vec<T> acc, int64_t i, auto... count) { return acc + load(x + i, count...); }
//     REDUCE_fma:    [=](vec<T> acc, int64_t i, auto... count) { return fma(load(x + i, count...), load(y + i, count...), acc); }
//     column sums:   [=](vec<T> acc, int64_t r, int64_t c, auto... count) { return acc + load(x + r * stride + c, count...); }
#pragma once

#include <cstdlib>
#include <utility>

#include "pool.h"
#include "vec.h"

namespace dk {

constexpr int64_t reduce_block_length = 4096;
constexpr int reduce_lanes = 64;

// N registers as a tree of named members: an array of accumulators would live in memory.
template <class T, int N> struct registers {
    registers<T, N / 2> low, high;
    template <class Step> DK_INLINE void advance(const Step &step, int64_t i) {
        low.advance(step, i);
        high.advance(step, i + N / 2 * lanes<T>);
    }
    // As far as terms exist: those from i up to `end`.
    template <class Step> DK_INLINE void advance(const Step &step, int64_t i, int64_t end) {
        constexpr int64_t half = N / 2 * lanes<T>;
        if (end - i >= half) {
            low.advance(step, i);
            if (end - i > half) high.advance(step, i + half, end);
        } else {
            low.advance(step, i, end);
        }
    }
    template <class Step> DK_INLINE void advance_columns(const Step &step, int64_t r, int64_t c) {
        low.advance_columns(step, r, c);
        high.advance_columns(step, r, c + N / 2 * lanes<T>);
    }
    DK_INLINE registers operator+(const registers &o) const { return {low + o.low, high + o.high}; }
    DK_INLINE void load_from(const T *p) { low.load_from(p), high.load_from(p + N / 2 * lanes<T>); }
    DK_INLINE void store_to(T *p) const { low.store_to(p), high.store_to(p + N / 2 * lanes<T>); }
    DK_INLINE vec<T> fold() const { return (low + high).fold(); }
};
template <class T> struct registers<T, 1> {
    vec<T> v;
    template <class Step> DK_INLINE void advance(const Step &step, int64_t i) { v = step(v, i); }
    template <class Step> DK_INLINE void advance(const Step &step, int64_t i, int64_t end) {
        if (end - i >= lanes<T>) {
            v = step(v, i);
            return;
        }
        alignas(64) static constexpr bits_t<T> index[16] = {0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15};
        v = select<T>(load(index) < set(bits_t<T>(end - i)), step(v, i, end - i), v);
    }
    template <class Step> DK_INLINE void advance_columns(const Step &step, int64_t r, int64_t c) { v = step(v, r, c); }
    DK_INLINE registers operator+(const registers &o) const { return {v + o.v}; }
    DK_INLINE void load_from(const T *p) { v = load(p); }
    DK_INLINE void store_to(T *p) const { store(p, v); }
    DK_INLINE vec<T> fold() const { return v; }
};

// The tree inside one register: a[j] += a[j + w] for w = lanes / 2, ..., 1.
template <class V, int... I> DK_INLINE auto first_half(V v, std::integer_sequence<int, I...>) {
    return __builtin_shufflevector(v, v, I...);
}
template <class V, int... I> DK_INLINE auto second_half(V v, std::integer_sequence<int, I...>) {
    return __builtin_shufflevector(v, v, (I + int(sizeof...(I)))...);
}
template <class T, int N, class V> DK_INLINE T fold_lanes(V v) {
    if constexpr (N == 1) {
        return v[0];
    } else {
        using half = std::make_integer_sequence<int, N / 2>;
        return fold_lanes<T, N / 2>(first_half(v, half{}) + second_half(v, half{}));
    }
}

// The same trees for a register of rows at once: v[r] is row r's register; lane r of the result is its fold. Each step joins
// two registers: the first halves of all their segments plus the second halves, a segment for each row.
template <int N, int segment, int at, class V, int... I>
DK_INLINE V halves_of(V a, V b, std::integer_sequence<int, I...>) {
    return __builtin_shufflevector(a, b, (I / (segment / 2) * segment + I % (segment / 2) + at * (segment / 2))...);
}
template <class T, int rows> DK_INLINE vec<T> fold_rows(const vec<T> *v) {
    if constexpr (rows == 1) {
        return v[0];
    } else {
        constexpr int L = lanes<T>, segment = 2 * L / rows;
        using all = std::make_integer_sequence<int, L>;
        vec<T> a = fold_rows<T, rows / 2>(v), b = fold_rows<T, rows / 2>(v + rows / 2);
        return halves_of<L, segment, 0>(a, b, all{}) + halves_of<L, segment, 1>(a, b, all{});
    }
}

// The 64 lanes of one block, for terms that come in pieces. Every piece but the last has a multiple of 64 terms.
template <class T> struct lanes64 {
    registers<T, reduce_lanes / lanes<T>> all{};
    template <class Step> DK_INLINE void advance(const Step &step, int64_t begin, int64_t end) {
        int64_t i = begin;
        for (; i + reduce_lanes <= end; i += reduce_lanes) all.advance(step, i);
        if (i < end) all.advance(step, i, end);
    }
    DK_INLINE T fold() const { return fold_lanes<T, lanes<T>>(all.fold()); }
};

// lanes<T> rows of n <= 4096 terms each, step_of(r) the step of row r: lane r of the result is its REDUCE.
template <class T, class StepOf> DK_INLINE vec<T> reduce_rows(int64_t n, const StepOf &step_of) {
    vec<T> v[lanes<T>];
    for (int r = 0; r < lanes<T>; ++r) {
        lanes64<T> lanes{};
        lanes.advance(step_of(r), 0, n);
        v[r] = lanes.all.fold();
    }
    return fold_rows<T, lanes<T>>(v);
}

// One block: terms begin .. end - 1, at most 4096.
template <class T, class Step> DK_INLINE T reduce_block(int64_t begin, int64_t end, const Step &step) {
    lanes64<T> lanes{};
    lanes.advance(step, begin, end);
    return lanes.fold();
}

// REDUCE of n numbers in a row of memory.
template <class T> __attribute__((noinline)) T reduce_sum(const T *x, int64_t n);

// REDUCE of n blocks' results, block(b) for each; n <= 4096 * 4096.
template <class T, class Block> T reduce_blocks(int64_t n, const Block &block) {
    T results[reduce_block_length], outer[reduce_block_length];
    int64_t groups = 0;
    for (int64_t first = 0; first < n; first += reduce_block_length) {
        int64_t count = n - first < reduce_block_length ? n - first : reduce_block_length;
        for (int64_t b = 0; b < count; ++b) results[b] = block(first + b);
        outer[groups++] = reduce_sum(results, count);
    }
    return groups == 1 ? outer[0] : reduce_sum(outer, groups);
}

// REDUCE of n terms, on this thread.
template <class T, class Step> DK_INLINE T reduce_row(int64_t n, const Step &step) {
    if (n <= reduce_block_length) return reduce_block<T>(0, n, step);
    return reduce_blocks<T>((n + reduce_block_length - 1) / reduce_block_length, [&](int64_t b) {
        int64_t begin = b * reduce_block_length, end = begin + reduce_block_length;
        return reduce_block<T>(begin, end < n ? end : n, step);
    });
}

template <class T> __attribute__((noinline)) T reduce_sum(const T *x, int64_t n) {
    return reduce_row<T>(n, [=](vec<T> acc, int64_t i, auto... count) { return acc + load(x + i, count...); });
}
template <class T> __attribute__((noinline)) T reduce_dot(const T *x, const T *y, int64_t n) {
    return reduce_row<T>(n, [=](vec<T> acc, int64_t i, auto... count) {
        return fma(load(x + i, count...), load(y + i, count...), acc);
    });
}

// --- columns: term r of column c, many columns at a time, one column per lane of a register ---

// V registers of columns from c on, one block of rows: begin .. begin + n - 1, n <= 4096; results to `out`.
// The lanes of REDUCE are taken in the order in which the tree joins them, so that few are open at a time.
template <class T, int V, class Step> DK_INLINE registers<T, V> column_tree(int64_t begin, int64_t n, int64_t c, const Step &step) {
    using R = registers<T, V>;
    int64_t width = reduce_lanes;
    while (width > 4 && width / 2 >= n) width /= 2;  // lanes beyond are +0
    R open[5];
    int depth = 0, bits = width > 4 ? __builtin_ctzll(uint64_t(width / 4)) : 0;
    for (int64_t k = 0; k < width / 4; ++k) {
        int64_t lane = 0;
        for (int b = 0; b < bits; ++b) lane |= (k >> b & 1) << (bits - 1 - b);
        R p{}, q{}, r{}, s{};
        int64_t i = lane, end = n - width * 3 / 4;
        for (; i < end; i += reduce_lanes) {
            p.advance_columns(step, begin + i, c);
            q.advance_columns(step, begin + i + width / 2, c);
            r.advance_columns(step, begin + i + width / 4, c);
            s.advance_columns(step, begin + i + width * 3 / 4, c);
        }
        if (i < n) p.advance_columns(step, begin + i, c);
        if (i + width / 2 < n) q.advance_columns(step, begin + i + width / 2, c);
        if (i + width / 4 < n) r.advance_columns(step, begin + i + width / 4, c);
        R joined = (p + q) + (r + s);
        for (int64_t t = k; t & 1; t >>= 1) joined = open[--depth] + joined;
        open[depth++] = joined;
    }
    return n < reduce_lanes ? open[0] + R{} : open[0];  // a lane without terms is +0, and so is a sum of zeros with it
}

// The same for many rows: the lanes in memory, rows in order, four rows of a lane per visit.
template <class T, int V, class Step>
DK_INLINE registers<T, V> column_lanes(int64_t begin, int64_t n, int64_t c, const Step &step) {
    using R = registers<T, V>;
    constexpr int64_t width = V * lanes<T>;
    alignas(64) T lane[reduce_lanes * width];
    int64_t first = 0;
    for (; first + 4 * reduce_lanes <= n; first += 4 * reduce_lanes) {
        for (int64_t j = 0; j < reduce_lanes; ++j) {
            R acc{};
            if (first) acc.load_from(lane + j * width);
            int64_t r = begin + first + j;
            acc.advance_columns(step, r, c);
            acc.advance_columns(step, r + reduce_lanes, c);
            acc.advance_columns(step, r + 2 * reduce_lanes, c);
            acc.advance_columns(step, r + 3 * reduce_lanes, c);
            acc.store_to(lane + j * width);
        }
    }
    for (; first < n; ++first) {
        R acc;
        T *here = lane + first % reduce_lanes * width;
        acc.load_from(here);
        acc.advance_columns(step, begin + first, c);
        acc.store_to(here);
    }
    for (int64_t w = reduce_lanes / 2; w; w /= 2) {
        for (int64_t j = 0; j < w; ++j) {
            R a, b;
            a.load_from(lane + j * width), b.load_from(lane + (j + w) * width);
            (a + b).store_to(lane + j * width);
        }
    }
    R result;
    result.load_from(lane);
    return result;
}

template <class T, int V, class Step> DK_INLINE registers<T, V> column_block(int64_t begin, int64_t n, int64_t c, const Step &step) {
    if (n < 8 * reduce_lanes) return column_tree<T, V>(begin, n, c, step);
    return column_lanes<T, V>(begin, n, c, step);
}

// One block of rows (begin .. begin + n - 1, n <= 4096) for the columns c .. end - 1, on this thread: out[0] for column c, ...
template <class T, class Step> void reduce_column_tile(int64_t begin, int64_t n, int64_t c, int64_t end, const Step &step, T *out) {
    constexpr int V = 4, L = lanes<T>;
    for (; c + V * L <= end; c += V * L, out += V * L) column_block<T, V>(begin, n, c, step).store_to(out);
    for (; c + L <= end; c += L, out += L) column_block<T, 1>(begin, n, c, step).store_to(out);
    if (c < end) {
        int64_t count = end - c;
        auto some = [&](vec<T> acc, int64_t r, int64_t column) { return step(acc, r, column, count); };
        store(out, column_block<T, 1>(begin, n, c, some).v, count);
    }
}
// The same with each result at its column's place in `out`.
template <class T, class Step> void reduce_column_block(int64_t begin, int64_t n, int64_t c, int64_t end, const Step &step, T *out) {
    reduce_column_tile(begin, n, c, end, step, out + c);
}

// REDUCE of the columns c .. end - 1, at most 4 * lanes<T> of them, of n rows (n <= 4096 * 4096) on this thread:
// out[0] for column c, ...
template <class T, class Step> void reduce_columns_here(int64_t n, int64_t c, int64_t end, const Step &step, T *out) {
    if (n <= reduce_block_length) return reduce_column_tile(0, n, c, end, step, out);
    auto blocks = [&](vec<T> acc, int64_t b, int64_t column, auto... count) {
        T sums[lanes<T>];
        int64_t begin = b * reduce_block_length, width = lanes<T>;
        if constexpr (sizeof...(count)) width = (count, ...);
        int64_t rows = n - begin < reduce_block_length ? n - begin : reduce_block_length;
        reduce_column_tile(begin, rows, column, column + width, step, sums);
        return acc + load(sums, width);
    };
    reduce_column_tile(0, (n + reduce_block_length - 1) / reduce_block_length, c, end, blocks, out);
}

// The columns of a matrix in memory.
template <class T> struct column_terms {
    const T *x;
    int64_t stride;
    DK_INLINE vec<T> operator()(vec<T> acc, int64_t r, int64_t c) const { return acc + load(x + r * stride + c); }
    DK_INLINE vec<T> operator()(vec<T> acc, int64_t r, int64_t c, int64_t count) const {
        return acc + load(x + r * stride + c, count);
    }
};

// REDUCE of each of `columns` columns of n rows, parallel over tiles of columns and blocks of rows. False: no memory.
template <class T, class Step> bool reduce_columns(int64_t n, int64_t columns, const Step &step, T *out) {
    constexpr int64_t tile = 4 * lanes<T> > 16 ? 4 * lanes<T> : 16;
    int64_t tiles = (columns + tile - 1) / tile, blocks = (n + reduce_block_length - 1) / reduce_block_length;
    if (blocks <= 1) {
        int64_t grain = 1 + 65536 / (tile * (n + 1));
        parallel(tiles, grain, [&](int64_t first, int64_t last) {
            reduce_column_block(0, n, first * tile, last * tile < columns ? last * tile : columns, step, out);
        });
        return true;
    }
    T *results = static_cast<T *>(std::malloc(size_t(blocks) * size_t(columns) * sizeof(T)));
    if (!results) return false;
    parallel(blocks * tiles, 1, [&](int64_t first, int64_t last) {
        for (int64_t item = first; item < last; ++item) {
            int64_t b = item / tiles, c = item % tiles * tile, begin = b * reduce_block_length;
            int64_t rows = n - begin < reduce_block_length ? n - begin : reduce_block_length;
            reduce_column_block(begin, rows, c, c + tile < columns ? c + tile : columns, step, results + b * columns);
        }
    });
    bool done = reduce_columns(blocks, columns, column_terms<T>{results, columns}, out);
    std::free(results);
    return done;
}

}  // namespace dk
