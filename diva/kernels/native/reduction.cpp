// Sums over any dimensions of any layout: finds rows or columns in it and reduces them by reduce.h.
#include <cstdlib>

#include "diva_kernels.h"
#include "reduce.h"
#include "reduction_layout.h"
#include "reduction_terms.h"

namespace dk {
namespace {

using namespace terms;

constexpr int64_t piece = 32768;  // elements worth a thread's while

// Terms begin .. end - 1 of one output, at most a block, which may lie in pieces of memory.
template <class T, class K> T block_of_row(const Layout &layout, const T *x, T center, int64_t begin, int64_t end) {
    vec<T> m = set(center);
    if (layout.reduced == 1 && layout.strides[0] == 1) {
        return reduce_block<T>(begin, end, [=](vec<T> acc, int64_t i, auto... count) {
            return K::step(acc, load(x + i, count...), m);
        });
    }
    int64_t inner = layout.sizes[layout.reduced - 1];
    if (layout.strides[layout.reduced - 1] == 1 && inner % reduce_lanes == 0) {
        lanes64<T> lanes{};
        for (int64_t i = begin; i < end;) {
            int64_t at = i % inner, stop = end - i < inner - at ? at + end - i : inner;
            const T *run = x + layout.reduced_offset(i - at);
            lanes.advance([=](vec<T> acc, int64_t k, auto... count) { return K::step(acc, load(run + k, count...), m); }, at, stop);
            i += stop - at;
        }
        return lanes.fold();
    }
    alignas(64) T buffer[reduce_block_length];
    layout.gather(x, begin, end, buffer);
    return reduce_block<T>(0, end - begin, [&](vec<T> acc, int64_t i, auto... count) {
        return K::step(acc, load(buffer + i, count...), m);
    });
}

template <class T, class K> DK_INLINE T dense_row(const T *x, T center, int64_t n) {
    vec<T> m = set(center);
    return reduce_block<T>(0, n, [=](vec<T> acc, int64_t i, auto... count) { return K::step(acc, load(x + i, count...), m); });
}
// A register of rows, `stride` apart.
template <class T, class K> DK_INLINE vec<T> dense_rows(const T *x, int64_t stride, const T *center, int64_t n) {
    return reduce_rows<T>(n, [=](int r) {
        const T *row = x + r * stride;
        vec<T> m = set(center ? center[r] : T(0));
        return [=](vec<T> acc, int64_t i, auto... count) { return K::step(acc, load(row + i, count...), m); };
    });
}

template <class T, class K> int32_t rows(const Layout &layout, T *out, const T *x, const T *center) {
    int64_t n = layout.n, outputs = layout.outputs;
    if (n <= reduce_block_length && layout.reduced == 1 && layout.strides[0] == 1 && layout.kept == 1) {
        int64_t stride = layout.strides[1], groups = (outputs + lanes<T> - 1) / lanes<T>;
        parallel(groups, 1 + piece / (lanes<T> * (n + 1)), [=](int64_t first, int64_t last) {
            for (int64_t group = first; group < last; ++group) {
                int64_t o = group * lanes<T>, count = outputs - o < lanes<T> ? outputs - o : lanes<T>;
                if (count == lanes<T>)
                    store(out + o, dense_rows<T, K>(x + o * stride, stride, center ? center + o : nullptr, n));
                else
                    for (int64_t k = o; k < o + count; ++k) out[k] = dense_row<T, K>(x + k * stride, center ? center[k] : T(0), n);
            }
        });
        return DK_OK;
    }
    if (n <= reduce_block_length) {
        parallel(outputs, 1 + piece / (n + 1), [&](int64_t first, int64_t last) {
            for (int64_t o = first; o < last; ++o)
                out[o] = block_of_row<T, K>(layout, x + layout.kept_offset(o), center ? center[o] : T(0), 0, n);
        });
        return DK_OK;
    }
    int64_t blocks = (n + reduce_block_length - 1) / reduce_block_length;
    T *results = static_cast<T *>(std::malloc(size_t(outputs * blocks) * sizeof(T)));
    if (!results) return DK_NO_MEMORY;
    parallel(outputs * blocks, piece / reduce_block_length, [&](int64_t first, int64_t last) {
        for (int64_t item = first; item < last; ++item) {
            int64_t o = item / blocks, begin = item % blocks * reduce_block_length;
            int64_t end = begin + reduce_block_length < n ? begin + reduce_block_length : n;
            results[item] = block_of_row<T, K>(layout, x + layout.kept_offset(o), center ? center[o] : T(0), begin, end);
        }
    });
    for (int64_t o = 0; o < outputs; ++o) out[o] = reduce_sum(results + o * blocks, blocks);
    std::free(results);
    return DK_OK;
}

template <class T, class K> struct Column {
    const T *x, *center;
    int64_t stride;
    template <class... Count> DK_INLINE vec<T> operator()(vec<T> acc, int64_t r, int64_t c, Count... count) const {
        return K::step(acc, load(x + r * stride + c, count...), center ? load(center + c, count...) : vec<T>{});
    }
};
template <class T, class K> struct ScatteredColumn {
    const T *x, *center;
    const int64_t *offsets;
    template <class... Count> DK_INLINE vec<T> operator()(vec<T> acc, int64_t r, int64_t c, Count... count) const {
        return K::step(acc, load(x + offsets[r] + c, count...), center ? load(center + c, count...) : vec<T>{});
    }
};

// The kept dimension of stride 1 is the columns; every index of the other kept ones is a matrix of its own.
template <class T, class K> int32_t columns(const Layout &layout, T *out, const T *x, const T *center) {
    int64_t width = layout.column_width(), matrices = layout.outputs / width, step = layout.column_step();
    int64_t *offsets = nullptr;
    if (layout.reduced > 1) {
        offsets = static_cast<int64_t *>(std::malloc(size_t(layout.n) * sizeof(int64_t)));
        if (!offsets) return DK_NO_MEMORY;
        layout.list_offsets(offsets);
    }
    T *beside = nullptr;  // where the columns are not dense in the output: their results, then their centers
    if (step != 1) {
        beside = static_cast<T *>(std::malloc(size_t(2 * layout.outputs) * sizeof(T)));
        if (!beside) return std::free(offsets), DK_NO_MEMORY;
    }
    bool done = true;
    auto one = [&](int64_t matrix) {
        int64_t place;
        const T *here = x + layout.matrix_offset(matrix, &place);
        T *result = beside ? beside + matrix * width : out + place;
        const T *middle = center ? center + place : nullptr;
        if (beside && center) {
            T *gathered = beside + layout.outputs + matrix * width;
            for (int64_t c = 0; c < width; ++c) gathered[c] = center[place + c * step];
            middle = gathered;
        }
        bool ok = offsets ? reduce_columns(layout.n, width, ScatteredColumn<T, K>{here, middle, offsets}, result)
                          : reduce_columns(layout.n, width, Column<T, K>{here, middle, layout.strides[0]}, result);
        if (!ok) done = false;
        if (beside)
            for (int64_t c = 0; c < width; ++c) out[place + c * step] = result[c];
    };
    int64_t size = layout.n * width;
    if (matrices < 2 * thread_count() && size > piece) {
        for (int64_t matrix = 0; matrix < matrices; ++matrix) one(matrix);  // each in parallel
    } else {
        parallel(matrices, 1 + piece / (size + 1), [&](int64_t first, int64_t last) {
            for (int64_t matrix = first; matrix < last; ++matrix) one(matrix);
        });
    }
    std::free(offsets), std::free(beside);
    return done ? DK_OK : DK_NO_MEMORY;
}

template <class T, class K> int32_t reduce(const Layout &layout, T *out, const T *x, const T *center) {
    return layout.has_columns() ? columns<T, K>(layout, out, x, center) : rows<T, K>(layout, out, x, center);
}

template <class T> int32_t products(const Layout &layout, T *out, const T *x) {
    constexpr int64_t chunk = 256;
    parallel(layout.outputs, 1 + piece / (layout.n + 1), [&](int64_t first, int64_t last) {
        for (int64_t o = first; o < last; ++o) {
            const T *here = x + layout.kept_offset(o);
            T buffer[chunk], total = 1;
            for (int64_t begin = 0; begin < layout.n; begin += chunk) {
                int64_t end = begin + chunk < layout.n ? begin + chunk : layout.n;
                layout.gather(here, begin, end, buffer);
                T p = 1;
                for (int64_t i = 0; i < end - begin; ++i) p = p * buffer[i];
                total = total * p;
            }
            out[o] = total;
        }
    });
    return DK_OK;
}

template <class T> int32_t reduce_kind(int32_t kind, const Layout &layout, T *out, const T *x, const T *center) {
    FloatingPoint control;
    int32_t status = DK_BAD_ARGUMENT;
    switch (kind) {
        case 0:
        case 1: status = reduce<T, Sum<T>>(layout, out, x, nullptr); break;
        case 2:
        case 3: status = reduce<T, Squares<T>>(layout, out, x, nullptr); break;
        case 4: status = reduce<T, Magnitudes<T>>(layout, out, x, nullptr); break;
        case 5: status = reduce<T, Numbers<T>>(layout, out, x, nullptr); break;
        case 6: status = center ? reduce<T, Deviations<T>>(layout, out, x, center) : DK_BAD_ARGUMENT; break;
        case 7: status = reduce<T, Nonzeros<T>>(layout, out, x, nullptr); break;
        case 8: status = products(layout, out, x); break;
    }
    if (kind == 1)
        for (int64_t o = 0; o < layout.outputs; ++o) out[o] = out[o] / T(layout.n);
    if (kind == 3)
        for (int64_t o = 0; o < layout.outputs; ++o) out[o] = sqrt(out[o]);
    return status;
}

template <class T>
int32_t reduce_dense(int32_t kind, T *out, const T *x, const T *center, int64_t outer, int64_t n, int64_t inner) {
    int64_t sizes[3] = {n, outer, inner}, strides[3] = {inner, n * inner, 1};
    return reduce_kind(kind, Layout(1, 2, sizes, strides), out, x, center);
}

template <class T>
int32_t variance(bool root, T *var, T *mean, const T *x, double divisor, const Layout &layout) {
    FloatingPoint control;
    int32_t status = reduce_kind<T>(1, layout, mean, x, nullptr);
    if (status == DK_OK) status = reduce_kind<T>(6, layout, var, x, mean);
    for (int64_t o = 0; o < layout.outputs; ++o) {
        T v = var[o] / T(divisor);
        var[o] = root ? sqrt(v) : v;
    }
    return status;
}

}  // namespace
}  // namespace dk

