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

template <class T> DK_INLINE void store_indices(int64_t *out, mask<T> m) {
#if !defined(DK_SCALAR)
    if constexpr (sizeof(T) == 4) {
        typedef int32_t half __attribute__((vector_size(vector_bytes / 2)));
        half part[2];
        std::memcpy(part, &m, sizeof m);
        store(out, __builtin_convertvector(part[0], vec<int64_t>));
        store(out + lanes<int64_t>, __builtin_convertvector(part[1], vec<int64_t>));
        return;
    }
#endif
    for (int i = 0; i < lanes<T>; ++i) out[i] = m[i];
}
template <class T> DK_INLINE void store_indices(int64_t *out, mask<T> m, int64_t n) {
    bits_t<T> number[lanes<T>];
    std::memcpy(number, &m, sizeof m);
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
    DK_INLINE void end(int64_t ow, int64_t n) {
        if (n == lanes<T>)
            store(y + ow, best), store_indices<T>(indices + ow, where);
        else
            store(y + ow, best, n), store_indices<T>(indices + ow, where, n);
    }
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
        for (; c + 2 * L <= g.channels; c += 2 * L) {  // two registers a visit
            vec<T> best = set(Maximum<T>::lowest), second = best;
            mask<T> where = set(bits_t<T>(first)), second_where = where;
            for_window(g, od, oh, ow, [&](int64_t at) {
                const T *p = here + at * g.channels + c;
                vec<T> v = load(p), u = load(p + L);
                mask<T> take = taken(v, best), second_take = taken(u, second), position = set(bits_t<T>(at));
                best = select<T>(take, v, best), second = select<T>(second_take, u, second);
                where = take ? position : where, second_where = second_take ? position : second_where;
            });
            store(y + out + c, best), store(y + out + c + L, second);
            store_indices<T>(indices + out + c, where), store_indices<T>(indices + out + c + L, second_where);
        }
        for (; c + L <= g.channels; c += L) some();
        if (c < g.channels) some(g.channels - c);
    });
    return DK_OK;
}

// Outputs in order, `width` channels side by side. False when an index is neither -1 nor inside.
template <class T>
DK_INLINE bool scatter(const T *__restrict g, const int64_t *__restrict indices, T *__restrict dx, int64_t width, int64_t channels,
                       int64_t space, int64_t outputs) {
    for (int64_t o = 0; o < outputs; ++o, g += channels, indices += channels)
        for (int64_t k = 0; k < width; ++k) {
            int64_t i = indices[k];
            if (__builtin_expect(uint64_t(i) < uint64_t(space), 1))
                dx[i * channels + k] += g[k];
            else if (i != -1)
                return false;
        }
    return true;
}

template <class T>
int32_t max_pool_backward(const T *g, const int64_t *indices, T *dx, int64_t n, int64_t channels, int64_t space, int64_t outputs) {
    FloatingPoint control;
    std::atomic<bool> good{true};
    int64_t tile = channels > 64 && n < thread_count() ? 64 : channels, tiles = (channels + tile - 1) / tile;
    parallel(n * tiles, 1 + pooling_piece / (tile * (space + 4 * outputs) + 1), [&](int64_t first, int64_t last) {
        for (int64_t item = first; item < last; ++item) {
            int64_t sample = item / tiles, c = item % tiles * tile, width = channels - c < tile ? channels - c : tile;
            T *to = dx + sample * space * channels + c;
            if (width == channels)
                std::memset(to, 0, size_t(space * channels) * sizeof(T));
            else
                for (int64_t i = 0; i < space; ++i) std::memset(to + i * channels, 0, size_t(width) * sizeof(T));
            int64_t at = sample * outputs * channels + c;
            bool fine = channels == 1 ? scatter(g + at, indices + at, to, 1, 1, space, outputs)
                                      : scatter(g + at, indices + at, to, width, channels, space, outputs);
            if (!fine) good.store(false);
        }
    });
    return good ? DK_OK : DK_BAD_ARGUMENT;
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
