// The gradients of interpolation and of padding: each input gathers from the outputs that read it, in ascending order.
#include "diva_kernels.h"
#include "resampling_axis.h"

namespace dk {
namespace {

constexpr int64_t chunk = 256;  // of DOT

// The outputs that read each input: entries [start[i], start[i + 1]) of `from` (and `weight`), ascending.
template <class T> struct Readers {
    int64_t in, out;
    bool copied;
    int32_t *start, *from;
    T *weight;
};

template <class T> struct Backward {
    T *gx;
    const T *gy;
    int64_t inner;
    Readers<T> axis[3];
    // For the width when inner is 1: reader t of input i at [t * in + i], for `depth` readers at most, count[i] of them.
    int64_t depth;
    int32_t *slots, *base;
    bits_t<T> *count;
    T *slot_weight;
};

template <class T> void fill_readers(const Axis<T> &a, Readers<T> &r) {
    std::fill(r.start, r.start + a.in + 1, 0);
    const int64_t n = a.out * a.taps;
    for (int64_t e = 0; e < n; ++e) ++r.start[a.index[e] + 1];
    for (int64_t i = 0; i < a.in; ++i) r.start[i + 1] += r.start[i];
    for (int64_t o = 0; o < a.out; ++o)
        for (int k = 0; k < a.taps; ++k) {
            const int32_t at = r.start[a.index[k * a.out + o]]++;
            r.from[at] = int32_t(o);
            if (a.weighted) r.weight[at] = a.weight[k * a.out + o];
        }
    for (int64_t i = a.in; i > 0; --i) r.start[i] = r.start[i - 1];
    r.start[0] = 0;
}

// dst[j] = DOT over the readers e of src[from[e] * stride + j]: chains of 256 from +0, folded ascending.
template <class T, bool weighted> void gather_rows(T *dst, const T *src, int64_t stride, const Readers<T> &r, int64_t i, int64_t n) {
    const int64_t first = r.start[i], last = r.start[i + 1];
    auto one = [&](int64_t e, const T *p, vec<T> acc) {
        vec<T> v = load(p + r.from[e] * stride);
        return weighted ? fma(set(r.weight[e]), v, acc) : acc + v;
    };
    int64_t j = 0;
    if (last - first <= chunk) {
        for (; j + 4 * lanes<T> <= n; j += 4 * lanes<T>) {
            vec<T> a{}, b{}, c{}, d{};
            const T *p = src + j;
            for (int64_t e = first; e < last; ++e)
                a = one(e, p, a), b = one(e, p + lanes<T>, b), c = one(e, p + 2 * lanes<T>, c), d = one(e, p + 3 * lanes<T>, d);
            const vec<T> zero{};  // the fold: a chain that underflowed to -0 becomes +0
            store(dst + j, zero + a), store(dst + j + lanes<T>, zero + b);
            store(dst + j + 2 * lanes<T>, zero + c), store(dst + j + 3 * lanes<T>, zero + d);
        }
    }
    for (; j + lanes<T> <= n; j += lanes<T>) {
        vec<T> total{};
        for (int64_t c = first; c < last; c += chunk) {
            vec<T> acc{};
            for (int64_t e = c; e < std::min(c + chunk, last); ++e) acc = one(e, src + j, acc);
            total = total + acc;
        }
        store(dst + j, total);
    }
    for (; j < n; ++j) {
        T total = 0;
        for (int64_t c = first; c < last; c += chunk) {
            T acc = 0;
            for (int64_t e = c; e < std::min(c + chunk, last); ++e) {
                const T v = src[r.from[e] * stride + j];
                acc = weighted ? fma(r.weight[e], v, acc) : acc + v;
            }
            total = total + acc;
        }
        dst[j] = total;
    }
}

// The width when inner is 1: gx[i] over the readers of i, lanes over i.
template <class T, bool weighted> void across(const Backward<T> &b, T *dst, const T *src) {
    const Readers<T> &w = b.axis[2];
    const int64_t blocks = blocks_of<T>(w.in);
    int64_t i = 0;
    if (b.depth <= chunk) {
        for (int64_t k = 0; i + lanes<T> <= w.in; i += lanes<T>, ++k) {
            vec<T> acc{};
            for (int64_t t = 0; t < b.depth; ++t) {
                const int32_t base = b.base[t * blocks + k];
                if (base == -2) break;  // no lane has so many readers
                vec<T> v = gather(src, w.out, b.slots + t * w.in + i, base);
                vec<T> more = weighted ? fma(load(b.slot_weight + t * w.in + i), v, acc) : acc + v;
                acc = select<T>(load(b.count + i) > set(bits_t<T>(t)), more, acc);
            }
            store(dst + i, vec<T>{} + acc);
        }
    }
    for (; i < w.in; ++i) gather_rows<T, weighted>(dst + i, src, 1, w, i, 1);
}

template <class T, bool weighted> int32_t rows(const Backward<T> &b, int64_t begin, int64_t end) {
    const Readers<T> &d = b.axis[0], &h = b.axis[1], &w = b.axis[2];
    const int64_t row = w.out * b.inner, in_row = w.in * b.inner, plane = h.out * row;
    T *line = static_cast<T *>(scratch(0, size_t(row) * sizeof(T)));
    T *planes = d.copied ? line : static_cast<T *>(scratch(1, size_t(plane) * sizeof(T)));
    if (!line || !planes) return DK_NO_MEMORY;
    int64_t at = -1;
    for (int64_t r = begin; r < end; ++r) {
        const int64_t iy = r % h.in, iz = r / h.in % d.in, o = r / h.in / d.in;
        const T *g = b.gy + (o * d.out + iz) * plane;  // when the depth is copied
        if (!d.copied) {
            if (at != r / h.in) gather_rows<T, weighted>(planes, b.gy + o * d.out * plane, plane, d, iz, plane);
            at = r / h.in, g = planes;
        }
        T *dst = b.gx + r * in_row;
        if (!h.copied && h.start[iy] == h.start[iy + 1]) {  // nothing reads this row
            std::fill(dst, dst + in_row, T(0));
            continue;
        }
        T *t = w.copied ? dst : line;
        if (!h.copied)
            gather_rows<T, weighted>(t, g, row, h, iy, row), g = t;
        else
            g += iy * row;
        if (w.copied) {
            if (g != dst) std::memcpy(dst, g, size_t(row) * sizeof(T));
        } else if (b.inner == 1) {
            across<T, weighted>(b, dst, g);
        } else {
            for (int64_t i = 0; i < w.in; ++i) gather_rows<T, weighted>(dst + i * b.inner, g, b.inner, w, i, b.inner);
        }
    }
    return DK_OK;
}

template <class T> void fill_slots(Backward<T> &b, Arena64 &arena, bool weighted) {
    const Readers<T> &w = b.axis[2];
    const int64_t blocks = blocks_of<T>(w.in);
    b.count = arena.take<bits_t<T>>(w.in);
    b.slots = arena.take<int32_t>(b.depth * w.in);
    b.slot_weight = arena.take<T>(b.depth * w.in);
    b.base = arena.take<int32_t>(b.depth * blocks);
    for (int64_t i = 0; i < w.in; ++i) {
        b.count[i] = w.start[i + 1] - w.start[i];
        for (int64_t t = 0; t < b.depth; ++t) {
            const bool here = t < b.count[i];
            // an empty slot repeats a neighbour's reader, so that the block stays narrow; its value is not used
            b.slots[t * w.in + i] = here ? w.from[w.start[i] + t] : i ? b.slots[t * w.in + i - 1] : 0;
            b.slot_weight[t * w.in + i] = here && weighted ? w.weight[w.start[i] + t] : T(0);
        }
    }
    for (int64_t t = 0; t < b.depth; ++t)
        for (int64_t k = 0; k < blocks; ++k) {
            const int64_t i = k * lanes<T>, n = std::min<int64_t>(lanes<T>, w.in - i);
            bool any = false;
            for (int64_t j = i; j < i + n; ++j) any = any || t < b.count[j];
            b.base[t * blocks + k] = any ? block_base<T>(b.slots + t * w.in + i, n) : -2;
        }
}

template <class T>
int32_t backward(T *gx, const T *gy, int64_t outer, int64_t inner, const AxisShape *shape) {
    FloatingPoint control;
    Backward<T> b{};
    b.gx = gx, b.gy = gy, b.inner = inner;
    const int taps = taps_of(shape[0].mode);
    const bool weighted = taps > 1;
    size_t bytes = 0;
    for (int k = 0; k < 3; ++k) {
        const int64_t n = shape[k].out * taps;
        bytes += 2 * Arena64::room<int32_t>(n) + 2 * Arena64::room<T>(n) + Arena64::room<int32_t>(shape[k].in + 1);
    }
    Arena64 arena{static_cast<char *>(scratch(7, bytes))};
    if (!arena.next) return DK_NO_MEMORY;
    for (int k = 0; k < 3; ++k) {
        const int64_t n = shape[k].out * taps;
        Axis<T> a{shape[k].in, shape[k].out, taps, is_copied(shape[k]), weighted, nullptr, nullptr};
        a.index = arena.take<int32_t>(n), a.weight = arena.take<T>(n);
        Readers<T> &r = b.axis[k];
        r.in = a.in, r.out = a.out, r.copied = a.copied;
        r.start = arena.take<int32_t>(a.in + 1), r.from = arena.take<int32_t>(n), r.weight = arena.take<T>(n);
        if (a.copied) continue;
        fill_axis(shape[k], a);
        fill_readers(a, r);
    }
    const Readers<T> &w = b.axis[2];
    if (inner == 1 && !w.copied) {
        for (int64_t i = 0; i < w.in; ++i) b.depth = std::max<int64_t>(b.depth, w.start[i + 1] - w.start[i]);
        // lanes side by side pay off for axes of many inputs with few readers each
        if (w.in < lanes<T> || b.depth > chunk || b.depth * w.in > 8 * w.out * taps) b.depth = chunk + 1;
        if (b.depth <= chunk) {
            const int64_t n = b.depth * w.in;
            Arena64 more{static_cast<char *>(scratch(6, Arena64::room<bits_t<T>>(w.in) + Arena64::room<int32_t>(n) +
                                                            Arena64::room<T>(n) +
                                                            Arena64::room<int32_t>(b.depth * blocks_of<T>(w.in))))};
            if (!more.next) return DK_NO_MEMORY;
            fill_slots(b, more, weighted);
        }
    }
    const int64_t n_rows = outer * b.axis[0].in * b.axis[1].in;
    int64_t grain = std::max<int64_t>(1, 32768 / std::max<int64_t>(1, w.out * inner));
    if (!b.axis[0].copied) grain = (grain + b.axis[1].in - 1) / b.axis[1].in * b.axis[1].in;  // whole planes
    int32_t status = DK_OK;
    parallel(n_rows, grain, [&](int64_t begin, int64_t end) {
        int32_t s = weighted ? rows<T, true>(b, begin, end) : rows<T, false>(b, begin, end);
        if (s != DK_OK) __atomic_store_n(&status, s, __ATOMIC_RELAXED);
    });
    return status;
}

template <class T>
int32_t resample_backward(T *gx, const T *gy, int64_t outer, int64_t inner, int32_t n_axes, const int64_t *in,
                          const int64_t *out, const double *scale, int32_t mode, bool align) {
    if (n_axes < 1 || n_axes > 3 || mode < nearest || mode > cubic) return DK_BAD_ARGUMENT;
    AxisShape shape[3];
    for (int k = 0; k < 3; ++k) {
        const int from = k - (3 - n_axes);
        shape[k] = from < 0 ? AxisShape{1, 1, 0.0, 0, mode, align}
                            : AxisShape{in[from], out[from], scale[from], 0, mode, align};
    }
    return backward(gx, gy, outer, inner, shape);
}

template <class T>
int32_t pad_backward(T *gx, const T *gy, int64_t outer, int64_t inner, int32_t n_axes, const int64_t *in,
                     const int64_t *out, const int64_t *left, bool reflected) {
    if (n_axes < 1 || n_axes > 3) return DK_BAD_ARGUMENT;
    AxisShape shape[3];
    const int32_t mode = reflected ? reflect : replicate;
    for (int k = 0; k < 3; ++k) {
        const int from = k - (3 - n_axes);
        shape[k] = from < 0 ? AxisShape{1, 1, 0.0, 0, mode, false} : AxisShape{in[from], out[from], 0.0, left[from], mode, false};
    }
    return backward(gx, gy, outer, inner, shape);
}

}  // namespace
}  // namespace dk

