// Softmax and log-softmax, forward and backward (native/softmax.h).
//
// Rows of memory: up to 1024 numbers are kept in the registers of a warp, those of up to 16 two to a warp; up to 4096 a warp
// reads them three times; longer rows are a thread block's. Where the dimension is not the last, a thread has a column, unless
// there are too few of them.
#include "device.h"

#include "../native/functions.h"
#include "../native/functions_rounded.h"
#include "reduce_columns.h"
#include "segments.h"

namespace dk {

DK_INLINE lane<float> logarithm(lane<float> x) {
    halves h = widen_halves(x);
    return finish_log<float>(x, narrow_halves({rounded_log(h.low), rounded_log(h.high)}));
}
DK_INLINE lane<double> logarithm(lane<double> x) { return fixed_log(x); }

template <class T> DK_INLINE T exponential(T x) { return fixed_exp(lane<T>(x)).v; }
template <class T> DK_INLINE T greater(T a, T b) { return a > b ? a : b; }

// The largest of a group of threads; any number where there is a NaN, since that makes the whole row NaN later.
template <int threads, class T> DK_INLINE T largest(T m) {
    DK_UNROLL
    for (int w = threads / 2; w; w /= 2) m = greater(m, __shfl_xor_sync(whole_warp, m, w));
    return m;
}

// y from d = x - m (or with `ready` from its exponential) and the sum, or its logarithm.
template <bool log, bool ready, class T> DK_INLINE T result(T d, T last) {
    if constexpr (log) return d - last;
    return (ready ? d : exponential(d)) / last;
}
template <bool log, class T> DK_INLINE T last_of(T sum) { return log ? logarithm(lane<T>(sum)).v : sum; }
template <bool log, class T> DK_INLINE T derivative(T g, T y, T sum) {
    return log ? g - exponential(y) * sum : y * (g - sum);
}
template <bool log, class T> DK_INLINE T ascended(T acc, T g, T y) { return log ? acc + g : fma(g, y, acc); }

// What is summed of numbers `stride` apart.
template <class T> struct Exponentials {
    const T *x;
    T m;
    int64_t stride;
    DK_INLINE T get(int64_t i) const { return x[i * stride]; }
    DK_INLINE void add(T (&acc)[1], T a) const { acc[0] = acc[0] + exponential(a - m); }
    template <int V, class Place> DK_INLINE T get(const Place &place) const { return x[place.at]; }
    template <int V> DK_INLINE void add(T (&acc)[1][V], T a) const { acc[0][0] = acc[0][0] + exponential(a - m); }
};
template <class T, bool log> struct Ascents {
    const T *g, *y;
    int64_t stride;
    struct Terms {
        T g, y;
    };
    DK_INLINE Terms get(int64_t i) const { return {g[i * stride], log ? T(0) : y[i * stride]}; }
    DK_INLINE void add(T (&acc)[1], const Terms &a) const { acc[0] = ascended<log>(acc[0], a.g, a.y); }
    template <int V, class Place> DK_INLINE Terms get(const Place &place) const { return {g[place.at], log ? T(0) : y[place.at]}; }
    template <int V> DK_INLINE void add(T (&acc)[1][V], const Terms &a) const { acc[0][0] = ascended<log>(acc[0][0], a.g, a.y); }
};

// --- rows in registers: `threads` threads a row, each has the terms t, t + threads, ... ---

constexpr int short_threads = 128;

// REDUCE of up to 1024 terms from the 64 lanes, or up to 16 terms from as many threads.
template <int threads, class T> DK_INLINE T fold_row(T low, T high) {
    if constexpr (threads == 32) return fold_lanes<1>(low, high);
    T a = low + high;  // the lanes from 16 on are +0
    DK_UNROLL
    for (int w = threads / 2; w; w /= 2) a = a + __shfl_xor_sync(whole_warp, a, w);
    return a;
}

template <class T, bool log, int threads, int each>
__global__ void __launch_bounds__(short_threads) softmax_short(T *out, const T *x, int64_t rows, int32_t n) {
    const int64_t row = int64_t(blockIdx.x) * (short_threads / threads) + int(threadIdx.x) / threads;
    const int t = int(threadIdx.x) % threads, terms = row < rows ? n : 0;
    T e[each], m = -infinity<T>(), sum[2] = {0, 0};
    DK_UNROLL
    for (int k = 0; k < each; ++k) {
        e[k] = t + k * threads < terms ? x[row * n + t + k * threads] : -infinity<T>();
        m = greater(m, e[k]);
    }
    m = largest<threads>(m);
    DK_UNROLL
    for (int k = 0; k < each; ++k) {
        if (t + k * threads >= terms) continue;
        const T d = e[k] - m, p = exponential(d);
        e[k] = log ? d : p;
        sum[k % 2] = sum[k % 2] + p;
    }
    const T last = last_of<log>(fold_row<threads>(sum[0], sum[1]));
    DK_UNROLL
    for (int k = 0; k < each; ++k)
        if (t + k * threads < terms) out[row * n + t + k * threads] = result<log, true>(e[k], last);
}

template <class T, bool log, int threads, int each>
__global__ void __launch_bounds__(short_threads) softmax_backward_short(T *dx, const T *g, const T *y, int64_t rows, int32_t n) {
    const int64_t row = int64_t(blockIdx.x) * (short_threads / threads) + int(threadIdx.x) / threads;
    const int t = int(threadIdx.x) % threads, terms = row < rows ? n : 0;
    T a[each], b[each], sum[2] = {0, 0};
    DK_UNROLL
    for (int k = 0; k < each; ++k)
        if (t + k * threads < terms) a[k] = g[row * n + t + k * threads], b[k] = y[row * n + t + k * threads];
    DK_UNROLL
    for (int k = 0; k < each; ++k)
        if (t + k * threads < terms) sum[k % 2] = ascended<log>(sum[k % 2], a[k], b[k]);
    const T total = fold_row<threads>(sum[0], sum[1]);
    DK_UNROLL
    for (int k = 0; k < each; ++k)
        if (t + k * threads < terms) dx[row * n + t + k * threads] = derivative<log>(a[k], b[k], total);
}

// --- rows by a warp or a thread block; their numbers may be `inner` apart ---

constexpr int row_warps = 4, long_warps = 16;

struct Strided {
    int64_t at;
    DK_INLINE Strided(const Segments &s, int64_t first, int64_t step) : at(first * s.stride), step_(step * s.stride) {}
    DK_INLINE void next() { at += step_; }

