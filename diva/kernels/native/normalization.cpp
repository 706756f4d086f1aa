// Batch norm, forward and backward, for planes and for channels last.
#include "normalization.h"

#include <atomic>

#include "diva_kernels.h"
#include "normalization_planes.h"

namespace dk {
namespace {

enum Slot { constants_slot, x_slot, g_slot, results_slot };

template <class T> DK_INLINE T inverse(T var, T eps) { return T(1) / sqrt(var + eps); }

// One number per channel: the given ones, or `value` throughout.
template <class T> const T *or_constant(const T *given, T *memory, int64_t n, T value) {
    if (given) return given;
    for (int64_t i = 0; i < n; ++i) memory[i] = value;
    return memory;
}

template <class T> struct Statistics {
    T *mean, *second;  // second: inv, or with `variance` the biased variance
    T *running_mean, *running_var;
    T momentum, eps;
    bool variance;

    // The numbers of channel c, from its mean and REDUCE_fma(d, d).
    DK_INLINE void take(int64_t c, T m, T squares, int64_t count) const {
        T var = squares / T(count);
        mean[c] = m, second[c] = variance ? var : inverse(var, eps);
        if (running_mean) running_mean[c] = fma(momentum, m - running_mean[c], running_mean[c]);
        if (running_var) running_var[c] = fma(momentum, squares / T(count - 1) - running_var[c], running_var[c]);
    }
};

// Row r, column c of a matrix; d = x - mean of the column.
template <class T> struct Squares {
    const T *x, *mean;
    int64_t columns;
    template <class... N> DK_INLINE vec<T> operator()(vec<T> acc, int64_t r, int64_t c, N... count) const {
        vec<T> d = load(x + r * columns + c, count...) - load(mean + c, count...);
        return fma(d, d, acc);
    }
};

template <class T> struct Ascent {
    const T *g, *x, *mean, *inv;
    int64_t columns;
    template <class... N> DK_INLINE vec<T> operator()(vec<T> acc, int64_t r, int64_t c, N... count) const {
        vec<T> d = load(x + r * columns + c, count...) - load(mean + c, count...);
        return fma(load(g + r * columns + c, count...), d * load(inv + c, count...), acc);
    }
};

template <class T> int32_t statistics_of_columns(const T *x, int64_t rows, int64_t channels, const Statistics<T> &to, T *squares) {
    if (!reduce_columns(rows, channels, column_terms<T>{x, channels}, to.mean)) return DK_NO_MEMORY;
    for (int64_t c = 0; c < channels; ++c) to.mean[c] /= T(rows);
    if (!reduce_columns(rows, channels, Squares<T>{x, to.mean, channels}, squares)) return DK_NO_MEMORY;
    for (int64_t c = 0; c < channels; ++c) to.take(c, to.mean[c], squares[c], rows);
    return DK_OK;
}

template <class T> DK_INLINE void statistics_of_planes(const T *x, const Planes &planes, int64_t c, const Statistics<T> &to, T *results) {
    T mean = reduce_planes<T>(planes, results, [=](int64_t offset) {
        return [p = x + offset](vec<T> acc, int64_t i, auto... count) DK_IN_PLACE { return acc + load(p + i, count...); };
    });
    mean /= T(planes.count());
    T squares = reduce_planes<T>(planes, results, [=](int64_t offset) {
        return [p = x + offset, m = set(mean)](vec<T> acc, int64_t i, auto... count) DK_IN_PLACE {
            vec<T> d = load(p + i, count...) - m;
            return fma(d, d, acc);
        };
    });
    to.take(c, mean, squares, planes.count());
}

// Statistics of each channel in planes, then `after(c)`.
template <class T, class After>
bool for_channels(const T *x, int64_t channels, const Planes &planes, const Statistics<T> *to, const After &after) {
    std::atomic<bool> enough{true};
    int64_t count = planes.count();
    parallel(channels, 1 + normalization_piece / (count + 1), [&](int64_t first, int64_t last) {
        T *results = nullptr, *buffer = nullptr;
        if (to) {
            results = static_cast<T *>(scratch(results_slot, size_t(pair_results(count)) * sizeof(T)));
            if (!planes.in_lanes()) buffer = static_cast<T *>(scratch(x_slot, size_t(count) * sizeof(T)));
            if (!results || (!planes.in_lanes() && !buffer)) return enough.store(false);
        }
        for (int64_t c = first; c < last; ++c) {
            if (to && buffer) {
                planes.gather(x + c * planes.space, buffer);
                statistics_of_planes(buffer, planes.gathered(), c, *to, results);
            } else if (to) {
                statistics_of_planes(x + c * planes.space, planes, c, *to, results);
            }
            after(c);
        }
    });
    return enough;
}

template <class T>
int32_t batch_norm(const T *x, T *y, const T *weight, const T *bias, T *running_mean, T *running_var, T *mean, T *inv, int64_t n,
                   int64_t channels, int64_t space, bool channels_last, bool training, double momentum, double eps) {
    FloatingPoint control;
    T *memory = static_cast<T *>(scratch(constants_slot, size_t(4 * channels + 1) * sizeof(T)));
    if (!memory) return DK_NO_MEMORY;
    const T *gamma = or_constant(weight, memory, channels, T(1)), *beta = or_constant(bias, memory + channels, channels, T(0));
    Statistics<T> to{mean, inv, running_mean, running_var, T(momentum), T(eps), false};
    if (!training) {
        to.mean = running_mean, to.second = memory + 2 * channels;
        for (int64_t c = 0; c < channels; ++c) to.second[c] = inverse(running_var[c], T(eps));
    }
    if (channels_last) {
        int64_t rows = n * space;
        if (training && statistics_of_columns(x, rows, channels, to, memory + 3 * channels)) return DK_NO_MEMORY;
        auto write = [=](int64_t at, vec<T> m, vec<T> s, vec<T> w, vec<T> b, auto... count) {
            store(y + at, fma((load(x + at, count...) - m) * s, w, b), count...);
        };
        for_columns<T>(rows, channels, write, to.mean, to.second, gamma, beta);
        return DK_OK;
    }
    Planes planes{n, space, channels * space};
    bool enough = for_channels(x, channels, planes, training ? &to : nullptr, [&](int64_t c) {
        vec<T> m = set(to.mean[c]), s = set(to.second[c]), w = set(gamma[c]), b = set(beta[c]);
        for (int64_t i = 0, at = c * space; i < n; ++i, at += planes.stride)
            for_registers<T>(space, [&](int64_t k, auto... count) DK_IN_PLACE {
                store(y + at + k, fma((load(x + at + k, count...) - m) * s, w, b), count...);
            });
    });
    return enough ? DK_OK : DK_NO_MEMORY;
}

template <class T>
int32_t batch_norm_statistics(const T *x, T *mean, T *var, T *running_mean, T *running_var, int64_t n, int64_t channels,
                              int64_t space, bool channels_last, double momentum) {
    FloatingPoint control;
    Statistics<T> to{mean, var, running_mean, running_var, T(momentum), T(0), true};
    if (channels_last) {
        T *memory = static_cast<T *>(scratch(constants_slot, size_t(channels + 1) * sizeof(T)));
        return memory ? statistics_of_columns(x, n * space, channels, to, memory) : int32_t(DK_NO_MEMORY);
    }
    return for_channels(x, channels, Planes{n, space, channels * space}, &to, [](int64_t) {}) ? DK_OK : DK_NO_MEMORY;
}

// The gradient's constants of a channel: mean, inv, scale = inv * weight, along = dweight / count, across = dbias / count.
template <class T>
int32_t backward_of_columns(const T *g, const T *x, const T *weight, const T *mean, const T *inv, T *dx, T *dweight, T *dbias,
                            int64_t rows, int64_t channels, bool training, T *scale) {
    T *along = scale + channels, *across = along + channels;
    T *dw = dweight ? dweight : along, *db = dbias ? dbias : across;
    if (dweight || dbias || training) {
        column_terms<T> sum{g, channels};
        if (!reduce_column_pairs(rows, channels, sum, Ascent<T>{g, x, mean, inv, channels}, db, dw)) return DK_NO_MEMORY;
    }
    if (!dx) return DK_OK;
    for (int64_t c = 0; c < channels; ++c) {
        scale[c] = weight ? inv[c] * weight[c] : inv[c] * T(1);
        if (training) along[c] = dw[c] / T(rows), across[c] = db[c] / T(rows);
    }
    if (training) {
        auto write = [=](int64_t at, vec<T> m, vec<T> s, vec<T> outer, vec<T> a, vec<T> b, auto... count) {
            vec<T> xhat = (load(x + at, count...) - m) * s;
            store(dx + at, outer * fma(-xhat, a, load(g + at, count...) - b), count...);
        };
        for_columns<T>(rows, channels, write, mean, inv, static_cast<const T *>(scale), static_cast<const T *>(along),
                       static_cast<const T *>(across));
    } else {
        auto write = [=](int64_t at, vec<T> outer, auto... count) { store(dx + at, load(g + at, count...) * outer, count...); };
        for_columns<T>(rows, channels, write, static_cast<const T *>(scale));
    }
    return DK_OK;
}

template <class T>
sums<T> ascent_of_planes(const T *g, const T *x, const Planes &planes, T mean, T inv, T *results) {
    vec<T> m = set(mean), s = set(inv);
    return reduce_pair<T>(planes.count(), results, [&](auto &lanes, int64_t begin, int64_t end) DK_IN_PLACE {
        planes.pieces(begin, end, [&](int64_t offset, int64_t length) DK_IN_PLACE {
            const T *p = g + offset, *q = x + offset;
            auto sum = [=](vec<T> acc, int64_t i, auto... count) DK_IN_PLACE { return acc + load(p + i, count...); };
            auto along = [=](vec<T> acc, int64_t i, auto... count) DK_IN_PLACE {
                return fma(load(p + i, count...), (load(q + i, count...) - m) * s, acc);
            };
            lanes.advance(sum, along, 0, length);
        });
    });
}

template <class T>
int32_t batch_norm_backward(const T *g, const T *x, const T *weight, const T *mean, const T *second, T *dx, T *dweight, T *dbias,
                            int64_t n, int64_t channels, int64_t space, bool channels_last, bool training, double eps) {
    FloatingPoint control;
    T *memory = static_cast<T *>(scratch(constants_slot, size_t(4 * channels + 1) * sizeof(T)));
    if (!memory) return DK_NO_MEMORY;
    const T *inv = second;
    if (!training) {
        for (int64_t c = 0; c < channels; ++c) memory[c] = inverse(second[c], T(eps));
        inv = memory;
    }
    if (channels_last)
        return backward_of_columns(g, x, weight, mean, inv, dx, dweight, dbias, n * space, channels, training, memory + channels);
    Planes planes{n, space, channels * space};
    int64_t total = planes.count();
    std::atomic<bool> enough{true};
    parallel(channels, 1 + normalization_piece / (total + 1), [&](int64_t first, int64_t last) {
        T *results = static_cast<T *>(scratch(results_slot, size_t(pair_results(total)) * sizeof(T)));
        T *xs = nullptr, *gs = nullptr;
        if (!planes.in_lanes()) {
            xs = static_cast<T *>(scratch(x_slot, size_t(total) * sizeof(T)));
            gs = static_cast<T *>(scratch(g_slot, size_t(total) * sizeof(T)));
            if (!xs || !gs) return enough.store(false);
        }
        if (!results) return enough.store(false);
        for (int64_t c = first; c < last; ++c) {
            int64_t offset = c * space;
            sums<T> s{0, 0};
            if (dweight || dbias || training) {
                if (xs) {
                    planes.gather(x + offset, xs), planes.gather(g + offset, gs);
                    s = ascent_of_planes(gs, xs, planes.gathered(), mean[c], inv[c], results);
                } else {
                    s = ascent_of_planes(g + offset, x + offset, planes, mean[c], inv[c], results);
                }
            }
            if (dbias) dbias[c] = s.a;
            if (dweight) dweight[c] = s.b;
            if (!dx) continue;
            vec<T> m = set(mean[c]), i = set(inv[c]), outer = set(inv[c] * (weight ? weight[c] : T(1)));
            vec<T> across = set(s.a / T(total)), along = set(s.b / T(total));
            for (int64_t k = 0; k < n; ++k, offset += planes.stride)
                for_registers<T>(space, [&](int64_t at, auto... count) DK_IN_PLACE {
                    vec<T> grad = load(g + offset + at, count...);
                    if (training) {
                        vec<T> xhat = (load(x + offset + at, count...) - m) * i;
                        store(dx + offset + at, outer * fma(-xhat, along, grad - across), count...);
                    } else {
                        store(dx + offset + at, grad * outer, count...);
                    }
                });
        }
    });
    return enough ? DK_OK : DK_NO_MEMORY;
}

}  // namespace
}  // namespace dk

