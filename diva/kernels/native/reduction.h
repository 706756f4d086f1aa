/* Sums over any dimensions: REDUCE of D3 (reduce.h); the order is the row-major order of the reduced dimensions,
 * whatever the memory layout. */
#pragma once

#include <stdint.h>

#ifdef __cplusplus
extern "C" {
#endif

/* What is summed over the n reduced elements x, and what becomes of the sum:
 *   0 sum             REDUCE(x)
 *   1 mean            REDUCE(x) / (T)n
 *   2 squares         REDUCE_fma(x, x)
 *   3 2-norm          sqrt(REDUCE_fma(x, x))
 *   4 1-norm          REDUCE(|x|)
 *   5 sum of numbers  REDUCE(x is NaN ? +0 : x)
 *   6 deviations      d = x - center; REDUCE_fma(d, d), center one number per output
 *   7 0-norm          REDUCE(x != 0 ? 1 : 0)
 *   8 products        PROD(x): chains p = p x from 1 over 256 elements, ascending; their results chained the same way
 */

/* x is (outer, n, inner), row-major without gaps; out (and center, or NULL) is (outer, inner). */
int32_t dk_reduce_f32(int32_t kind, float *out, const float *x, const float *center, int64_t outer, int64_t n, int64_t inner);
int32_t dk_reduce_f64(int32_t kind, double *out, const double *x, const double *center, int64_t outer, int64_t n, int64_t inner);

/* x has `reduced` dimensions to reduce and then `kept` ones (each in the tensor's order; together at most 32), sizes and
 * strides of both; out (and center, or NULL) is row-major over the kept ones. */
int32_t dk_reduce_strided_f32(int32_t kind, float *out, const float *x, const float *center, int64_t reduced, int64_t kept,
                              const int64_t *sizes, const int64_t *strides);
int32_t dk_reduce_strided_f64(int32_t kind, double *out, const double *x, const double *center, int64_t reduced, int64_t kept,
                              const int64_t *sizes, const int64_t *strides);

/* mean = REDUCE(x) / (T)n; d = x - mean; var = REDUCE_fma(d, d) / (T)divisor; root != 0: sqrt of that. Layout as above. */
int32_t dk_variance_f32(int32_t root, float *var, float *mean, const float *x, double divisor, int64_t reduced, int64_t kept,
                        const int64_t *sizes, const int64_t *strides);
int32_t dk_variance_f64(int32_t root, double *var, double *mean, const double *x, double divisor, int64_t reduced, int64_t kept,
                        const int64_t *sizes, const int64_t *strides);

/* Running sums (product = 0) or products along the middle dimension of (outer, n, inner), without gaps. Chunks of 256: inside
 * one the chain p = p + x from +0 (p = p * x from 1), ascending; y = R + p (R * p), R = the chunks before, folded ascending
 * from +0 (1). */
int32_t dk_cumulate_f32(int32_t product, float *out, const float *x, int64_t outer, int64_t n, int64_t inner);
int32_t dk_cumulate_f64(int32_t product, double *out, const double *x, int64_t outer, int64_t n, int64_t inner);

#ifdef __cplusplus
}
#endif
