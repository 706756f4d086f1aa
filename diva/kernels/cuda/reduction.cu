// Sums, norms, variances and products over any dimensions (native/reduction.h): rows by warps, columns by threads side by
// side. Both forms give the same bits; which is taken is a matter of neighbours in memory.
#include "device.h"

#include "../native/reduction_terms.h"
#include "reduce.h"
#include "reduction_shape.h"

namespace dk {
namespace rare {
enum Which { MAGNITUDES, NUMBERS, NONZEROS };

// The kinds that are rare share their kernels: which of them it is stands in the place of the center.
template <class T> struct Terms {
    static DK_INLINE vec<T> step(vec<T> acc, vec<T> x, vec<T> which) {
        if (which.v == T(MAGNITUDES)) return terms::Magnitudes<T>::step(acc, x, x);
        return which.v == T(NUMBERS) ? terms::Numbers<T>::step(acc, x, x) : terms::Nonzeros<T>::step(acc, x, x);
    }
};
}  // namespace rare

namespace reduction {

// What becomes of the sum: divided by a number, then its root. `middle`: the center where not each output has its own (0 for
// the squares of the numbers themselves: x - 0 is x).
struct Finish {
    double by = 1, middle = 0;
    bool divide = false, root = false;
    DK_INLINE Finish later() const { return {1, middle, false, false}; }  // the sums of parts stay as they are
    template <class T> DK_INLINE T operator()(T sum) const {
        if (divide) sum = sum / T(by);
        return root ? sqrt(sum) : sum;
    }
};

// --- rows ---

// n <= 32: a row by `width` threads, a power of 2 from n on. The lanes beyond are +0, and so is a sum of zeros with them.
template <class T, class K>
__global__ void __launch_bounds__(256) short_rows(T *out, const T *x, const T *center, Shape s, int width, Finish finish) {
    const int64_t o = (int64_t(blockIdx.x) * 256 + threadIdx.x) / width;
    const int k = int(threadIdx.x) % width;
    T a = 0;
    if (o < s.outputs && k < s.n) {
        int64_t ignored;
        const T *here = x + s.matrix(o, ignored);
        a = K::step(a, here[s.term(k)], center ? center[o] : T(finish.middle)).v;
    }
    for (int w = width / 2; w; w /= 2) a = a + __shfl_down_sync(whole_warp, a, w, width);
    if (k == 0 && o < s.outputs) out[o] = finish(a + T(0));
}

// One block of 4096 terms by a warp: step(acc, x) for the number x of a term.
template <class T, class Place, class Step>
DK_INLINE T reduce_terms(const T *x, int64_t begin, int64_t end, const Place &place, const Step &step) {
    if constexpr (!Place::plain) {
        return warp_reduce_block<T>(begin, end, [&](T acc, int64_t i) { return step(acc, x[place(i)]); });
    } else {
        T a[2] = {0, 0};
        int64_t i = begin + threadIdx.x % 32;
        DK_NO_UNROLL
        for (; i + 32 < end; i += reduce_lanes) {
            a[0] = step(a[0], x[place(i)]);
            a[1] = step(a[1], x[place(i + 32)]);
        }
        if (i < end) a[0] = step(a[0], x[place(i)]);
        return fold_warp(a[0], a[1]);
    }
}

// A warp for each block of 4096 terms of a row, `blocks` of a row; what they give to out[row blocks + block].
template <class T, class K>
__global__ void __launch_bounds__(256) rows(T *out, const T *x, const T *center, Shape s, int64_t blocks, Finish finish) {
    const int64_t item = int64_t(blockIdx.x) * (blockDim.x / 32) + threadIdx.x / 32;
    if (item >= s.outputs * blocks) return;
    const int64_t o = blocks == 1 ? item : item / blocks, begin = (item - o * blocks) * reduce_block_length;
    const int64_t end = begin + reduce_block_length < s.n ? begin + reduce_block_length : s.n;
    int64_t ignored;
    const T *here = x + s.matrix(o, ignored), m = center ? center[o] : T(finish.middle);
    with_places(s, [&](auto place) {
        const T sum = reduce_terms(here, begin, end, place, [=](T acc, T v) { return K::step(acc, v, m).v; });
        if (threadIdx.x % 32 == 0) out[item] = finish(sum);
    });
}

constexpr int long_row_warps = 16;

template <class T, class K>
__global__ void __launch_bounds__(32 * long_row_warps) long_rows(T *out, const T *x, const T *center, Shape s, Finish finish) {
    const int64_t o = blockIdx.x;
    int64_t ignored;
    const T *here = x + s.matrix(o, ignored), m = center ? center[o] : T(finish.middle);
    with_places(s, [&](auto place) {
        const T sum = block_reduce_by<T, long_row_warps>(s.n, [&](int64_t begin, int64_t end) {
            return reduce_terms(here, begin, end, place, [=](T acc, T v) { return K::step(acc, v, m).v; });
        });
        if (threadIdx.x == 0) out[o] = finish(sum);
    });
}

// Mean and variance of rows of at most 4096.
template <class T> __global__ void __launch_bounds__(256) variance_rows(T *var, T *mean, const T *x, Shape s, Finish finish) {
    const int64_t o = int64_t(blockIdx.x) * (blockDim.x / 32) + threadIdx.x / 32;
    if (o >= s.outputs) return;
    int64_t ignored;
    const T *here = x + s.matrix(o, ignored);
    with_places(s, [&](auto place) {
        const T m = reduce_terms(here, 0, s.n, place, [](T acc, T v) { return acc + v; }) / T(s.n);
        const T sum = reduce_terms(here, 0, s.n, place, [=](T acc, T v) { return terms::Deviations<T>::step(acc, v, m).v; });
        if (threadIdx.x % 32 == 0) mean[o] = m, var[o] = finish(sum);
    });
}

// --- columns ---

// The tree over the lanes j, j + w, j + 2 w, ... in registers.
template <int j, int w, int N, class T> DK_INLINE T fold_registers(const T (&a)[N]) {
    if constexpr (w == N)
        return a[j];
    else
        return fold_registers<j, 2 * w>(a) + fold_registers<j + w, 2 * w>(a);
}

// n <= N < 64, or N = 64 and n <= 4096; one reduced dimension: a column by one thread, the lanes in its registers.
template <class T, class K, int N>
__global__ void __launch_bounds__(256) thin_columns(T *out, const T *x, const T *center, Shape s, Finish finish) {
    const int64_t item = int64_t(blockIdx.x) * 256 + threadIdx.x;
    if (item >= s.outputs) return;
    const int64_t matrix = item / s.width, c = item - matrix * s.width, stride = s.dimensions[0].stride;
    int64_t to;
    const T *here = x + s.matrix(matrix, to) + c * s.column_stride;
    to += c * s.column_place;
    const T m = center ? center[to] : T(finish.middle);
    int left = int(s.n);
    T a[N];
    DK_UNROLL_ALL
    for (int j = 0; j < N; ++j) a[j] = j < left ? K::step(T(0), here[j * stride], m).v : T(0);
    if constexpr (N == reduce_lanes) {
        DK_NO_UNROLL
        for (left -= N; left > 0; left -= N) {
            here += N * stride;
            DK_UNROLL_ALL
            for (int j = 0; j < N; ++j)
                if (j < left) a[j] = K::step(a[j], here[j * stride], m).v;
        }
    }
    const T sum = fold_registers<0, 1>(a);
    out[to] = finish(N < reduce_lanes ? sum + T(0) : sum);
}

// A thread block for blockDim.x columns and a block of 4096 rows; thread y has the L lanes y, y + 64 / L, ... blocks > 1: the
// results are (blocks, outputs).
template <class T, class K, int L>
__global__ void __launch_bounds__(512) columns(T *out, const T *x, const T *center, Shape s, int64_t blocks, Finish finish) {
    __shared__ T sums[512];
    constexpr int ys = reduce_lanes / L, together = 8 / L;
    const int64_t tiles = (s.width + blockDim.x - 1) / blockDim.x, rest = blockIdx.x / tiles;
    const int64_t c = (blockIdx.x - rest * tiles) * blockDim.x + threadIdx.x, matrix = rest / blocks, b = rest - matrix * blocks;
    const int64_t end = (b + 1) * reduce_block_length < s.n ? (b + 1) * reduce_block_length : s.n;
    const int y = int(threadIdx.y), at = y * int(blockDim.x) + int(threadIdx.x);
    int64_t to;
    const T *here = x + s.matrix(matrix, to) + c * s.column_stride;
    to += c * s.column_place;
    T a[L] = {};
    if (c < s.width) {
        const T m = center ? center[to] : T(finish.middle);
        with_places(s, [&](auto place) {
            int64_t r = b * reduce_block_length + y;
            if constexpr (!decltype(place)::plain) {
                DK_NO_UNROLL
                for (; r + reduce_lanes * together - ys < end; r += reduce_lanes * together) {
                    DK_UNROLL
                    for (int k = 0; k < 8; ++k) a[k % L] = K::step(a[k % L], here[place(r + k * ys)], m).v;
                }
            }
            DK_NO_UNROLL
            for (; r < end; r += reduce_lanes) {
                DK_UNROLL
                for (int k = 0; k < L; ++k)
                    if (r + k * ys < end) a[k] = K::step(a[k], here[place(r + k * ys)], m).v;
            }
        });
    }
    sums[at] = fold_registers<0, 1>(a);
    for (int w = ys / 2; w; w /= 2) {
        __syncthreads();
        if (y < w) sums[at] = sums[at] + sums[at + w * int(blockDim.x)];
    }
    if (y || c >= s.width) return;
    if (blocks > 1)
        out[b * s.outputs + matrix * s.width + c] = sums[at];
    else
        out[to] = finish(sums[at]);
}

// --- products ---

constexpr int64_t product_chunk = 256;

// Chunks first .. first + count - 1 of an output by one thread, count = all of them or one; one: results are (chunks, outputs).
template <class T> __global__ void __launch_bounds__(128) products(T *out, const T *x, Shape s, int64_t parts, int by_column) {
    const int64_t item = int64_t(blockIdx.x) * 128 + threadIdx.x;
    if (item >= s.outputs * parts) return;
    const int64_t o = by_column ? item % s.outputs : item / parts, part = by_column ? item / s.outputs : item % parts;
    const int64_t last = parts == 1 || (part + 1) * product_chunk > s.n ? s.n : (part + 1) * product_chunk;
    int64_t ignored;
    const T *here = x + s.matrix(o, ignored);
    T total = 1;
    for (int64_t begin = part * product_chunk; begin < last; begin += product_chunk) {
        const int64_t end = begin + product_chunk < last ? begin + product_chunk : last;
        T p = 1;
        for (int64_t i = begin; i < end; ++i) p = p * here[s.term(i)];
        total = total * p;
    }
    out[part * s.outputs + o] = total;
}

template <class T> __global__ void __launch_bounds__(128) join_products(T *out, const T *partial, int64_t outputs, int64_t parts) {
    const int64_t o = int64_t(blockIdx.x) * 128 + threadIdx.x;
    if (o >= outputs) return;
    T total = 1;
    for (int64_t part = 0; part < parts; ++part) total = total * partial[part * outputs + o];
    out[o] = total;
}

}  // namespace reduction
}  // namespace dk

