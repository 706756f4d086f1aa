/* Normalisation: batch, layer and group norm, forward and backward.
 *
 * With REDUCE and REDUCE_fma of D3, n the number of elements of one statistic, in row-major order of the logical shape:
 *     mean = REDUCE(x) / n;  d = x - mean;  var = REDUCE_fma(d, d) / n;  inv = 1 / sqrt(var + eps)
 *     xhat = d * inv;  y = fma(xhat, weight, bias)
 * weight NULL is 1, bias NULL is +0. Dense memory. mean, inv, dweight and dbias are dense too; NULL where they are not wanted. */
#pragma once

#include <stdint.h>

#ifdef __cplusplus
extern "C" {
#endif

/* Batch norm of n samples of `channels` channels of `space` elements; channels_last: (n, space, channels) in memory, else
 * (n, channels, space); a statistic is a channel's, over (n, space). training: mean and inv are written, and running
 * statistics r, unless NULL, become fma(momentum, s - r, r) with s the mean, and the variance REDUCE_fma(d, d) / (count - 1).
 * Otherwise the running ones are the mean and var, and mean and inv are left alone. */
int32_t dk_batch_norm_f32(const float *x, float *y, const float *weight, const float *bias, float *running_mean,
                          float *running_var, float *mean, float *inv, int64_t n, int64_t channels, int64_t space,
                          int32_t channels_last, int32_t training, double momentum, double eps);
int32_t dk_batch_norm_f64(const double *x, double *y, const double *weight, const double *bias, double *running_mean,
                          double *running_var, double *mean, double *inv, int64_t n, int64_t channels, int64_t space,
                          int32_t channels_last, int32_t training, double momentum, double eps);

/* The statistics alone: mean and var are written, running ones updated as above. */
int32_t dk_batch_norm_statistics_f32(const float *x, float *mean, float *var, float *running_mean, float *running_var,
                                     int64_t n, int64_t channels, int64_t space, int32_t channels_last, double momentum);
int32_t dk_batch_norm_statistics_f64(const double *x, double *mean, double *var, double *running_mean, double *running_var,
                                     int64_t n, int64_t channels, int64_t space, int32_t channels_last, double momentum);

/* dbias = REDUCE(g); dweight = REDUCE_fma(g, xhat); with scale = inv * weight
 *     training:  dx = scale * fma(-xhat, dweight / count, g - dbias / count)
 *     otherwise: dx = g * scale, mean and second being the running mean and variance (in training: the mean and inv). */
int32_t dk_batch_norm_backward_f32(const float *g, const float *x, const float *weight, const float *mean, const float *second,
                                   float *dx, float *dweight, float *dbias, int64_t n, int64_t channels, int64_t space,
                                   int32_t channels_last, int32_t training, double eps);
int32_t dk_batch_norm_backward_f64(const double *g, const double *x, const double *weight, const double *mean,
                                   const double *second, double *dx, double *dweight, double *dbias, int64_t n,
                                   int64_t channels, int64_t space, int32_t channels_last, int32_t training, double eps);

/* Layer norm of rows of `width` elements; weight and bias have `width` elements, mean and inv one per row. */
int32_t dk_layer_norm_f32(const float *x, float *y, const float *weight, const float *bias, float *mean, float *inv,
                          int64_t rows, int64_t width, double eps);
int32_t dk_layer_norm_f64(const double *x, double *y, const double *weight, const double *bias, double *mean, double *inv,
                          int64_t rows, int64_t width, double eps);

/* gy = g * weight; dx = inv * fma(-xhat, REDUCE_fma(gy, xhat) / width, gy - REDUCE(gy) / width), sums along the row;
 * dweight = REDUCE_fma(g, xhat), dbias = REDUCE(g), over the rows. */
int32_t dk_layer_norm_backward_f32(const float *g, const float *x, const float *weight, const float *mean, const float *inv,
                                   float *dx, float *dweight, float *dbias, int64_t rows, int64_t width);
int32_t dk_layer_norm_backward_f64(const double *g, const double *x, const double *weight, const double *mean,
                                   const double *inv, double *dx, double *dweight, double *dbias, int64_t rows, int64_t width);

/* Group norm of planes, (n, groups, channels in a group, space) in memory: a statistic is over (channels in a group, space);
 * weight and bias have one element per channel, mean and inv n * groups. */
int32_t dk_group_norm_f32(const float *x, float *y, const float *weight, const float *bias, float *mean, float *inv, int64_t n,
                          int64_t channels, int64_t space, int64_t groups, double eps);
int32_t dk_group_norm_f64(const double *x, double *y, const double *weight, const double *bias, double *mean, double *inv,
                          int64_t n, int64_t channels, int64_t space, int64_t groups, double eps);

/* dx as layer norm's, sums over the group; dweight = REDUCE_fma(g, xhat), dbias = REDUCE(g), over (n, space). */
int32_t dk_group_norm_backward_f32(const float *g, const float *x, const float *weight, const float *mean, const float *inv,
                                   float *dx, float *dweight, float *dbias, int64_t n, int64_t channels, int64_t space,
                                   int64_t groups);
int32_t dk_group_norm_backward_f64(const double *g, const double *x, const double *weight, const double *mean,
                                   const double *inv, double *dx, double *dweight, double *dbias, int64_t n, int64_t channels,
                                   int64_t space, int64_t groups);

#ifdef __cplusplus
}
#endif
