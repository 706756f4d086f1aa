// Interpolation, forward: rows along the last axis first, kept while later outputs read them again, then along the others.
#include "diva_kernels.h"
#include "resampling_axis.h"

namespace dk {
namespace {

template <class T> struct Forward {
    T *y;
    const T *x;
    int64_t outer, inner;
    Axis<T> axis[3];        // depth, height, width; a missing axis is a copied one of size 1
    const int32_t *base;    // of the width's blocks of lanes, tap by tap
    int32_t mode;
};

// dst (out, inner) from src (in, inner), along the width: y = x_0 w_0, then fma(x_k, w_k, y).
template <class T, int taps, bool weighted> void across(const Forward<T> &f, T *dst, const T *src) {
    const Axis<T> &a = f.axis[2];
    const int64_t out = a.out, inner = f.inner;
    if (inner == 1) {
        for (int64_t b = 0, i = 0; i < out; ++b, i += lanes<T>) {
            const int64_t n = std::min<int64_t>(lanes<T>, out - i), blocks = blocks_of<T>(out);
            if (n < lanes<T>) {
                for (int64_t j = i; j < out; ++j) {
                    T v = weighted ? src[a.index[j]] * a.weight[j] : src[a.index[j]];
                    for (int k = 1; k < taps; ++k) v = fma(src[a.index[k * out + j]], a.weight[k * out + j], v);
                    dst[j] = v;
                }
                return;
            }
            vec<T> v = gather(src, a.in, a.index + i, f.base[b]);
            if (weighted) v = v * load(a.weight + i);
            for (int k = 1; k < taps; ++k)
                v = fma(gather(src, a.in, a.index + k * out + i, f.base[k * blocks + b]), load(a.weight + k * out + i), v);
            store(dst + i, v);
        }
        return;
    }
    for (int64_t i = 0; i < out; ++i, dst += inner) {
        if (!weighted) {
            const T *from = src + a.index[i] * inner;
            int64_t c = 0;
            for (; c + lanes<T> <= inner; c += lanes<T>) store(dst + c, load(from + c));
            for (; c < inner; ++c) dst[c] = from[c];
            continue;
        }
        const T *p[taps];
        T w[taps];
        for (int k = 0; k < taps; ++k) p[k] = src + a.index[k * out + i] * inner, w[k] = a.weight[k * out + i];
        int64_t c = 0;
        for (; c + lanes<T> <= inner; c += lanes<T>) {
            vec<T> v = load(p[0] + c) * set(w[0]);
            for (int k = 1; k < taps; ++k) v = fma(load(p[k] + c), set(w[k]), v);
            store(dst + c, v);
        }
        for (; c < inner; ++c) {
            T v = p[0][c] * w[0];
            for (int k = 1; k < taps; ++k) v = fma(p[k][c], w[k], v);
            dst[c] = v;
        }
    }
}

// dst = rows[0] w_0, then fma(rows[k], w_k, dst).
template <class T, int taps> void combine(T *dst, T *const *rows, const T *w, int64_t n) {
    vec<T> weight[taps];
    for (int k = 0; k < taps; ++k) weight[k] = set(w[k]);
    int64_t i = 0;
    for (; i + lanes<T> <= n; i += lanes<T>) {
        vec<T> v = load(rows[0] + i) * weight[0];
        for (int k = 1; k < taps; ++k) v = fma(load(rows[k] + i), weight[k], v);
        store(dst + i, v);
    }
    for (; i < n; ++i) {
        T v = rows[0][i] * w[0];
        for (int k = 1; k < taps; ++k) v = fma(rows[k][i], w[k], v);
        dst[i] = v;
    }
}

// A row of pixels of `inner` numbers each, width and height at once: the same operations, nothing kept.
template <class T> void pixels(const Forward<T> &f, T *dst, const T *top, const T *bottom, T top_weight, T bottom_weight) {
    const Axis<T> &a = f.axis[2];
    const int64_t inner = f.inner;
    for (int64_t i = 0; i < a.out; ++i, dst += inner) {
        const int64_t left = a.index[i] * inner, right = a.index[a.out + i] * inner;
        const T w0 = a.weight[i], w1 = a.weight[a.out + i];
        int64_t c = 0;
        for (; c + lanes<T> <= inner; c += lanes<T>) {
            vec<T> t = fma(load(top + right + c), set(w1), load(top + left + c) * set(w0));
            vec<T> b = fma(load(bottom + right + c), set(w1), load(bottom + left + c) * set(w0));
            store(dst + c, fma(b, set(bottom_weight), t * set(top_weight)));
        }
        for (; c < inner; ++c) {
            T t = fma(top[right + c], w1, top[left + c] * w0), b = fma(bottom[right + c], w1, bottom[left + c] * w0);
            dst[c] = fma(b, bottom_weight, t * top_weight);
        }
    }
}

template <class T, int taps> int32_t weighted_rows(const Forward<T> &f, int64_t begin, int64_t end) {
    const Axis<T> &d = f.axis[0], &h = f.axis[1], &w = f.axis[2];
    const int64_t in_row = w.in * f.inner, row = w.out * f.inner;
    // taps rows along the width for each of taps depths, and one row along the height for each depth
    T *memory = static_cast<T *>(scratch(0, size_t(row) * (taps * taps + taps) * sizeof(T)));
    if (!memory) return DK_NO_MEMORY;
    const T *kept[taps * taps] = {};  // the input row that each slot holds
    const int depths = d.copied ? 1 : taps, heights = h.copied ? 1 : taps;
    for (int64_t r = begin; r < end; ++r) {
        const int64_t oh = r % h.out, od = r / h.out % d.out, o = r / h.out / d.out;
        T *dst = f.y + r * row;
        if (taps == 2 && f.inner > 1 && d.copied && !h.copied && !w.copied) {
            const T *plane = f.x + (o * d.in + od) * h.in * in_row;
            pixels(f, dst, plane + h.index[oh] * in_row, plane + h.index[h.out + oh] * in_row, h.weight[oh],
                   h.weight[h.out + oh]);
            continue;
        }
        T *by_depth[taps];
        T by_depth_weight[taps];
        for (int kd = 0; kd < depths; ++kd) {
            const int64_t iz = d.copied ? od : d.index[kd * d.out + od];
            by_depth_weight[kd] = d.copied ? T(1) : d.weight[kd * d.out + od];
            T *rows[taps], weights[taps];
            for (int kh = 0; kh < heights; ++kh) {
                const int64_t iy = h.copied ? oh : h.index[kh * h.out + oh];
                weights[kh] = h.copied ? T(1) : h.weight[kh * h.out + oh];
                const T *src = f.x + ((o * d.in + iz) * h.in + iy) * in_row;
                if (w.copied) {
                    rows[kh] = const_cast<T *>(src);
                    continue;
                }
                const bool last = h.copied && d.copied;
                const int slot = kd * taps + int(iy & (taps - 1));
                T *here = last ? dst : memory + slot * row;
                if (last || kept[slot] != src) across<T, taps, true>(f, here, src), kept[slot] = src;
                rows[kh] = here;
            }
            by_depth[kd] = h.copied ? rows[0] : d.copied ? dst : memory + (taps * taps + kd) * row;
            if (!h.copied) combine<T, taps>(by_depth[kd], rows, weights, row);
        }
        if (!d.copied) combine<T, taps>(dst, by_depth, by_depth_weight, row);
        if (d.copied && h.copied && w.copied) std::memcpy(dst, by_depth[0], size_t(row) * sizeof(T));
    }
    return DK_OK;
}

template <class T> int32_t nearest_rows(const Forward<T> &f, int64_t begin, int64_t end) {
    const Axis<T> &d = f.axis[0], &h = f.axis[1], &w = f.axis[2];
    const int64_t row = w.out * f.inner;
    const T *before = nullptr;
    for (int64_t r = begin; r < end; ++r) {
        const int64_t oh = r % h.out, od = r / h.out % d.out, o = r / h.out / d.out;
        const int64_t iz = d.copied ? od : d.index[od], iy = h.copied ? oh : h.index[oh];
        const T *src = f.x + ((o * d.in + iz) * h.in + iy) * w.in * f.inner;
        T *dst = f.y + r * row;
        if (src == before)
            std::memcpy(dst, dst - row, size_t(row) * sizeof(T));
        else if (w.copied)
            std::memcpy(dst, src, size_t(row) * sizeof(T));
        else
            across<T, 1, false>(f, dst, src);
        before = src;
    }
    return DK_OK;
}

template <class T>
int32_t resample(T *y, const T *x, int64_t outer, int64_t inner, int32_t n_axes, const int64_t *in, const int64_t *out,
                 const double *scale, int32_t mode, bool align) {
    if (n_axes < 1 || n_axes > 3 || mode < nearest || mode > cubic) return DK_BAD_ARGUMENT;
    FloatingPoint control;
    Forward<T> f{y, x, outer, inner, {}, nullptr, mode};
    const int taps = taps_of(mode);
    size_t bytes = 0;
    AxisShape shape[3];
    for (int k = 0; k < 3; ++k) {
        const int from = k - (3 - n_axes);
        shape[k] = from < 0 ? AxisShape{1, 1, 0.0, 0, mode, align}
                            : AxisShape{in[from], out[from], scale[from], 0, mode, align};
        bytes += Arena64::room<int32_t>(shape[k].out * taps) + Arena64::room<T>(shape[k].out * taps);
    }
    const int64_t blocks = blocks_of<T>(shape[2].out);
    bytes += Arena64::room<int32_t>(blocks * taps);
    Arena64 arena{static_cast<char *>(scratch(7, bytes))};
    if (!arena.next) return DK_NO_MEMORY;
    for (int k = 0; k < 3; ++k) {
        Axis<T> &a = f.axis[k];
        a.in = shape[k].in, a.out = shape[k].out, a.taps = taps, a.copied = is_copied(shape[k]), a.weighted = taps > 1;
        a.index = arena.take<int32_t>(a.out * taps), a.weight = arena.take<T>(a.out * taps);
        if (!a.copied) fill_axis(shape[k], a);
    }
    const Axis<T> &w = f.axis[2];
    int32_t *base = arena.take<int32_t>(blocks * taps);
    if (!w.copied)
        for (int k = 0; k < taps; ++k)
            for (int64_t b = 0; b < blocks; ++b) {
                const int64_t i = b * lanes<T>;
                base[k * blocks + b] = block_base<T>(w.index + k * w.out + i, std::min<int64_t>(lanes<T>, w.out - i));
            }
    f.base = base;
    const int64_t rows = outer * f.axis[0].out * f.axis[1].out;
    const int64_t grain = std::max<int64_t>(1, 32768 / std::max<int64_t>(1, w.out * inner));
    int32_t status = DK_OK;
    parallel(rows, grain, [&](int64_t begin, int64_t end) {
        int32_t s = mode == linear  ? weighted_rows<T, 2>(f, begin, end)
                    : mode == cubic ? weighted_rows<T, 4>(f, begin, end)
                                    : nearest_rows<T>(f, begin, end);
        if (s != DK_OK) __atomic_store_n(&status, s, __ATOMIC_RELAXED);
    });
    return status;
}

}  // namespace
}  // namespace dk

extern "C" {

int32_t dk_resample_f32(float *y, const float *x, int64_t outer, int64_t inner, int32_t n_axes, const int64_t *in,
                        const int64_t *out, const double *scale, int32_t mode, int32_t align_corners) {
    return dk::resample(y, x, outer, inner, n_axes, in, out, scale, mode, align_corners != 0);
}
int32_t dk_resample_f64(double *y, const double *x, int64_t outer, int64_t inner, int32_t n_axes, const int64_t *in,
                        const int64_t *out, const double *scale, int32_t mode, int32_t align_corners) {
    return dk::resample(y, x, outer, inner, n_axes, in, out, scale, mode, align_corners != 0);
}
}
