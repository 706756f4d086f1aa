// grid_sample: where a position reads and with which weights: the formulas of native/resampling_grid.cpp for one position.
#pragma once

#include "device.h"
#include "resampling_positions.h"

namespace dk {

enum Interpolation : int32_t { by_line = 0, by_nearest = 1, by_cubic = 2 };
enum Padding : int32_t { zeros = 0, border = 1, reflection = 2 };

constexpr int taps_along(int interpolation) { return interpolation == by_line ? 2 : interpolation == by_nearest ? 1 : 4; }

struct SampledImage {
    int32_t in[3];  // x, y, z: as the grid's numbers are ordered; a missing axis is 1
    int32_t padding;
    bool align;
};

// One axis of one position: where its taps are (-1 outside), their weights and the weights' slopes.
template <class T, int n> struct GridAxisTaps {
    int32_t at[n];
    T weight[n], slope[n];
    T factor;  // dp/dg
};

template <class T> DK_INLINE T floor_of(T p) {  // |p| < 2^31
    const T whole = T(int32_t(p));
    return whole > p ? whole - T(1) : whole;
}

template <class T> DK_INLINE T clamped(T p, int32_t in, T &factor) {
    const T most = T(in - 1);
    if (!(p > T(0))) return factor = T(0), T(0);
    if (p >= most) return factor = T(0), most;
    return p;
}

template <class T> DK_INLINE T padded(T p, int32_t in, const SampledImage &g, T &factor) {
    if (g.padding == zeros) return p;
    if (g.padding == border) return clamped(p, in, factor);
    const T low = g.align ? T(0) : T(-0.5), span = g.align ? T(in - 1) : T(in);
    if (!(span > T(0))) return factor = T(0), T(0);
    T d = p - low;
    if (d < T(0)) d = -d, factor = -factor;
    const T ratio = d / span;
    if (!(ratio < T(2147483648.0))) return factor = T(0), T(-100);
    const T flips = floor_of(ratio);
    T rest = fma(-flips, span, d);
    if (int32_t(flips) % 2) rest = span - rest, factor = -factor;
    return clamped(rest + low, in, factor);
}

template <class T> DK_INLINE T guarded(T p) { return p < T(2147483647.0) && p > T(-2147483648.0) ? p : T(-100); }
DK_INLINE int32_t inside(int64_t i, int32_t in) { return i >= 0 && i < in ? int32_t(i) : -1; }

template <class T> DK_INLINE T near_slope(T x) { return fma(T(3.75), x, T(-4.5)) * x; }
template <class T> DK_INLINE T far_slope(T x) { return fma(fma(T(-2.25), x, T(7.5)), x, T(-6)); }

template <int interpolation, class T>
DK_INLINE GridAxisTaps<T, taps_along(interpolation)> axis_taps(const SampledImage &g, T value, int32_t in) {
    GridAxisTaps<T, taps_along(interpolation)> t;
    const T size = T(in);
    T p = g.align ? (value + T(1)) / T(2) * (size - T(1)) : ((value + T(1)) * size - T(1)) / T(2);
    t.factor = g.align ? (size - T(1)) / T(2) : size / T(2);
    if constexpr (interpolation == by_cubic) {
        p = guarded(p);
        const T first = floor_of(p), f = p - first, back = T(1) - f;
        DK_UNROLL for (int k = 0; k < 4; ++k) {
            T ignored = T(1);
            t.at[k] = inside(int64_t(guarded(padded(first + T(k - 1), in, g, ignored))), in);
        }
        t.weight[0] = cubic_far(f + T(1)), t.weight[1] = cubic_near(f);
        t.weight[2] = cubic_near(back), t.weight[3] = cubic_far(back + T(1));
        t.slope[0] = far_slope(f + T(1)), t.slope[1] = near_slope(f);
        t.slope[2] = -near_slope(back), t.slope[3] = -far_slope(back + T(1));
        return t;
    }
    p = guarded(padded(p, in, g, t.factor));
    const T first = floor_of(p), f = p - first;
    if constexpr (interpolation == by_nearest) {
        const bool up = f > T(0.5) || (f == T(0.5) && int64_t(first) % 2 != 0);
        t.at[0] = inside(int64_t(first) + up, in), t.weight[0] = T(1), t.slope[0] = T(0);
    }
    if constexpr (interpolation == by_line) {
        t.at[0] = inside(int64_t(first), in), t.at[1] = inside(int64_t(first) + 1, in);
        t.weight[0] = (first + T(1)) - p, t.weight[1] = f;
        t.slope[0] = T(-1), t.slope[1] = T(1);
    }
    return t;
}

// All taps of a position, z slowest: offset -1 where one is outside.
template <class T, int axes, int interpolation> struct GridTaps {
    static constexpr int each = taps_along(interpolation), deep = axes == 3 ? each : 1, count = each * each * deep;
    GridAxisTaps<T, each> x, y, z;

    DK_INLINE GridTaps(const SampledImage &g, const T *grid) {
        x = axis_taps<interpolation>(g, grid[0], g.in[0]), y = axis_taps<interpolation>(g, grid[1], g.in[1]);
        if constexpr (axes == 3)
            z = axis_taps<interpolation>(g, grid[2], g.in[2]);
        else
            z.at[0] = 0, z.weight[0] = z.slope[0] = T(1);
    }
    // The product of one number of each axis, (x y) z.
    DK_INLINE T product(T a, T b, T c) const { return axes == 3 ? a * b * c : a * b; }
    DK_INLINE int32_t offset(const SampledImage &g, int tap) const {
        const int i = tap % each, j = tap / each % each, k = tap / each / each;
        const bool out = x.at[i] < 0 || y.at[j] < 0 || z.at[k] < 0;
        return out ? -1 : (z.at[k] * g.in[1] + y.at[j]) * g.in[0] + x.at[i];
    }
    DK_INLINE T weight(int tap) const {
        return product(x.weight[tap % each], y.weight[tap / each % each], z.weight[tap / each / each]);
    }
    DK_INLINE T slope(int axis, int tap) const {
        const int i = tap % each, j = tap / each % each, k = tap / each / each;
        return product(axis == 0 ? x.slope[i] : x.weight[i], axis == 1 ? y.slope[j] : y.weight[j],
                       axis == 2 ? z.slope[k] : z.weight[k]);
    }
    DK_INLINE T factor(int axis) const { return axis == 0 ? x.factor : axis == 1 ? y.factor : z.factor; }
};

}  // namespace dk
