// Interpolation, its gradient and that of padding (native/resampling.h). A first launch makes tables of the axes: where
// outputs read, with which weights, and which outputs read an input; then a thread computes each number that is
// written. An axis that is doubled needs no table.
#include "device.h"

#include "divisor.h"
#include "resampling_positions.h"

namespace dk {

constexpr int resample_threads = 256;
constexpr int dot_chunk = 256;

// Outputs begin .. end - 1 read an input.
struct AxisReaders {
    int32_t begin, end;
};

// Output o reads from first[o] on (tap_source) with weights weight[k * out + o], input i is read by readers[i].
// doubled: of the same numbers as the formulas give, since (2 o - 1) / 4 and o / 2 are exact.
template <class T> struct AxisTable {
    AxisShape shape;
    int32_t in, out;
    bool copied, doubled;
    int32_t *first;
    T *weight;
    AxisReaders *readers;

    template <int taps> DK_INLINE int32_t first_of(int32_t o) const {
        if (!doubled) return first[o];
        return taps == 1 ? o >> 1 : o > 0 ? (o - 1) >> 1 : 0;
    }
    template <int taps> DK_INLINE T weight_of(int32_t o, int k) const {
        if (!doubled) return weight[k * int64_t(out) + o];
        const T t = o == 0 ? T(0) : o % 2 ? T(0.25) : T(0.75);
        return k ? t : T(1) - t;
    }
    template <int taps> DK_INLINE AxisReaders readers_of(int32_t i) const {
        if (!doubled) return readers[i];
        if (taps == 1) return {2 * i, 2 * i + 2};
        return {i > 1 ? 2 * i - 1 : 0, 2 * i + 3 < out ? 2 * i + 3 : out};  // output 0 reads input 1, with weight 0
    }
};
template <class T> struct AxisTables {
    AxisTable<T> axis[3];  // depth, height, width; a missing axis is a copied one of size 1
};

// The first output whose tap k reads input `i` or one after it.
template <int taps> DK_INLINE int32_t first_reader(const AxisShape &a, int k, int64_t i) {
    int64_t low = 0, high = a.out;
    while (low < high) {
        const int64_t middle = (low + high) / 2;
        if (tap_source<taps>(first_source(a, middle), k, a.in) < i)
            low = middle + 1;
        else
            high = middle;
    }
    return int32_t(low);
}

template <class T, int taps> __global__ void __launch_bounds__(resample_threads) fill_tables(AxisTables<T> tables) {
    const AxisTable<T> &a = tables.axis[blockIdx.y];
    const int64_t i = int64_t(blockIdx.x) * resample_threads + threadIdx.x;
    if (a.copied || a.doubled) return;
    if (a.first && i < a.out) {
        if constexpr (taps == 1) {
            a.first[i] = int32_t(nearest_source(a.shape, i));
        } else {
            T t;
            a.first[i] = int32_t(source(a.shape, i, t));
            const T back = T(1) - t;
            T *w = a.weight + i;
            if constexpr (taps == 2) w[0] = back, w[a.out] = t;
            if constexpr (taps == 4) {
                w[0] = cubic_far(t + T(1)), w[a.out] = cubic_near(t);
                w[2 * int64_t(a.out)] = cubic_near(back), w[3 * int64_t(a.out)] = cubic_far(back + T(1));
            }
        }
    }
    // Sources ascend with the output and with the tap: an input's readers are neighbours.
    if (a.readers && i < a.in)
        a.readers[i] = {first_reader<taps>(a.shape, taps - 1, i), first_reader<taps>(a.shape, 0, i + 1)};
}

// Tensors (outer, d, h, w, inner); what is written is cut up by the divisors.
template <class T, class I> struct Resampling {
    AxisTables<T> tables;
    I inner, total;
    Divisor<I> by_inner, by_w, by_h, by_d;
};

// ---- Forward: along the width y = x_0 w_0, then fma(x_k, w_k, y); along the height of such sums, then along the depth.

// f(input, ..) over the taps of output o of one axis.
template <int taps, class T, class F> DK_INLINE T along(const AxisTable<T> &a, int32_t o, const F &f) {
    const int32_t first = a.copied ? o : a.template first_of<taps>(o);
    if constexpr (taps == 1) return f(first);
    T sum = 0;
    DK_UNROLL for (int k = 0; k < taps; ++k) {
        const T v = f(a.copied ? o : int32_t(tap_source<taps>(first, k, a.in)));
        if (a.copied) return v;
        const T w = a.template weight_of<taps>(o, k);
        sum = k == 0 ? v * w : fma(v, w, sum);
    }
    return sum;
}

// deep: the depth is resampled too.
template <class T, class I, int taps, bool deep>
__global__ void __launch_bounds__(resample_threads) resample(T *y, const T *x, Resampling<T, I> r) {
    I i = I(blockIdx.x) * resample_threads + I(threadIdx.x);
    if (i >= r.total) return;
    T *to = y + i;
    const AxisTable<T> &d = r.tables.axis[0], &h = r.tables.axis[1], &w = r.tables.axis[2];
    const I c = r.by_inner.split(i), ow = r.by_w.split(i), oh = r.by_h.split(i), od = r.by_d.split(i);
    auto plane = [&](int32_t iz) {
        return along<taps>(h, int32_t(oh), [&](int32_t iy) {
            const T *row = x + ((i * d.in + iz) * h.in + iy) * w.in * r.inner + c;
            return along<taps>(w, int32_t(ow), [&](int32_t ix) { return row[ix * r.inner]; });
        });
    };
    if constexpr (deep)
        *to = along<taps>(d, int32_t(od), plane);
    else
        *to = plane(int32_t(od));
}

// ---- Backward: DOT over the outputs that read an input, along the depth, of such sums along the height, of those along
// the width. A copied axis has one reader and no sum.

template <class T> struct ReaderSum {
    T acc = 0, total = 0;
    int n = 0;
    DK_INLINE void close() {
        if (++n == dot_chunk) total = total + acc, acc = 0, n = 0;
    }
    DK_INLINE T sum() const { return total + acc; }  // of no terms: +0
};

// Padding reads input o - left for output o, mirrored at the first and last element, or clamped. Readers of a mirrored
// input are three at most: number 0, 1, 2 ascending; `out` where there is none.
template <class T> DK_INLINE int32_t mirrored_reader(const AxisTable<T> &a, int32_t i, int32_t number) {
    const int64_t left = a.shape.left, last = a.in - 1;
    const int64_t o = number == 0 ? left - i : number == 1 ? left + i : left + 2 * last - i;
    return o < 0 || o > a.out || (number == 0 && i == 0) || (number == 2 && i == last) ? a.out : int32_t(o);
}
template <class T> DK_INLINE AxisReaders clamped_readers(const AxisTable<T> &a, int32_t i) {
    const int32_t left = int32_t(a.shape.left), begin = i > 0 ? left + i : 0, end = i < a.in - 1 ? left + i + 1 : a.out;
    return {begin > 0 ? begin : 0, end < a.out ? end : a.out};
}

// The sum of f(output) over the readers of input i. taps: of an interpolation, 0 of padding.
template <int taps, class T, class F> DK_INLINE T gathered(const AxisTable<T> &a, int32_t i, const F &f) {
    ReaderSum<T> dot;
    AxisReaders r{i, i + 1};
    const bool mirrored = taps == 0 && !a.copied && a.shape.mode == reflect;
    if (mirrored)
        r = {0, 3};
    else if (!a.copied)
        r = taps ? a.template readers_of<taps>(i) : clamped_readers(a, i);
    for (int32_t number = r.begin; number < r.end; ++number) {
        const int32_t o = mirrored ? mirrored_reader(a, i, number) : number;
        if (mirrored && o >= a.out) continue;
        const T v = f(o);
        if (a.copied) return v;
        if constexpr (taps < 2) {
            dot.acc = dot.acc + v, dot.close();
        } else {
            const int32_t first = a.template first_of<taps>(o);
            DK_UNROLL for (int k = 0; k < taps; ++k)
                if (tap_source<taps>(first, k, a.in) == i)
                    dot.acc = fma(a.template weight_of<taps>(o, k), v, dot.acc), dot.close();
        }
    }
    return dot.sum();
}

template <class T, class I, int taps, bool deep>
__global__ void __launch_bounds__(resample_threads) gather_readers(T *gx, const T *gy, Resampling<T, I> r) {
    I i = I(blockIdx.x) * resample_threads + I(threadIdx.x);
    if (i >= r.total) return;
    T *to = gx + i;
    const AxisTable<T> &d = r.tables.axis[0], &h = r.tables.axis[1], &w = r.tables.axis[2];
    const I c = r.by_inner.split(i), ix = r.by_w.split(i), iy = r.by_h.split(i), iz = r.by_d.split(i);
    *to = gathered<taps>(w, int32_t(ix), [&](int32_t ow) {
        return gathered<taps>(h, int32_t(iy), [&](int32_t oh) {
            const T *from = gy + c + (oh * I(w.out) + ow) * r.inner;
            auto plane = [&](int32_t od) { return from[(i * d.out + od) * h.out * w.out * r.inner]; };
            if constexpr (deep)
                return gathered<taps>(d, int32_t(iz), plane);
            else
                return plane(int32_t(iz));
        });
    });
}

}  // namespace dk