#if DK_HOST
#include "../native/diva_kernels.h"
#include "launch.h"

namespace dk {
namespace reduction {
namespace {

// Rows of which there are few get a multiprocessor each.
unsigned warps_for(int64_t items) { return items >= 2048 ? 8 : items >= 512 ? 2 : 1; }

Shape rows_of_results(int64_t outputs, int64_t blocks) {
    const int64_t sizes[] = {blocks, outputs}, strides[] = {1, blocks};
    return shape_of(Layout(1, 1, sizes, strides), -1);
}

template <class T, class K> int32_t reduce_rows(const Shape &s, T *out, const T *x, const T *center, Finish finish) {
    if (s.n <= 32) {
        int width = 1;
        while (width < s.n) width *= 2;
        return launch<short_rows<T, K>>(blocks_for(s.outputs * width, 256), 256, out, x, center, s, width, finish);
    }
    const int64_t blocks = reduce_block_count(s.n), items = s.outputs * blocks;
    const unsigned warps = warps_for(items);
    if (blocks == 1) return launch<rows<T, K>>(blocks_for(items, warps), 32 * warps, out, x, center, s, blocks, finish);
    if (blocks <= long_row_warps || s.outputs >= 128)
        return launch<long_rows<T, K>>(unsigned(s.outputs), 32 * long_row_warps, out, x, center, s, finish);
    Scratch results(size_t(items) * sizeof(T));
    if (!results) return DK_NO_MEMORY;
    int32_t status = launch<rows<T, K>>(blocks_for(items, warps), 32 * warps, results.as<T>(), x, center, s, blocks, finish.later());
    if (status) return status;
    return reduce_rows<T, terms::Sum<T>>(rows_of_results(s.outputs, blocks), out, results.as<T>(), nullptr, finish);
}

template <class T, class K> int32_t reduce_columns(const Shape &s, T *out, const T *x, const T *center, Finish finish) {
    if (s.n <= 16 && s.reduced == 1) return launch<thin_columns<T, K, 16>>(blocks_for(s.outputs, 256), 256, out, x, center, s, finish);
    if (s.reduced == 1 && (s.n <= 64 || (s.n <= reduce_block_length && s.outputs >= 65536)))
        return launch<thin_columns<T, K, 64>>(blocks_for(s.outputs, 256), 256, out, x, center, s, finish);
    const int64_t blocks = reduce_block_count(s.n), matrices = s.outputs / s.width;
    auto grid = [&](unsigned across) { return (s.width + across - 1) / across * blocks * matrices; };
    unsigned across = 32;  // columns side by side; fewer where there would be few thread blocks
    while (across > 8 && (across / 2 >= s.width || grid(across) < 256)) across /= 2;
    while (across / 2 >= s.width) across /= 2;
    auto go = [&](T *to, Finish last) {
        if (across > 8) return launch<columns<T, K, 4>>(unsigned(grid(across)), dim3(across, 16), to, x, center, s, blocks, last);
        return launch<columns<T, K, 1>>(unsigned(grid(across)), dim3(across, 64), to, x, center, s, blocks, last);
    };
    if (blocks == 1) return go(out, finish);
    Scratch results(size_t(blocks * s.outputs) * sizeof(T));
    if (!results) return DK_NO_MEMORY;
    if (int32_t status = go(results.as<T>(), finish.later())) return status;
    return reduce_columns<T, terms::Sum<T>>(shape_of_results(s, blocks), out, results.as<T>(), nullptr, finish);
}

template <class T, class K> int32_t reduce(const Layout &layout, T *out, const T *x, const T *center, Finish finish) {
    const int64_t column = column_of(layout);
    const Shape s = shape_of(layout, column);
    return column < 0 ? reduce_rows<T, K>(s, out, x, center, finish) : reduce_columns<T, K>(s, out, x, center, finish);
}

template <class T> int32_t multiply(const Layout &layout, T *out, const T *x) {
    const Shape s = shape_of(layout, -1);
    const int by_column = column_of(layout) >= 0;
    const int64_t chunks = (s.n + product_chunk - 1) / product_chunk, parts = s.outputs >= 32768 || chunks <= 1 ? 1 : chunks;
    const dim3 grid = blocks_for(s.outputs * parts, 128);
    if (parts == 1) return launch<products<T>>(grid, 128, out, x, s, parts, by_column);
    Scratch partial(size_t(s.outputs * parts) * sizeof(T));
    if (!partial) return DK_NO_MEMORY;
    if (int32_t status = launch<products<T>>(grid, 128, partial.as<T>(), x, s, parts, by_column)) return status;
    return launch<join_products<T>>(blocks_for(s.outputs, 128), 128, out, partial.as<T>(), s.outputs, parts);
}

template <class T> int32_t reduce_kind(int32_t kind, const Layout &layout, T *out, const T *x, const T *center, Finish after = {}) {
    if (layout.outputs == 0) return DK_OK;
    Finish finish = after;
    if (kind == 1) finish.divide = true, finish.by = double(layout.n);
    if (kind == 3) finish.root = true;
    finish.middle = kind == 5 ? rare::NUMBERS : kind == 7 ? rare::NONZEROS : 0;
    switch (kind) {
        case 0:
        case 1: return reduce<T, terms::Sum<T>>(layout, out, x, nullptr, finish);
        case 2:
        case 3: return reduce<T, terms::Deviations<T>>(layout, out, x, nullptr, finish);
        case 4:
        case 5:
        case 7: return reduce<T, rare::Terms<T>>(layout, out, x, nullptr, finish);
        case 6: return center ? reduce<T, terms::Deviations<T>>(layout, out, x, center, finish) : DK_BAD_ARGUMENT;
        case 8: return multiply(layout, out, x);
    }
    return DK_BAD_ARGUMENT;
}

template <class T>
int32_t reduce_dense(int32_t kind, T *out, const T *x, const T *center, int64_t outer, int64_t n, int64_t inner) {
    const int64_t sizes[3] = {n, outer, inner}, strides[3] = {inner, n * inner, 1};
    return reduce_kind(kind, Layout(1, 2, sizes, strides), out, x, center);
}

template <class T>
int32_t reduce_strided(int32_t kind, T *out, const T *x, const T *center, int64_t reduced, int64_t kept, const int64_t *sizes,
                       const int64_t *strides) {
    if (reduced < 0 || kept < 0 || reduced + kept > Layout::most) return DK_BAD_ARGUMENT;
    return reduce_kind(kind, Layout(reduced, kept, sizes, strides), out, x, center);
}

template <class T>
int32_t variance(int32_t root, T *var, T *mean, const T *x, double divisor, int64_t reduced, int64_t kept, const int64_t *sizes,
                 const int64_t *strides) {
    if (reduced < 0 || kept < 0 || reduced + kept > Layout::most) return DK_BAD_ARGUMENT;
    const Layout layout(reduced, kept, sizes, strides);
    if (layout.outputs == 0) return DK_OK;
    Finish finish;
    finish.divide = true, finish.by = divisor, finish.root = root != 0;
    if (layout.n <= reduce_block_length && column_of(layout) < 0) {
        const unsigned warps = warps_for(layout.outputs);
        return launch<variance_rows<T>>(blocks_for(layout.outputs, warps), 32 * warps, var, mean, x, shape_of(layout, -1), finish);
    }
    if (int32_t status = reduce_kind<T>(1, layout, mean, x, nullptr)) return status;
    return reduce_kind<T>(6, layout, var, x, mean, finish);
}

}  // namespace
}  // namespace reduction
}  // namespace dk

