/* Elementwise operators: out[i] = f(x[i], y[i], z[i]; p, q, r), f chosen by its number.
 *
 * The numbers below are read by operators/elementwise.py and operators/activation.py by these names. Each operation
 * written in a comment is rounded once; fma(a, b, c) is a b + c rounded once. p, q, r are rounded to the type at entry.
 * out may be x, y or z itself where that has out's layout. */
#pragma once

#include <stdint.h>

enum {
    /* arithmetic */
    DK_ADD = 0,           /* x + y */
    DK_ADD_SCALAR,        /* x + p */
    DK_ADD_SCALED,        /* fma(p, y, x): x + p y rounded once */
    DK_ADD_SCALED_SCALAR, /* fma(p, q, x) */
    DK_SUB,               /* x - y */
    DK_RSUB_SCALAR,       /* p - x */
    DK_RSUB_SCALED,       /* fma(-q, x, p): p - q x rounded once */
    DK_MUL,               /* x * y */
    DK_MUL_SCALAR,        /* x * p */
    DK_DIV,               /* x / y */
    DK_DIV_SCALAR,        /* x / p */
    DK_RDIV_SCALAR,       /* p / x */
    DK_SQRT,              /* square root, correctly rounded */
    DK_RSQRT,             /* 1 / sqrt(x), two operations */
    DK_ADDCMUL,           /* t = p * y; fma(t, z, x) */
    DK_ADDCDIV,           /* t = p * y; u = t / z; x + u */
    DK_LERP,              /* d = y - x; |z| < 1/2: fma(z, d, x); else fma(z - 1, d, y) */
    DK_LERP_SCALAR,       /* the same with p for z */
    DK_MAXIMUM,           /* NaN where one is; else x > y ? x : y (the second of two zeros) */
    DK_MINIMUM,           /* NaN where one is; else x < y ? x : y */
    DK_SQUARE,            /* x * x */
    DK_CUBE,              /* (x * x) * x */
    DK_DIV_FLOOR,         /* floor_divide below */
    DK_DIV_TRUNC,         /* trunc(x / y) */
    DK_FMOD,              /* x - trunc(x / y) y, exact */
    DK_REMAINDER,         /* fmod, moved by y where its sign is not y's */
    DK_HYPOT,             /* a = |x|, b = |y|; float32, inside in binary64: sqrt(fma(a, a, b b)); float64: big, small of
                           * the two, c = small / big, big * sqrt(fma(c, c, 1)); inf where one is */
    DK_FMAX,              /* the other where one is NaN; else x > y ? x : y */
    DK_FMIN,              /* the other where one is NaN; else x < y ? x : y */
    DK_CLAMP_MIN,         /* x < p ? p : x; NaN where p is */
    DK_CLAMP_MAX,         /* x > p ? p : x; NaN where p is */
    DK_CLAMP,             /* clamp_max(clamp_min(x; p); q) */
    DK_CLAMP_MIN_TENSOR,  /* the same with y for p */
    DK_CLAMP_MAX_TENSOR,
    DK_CLAMP_TENSOR,      /* clamp_max(clamp_min(x; y); z) */
    /* functions: float32 correctly rounded (the result is the function's value, rounded to nearest even); float64 fixed
     * programs of binary64 (functions.h, functions_fixed.h), where there is one */
    DK_EXP = 64,
    DK_EXP2,              /* float64: none */
    DK_EXPM1,
    DK_LOG,
    DK_LOG2,              /* float64: log(x) * (1 / ln 2) */
    DK_LOG10,             /* float64: log(x) * (1 / ln 10) */
    DK_LOG1P,
    DK_TANH,
    DK_SIN,               /* float64: none */
    DK_COS,               /* float64: none */
    /* fixed programs in both types, unless it says so: functions_fixed.h */
    DK_ERF,               /* float64: none */
    DK_POW,               /* x^y, inside in binary64; float64: none */
    DK_POW_SCALAR,        /* x^p */
    DK_SCALAR_POW,        /* p^x */
    DK_LOGADDEXP,         /* m = x < y ? y : x, d = -|x - y|; m + LOG1P32(EXP32(d)); where x == y: x + ln 2, infinities: x */
    DK_XLOGY,             /* NaN where y is; 0 where x is 0; else x * LOG32(y) */
    DK_XLOGY_SCALAR,      /* x * LOG32(p), the same way */
    DK_SCALAR_XLOGY,      /* p * LOG32(x) */
    DK_LOGIT,             /* LOG32(x / (1 - x)); with p >= 0 x is held in [p, 1 - p] before */
    DK_LOGIT_BACKWARD,    /* y / (x * (1 - x)); p < 0: NaN outside [0, 1], else 0 outside [p, 1 - p] */
    /* activations; EXP and LOG are fixed_exp and fixed_log (EXP32 and LOG32 in float32); sig(x): e = EXP(-|x|),
     * (x < 0 ? e : 1) / (1 + e); in a backward function y is the gradient */
    DK_RELU = 128,        /* x < 0 ? +0 : x; NaN and -0 pass */
    DK_THRESHOLD,         /* x <= p ? q : x */
    DK_SIGMOID,           /* sig(x) */
    DK_SILU,              /* x * sig(x) */
    DK_GELU,              /* h = x / 2; fma(h, ERF32(x * sqrt(1/2)), h); float64: none */
    DK_GELU_TANH,         /* i = k * fma(0.044715 * x * x, x, x), k = sqrt(2 / pi); x * sig(2 i) (= x / 2 (1 + tanh i)) */
    DK_SOFTPLUS,          /* t = x * p; t > q ? x : (max(t, 0) + LOG1P(EXP(-|t|))) / p */
    DK_MISH,              /* e = EXP(-|x|), f = x < 0 ? e (e + 2) : fma(2, e, 1), d = f + (x < 0 ? 2 : 2 e e);
                           * x * (f / d): f / d = tanh(log(1 + EXP(x))) */
    DK_ELU,               /* x > 0 ? x * q : (p q) * EXPM1(x * r) */
    DK_LOG_SIGMOID,       /* min(x, 0) - LOG1P(EXP(-|x|)) */
    DK_HARDTANH,          /* x < p ? p : x > q ? q : x */
    DK_HARDSWISH,         /* (x * clamp(x + 3, 0, 6)) / 6 */
    DK_HARDSIGMOID,       /* clamp(x + 3, 0, 6) / 6 */
    DK_LEAKY_RELU,        /* x > 0 ? x : x * p */
    DK_PRELU,             /* x > 0 ? x : y * x */
    DK_HARDSHRINK,        /* -p <= x <= p ? 0 : x */
    DK_SOFTSHRINK,        /* x > p ? x - p : x < -p ? x + p : x * 0 */
    DK_GLU,               /* x * sig(y) */
    /* their backward functions: gradient y */
    DK_THRESHOLD_BACKWARD = 192, /* x <= p ? +0 : y */
    DK_SIGMOID_BACKWARD,  /* x the result: y * ((1 - x) * x) */
    DK_TANH_BACKWARD,     /* x the result: y * fma(-x, x, 1) */
    DK_SILU_BACKWARD,     /* s = sig(x); (y * s) * fma(x, 1 - s, 1) */
    DK_GELU_BACKWARD,     /* c = fma(ERF32(x * sqrt(1/2)), 1/2, 1/2), d = EXP(-1/2 * (x * x)) * (1 / sqrt(2 pi));
                           * y * (c + x * d); float64: none */
    DK_GELU_TANH_BACKWARD, /* i as above, s = sig(2 i), j = k * fma(3 * 0.044715, x * x, 1);
                            * y * fma(((2 x) * s) * (1 - s), j, s) */
    DK_SOFTPLUS_BACKWARD, /* x * p > q ? y : y * sig(x * p) */
    DK_MISH_BACKWARD,     /* s = sig(x), t = mish's factor; y * fma(x * s, fma(-t, t, 1), t) */
    DK_ELU_BACKWARD,      /* x <= 0 ? (y * r) * ((p q) * EXP(x * r)) : y * q */
    DK_ELU_BACKWARD_RESULT, /* x the result; x <= 0 ? (y * r) * (x + p q) : y * q */
    DK_LOG_SIGMOID_BACKWARD, /* y * sig(-x) */
    DK_HARDTANH_BACKWARD, /* x <= p or x >= q ? +0 : y */
    DK_HARDSWISH_BACKWARD, /* x <= -3 ? +0 : x < 3 ? y * (x / 3 + 1/2) : y */
    DK_HARDSIGMOID_BACKWARD, /* -3 < x < 3 ? y * (1/6) : +0 */
    DK_LEAKY_RELU_BACKWARD, /* x > 0 ? y : y * p */
    DK_PRELU_BACKWARD,    /* z the weight; x > 0 ? y : z * y */
    DK_PRELU_BACKWARD_WEIGHT, /* x > 0 ? 0 : x * y */
    DK_HARDSHRINK_BACKWARD, /* -p <= x <= p ? 0 : y */
    DK_GLU_BACKWARD_GATE /* x the first half, z the gate: s = sig(z); ((y * x) * ((1 - s) * s)) */
};