extern "C" {

int32_t dk_variance_f32(int32_t root, float *var, float *mean, const float *x, double divisor, int64_t reduced, int64_t kept,
                        const int64_t *sizes, const int64_t *strides) {
    if (reduced < 0 || kept < 0 || reduced + kept > dk::Layout::most) return DK_BAD_ARGUMENT;
    return dk::variance(root != 0, var, mean, x, divisor, dk::Layout(reduced, kept, sizes, strides));
}
int32_t dk_variance_f64(int32_t root, double *var, double *mean, const double *x, double divisor, int64_t reduced, int64_t kept,
                        const int64_t *sizes, const int64_t *strides) {
    if (reduced < 0 || kept < 0 || reduced + kept > dk::Layout::most) return DK_BAD_ARGUMENT;
    return dk::variance(root != 0, var, mean, x, divisor, dk::Layout(reduced, kept, sizes, strides));
}

int32_t dk_reduce_f32(int32_t kind, float *out, const float *x, const float *center, int64_t outer, int64_t n, int64_t inner) {
    return dk::reduce_dense(kind, out, x, center, outer, n, inner);
}
int32_t dk_reduce_f64(int32_t kind, double *out, const double *x, const double *center, int64_t outer, int64_t n, int64_t inner) {
    return dk::reduce_dense(kind, out, x, center, outer, n, inner);
}
int32_t dk_reduce_strided_f32(int32_t kind, float *out, const float *x, const float *center, int64_t reduced, int64_t kept,
                              const int64_t *sizes, const int64_t *strides) {
    if (reduced < 0 || kept < 0 || reduced + kept > dk::Layout::most) return DK_BAD_ARGUMENT;
    return dk::reduce_kind(kind, dk::Layout(reduced, kept, sizes, strides), out, x, center);
}
int32_t dk_reduce_strided_f64(int32_t kind, double *out, const double *x, const double *center, int64_t reduced, int64_t kept,
                              const int64_t *sizes, const int64_t *strides) {
    if (reduced < 0 || kept < 0 || reduced + kept > dk::Layout::most) return DK_BAD_ARGUMENT;
    return dk::reduce_kind(kind, dk::Layout(reduced, kept, sizes, strides), out, x, center);
}
}