extern "C" {

int32_t dk_reduce_f32(int32_t kind, float *out, const float *x, const float *center, int64_t outer, int64_t n, int64_t inner) {
    return dk::reduction::reduce_dense(kind, out, x, center, outer, n, inner);
}
int32_t dk_reduce_f64(int32_t kind, double *out, const double *x, const double *center, int64_t outer, int64_t n, int64_t inner) {
    return dk::reduction::reduce_dense(kind, out, x, center, outer, n, inner);
}
int32_t dk_reduce_strided_f32(int32_t kind, float *out, const float *x, const float *center, int64_t reduced, int64_t kept,
                              const int64_t *sizes, const int64_t *strides) {
    return dk::reduction::reduce_strided(kind, out, x, center, reduced, kept, sizes, strides);
}
int32_t dk_reduce_strided_f64(int32_t kind, double *out, const double *x, const double *center, int64_t reduced, int64_t kept,
                              const int64_t *sizes, const int64_t *strides) {
    return dk::reduction::reduce_strided(kind, out, x, center, reduced, kept, sizes, strides);
}
int32_t dk_variance_f32(int32_t root, float *var, float *mean, const float *x, double divisor, int64_t reduced, int64_t kept,
                        const int64_t *sizes, const int64_t *strides) {
    return dk::reduction::variance(root, var, mean, x, divisor, reduced, kept, sizes, strides);
}
int32_t dk_variance_f64(int32_t root, double *var, double *mean, const double *x, double divisor, int64_t reduced, int64_t kept,
                        const int64_t *sizes, const int64_t *strides) {
    return dk::reduction::variance(root, var, mean, x, divisor, reduced, kept, sizes, strides);
}
}
#endif
