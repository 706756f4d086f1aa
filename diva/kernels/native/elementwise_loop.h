// One pass over dense operands: how an elementwise function of registers becomes a kernel. Not part of the C interface.
#pragma once

#include <cstdint>

#include "elementwise_formula.h"

namespace dk {

// n numbers of each operand; scalars[3].
template <class T> using Kernel = void (*)(int64_t n, T *out, const T *x, const T *y, const T *z, const T *scalars);

// A kernel and how many numbers a thread should at least have of it: cheap ones wait for memory.
template <class T> struct Entry {
    Kernel<T> kernel = nullptr;
    int64_t grain = 0;
};

// Entries by group of 64 numbers: nullptr kernel where there is none for T.
template <class T> Entry<T> arithmetic_entry(int f);
template <class T> Entry<T> function_entry(int f);
template <class T> Entry<T> activation_entry(int f);
template <class T> Entry<T> backward_entry(int f);

namespace {

constexpr int64_t cheap = 65536, costly = 16384;

// Two registers at a time where that leaves room: the long programs want all of them for their constants.
template <class F, int arity, class T, bool twice = true>
void loop(int64_t n, T *out, const T *x, const T *y, const T *z, const T *scalars) {
    constexpr int64_t L = lanes<T>;
    Given<T> a{}, b{};
    a.p = b.p = set(scalars[0]), a.q = b.q = set(scalars[1]), a.r = b.r = set(scalars[2]);
    int64_t i = 0;
    for (; twice && i + 2 * L <= n; i += 2 * L) {
        a.x = load(x + i), b.x = load(x + i + L);
        if constexpr (arity > 1) a.y = load(y + i), b.y = load(y + i + L);
        if constexpr (arity > 2) a.z = load(z + i), b.z = load(z + i + L);
        vec<T> first = F::of(a), second = F::of(b);
        store(out + i, first), store(out + i + L, second);
    }
    for (; i + L <= n; i += L) {
        a.x = load(x + i);
        if constexpr (arity > 1) a.y = load(y + i);
        if constexpr (arity > 2) a.z = load(z + i);
        store(out + i, F::of(a));
    }
    if (i < n) {
        int64_t m = n - i;
        a.x = load(x + i, m);
        if constexpr (arity > 1) a.y = load(y + i, m);
        if constexpr (arity > 2) a.z = load(z + i, m);
        store(out + i, F::of(a), m);
    }
}

template <class F, class T> void loop_one_by_one(int64_t n, T *out, const T *x, const T *y, const T *, const T *) {
    for (int64_t i = 0; i < n; i++) out[i] = F::of(x[i], y[i]);
}

// What the tables of functions are used for here.
template <class T> struct Loops {
    using Number = T;
    using Entry = dk::Entry<T>;
    template <class F, int arity> static Entry simple() { return {loop<F, arity, T, true>, cheap}; }
    template <class F, int arity> static Entry program() { return {loop<F, arity, T, false>, costly}; }
    template <class F> static Entry one_by_one() { return {loop_one_by_one<F, T>, costly}; }
};

}  // namespace
}  // namespace dk
