// Running sums and products: chains inside chunks of 256, several chunks or columns at a time, then the carries.
#include "diva_kernels.h"
#include "pool.h"
#include "vec.h"

namespace dk {
namespace {

constexpr int64_t chunk = 256;

template <class T> struct Add {
    static constexpr T start = 0;
    template <class V> static DK_INLINE V join(V a, V b) { return a + b; }
};
template <class T> struct Multiply {
    static constexpr T start = 1;
    template <class V> static DK_INLINE V join(V a, V b) { return a * b; }
};

// One row of memory: the chains of four chunks side by side.
template <class T, class Op> void run_row(T *y, const T *x, int64_t n) {
    T carry = Op::start;
    int64_t i = 0;
    for (; i + 3 * chunk < n; i += 4 * chunk) {
        const T *in = x + i;
        T part[4 * chunk], p = Op::start, q = p, r = p, s = p;
        int64_t short_one = n - i - 3 * chunk < chunk ? n - i - 3 * chunk : chunk;
        for (int64_t k = 0; k < short_one; ++k) {
            part[k] = p = Op::join(p, in[k]);
            part[k + chunk] = q = Op::join(q, in[k + chunk]);
            part[k + 2 * chunk] = r = Op::join(r, in[k + 2 * chunk]);
            part[k + 3 * chunk] = s = Op::join(s, in[k + 3 * chunk]);
        }
        for (int64_t k = short_one; k < chunk; ++k) {
            part[k] = p = Op::join(p, in[k]);
            part[k + chunk] = q = Op::join(q, in[k + chunk]);
            part[k + 2 * chunk] = r = Op::join(r, in[k + 2 * chunk]);
        }
        for (int64_t c = 0; c < 4; ++c) {
            int64_t length = c == 3 ? short_one : chunk;
            for (int64_t k = 0; k < length; ++k) y[i + c * chunk + k] = Op::join(carry, part[c * chunk + k]);
            carry = Op::join(carry, part[c * chunk + length - 1]);
        }
    }
    for (; i < n; i += chunk) {
        T p = Op::start;
        for (int64_t k = i; k < n && k < i + chunk; ++k) {
            p = Op::join(p, x[k]);
            y[k] = Op::join(carry, p);
        }
        carry = Op::join(carry, p);
    }
}

// `inner` columns side by side; x and y are (n, inner); the columns c .. c + count - 1, count <= lanes.
template <class T, class Op> void run_columns(T *y, const T *x, int64_t n, int64_t inner, int64_t count) {
    vec<T> carry = set(Op::start);
    for (int64_t i = 0; i < n; i += chunk) {
        vec<T> p = set(Op::start);
        for (int64_t k = i; k < n && k < i + chunk; ++k) {
            p = Op::join(p, load(x + k * inner, count));
            store(y + k * inner, Op::join(carry, p), count);
        }
        carry = Op::join(carry, p);
    }
}

template <class T, class Op> int32_t cumulate(T *out, const T *x, int64_t outer, int64_t n, int64_t inner) {
    FloatingPoint control;
    if (inner == 1) {
        parallel(outer, 1 + 16384 / (n + 1), [&](int64_t first, int64_t last) {
            for (int64_t o = first; o < last; ++o) run_row<T, Op>(out + o * n, x + o * n, n);
        });
        return DK_OK;
    }
    int64_t tiles = (inner + lanes<T> - 1) / lanes<T>;
    parallel(outer * tiles, 1 + 16384 / (n * lanes<T> + 1), [&](int64_t first, int64_t last) {
        for (int64_t item = first; item < last; ++item) {
            int64_t c = item % tiles * lanes<T>, at = item / tiles * n * inner + c;
            run_columns<T, Op>(out + at, x + at, n, inner, inner - c < lanes<T> ? inner - c : lanes<T>);
        }
    });
    return DK_OK;
}

}  // namespace
}  // namespace dk

extern "C" {

int32_t dk_cumulate_f32(int32_t product, float *out, const float *x, int64_t outer, int64_t n, int64_t inner) {
    return product ? dk::cumulate<float, dk::Multiply<float>>(out, x, outer, n, inner)
                   : dk::cumulate<float, dk::Add<float>>(out, x, outer, n, inner);
}
int32_t dk_cumulate_f64(int32_t product, double *out, const double *x, int64_t outer, int64_t n, int64_t inner) {
    return product ? dk::cumulate<double, dk::Multiply<double>>(out, x, outer, n, inner)
                   : dk::cumulate<double, dk::Add<double>>(out, x, outer, n, inner);
}
}