#if DK_HOST
#include "../native/diva_kernels.h"
#include "launch.h"

namespace dk {
namespace {

// Whether sources and weights are those of a factor of two, centres of pixels aligned.
bool is_doubled(const AxisShape &a) {
    const bool by_two = a.out == 2 * a.in && (!(a.scale > 0) || a.scale == 2);
    return a.mode == nearest ? a.out == 2 * a.in : (a.mode == nearest_exact || (a.mode == linear && !a.align)) && by_two;
}

constexpr double most_small = 2147483647.0 - 2 * resample_threads;

template <class T> AxisTables<T> tables_of(int32_t n_axes, const int64_t *in, const int64_t *out, const double *scale,
                                           const int64_t *left, int32_t mode, bool align) {
    AxisTables<T> tables{};
    for (int k = 0; k < 3; ++k) {
        const int from = k - (3 - n_axes);
        AxisTable<T> &a = tables.axis[k];
        a.shape = from < 0 ? AxisShape{1, 1, 0.0, 0, mode, align}
                           : AxisShape{in[from], out[from], scale ? scale[from] : 0.0, left ? left[from] : 0, mode, align};
        a.in = int32_t(a.shape.in), a.out = int32_t(a.shape.out), a.copied = is_copied(a.shape);
        a.doubled = is_doubled(a.shape);
    }
    return tables;
}

template <class T, class I>
Resampling<T, I> problem(const AxisTables<T> &tables, int64_t outer, int64_t inner, bool backward) {
    auto written = [&](int k) { return int64_t(backward ? tables.axis[k].in : tables.axis[k].out); };
    Resampling<T, I> r;
    r.tables = tables, r.inner = I(inner), r.total = I(outer * inner * written(0) * written(1) * written(2));
    r.by_inner = Divisor<I>(inner), r.by_d = Divisor<I>(written(0)), r.by_h = Divisor<I>(written(1));
    r.by_w = Divisor<I>(written(2));
    return r;
}

template <int n> struct Number {
    static constexpr int value = n;
};

// go(problem, whether the depth is resampled), with indices of 32 bits where they do.
template <class T, class Go>
int32_t with_index(const AxisTables<T> &tables, int64_t outer, int64_t inner, bool backward, const Go &go) {
    double n_in = double(outer) * double(inner), n_out = n_in;
    for (const AxisTable<T> &a : tables.axis) n_in *= a.in, n_out *= a.out;
    if (n_in > most_small || n_out > most_small)
        return go(problem<T, int64_t>(tables, outer, inner, backward), Number<1>());
    const Resampling<T, int32_t> r = problem<T, int32_t>(tables, outer, inner, backward);
    return tables.axis[0].copied ? go(r, Number<0>()) : go(r, Number<1>());
}

// Bytes of the tables of all axes; places them in `memory` where that is given.
template <class T> size_t place_tables(AxisTables<T> &tables, int taps, bool backward, char *memory) {
    size_t used = 0;
    auto take = [&](size_t bytes) {
        char *here = memory ? memory + used : nullptr;
        used += (bytes + 15) / 16 * 16;
        return here;
    };
    for (AxisTable<T> &a : tables.axis) {
        if (a.copied || a.doubled) continue;
        if (!backward || taps > 1) a.first = reinterpret_cast<int32_t *>(take(size_t(a.out) * sizeof(int32_t)));
        if (taps > 1) a.weight = reinterpret_cast<T *>(take(size_t(a.out) * taps * sizeof(T)));
        if (backward) a.readers = reinterpret_cast<AxisReaders *>(take(size_t(a.in) * sizeof(AxisReaders)));
    }
    return used;
}

template <class T, int taps> int32_t fill(const AxisTables<T> &tables, bool backward) {
    int64_t longest = 0;
    for (const AxisTable<T> &a : tables.axis) {
        const int64_t length = backward && a.in > a.out ? a.in : a.out;
        if (!a.copied && !a.doubled && length > longest) longest = length;
    }
    if (!longest) return DK_OK;
    dim3 grid = blocks_for(longest, resample_threads);
    grid.y = 3;
    return launch<fill_tables<T, taps>>(grid, resample_threads, tables);
}

// go(tables, taps): the tables filled, the number of taps of `mode` known at compile time.
template <class T, class Go> int32_t with_tables(AxisTables<T> tables, int32_t mode, bool backward, const Go &go) {
    auto filled = [&](auto taps) {
        const int32_t failed = fill<T, taps.value>(tables, backward);
        return failed ? failed : go(tables, taps);
    };
    auto each = [&] {
        return mode == linear ? filled(Number<2>()) : mode == cubic ? filled(Number<4>()) : filled(Number<1>());
    };
    const size_t bytes = place_tables(tables, taps_of(mode), backward, nullptr);
    if (!bytes) return each();
    Scratch scratch(bytes);
    if (!scratch) return DK_NO_MEMORY;
    place_tables(tables, taps_of(mode), backward, scratch.as<char>());
    return each();
}

template <class T>
int32_t resample_forward(T *y, const T *x, int64_t outer, int64_t inner, int32_t n_axes, const int64_t *in,
                         const int64_t *out, const double *scale, int32_t mode, bool align) {
    if (n_axes < 1 || n_axes > 3 || mode < nearest || mode > cubic) return DK_BAD_ARGUMENT;
    const AxisTables<T> axes = tables_of<T>(n_axes, in, out, scale, nullptr, mode, align);
    return with_tables<T>(axes, mode, false, [&](auto &tables, auto taps) {
        auto go = [&](auto r, auto deep) {
            constexpr auto kernel = resample<T, decltype(r.total), taps.value, deep.value>;
            return launch<kernel>(blocks_for(r.total, resample_threads), resample_threads, y, x, r);
        };
        return with_index<T>(tables, outer, inner, false, go);
    });
}

// gx from gy along the axes of `tables` that are not copied, in one launch.
template <class T, int taps>
int32_t gather_at_once(T *gx, const T *gy, const AxisTables<T> &tables, int64_t outer, int64_t inner) {
    return with_index<T>(tables, outer, inner, true, [&](auto r, auto deep) {
        constexpr auto kernel = gather_readers<T, decltype(r.total), taps, deep.value>;
        return launch<kernel>(blocks_for(r.total, resample_threads), resample_threads, gx, gy, r);
    });
}

// How many outputs one number of gx reads when all axes are gathered at once, about.
template <class T> double readers_at_once(const AxisTables<T> &tables, int taps) {
    double n = 1;
    for (const AxisTable<T> &a : tables.axis)
        if (!a.copied) n *= 1 + taps * double(a.out) / double(a.in);
    return n;
}

// The tables with only one axis to gather, the axes before it done and those behind it not.
template <class T> AxisTables<T> one_axis(const AxisTables<T> &tables, int axis) {
    AxisTables<T> one = tables;
    for (int k = 0; k < 3; ++k) {
        AxisTable<T> &a = one.axis[k];
        if (k < axis) a.copied = true, a.out = a.in;
        if (k > axis) a.copied = true, a.in = a.out;
    }
    return one;
}
template <class T> int64_t numbers_read(const AxisTables<T> &t, int64_t outer, int64_t inner) {
    return outer * inner * t.axis[0].out * t.axis[1].out * t.axis[2].out;
}

// One launch for each axis, with what comes between in memory: where an input has many readers.
template <class T, int taps>
int32_t gather_by_axis(T *gx, const T *gy, const AxisTables<T> &tables, int64_t outer, int64_t inner) {
    int64_t between[2] = {0, 0};  // numbers that are left after the depth, and after the height
    int last = 0;
    for (int k = 0; k < 3; ++k)
        if (!tables.axis[k].copied) last = k;
    for (int k = 0; k < last; ++k)
        if (!tables.axis[k].copied) between[k] = numbers_read(one_axis(tables, k + 1), outer, inner);
    Scratch scratch(size_t(between[0] + between[1]) * sizeof(T));
    if (!scratch) return DK_NO_MEMORY;
    const T *from = gy;
    for (int k = 0; k <= last; ++k) {
        if (tables.axis[k].copied) continue;
        T *to = k == last ? gx : scratch.as<T>() + (k ? between[0] : 0);
        if (int32_t failed = gather_at_once<T, taps>(to, from, one_axis(tables, k), outer, inner)) return failed;
        from = to;
    }
    return DK_OK;
}

template <class T>
int32_t resample_gradient(T *gx, const T *gy, int64_t outer, int64_t inner, int32_t n_axes, const int64_t *in,
                          const int64_t *out, const double *scale, int32_t mode, bool align) {
    if (n_axes < 1 || n_axes > 3 || mode < nearest || mode > cubic) return DK_BAD_ARGUMENT;
    const AxisTables<T> axes = tables_of<T>(n_axes, in, out, scale, nullptr, mode, align);
    return with_tables<T>(axes, mode, true, [&](auto &tables, auto taps) {
        int resampled = 0;
        for (const AxisTable<T> &a : tables.axis) resampled += !a.copied;
        if (resampled < 2 || readers_at_once(tables, taps.value) <= 150)
            return gather_at_once<T, taps.value>(gx, gy, tables, outer, inner);
        return gather_by_axis<T, taps.value>(gx, gy, tables, outer, inner);
    });
}

template <class T>
int32_t pad_gradient(T *gx, const T *gy, int64_t outer, int64_t inner, int32_t n_axes, const int64_t *in,
                     const int64_t *out, const int64_t *left, bool reflected) {
    if (n_axes < 1 || n_axes > 3) return DK_BAD_ARGUMENT;
    const AxisTables<T> tables = tables_of<T>(n_axes, in, out, nullptr, left, reflected ? reflect : replicate, false);
    return gather_at_once<T, 0>(gx, gy, tables, outer, inner);
}

}  // namespace
}  // namespace dk

