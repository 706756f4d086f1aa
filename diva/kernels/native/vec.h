// One register of numbers: the same source for every instruction set.
//
// A `vec<T>` holds lanes<T> numbers of T (float, double, int32_t, int64_t). + - * / & | ^ << >> and comparisons are the
// compiler's own vector operations, lane by lane, each rounded once; a comparison gives a mask (all bits set or none)
// for `select`. Fused multiply-add and square root are written out, because the language has no operator for them and
// the compiler is forbidden to make them up (-ffp-contract=off).
#pragma once

#if defined(DK_DEVICE)  // a GPU's threads compute one number each
#include "../cuda/device.h"
#else

#include <cstdint>
#include <cstring>

#if defined(DK_AVX512) || defined(DK_AVX2)
#include <immintrin.h>
#elif defined(DK_NEON)
#include <arm_neon.h>
#elif !defined(DK_SCALAR)
#error "compile with one of -DDK_SCALAR, -DDK_AVX2, -DDK_AVX512, -DDK_NEON"
#endif

#define DK_INLINE inline __attribute__((always_inline))
#define DK_UNROLL _Pragma("GCC unroll 16")
#define DK_TABLE alignas(64) constexpr

namespace dk {

#if defined(DK_AVX512)
constexpr int vector_bytes = 64;
#elif defined(DK_AVX2)
constexpr int vector_bytes = 32;
#elif defined(DK_NEON)
constexpr int vector_bytes = 16;
#else
constexpr int vector_bytes = 0;  // one number at a time
#endif

template <class T> constexpr int lanes = vector_bytes ? vector_bytes / int(sizeof(T)) : 1;

template <class T> struct vec_type {
    typedef T type __attribute__((vector_size(lanes<T> * sizeof(T))));
};
template <class T> using vec = typename vec_type<T>::type;

// The integer of the same width: the type of masks and of bit patterns.
template <class T> struct bits_type;
template <> struct bits_type<float> { using type = int32_t; };
template <> struct bits_type<double> { using type = int64_t; };
template <> struct bits_type<int32_t> { using type = int32_t; };
template <> struct bits_type<int64_t> { using type = int64_t; };
template <class T> using bits_t = typename bits_type<T>::type;
template <class T> using mask = vec<bits_t<T>>;

template <class T> DK_INLINE vec<T> set(T x) { return x - vec<T>{}; }  // -0 - +0 = -0: exact for every x

template <class T> DK_INLINE vec<T> load(const T *p) {
    vec<T> v;
    std::memcpy(&v, p, sizeof v);
    return v;
}
template <class T> DK_INLINE void store(T *p, vec<T> v) { std::memcpy(p, &v, sizeof v); }

// The first n lanes (0 <= n <= lanes<T>); loaded lanes beyond are +0, stored lanes beyond are left alone.
template <class T> DK_INLINE vec<T> load(const T *p, int64_t n) {
    vec<T> v{};
    std::memcpy(&v, p, size_t(n) * sizeof(T));
    return v;
}
template <class T> DK_INLINE void store(T *p, vec<T> v, int64_t n) { std::memcpy(p, &v, size_t(n) * sizeof(T)); }

template <class T> DK_INLINE vec<T> select(mask<T> m, vec<T> yes, vec<T> no) { return m ? yes : no; }

template <class T> DK_INLINE mask<T> to_bits(vec<T> v) {
    mask<T> m;
    std::memcpy(&m, &v, sizeof v);
    return m;
}
template <class T> DK_INLINE vec<T> from_bits(mask<T> m) {
    vec<T> v;
    std::memcpy(&v, &m, sizeof v);
    return v;
}

// fma(a, b, c) = a b + c, rounded once.
#if defined(DK_AVX512)
DK_INLINE vec<float> fma(vec<float> a, vec<float> b, vec<float> c) {
    return (vec<float>)_mm512_fmadd_ps((__m512)a, (__m512)b, (__m512)c);
}
DK_INLINE vec<double> fma(vec<double> a, vec<double> b, vec<double> c) {
    return (vec<double>)_mm512_fmadd_pd((__m512d)a, (__m512d)b, (__m512d)c);
}
DK_INLINE vec<float> sqrt(vec<float> a) { return (vec<float>)_mm512_maskz_sqrt_ps(__mmask16(-1), (__m512)a); }
DK_INLINE vec<double> sqrt(vec<double> a) { return (vec<double>)_mm512_maskz_sqrt_pd(__mmask8(-1), (__m512d)a); }
template <> DK_INLINE vec<float> load(const float *p, int64_t n) {
    return (vec<float>)_mm512_maskz_loadu_ps(__mmask16((1u << n) - 1), p);
}
template <> DK_INLINE vec<double> load(const double *p, int64_t n) {
    return (vec<double>)_mm512_maskz_loadu_pd(__mmask8((1u << n) - 1), p);
}
template <> DK_INLINE void store(float *p, vec<float> v, int64_t n) {
    _mm512_mask_storeu_ps(p, __mmask16((1u << n) - 1), (__m512)v);
}
template <> DK_INLINE void store(double *p, vec<double> v, int64_t n) {
    _mm512_mask_storeu_pd(p, __mmask8((1u << n) - 1), (__m512d)v);
}
#elif defined(DK_AVX2)
DK_INLINE vec<float> fma(vec<float> a, vec<float> b, vec<float> c) {
    return (vec<float>)_mm256_fmadd_ps((__m256)a, (__m256)b, (__m256)c);
}
DK_INLINE vec<double> fma(vec<double> a, vec<double> b, vec<double> c) {
    return (vec<double>)_mm256_fmadd_pd((__m256d)a, (__m256d)b, (__m256d)c);
}
DK_INLINE vec<float> sqrt(vec<float> a) { return (vec<float>)_mm256_sqrt_ps((__m256)a); }
DK_INLINE vec<double> sqrt(vec<double> a) { return (vec<double>)_mm256_sqrt_pd((__m256d)a); }
#elif defined(DK_NEON)
DK_INLINE vec<float> fma(vec<float> a, vec<float> b, vec<float> c) {
    return (vec<float>)vfmaq_f32((float32x4_t)c, (float32x4_t)a, (float32x4_t)b);
}
DK_INLINE vec<double> fma(vec<double> a, vec<double> b, vec<double> c) {
    return (vec<double>)vfmaq_f64((float64x2_t)c, (float64x2_t)a, (float64x2_t)b);
}
DK_INLINE vec<float> sqrt(vec<float> a) { return (vec<float>)vsqrtq_f32((float32x4_t)a); }
DK_INLINE vec<double> sqrt(vec<double> a) { return (vec<double>)vsqrtq_f64((float64x2_t)a); }
#else
DK_INLINE vec<float> fma(vec<float> a, vec<float> b, vec<float> c) { return vec<float>{__builtin_fmaf(a[0], b[0], c[0])}; }
DK_INLINE vec<double> fma(vec<double> a, vec<double> b, vec<double> c) { return vec<double>{__builtin_fma(a[0], b[0], c[0])}; }
DK_INLINE vec<float> sqrt(vec<float> a) { return vec<float>{__builtin_sqrtf(a[0])}; }
DK_INLINE vec<double> sqrt(vec<double> a) { return vec<double>{__builtin_sqrt(a[0])}; }
#endif
DK_INLINE float fma(float a, float b, float c) { return __builtin_fmaf(a, b, c); }
DK_INLINE double fma(double a, double b, double c) { return __builtin_fma(a, b, c); }
DK_INLINE float sqrt(float a) { return __builtin_sqrtf(a); }
DK_INLINE double sqrt(double a) { return __builtin_sqrt(a); }

// a > b ? a : b, and a < b ? a : b: the second operand where one is NaN, and for equal zeros.
#if defined(DK_AVX512)
DK_INLINE vec<float> greater_of(vec<float> a, vec<float> b) {
    return (vec<float>)_mm512_maskz_max_ps(__mmask16(-1), (__m512)a, (__m512)b);
}
DK_INLINE vec<float> lesser_of(vec<float> a, vec<float> b) {
    return (vec<float>)_mm512_maskz_min_ps(__mmask16(-1), (__m512)a, (__m512)b);
}
#elif defined(DK_AVX2)
DK_INLINE vec<float> greater_of(vec<float> a, vec<float> b) { return (vec<float>)_mm256_max_ps((__m256)a, (__m256)b); }
DK_INLINE vec<float> lesser_of(vec<float> a, vec<float> b) { return (vec<float>)_mm256_min_ps((__m256)a, (__m256)b); }
#else
DK_INLINE vec<float> greater_of(vec<float> a, vec<float> b) { return a > b ? a : b; }
DK_INLINE vec<float> lesser_of(vec<float> a, vec<float> b) { return a < b ? a : b; }
#endif
DK_INLINE vec<double> greater_of(vec<double> a, vec<double> b) { return a > b ? a : b; }
DK_INLINE vec<double> lesser_of(vec<double> a, vec<double> b) { return a < b ? a : b; }

// float <-> double: the lower and the upper half of a register of floats, each as a register of doubles.
struct halves {
    vec<double> low, high;
};
#if defined(DK_SCALAR)
DK_INLINE vec<double> widen(vec<float> v) { return vec<double>{double(v[0])}; }
DK_INLINE vec<float> narrow(vec<double> v) { return vec<float>{float(v[0])}; }
// In the scalar build both halves are the same number, so that one program serves every width.
DK_INLINE halves widen_halves(vec<float> v) { return {widen(v), widen(v)}; }
DK_INLINE vec<float> narrow_halves(halves h) { return narrow(h.low); }
#else
typedef float half_vec __attribute__((vector_size(vector_bytes / 2)));
DK_INLINE halves widen_halves(vec<float> v) {
    half_vec part[2];
    std::memcpy(part, &v, sizeof v);
    return {__builtin_convertvector(part[0], vec<double>), __builtin_convertvector(part[1], vec<double>)};
}
DK_INLINE vec<float> narrow_halves(halves h) {
    half_vec part[2] = {__builtin_convertvector(h.low, half_vec), __builtin_convertvector(h.high, half_vec)};
    vec<float> v;
    std::memcpy(&v, part, sizeof v);
    return v;
}
#endif

}  // namespace dk

#endif  // DK_DEVICE
