// grid_sample: where each position reads, with which weights, once for all channels; then chains over the taps.
#include "resampling_grid.h"

#include <algorithm>

#include "diva_kernels.h"
#include "resampling_axis.h"

namespace dk {
namespace {

enum Padding : int32_t { zeros = 0, border = 1, reflection = 2 };

template <class T> struct Grid {
    const T *grid;
    int64_t in[3];  // x, y, z: as the grid's numbers are ordered
    int64_t positions;
    int32_t axes, interpolation, padding;
    bool align;
};

// One axis of one position: where its taps are (-1 outside), their weights and the weights' slopes.
template <class T> struct Taps {
    int count;
    int64_t at[4];
    T weight[4], slope[4];
    T factor;  // dp/dg
};

template <class T> DK_INLINE T floor_of(T p) {  // |p| < 2^31
    T whole = T(int64_t(p));
    return whole > p ? whole - T(1) : whole;
}

template <class T> inline T clamped(T p, int64_t in, T &factor) {
    const T most = T(in - 1);
    if (!(p > T(0))) return factor = T(0), T(0);
    if (p >= most) return factor = T(0), most;
    return p;
}

template <class T> inline T padded(T p, int64_t in, int32_t padding, bool align, T &factor) {
    if (padding == zeros) return p;
    if (padding == border) return clamped(p, in, factor);
    const T low = align ? T(0) : T(-0.5), span = align ? T(in - 1) : T(in);
    if (!(span > T(0))) return factor = T(0), T(0);
    T d = p - low;
    if (d < T(0)) d = -d, factor = -factor;
    const T ratio = d / span;
    if (!(ratio < T(2147483648.0))) return factor = T(0), T(-100);
    const T flips = floor_of(ratio);
    T rest = fma(-flips, span, d);
    if (int64_t(flips) % 2) rest = span - rest, factor = -factor;
    return clamped(rest + low, in, factor);
}

template <class T> DK_INLINE T guarded(T p) { return p < T(2147483647.0) && p > T(-2147483648.0) ? p : T(-100); }
inline int64_t inside(int64_t i, int64_t in) { return i >= 0 && i < in ? i : -1; }

template <class T> DK_INLINE T near_slope(T x) { return fma(T(3.75), x, T(-4.5)) * x; }
template <class T> DK_INLINE T far_slope(T x) { return fma(fma(T(-2.25), x, T(7.5)), x, T(-6)); }

template <class T> void axis_taps(const Grid<T> &g, T value, int64_t in, Taps<T> &t) {
    const T size = T(in);
    T p = g.align ? (value + T(1)) / T(2) * (size - T(1)) : ((value + T(1)) * size - T(1)) / T(2);
    t.factor = g.align ? (size - T(1)) / T(2) : size / T(2);
    if (g.interpolation == 2) {
        p = guarded(p);
        const T first = floor_of(p), f = p - first, back = T(1) - f;
        t.count = 4;
        for (int k = 0; k < 4; ++k) {
            T ignored = T(1);
            t.at[k] = inside(int64_t(guarded(padded(first + T(k - 1), in, g.padding, g.align, ignored))), in);
        }
        t.weight[0] = cubic_far(f + T(1)), t.weight[1] = cubic_near(f);
        t.weight[2] = cubic_near(back), t.weight[3] = cubic_far(back + T(1));
        t.slope[0] = far_slope(f + T(1)), t.slope[1] = near_slope(f);
        t.slope[2] = -near_slope(back), t.slope[3] = -far_slope(back + T(1));
        return;
    }
    p = guarded(padded(p, in, g.padding, g.align, t.factor));
    const T first = floor_of(p), f = p - first;
    if (g.interpolation == 1) {
        const bool up = f > T(0.5) || (f == T(0.5) && int64_t(first) % 2 != 0);
        t.count = 1, t.at[0] = inside(int64_t(first) + up, in), t.weight[0] = T(1), t.slope[0] = T(0);
        return;
    }
    t.count = 2;
    t.at[0] = inside(int64_t(first), in), t.at[1] = inside(int64_t(first) + 1, in);
    t.weight[0] = (first + T(1)) - p, t.weight[1] = f;
    t.slope[0] = T(-1), t.slope[1] = T(1);
}

// Tap k of position p is at [p * taps + k]; offset -1 where it is outside.
template <class T> struct Table {
    int taps;
    int32_t *offset;
    T *weight, *slope, *factor;  // slope [(axis * positions + p) * taps + k], factor [p * axes + axis]; null in the forward pass
};

template <class T> void fill_table(const Grid<T> &g, Table<T> &table, int64_t sample) {
    parallel(g.positions, 4096, [&](int64_t begin, int64_t end) {
        for (int64_t p = begin; p < end; ++p) {
            Taps<T> t[3];
            t[2].count = 1, t[2].at[0] = 0, t[2].weight[0] = t[2].slope[0] = T(1);
            for (int a = 0; a < g.axes; ++a) axis_taps(g, g.grid[(sample * g.positions + p) * g.axes + a], g.in[a], t[a]);
            int64_t at = p * table.taps;
            for (int k = 0; k < t[2].count; ++k)
                for (int j = 0; j < t[1].count; ++j)
                    for (int i = 0; i < t[0].count; ++i, ++at) {
                        const bool out = t[0].at[i] < 0 || t[1].at[j] < 0 || t[2].at[k] < 0;
                        table.offset[at] = out ? -1 : int32_t((t[2].at[k] * g.in[1] + t[1].at[j]) * g.in[0] + t[0].at[i]);
                        const T x = t[0].weight[i], y = t[1].weight[j], z = t[2].weight[k];
                        table.weight[at] = g.axes == 3 ? x * y * z : x * y;
                        if (!table.slope) continue;
                        const int64_t axis = g.positions * table.taps;
                        table.slope[at] = g.axes == 3 ? t[0].slope[i] * y * z : t[0].slope[i] * y;
                        table.slope[axis + at] = g.axes == 3 ? x * t[1].slope[j] * z : x * t[1].slope[j];
                        if (g.axes == 3) table.slope[2 * axis + at] = x * y * t[2].slope[k];
                    }
            for (int a = 0; table.slope && a < g.axes; ++a) table.factor[p * g.axes + a] = t[a].factor;
        }
    });
}

template <class T>
bool prepare(Grid<T> &g, Table<T> &table, const int64_t *in, bool slopes) {
    for (int a = 0; a < 3; ++a) g.in[a] = a < g.axes ? in[g.axes - 1 - a] : 1;
    const int each = g.interpolation == 0 ? 2 : g.interpolation == 1 ? 1 : 4;
    table.taps = g.axes == 3 ? each * each * each : each * each;
    const int64_t n = g.positions * table.taps;
    const size_t bytes = Arena64::room<int32_t>(n) + Arena64::room<T>(n) +
                         (slopes ? Arena64::room<T>(n * g.axes) + Arena64::room<T>(g.positions * g.axes) : 0);
    Arena64 arena{static_cast<char *>(scratch(7, bytes))};
    if (!arena.next) return false;
    table.offset = arena.take<int32_t>(n), table.weight = arena.take<T>(n);
    table.slope = slopes ? arena.take<T>(n * g.axes) : nullptr;
    table.factor = slopes ? arena.take<T>(g.positions * g.axes) : nullptr;
    return true;
}

template <class T, int taps> void sample(const Table<T> &table, T *y, const T *x, int64_t begin, int64_t end) {
    for (int64_t p = begin; p < end; ++p) {
        const int32_t *offset = table.offset + p * taps;
        const T *weight = table.weight + p * taps;
        T acc = 0;
        for (int k = 0; k < taps; ++k)
            if (offset[k] >= 0) acc = fma(x[offset[k]], weight[k], acc);
        y[p] = acc;
    }
}

inline bool refused(int32_t axes, int32_t interpolation, int32_t padding) {
    return axes < 2 || axes > 3 || interpolation < 0 || interpolation > (axes == 2 ? 2 : 1) || padding < 0 || padding > 2;
}

template <class T>
int32_t grid_sample(T *y, const T *x, const T *grid, int64_t n, int64_t channels, int32_t axes, const int64_t *in,
                    int64_t positions, int32_t interpolation, int32_t padding, bool align) {
    if (refused(axes, interpolation, padding)) return DK_BAD_ARGUMENT;
    FloatingPoint control;
    Grid<T> g{grid, {}, positions, axes, interpolation, padding, align};
    Table<T> table{};
    if (!prepare(g, table, in, false)) return DK_NO_MEMORY;
    const int64_t volume = g.in[0] * g.in[1] * g.in[2];
    for (int64_t s = 0; s < n; ++s) {
        fill_table(g, table, s);
        parallel(channels, std::max<int64_t>(1, 8192 / std::max<int64_t>(1, positions)), [&](int64_t begin, int64_t end) {
            for (int64_t c = begin; c < end; ++c) {
                T *to = y + (s * channels + c) * positions;
                const T *from = x + (s * channels + c) * volume;
                switch (table.taps) {
                    case 1: sample<T, 1>(table, to, from, 0, positions); break;
                    case 4: sample<T, 4>(table, to, from, 0, positions); break;
                    case 8: sample<T, 8>(table, to, from, 0, positions); break;
                    default: sample<T, 16>(table, to, from, 0, positions);
                }
            }
        });
    }
    return DK_OK;
}

template <class T, int taps> void scatter(const Table<T> &table, T *gx, const T *gy, int64_t positions) {
    for (int64_t p = 0; p < positions; ++p) {
        const int32_t *offset = table.offset + p * taps;
        const T *weight = table.weight + p * taps;
        for (int k = 0; k < taps; ++k)
            if (offset[k] >= 0) gx[offset[k]] = fma(gy[p], weight[k], gx[offset[k]]);
    }
}

// Channels of one sample added to the grid's gradient at positions [begin, end).
template <class T, int taps, int axes>
void slope_along(const Table<T> &table, T *ggrid, const T *gy, const T *x, int64_t channels, int64_t positions, int64_t volume,
                 int64_t begin, int64_t end) {
    for (int64_t p = begin; p < end; ++p) {
        const int32_t *offset = table.offset + p * taps;
        const T *slope = table.slope + p * taps;
        T acc[3] = {0, 0, 0};
        for (int64_t c = 0; c < channels; ++c) {
            const T up = gy[c * positions + p];
            for (int k = 0; k < taps; ++k) {
                if (offset[k] < 0) continue;
                const T both = x[c * volume + offset[k]] * up;
                for (int a = 0; a < axes; ++a) acc[a] = fma(both, slope[a * positions * taps + k], acc[a]);
            }
        }
        for (int a = 0; a < axes; ++a) ggrid[p * axes + a] = acc[a] * table.factor[p * axes + a];
    }
}

template <class T>
int32_t grid_sample_backward(T *gx, T *ggrid, const T *gy, const T *x, const T *grid, int64_t n, int64_t channels,
                             int32_t axes, const int64_t *in, int64_t positions, int32_t interpolation, int32_t padding,
                             bool align) {
    if (refused(axes, interpolation, padding)) return DK_BAD_ARGUMENT;
    FloatingPoint control;
    Grid<T> g{grid, {}, positions, axes, interpolation, padding, align};
    Table<T> table{};
    const bool slopes = ggrid && interpolation != 1;
    if (!prepare(g, table, in, slopes)) return DK_NO_MEMORY;
    const int64_t volume = g.in[0] * g.in[1] * g.in[2], taps = table.taps;
    if (gx) std::fill(gx, gx + n * channels * volume, T(0));
    if (ggrid) std::fill(ggrid, ggrid + n * positions * axes, T(0));
    for (int64_t s = 0; s < n; ++s) {
        fill_table(g, table, s);
        if (gx)
            parallel(channels, std::max<int64_t>(1, 8192 / std::max<int64_t>(1, positions)), [&](int64_t begin, int64_t end) {
                for (int64_t c = begin; c < end; ++c) {
                    T *to = gx + (s * channels + c) * volume;
                    const T *from = gy + (s * channels + c) * positions;
                    switch (taps) {
                        case 1: scatter<T, 1>(table, to, from, positions); break;
                        case 4: scatter<T, 4>(table, to, from, positions); break;
                        case 8: scatter<T, 8>(table, to, from, positions); break;
                        default: scatter<T, 16>(table, to, from, positions);
                    }
                }
            });
        if (!slopes) continue;
        parallel(positions, 1024, [&](int64_t begin, int64_t end) {
            T *to = ggrid + s * positions * axes;
            const T *up = gy + s * channels * positions, *from = x + s * channels * volume;
            if (taps == 4)
                slope_along<T, 4, 2>(table, to, up, from, channels, positions, volume, begin, end);
            else if (taps == 8)
                slope_along<T, 8, 3>(table, to, up, from, channels, positions, volume, begin, end);
            else
                slope_along<T, 16, 2>(table, to, up, from, channels, positions, volume, begin, end);
        });
    }
    return DK_OK;
}

}  // namespace
}  // namespace dk

