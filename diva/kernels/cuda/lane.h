// vec<T> where a thread computes one number: what vec.h is for a register of a CPU, for a thread of a GPU.
//
// The shared headers (functions*.h, activation_parts.h, elementwise formulas) are written in vec<T>; included after this
// file they are device code. A comparison gives a mask of all bits or none, as there.
#pragma once

namespace dk {

template <class T> struct bits_type;
template <> struct bits_type<float> { using type = int32_t; };
template <> struct bits_type<double> { using type = int64_t; };
template <> struct bits_type<int32_t> { using type = int32_t; };
template <> struct bits_type<int64_t> { using type = int64_t; };
template <class T> using bits_t = typename bits_type<T>::type;

// Integers wrap around: in unsigned arithmetic, where that is no error.
template <class T> struct wrapping { using type = T; };
template <> struct wrapping<int32_t> { using type = uint32_t; };
template <> struct wrapping<int64_t> { using type = uint64_t; };

template <class T> struct lane {
    using scalar = T;
    using W = typename wrapping<T>::type;
    T v;
    DK_INLINE lane() : v(0) {}
    DK_INLINE lane(T x) : v(x) {}
    DK_INLINE T operator[](int) const { return v; }
    DK_INLINE explicit operator bool() const { return v != T(0); }
    DK_INLINE lane operator-() const { return lane(T(-W(v))); }
    DK_INLINE lane operator~() const { return lane(~v); }
    DK_INLINE friend lane operator+(lane a, lane b) { return lane(T(W(a.v) + W(b.v))); }
    DK_INLINE friend lane operator-(lane a, lane b) { return lane(T(W(a.v) - W(b.v))); }
    DK_INLINE friend lane operator*(lane a, lane b) { return lane(T(W(a.v) * W(b.v))); }
    DK_INLINE friend lane operator/(lane a, lane b) { return lane(a.v / b.v); }
    DK_INLINE friend lane operator&(lane a, lane b) { return lane(a.v & b.v); }
    DK_INLINE friend lane operator|(lane a, lane b) { return lane(a.v | b.v); }
    DK_INLINE friend lane operator^(lane a, lane b) { return lane(a.v ^ b.v); }
    DK_INLINE friend lane operator<<(lane a, int n) { return lane(T(W(a.v) << n)); }
    DK_INLINE friend lane operator>>(lane a, int n) { return lane(T(a.v >> n)); }
    using mask_type = lane<bits_t<T>>;
    DK_INLINE friend mask_type operator<(lane a, lane b) { return mask_type(a.v < b.v ? -1 : 0); }
    DK_INLINE friend mask_type operator>(lane a, lane b) { return mask_type(a.v > b.v ? -1 : 0); }
    DK_INLINE friend mask_type operator<=(lane a, lane b) { return mask_type(a.v <= b.v ? -1 : 0); }
    DK_INLINE friend mask_type operator>=(lane a, lane b) { return mask_type(a.v >= b.v ? -1 : 0); }
    DK_INLINE friend mask_type operator==(lane a, lane b) { return mask_type(a.v == b.v ? -1 : 0); }
    DK_INLINE friend mask_type operator!=(lane a, lane b) { return mask_type(a.v != b.v ? -1 : 0); }
};

template <class T> using vec = lane<T>;
template <class T> using mask = lane<bits_t<T>>;
template <class T> constexpr int lanes = 1;
#define __builtin_convertvector(x, V) (V((typename V::scalar)((x).v)))

template <class T> DK_INLINE lane<T> set(T x) { return lane<T>(x); }
template <class T> DK_INLINE lane<T> load(const T *p) { return lane<T>(*p); }
template <class T> DK_INLINE void store(T *p, lane<T> x) { *p = x.v; }
template <class T> DK_INLINE lane<T> select(mask<T> m, lane<T> yes, lane<T> no) { return m.v ? yes : no; }

template <class T> DK_INLINE T infinity();
template <> DK_INLINE float infinity<float>() { return __int_as_float(0x7f800000); }
template <> DK_INLINE double infinity<double>() { return __longlong_as_double(0x7ff0000000000000); }

DK_INLINE int32_t bits_of(float x) { return __float_as_int(x); }
DK_INLINE int64_t bits_of(double x) { return __double_as_longlong(x); }
DK_INLINE float number_of(int32_t x) { return __int_as_float(x); }
DK_INLINE double number_of(int64_t x) { return __longlong_as_double(x); }
template <class T> DK_INLINE mask<T> to_bits(lane<T> x) { return mask<T>(bits_of(x.v)); }
template <class T> DK_INLINE lane<T> from_bits(mask<T> x) { return lane<T>(number_of(x.v)); }

DK_INLINE float fma(float a, float b, float c) { return __fmaf_rn(a, b, c); }
DK_INLINE double fma(double a, double b, double c) { return __fma_rn(a, b, c); }
DK_INLINE float sqrt(float a) { return __fsqrt_rn(a); }
DK_INLINE double sqrt(double a) { return __dsqrt_rn(a); }
template <class T> DK_INLINE lane<T> fma(lane<T> a, lane<T> b, lane<T> c) { return lane<T>(fma(a.v, b.v, c.v)); }
DK_INLINE lane<float> sqrt(lane<float> a) { return lane<float>(sqrt(a.v)); }
DK_INLINE lane<double> sqrt(lane<double> a) { return lane<double>(sqrt(a.v)); }

// a > b ? a : b, and a < b ? a : b: the second operand where one is NaN, and for equal zeros.
DK_INLINE lane<float> greater_of(lane<float> a, lane<float> b) { return a.v > b.v ? a : b; }
DK_INLINE lane<float> lesser_of(lane<float> a, lane<float> b) { return a.v < b.v ? a : b; }
DK_INLINE lane<double> greater_of(lane<double> a, lane<double> b) { return a.v > b.v ? a : b; }
DK_INLINE lane<double> lesser_of(lane<double> a, lane<double> b) { return a.v < b.v ? a : b; }

struct halves {
    lane<double> low, high;
};
DK_INLINE lane<double> widen(lane<float> x) { return lane<double>(double(x.v)); }
DK_INLINE lane<float> narrow(lane<double> x) { return lane<float>(float(x.v)); }
// Both halves are the same number, as in the scalar build; what is computed twice the compiler computes once.
DK_INLINE halves widen_halves(lane<float> x) { return {widen(x), widen(x)}; }
DK_INLINE lane<float> narrow_halves(halves h) { return narrow(h.low); }

}  // namespace dk
