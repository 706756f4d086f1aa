/* Convolution in one, two and three dimensions, and its three gradients (D2). */
#pragma once

#include <stdint.h>

#ifdef __cplusplus
extern "C" {
#endif

/* `geometry` describes one convolution by 37 numbers, spatial ones as (depth, height, width):
 *   0 batch  1 groups  2 input channels  3 output channels  4 input size (3)  7 output size (3)  10 kernel (3)
 *   13 stride (3)  16 padding (3)  19 dilation (3)  22 strides of the input (n, c, d, h, w)
 *   27 strides of the output (n, c, d, h, w)  32 strides of the weight (out, in / groups, d, h, w)
 * One and two dimensions have size 1 in front. A transposed convolution is told as the convolution whose input
 * gradient it is. Strides count elements and may be anything for what is read; what is written is dense. */

/* y[n,o,q] = DOT over (i, tap) of x[n, i, q stride - padding + tap dilation] w[o,i,tap], then + bias[o] (bias may be 0);
 * i ascends over the channels of o's group, taps row-major inside; x is +0 outside of the image. */
int32_t dk_conv_forward_f32(const float *x, const float *w, const float *bias, float *y, const int64_t *geometry);
int32_t dk_conv_forward_f64(const double *x, const double *w, const double *bias, double *y, const int64_t *geometry);

/* dx[n,i,q] = DOT over (o, tap) of g[n, o, (q + padding - tap dilation) / stride] w[o,i,tap], then + bias[i] (may be 0);
 * o ascends over the output channels of i's group; only taps whose division has no remainder; g is +0 outside. */
int32_t dk_conv_input_f32(const float *g, const float *w, const float *bias, float *dx, const int64_t *geometry);
int32_t dk_conv_input_f64(const double *g, const double *w, const double *bias, double *dx, const int64_t *geometry);

/* dw[o,i,tap] = DOT over (n, q), row-major, of g[n,o,q] x[n, i, q stride - padding + tap dilation]; x is +0 outside. */
int32_t dk_conv_weight_f32(const float *g, const float *x, float *dw, const int64_t *geometry);
int32_t dk_conv_weight_f64(const double *g, const double *x, double *dw, const int64_t *geometry);

/* db[c] = REDUCE over (n, q), row-major, of g[n,c,q]; `channels` is 3 for the output (27), 2 for the input (22). */
int32_t dk_conv_bias_f32(const float *g, float *db, const int64_t *geometry, int32_t channels);
int32_t dk_conv_bias_f64(const double *g, double *db, const int64_t *geometry, int32_t channels);

#ifdef __cplusplus
}
#endif
