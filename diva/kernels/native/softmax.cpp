// Softmax: rows while they are in the cache; where the dimension is not the last, a register of neighbours at a time.
#include "diva_kernels.h"
#include "functions.h"
#include "functions_rounded.h"
#include "reduce.h"

namespace dk {
namespace {

constexpr int64_t piece = 16384;  // elements worth a thread's while

DK_INLINE vec<float> logarithm(vec<float> x) {
    halves h = widen_halves(x);
    return finish_log<float>(x, narrow_halves({rounded_log(h.low), rounded_log(h.high)}));
}
DK_INLINE vec<double> logarithm(vec<double> x) { return fixed_log(x); }

template <class T, int... I> DK_INLINE vec<T> rotated(vec<T> v, int w, std::integer_sequence<int, I...>) {
    return w == 8   ? __builtin_shufflevector(v, v, ((I + 8) % lanes<T>)...)
           : w == 4 ? __builtin_shufflevector(v, v, ((I + 4) % lanes<T>)...)
           : w == 2 ? __builtin_shufflevector(v, v, ((I + 2) % lanes<T>)...)
                    : __builtin_shufflevector(v, v, ((I + 1) % lanes<T>)...);
}

// The largest of a row; any number where there is a NaN, since that makes the whole row NaN later.
template <class T> DK_INLINE T row_maximum(const T *x, int64_t n) {
    constexpr int64_t L = lanes<T>;
    constexpr T lowest = T(-__builtin_inf());
    alignas(64) static constexpr bits_t<T> index[16] = {0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15};
    vec<T> a = set(lowest), b = a, c = a, d = a;
    int64_t i = 0;
    for (; i + 4 * L <= n; i += 4 * L) {
        a = greater_of(a, load(x + i));
        b = greater_of(b, load(x + i + L));
        c = greater_of(c, load(x + i + 2 * L));
        d = greater_of(d, load(x + i + 3 * L));
    }
    for (; i + L <= n; i += L) a = greater_of(a, load(x + i));
    if (i < n) b = greater_of(b, select<T>(load(index) < set(bits_t<T>(n - i)), load(x + i, n - i), set(lowest)));
    a = greater_of(greater_of(a, b), greater_of(c, d));
    constexpr auto all = std::make_integer_sequence<int, lanes<T>>{};
#pragma GCC unroll 4
    for (int w = lanes<T> / 2; w; w /= 2) a = greater_of(a, rotated<T>(a, w, all));
    return a[0];
}

// f(x + i, y + i) for each register of a row: y = f(x)
template <class T, class F> DK_INLINE void map_row(T *y, const T *x, int64_t n, const F &f) {
    int64_t i = 0;
    for (; i + lanes<T> <= n; i += lanes<T>) store(y + i, f(load(x + i), i));
    if (i < n) store(y + i, f(load(x + i, n - i), i, n - i), n - i);
}

// e = EXP(x - m), kept in y (log-softmax keeps x - m); returns REDUCE(e).
template <class T, bool log> DK_INLINE T exponentials(T *y, const T *x, int64_t n) {
    vec<T> m = set(row_maximum(x, n));
    return reduce_row<T>(n, [=](vec<T> acc, int64_t i, auto... count) {
        vec<T> t = load(x + i, count...) - m, e = fixed_exp(t);
        store(y + i, log ? t : e, count...);
        return acc + e;
    });
}

template <class T, bool log> void rows(T *out, const T *x, int64_t first, int64_t last, int64_t n) {
    if constexpr (!log) {
        for (int64_t o = first; o < last; ++o) {
            T *y = out + o * n;
            vec<T> s = set(exponentials<T, false>(y, x + o * n, n));
            map_row(y, y, n, [=](vec<T> e, int64_t, auto...) { return e / s; });
        }
    } else {  // the logarithms of several rows at once
        int64_t together = n < 256 ? lanes<T> : 1;
        for (int64_t o = first; o < last; o += together) {
            int64_t count = last - o < together ? last - o : together;
            alignas(64) T s[lanes<T>];
            for (int64_t k = 0; k < count; ++k) s[k] = exponentials<T, true>(out + (o + k) * n, x + (o + k) * n, n);
            vec<T> r = logarithm(load(s, count));
            store(s, r);
            for (int64_t k = 0; k < count; ++k) {
                T *y = out + (o + k) * n;
                vec<T> l = set(s[k]);
                map_row(y, y, n, [=](vec<T> t, int64_t, auto...) { return t - l; });
            }
        }
    }
}

// REDUCE of V registers of columns from c on, or of `count` columns.
template <class T, int V, class Step, class... Count>
DK_INLINE void column_sums(int64_t n, int64_t c, const Step &step, T *sums, Count... count) {
    if constexpr (sizeof...(Count) == 0) {
        if (n <= reduce_block_length) return column_block<T, V>(0, n, c, step).store_to(sums);
        reduce_columns_here(n, c, c + V * lanes<T>, step, sums);
    } else {
        reduce_columns_here(n, c, c + (count, ...), step, sums);
    }
}

// V registers of columns from c on, of n rows `inner` apart.
template <class T, int V, bool log, class... Count>
DK_INLINE void columns(T *out, const T *x, int64_t n, int64_t inner, int64_t c, Count... count) {
    constexpr int64_t L = lanes<T>;
    vec<T> m[V];
    for (int v = 0; v < V; ++v) m[v] = set(T(-__builtin_inf()));
    for (int64_t r = 0; r < n; ++r) {
#pragma GCC unroll 4
        for (int v = 0; v < V; ++v) m[v] = greater_of(m[v], load(x + r * inner + c + v * L, count...));
    }
    for (int64_t r = 0; r < n; ++r) {
#pragma GCC unroll 4
        for (int v = 0; v < V; ++v) {
            int64_t at = r * inner + c + v * L;
            vec<T> t = load(x + at, count...) - m[v];
            store(out + at, log ? t : fixed_exp(t), count...);
        }
    }
    alignas(64) T sums[V * L] = {};
    auto term = [=](vec<T> acc, int64_t r, int64_t column, auto... some) {
        vec<T> e = load(out + r * inner + column, some...);
        return acc + (log ? fixed_exp(e) : e);
    };
    column_sums<T, V>(n, c, term, sums, count...);
    for (int v = 0; v < V; ++v) m[v] = log ? logarithm(load(sums + v * L)) : load(sums + v * L);
    for (int64_t r = 0; r < n; ++r) {
#pragma GCC unroll 4
        for (int v = 0; v < V; ++v) {
            int64_t at = r * inner + c + v * L;
            vec<T> e = load(out + at, count...);
            store(out + at, log ? e - m[v] : e / m[v], count...);
        }
    }
}

template <class T, bool log> int32_t forward(T *out, const T *x, int64_t outer, int64_t n, int64_t inner) {
    FloatingPoint control;
    if (inner == 1) {
        parallel(outer, 1 + piece / (n + 1), [=](int64_t first, int64_t last) { rows<T, log>(out, x, first, last, n); });
        return DK_OK;
    }
    constexpr int64_t L = lanes<T>, V = 2;
    int64_t tiles = (inner + V * L - 1) / (V * L);
    parallel(outer * tiles, 1 + piece / (V * L * (n + 1)), [=](int64_t first, int64_t last) {
        for (int64_t item = first; item < last; ++item) {
            int64_t base = item / tiles * n * inner, c = item % tiles * V * L, end = c + V * L < inner ? c + V * L : inner;
            if (end - c == V * L) {
                columns<T, V, log>(out + base, x + base, n, inner, c);
                continue;
            }
            for (; c + L <= end; c += L) columns<T, 1, log>(out + base, x + base, n, inner, c);
            if (c < end) columns<T, 1, log>(out + base, x + base, n, inner, c, end - c);
        }
    });
    return DK_OK;
}

template <class T, bool log> DK_INLINE vec<T> derivative(vec<T> g, vec<T> y, vec<T> t) {
    return log ? g - fixed_exp(y) * t : y * (g - t);
}
template <class T, bool log> struct Terms {
    const T *g, *y;
    int64_t inner;
    template <class... Count> DK_INLINE vec<T> operator()(vec<T> acc, int64_t i, Count... count) const {
        return log ? acc + load(g + i, count...) : fma(load(g + i, count...), load(y + i, count...), acc);
    }
};

// V registers of columns from c on, of n rows `inner` apart.
template <class T, int V, bool log, class... Count>
DK_INLINE void columns_backward(T *dx, const T *g, const T *y, int64_t n, int64_t inner, int64_t c, Count... count) {
    constexpr int64_t L = lanes<T>;
    alignas(64) T sums[V * L] = {};
    auto term = [=](vec<T> acc, int64_t r, int64_t column, auto... some) {
        return Terms<T, log>{g, y, inner}(acc, r * inner + column, some...);
    };
    column_sums<T, V>(n, c, term, sums, count...);
    for (int64_t r = 0; r < n; ++r) {
#pragma GCC unroll 4
        for (int v = 0; v < V; ++v) {
            int64_t at = r * inner + c + v * L;
            vec<T> d = derivative<T, log>(load(g + at, count...), load(y + at, count...), load(sums + v * L));
            store(dx + at, d, count...);
        }
    }
}

template <class T, bool log> int32_t backward(T *dx, const T *g, const T *y, int64_t outer, int64_t n, int64_t inner) {
    FloatingPoint control;
    if (inner == 1) {
        parallel(outer, 1 + piece / (n + 1), [=](int64_t first, int64_t last) {
            for (int64_t o = first; o < last; ++o) {
                const T *here = g + o * n, *result = y + o * n;
                vec<T> t = set(reduce_row<T>(n, Terms<T, log>{here, result, 1}));
                map_row(dx + o * n, here, n, [=](vec<T> v, int64_t i, auto... count) {
                    return derivative<T, log>(v, load(result + i, count...), t);
                });
            }
        });
        return DK_OK;
    }
    constexpr int64_t L = lanes<T>, V = 2;
    int64_t tiles = (inner + V * L - 1) / (V * L);
    parallel(outer * tiles, 1 + piece / (V * L * (n + 1)), [=](int64_t first, int64_t last) {
        for (int64_t item = first; item < last; ++item) {
            int64_t base = item / tiles * n * inner, c = item % tiles * V * L, end = c + V * L < inner ? c + V * L : inner;
            if (end - c == V * L) {
                columns_backward<T, V, log>(dx + base, g + base, y + base, n, inner, c);
                continue;
            }
            for (; c + L <= end; c += L) columns_backward<T, 1, log>(dx + base, g + base, y + base, n, inner, c);
            if (c < end) columns_backward<T, 1, log>(dx + base, g + base, y + base, n, inner, c, end - c);
        }
    });
    return DK_OK;
}

}  // namespace
}  // namespace dk

