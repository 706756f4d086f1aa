#pragma once

#include <stdint.h>

#include "resampling_grid.h"

#ifdef __cplusplus
extern "C" {
#endif

/* Interpolation over the last n_axes (1 to 3) axes of x (outer, in[0], .., inner) into y (outer, out[0], .., inner), both
 * dense; inner is 1 for contiguous tensors and the number of channels for channels-last ones.
 *
 * mode 0 nearest, 1 nearest-exact, 2 linear, 3 cubic (a = -3/4). scale[k] > 0 is the factor that was given, else 0.
 * Source position of output i of an axis, exactly, from integers where no factor is given:
 *   align_corners        i (in - 1) / (out - 1), 0 when out is 1
 *   nearest              i in / out, with a factor i / scale (one division in binary64); i >> 1 when out = 2 in
 *   nearest-exact        (2 i + 1) in / (2 out), with a factor (i + 0.5) / scale
 *   linear, cubic        ((2 i + 1) in - out) / (2 out), with a factor (i + 0.5) / scale - 0.5; linear: at least 0
 * first = floor, at most in - 1; t = the fraction, one division of integers in binary64 (or position - first, in [0, 1]),
 * rounded to the type; linear weights 1 - t and t on first and min(first + 1, in - 1); cubic weights on first - 1 ..
 * first + 2, clamped: with c1(x) = fma(fma(1.25, x, -2.25) x, x, 1), c2(x) = fma(fma(fma(-0.75, x, 3.75), x, -6), x, 3):
 * c2(t + 1), c1(t), c1(1 - t), c2((1 - t) + 1). An axis whose size does not change is copied (not nearest-exact's with a
 * factor). One axis after the other, the last first: y = x_0 w_0; y = fma(x_k, w_k, y), k ascending. */
int32_t dk_resample_f32(float *y, const float *x, int64_t outer, int64_t inner, int32_t n_axes, const int64_t *in,
                        const int64_t *out, const double *scale, int32_t mode, int32_t align_corners);
int32_t dk_resample_f64(double *y, const double *x, int64_t outer, int64_t inner, int32_t n_axes, const int64_t *in,
                        const int64_t *out, const double *scale, int32_t mode, int32_t align_corners);

/* The gradient of dk_resample's x from that of y, gy. One axis after the other, the first first; each input is DOT over the
 * outputs that read it, ascending (two taps on the same input: ascending taps): chains acc = fma(w, gy, acc) of 256 from
 * +0, folded ascending; nearest modes: acc = acc + gy. */
int32_t dk_resample_backward_f32(float *gx, const float *gy, int64_t outer, int64_t inner, int32_t n_axes,
                                 const int64_t *in, const int64_t *out, const double *scale, int32_t mode,
                                 int32_t align_corners);
int32_t dk_resample_backward_f64(double *gx, const double *gy, int64_t outer, int64_t inner, int32_t n_axes,
                                 const int64_t *in, const int64_t *out, const double *scale, int32_t mode,
                                 int32_t align_corners);

/* The gradient of reflection (reflect = 1) or replication (0) padding: output i of an axis reads input i - left[k], mirrored
 * at the first and last element, or clamped. Sums as in dk_resample_backward's nearest modes. */
int32_t dk_pad_backward_f32(float *gx, const float *gy, int64_t outer, int64_t inner, int32_t n_axes, const int64_t *in,
                            const int64_t *out, const int64_t *left, int32_t reflect);
int32_t dk_pad_backward_f64(double *gx, const double *gy, int64_t outer, int64_t inner, int32_t n_axes, const int64_t *in,
                            const int64_t *out, const int64_t *left, int32_t reflect);

#ifdef __cplusplus
}
#endif