  private:
    int64_t step_;
};
DK_INLINE int64_t row_begin(int64_t row, int64_t n, int64_t inner) {
    const int64_t o = inner == 1 ? row : quotient(row, inner);
    return o * n * inner + (row - o * inner);
}

// f(at) for each of this thread's numbers, four at a time: f reads there, and gives what will be written to out[at].
template <int threads, class T, class F> DK_INLINE void write_row(T *out, int64_t n, int64_t inner, const F &f) {
    int64_t i = int(threadIdx.x) % threads;
    for (; i + 3 * threads < n; i += 4 * threads) {
        T v[4];
        DK_UNROLL
        for (int k = 0; k < 4; ++k) v[k] = f((i + k * threads) * inner);
        DK_UNROLL
        for (int k = 0; k < 4; ++k) out[(i + k * threads) * inner] = v[k];
    }
    for (; i < n; i += threads) out[i * inner] = f(i * inner);
}
template <int threads, class T> DK_INLINE T largest_of(const T *x, int64_t n, int64_t inner) {
    T m[4] = {-infinity<T>(), -infinity<T>(), -infinity<T>(), -infinity<T>()};
    int64_t i = int(threadIdx.x) % threads;
    for (; i + 7 * threads < n; i += 8 * threads) {
        DK_UNROLL
        for (int k = 0; k < 8; ++k) m[k % 4] = greater(m[k % 4], x[(i + k * threads) * inner]);
    }
    for (; i < n; i += threads) m[0] = greater(m[0], x[i * inner]);
    return largest<32>(greater(greater(m[0], m[1]), greater(m[2], m[3])));
}

// REDUCE of n <= 4096 terms by a warp.
template <class T, class Step> DK_INLINE T row_total(int64_t begin, int64_t n, const Step &step) {
    const Segments row{n, 1, step.stride, 1};
    T sum[1];
    warp_sums<1>(sum, place_of_thread<Strided, 1>(row, begin), int(n), step);
    return sum[0];
}

template <class T, bool log>
__global__ void __launch_bounds__(32 * row_warps) softmax_rows(T *out, const T *x, int64_t rows, int64_t n, int64_t inner) {
    const int64_t row = int64_t(blockIdx.x) * row_warps + int(threadIdx.x) / 32, begin = row_begin(row, n, inner);
    if (row >= rows) return;
    const T *here = x + begin, m = largest_of<32>(here, n, inner);
    const T last = last_of<log>(row_total<T>(0, n, Exponentials<T>{here, m, inner}));
    write_row<32>(out + begin, n, inner, [=](int64_t at) { return result<log, false>(here[at] - m, last); });
}
template <class T, bool log>
__global__ void __launch_bounds__(32 * row_warps)
softmax_backward_rows(T *dx, const T *g, const T *y, int64_t rows, int64_t n, int64_t inner) {
    const int64_t row = int64_t(blockIdx.x) * row_warps + int(threadIdx.x) / 32, begin = row_begin(row, n, inner);
    if (row >= rows) return;
    const T *a = g + begin, *b = y + begin, sum = row_total<T>(0, n, Ascents<T, log>{a, b, inner});
    write_row<32>(dx + begin, n, inner, [=](int64_t at) { return derivative<log>(a[at], b[at], sum); });
}

// REDUCE of more terms by a thread block, in every thread. shared: 4096 numbers for blocks' sums, 64 lanes for sums of those.
template <class T, class Step> DK_INLINE T long_total(int64_t n, const Step &step, T *shared) {
    T *outer = shared + whole_block, sum = 0;
    const int64_t blocks = (n + whole_block - 1) / whole_block;
    const int warp = int(threadIdx.x) / 32, t = int(threadIdx.x) % 32;
    if (threadIdx.x < reduce_lanes) outer[threadIdx.x] = 0;
    for (int64_t first = 0, group = 0; first < blocks; first += whole_block, ++group) {
        const int count = blocks - first < whole_block ? int(blocks - first) : whole_block;
        __syncthreads();
        for (int b = warp; b < count; b += long_warps) {
            const int64_t begin = (first + b) * whole_block;
            const T part = row_total<T>(begin, n - begin < whole_block ? n - begin : whole_block, step);
            if (t == 0) shared[b] = part;
        }
        __syncthreads();
        sum = warp_total(shared, count);
        if (threadIdx.x == 0) outer[group % reduce_lanes] = outer[group % reduce_lanes] + sum;
    }
    if (blocks <= whole_block) return sum;
    __syncthreads();
    return fold_lanes<1>(outer[t], outer[t + 32]);
}

template <class T, bool log>
__global__ void __launch_bounds__(32 * long_warps) softmax_long(T *out, const T *x, int64_t n, int64_t inner) {
    __shared__ T shared[whole_block + reduce_lanes], maxima[long_warps];
    const int64_t begin = row_begin(int64_t(blockIdx.x), n, inner);
    const T *here = x + begin, mine = largest_of<32 * long_warps>(here, n, inner);
    if (threadIdx.x % 32 == 0) maxima[threadIdx.x / 32] = mine;
    __syncthreads();
    const T m = largest<long_warps>(maxima[threadIdx.x % long_warps]);
    const T last = last_of<log>(long_total(n, Exponentials<T>{here, m, inner}, shared));
    __syncthreads();  // out may be x
    write_row<32 * long_warps>(out + begin, n, inner, [=](int64_t at) { return result<log, false>(here[at] - m, last); });
}
template <class T, bool log>
__global__ void __launch_bounds__(32 * long_warps) softmax_backward_long(T *dx, const T *g, const T *y, int64_t n, int64_t inner) {
    __shared__ T shared[whole_block + reduce_lanes];
    const int64_t begin = row_begin(int64_t(blockIdx.x), n, inner);
    const T *a = g + begin, *b = y + begin;
    const T sum = long_total(n, Ascents<T, log>{a, b, inner}, shared);
    __syncthreads();
    write_row<32 * long_warps>(dx + begin, n, inner, [=](int64_t at) { return derivative<log>(a[at], b[at], sum); });
}

// --- columns, one for each thread ---

constexpr int column_block = 128;

// REDUCE of n <= 4096^2 terms by one thread.
template <class T, class Step> DK_INLINE T thread_total(int64_t n, const Step &step) {
    T sum[1] = {0}, outer[reduce_lanes];
    if (n <= whole_block) {
        thread_sums(sum, 0, int(n), step);
        return sum[0];
    }
    for (int j = 0; j < reduce_lanes; ++j) outer[j] = 0;
    for (int64_t begin = 0, b = 0; begin < n; begin += whole_block, ++b) {
        const int count = n - begin < whole_block ? int(n - begin) : whole_block;
        thread_sums(sum, begin, count, step);
        outer[b % reduce_lanes] = outer[b % reduce_lanes] + sum[0];
    }
    for (int w = reduce_lanes / 2; w; w /= 2)
        for (int j = 0; j < w; ++j) outer[j] = outer[j] + outer[j + w];
    return outer[0];
}

// Column c of the (outer, n, inner) numbers, or -1.
DK_INLINE int64_t column_begin(int64_t columns, int64_t n, int64_t inner) {
    const int64_t c = int64_t(blockIdx.x) * column_block + int(threadIdx.x);
    return c < columns ? row_begin(c, n, inner) : int64_t(-1);
}

template <class T, bool log>
__global__ void __launch_bounds__(column_block) softmax_columns(T *out, const T *x, int64_t columns, int64_t n, int64_t inner) {
    const int64_t base = column_begin(columns, n, inner);
    if (base < 0) return;
    T m = -infinity<T>();
    for (int64_t i = 0; i < n; ++i) m = greater(m, x[base + i * inner]);
    const T last = last_of<log>(thread_total<T>(n, Exponentials<T>{x + base, m, inner}));
    for (int64_t i = 0; i < n; ++i) out[base + i * inner] = result<log, false>(x[base + i * inner] - m, last);
}
template <class T, bool log>
__global__ void __launch_bounds__(column_block)
softmax_backward_columns(T *dx, const T *g, const T *y, int64_t columns, int64_t n, int64_t inner) {
    const int64_t base = column_begin(columns, n, inner);
    if (base < 0) return;
    const T sum = thread_total<T>(n, Ascents<T, log>{g + base, y + base, inner});
    for (int64_t at = base, i = 0; i < n; ++i, at += inner) dx[at] = derivative<log>(g[at], y[at], sum);
}

}  // namespace dk

