// Layer norm and group norm, forward and backward: a statistic is a row of memory.
#include <atomic>

#include "diva_kernels.h"
#include "normalization.h"
#include "normalization_planes.h"

namespace dk {
namespace {

enum Slot { weight_slot, x_slot, g_slot, results_slot };

template <class T> struct RowStatistics {
    T mean, inv;
};

template <class T> DK_INLINE RowStatistics<T> statistics_of_row(const T *x, int64_t width, T eps) {
    T mean = reduce_row<T>(width, [=](vec<T> acc, int64_t i, auto... count) DK_IN_PLACE { return acc + load(x + i, count...); }) / T(width);
    vec<T> m = set(mean);
    T squares = reduce_row<T>(width, [=](vec<T> acc, int64_t i, auto... count) DK_IN_PLACE {
        vec<T> d = load(x + i, count...) - m;
        return fma(d, d, acc);
    });
    return {mean, T(1) / sqrt(squares / T(width) + eps)};
}

template <class T>
int32_t layer_norm(const T *x, T *y, const T *weight, const T *bias, T *mean, T *inv, int64_t rows, int64_t width, double eps) {
    FloatingPoint control;
    parallel(rows, 1 + normalization_piece / (width + 16), [&](int64_t first, int64_t last) {
        for (int64_t r = first; r < last; ++r) {
            const T *here = x + r * width;
            T *to = y + r * width;
            RowStatistics<T> s = statistics_of_row(here, width, T(eps));
            mean[r] = s.mean, inv[r] = s.inv;
            vec<T> m = set(s.mean), i = set(s.inv), one = set(T(1));
            for_registers<T>(width, [&](int64_t k, auto... count) DK_IN_PLACE {
                vec<T> w = weight ? load(weight + k, count...) : one, b = bias ? load(bias + k, count...) : vec<T>{};
                store(to + k, fma((load(here + k, count...) - m) * i, w, b), count...);
            });
        }
    });
    return DK_OK;
}

// dx of one row; `weight` has an element for each of its elements.
template <class T>
DK_INLINE void row_gradient(const T *g, const T *x, const T *weight, T mean, T inv, T *dx, int64_t width, T *results) {
    vec<T> m = set(mean), i = set(inv);
    auto gy = [=](int64_t k, auto... count) DK_IN_PLACE { return load(g + k, count...) * load(weight + k, count...); };
    auto xhat = [=](int64_t k, auto... count) DK_IN_PLACE { return (load(x + k, count...) - m) * i; };
    sums<T> s = reduce_pair<T>(width, results, [&](auto &lanes, int64_t begin, int64_t end) DK_IN_PLACE {
        auto across = [=](vec<T> acc, int64_t k, auto... count) DK_IN_PLACE { return acc + gy(k, count...); };
        auto along = [=](vec<T> acc, int64_t k, auto... count) DK_IN_PLACE { return fma(gy(k, count...), xhat(k, count...), acc); };
        lanes.advance(across, along, begin, end);
    });
    vec<T> across = set(s.a / T(width)), along = set(s.b / T(width));
    for_registers<T>(width, [&](int64_t k, auto... count) DK_IN_PLACE {
        store(dx + k, i * fma(-xhat(k, count...), along, gy(k, count...) - across), count...);
    });
}

// dx of all rows; row r has the weights weight + r % groups * width.
template <class T>
bool row_gradients(const T *g, const T *x, const T *weight, const T *mean, const T *inv, T *dx, int64_t rows, int64_t width,
                   int64_t groups) {
    std::atomic<bool> enough{true};
    parallel(rows, 1 + normalization_piece / (width + 16), [&](int64_t first, int64_t last) {
        T *results = static_cast<T *>(scratch(results_slot, size_t(pair_results(width) + 1) * sizeof(T)));
        if (!results) return enough.store(false);
        for (int64_t r = first; r < last; ++r)
            row_gradient(g + r * width, x + r * width, weight + r % groups * width, mean[r], inv[r], dx + r * width, width, results);
    });
    return enough;
}

// The weight of each of channels * space elements, a missing one being 1. nullptr: no memory.
template <class T> const T *spread_weight(const T *weight, int64_t channels, int64_t space) {
    if (weight && space == 1) return weight;
    T *to = static_cast<T *>(scratch(weight_slot, size_t(channels * space + 1) * sizeof(T)));
    if (!to) return nullptr;
    for (int64_t c = 0; c < channels; ++c)
        for (int64_t i = 0; i < space; ++i) to[c * space + i] = weight ? weight[c] : T(1);
    return to;
}

template <class T> struct RowAscent {
    const T *g, *x, *mean, *inv;
    int64_t columns;
    template <class... N> DK_INLINE vec<T> operator()(vec<T> acc, int64_t r, int64_t c, N... count) const {
        vec<T> d = load(x + r * columns + c, count...) - set(mean[r]);
        return fma(load(g + r * columns + c, count...), d * set(inv[r]), acc);
    }
};

template <class T>
int32_t layer_norm_backward(const T *g, const T *x, const T *weight, const T *mean, const T *inv, T *dx, T *dweight, T *dbias,
                            int64_t rows, int64_t width) {
    FloatingPoint control;
    if (dx) {
        const T *spread = spread_weight(weight, width, 1);
        if (!spread || !row_gradients(g, x, spread, mean, inv, dx, rows, width, 1)) return DK_NO_MEMORY;
    }
    column_terms<T> sum{g, width};
    RowAscent<T> along{g, x, mean, inv, width};
    bool done = true;
    if (dweight && dbias)
        done = reduce_column_pairs(rows, width, sum, along, dbias, dweight);
    else if (dweight)
        done = reduce_columns(rows, width, along, dweight);
    else if (dbias)
        done = reduce_columns(rows, width, sum, dbias);
    return done ? DK_OK : DK_NO_MEMORY;
}

template <class T>
int32_t group_norm(const T *x, T *y, const T *weight, const T *bias, T *mean, T *inv, int64_t n, int64_t channels, int64_t space,
                   int64_t groups, double eps) {
    FloatingPoint control;
    int64_t members = channels / groups, width = members * space;
    parallel(n * groups, 1 + normalization_piece / (width + 16), [&](int64_t first, int64_t last) {
        for (int64_t r = first; r < last; ++r) {
            const T *here = x + r * width;
            T *to = y + r * width;
            RowStatistics<T> s = statistics_of_row(here, width, T(eps));
            mean[r] = s.mean, inv[r] = s.inv;
            vec<T> m = set(s.mean), i = set(s.inv);
            for (int64_t k = 0, c = r % groups * members; k < members; ++k, ++c, here += space, to += space) {
                vec<T> w = set(weight ? weight[c] : T(1)), b = set(bias ? bias[c] : T(0));
                for_registers<T>(space, [&](int64_t at, auto... count) DK_IN_PLACE {
                    store(to + at, fma((load(here + at, count...) - m) * i, w, b), count...);
                });
            }
        }
    });
    return DK_OK;
}

// Both sums of a channel: planes of g and x, or with `ready` x is xhat already.
template <class T>
sums<T> ascent_of_channel(const T *g, const T *x, const Planes &planes, const T *mean, const T *inv, int64_t groups, bool ready,
                          T *results) {
    return reduce_pair<T>(planes.count(), results, [&](auto &lanes, int64_t begin, int64_t end) DK_IN_PLACE {
        planes.pieces(begin, end, [&](int64_t offset, int64_t length) DK_IN_PLACE {
            const T *p = g + offset, *q = x + offset;
            auto sum = [=](vec<T> acc, int64_t i, auto... count) DK_IN_PLACE { return acc + load(p + i, count...); };
            if (ready) {
                auto along = [=](vec<T> acc, int64_t i, auto... count) DK_IN_PLACE {
                    return fma(load(p + i, count...), load(q + i, count...), acc);
                };
                lanes.advance(sum, along, 0, length);
            } else {
                int64_t row = planes.stride ? offset / planes.stride * groups : 0;
                vec<T> m = set(mean[row]), s = set(inv[row]);
                auto along = [=](vec<T> acc, int64_t i, auto... count) DK_IN_PLACE {
                    return fma(load(p + i, count...), (load(q + i, count...) - m) * s, acc);
                };
                lanes.advance(sum, along, 0, length);
            }
        });
    });
}

template <class T>
int32_t group_norm_backward(const T *g, const T *x, const T *weight, const T *mean, const T *inv, T *dx, T *dweight, T *dbias,
                            int64_t n, int64_t channels, int64_t space, int64_t groups) {
    FloatingPoint control;
    int64_t members = channels / groups;
    if (dx) {
        const T *spread = spread_weight(weight, channels, space);
        if (!spread || !row_gradients(g, x, spread, mean, inv, dx, n * groups, members * space, groups)) return DK_NO_MEMORY;
    }
    if (!dweight && !dbias) return DK_OK;
    Planes planes{n, space, channels * space};
    std::atomic<bool> enough{true};
    parallel(channels, 1 + normalization_piece / (planes.count() + 16), [&](int64_t first, int64_t last) {
        size_t total = size_t(planes.count()) * sizeof(T);
        T *results = static_cast<T *>(scratch(results_slot, size_t(pair_results(planes.count()) + 1) * sizeof(T)));
        T *xs = nullptr, *gs = nullptr;
        if (!planes.in_lanes()) xs = static_cast<T *>(scratch(x_slot, total)), gs = static_cast<T *>(scratch(g_slot, total));
        if (!results || (!planes.in_lanes() && (!xs || !gs))) return enough.store(false);
        for (int64_t c = first; c < last; ++c) {
            const T *from = x + c * space, *m = mean + c / members, *i = inv + c / members;
            sums<T> s;
            if (xs) {
                planes.gather(g + c * space, gs);
                for (int64_t k = 0; k < n; ++k) {
                    vec<T> centre = set(m[k * groups]), scale = set(i[k * groups]);
                    const T *plane = from + k * planes.stride;
                    for_registers<T>(space, [&](int64_t at, auto... count) DK_IN_PLACE {
                        store(xs + k * space + at, (load(plane + at, count...) - centre) * scale, count...);
                    });
                }
                s = ascent_of_channel(gs, xs, planes.gathered(), m, i, groups, true, results);
            } else {
                s = ascent_of_channel(g + c * space, from, planes, m, i, groups, false, results);
            }
            if (dbias) dbias[c] = s.a;
            if (dweight) dweight[c] = s.b;
        }
    });
    return enough ? DK_OK : DK_NO_MEMORY;
}

}  // namespace
}  // namespace dk

