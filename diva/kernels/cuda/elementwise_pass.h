// How an elementwise function becomes kernels: over dense operands, and over operands of any strides.
//
// A thread has four numbers. It brings them, computes, and puts the results; only the first and the last step differ with
// alignment and strides, so that a function's program is in each kernel once. Every number is computed alone: no result
// depends on the grid.
//
// Correctly rounded float32 functions compute in binary64: half the rate of float32 on data-centre GPUs, where memory stays
// the bound, a 64th of it on others, where they take about ten times as long as memory would.
#pragma once

#include "device.h"

#include "divisor.h"

#include "../native/elementwise_formula.h"

#if DK_HOST
#define DK_EACH  // the emulator's compiler has less to do
#define DK_LOOP
#else
#define DK_EACH DK_UNROLL
#define DK_LOOP _Pragma("unroll 1")
#endif

namespace dk {

constexpr int pass_threads = 128, pass_each = 4, pass_block = pass_threads * pass_each;

template <class T> struct alignas(16) Quad {
    T at[pass_each];
};
template <class T> struct Scalars {
    T p, q, r;
};

// A function of numbers as one of lanes.
template <class F> struct OneByOne {
    template <class T> static DK_INLINE lane<T> of(const Given<T> &g) { return lane<T>(F::of(g.x.v, g.y.v)); }
};

template <class T> DK_INLINE void bring_quad(T (&a)[pass_each], const T *p) {
    const Quad<T> quad = *reinterpret_cast<const Quad<T> *>(p);
    DK_EACH
    for (int k = 0; k < pass_each; k++) a[k] = quad.at[k];
}
template <class T> DK_INLINE void put_quad(T *p, const T (&a)[pass_each]) {
    Quad<T> quad;
    DK_EACH
    for (int k = 0; k < pass_each; k++) quad.at[k] = a[k];
    *reinterpret_cast<Quad<T> *>(p) = quad;
}

template <class F, int arity, class T>
DK_INLINE void compute(T (&result)[pass_each], const T (&a)[arity][pass_each], const Scalars<T> &s) {
    DK_EACH
    for (int k = 0; k < pass_each; k++) {
        Given<T> g;
        g.x = a[0][k], g.p = s.p, g.q = s.q, g.r = s.r;
        if constexpr (arity > 1) g.y = a[1][k];
        if constexpr (arity > 2) g.z = a[2][k];
        result[k] = F::of(g).v;
    }
}

// A thread's numbers are four neighbours, where every operand is aligned to 16 bytes, else a block's width apart.
template <class F, int arity, class T>
__global__ void __launch_bounds__(pass_threads)
dense_pass(int64_t n, T *out, const T *x, const T *y, const T *z, Scalars<T> s, bool aligned) {
    const int64_t begin = int64_t(blockIdx.x) * pass_block;
    const int count = n - begin < pass_block ? int(n - begin) : pass_block;
    const int first = aligned ? int(threadIdx.x) * pass_each : int(threadIdx.x), step = aligned ? 1 : pass_threads;
    const bool whole = aligned && first + pass_each <= count;
    const T *const from[3] = {x, y, z};
    T a[arity][pass_each], result[pass_each];
    if (whole) {
        DK_EACH
        for (int o = 0; o < arity; o++) bring_quad(a[o], from[o] + begin + first);
    } else {
        DK_EACH
        for (int o = 0; o < arity; o++) {
            const T *p = from[o] + begin + first;
            DK_EACH
            for (int k = 0; k < pass_each; k++) a[o][k] = first + k * step < count ? p[k * step] : T(1);
        }
    }
    compute<F, arity>(result, a, s);
    T *p = out + begin + first;
    if (whole) {
        put_quad(p, result);
    } else {
        DK_EACH
        for (int k = 0; k < pass_each; k++)
            if (first + k * step < count) p[k * step] = result[k];
    }
}

// Dimensions from the outermost to the innermost, and what one step in each is to the operands. wide: four neighbours of
// the result lie in one row, and in each operand are neighbours and aligned to 16 bytes too, or one number.
constexpr int walk_dims = 16;
struct Walk {
    uint32_t n;
    int32_t ndim, wide;
    Divisor<int32_t> size[walk_dims];
    int32_t stride[3][walk_dims];
};

// Where the operands have the numbers with the flat indices i; i is used up.
template <int arity, int count>
DK_INLINE void locate(const Walk &walk, uint32_t (&i)[count], uint32_t (&at)[arity][count]) {
    DK_EACH
    for (int k = 0; k < count; k++) {
        DK_EACH
        for (int o = 0; o < arity; o++) at[o][k] = 0;
    }
    DK_LOOP
    for (int d = walk.ndim - 1; d > 0; d--) {
        const Divisor<int32_t> size = walk.size[d];
        DK_EACH
        for (int k = 0; k < count; k++) {
            const uint32_t q = size.quotient(i[k]), index = i[k] - q * size.by;
            DK_EACH
            for (int o = 0; o < arity; o++) at[o][k] += index * uint32_t(walk.stride[o][d]);
            i[k] = q;
        }
    }
    DK_EACH
    for (int k = 0; k < count; k++) {
        DK_EACH
        for (int o = 0; o < arity; o++) at[o][k] += i[k] * uint32_t(walk.stride[o][0]);
    }
}

template <int arity, class T>
DK_INLINE void bring_wide(T (&a)[arity][pass_each], const T *const *from, const Walk &walk, uint32_t i) {
    uint32_t index[1] = {i}, at[arity][1];
    locate<arity, 1>(walk, index, at);
    DK_EACH
    for (int o = 0; o < arity; o++) {
        const T *p = from[o] + int32_t(at[o][0]);
        if (walk.stride[o][walk.ndim - 1]) {
            bring_quad(a[o], p);
        } else {
            const T number = *p;
            DK_EACH
            for (int k = 0; k < pass_each; k++) a[o][k] = number;
        }
    }
}

template <int arity, class T>
DK_INLINE void bring_apart(T (&a)[arity][pass_each], const T *const *from, const Walk &walk, uint32_t i) {
    uint32_t index[pass_each], at[arity][pass_each];
    DK_EACH
    for (int k = 0; k < pass_each; k++) index[k] = i + uint32_t(k * pass_threads);
    locate<arity, pass_each>(walk, index, at);
    DK_EACH
    for (int o = 0; o < arity; o++) {
        DK_EACH
        for (int k = 0; k < pass_each; k++)
            a[o][k] = i + uint32_t(k * pass_threads) < walk.n ? from[o][int32_t(at[o][k])] : T(1);
    }
}

template <class F, int arity, class T>
__global__ void __launch_bounds__(pass_threads)
strided_pass(T *out, const T *x, const T *y, const T *z, Scalars<T> s, const Walk walk) {
    const uint32_t i = blockIdx.x * uint32_t(pass_block) + threadIdx.x * uint32_t(walk.wide ? pass_each : 1);
    if (i >= walk.n) return;
    const T *const from[3] = {x, y, z};
    T a[arity][pass_each], result[pass_each];
    if (walk.wide)
        bring_wide(a, from, walk, i);
    else
        bring_apart(a, from, walk, i);
    compute<F, arity>(result, a, s);
    if (walk.wide) {
        put_quad(out + i, result);
    } else {
        DK_EACH
        for (int k = 0; k < pass_each; k++)
            if (i + uint32_t(k * pass_threads) < walk.n) out[i + uint32_t(k * pass_threads)] = result[k];
    }
}

}  // namespace dk

