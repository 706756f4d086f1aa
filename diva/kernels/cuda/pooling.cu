// Pooling (native/pooling.h), forward and the gradient of averages: one launch, a thread for each number that is written.
// The gradient of maxima is in pooling_maxima.cu.
#include "device.h"

#include "divisor.h"

namespace dk {

constexpr int pool_threads = 256;

// Window o covers begin, begin + dilation, .. below end (native/pooling_windows.h); `readers` turns that round.
template <class I> struct PoolAxis {
    I size, outputs, kernel, stride, padding, dilation;
    Divisor<I> by_stride;
};
template <class I> struct PoolSpan {
    I begin, end;
};

// Of tensors (n, d, h, w, channels); planes have one channel.
template <class I> struct Pooling {
    PoolAxis<I> d, h, w;
    I channels, space, outputs, total;  // total: numbers that are written
    Divisor<I> by_channels, by_w, by_h, by_d;  // of what is written
    int64_t divisor;
    bool adaptive, include_pad;

    DK_INLINE PoolSpan<I> window(const PoolAxis<I> &a, I o) const {
        if (adaptive) return {o * a.size / a.outputs, ((o + 1) * a.size + a.outputs - 1) / a.outputs};
        const I start = o * a.stride - a.padding, stop = start + (a.kernel - 1) * a.dilation + 1;
        const I skipped = start < 0 ? (-start + a.dilation - 1) / a.dilation * a.dilation : 0;
        return {start + skipped, stop < a.size ? stop : a.size};
    }
    // What window o of an average counts along this axis.
    DK_INLINE I counted(const PoolAxis<I> &a, I o) const {
        if (adaptive || !include_pad) {
            const PoolSpan<I> s = window(a, o);
            return s.end - s.begin;
        }
        const I start = o * a.stride - a.padding, stop = start + a.kernel, most = a.size + a.padding;
        return (stop < most ? stop : most) - start;
    }
    // The windows of an average that hold position i.
    DK_INLINE PoolSpan<I> readers(const PoolAxis<I> &a, I i) const {
        if (adaptive) return {i * a.outputs / a.size, ((i + 1) * a.outputs + a.size - 1) / a.size};
        const I p = i + a.padding, last = a.by_stride.quotient(p) + 1;
        return {p < a.kernel ? 0 : a.by_stride.quotient(p - a.kernel) + 1, last < a.outputs ? last : a.outputs};
    }
};

template <class I> struct PoolPlace {
    I channel, w, h, d, sample;
    DK_INLINE PoolPlace(const Pooling<I> &g, I i) {
        channel = g.by_channels.split(i), w = g.by_w.split(i), h = g.by_h.split(i), d = g.by_d.split(i), sample = i;
    }
};

template <class I> DK_INLINE I number_of_this_thread() { return I(blockIdx.x) * pool_threads + I(threadIdx.x); }

// body(number, position) over the window of `o`, positions in row-major order; x: the channel's first number.
// K > 0: windows of K by K neighbours of a plane, all of whose loads are under way before the first is used.
template <int K, class T, class I, class Body>
DK_INLINE void for_window(const Pooling<I> &g, const T *x, const PoolPlace<I> &o, const Body &body) {
    if constexpr (K > 0) {
        const I top = o.h * g.h.stride - g.h.padding, left = o.w * g.w.stride - g.w.padding;
        T v[K * K];
        bool inside[K * K];
        DK_UNROLL for (int k = 0; k < K * K; ++k) {
            const I ih = top + k / K, iw = left + k % K;
            inside[k] = ih >= 0 && ih < g.h.size && iw >= 0 && iw < g.w.size;
            v[k] = inside[k] ? x[(ih * g.w.size + iw) * g.channels] : T(0);
        }
        DK_UNROLL for (int k = 0; k < K * K; ++k)
            if (inside[k]) body(v[k], (top + k / K) * g.w.size + left + k % K);
    } else {
        const PoolSpan<I> d = g.window(g.d, o.d), h = g.window(g.h, o.h), w = g.window(g.w, o.w);
        const I deep = g.adaptive ? 1 : g.d.dilation, down = g.adaptive ? 1 : g.h.dilation, across = g.adaptive ? 1 : g.w.dilation;
        for (I id = d.begin; id < d.end; id += deep)
            for (I ih = h.begin; ih < h.end; ih += down) {
                const I row = (id * g.h.size + ih) * g.w.size;
                for (I iw = w.begin; iw < w.end; iw += across) body(x[(row + iw) * g.channels], row + iw);
            }
    }
}

// The first position of a window in its flattened plane; -1 when it has none.
template <class I> DK_INLINE I first_position(const Pooling<I> &g, const PoolPlace<I> &o) {
    const PoolSpan<I> d = g.window(g.d, o.d), h = g.window(g.h, o.h), w = g.window(g.w, o.w);
    if (d.begin >= d.end || h.begin >= h.end || w.begin >= w.end) return -1;
    return (d.begin * g.h.size + h.begin) * g.w.size + w.begin;
}

template <class T, class I, int K>
__global__ void __launch_bounds__(pool_threads) max_pool(T *y, int64_t *indices, const T *x, Pooling<I> g) {
    const I i = number_of_this_thread<I>();
    if (i >= g.total) return;
    const PoolPlace<I> o(g, i);
    T best = -infinity<T>();
    I where = first_position(g, o);
    for_window<K>(g, x + o.sample * g.space * g.channels + o.channel, o, [&](T v, I at) {
        const bool take = v > best || v != v;
        best = take ? v : best, where = take ? at : where;
    });
    y[i] = best, indices[i] = where;
}

template <class T, class I> DK_INLINE T count_of(const Pooling<I> &g, I d, I h, I w) {
    return g.divisor ? T(g.divisor) : T(g.counted(g.d, d) * g.counted(g.h, h) * g.counted(g.w, w));
}

template <class T, class I, int K>
__global__ void __launch_bounds__(pool_threads) average_pool(T *y, const T *x, Pooling<I> g) {
    const I i = number_of_this_thread<I>();
    if (i >= g.total) return;
    const PoolPlace<I> o(g, i);
    T sum = 0;
    for_window<K>(g, x + o.sample * g.space * g.channels + o.channel, o, [&](T v, I) { sum = sum + v; });
    y[i] = sum / count_of<T>(g, o.d, o.h, o.w);
}

template <class T, class I>
__global__ void __launch_bounds__(pool_threads) average_pool_backward(T *dx, const T *grad, Pooling<I> g) {
    const I i = number_of_this_thread<I>();
    if (i >= g.total) return;
    const PoolPlace<I> at(g, i);
    const T *here = grad + at.sample * g.outputs * g.channels + at.channel;
    const PoolSpan<I> d = g.readers(g.d, at.d), h = g.readers(g.h, at.h), w = g.readers(g.w, at.w);
    T sum = 0;
    for (I od = d.begin; od < d.end; ++od)
        for (I oh = h.begin; oh < h.end; ++oh)
            for (I ow = w.begin; ow < w.end; ++ow)
                sum = sum + here[((od * g.h.outputs + oh) * g.w.outputs + ow) * g.channels] / count_of<T>(g, od, oh, ow);
    dx[i] = sum;
}

}  // namespace dk

