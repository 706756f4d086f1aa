// How an elementwise function is written: FUNCTION(Add, x + y). One text for the CPU's registers and the GPU's threads.
#pragma once

#include "vec.h"

namespace dk {

// What an elementwise function may read: a register of each operand, and the scalars.
template <class T> struct Given {
    vec<T> x, y, z, p, q, r;
};

// A function of registers by its formula in x, y, z, p, q, r and the type T.
#define FUNCTION(name, formula)                                         \
    struct name {                                                       \
        template <class T> static DK_INLINE vec<T> of(const Given<T> &g) { \
            const vec<T> x = g.x, y = g.y, z = g.z, p = g.p, q = g.q, r = g.r; \
            (void)x, (void)y, (void)z, (void)p, (void)q, (void)r;       \
            return formula;                                             \
        }                                                               \
    };

// One that takes one number at a time, of two operands.
#define FUNCTION_OF_NUMBERS(name, formula)                                        \
    struct name {                                                                 \
        template <class T> static DK_INLINE T of(T x, T y) { return formula; }    \
    };

// A table of functions is a switch, once for CPU and GPU: Use says what is made of a formula there. A simple formula is a
// few operations; a program is a long one; those for float32 alone have no entry for float64.
#define SIMPLE(number, name, arity) case number: return Use::template simple<name, arity>()
#define PROGRAM(number, name, arity) case number: return Use::template program<name, arity>()
#define PROGRAM_OF_FLOAT(number, name, arity)                                                          \
    case number:                                                                                       \
        if constexpr (sizeof(typename Use::Number) == 4) return Use::template program<name, arity>();  \
        return {}
#define ONE_BY_ONE(number, name) case number: return Use::template one_by_one<name>()

}  // namespace dk
