// The kernels of normalisation whose statistics are over columns: channels last, and layer norm's weights.
//
// Up to 4096 rows take one launch; more of them three, or two backward, with sums of blocks of 4096 rows kept between them.
#pragma once

#include "normalization_segments.h"
#include "reduce_columns.h"

namespace dk {

template <class T> struct ColumnSquares {
    const T *x;  // at the column
    int64_t stride;
    T mean;
    DK_INLINE T get(int64_t row) const { return x[row * stride]; }
    DK_INLINE void add(T (&acc)[1], T term) const { acc[0] = fma(term - mean, term - mean, acc[0]); }
};

// Statistics and y of a tile of columns, of up to 4096 rows. Columns are the segments of `a`.
template <class T> __global__ void __launch_bounds__(column_threads) normalise_columns(Normalise<T> a, int64_t rows) {
    __shared__ T shared[column_shared];
    const int64_t columns = a.segments;
    const ColumnShare here(rows, columns);
    const int64_t c = here.column;
    T sum[1], squares[1];
    column_sums(sum, 0, here.rows, here.inside, ColumnTerms<T>{a.x + c, columns}, shared);
    const T mean = sum[0] / T(rows);
    column_sums(squares, 0, here.rows, here.inside, ColumnSquares<T>{a.x + c, columns, mean}, shared);
    if (!here.inside) return;
    if (lane_of_thread() == 0) a.keep(c, mean, squares[0], rows);
    if (!a.y) return;
    const T inv = a.inverse(squares[0], T(rows)), w = a.weight ? a.weight[c] : T(1), b = a.bias ? a.bias[c] : T(0);
    for (int64_t at = lane_of_thread() * columns + c; at < rows * columns; at += reduce_lanes * columns)
        a.y[at] = fma((a.x[at] - mean) * inv, w, b);
}

// First launch of many rows: the sum of each block of them.
template <class T> __global__ void __launch_bounds__(column_threads) sum_columns(T *sums, const T *x, int64_t rows, int64_t columns) {
    __shared__ T shared[column_shared];
    const ColumnShare here(rows, columns);
    T sum[1];
    column_sums(sum, here.begin, here.rows, here.inside, ColumnTerms<T>{x + here.column, columns}, shared);
    if (here.inside && lane_of_thread() == 0) sums[here.block * columns + here.column] = sum[0];
}

// Second: the mean from them, and REDUCE_fma(d, d) of each block.
template <class T>
__global__ void __launch_bounds__(column_threads)
square_columns(T *squares, T *means, const T *sums, const T *x, int64_t rows, int64_t columns) {
    __shared__ T shared[column_shared];
    const ColumnShare here(rows, columns);
    const int64_t blocks = (rows + reduce_block_length - 1) / reduce_block_length;
    const T mean = column_total(sums + here.column, blocks, columns, here.inside, shared) / T(rows);
    T sum[1];
    column_sums(sum, here.begin, here.rows, here.inside, ColumnSquares<T>{x + here.column, columns, mean}, shared);
    if (!here.inside || lane_of_thread()) return;
    squares[here.block * columns + here.column] = sum[0];
    if (here.block == 0) means[here.column] = mean;
}

// What is written, is written in tiles of 32 columns, by 16 warps.
constexpr int wide = 32, wide_rows = column_threads / wide;

// REDUCE of up to 4096 numbers for each of 32 columns, in every thread of the column: warp w has the lanes w + 16 m.
template <class T> DK_INLINE T fold_wide(const T (&acc)[4], T *shared) {
    const int column = int(threadIdx.x) % wide;
    shared[threadIdx.x] = (acc[0] + acc[2]) + (acc[1] + acc[3]);
    __syncthreads();
    T a[8];
    DK_UNROLL
    for (int j = 0; j < 8; ++j) a[j] = shared[j * wide + column] + shared[(j + 8) * wide + column];
    __syncthreads();
    return ((a[0] + a[4]) + (a[2] + a[6])) + ((a[1] + a[5]) + (a[3] + a[7]));
}
template <class T> DK_INLINE T wide_total(const T *x, int64_t n, int64_t stride, bool inside, T *shared) {
    const int warp = int(threadIdx.x) / wide;
    T outer[4] = {0, 0, 0, 0}, sum = 0;
    for (int64_t begin = 0, b = 0; begin < n; begin += reduce_block_length, ++b) {
        const int64_t end = n - begin < reduce_block_length ? n : begin + reduce_block_length;
        T acc[4] = {0, 0, 0, 0};
        for (int64_t r = begin + warp; inside && r < end; r += reduce_lanes) {
            DK_UNROLL
            for (int m = 0; m < 4; ++m)
                if (r + 16 * m < end) acc[m] = acc[m] + x[(r + 16 * m) * stride];
        }
        sum = fold_wide(acc, shared);
        DK_UNROLL
        for (int m = 0; m < 4; ++m)
            if (b % reduce_lanes == warp + 16 * m) outer[m] = outer[m] + sum;
    }
    return n <= reduce_block_length ? sum : fold_wide(outer, shared);
}

// A thread's place among the tiles of 32 columns, in which rows are of `units` pieces (a power of 2) of V columns.
template <int V> struct WideShare {
    int64_t column, row, end, tile;
    int rows;  // from one visit of this thread to the next
    bool first;
    DK_INLINE WideShare(int64_t n, int64_t columns, int64_t length, int units) {
        const int64_t tiles = (columns + wide - 1) / wide, part = quotient(int64_t(blockIdx.x), tiles);
        tile = (int64_t(blockIdx.x) - part * tiles) * wide, first = part == 0;
        rows = column_threads / units;
        column = tile + (int(threadIdx.x) & (units - 1)) * V;
        row = part * length + int(threadIdx.x) / units;
        end = part * length + length < n ? part * length + length : n;
        if (column >= columns) end = 0;
    }
};
template <int V, class T> DK_INLINE several<T, V> of_columns(const T *shared, int64_t column) {
    several<T, V> a;
    DK_UNROLL
    for (int k = 0; k < V; ++k) a.v[k] = shared[column % wide + k];
    return a;
}

// Last: y of `length` rows of 32 columns. The sums of squares' blocks, and the means, are in memory; or both statistics are
// given.
template <class T, int V>
__global__ void __launch_bounds__(column_threads)
write_columns(Normalise<T> a, const T *squares, const T *means, int64_t rows, int64_t length, int32_t units) {
    __shared__ T shared[column_threads], constants[4][wide];
    const int64_t columns = a.segments, blocks = (rows + reduce_block_length - 1) / reduce_block_length;
    const WideShare<V> here(rows, columns, length, units);
    const int t = int(threadIdx.x) % wide;
    const int64_t c = here.tile + t;
    T total = 0;
    if (!a.given) total = wide_total(squares + c, blocks, columns, c < columns, shared);
    if (threadIdx.x < wide && c < columns) {
        const T mean = a.given ? a.running_mean[c] : means[c];
        constants[0][t] = mean;
        constants[1][t] = a.given ? T(1) / sqrt(a.running_var[c] + a.eps) : a.inverse(total, T(rows));
        constants[2][t] = a.weight ? a.weight[c] : T(1);
        constants[3][t] = a.bias ? a.bias[c] : T(0);
        if (!a.given && here.first) a.keep(c, mean, total, rows);
    }
    __syncthreads();
    if (!a.y) return;
    const several<T, V> m = of_columns<V>(constants[0], here.column), s = of_columns<V>(constants[1], here.column);
    const several<T, V> w = of_columns<V>(constants[2], here.column), b = of_columns<V>(constants[3], here.column);
    for (int64_t r = here.row; r < here.end; r += here.rows) {
        several<T, V> v = load_several<V>(a.x + r * columns + here.column);
        DK_UNROLL
        for (int k = 0; k < V; ++k) v.v[k] = fma((v.v[k] - m.v[k]) * s.v[k], w.v[k], b.v[k]);
        store_several(a.y + r * columns + here.column, v);
    }
}

// Both sums of a column: the statistics are the column's, or with `of_rows` the rows'.
template <class T, bool of_rows> struct ColumnAscent {
    const T *g, *x;  // at the column
    int64_t stride;
    const T *means, *invs;  // of rows
    T mean, inv;            // of the column
    DK_INLINE ColumnAscent(const Gradient<T> &a, int64_t column, bool inside)
        : g(a.g + column), x(a.x + column), stride(a.segments), means(a.mean), invs(a.second), mean(0), inv(0) {
        if (!of_rows && inside) mean = a.mean[column], inv = a.inverse(column);
    }
    struct Terms {
        T v, x, mean, inv;
    };
    DK_INLINE Terms get(int64_t row) const {
        return {g[row * stride], x[row * stride], of_rows ? means[row] : mean, of_rows ? invs[row] : inv};
    }
    DK_INLINE void add(T (&acc)[2], const Terms &a) const {
        acc[0] = acc[0] + a.v;
        acc[1] = fma(a.v, (a.x - a.mean) * a.inv, acc[1]);
    }
};

// Both sums of each block of rows; of one block, they are the gradients.
template <class T, bool of_rows>
__global__ void __launch_bounds__(column_threads) gradient_column_blocks(T *across, T *along, Gradient<T> a, int64_t rows) {
    __shared__ T shared[2 * column_shared];
    const ColumnShare here(rows, a.segments);
    T sums[2];
    column_sums(sums, here.begin, here.rows, here.inside, ColumnAscent<T, of_rows>(a, here.column, here.inside), shared);
    if (!here.inside || lane_of_thread()) return;
    if (across) across[here.block * a.segments + here.column] = sums[0];
    if (along) along[here.block * a.segments + here.column] = sums[1];
}

// Both sums of a few rows, a thread for each column.
template <class T, bool of_rows>
__global__ void __launch_bounds__(128) gradient_short_columns(Gradient<T> a, int64_t rows) {
    const int64_t column = int64_t(blockIdx.x) * 128 + int(threadIdx.x);
    if (column >= a.segments) return;
    T sums[2];
    thread_sums(sums, 0, int(rows), ColumnAscent<T, of_rows>(a, column, true));
    keep_sums(a, column, sums);
}

// The gradients from the blocks' sums.
template <class T>
__global__ void __launch_bounds__(column_threads) fold_column_blocks(const T *across, const T *along, Gradient<T> a, int64_t blocks) {
    __shared__ T shared[column_shared];
    const ColumnShare here(1, a.segments);
    T sums[2];
    sums[0] = column_total(across + here.column, blocks, a.segments, here.inside, shared);
    sums[1] = column_total(along + here.column, blocks, a.segments, here.inside, shared);
    if (here.inside && lane_of_thread() == 0) keep_sums(a, here.column, sums);
}

// Both sums and dx of a tile of columns, of up to 4096 rows.
template <class T> __global__ void __launch_bounds__(column_threads) gradient_columns(Gradient<T> a, int64_t rows) {
    __shared__ T shared[2 * column_shared];
    const int64_t columns = a.segments;
    const ColumnShare here(rows, columns);
    const int64_t c = here.column;
    const ColumnAscent<T, false> of(a, c, here.inside);
    T sums[2] = {0, 0};
    if (a.summed) column_sums(sums, 0, here.rows, here.inside, of, shared);
    if (!here.inside) return;
    if (lane_of_thread() == 0) keep_sums(a, c, sums);
    if (!a.dx) return;
    const T outer = a.weight ? of.inv * a.weight[c] : of.inv * T(1), across = sums[0] / T(rows), along = sums[1] / T(rows);
    for (int64_t at = lane_of_thread() * columns + c; at < rows * columns; at += reduce_lanes * columns) {
        const T v = a.g[at];
        a.dx[at] = a.training ? outer * fma(-((a.x[at] - of.mean) * of.inv), along, v - across) : v * outer;
    }
}

// Last: dx of `length` rows of 32 columns, from the blocks' sums; the sums are kept.
template <class T, int V>
__global__ void __launch_bounds__(column_threads)
write_gradient_columns(Gradient<T> a, const T *across, const T *along, int64_t rows, int64_t length, int32_t units) {
    __shared__ T shared[column_threads], constants[5][wide];
    const int64_t columns = a.segments, blocks = (rows + reduce_block_length - 1) / reduce_block_length;
    const WideShare<V> here(rows, columns, length, units);
    const int t = int(threadIdx.x) % wide;
    const int64_t c = here.tile + t;
    T sums[2] = {0, 0};
    if (a.summed) {
        sums[0] = wide_total(across + c, blocks, columns, c < columns, shared);
        sums[1] = wide_total(along + c, blocks, columns, c < columns, shared);
    }
    if (threadIdx.x < wide && c < columns) {
        const T inv = a.inverse(c);
        constants[0][t] = a.mean[c], constants[1][t] = inv;
        constants[2][t] = a.weight ? inv * a.weight[c] : inv * T(1);
        constants[3][t] = sums[0] / T(rows), constants[4][t] = sums[1] / T(rows);
        if (here.first) keep_sums(a, c, sums);
    }
    __syncthreads();
    if (!a.dx) return;
    const several<T, V> m = of_columns<V>(constants[0], here.column), s = of_columns<V>(constants[1], here.column);
    const several<T, V> outer = of_columns<V>(constants[2], here.column), b = of_columns<V>(constants[3], here.column);
    const several<T, V> w = of_columns<V>(constants[4], here.column);
    for (int64_t r = here.row; r < here.end; r += here.rows) {
        const int64_t at = r * columns + here.column;
        several<T, V> v = load_several<V>(a.g + at);
        if (a.training) {
            const several<T, V> x = load_several<V>(a.x + at);
            DK_UNROLL
            for (int k = 0; k < V; ++k)
                v.v[k] = outer.v[k] * fma(-((x.v[k] - m.v[k]) * s.v[k]), w.v[k], v.v[k] - b.v[k]);
        } else {
            DK_UNROLL
            for (int k = 0; k < V; ++k) v.v[k] = v.v[k] * outer.v[k];
        }
        store_several(a.dx + at, v);
    }
}

}  // namespace dk
