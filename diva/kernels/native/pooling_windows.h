// The windows of a pooling, one dimension at a time, and the walk over planes that maxima and averages share.
#pragma once

#include <cstdint>

#include "pool.h"
#include "vec.h"

namespace dk {

// Window o covers the positions begin[o], begin[o] + dilation, ... below end[o]. For o in [inner, outer) all `kernel`
// positions lie inside, the first at o * stride - padding, and they count as `kernel`.
struct Axis {
    int64_t size, outputs, kernel, stride, padding, dilation, inner, outer;
    int64_t *begin, *end, *count;

    // Every position lies in exactly one window, of `kernel` positions.
    bool tiled() const { return inner == 0 && outer == outputs && kernel == stride && outputs * stride == size && dilation == 1; }

    void fill(bool adaptive, bool include_pad) {
        if (adaptive) {
            dilation = 1, padding = 0, kernel = stride = outputs ? size / outputs : 1;
            for (int64_t o = 0; o < outputs; ++o) {
                begin[o] = o * size / outputs, end[o] = ((o + 1) * size + outputs - 1) / outputs;
                count[o] = end[o] - begin[o];
            }
            inner = 0, outer = outputs && size % outputs == 0 ? outputs : 0;
            return;
        }
        inner = outputs, outer = 0;
        for (int64_t o = 0; o < outputs; ++o) {
            int64_t start = o * stride - padding, stop = start + (kernel - 1) * dilation + 1;
            if (start >= 0 && stop <= size) inner = o < inner ? o : inner, outer = o + 1;
            int64_t padded = (start + kernel < size + padding ? start + kernel : size + padding) - start;
            begin[o] = start < 0 ? start + (-start + dilation - 1) / dilation * dilation : start;
            end[o] = stop < size ? stop : size;
            count[o] = include_pad ? padded : end[o] - begin[o];  // averages have no dilation
        }
        if (inner > outer) inner = outer;
    }
};

struct Geometry {
    bool channels_last;
    int64_t n, channels, space, outputs, divisor;
    Axis d, h, w;

    // The tables are in scratch slot 0. False: no memory.
    bool read(const int64_t *g) {
        channels_last = g[0] != 0, n = g[1], channels = g[2], divisor = g[23];
        space = g[3] * g[4] * g[5], outputs = g[6] * g[7] * g[8];
        auto *table = static_cast<int64_t *>(scratch(0, size_t(3 * (g[6] + g[7] + g[8]) + 1) * sizeof(int64_t)));
        if (!table) return false;
        Axis *axes[3] = {&d, &h, &w};
        for (int i = 0; i < 3; ++i) {
            Axis &a = *axes[i];
            a.size = g[3 + i], a.outputs = g[6 + i], a.kernel = g[9 + i], a.stride = g[12 + i], a.padding = g[15 + i];
            a.dilation = g[18 + i];
            a.begin = table, a.end = table + a.outputs, a.count = table + 2 * a.outputs;
            table += 3 * a.outputs;
            a.fill(g[21] != 0, g[22] != 0);
        }
        return true;
    }

