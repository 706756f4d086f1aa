// Losses: each sample's value gathered or computed, then summed by reduce.h.
#include "loss.h"

#include <cstdlib>

#include "diva_kernels.h"
#include "reduce.h"

namespace dk {
namespace {

constexpr int64_t piece = 16384;  // elements worth a thread's while

// The values v and weights w of the samples first .. last - 1; the place of a target that is no class, or -1.
template <class T>
int64_t gather_losses(T *v, T *w, const T *x, const int64_t *target, const T *weight, int64_t ignored, int64_t classes,
                      int64_t inner, int64_t first, int64_t last) {
    for (int64_t i = first; i < last; ++i) {
        int64_t t = target[i];
        if (t == ignored) {
            v[i - first] = 0;
            if (w) w[i - first] = 0;
            continue;
        }
        if (t < 0 || t >= classes) return i;
        T value = inner == 1 ? x[i * classes + t] : x[(i / inner * classes + t) * inner + i % inner];
        v[i - first] = weight ? -(value * weight[t]) : -value;
        if (w) w[i - first] = weight ? weight[t] : T(1);
    }
    return -1;
}

template <class T>
int32_t nll(int32_t reduction, T *out, T *total, const T *x, const int64_t *target, const T *weight, int64_t ignored,
            int64_t samples, int64_t classes, int64_t inner, int64_t *bad) {
    FloatingPoint control;
    int64_t n = samples * inner;
    *total = 0;
    if (reduction == 0) {
        *bad = gather_losses<T>(out, nullptr, x, target, weight, ignored, classes, inner, 0, n);
        return *bad < 0 ? DK_OK : int32_t(DK_BAD_TARGET);
    }
    T v[reduce_block_length], w[reduce_block_length];
    *bad = -1;
    T sum;
    int64_t blocks = (n + reduce_block_length - 1) / reduce_block_length;
    if (blocks <= 1) {
        *bad = gather_losses(v, w, x, target, weight, ignored, classes, inner, 0, n);
        sum = reduce_sum(v, n), *total = reduce_sum(w, n);
    } else {
        T *results = static_cast<T *>(std::malloc(size_t(2 * blocks) * sizeof(T)));
        if (!results) return DK_NO_MEMORY;
        for (int64_t b = 0; b < blocks && *bad < 0; ++b) {
            int64_t begin = b * reduce_block_length, end = begin + reduce_block_length < n ? begin + reduce_block_length : n;
            *bad = gather_losses(v, w, x, target, weight, ignored, classes, inner, begin, end);
            results[b] = reduce_sum(v, end - begin), results[blocks + b] = reduce_sum(w, end - begin);
        }
        sum = reduce_sum(results, blocks), *total = reduce_sum(results + blocks, blocks);
        std::free(results);
    }
    *out = reduction == 1 ? sum / *total : sum;
    return *bad < 0 ? DK_OK : int32_t(DK_BAD_TARGET);
}

// +0 everywhere, as registers. Not memset: in the NEON tests (qemu-aarch64) it left the first 16 bytes of some pages as they were.
template <class T> void clear(T *x, int64_t n) {
    vec<T> zero = set(T(0));
    __asm__("" : "+m"(zero));  // unknown to the compiler, which would make it memset again
    int64_t i = 0;
    for (; i + lanes<T> <= n; i += lanes<T>) store(x + i, zero);
    if (i < n) store(x + i, zero, n - i);
}

template <class T>
int32_t nll_backward(int32_t reduction, T *dx, const T *grad, const T *total, const int64_t *target, const T *weight,
                     int64_t ignored, int64_t samples, int64_t classes, int64_t inner, int64_t *bad) {
    FloatingPoint control;
    clear(dx, samples * classes * inner);
    T g = reduction == 0 ? T(0) : reduction == 1 ? *grad / *total : *grad;
    *bad = -1;
    for (int64_t i = 0; i < samples * inner; ++i) {
        int64_t t = target[i];
        if (t == ignored) continue;
        if (t < 0 || t >= classes) return *bad = i, int32_t(DK_BAD_TARGET);
        T here = reduction == 0 ? grad[i] : g;
        dx[inner == 1 ? i * classes + t : (i / inner * classes + t) * inner + i % inner] = weight ? -(weight[t] * here) : -here;
    }
    return DK_OK;
}

template <class T> DK_INLINE vec<T> magnitude(vec<T> x) { return from_bits<T>(to_bits<T>(x) & ~to_bits<T>(set(T(-0.0)))); }

template <class T> struct Squared {
    static DK_INLINE vec<T> value(vec<T> x, vec<T> y, T) { return (x - y) * (x - y); }
    static DK_INLINE vec<T> slope(vec<T> x, vec<T> y, vec<T> g, T, T c) { return ((T(2) * c) * (x - y)) * g; }
};
template <class T> struct SmoothL1 {
    static DK_INLINE vec<T> value(vec<T> x, vec<T> y, T p) {
        vec<T> z = magnitude<T>(x - y);
        return select<T>(z < set(p), ((T(0.5) * z) * z) / set(p), z - T(0.5) * p);
    }
    static DK_INLINE vec<T> slope(vec<T> x, vec<T> y, vec<T> g, T p, T c) {
        vec<T> d = x - y, inside = (c * d) / set(p);
        return select<T>(d <= set(-p), set(-c), select<T>(d >= set(p), set(c), inside)) * g;
    }
};
template <class T> struct Huber {
    static DK_INLINE vec<T> value(vec<T> x, vec<T> y, T p) {
        vec<T> z = magnitude<T>(x - y);
        return select<T>(z <= set(p), (T(0.5) * z) * z, p * (z - T(0.5) * p));
    }
    static DK_INLINE vec<T> slope(vec<T> x, vec<T> y, vec<T> g, T p, T c) {
        vec<T> d = x - y;
        return select<T>(d < set(-p), set(-(c * p)), select<T>(d > set(p), set(c * p), c * d)) * g;
    }
};

template <class T, class L> int32_t pair_loss(int32_t reduction, T *out, const T *x, const T *y, int64_t n, T p) {
    if (reduction == 0) {
        parallel(n, piece, [=](int64_t first, int64_t last) {
            int64_t i = first;
            for (; i + lanes<T> <= last; i += lanes<T>) store(out + i, L::value(load(x + i), load(y + i), p));
            if (i < last) store(out + i, L::value(load(x + i, last - i), load(y + i, last - i), p), last - i);
        });
        return DK_OK;
    }
    auto term = [=](vec<T> acc, int64_t i, auto... count) {
        vec<T> a = load(x + i, count...), b = load(y + i, count...);
        if constexpr (std::is_same_v<L, Squared<T>>) return fma(a - b, a - b, acc);
        return acc + L::value(a, b, p);
    };
    int64_t blocks = (n + reduce_block_length - 1) / reduce_block_length;
    T sum;
    if (blocks <= 1) {
        sum = reduce_block<T>(0, n, term);
    } else {
        T *results = static_cast<T *>(std::malloc(size_t(blocks) * sizeof(T)));
        if (!results) return DK_NO_MEMORY;
        parallel(blocks, piece / reduce_block_length, [=](int64_t first, int64_t last) {
            for (int64_t b = first; b < last; ++b) {
                int64_t begin = b * reduce_block_length, end = begin + reduce_block_length;
                results[b] = reduce_block<T>(begin, end < n ? end : n, term);
            }
        });
        sum = reduce_sum(results, blocks);
        std::free(results);
    }
    *out = reduction == 1 ? sum / T(n) : sum;
    return DK_OK;
}

template <class T, class L>
int32_t pair_backward(int32_t reduction, T *dx, const T *grad, int64_t step, const T *x, const T *y, int64_t n, T p) {
    T c = reduction == 1 ? T(1) / T(n) : T(1);
    parallel(n, piece, [=](int64_t first, int64_t last) {
        vec<T> all = set(step ? T(0) : *grad);
        int64_t i = first;
        for (; i + lanes<T> <= last; i += lanes<T>) {
            vec<T> g = step ? load(grad + i) : all;
            store(dx + i, L::slope(load(x + i), load(y + i), g, p, c));
        }
        if (i < last) {
            int64_t count = last - i;
            vec<T> g = step ? load(grad + i, count) : all;
            store(dx + i, L::slope(load(x + i, count), load(y + i, count), g, p, c), count);
        }
    });
    return DK_OK;
}

template <class T> int32_t loss_of(int32_t kind, int32_t reduction, T *out, const T *x, const T *y, int64_t n, double p) {
    FloatingPoint control;
    switch (kind) {
        case 0: return pair_loss<T, Squared<T>>(reduction, out, x, y, n, T(p));
        case 1: return pair_loss<T, SmoothL1<T>>(reduction, out, x, y, n, T(p));
        case 2: return pair_loss<T, Huber<T>>(reduction, out, x, y, n, T(p));
    }
    return DK_BAD_ARGUMENT;
}

template <class T>
int32_t slope_of(int32_t kind, int32_t reduction, T *dx, const T *grad, int64_t step, const T *x, const T *y, int64_t n, double p) {
    FloatingPoint control;
    switch (kind) {
        case 0: return pair_backward<T, Squared<T>>(reduction, dx, grad, step, x, y, n, T(p));
        case 1: return pair_backward<T, SmoothL1<T>>(reduction, dx, grad, step, x, y, n, T(p));
        case 2: return pair_backward<T, Huber<T>>(reduction, dx, grad, step, x, y, n, T(p));
    }
    return DK_BAD_ARGUMENT;
}

}  // namespace
}  // namespace dk