extern "C" {

int32_t dk_resample_f32(float *y, const float *x, int64_t outer, int64_t inner, int32_t n_axes, const int64_t *in,
                        const int64_t *out, const double *scale, int32_t mode, int32_t align_corners) {
    return dk::resample_forward(y, x, outer, inner, n_axes, in, out, scale, mode, align_corners != 0);
}
int32_t dk_resample_f64(double *y, const double *x, int64_t outer, int64_t inner, int32_t n_axes, const int64_t *in,
                        const int64_t *out, const double *scale, int32_t mode, int32_t align_corners) {
    return dk::resample_forward(y, x, outer, inner, n_axes, in, out, scale, mode, align_corners != 0);
}
int32_t dk_resample_backward_f32(float *gx, const float *gy, int64_t outer, int64_t inner, int32_t n_axes,
                                 const int64_t *in, const int64_t *out, const double *scale, int32_t mode,
                                 int32_t align_corners) {
    return dk::resample_gradient(gx, gy, outer, inner, n_axes, in, out, scale, mode, align_corners != 0);
}
int32_t dk_resample_backward_f64(double *gx, const double *gy, int64_t outer, int64_t inner, int32_t n_axes,
                                 const int64_t *in, const int64_t *out, const double *scale, int32_t mode,
                                 int32_t align_corners) {
    return dk::resample_gradient(gx, gy, outer, inner, n_axes, in, out, scale, mode, align_corners != 0);
}
int32_t dk_pad_backward_f32(float *gx, const float *gy, int64_t outer, int64_t inner, int32_t n_axes, const int64_t *in,
                            const int64_t *out, const int64_t *left, int32_t reflect) {
    return dk::pad_gradient(gx, gy, outer, inner, n_axes, in, out, left, reflect != 0);
}
int32_t dk_pad_backward_f64(double *gx, const double *gy, int64_t outer, int64_t inner, int32_t n_axes, const int64_t *in,
                            const int64_t *out, const int64_t *left, int32_t reflect) {
    return dk::pad_gradient(gx, gy, outer, inner, n_axes, in, out, left, reflect != 0);
}
}
#endif