extern "C" {

int32_t dk_softmax_f32(float *out, const float *x, int64_t outer, int64_t n, int64_t inner) {
    return dk::forward<float, false>(out, x, outer, n, inner);
}
int32_t dk_softmax_f64(double *out, const double *x, int64_t outer, int64_t n, int64_t inner) {
    return dk::forward<double, false>(out, x, outer, n, inner);
}
int32_t dk_log_softmax_f32(float *out, const float *x, int64_t outer, int64_t n, int64_t inner) {
    return dk::forward<float, true>(out, x, outer, n, inner);
}
int32_t dk_log_softmax_f64(double *out, const double *x, int64_t outer, int64_t n, int64_t inner) {
    return dk::forward<double, true>(out, x, outer, n, inner);
}
int32_t dk_softmax_backward_f32(float *dx, const float *g, const float *y, int64_t outer, int64_t n, int64_t inner) {
    return dk::backward<float, false>(dx, g, y, outer, n, inner);
}
int32_t dk_softmax_backward_f64(double *dx, const double *g, const double *y, int64_t outer, int64_t n, int64_t inner) {
    return dk::backward<double, false>(dx, g, y, outer, n, inner);
}
int32_t dk_log_softmax_backward_f32(float *dx, const float *g, const float *y, int64_t outer, int64_t n, int64_t inner) {
    return dk::backward<float, true>(dx, g, y, outer, n, inner);
}
int32_t dk_log_softmax_backward_f64(double *dx, const double *g, const double *y, int64_t outer, int64_t n, int64_t inner) {
    return dk::backward<double, true>(dx, g, y, outer, n, inner);
}
}
