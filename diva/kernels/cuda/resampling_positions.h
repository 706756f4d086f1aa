// Where an output of a resampled axis reads and with which weights: the formulas of native/resampling_axis.h for one output.
#pragma once

#include "device.h"

namespace dk {

enum Mode : int32_t { nearest = 0, nearest_exact = 1, linear = 2, cubic = 3, reflect = 4, replicate = 5 };

constexpr int taps_of(int32_t mode) { return mode == linear ? 2 : mode == cubic ? 4 : 1; }

struct AxisShape {
    int64_t in, out;
    double scale;
    int64_t left;
    int32_t mode;
    bool align;
};

// An axis that is not resampled: output i is input i.
DK_INLINE bool is_copied(const AxisShape &a) {
    if (a.mode == nearest_exact) return a.in == a.out && !(a.scale > 0);
    if (a.mode == reflect || a.mode == replicate) return a.in == a.out && a.left == 0;
    return a.in == a.out;
}

DK_INLINE int64_t at_most(int64_t i, int64_t most) { return i < most ? i : most; }

DK_INLINE int64_t floor_div(int64_t a, int64_t b) { return a >= 0 ? a / b : -((-a + b - 1) / b); }

// floor(position) clamped to [-2, in], as an integer.
DK_INLINE int64_t floor_clamped(double position, int64_t in) {
    if (!(position > -2)) return -2;
    if (position >= double(in)) return in;
    const int64_t whole = int64_t(position);
    return double(whole) > position ? whole - 1 : whole;
}

DK_INLINE int64_t nearest_source(const AxisShape &a, int64_t i) {
    int64_t first;
    if (a.mode == nearest_exact)
        first = a.scale > 0 ? floor_clamped((double(i) + 0.5) / a.scale, a.in) : (2 * i + 1) * a.in / (2 * a.out);
    else if (a.out == 2 * a.in)
        first = i >> 1;
    else
        first = a.scale > 0 ? floor_clamped(double(i) / a.scale, a.in) : i * a.in / a.out;
    return at_most(first, a.in - 1);
}

// The whole part of a source position; t: the fractional part, rounded once.
template <class T> DK_INLINE int64_t source(const AxisShape &a, int64_t i, T &t) {
    if (!a.align && a.scale > 0) {
        double position = (double(i) + 0.5) / a.scale - 0.5;
        if (a.mode == linear && !(position > 0)) position = 0;
        const int64_t first = at_most(floor_clamped(position, a.in), a.in - 1);
        const double rest = position - double(first);
        t = T(!(rest > 0) ? 0.0 : rest >= 1 ? 1.0 : rest);
        return first;
    }
    int64_t numerator = a.align ? (a.out > 1 ? i * (a.in - 1) : 0) : (2 * i + 1) * a.in - a.out;
    const int64_t denominator = a.align ? (a.out > 1 ? a.out - 1 : 1) : 2 * a.out;
    if (a.mode == linear && numerator < 0) numerator = 0;
    const int64_t first = floor_div(numerator, denominator);
    t = T(double(numerator - first * denominator) / double(denominator));
    return first;
}

template <class T> DK_INLINE T cubic_near(T x) { return fma(fma(T(1.25), x, T(-2.25)) * x, x, T(1)); }
template <class T> DK_INLINE T cubic_far(T x) { return fma(fma(fma(T(-0.75), x, T(3.75)), x, T(-6)), x, T(3)); }

// The first source of output i; tap k of linear reads min(first + k, in - 1), of cubic first - 1 + k, clamped.
DK_INLINE int64_t first_source(const AxisShape &a, int64_t i) {
    if (taps_of(a.mode) == 1) return nearest_source(a, i);
    double ignored;
    return source(a, i, ignored);
}

template <int taps> DK_INLINE int64_t tap_source(int64_t first, int k, int64_t in) {
    if constexpr (taps == 1) return first;
    const int64_t i = at_most(taps == 4 ? first - 1 + k : first + k, in - 1);
    return i > 0 ? i : 0;
}

}  // namespace dk