extern "C" {

int32_t dk_resample_backward_f32(float *gx, const float *gy, int64_t outer, int64_t inner, int32_t n_axes,
                                 const int64_t *in, const int64_t *out, const double *scale, int32_t mode,
                                 int32_t align_corners) {
    return dk::resample_backward(gx, gy, outer, inner, n_axes, in, out, scale, mode, align_corners != 0);
}
int32_t dk_resample_backward_f64(double *gx, const double *gy, int64_t outer, int64_t inner, int32_t n_axes,
                                 const int64_t *in, const int64_t *out, const double *scale, int32_t mode,
                                 int32_t align_corners) {
    return dk::resample_backward(gx, gy, outer, inner, n_axes, in, out, scale, mode, align_corners != 0);
}
int32_t dk_pad_backward_f32(float *gx, const float *gy, int64_t outer, int64_t inner, int32_t n_axes, const int64_t *in,
                            const int64_t *out, const int64_t *left, int32_t reflect) {
    return dk::pad_backward(gx, gy, outer, inner, n_axes, in, out, left, reflect != 0);
}
int32_t dk_pad_backward_f64(double *gx, const double *gy, int64_t outer, int64_t inner, int32_t n_axes, const int64_t *in,
                            const int64_t *out, const int64_t *left, int32_t reflect) {
    return dk::pad_backward(gx, gy, outer, inner, n_axes, in, out, left, reflect != 0);
}
}
