// Transposition in registers: what turns images into the layouts that the tiles read, and back.
#pragma once

#include <utility>

#include "vec.h"

namespace dk {
namespace {

template <class T, int S, size_t... J> DK_INLINE vec<T> merge_low(vec<T> a, vec<T> b, std::index_sequence<J...>) {
    return __builtin_shufflevector(a, b, (int(J) & S ? int(sizeof...(J)) + int(J) - S : int(J))...);
}
template <class T, int S, size_t... J> DK_INLINE vec<T> merge_high(vec<T> a, vec<T> b, std::index_sequence<J...>) {
    return __builtin_shufflevector(a, b, (int(J) & S ? int(sizeof...(J)) + int(J) : int(J) + S)...);
}

template <class T> struct Square {
    vec<T> row[lanes<T>];
};

// Exchange lane bit S with row bit S; all bits once are a transposition.
template <class T, int S, size_t... I> DK_INLINE Square<T> exchange(const Square<T> &s, std::index_sequence<I...> all) {
    return {{(int(I) & S ? merge_high<T, S>(s.row[I & ~size_t(S)], s.row[I], all)
                         : merge_low<T, S>(s.row[I], s.row[(I | S) % lanes<T>], all))...}};
}

template <class T, int S> DK_INLINE Square<T> transposed(const Square<T> &s) {
    if constexpr (S >= lanes<T>)
        return s;
    else
        return transposed<T, 2 * S>(exchange<T, S>(s, std::make_index_sequence<lanes<T>>{}));
}

template <class T, size_t... I>
DK_INLINE void transpose_square(const T *from, int64_t from_row, T *to, int64_t to_row, std::index_sequence<I...>) {
    Square<T> s = {{load(from + int64_t(I) * from_row)...}};
    s = transposed<T, 1>(s);
    (store(to + int64_t(I) * to_row, s.row[I]), ...);
}

template <class T, size_t... I>
DK_INLINE void transpose_edge(const T *from, int64_t from_row, T *to, int64_t to_row, int64_t rows, int64_t columns, bool zero,
                              std::index_sequence<I...>) {
    Square<T> s = {{(int64_t(I) < rows ? load(from + int64_t(I) * from_row, columns) : vec<T>{})...}};
    s = transposed<T, 1>(s);
    if (zero || rows == lanes<T>)
        ((int64_t(I) < columns ? store(to + int64_t(I) * to_row, s.row[I]) : void()), ...);
    else
        ((int64_t(I) < columns ? store(to + int64_t(I) * to_row, s.row[I], rows) : void()), ...);
}

// to[c][r] = from[r][c] for r < rows <= lanes, c < columns <= lanes; zero: to[c][rows..lanes) = 0 (else left alone).
template <class T>
void transpose_partial(const T *from, int64_t from_row, T *to, int64_t to_row, int64_t rows, int64_t columns, bool zero) {
    transpose_edge(from, from_row, to, to_row, rows, columns, zero, std::make_index_sequence<lanes<T>>{});
}

// to[c][r] = from[r][c] for any numbers of rows and columns; `zero` fills up to whole registers of rows.
template <class T>
void transpose(const T *from, int64_t from_row, T *to, int64_t to_row, int64_t rows, int64_t columns, bool zero) {
    for (int64_t r = 0; r < rows; r += lanes<T>)
        for (int64_t c = 0; c < columns; c += lanes<T>) {
            const T *a = from + r * from_row + c;
            T *b = to + c * to_row + r;
            if (rows - r >= lanes<T> && columns - c >= lanes<T>)
                transpose_square(a, from_row, b, to_row, std::make_index_sequence<lanes<T>>{});
            else
                transpose_partial(a, from_row, b, to_row, rows - r < lanes<T> ? rows - r : lanes<T>,
                                  columns - c < lanes<T> ? columns - c : lanes<T>, zero);
        }
}

template <class T, size_t... J> DK_INLINE vec<T> evens(vec<T> a, vec<T> b, std::index_sequence<J...>) {
    return __builtin_shufflevector(a, b, (2 * int(J))...);
}

// to[k] = from[k step], k < n.
template <class T> DK_INLINE void copy_every(const T *from, int64_t step, T *to, int64_t n) {
    int64_t k = 0;
    if (step == 1) {
        for (; k + lanes<T> <= n; k += lanes<T>) store(to + k, load(from + k));
        if (k < n) store(to + k, load(from + k, n - k), n - k);
        return;
    }
    if (step == 2 && lanes<T> > 1) {
        for (; k + lanes<T> < n; k += lanes<T>)  // strictly: the last number may have no neighbour to load
            store(to + k, evens<T>(load(from + 2 * k), load(from + 2 * k + lanes<T>), std::make_index_sequence<lanes<T>>{}));
        const int64_t rest = n - k, reach = 2 * rest - 1;
        if (rest > 0) {
            const vec<T> a = load(from + 2 * k, reach < lanes<T> ? reach : lanes<T>);
            const vec<T> b = reach > lanes<T> ? load(from + 2 * k + lanes<T>, reach - lanes<T>) : vec<T>{};
            store(to + k, evens<T>(a, b, std::make_index_sequence<lanes<T>>{}), rest);
        }
        return;
    }
    for (; k < n; ++k) to[k] = from[k * step];
}

}  // namespace
}  // namespace dk
