/* Optimizer steps, D8: the operations of torch.optim's single-tensor functions in their order, one pass over memory.
 *
 * Each function takes lists of `count` dense arrays as addresses, with the number of elements of each; corresponding
 * elements lie at the same place. Scalars are rounded once to the type; which terms there are is said by `flags`, the sum
 * of: 1 weight decay, 2 maximize (g = -g first), 4 Nesterov or AMSGrad, 8 decoupled weight decay. */
#pragma once

#include <stdint.h>

#ifdef __cplusplus
extern "C" {
#endif

/* g = fma(weight_decay, p, g); b = fma(1 - dampening, g, momentum b) (`first`: b = g); Nesterov: g = fma(momentum, b, g),
 * else g = b; p = fma(-lr, g, p). `kept` is 1 - dampening. buffers NULL: no momentum, p = fma(-lr, g, p) at once. */
int32_t dk_sgd_f32(const int64_t *params, const int64_t *grads, const int64_t *buffers, const int64_t *sizes, int64_t count,
                   double lr, double momentum, double kept, double weight_decay, int32_t flags, int32_t first);
int32_t dk_sgd_f64(const int64_t *params, const int64_t *grads, const int64_t *buffers, const int64_t *sizes, int64_t count,
                   double lr, double momentum, double kept, double weight_decay, int32_t flags, int32_t first);

/* Weight decay: g = fma(weight_decay, p, g), decoupled: p = shrink p. m = lerp(m, g, weight1);
 * v = fma(weight2 g, g, beta2 v); AMSGrad: w = v > w ? v : w (NaN wins), else w = v;
 * p = p + (step_sizes[t] m) / (sqrt(w) / roots[t] + eps). shrink = 1 - lr weight_decay, weight1 = 1 - beta1,
 * weight2 = 1 - beta2, step_sizes = -lr / (1 - beta1^step), roots = sqrt(1 - beta2^step). maxima NULL without AMSGrad. */
int32_t dk_adam_f32(const int64_t *params, const int64_t *grads, const int64_t *means, const int64_t *squares,
                    const int64_t *maxima, const int64_t *sizes, int64_t count, const double *step_sizes, const double *roots,
                    double weight1, double beta2, double weight2, double eps, double weight_decay, double shrink, int32_t flags);
int32_t dk_adam_f64(const int64_t *params, const int64_t *grads, const int64_t *means, const int64_t *squares,
                    const int64_t *maxima, const int64_t *sizes, int64_t count, const double *step_sizes, const double *roots,
                    double weight1, double beta2, double weight2, double eps, double weight_decay, double shrink, int32_t flags);

/* g = fma(weight_decay, p, g); s = fma(g, g, s); p = p + (step_sizes[t] g) / (sqrt(s) + eps).
 * step_sizes = -lr / (1 + (step - 1) lr_decay). */
int32_t dk_adagrad_f32(const int64_t *params, const int64_t *grads, const int64_t *sums, const int64_t *sizes, int64_t count,
                       const double *step_sizes, double eps, double weight_decay, int32_t flags);
int32_t dk_adagrad_f64(const int64_t *params, const int64_t *grads, const int64_t *sums, const int64_t *sizes, int64_t count,
                       const double *step_sizes, double eps, double weight_decay, int32_t flags);

#ifdef __cplusplus
}
#endif
