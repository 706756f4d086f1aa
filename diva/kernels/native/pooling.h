/* Pooling: maxima, averages and adaptive windows in one, two or three dimensions, forward and backward.
 *
 * geometry: 24 numbers: [0] 1 when tensors are channels last (N, D, H, W, C in memory), 0 when they are planes;
 * [1] planes (N * C), or N when channels last; [2] C when channels last, else 1; [3] input sizes D, H, W; [6] output sizes;
 * [9] kernel; [12] stride; [15] padding; [18] dilation; [21] 1 for adaptive windows (kernel, stride, padding, dilation are
 * ignored): window o of O over I positions is floor(o I / O) .. ceil((o + 1) I / O) - 1; [22] 1 to count padding in an
 * average; [23] the divisor of every average, 0 for the window's count. Dense memory. */
#pragma once

#include <stdint.h>

#ifdef __cplusplus
extern "C" {
#endif

/* y[o] = the maximum of window o, positions in row-major order: from -Inf, x is taken when x > best or x is NaN. indices[o]:
 * its position in the flattened space of its plane (of the first position when none is taken, -1 when there is none). */
int32_t dk_max_pool_f32(const float *x, float *y, int64_t *indices, const int64_t *geometry);
int32_t dk_max_pool_f64(const double *x, double *y, int64_t *indices, const int64_t *geometry);

/* dx[i] = the sum from +0 of g[o] over the outputs o of the plane with indices[o] = i, o ascending; index -1 is passed
 * over. Planes of `space` inputs and `outputs` outputs; channels > 1: n samples, channels last, else n planes.
 * DK_BAD_ARGUMENT when an index is outside. */
int32_t dk_max_pool_backward_f32(const float *g, const int64_t *indices, float *dx, int64_t n, int64_t channels,
                                 int64_t space, int64_t outputs);
int32_t dk_max_pool_backward_f64(const double *g, const int64_t *indices, double *dx, int64_t n, int64_t channels,
                                 int64_t space, int64_t outputs);

/* y[o] = (the chain sum = sum + x from +0 over window o in row-major order) / count. */
int32_t dk_average_pool_f32(const float *x, float *y, const int64_t *geometry);
int32_t dk_average_pool_f64(const double *x, double *y, const int64_t *geometry);

/* dx[i] = the sum from +0 of g[o] / count[o] over the outputs o whose window holds i, o ascending. */
int32_t dk_average_pool_backward_f32(const float *g, float *dx, const int64_t *geometry);
int32_t dk_average_pool_backward_f64(const double *g, double *dx, const int64_t *geometry);

#ifdef __cplusplus
}
#endif
