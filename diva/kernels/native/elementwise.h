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
    DK_FUNCTIONS = 64,
    DK_ACTIVATIONS = 128,
    DK_RELU = 128,        /* x < 0 ? +0 : x; NaN and -0 pass */
    DK_THRESHOLD,         /* x <= p ? q : x */
    DK_THRESHOLD_BACKWARD /* x <= p ? +0 : y (y is the gradient) */
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
