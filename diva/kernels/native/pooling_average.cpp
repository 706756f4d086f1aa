// Average pooling, forward and backward.
#include <atomic>

#include "diva_kernels.h"
#include "pooling.h"
#include "pooling_windows.h"

namespace dk {
namespace {

template <class T> struct Average {
    const Geometry &g;
    T *y;  // the output row
    vec<T> sum, count;
    T sum_one, count_one;

    DK_INLINE void start_one(int64_t od, int64_t oh, int64_t ow) { sum_one = 0, count_one = g.count<T>(od, oh, ow); }
    DK_INLINE void take_one(T x, int64_t) { sum_one += x; }
    DK_INLINE void end_one(int64_t ow) { y[ow] = sum_one / count_one; }

    DK_INLINE void start(int64_t od, int64_t oh, int64_t ow, int64_t) { sum = vec<T>{}, count = set(g.count<T>(od, oh, ow)); }
    DK_INLINE void take(vec<T> x, int64_t) { sum += x; }
    DK_INLINE void end(int64_t ow, int64_t n) {
        if (n == lanes<T>)
            store(y + ow, sum / count);
        else
            store(y + ow, sum / count, n);
    }
};

template <class T> int32_t average_pool(const T *x, T *y, const int64_t *geometry) {
    FloatingPoint control;
    Geometry g;
    if (!g.read(geometry)) return DK_NO_MEMORY;
    if (!g.channels_last) {
        pool_planes(g, x, [&](int64_t plane, int64_t od, int64_t oh) {
            return Average<T>{g, y + plane * g.outputs + (od * g.h.outputs + oh) * g.w.outputs, {}, {}, 0, 0};
        });
        return DK_OK;
    }
    constexpr int64_t L = lanes<T>;
    pool_pixels(g, [&](int64_t sample, int64_t od, int64_t oh, int64_t ow) {
        const T *here = x + sample * g.space * g.channels;
        int64_t out = (sample * g.outputs + (od * g.h.outputs + oh) * g.w.outputs + ow) * g.channels, c = 0;
        vec<T> count = set(g.count<T>(od, oh, ow));
        auto some = [&](auto... some_lanes) {
            vec<T> sum{};
            for_window(g, od, oh, ow, [&](int64_t at) { sum += load(here + at * g.channels + c, some_lanes...); });
            store(y + out + c, sum / count, some_lanes...);
        };
        for (; c + 2 * L <= g.channels; c += 2 * L) {  // two registers a visit
            vec<T> sum{}, second{};
            for_window(g, od, oh, ow, [&](int64_t at) {
                const T *p = here + at * g.channels + c;
                sum += load(p), second += load(p + L);
            });
            store(y + out + c, sum / count), store(y + out + c + L, second / count);
        }
        for (; c + L <= g.channels; c += L) some();
        if (c < g.channels) some(g.channels - c);
    });
    return DK_OK;
}

// One plane: output rows in order; within a row, position k of all windows before position k - 1 where the stride is 1, which
// visits the windows of an element in ascending order too.
// `tiled`: each element has one window; nothing is read of dx.
template <class T> void plane_gradient(const Geometry &g, const T *grad, T *dx, T *share, bool tiled) {
    constexpr int64_t L = lanes<T>;
    const Axis &w = g.w;
    for (int64_t od = 0; od < g.d.outputs; ++od)
        for (int64_t oh = 0; oh < g.h.outputs; ++oh, grad += w.outputs) {
            for (int64_t ow = 0; ow < w.outputs; ++ow) share[ow] = T(0) + grad[ow] / g.count<T>(od, oh, ow);
            for (int64_t id = g.d.begin[od]; id < g.d.end[od]; ++id)
                for (int64_t ih = g.h.begin[oh]; ih < g.h.end[oh]; ++ih) {
                    T *row = dx + (id * g.h.size + ih) * w.size;
                    int64_t ow = 0;
                    if (!tiled && w.stride == 1 && w.outer - w.inner >= L && w.inner < w.outer) {
                        for (; ow < w.inner; ++ow)
                            for (int64_t iw = w.begin[ow]; iw < w.end[ow]; ++iw) row[iw] += share[ow];
                        for (; ow + L <= w.outer; ow += L)
                            for (int64_t k = w.kernel - 1; k >= 0; --k) {
                                T *to = row + ow - w.padding + k;
                                store(to, load(to) + load(share + ow));
                            }
                    }
                    for (; ow < w.outputs; ++ow) {
                        T value = share[ow];
                        if (tiled)
                            for (int64_t iw = w.begin[ow]; iw < w.end[ow]; ++iw) row[iw] = value;
                        else
                            for (int64_t iw = w.begin[ow]; iw < w.end[ow]; ++iw) row[iw] += value;
                    }
                }
        }
}

// One sample, `width` channels side by side: output pixels in order.
template <class T>
void pixel_gradient(const Geometry &g, const T *grad, T *dx, int64_t width, T *__restrict share, bool tiled) {
    if (!tiled && width == g.channels) std::memset(dx, 0, size_t(g.space * width) * sizeof(T));
    if (!tiled && width < g.channels)
        for (int64_t i = 0; i < g.space; ++i) std::memset(dx + i * g.channels, 0, size_t(width) * sizeof(T));
    for (int64_t od = 0; od < g.d.outputs; ++od)
        for (int64_t oh = 0; oh < g.h.outputs; ++oh)
            for (int64_t ow = 0; ow < g.w.outputs; ++ow, grad += g.channels) {
                T count = g.count<T>(od, oh, ow);
                for (int64_t c = 0; c < width; ++c) share[c] = T(0) + grad[c] / count;
                for_window(g, od, oh, ow, [&](int64_t at) {
                    T *to = dx + at * g.channels;
                    if (tiled)
                        std::memcpy(to, share, size_t(width) * sizeof(T));
                    else
                        for (int64_t c = 0; c < width; ++c) to[c] += share[c];
                });
            }
}

template <class T> int32_t average_pool_backward(const T *grad, T *dx, const int64_t *geometry) {
    FloatingPoint control;
    Geometry g;
    if (!g.read(geometry)) return DK_NO_MEMORY;
    std::atomic<bool> no_memory{false};
    bool tiled = g.d.tiled() && g.h.tiled() && g.w.tiled();
    if (!g.channels_last) {
        parallel(g.n, 1 + pooling_piece / (g.space + g.work(g.outputs) + 1), [&](int64_t first, int64_t last) {
            T *share = static_cast<T *>(scratch(1, size_t(g.w.outputs + 1) * sizeof(T)));
            if (!share) return no_memory.store(true);
            if (!tiled) std::memset(dx + first * g.space, 0, size_t((last - first) * g.space) * sizeof(T));
            for (int64_t p = first; p < last; ++p) plane_gradient(g, grad + p * g.outputs, dx + p * g.space, share, tiled);
        });
        return no_memory ? DK_NO_MEMORY : DK_OK;
    }
    int64_t tile = g.channels > 64 && g.n < thread_count() ? 64 : g.channels, tiles = (g.channels + tile - 1) / tile;
    parallel(g.n * tiles, 1 + pooling_piece / (tile * (g.space + g.work(g.outputs)) + 1), [&](int64_t first, int64_t last) {
        T *share = static_cast<T *>(scratch(1, size_t(tile + 1) * sizeof(T)));
        if (!share) return no_memory.store(true);
        for (int64_t item = first; item < last; ++item) {
            int64_t sample = item / tiles, c = item % tiles * tile, width = g.channels - c < tile ? g.channels - c : tile;
            pixel_gradient(g, grad + sample * g.outputs * g.channels + c, dx + sample * g.space * g.channels + c, width, share, tiled);
        }
    });
    return no_memory ? DK_NO_MEMORY : DK_OK;
}

}  // namespace
}  // namespace dk

extern "C" {
int32_t dk_average_pool_f32(const float *x, float *y, const int64_t *geometry) { return dk::average_pool(x, y, geometry); }
int32_t dk_average_pool_f64(const double *x, double *y, const int64_t *geometry) { return dk::average_pool(x, y, geometry); }
int32_t dk_average_pool_backward_f32(const float *g, float *dx, const int64_t *geometry) {
    return dk::average_pool_backward(g, dx, geometry);
}
int32_t dk_average_pool_backward_f64(const double *g, double *dx, const int64_t *geometry) {
    return dk::average_pool_backward(g, dx, geometry);
}
}
