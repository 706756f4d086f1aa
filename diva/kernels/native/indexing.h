#pragma once

#include <stdint.h>

#ifdef __cplusplus
extern "C" {
#endif

/* op below: 0 sum, 1 product, 2 maximum, 3 minimum. The contributions x to one destination, in ascending order of their
 * position in the source, make one chain that begins with what the destination holds: acc = acc + x, acc = acc x. For sums
 * and products (hot destinations): the first 256 contributions do; each further 256 make a chain of their own from +0 (1),
 * and the chains' results are added (multiplied) in order. maximum: acc = x > acc or x is NaN ? x : acc; acc stays when it is
 * NaN; minimum likewise. Destinations without contributions are left alone. All arrays dense, row-major.
 * DK_BAD_ARGUMENT for an index outside [0, n_dest). */

/* out (outer, n_dest, width), source (outer, n, width), index (n). x = alpha * source, rounded (nothing when alpha is 1);
 * by_count: x = source * (1 / number of contributions to that destination), both rounded. Index `skip` contributes nothing
 * (pass a negative number for none). */
int32_t dk_index_reduce_f32(float *out, const int64_t *index, const float *source, int64_t outer, int64_t n_dest, int64_t n,
                            int64_t width, int32_t op, double alpha, int32_t by_count, int64_t skip);
int32_t dk_index_reduce_f64(double *out, const int64_t *index, const double *source, int64_t outer, int64_t n_dest,
                            int64_t n, int64_t width, int32_t op, double alpha, int32_t by_count, int64_t skip);

/* out (outer, n_dest, inner), source and index (outer, n, inner): out[o, index[o, i, k], k] takes source[o, i, k]. */
int32_t dk_scatter_reduce_f32(float *out, const int64_t *index, const float *source, int64_t outer, int64_t n_dest,
                              int64_t n, int64_t inner, int32_t op);
int32_t dk_scatter_reduce_f64(double *out, const int64_t *index, const double *source, int64_t outer, int64_t n_dest,
                              int64_t n, int64_t inner, int32_t op);

/* Rows of row_bytes bytes of any type: out[o, index[i]] = source[o, i], i ascending: the last of several wins. */
int32_t dk_put_rows(void *out, const int64_t *index, const void *source, int64_t outer, int64_t n_dest, int64_t n,
                    int64_t row_bytes);

/* linear[i] = linear[i] * size + index[i], where negative indices count from the end; DK_BAD_ARGUMENT outside. */
int32_t dk_fold_index(int64_t *linear, const int64_t *index, int64_t n, int64_t size);

/* x (rows, n). The order: by value, NaN above all, -0 = +0; equal values by ascending index. select: the k first of that
 * order (largest: of the order by descending value, equal ones still by ascending index) into values, indices (rows, k). */
int32_t dk_select_f32(float *values, int64_t *indices, const float *x, int64_t rows, int64_t n, int64_t k, int32_t largest);
int32_t dk_select_f64(double *values, int64_t *indices, const double *x, int64_t rows, int64_t n, int64_t k, int32_t largest);

/* The number `k` (from 0) of each row in ascending order into values, indices (rows). nan: 0 NaN above all; 1 the first NaN
 * of a row that has one (median; k < 0: (n - 1) / 2); 2 among the numbers (nanmedian), the first NaN when there is none. */
int32_t dk_kth_f32(float *values, int64_t *indices, const float *x, int64_t rows, int64_t n, int64_t k, int32_t nan);
int32_t dk_kth_f64(double *values, int64_t *indices, const double *x, int64_t rows, int64_t n, int64_t k, int32_t nan);

/* out (bags, width) from weight (n_dest, width): bag b takes index[offset[b]], .., index[offset[b + 1] - 1] but padding.
 * mode 0 sum: DOT-like chains of 256 from +0, folded ascending: acc = acc + row, with per_sample acc = fma(w, row, acc);
 * 1 mean: that / number taken; 2 maximum: row > acc ? row : acc from the first, most (bags, width) gets its index (-1 when
 * the bag is empty). size (bags) gets the number taken. An empty bag is +0. per_sample, most may be null. */
int32_t dk_embedding_bag_f32(float *out, int64_t *size, int64_t *most, const float *weight, const int64_t *index,
                             const int64_t *offset, const float *per_sample, int64_t bags, int64_t n_dest, int64_t width,
                             int32_t mode, int64_t padding);
int32_t dk_embedding_bag_f64(double *out, int64_t *size, int64_t *most, const double *weight, const int64_t *index,
                             const int64_t *offset, const double *per_sample, int64_t bags, int64_t n_dest, int64_t width,
                             int32_t mode, int64_t padding);

/* col2im: out (planes, height, width) from columns (planes, kernel_h, kernel_w, rows, columns of windows); each pixel adds
 * the taps that reach it in ascending order of (kernel row, kernel column), one chain from +0. */
int32_t dk_fold_windows_f32(float *out, const float *x, int64_t planes, int64_t height, int64_t width, const int64_t *kernel,
                            const int64_t *dilation, const int64_t *padding, const int64_t *stride, const int64_t *windows);
int32_t dk_fold_windows_f64(double *out, const double *x, int64_t planes, int64_t height, int64_t width,
                            const int64_t *kernel, const int64_t *dilation, const int64_t *padding, const int64_t *stride,
                            const int64_t *windows);

#ifdef __cplusplus
}
#endif
