// Softmax and log-softmax, forward and backward (native/softmax.h): a warp for each row, of any stride.
#include "device.h"

#include "../native/functions.h"
#include "../native/functions_rounded.h"
#include "reduce.h"

namespace dk {

DK_INLINE lane<float> logarithm(lane<float> x) {
    halves h = widen_halves(x);
    return finish_log<float>(x, narrow_halves({rounded_log(h.low), rounded_log(h.high)}));
}
DK_INLINE lane<double> logarithm(lane<double> x) { return fixed_log(x); }

// The largest; any number where there is a NaN, since that makes the whole row NaN later.
template <class T> DK_INLINE T warp_maximum(T m) {
    for (int w = 16; w; w /= 2) m = greater_of(lane<T>(m), lane<T>(__shfl_xor_sync(whole_warp, m, w))).v;
    return m;
}

constexpr int rows_per_block = 4;

// Row `o` of (outer, n, inner): element i is at base + i * inner.
DK_INLINE int64_t row_of_this_warp() { return int64_t(blockIdx.x) * rows_per_block + threadIdx.x / 32; }

template <class T, bool log>
__global__ void __launch_bounds__(32 * rows_per_block)
softmax_rows(T *out, const T *x, int64_t rows, int64_t n, int64_t inner) {
    const int64_t row = row_of_this_warp();
    if (row >= rows) return;
    const int64_t base = row / inner * n * inner + row % inner;
    const int t = int(threadIdx.x) % 32;
    T m = -infinity<T>();
    for (int64_t i = t; i < n; i += 32) m = greater_of(lane<T>(m), lane<T>(x[base + i * inner])).v;
    m = warp_maximum(m);
    // The exponentials (log: the differences) are kept in `out`, each by the thread that comes back to it.
    const T sum = warp_reduce<T>(n, [=](T acc, int64_t i) {
        const T d = x[base + i * inner] - m, e = fixed_exp(lane<T>(d)).v;
        out[base + i * inner] = log ? d : e;
        return acc + e;
    });
    const T last = log ? logarithm(lane<T>(sum)).v : sum;
    for (int64_t i = t; i < n; i += 32) {
        const T e = out[base + i * inner];
        out[base + i * inner] = log ? e - last : e / last;
    }
}

template <class T, bool log>
__global__ void __launch_bounds__(32 * rows_per_block)
softmax_backward_rows(T *dx, const T *g, const T *y, int64_t rows, int64_t n, int64_t inner) {
    const int64_t row = row_of_this_warp();
    if (row >= rows) return;
    const int64_t base = row / inner * n * inner + row % inner;
    const T sum = warp_reduce<T>(n, [=](T acc, int64_t i) {
        const int64_t at = base + i * inner;
        return log ? acc + g[at] : fma(g[at], y[at], acc);
    });
    for (int64_t i = threadIdx.x % 32; i < n; i += 32) {
        const int64_t at = base + i * inner;
        dx[at] = log ? g[at] - fixed_exp(lane<T>(y[at])).v * sum : y[at] * (g[at] - sum);
    }
}

}  // namespace dk

#if DK_HOST
#include "launch.h"

namespace dk {
namespace {

template <class T, bool log> int32_t forward(T *out, const T *x, int64_t outer, int64_t n, int64_t inner) {
    const int64_t rows = outer * inner;
    return launch<softmax_rows<T, log>>(blocks_for(rows, rows_per_block), 32 * rows_per_block, out, x, rows, n, inner);
}
template <class T, bool log> int32_t backward(T *dx, const T *g, const T *y, int64_t outer, int64_t n, int64_t inner) {
    const int64_t rows = outer * inner;
    return launch<softmax_backward_rows<T, log>>(blocks_for(rows, rows_per_block), 32 * rows_per_block, dx, g, y, rows, n, inner);
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
