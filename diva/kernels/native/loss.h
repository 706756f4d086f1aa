/* Losses: negative log-likelihood, and the elementwise ones with their sums. REDUCE is that of D3, samples row-major. */
#pragma once

#include <stdint.h>

#ifdef __cplusplus
extern "C" {
#endif

enum { DK_BAD_TARGET = 3 };

/* x is (samples, classes, inner), target (samples, inner), weight (classes) or NULL, all row-major without gaps.
 * w = weight[target] or 1; v = -(x[target] * w) (without weights: -x[target]); a sample whose target is `ignored` has v = +0
 * and w = +0. total = REDUCE(w). reduction 0: out = v, (samples, inner), and total = 0; 1: out = REDUCE(v) / total;
 * 2: out = REDUCE(v). DK_BAD_TARGET, the place of the target in *bad: a target that is no class. */
int32_t dk_nll_f32(int32_t reduction, float *out, float *total, const float *x, const int64_t *target, const float *weight,
                   int64_t ignored, int64_t samples, int64_t classes, int64_t inner, int64_t *bad);
int32_t dk_nll_f64(int32_t reduction, double *out, double *total, const double *x, const int64_t *target, const double *weight,
                   int64_t ignored, int64_t samples, int64_t classes, int64_t inner, int64_t *bad);

/* dx = 0 but at the targets: -(w * g) (without weights: -g), g = grad of the sample (reduction 0), *grad / *total (1) or
 * *grad (2). */
int32_t dk_nll_backward_f32(int32_t reduction, float *dx, const float *grad, const float *total, const int64_t *target,
                            const float *weight, int64_t ignored, int64_t samples, int64_t classes, int64_t inner, int64_t *bad);
int32_t dk_nll_backward_f64(int32_t reduction, double *dx, const double *grad, const double *total, const int64_t *target,
                            const double *weight, int64_t ignored, int64_t samples, int64_t classes, int64_t inner, int64_t *bad);

/* Loss of n pairs x, y; d = x - y, z = |d|; p is the parameter. reduction 0: out = v; 1: REDUCE(v) / (T)n; 2: REDUCE(v).
 *   0 squared      v = d * d; REDUCE_fma(d, d) where it is summed
 *   1 smooth l1    v = z < p ? ((0.5 * z) * z) / p : z - 0.5 * p
 *   2 huber        v = z <= p ? (0.5 * z) * z : p * (z - 0.5 * p) */
int32_t dk_pair_loss_f32(int32_t kind, int32_t reduction, float *out, const float *x, const float *y, int64_t n, double p);
int32_t dk_pair_loss_f64(int32_t kind, int32_t reduction, double *out, const double *x, const double *y, int64_t n, double p);

/* Its gradient by x: dx = q * g, g = grad[i * step], q with c = 1 (reduction 1: (T)1 / (T)n):
 *   0 squared      q = ((2 * c) * d)
 *   1 smooth l1    q = d <= -p ? -c : d >= p ? c : (c * d) / p
 *   2 huber        q = d < -p ? -(c * p) : d > p ? c * p : c * d */
int32_t dk_pair_loss_backward_f32(int32_t kind, int32_t reduction, float *dx, const float *grad, int64_t step, const float *x,
                                  const float *y, int64_t n, double p);
int32_t dk_pair_loss_backward_f64(int32_t kind, int32_t reduction, double *dx, const double *grad, int64_t step, const double *x,
                                  const double *y, int64_t n, double p);

#ifdef __cplusplus
}
#endif