#if DK_HOST
#include "../native/diva_kernels.h"
#include "launch.h"

namespace dk {
namespace {

// Columns are threads' where these are enough to be worth it, or short.
bool by_threads(int64_t columns, int64_t n) { return n <= 32 || (columns >= 4096 && n <= reduce_block_length * reduce_block_length); }

template <bool log> int32_t forward_short(float *out, const float *x, int64_t rows, int64_t n) {
    const dim3 grid = blocks_for(rows, short_threads / 32), half = blocks_for(rows, short_threads / 16);
    if (n <= 16) return launch<softmax_short<float, log, 16, 1>>(half, short_threads, out, x, rows, n);
    if (n <= 64) return launch<softmax_short<float, log, 32, 2>>(grid, short_threads, out, x, rows, n);
    if (n <= 256) return launch<softmax_short<float, log, 32, 8>>(grid, short_threads, out, x, rows, n);
    return launch<softmax_short<float, log, 32, 32>>(grid, short_threads, out, x, rows, n);
}

template <class T, bool log> int32_t forward(T *out, const T *x, int64_t outer, int64_t n, int64_t inner) {
    const int64_t rows = outer * inner;
    if (rows == 0 || n == 0) return DK_OK;
    if (inner > 1 && by_threads(rows, n))
        return launch<softmax_columns<T, log>>(blocks_for(rows, column_block), column_block, out, x, rows, n, inner);
    if constexpr (sizeof(T) == 4)
        if (inner == 1 && n <= 1024) return forward_short<log>(out, x, rows, n);
    if (n <= whole_block) return launch<softmax_rows<T, log>>(blocks_for(rows, row_warps), 32 * row_warps, out, x, rows, n, inner);
    return launch<softmax_long<T, log>>(dim3(unsigned(rows)), 32 * long_warps, out, x, n, inner);
}

template <bool log> int32_t backward_short(float *dx, const float *g, const float *y, int64_t rows, int64_t n) {
    const dim3 grid = blocks_for(rows, short_threads / 32), half = blocks_for(rows, short_threads / 16);
    if (n <= 16) return launch<softmax_backward_short<float, log, 16, 1>>(half, short_threads, dx, g, y, rows, n);
    if (n <= 64) return launch<softmax_backward_short<float, log, 32, 2>>(grid, short_threads, dx, g, y, rows, n);
    if (n <= 256) return launch<softmax_backward_short<float, log, 32, 8>>(grid, short_threads, dx, g, y, rows, n);
    return launch<softmax_backward_short<float, log, 32, 32>>(grid, short_threads, dx, g, y, rows, n);
}

template <class T, bool log> int32_t backward(T *dx, const T *g, const T *y, int64_t outer, int64_t n, int64_t inner) {
    const int64_t rows = outer * inner;
    if (rows == 0 || n == 0) return DK_OK;
    if (inner > 1 && by_threads(rows, n))
        return launch<softmax_backward_columns<T, log>>(blocks_for(rows, column_block), column_block, dx, g, y, rows, n, inner);
    if constexpr (sizeof(T) == 4)
        if (inner == 1 && n <= 1024) return backward_short<log>(dx, g, y, rows, n);
    if (n <= whole_block)
        return launch<softmax_backward_rows<T, log>>(blocks_for(rows, row_warps), 32 * row_warps, dx, g, y, rows, n, inner);
    return launch<softmax_backward_long<T, log>>(dim3(unsigned(rows)), 32 * long_warps, dx, g, y, n, inner);
}

}  // namespace
}  // namespace dk