    template <class T> DK_INLINE T count(int64_t od, int64_t oh, int64_t ow) const {
        return divisor ? T(divisor) : T(d.count[od] * h.count[oh] * w.count[ow]);
    }
    // Input elements that one plane's, or one output row's, windows cover: to decide how much work a piece is.
    int64_t work(int64_t items) const { return items * d.kernel * h.kernel * w.kernel; }
};

constexpr int64_t pooling_piece = 1 << 16;  // input elements that are worth a thread

// The numbers p[0], p[S], p[2 S], ..., n of them, one per lane; S = 0 means `stride`. Nothing behind the last is read.
template <class T, int S> DK_INLINE vec<T> load_every(const T *p, int64_t stride, int64_t n) {
    constexpr int L = lanes<T>;
    if constexpr (S == 1) return n == L ? load(p) : load(p, n);
    if constexpr (S == 2 && L > 1) {
        int64_t read = 2 * n - 1;
        vec<T> a = read >= L ? load(p) : load(p, read), b = read > L ? load(p + L, read - L) : vec<T>{};
        if constexpr (L == 2) return __builtin_shufflevector(a, b, 0, 2);
        if constexpr (L == 4) return __builtin_shufflevector(a, b, 0, 2, 4, 6);
        if constexpr (L == 8) return __builtin_shufflevector(a, b, 0, 2, 4, 6, 8, 10, 12, 14);
        if constexpr (L == 16) return __builtin_shufflevector(a, b, 0, 2, 4, 6, 8, 10, 12, 14, 16, 18, 20, 22, 24, 26, 28, 30);
    }
    T v[L] = {};
    for (int64_t i = 0; i < n; ++i) v[i] = p[i * (S ? S : stride)];
    return load(v);
}

// One output row of one plane. `Op` starts, takes positions and ends, for one register of outputs or for one number.
template <class T, int S, class Op> DK_INLINE void pool_row(const Geometry &g, const T *plane, int64_t od, int64_t oh, Op &op) {
    constexpr int64_t L = lanes<T>;
    const Axis &w = g.w;
    auto one = [&](int64_t ow) {
        op.start_one(od, oh, ow);
        for (int64_t id = g.d.begin[od]; id < g.d.end[od]; id += g.d.dilation)
            for (int64_t ih = g.h.begin[oh]; ih < g.h.end[oh]; ih += g.h.dilation) {
                int64_t row = (id * g.h.size + ih) * w.size;
                for (int64_t iw = w.begin[ow]; iw < w.end[ow]; iw += w.dilation) op.take_one(plane[row + iw], row + iw);
            }
        op.end_one(ow);
    };
    auto many = [&](int64_t ow, int64_t n) __attribute__((always_inline)) {
        int64_t first = ow * w.stride - w.padding;
        op.start(od, oh, ow, first);
        for (int64_t id = g.d.begin[od]; id < g.d.end[od]; id += g.d.dilation)
            for (int64_t ih = g.h.begin[oh]; ih < g.h.end[oh]; ih += g.h.dilation) {
                int64_t at = (id * g.h.size + ih) * w.size + first;
                for (int64_t k = 0; k < w.kernel; ++k, at += w.dilation)
                    op.take(load_every<T, S>(plane + at, w.stride, n), at);
            }
        op.end(ow, n);
    };
    int64_t ow = 0;
    if (L > 1 && w.outer - w.inner > 1) {
        for (; ow < w.inner; ++ow) one(ow);
        for (; ow + L <= w.outer; ow += L) many(ow, L);
        if (ow < w.outer) many(ow, w.outer - ow), ow = w.outer;
    }
    for (; ow < w.outputs; ++ow) one(ow);
}

// All rows of all planes; make(plane, od, oh) gives the Op of a row.
template <class T, class Make> void pool_planes(const Geometry &g, const T *x, const Make &make) {
    int64_t rows = g.d.outputs * g.h.outputs;
    parallel(g.n * rows, 1 + pooling_piece / (g.work(g.w.outputs) + 1), [&](int64_t first, int64_t last) {
        for (int64_t r = first; r < last; ++r) {
            int64_t plane = r / rows, od = r % rows / g.h.outputs, oh = r % g.h.outputs;
            auto op = make(plane, od, oh);
            const T *here = x + plane * g.space;
            if (g.w.stride == 1)
                pool_row<T, 1>(g, here, od, oh, op);
            else if (g.w.stride == 2)
                pool_row<T, 2>(g, here, od, oh, op);
            else
                pool_row<T, 0>(g, here, od, oh, op);
        }
    });
}

// Channels last: visit(sample, od, oh, ow) for every output position.
template <class Visit> void pool_pixels(const Geometry &g, const Visit &visit) {
    int64_t rows = g.d.outputs * g.h.outputs;
    parallel(g.n * rows, 1 + pooling_piece / (g.work(g.w.outputs * g.channels) + 1), [&](int64_t first, int64_t last) {
        for (int64_t r = first; r < last; ++r)
            for (int64_t ow = 0; ow < g.w.outputs; ++ow) visit(r / rows, r % rows / g.h.outputs, r % g.h.outputs, ow);
    });
}

// body(position) for the positions of a window in row-major order.
template <class Body> DK_INLINE void for_window(const Geometry &g, int64_t od, int64_t oh, int64_t ow, const Body &body) {
    for (int64_t id = g.d.begin[od]; id < g.d.end[od]; id += g.d.dilation)
        for (int64_t ih = g.h.begin[oh]; ih < g.h.end[oh]; ih += g.h.dilation) {
            int64_t row = (id * g.h.size + ih) * g.w.size;
            for (int64_t iw = g.w.begin[ow]; iw < g.w.end[ow]; iw += g.w.dilation) body(row + iw);
        }
}

}  // namespace dk