#if DK_HOST
#include "../native/diva_kernels.h"
#include "launch.h"

namespace dk {
namespace {

template <class I> Pooling<I> read(const int64_t *g, bool backward) {
    Pooling<I> p;
    PoolAxis<I> *axes[3] = {&p.d, &p.h, &p.w};
    for (int i = 0; i < 3; ++i)
        *axes[i] = {I(g[3 + i]),  I(g[6 + i]),  I(g[9 + i]), I(g[12 + i]),
                    I(g[15 + i]), I(g[18 + i]), Divisor<I>(g[12 + i])};
    p.channels = I(g[2]), p.space = I(g[3] * g[4] * g[5]), p.outputs = I(g[6] * g[7] * g[8]);
    const int64_t *written = backward ? g + 3 : g + 6;
    p.total = I(g[1] * g[2] * written[0] * written[1] * written[2]);
    p.by_channels = Divisor<I>(g[2]), p.by_d = Divisor<I>(written[0]), p.by_h = Divisor<I>(written[1]);
    p.by_w = Divisor<I>(written[2]);
    p.divisor = g[23], p.adaptive = g[21] != 0, p.include_pad = g[22] != 0;
    return p;
}

// Whether 32 bits hold every number that the kernels compute.
bool is_small(const int64_t *g) {
    constexpr double most = 2147483647.0 - 2 * pool_threads;
    double in = double(g[1]) * double(g[2]), out = in, counted = 1;
    for (int i = 0; i < 3; ++i) {
        const double size = double(g[3 + i]), outputs = double(g[6 + i]), kernel = double(g[9 + i]);
        const double last = g[21] ? (size + 1) * (outputs + 1)
                                  : outputs * double(g[12 + i]) + kernel * double(g[18 + i]) + double(g[15 + i]) + size;
        if (last + size + outputs > most) return false;
        in *= size, out *= outputs, counted *= g[21] ? size : kernel;
    }
    return in <= most && out <= most && counted <= most;
}

// Windows of K by K neighbours of a plane.
bool is_square(const int64_t *g, int64_t K) {
    const bool flat = g[3] == 1 && g[6] == 1 && g[9] == 1 && g[15] == 0;
    return flat && !g[21] && g[10] == K && g[11] == K && g[19] == 1 && g[20] == 1;
}

template <int n> struct Number {
    static constexpr int value = n;
};

// go(geometry, kernel size known at compile time)
template <class Go> int32_t with_geometry(const int64_t *g, const Go &go) {
    if (!is_small(g)) return go(read<int64_t>(g, false), Number<0>());
    const Pooling<int32_t> p = read<int32_t>(g, false);
    if (is_square(g, 2)) return go(p, Number<2>());
    if (is_square(g, 3)) return go(p, Number<3>());
    return go(p, Number<0>());
}

template <class T> int32_t max_pool_forward(const T *x, T *y, int64_t *indices, const int64_t *geometry) {
    if (geometry[3] * geometry[4] * geometry[5] > INT32_MAX / 2) return DK_BAD_ARGUMENT;
    return with_geometry(geometry, [&](auto p, auto k) {
        constexpr auto kernel = max_pool<T, decltype(p.total), k.value>;
        return launch<kernel>(blocks_for(p.total, pool_threads), pool_threads, y, indices, x, p);
    });
}
template <class T> int32_t average_pool_forward(const T *x, T *y, const int64_t *geometry) {
    return with_geometry(geometry, [&](auto p, auto k) {
        constexpr auto kernel = average_pool<T, decltype(p.total), k.value>;
        return launch<kernel>(blocks_for(p.total, pool_threads), pool_threads, y, x, p);
    });
}
template <class T> int32_t average_pool_gradient(const T *g, T *dx, const int64_t *geometry) {
    auto go = [&](auto p) {
        constexpr auto kernel = average_pool_backward<T, decltype(p.total)>;
        return launch<kernel>(blocks_for(p.total, pool_threads), pool_threads, dx, g, p);
    };
    return is_small(geometry) ? go(read<int32_t>(geometry, true)) : go(read<int64_t>(geometry, true));
}

}  // namespace
}  // namespace dk

extern "C" {

int32_t dk_max_pool_f32(const float *x, float *y, int64_t *indices, const int64_t *geometry) {
    return dk::max_pool_forward(x, y, indices, geometry);
}
int32_t dk_max_pool_f64(const double *x, double *y, int64_t *indices, const int64_t *geometry) {
    return dk::max_pool_forward(x, y, indices, geometry);
}
int32_t dk_average_pool_f32(const float *x, float *y, const int64_t *geometry) {
    return dk::average_pool_forward(x, y, geometry);
}
int32_t dk_average_pool_f64(const double *x, double *y, const int64_t *geometry) {
    return dk::average_pool_forward(x, y, geometry);
}
int32_t dk_average_pool_backward_f32(const float *g, float *dx, const int64_t *geometry) {
    return dk::average_pool_gradient(g, dx, geometry);
}
int32_t dk_average_pool_backward_f64(const double *g, double *dx, const int64_t *geometry) {
    return dk::average_pool_gradient(g, dx, geometry);
}
}
#endif