extern "C" {

int32_t dk_softmax_f32(float *out, const float *x, int64_t outer, int64_t n, int64_t inner) {
    return dk::forward<float, false>(out, x, outer, n, inner);
}
int32_t dk_softmax_f64(double *out, const double *x, int64_t outer, int64_t n, int64_t inner) {
    return dk::forward<double, false>(out, x, outer, n, inner);
}
int32_t dk_log_softmax_f32(float *out, const float *x, int64_t outer, int64_t n, int64_t inner) {
    return dk::forward<float, true>(out, x, outer, n, inner);
}
int32_t dk_log_softmax_f64(double *out, const double *x, int64_t outer, int64_t n, int64_t inner) {
    return dk::forward<double, true>(out, x, outer, n, inner);
}
int32_t dk_softmax_backward_f32(float *dx, const float *g, const float *y, int64_t outer, int64_t n, int64_t inner) {
    return dk::backward<float, false>(dx, g, y, outer, n, inner);
}
int32_t dk_softmax_backward_f64(double *dx, const double *g, const double *y, int64_t outer, int64_t n, int64_t inner) {
    return dk::backward<double, false>(dx, g, y, outer, n, inner);
}
int32_t dk_log_softmax_backward_f32(float *dx, const float *g, const float *y, int64_t outer, int64_t n, int64_t inner) {
    return dk::backward<float, true>(dx, g, y, outer, n, inner);
}
int32_t dk_log_softmax_backward_f64(double *dx, const double *g, const double *y, int64_t outer, int64_t n, int64_t inner) {
    return dk::backward<double, true>(dx, g, y, outer, n, inner);
}
}
#endif