extern "C" {
int32_t dk_layer_norm_f32(const float *x, float *y, const float *weight, const float *bias, float *mean, float *inv,
                          int64_t rows, int64_t width, double eps) {
    return dk::layer_norm(x, y, weight, bias, mean, inv, rows, width, eps);
}
int32_t dk_layer_norm_f64(const double *x, double *y, const double *weight, const double *bias, double *mean, double *inv,
                          int64_t rows, int64_t width, double eps) {
    return dk::layer_norm(x, y, weight, bias, mean, inv, rows, width, eps);
}
int32_t dk_layer_norm_backward_f32(const float *g, const float *x, const float *weight, const float *mean, const float *inv,
                                   float *dx, float *dweight, float *dbias, int64_t rows, int64_t width) {
    return dk::layer_norm_backward(g, x, weight, mean, inv, dx, dweight, dbias, rows, width);
}
int32_t dk_layer_norm_backward_f64(const double *g, const double *x, const double *weight, const double *mean,
                                   const double *inv, double *dx, double *dweight, double *dbias, int64_t rows, int64_t width) {
    return dk::layer_norm_backward(g, x, weight, mean, inv, dx, dweight, dbias, rows, width);
}
int32_t dk_group_norm_f32(const float *x, float *y, const float *weight, const float *bias, float *mean, float *inv, int64_t n,
                          int64_t channels, int64_t space, int64_t groups, double eps) {
    return dk::group_norm(x, y, weight, bias, mean, inv, n, channels, space, groups, eps);
}
int32_t dk_group_norm_f64(const double *x, double *y, const double *weight, const double *bias, double *mean, double *inv,
                          int64_t n, int64_t channels, int64_t space, int64_t groups, double eps) {
    return dk::group_norm(x, y, weight, bias, mean, inv, n, channels, space, groups, eps);
}
int32_t dk_group_norm_backward_f32(const float *g, const float *x, const float *weight, const float *mean, const float *inv,
                                   float *dx, float *dweight, float *dbias, int64_t n, int64_t channels, int64_t space,
                                   int64_t groups) {
    return dk::group_norm_backward(g, x, weight, mean, inv, dx, dweight, dbias, n, channels, space, groups);
}
int32_t dk_group_norm_backward_f64(const double *g, const double *x, const double *weight, const double *mean,
                                   const double *inv, double *dx, double *dweight, double *dbias, int64_t n, int64_t channels,
                                   int64_t space, int64_t groups) {
    return dk::group_norm_backward(g, x, weight, mean, inv, dx, dweight, dbias, n, channels, space, groups);
}
}