extern "C" {
int32_t dk_batch_norm_f32(const float *x, float *y, const float *weight, const float *bias, float *running_mean,
                          float *running_var, float *mean, float *inv, int64_t n, int64_t channels, int64_t space,
                          int32_t channels_last, int32_t training, double momentum, double eps) {
    return dk::batch_norm(x, y, weight, bias, running_mean, running_var, mean, inv, n, channels, space, channels_last != 0,
                          training != 0, momentum, eps);
}
int32_t dk_batch_norm_f64(const double *x, double *y, const double *weight, const double *bias, double *running_mean,
                          double *running_var, double *mean, double *inv, int64_t n, int64_t channels, int64_t space,
                          int32_t channels_last, int32_t training, double momentum, double eps) {
    return dk::batch_norm(x, y, weight, bias, running_mean, running_var, mean, inv, n, channels, space, channels_last != 0,
                          training != 0, momentum, eps);
}
int32_t dk_batch_norm_statistics_f32(const float *x, float *mean, float *var, float *running_mean, float *running_var,
                                     int64_t n, int64_t channels, int64_t space, int32_t channels_last, double momentum) {
    return dk::batch_norm_statistics(x, mean, var, running_mean, running_var, n, channels, space, channels_last != 0, momentum);
}
int32_t dk_batch_norm_statistics_f64(const double *x, double *mean, double *var, double *running_mean, double *running_var,
                                     int64_t n, int64_t channels, int64_t space, int32_t channels_last, double momentum) {
    return dk::batch_norm_statistics(x, mean, var, running_mean, running_var, n, channels, space, channels_last != 0, momentum);
}
int32_t dk_batch_norm_backward_f32(const float *g, const float *x, const float *weight, const float *mean, const float *second,
                                   float *dx, float *dweight, float *dbias, int64_t n, int64_t channels, int64_t space,
                                   int32_t channels_last, int32_t training, double eps) {
    return dk::batch_norm_backward(g, x, weight, mean, second, dx, dweight, dbias, n, channels, space, channels_last != 0,
                                   training != 0, eps);
}
int32_t dk_batch_norm_backward_f64(const double *g, const double *x, const double *weight, const double *mean,
                                   const double *second, double *dx, double *dweight, double *dbias, int64_t n,
                                   int64_t channels, int64_t space, int32_t channels_last, int32_t training, double eps) {
    return dk::batch_norm_backward(g, x, weight, mean, second, dx, dweight, dbias, n, channels, space, channels_last != 0,
                                   training != 0, eps);
}
}