#if DK_HOST
#include "launch.h"

namespace dk {

// How a function is launched. arity 0: there is none of this number for T. Operands beyond the arity are not read.
template <class T> struct PassEntry {
    int32_t arity = 0;
    int32_t (*dense)(int64_t n, T *out, const T *const *in, const Scalars<T> &s, bool aligned) = nullptr;
    int32_t (*strided)(const Walk &walk, T *out, const T *const *in, const Scalars<T> &s) = nullptr;
};

template <class F, int arity, class T>
int32_t launch_dense(int64_t n, T *out, const T *const *in, const Scalars<T> &s, bool aligned) {
    return launch<dense_pass<F, arity, T>>(blocks_for(n, pass_block), pass_threads, n, out, in[0], in[1], in[2], s, aligned);
}
template <class F, int arity, class T>
int32_t launch_strided(const Walk &walk, T *out, const T *const *in, const Scalars<T> &s) {
    return launch<strided_pass<F, arity, T>>(blocks_for(walk.n, pass_block), pass_threads, out, in[0], in[1], in[2], s, walk);
}

// What the tables of functions are used for here.
template <class T> struct Passes {
    using Number = T;
    using Entry = PassEntry<T>;
    template <class F, int arity> static Entry simple() {
        return {arity, launch_dense<F, arity, T>, launch_strided<F, arity, T>};
    }
    template <class F, int arity> static Entry program() { return simple<F, arity>(); }
    template <class F> static Entry one_by_one() { return simple<OneByOne<F>, 2>(); }
};

// By group of 64 numbers, each in its own file.
template <class T> PassEntry<T> arithmetic_pass(int f);
template <class T> PassEntry<T> function_pass(int f);
template <class T> PassEntry<T> activation_pass(int f);
template <class T> PassEntry<T> backward_pass(int f);

}  // namespace dk
#endif