#ifdef __cplusplus
extern "C" {
#endif

/* All operands dense and of one layout: n numbers each. Operands and scalars that f does not take are ignored. */
int32_t dk_unary_f32(int32_t f, int64_t n, float *out, const float *x);
int32_t dk_unary_f64(int32_t f, int64_t n, double *out, const double *x);
int32_t dk_scalar_f32(int32_t f, int64_t n, float *out, const float *x, double p, double q, double r);
int32_t dk_scalar_f64(int32_t f, int64_t n, double *out, const double *x, double p, double q, double r);
int32_t dk_binary_f32(int32_t f, int64_t n, float *out, const float *x, const float *y);
int32_t dk_binary_f64(int32_t f, int64_t n, double *out, const double *x, const double *y);
int32_t dk_elementwise_f32(int32_t f, int64_t n, float *out, const float *x, const float *y, const float *z, double p, double q,
                           double r);
int32_t dk_elementwise_f64(int32_t f, int64_t n, double *out, const double *x, const double *y, const double *z, double p,
                           double q, double r);

/* Any strides: out is dense, its dimensions listed from the outermost to the innermost in memory in sizes[ndim];
 * strides[3][ndim] are those of x, y and z in the same order of dimensions, 0 where one is broadcast or not there.
 * ndim up to 64. */
int32_t dk_elementwise_strided_f32(int32_t f, int32_t ndim, const int64_t *sizes, const int64_t *strides, float *out,
                                   const float *x, const float *y, const float *z, double p, double q, double r);
int32_t dk_elementwise_strided_f64(int32_t f, int32_t ndim, const int64_t *sizes, const int64_t *strides, double *out,
                                   const double *x, const double *y, const double *z, double p, double q, double r);

#ifdef __cplusplus
}
#endif
