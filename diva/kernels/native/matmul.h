/* Matrix products. R[i][j] = DOT over k of A[i][k] B[k][j] (D1: chunks of 256 terms, each a chain acc = fma(a, b, acc) from +0
 * with k ascending; R = +0, then R = R + chain, chunks ascending). Then, where there is a matrix to add:
 *   out = beta C + alpha R: two products and one sum, each rounded; a factor of 1 is left out; beta == 0 leaves out beta C.
 * Strides count elements and may be 0 or swapped (a transposed matrix); out may be C itself with the same strides, else it
 * overlaps no operand. */
#pragma once

#include <stdint.h>

#ifdef __cplusplus
extern "C" {
#endif

/* out (m, n) = A (m, k) B (k, n). */
int32_t dk_mm_f32(int64_t m, int64_t n, int64_t k, const float *a, int64_t a_row, int64_t a_k, const float *b, int64_t b_k,
                  int64_t b_col, float *out, int64_t out_row, int64_t out_col);
int32_t dk_mm_f64(int64_t m, int64_t n, int64_t k, const double *a, int64_t a_row, int64_t a_k, const double *b, int64_t b_k,
                  int64_t b_col, double *out, int64_t out_row, int64_t out_col);

/* out (m, n) = beta C + alpha A B; C is read with its strides (a row of C for each row of out: c_row == 0). */
int32_t dk_addmm_f32(int64_t m, int64_t n, int64_t k, const float *a, int64_t a_row, int64_t a_k, const float *b, int64_t b_k,
                     int64_t b_col, float *out, int64_t out_row, int64_t out_col, const float *c, int64_t c_row, int64_t c_col,
                     double beta, double alpha);
int32_t dk_addmm_f64(int64_t m, int64_t n, int64_t k, const double *a, int64_t a_row, int64_t a_k, const double *b, int64_t b_k,
                     int64_t b_col, double *out, int64_t out_row, int64_t out_col, const double *c, int64_t c_row, int64_t c_col,
                     double beta, double alpha);

/* out (batch, m, n) = A (batch, m, k) B (batch, k, n), each matrix on its own. */
int32_t dk_bmm_f32(int64_t batch, int64_t m, int64_t n, int64_t k, const float *a, int64_t a_batch, int64_t a_row, int64_t a_k,
                   const float *b, int64_t b_batch, int64_t b_k, int64_t b_col, float *out, int64_t out_batch, int64_t out_row,
                   int64_t out_col);
int32_t dk_bmm_f64(int64_t batch, int64_t m, int64_t n, int64_t k, const double *a, int64_t a_batch, int64_t a_row, int64_t a_k,
                   const double *b, int64_t b_batch, int64_t b_k, int64_t b_col, double *out, int64_t out_batch, int64_t out_row,
                   int64_t out_col);

/* out (batch, m, n) = beta C + alpha A B, each matrix on its own. */
int32_t dk_baddbmm_f32(int64_t batch, int64_t m, int64_t n, int64_t k, const float *a, int64_t a_batch, int64_t a_row,
                       int64_t a_k, const float *b, int64_t b_batch, int64_t b_k, int64_t b_col, float *out, int64_t out_batch,
                       int64_t out_row, int64_t out_col, const float *c, int64_t c_batch, int64_t c_row, int64_t c_col,
                       double beta, double alpha);
int32_t dk_baddbmm_f64(int64_t batch, int64_t m, int64_t n, int64_t k, const double *a, int64_t a_batch, int64_t a_row,
                       int64_t a_k, const double *b, int64_t b_batch, int64_t b_k, int64_t b_col, double *out, int64_t out_batch,
                       int64_t out_row, int64_t out_col, const double *c, int64_t c_batch, int64_t c_row, int64_t c_col,
                       double beta, double alpha);

/* out (m, n) = beta C + alpha R, where R is one DOT over (batch, k), batch the slower. */
int32_t dk_addbmm_f32(int64_t batch, int64_t m, int64_t n, int64_t k, const float *a, int64_t a_batch, int64_t a_row, int64_t a_k,
                      const float *b, int64_t b_batch, int64_t b_k, int64_t b_col, float *out, int64_t out_row, int64_t out_col,
                      const float *c, int64_t c_row, int64_t c_col, double beta, double alpha);
int32_t dk_addbmm_f64(int64_t batch, int64_t m, int64_t n, int64_t k, const double *a, int64_t a_batch, int64_t a_row,
                      int64_t a_k, const double *b, int64_t b_batch, int64_t b_k, int64_t b_col, double *out, int64_t out_row,
                      int64_t out_col, const double *c, int64_t c_row, int64_t c_col, double beta, double alpha);

/* out (1) = DOT over i of x[i * x_step] y[i * y_step]. */
int32_t dk_dot_f32(int64_t n, const float *x, int64_t x_step, const float *y, int64_t y_step, float *out);
int32_t dk_dot_f64(int64_t n, const double *x, int64_t x_step, const double *y, int64_t y_step, double *out);

#ifdef __cplusplus
}
#endif
