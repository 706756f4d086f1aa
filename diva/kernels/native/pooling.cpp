// Maximum pooling, forward and backward.
#include "pooling.h"

#include <atomic>
#include <limits>

#include "diva_kernels.h"
#include "pooling_windows.h"

namespace dk {
namespace {

template <class T> DK_INLINE mask<T> counting() {
    mask<T> m{};
    for (int i = 0; i < lanes<T>; ++i) m[i] = bits_t<T>(i);
    return m;
}

template <class T> DK_INLINE void store_indices(int64_t *out, mask<T> m, int64_t n = lanes<T>) {
    bits_t<T> number[lanes<T>];
    std::memcpy(number, &m, sizeof m);
    if (n == lanes<T>)
        for (int i = 0; i < lanes<T>; ++i) out[i] = number[i];
    else
        for (int64_t i = 0; i < n; ++i) out[i] = number[i];
}

// x > best or NaN: !(x <= best) is that, but for a best that is NaN already, which only another NaN replaces.
template <class V> DK_INLINE auto taken(V x, V best) { return (x > best) | (x != x); }

// The first position of a window in its flattened plane; -1 when it has none.
DK_INLINE int64_t first_position(const Geometry &g, int64_t od, int64_t oh, int64_t ow) {
    if (g.d.begin[od] >= g.d.end[od] || g.h.begin[oh] >= g.h.end[oh] || g.w.begin[ow] >= g.w.end[ow]) return -1;
    return (g.d.begin[od] * g.h.size + g.h.begin[oh]) * g.w.size + g.w.begin[ow];
}

template <class T> struct Maximum {
    const Geometry &g;
    T *y;              // the output row
    int64_t *indices;  // and its indices
    vec<T> best;
    mask<T> where, steps;
    T best_one;
    int64_t where_one;

    static constexpr T lowest = -std::numeric_limits<T>::infinity();

    DK_INLINE void start_one(int64_t od, int64_t oh, int64_t ow) { best_one = lowest, where_one = first_position(g, od, oh, ow); }
    DK_INLINE void take_one(T x, int64_t at) {
        bool take = taken(x, best_one);
        best_one = take ? x : best_one, where_one = take ? at : where_one;
    }
    DK_INLINE void end_one(int64_t ow) { y[ow] = best_one, indices[ow] = where_one; }

    DK_INLINE void start(int64_t od, int64_t oh, int64_t ow, int64_t) {
        best = set(lowest), where = steps + set(bits_t<T>(first_position(g, od, oh, ow)));
        if (g.d.begin[od] >= g.d.end[od] || g.h.begin[oh] >= g.h.end[oh]) where = set(bits_t<T>(-1));
    }
    DK_INLINE void take(vec<T> x, int64_t at) {
        mask<T> take = taken(x, best);
        best = select<T>(take, x, best);
        where = take ? steps + set(bits_t<T>(at)) : where;
    }
    DK_INLINE void end(int64_t ow) { store(y + ow, best), store_indices<T>(indices + ow, where); }
};

template <class T> int32_t max_pool(const T *x, T *y, int64_t *indices, const int64_t *geometry) {
    FloatingPoint control;
    Geometry g;
    if (!g.read(geometry)) return DK_NO_MEMORY;
    if (g.space > INT32_MAX / 2) return DK_BAD_ARGUMENT;
    if (!g.channels_last) {
        mask<T> steps = counting<T>() * set(bits_t<T>(g.w.stride));
        pool_planes(g, x, [&](int64_t plane, int64_t od, int64_t oh) {
            int64_t at = plane * g.outputs + (od * g.h.outputs + oh) * g.w.outputs;
            return Maximum<T>{g, y + at, indices + at, {}, {}, steps, 0, 0};
        });
        return DK_OK;
    }
    constexpr int64_t L = lanes<T>;
    pool_pixels(g, [&](int64_t sample, int64_t od, int64_t oh, int64_t ow) {
        const T *here = x + sample * g.space * g.channels;
        int64_t out = (sample * g.outputs + (od * g.h.outputs + oh) * g.w.outputs + ow) * g.channels;
        int64_t first = first_position(g, od, oh, ow), c = 0;
        auto some = [&](auto... count) {
            vec<T> best = set(Maximum<T>::lowest);
            mask<T> where = set(bits_t<T>(first));
            for_window(g, od, oh, ow, [&](int64_t at) {
                vec<T> v = load(here + at * g.channels + c, count...);
                mask<T> take = taken(v, best);
                best = select<T>(take, v, best);
                where = take ? set(bits_t<T>(at)) : where;
            });
            store(y + out + c, best, count...);
            store_indices<T>(indices + out + c, where, count...);
        };
        for (; c + L <= g.channels; c += L) some();
        if (c < g.channels) some(g.channels - c);
    });
    return DK_OK;
}

template <class T>
int32_t max_pool_backward(const T *g, const int64_t *indices, T *dx, int64_t n, int64_t channels, int64_t space, int64_t outputs) {
    FloatingPoint control;
    std::atomic<bool> outside{false};
    auto add = [&](T *to, int64_t stride, int64_t index, T value) {
        if (uint64_t(index) < uint64_t(space))
            to[index * stride] += value;
        else if (index != -1)
            outside.store(true, std::memory_order_relaxed);
    };
    if (channels == 1) {
        parallel(n, 1 + pooling_piece / (space + 4 * outputs + 1), [&](int64_t first, int64_t last) {
            std::memset(dx + first * space, 0, size_t((last - first) * space) * sizeof(T));
            for (int64_t p = first; p < last; ++p)
                for (int64_t o = p * outputs; o < (p + 1) * outputs; ++o) add(dx + p * space, 1, indices[o], g[o]);
        });
        return outside ? DK_BAD_ARGUMENT : DK_OK;
    }
    constexpr int64_t tile = 64;
    int64_t tiles = (channels + tile - 1) / tile;
    parallel(n * tiles, 1 + pooling_piece / (tile * (space + 4 * outputs) + 1), [&](int64_t first, int64_t last) {
        for (int64_t item = first; item < last; ++item) {
            int64_t sample = item / tiles, c = item % tiles * tile, width = channels - c < tile ? channels - c : tile;
            T *to = dx + sample * space * channels + c;
            for (int64_t i = 0; i < space; ++i) std::memset(to + i * channels, 0, size_t(width) * sizeof(T));
            for (int64_t o = 0; o < outputs; ++o) {
                int64_t at = (sample * outputs + o) * channels + c;
                for (int64_t k = 0; k < width; ++k) add(to + k, channels, indices[at + k], g[at + k]);
            }
        }
    });
    return outside ? DK_BAD_ARGUMENT : DK_OK;
}

}  // namespace
}  // namespace dk

extern "C" {
int32_t dk_max_pool_f32(const float *x, float *y, int64_t *indices, const int64_t *geometry) {
    return dk::max_pool(x, y, indices, geometry);
}
int32_t dk_max_pool_f64(const double *x, double *y, int64_t *indices, const int64_t *geometry) {
    return dk::max_pool(x, y, indices, geometry);
}
int32_t dk_max_pool_backward_f32(const float *g, const int64_t *indices, float *dx, int64_t n, int64_t channels, int64_t space,
                                 int64_t outputs) {
    return dk::max_pool_backward(g, indices, dx, n, channels, space, outputs);
}
int32_t dk_max_pool_backward_f64(const double *g, const int64_t *indices, double *dx, int64_t n, int64_t channels, int64_t space,
                                 int64_t outputs) {
    return dk::max_pool_backward(g, indices, dx, n, channels, space, outputs);
}
}
