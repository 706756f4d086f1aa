#pragma once

#include <stdint.h>

#ifdef __cplusplus
extern "C" {
#endif

/* grid_sample: y (n, channels, positions) from x (n, channels, in[0], .., in[axes - 1]) at grid (n, positions, axes), whose
 * last number is the first axis; axes 2 or 3. interpolation 0 linear, 1 nearest, 2 cubic (two axes); padding 0 zeros, 1
 * border, 2 reflection. Per axis, each operation rounded to the type:
 *   p = align ? (g + 1) / 2 (in - 1) : ((g + 1) in - 1) / 2
 *   border (not cubic): clamped to [0, in - 1]; reflection: low = align ? 0 : -1/2, span = align ? in - 1 : in;
 *   d = |p - low|, flips = floor(d / span), rest = fma(-flips, span, d), p = (flips odd ? span - rest : rest) + low, clamped
 *   not a number, or beyond 2^31: -100
 *   linear: floor(p) and the next, weights (floor + 1) - p and p - floor; nearest: rounded half to even, weight 1;
 *   cubic: t = p - floor(p), the weights of dk_resample on floor - 1 .. floor + 2, each tap padded by itself
 * A tap's weight is (w_x w_y) w_z. Taps outside are left out; y: chain fma(x, w, y) from +0, taps by ascending (z, y, x). */
int32_t dk_grid_sample_f32(float *y, const float *x, const float *grid, int64_t n, int64_t channels, int32_t axes,
                           const int64_t *in, int64_t positions, int32_t interpolation, int32_t padding, int32_t align);
int32_t dk_grid_sample_f64(double *y, const double *x, const double *grid, int64_t n, int64_t channels, int32_t axes,
                           const int64_t *in, int64_t positions, int32_t interpolation, int32_t padding, int32_t align);

/* Its gradients; either may be null. gx: fma(gy, w, gx) from +0 by ascending (position, tap). ggrid, per axis: the chain
 * acc = fma(x gy, w', acc) by ascending (channel, tap) from +0, w' the weight with that axis' factor differentiated (linear:
 * -1, 1; cubic, with n(x) = fma(3.75, x, -4.5) x and f(x) = fma(fma(-2.25, x, 7.5), x, -6): f(t + 1), n(t), -n(1 - t),
 * -f((1 - t) + 1)), times dp/dg = (align ? in - 1 : in) / 2, times 0 where border or
 * reflection clamped, times -1 where reflection turned round (not cubic); +0 for nearest. */
int32_t dk_grid_sample_backward_f32(float *gx, float *ggrid, const float *gy, const float *x, const float *grid, int64_t n,
                                    int64_t channels, int32_t axes, const int64_t *in, int64_t positions,
                                    int32_t interpolation, int32_t padding, int32_t align);
int32_t dk_grid_sample_backward_f64(double *gx, double *ggrid, const double *gy, const double *x, const double *grid,
                                    int64_t n, int64_t channels, int32_t axes, const int64_t *in, int64_t positions,
                                    int32_t interpolation, int32_t padding, int32_t align);

#ifdef __cplusplus
}
#endif
