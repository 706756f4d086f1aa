/* Softmax and log-softmax (D4) along the middle dimension of x, (outer, n, inner) row-major without gaps; out likewise,
 * and may be x. EXP is fixed_exp (functions.h); LOG the correctly rounded logarithm in float32, fixed_log in float64. */
#pragma once

#include <stdint.h>

#ifdef __cplusplus
extern "C" {
#endif

/* m = max(x); e = EXP(x - m); s = REDUCE(e); y = e / s. A NaN anywhere makes all n NaN, as does a maximum that is infinite. */
int32_t dk_softmax_f32(float *out, const float *x, int64_t outer, int64_t n, int64_t inner);
int32_t dk_softmax_f64(double *out, const double *x, int64_t outer, int64_t n, int64_t inner);

/* The same with y = (x - m) - LOG(s). */
int32_t dk_log_softmax_f32(float *out, const float *x, int64_t outer, int64_t n, int64_t inner);
int32_t dk_log_softmax_f64(double *out, const double *x, int64_t outer, int64_t n, int64_t inner);

/* t = REDUCE_fma(g, y); dx = y * (g - t). */
int32_t dk_softmax_backward_f32(float *dx, const float *g, const float *y, int64_t outer, int64_t n, int64_t inner);
int32_t dk_softmax_backward_f64(double *dx, const double *g, const double *y, int64_t outer, int64_t n, int64_t inner);

/* t = REDUCE(g); dx = g - EXP(y) * t. */
int32_t dk_log_softmax_backward_f32(float *dx, const float *g, const float *y, int64_t outer, int64_t n, int64_t inner);
int32_t dk_log_softmax_backward_f64(double *dx, const double *g, const double *y, int64_t outer, int64_t n, int64_t inner);

#ifdef __cplusplus
}
#endif
