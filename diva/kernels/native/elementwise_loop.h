// One pass over dense operands: how an elementwise function of registers becomes a kernel. Not part of the C interface.
#pragma once

#include <cstdint>

#include "vec.h"

namespace dk {

// What an elementwise function may read: a register of each operand, and the scalars.
template <class T> struct Given {
    vec<T> x, y, z, p, q, r;
};

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

// A function of registers by its formula in x, y, z, p, q, r and the type T.
#define FUNCTION(name, formula)                                         \
    struct name {                                                       \
        template <class T> static DK_INLINE vec<T> of(const Given<T> &g) { \
            const vec<T> x = g.x, y = g.y, z = g.z, p = g.p, q = g.q, r = g.r; \
            (void)x, (void)y, (void)z, (void)p, (void)q, (void)r;       \
            return formula;                                             \
        }                                                               \
    };

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

template <class F, int arity, class T> Entry<T> simple() { return {loop<F, arity, T, true>, cheap}; }
template <class F, int arity, class T> Entry<T> program() { return {loop<F, arity, T, false>, costly}; }

}  // namespace
}  // namespace dk
