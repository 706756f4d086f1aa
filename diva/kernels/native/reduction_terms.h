// What each kind of reduction adds to a lane; `m` is the center.
#pragma once

#include "vec.h"

namespace dk::terms {

template <class T> struct Sum {
    static DK_INLINE vec<T> step(vec<T> acc, vec<T> x, vec<T>) { return acc + x; }
};
template <class T> struct Squares {
    static DK_INLINE vec<T> step(vec<T> acc, vec<T> x, vec<T>) { return fma(x, x, acc); }
};
template <class T> struct Magnitudes {
    static DK_INLINE vec<T> step(vec<T> acc, vec<T> x, vec<T>) {
        return acc + from_bits<T>(to_bits<T>(x) & ~to_bits<T>(set(T(-0.0))));
    }
};
template <class T> struct Numbers {
    static DK_INLINE vec<T> step(vec<T> acc, vec<T> x, vec<T>) { return acc + select<T>(x == x, x, vec<T>{}); }
};
template <class T> struct Deviations {
    static DK_INLINE vec<T> step(vec<T> acc, vec<T> x, vec<T> m) {
        vec<T> d = x - m;
        return fma(d, d, acc);
    }
};
template <class T> struct Nonzeros {
    static DK_INLINE vec<T> step(vec<T> acc, vec<T> x, vec<T>) { return acc + select<T>(x != vec<T>{}, set(T(1)), vec<T>{}); }
};

}  // namespace dk::terms