extern "C" {

int32_t dk_grid_sample_f32(float *y, const float *x, const float *grid, int64_t n, int64_t channels, int32_t axes,
                           const int64_t *in, int64_t positions, int32_t interpolation, int32_t padding, int32_t align) {
    return dk::grid_sample(y, x, grid, n, channels, axes, in, positions, interpolation, padding, align != 0);
}
int32_t dk_grid_sample_f64(double *y, const double *x, const double *grid, int64_t n, int64_t channels, int32_t axes,
                           const int64_t *in, int64_t positions, int32_t interpolation, int32_t padding, int32_t align) {
    return dk::grid_sample(y, x, grid, n, channels, axes, in, positions, interpolation, padding, align != 0);
}
int32_t dk_grid_sample_backward_f32(float *gx, float *ggrid, const float *gy, const float *x, const float *grid, int64_t n,
                                    int64_t channels, int32_t axes, const int64_t *in, int64_t positions,
                                    int32_t interpolation, int32_t padding, int32_t align) {
    return dk::grid_sample_backward(gx, ggrid, gy, x, grid, n, channels, axes, in, positions, interpolation, padding, align != 0);
}
int32_t dk_grid_sample_backward_f64(double *gx, double *ggrid, const double *gy, const double *x, const double *grid,
                                    int64_t n, int64_t channels, int32_t axes, const int64_t *in, int64_t positions,
                                    int32_t interpolation, int32_t padding, int32_t align) {
    return dk::grid_sample_backward(gx, ggrid, gy, x, grid, n, channels, axes, in, positions, interpolation, padding, align != 0);
}
}
