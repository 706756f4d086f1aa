// The register tile of every convolution: MR x NV accumulators that follow a list of steps.
//
// A tile computes, for m < MR and lanes of NV registers, one chain of D1:
//     P[m][v] = fma(s[m], x[v], P[m][v]) for the steps in order, from +0,
// where step j reads registers at x[v] + step.v and one number per row at s + step.s + m * spacing. What is skipped
// (taps on padding) is simply not in the list.
#pragma once

#include <cstdint>
#include <utility>

#include "vec.h"

namespace dk {
namespace {

struct Step {
    int32_t v, s;
};

// Rows of a tile of NV registers: as many accumulators as the register file holds beside NV operands and one scalar.
constexpr int registers = vector_bytes == 64 || vector_bytes == 16 ? 32 : 16;
constexpr int tile_rows(int nv) { return (registers - nv - 1) / nv > 24 ? 24 : (registers - nv - 1) / nv; }

constexpr int64_t chunk = 256;  // length of a chain, D1

template <class T, int MR, int NV, class Sink, size_t... I, size_t... V>
DK_INLINE void tile_body(const T *const *x, const T *s, int64_t spacing, const Step *steps, int64_t count, Sink &sink,
                         std::index_sequence<I...>, std::index_sequence<V...>) {
    vec<T> acc[MR * NV] = {((void)I, vec<T>{})...};
    const T *base[NV] = {x[V]...};
    for (int64_t j = 0; j < count; ++j) {
        const int64_t at = steps[j].v;
        const T *row = s + steps[j].s;
        vec<T> b[NV] = {load(base[V] + at)...};
        vec<T> a{};
        ((a = I % NV == 0 ? set(row[int64_t(I / NV) * spacing]) : a, acc[I] = fma(a, b[I % NV], acc[I])), ...);
    }
    (sink(int(I / NV), int(I % NV), acc[I]), ...);
}

template <class T, int MR, int NV, class Sink>
void tile(const T *const *x, const T *s, int64_t spacing, const Step *steps, int64_t count, Sink sink) {
    if (spacing == 1)
        tile_body<T, MR, NV>(x, s, 1, steps, count, sink, std::make_index_sequence<MR * NV>{}, std::make_index_sequence<NV>{});
    else
        tile_body<T, MR, NV>(x, s, spacing, steps, count, sink, std::make_index_sequence<MR * NV>{},
                             std::make_index_sequence<NV>{});
}

template <class T, class Sink> using TileFunction = void (*)(const T *const *, const T *, int64_t, const Step *, int64_t, Sink);

template <class T, int NV, class Sink, size_t... M> TileFunction<T, Sink> pick(int rows, std::index_sequence<M...>) {
    static constexpr TileFunction<T, Sink> table[] = {tile<T, int(M) + 1, NV, Sink>...};
    return table[rows - 1];
}

// The tile with `rows` rows (1..tile_rows(NV)).
template <class T, int NV, class Sink> TileFunction<T, Sink> tile_of(int rows) {
    return pick<T, NV, Sink>(rows, std::make_index_sequence<tile_rows(NV)>{});
}

// R = R + P into rows of registers; R begins at +0, so that a first chunk of -0 gives +0.
template <class T> struct Fold {
    T *r;
    int64_t row;  // distance of rows; registers are side by side
    bool first;
    DK_INLINE void operator()(int m, int v, vec<T> p) const {
        T *to = r + m * row + v * lanes<T>;
        store(to, (first ? vec<T>{} : load(to)) + p);
    }
};

}  // namespace
}  // namespace dk
