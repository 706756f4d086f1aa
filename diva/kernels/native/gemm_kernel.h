// The inner parts of a matrix product: one tile of outputs in registers, and strided matrices packed for it.
//
// Order (D1): each chunk of 256 terms is a chain acc = fma(a, b, acc) from +0, k ascending; R = +0, then R = R + chain, chunks
// ascending. A tile is Tile<T>::rows outputs high and up to Tile<T>::vectors registers wide: its size is scheduling, no result
// depends on it.
#pragma once

#include <algorithm>
#include <utility>

#include "vec.h"

namespace dk {

constexpr int64_t gemm_chunk = 256;  // length of a chain, D1

// Outputs held in registers: rows x (vectors * lanes). AVX-512 and NEON have 32 registers, AVX2 and SSE 16.
template <class T> struct Tile {
#if defined(DK_AVX512)
    static constexpr int rows = 14;
#elif defined(DK_NEON)
    static constexpr int rows = 12;
#elif defined(DK_AVX2)
    static constexpr int rows = 6;
#else
    static constexpr int rows = 4;
#endif
    static constexpr int vectors = 2;
    static constexpr int cols = vectors * lanes<T>;
};

// Accumulators are named variables: gcc 12 keeps an array of them in memory.
#define DK_TILE_ROWS(X) X(0) X(1) X(2) X(3) X(4) X(5) X(6) X(7) X(8) X(9) X(10) X(11) X(12) X(13)

// One chunk of a tile of R rows and V registers, depth <= 256 terms: r[i][j] = (first ? +0 : r[i][j]) + chain over k of
// a[i * a_row + k * a_k] b[k * b_k + j]. All V * lanes<T> columns are read and written.
template <class T, int R, int V>
DK_INLINE void tile_chunk(int64_t depth, const T *a, int64_t a_row, int64_t a_k, const T *b, int64_t b_k, T *r, int64_t ld,
                          bool first) {
#define DK_DECLARE(i) [[maybe_unused]] vec<T> x##i{}, y##i{};
    DK_TILE_ROWS(DK_DECLARE)
#undef DK_DECLARE
    for (int64_t k = 0; k < depth; ++k) {
        vec<T> b0 = load(b);
        [[maybe_unused]] vec<T> b1{};
        if constexpr (V > 1) b1 = load(b + lanes<T>);
#define DK_STEP(i)                            \
    if constexpr (R > i) {                    \
        vec<T> s = set(a[i * a_row]);         \
        x##i = fma(s, b0, x##i);              \
        if constexpr (V > 1) y##i = fma(s, b1, y##i); \
    }
        DK_TILE_ROWS(DK_STEP)
#undef DK_STEP
        a += a_k, b += b_k;
    }
#define DK_FOLD(i)                                                                                    \
    if constexpr (R > i) {                                                                            \
        T *p = r + i * ld;                                                                            \
        store(p, (first ? vec<T>{} : load(p)) + x##i);                                                \
        if constexpr (V > 1) store(p + lanes<T>, (first ? vec<T>{} : load(p + lanes<T>)) + y##i);     \
    }
    DK_TILE_ROWS(DK_FOLD)
#undef DK_FOLD
}

// How a tile reads A: element (i, k) at a[i + k * a_step] (packed panels, and matrices whose rows i are neighbours), or at
// a[i * a_step + k] (matrices whose terms k are neighbours).
enum class Along { rows, terms };

// All chunks of `depth` terms of one tile; B's element (k, j) at b[k * b_step + j].
template <class T, Along along, int R, int V>
void tile(int64_t depth, const T *a, int64_t a_step, const T *b, int64_t b_step, T *r, int64_t ld, bool first) {
    int64_t k = 0;
    do {  // once even without terms: R = +0
        int64_t here = std::min(gemm_chunk, depth - k);
        if constexpr (along == Along::rows)
            tile_chunk<T, R, V>(here, a + k * a_step, 1, a_step, b + k * b_step, b_step, r, ld, first);
        else
            tile_chunk<T, R, V>(here, a + k, a_step, 1, b + k * b_step, b_step, r, ld, first);
        k += gemm_chunk, first = false;
    } while (k < depth);
}

template <class T>
using TileFunction = void (*)(int64_t depth, const T *a, int64_t a_step, const T *b, int64_t b_step, T *r, int64_t ld, bool first);

template <class T, Along along, int V, int... R> inline TileFunction<T> choose_tile(int64_t rows, std::integer_sequence<int, R...>) {
    static constexpr TileFunction<T> tiles[] = {tile<T, along, R + 1, V>...};
    return tiles[rows - 1];
}

// The kernel for a tile of `rows` rows (1 to Tile<T>::rows) and `cols` columns (1 to Tile<T>::cols, filled up to registers).
template <class T, Along along> inline TileFunction<T> tile_of(int64_t rows, int64_t cols) {
    using all = std::make_integer_sequence<int, Tile<T>::rows>;
    return cols <= lanes<T> ? choose_tile<T, along, 1>(rows, all{}) : choose_tile<T, along, 2>(rows, all{});
}

// In-register transposition of lanes<T> registers: swaps blocks of 1, 2, 4, ... across pairs of registers.
template <class T, int W> DK_INLINE void swap_blocks(vec<T> &a, vec<T> &b) {
    constexpr int L = lanes<T>;
    mask<T> low, high;
    for (int i = 0; i < L; ++i) low[i] = i & W ? L + i - W : i, high[i] = i & W ? L + i : i + W;
    vec<T> t = __builtin_shuffle(a, b, low);
    b = __builtin_shuffle(a, b, high);
    a = t;
}
template <class T, int W> DK_INLINE void swap_all(vec<T> *r) {
    if constexpr (W < lanes<T>) {
#pragma GCC unroll 16
        for (int i = 0; i < lanes<T>; ++i)
            if (!(i & W)) swap_blocks<T, W>(r[i], r[i + W]);
        swap_all<T, 2 * W>(r);
    }
}

// The block of lanes<T> x lanes<T> numbers p[j * stride + t], transposed: lane j of r[t].
template <class T> DK_INLINE void load_transposed(vec<T> *r, const T *p, int64_t stride) {
#pragma GCC unroll 16
    for (int j = 0; j < lanes<T>; ++j) r[j] = load(p + j * stride);
    swap_all<T, 1>(r);
}
#if defined(DK_AVX512) || defined(DK_AVX2)
// In each quarter: a[from], b[from], a[from + 1], b[from + 1] (pairs == 1), or a[from, from + 1], b[from, from + 1] (pairs == 2).
template <int pairs, int from> DK_INLINE vec<float> unpack(vec<float> a, vec<float> b) {
    constexpr int L = lanes<float>;
    mask<float> m;
    for (int i = 0; i < L; ++i) {
        const int at = i % 4, second = pairs == 1 ? at % 2 : at / 2, index = from + (pairs == 1 ? at / 2 : at % 2);
        m[i] = i - at + index + (second ? L : 0);
    }
    return __builtin_shuffle(a, b, m);
}
// 4 x 4 blocks, one in each quarter of a, b, c, d, each transposed.
DK_INLINE void transpose_quarters(vec<float> &a, vec<float> &b, vec<float> &c, vec<float> &d) {
    const vec<float> ab = unpack<1, 0>(a, b), cd = unpack<1, 0>(c, d), ab2 = unpack<1, 2>(a, b), cd2 = unpack<1, 2>(c, d);
    a = unpack<2, 0>(ab, cd), b = unpack<2, 2>(ab, cd), c = unpack<2, 0>(ab2, cd2), d = unpack<2, 2>(ab2, cd2);
}
#if defined(DK_AVX512)
// Half rows j and j + 8 share a register as they are loaded.
template <> DK_INLINE void load_transposed(vec<float> *r, const float *p, int64_t stride) {
#pragma GCC unroll 2
    for (int g = 0; g < 16; g += 8, p += 8, r += 8) {
        vec<float> z[8];
#pragma GCC unroll 8
        for (int j = 0; j < 8; ++j)
            z[j] = (vec<float>)_mm512_insertf32x8(_mm512_castps256_ps512(_mm256_loadu_ps(p + j * stride)),
                                                  _mm256_loadu_ps(p + (j + 8) * stride), 1);
        transpose_quarters(z[0], z[1], z[2], z[3]);
        transpose_quarters(z[4], z[5], z[6], z[7]);
        const mask<float> even = {0, 1, 2, 3, 16, 17, 18, 19, 8, 9, 10, 11, 24, 25, 26, 27},
                          odd = {4, 5, 6, 7, 20, 21, 22, 23, 12, 13, 14, 15, 28, 29, 30, 31};
#pragma GCC unroll 4
        for (int t = 0; t < 4; ++t)
            r[t] = __builtin_shuffle(z[t], z[4 + t], even), r[4 + t] = __builtin_shuffle(z[t], z[4 + t], odd);
    }
}
#else
// Four numbers of rows j and j + 4 share a register as they are loaded.
template <> DK_INLINE void load_transposed(vec<float> *r, const float *p, int64_t stride) {
#pragma GCC unroll 2
    for (int g = 0; g < 8; g += 4, p += 4, r += 4) {
#pragma GCC unroll 4
        for (int j = 0; j < 4; ++j)
            r[j] = (vec<float>)_mm256_insertf128_ps(_mm256_castps128_ps256(_mm_loadu_ps(p + j * stride)),
                                                    _mm_loadu_ps(p + (j + 4) * stride), 1);
        transpose_quarters(r[0], r[1], r[2], r[3]);
    }
}
#endif
#endif

// Rows so far apart that more than a few of them fall into the same lines of the first cache.
template <class T> inline bool rows_collide(int64_t stride) { return stride * int64_t(sizeof(T)) % 2048 == 0 && stride != 0; }

// Packs `count` <= W vectors of `depth` terms, element (i, k) at p[i * stride + k * stride_k], to out[k * W + i]; the rest of
// each W is +0. May write lanes<T> elements beyond out[depth * W].
template <class T, int W>
void pack_panel(T *out, const T *p, int64_t stride, int64_t stride_k, int64_t count, int64_t depth) {
    constexpr int L = lanes<T>;
    if (stride == 1 && count == W) {
        for (int64_t k = 0; k < depth; ++k, p += stride_k, out += W) {
#pragma GCC unroll 4
            for (int i = 0; i + L <= W; i += L) store(out + i, load(p + i));
            if constexpr (W % L) std::memcpy(out + W / L * L, p + W / L * L, W % L * sizeof(T));
        }
        return;
    }
    if (stride_k == 1 && L > 1) {
        for (int64_t k = 0; k < depth; k += L) {
            int64_t here = std::min<int64_t>(L, depth - k);
#pragma GCC unroll 1
            for (int g = 0; g < W; g += L) {
                vec<T> r[L];
                if (here == L && g + L <= count) {
                    load_transposed<T>(r, p + g * stride + k, stride);
                } else if (here == L) {
#pragma GCC unroll 16
                    for (int i = 0; i < L; ++i) r[i] = g + i < count ? load(p + (g + i) * stride + k) : vec<T>{};
                    swap_all<T, 1>(r);
                } else {
#pragma GCC unroll 16
                    for (int i = 0; i < L; ++i) r[i] = g + i < count ? load(p + (g + i) * stride + k, here) : vec<T>{};
                    swap_all<T, 1>(r);
                }
                T *to = out + k * W + g;
                constexpr int rest = W % L;
                if (here == L && (rest == 0 || g + L <= W)) {
#pragma GCC unroll 16
                    for (int i = 0; i < L; ++i) store(to + i * W, r[i]);
                } else if (here == L && W < L) {  // one group: what a row spills over is written again by the next
#pragma GCC unroll 16
                    for (int i = 0; i < L; ++i) store(to + i * W, r[i]);
                } else {
                    T rows[L][L];
                    std::memcpy(rows, r, sizeof rows);
                    int64_t width = std::min<int64_t>(L, W - g);
                    for (int64_t i = 0; i < here; ++i)
                        for (int64_t j = 0; j < width; ++j) to[i * W + j] = rows[i][j];
                }
            }
        }
        return;
    }
    for (int64_t k = 0; k < depth; ++k, p += stride_k, out += W) {
        int64_t i = 0;
        for (; i < count; ++i) out[i] = p[i * stride];
        for (; i < W; ++i) out[i] = T(0);
    }
}

}  // namespace dk