extern "C" {

int32_t dk_nll_f32(int32_t reduction, float *out, float *total, const float *x, const int64_t *target, const float *weight,
                   int64_t ignored, int64_t samples, int64_t classes, int64_t inner, int64_t *bad) {
    return dk::nll(reduction, out, total, x, target, weight, ignored, samples, classes, inner, bad);
}
int32_t dk_nll_f64(int32_t reduction, double *out, double *total, const double *x, const int64_t *target, const double *weight,
                   int64_t ignored, int64_t samples, int64_t classes, int64_t inner, int64_t *bad) {
    return dk::nll(reduction, out, total, x, target, weight, ignored, samples, classes, inner, bad);
}
int32_t dk_nll_backward_f32(int32_t reduction, float *dx, const float *grad, const float *total, const int64_t *target,
                            const float *weight, int64_t ignored, int64_t samples, int64_t classes, int64_t inner, int64_t *bad) {
    return dk::nll_backward(reduction, dx, grad, total, target, weight, ignored, samples, classes, inner, bad);
}
int32_t dk_nll_backward_f64(int32_t reduction, double *dx, const double *grad, const double *total, const int64_t *target,
                            const double *weight, int64_t ignored, int64_t samples, int64_t classes, int64_t inner, int64_t *bad) {
    return dk::nll_backward(reduction, dx, grad, total, target, weight, ignored, samples, classes, inner, bad);
}
int32_t dk_pair_loss_f32(int32_t kind, int32_t reduction, float *out, const float *x, const float *y, int64_t n, double p) {
    return dk::loss_of(kind, reduction, out, x, y, n, p);
}
int32_t dk_pair_loss_f64(int32_t kind, int32_t reduction, double *out, const double *x, const double *y, int64_t n, double p) {
    return dk::loss_of(kind, reduction, out, x, y, n, p);
}
int32_t dk_pair_loss_backward_f32(int32_t kind, int32_t reduction, float *dx, const float *grad, int64_t step, const float *x,
                                  const float *y, int64_t n, double p) {
    return dk::slope_of(kind, reduction, dx, grad, step, x, y, n, p);
}
int32_t dk_pair_loss_backward_f64(int32_t kind, int32_t reduction, double *dx, const double *grad, int64_t step, const double *x,
                                  const double *y, int64_t n, double p) {
    return dk::slope_of(kind, reduction, dx, grad, step, x, y, n, p);
}
}
