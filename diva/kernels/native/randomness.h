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
