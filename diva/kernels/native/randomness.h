/* Randomness, D7: Philox4x32-10 keyed by a nonce of 62 bits, counted by the element's row-major index.
 *
 * Every function fills a dense array; element i depends on (nonce, i) and the parameters alone. Which words of which
 * counter element i takes, and each distribution's program, are written in reference/randomness.py. */
#pragma once

#include <stdint.h>

#ifdef __cplusplus
extern "C" {
#endif

/* Philox4x32-10: four words of one counter under one key (for known-answer tests). */
int32_t dk_philox(const uint32_t *counter, const uint32_t *key, uint32_t *words);

/* out[i] = fma(u_i, high - low, low), u_i = (2 (word32 >> 9) + 1) 2^-24, in binary64 (2 (word64 >> 12) + 1) 2^-53. */
int32_t dk_uniform_f32(float *out, int64_t n, uint64_t nonce, double low, double high);
int32_t dk_uniform_f64(double *out, int64_t n, uint64_t nonce, double low, double high);

/* out[i] = fma(z_i, std, mean), z_i by inverse CDF (AS241). */
int32_t dk_normal_f32(float *out, int64_t n, uint64_t nonce, double mean, double std);
int32_t dk_normal_f64(double *out, int64_t n, uint64_t nonce, double mean, double std);

/* The same with a mean and a standard deviation per element; DK_BAD_ARGUMENT when a deviation is below 0 or NaN. */
int32_t dk_normal_each_f32(float *out, int64_t n, uint64_t nonce, const float *mean, const float *std);
int32_t dk_normal_each_f64(double *out, int64_t n, uint64_t nonce, const double *mean, const double *std);

/* Normal between low and high: inside in binary64, v_i = fma(u_i, width, from), u_i of 53 bits, is a probability;
 * t = v_i <= 1/2 ? v_i : 1 - v_i; z = quantile(t, 1/2 - t), negative where v_i <= 1/2; x = fma(z, std, mean), held in
 * [low, high]. from and width are binary64, the others rounded to the type. */
int32_t dk_truncated_normal_f32(float *out, int64_t n, uint64_t nonce, double mean, double std, double low, double high,
                                double from, double width);
int32_t dk_truncated_normal_f64(double *out, int64_t n, uint64_t nonce, double mean, double std, double low, double high,
                                double from, double width);

/* out[i] = e_i / rate, e_i = -log(u_i); binary32: the logarithm in binary64, rounded to binary32 before the division. */
int32_t dk_exponential_f32(float *out, int64_t n, uint64_t nonce, double rate);
int32_t dk_exponential_f64(double *out, int64_t n, uint64_t nonce, double rate);

/* out[i] = fma(tan(pi (u_i - 1/2)), scale, median), in binary64 for both types, then rounded. */
int32_t dk_cauchy_f32(float *out, int64_t n, uint64_t nonce, double median, double scale);
int32_t dk_cauchy_f64(double *out, int64_t n, uint64_t nonce, double median, double scale);

/* out[i] = fixed_exp(fma(z_i, std, mean)), the exponential in binary64 for both types, then rounded. */
int32_t dk_log_normal_f32(float *out, int64_t n, uint64_t nonce, double mean, double std);
int32_t dk_log_normal_f64(double *out, int64_t n, uint64_t nonce, double mean, double std);

/* out[i] = ceil(log(u_i) / log_failure), log_failure = log(1 - p). */
int32_t dk_geometric(double *out, int64_t n, uint64_t nonce, double log_failure);

/* out = the permutation of 0..n-1 that sorts the elements by (word64_i, i). */
int32_t dk_permutation(int64_t *out, int64_t n, uint64_t nonce);

/* rows x count categories from rows x n weights. With replacement: c_j = c_{j-1} + w_j, j ascending; u_i of 53 bits,
 * i = row count + draw; the first j with c_j > u_i c_{n-1} (if rounding leaves none, the last with w_j > 0).
 * Without: the `count` smallest of e_i / w_j, e_i = -log(u_i), i = row n + j, among w_j > 0, ascending, ties by j.
 * DK_BAD_ARGUMENT: a weight below 0, infinite or NaN, a row without positive weight, or with fewer than count. */
int32_t dk_multinomial(int64_t *out, const double *weights, int64_t rows, int64_t n, int64_t count, uint64_t nonce,
                       int32_t replacement);

/* out[i] = word32_i < round(p 2^32) ? 1 : 0; ties of the rounding to even. */
int32_t dk_bernoulli_f32(float *out, int64_t n, uint64_t nonce, double p);
int32_t dk_bernoulli_f64(double *out, int64_t n, uint64_t nonce, double p);
int32_t dk_bernoulli_u8(uint8_t *out, int64_t n, uint64_t nonce, double p);

/* The same with one probability per element; DK_BAD_ARGUMENT when one is outside [0, 1] or NaN. */
int32_t dk_bernoulli_each_f32(uint8_t *out, int64_t n, uint64_t nonce, const float *p);
int32_t dk_bernoulli_each_f64(uint8_t *out, int64_t n, uint64_t nonce, const double *p);

/* out[i] = low + high 64 bits of (word64_i range); range 0 stands for 2^64. */
int32_t dk_integers(int64_t *out, int64_t n, uint64_t nonce, int64_t low, uint64_t range);

#ifdef __cplusplus
}
#endif
