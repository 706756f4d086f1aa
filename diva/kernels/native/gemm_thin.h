// Matrix products with a few rows only (vectors, small batches), and inner products: every element of the big operand is read
// once, in the order of memory. The same order of operations as gemm.h, hence the same bits.
#pragma once

#include "gemm.h"

namespace dk {

constexpr int64_t thin_rows = 8;

// B's terms are neighbours (weights of a linear layer). One chunk for R rows of A and the `count` columns b, b + stride, ...:
// blocks of B are transposed in registers. A's element (i, k) is at a[k * R + i]. P = 2 panels of lanes<T> columns (all there)
// hide the time that one chain of few rows takes; P = 1: count <= lanes<T>.
template <class T, int R, int P>
void thin_chunk(int64_t depth, const T *a, const T *b, int64_t stride, int64_t count, T *r, bool first) {
    constexpr int L = lanes<T>;
    [[maybe_unused]] vec<T> x0{}, x1{}, x2{}, x3{}, x4{}, x5{}, x6{}, x7{}, y0{}, y1{}, y2{}, y3{}, y4{}, y5{}, y6{}, y7{};
#define DK_ROW(x, i, t) \
    if constexpr (R > i) x##i = fma(set(a[t * R + i]), row[t], x##i);
#define DK_TERM(x, t) \
    DK_ROW(x, 0, t) DK_ROW(x, 1, t) DK_ROW(x, 2, t) DK_ROW(x, 3, t) DK_ROW(x, 4, t) DK_ROW(x, 5, t) DK_ROW(x, 6, t) DK_ROW(x, 7, t)
    for (int64_t k = 0; k < depth; k += L, a += L * R, b += L) {
        const int64_t here = std::min<int64_t>(L, depth - k);
        vec<T> row[L];
        if (here == L && (P == 2 || count == L)) {
            load_transposed<T>(row, b, stride);
#pragma GCC unroll 16
            for (int t = 0; t < L; ++t) {
                DK_TERM(x, t)
            }
            if constexpr (P == 2) {
                load_transposed<T>(row, b + L * stride, stride);
#pragma GCC unroll 16
                for (int t = 0; t < L; ++t) {
                    DK_TERM(y, t)
                }
            }
        } else {
#pragma GCC unroll 16
            for (int t = 0; t < L; ++t) row[t] = t < count ? load(b + t * stride, here) : vec<T>{};
            swap_all<T, 1>(row);
            for (int t = 0; t < here; ++t) {
                DK_TERM(x, t)
            }
            if constexpr (P == 2) {
#pragma GCC unroll 16
                for (int t = 0; t < L; ++t) row[t] = load(b + (L + t) * stride, here);
                swap_all<T, 1>(row);
                for (int t = 0; t < here; ++t) {
                    DK_TERM(y, t)
                }
            }
        }
    }
#undef DK_TERM
#undef DK_ROW
#define DK_FOLD(i)                                                                                                  \
    if constexpr (R > i) {                                                                                          \
        T *p = r + i * P * L;                                                                                       \
        store(p, (first ? vec<T>{} : load(p)) + x##i);                                                              \
        if constexpr (P == 2) store(p + L, (first ? vec<T>{} : load(p + L)) + y##i);                                \
    }
    DK_FOLD(0) DK_FOLD(1) DK_FOLD(2) DK_FOLD(3) DK_FOLD(4) DK_FOLD(5) DK_FOLD(6) DK_FOLD(7)
#undef DK_FOLD
}

template <class T, int P, int... R> inline auto thin_chunk_of(int64_t rows, std::integer_sequence<int, R...>) {
    static constexpr decltype(&thin_chunk<T, 1, P>) functions[] = {thin_chunk<T, R + 1, P>...};
    return functions[rows - 1];
}

// m <= thin_rows rows, columns [n0, n1); b.stride_k == 1. On this thread.
template <class T, class Store>
bool gemm_thin(int64_t m, Range n, int64_t k, const StridedA<T> &a, const StridedB<T> &b, const Store &store) {
    constexpr int L = lanes<T>;
    T *packed = static_cast<T *>(scratch(0, size_t(m * k + L) * sizeof(T)));
    if (!packed) return false;
    for (int64_t t = 0; t < k; ++t)
        for (int64_t i = 0; i < m; ++i) packed[t * m + i] = a.p[i * a.stride + t * a.stride_k];
    using all = std::make_integer_sequence<int, thin_rows>;
    const auto one = thin_chunk_of<T, 1>(m, all{});
    const bool pairs = m <= 4 && L <= 8 && !rows_collide<T>(b.stride);
    const auto two = pairs ? thin_chunk_of<T, 2>(m, std::make_integer_sequence<int, 4>{}) : nullptr;
    alignas(64) T r[thin_rows * 2 * L];
    for (int64_t j = n.begin; j < n.end;) {
        const bool both = two && n.end - j >= 2 * L;
        const int64_t count = both ? 2 * L : std::min<int64_t>(L, n.end - j);
        const auto function = both ? two : one;
        int64_t from = 0;
        do {  // once even without terms: R = +0
            const int64_t here = std::min(gemm_chunk, k - from);
            function(here, packed + from * m, b.p + j * b.stride + from, b.stride, count, r, from == 0);
            from += gemm_chunk;
        } while (from < k);
        store(r, both ? 2 * L : L, 0, m, j, count);
        j += count;
    }
    return true;
}

// B's columns are neighbours. The sums of a row are kept in memory and take 8 rows of B at a time, each read as a stream.
template <class T, class Store>
bool gemm_rows(int64_t m, Range n, int64_t k, const StridedA<T> &a, const StridedB<T> &b, const Store &store) {
    constexpr int64_t L = lanes<T>, NR = Tile<T>::cols, deep = 8, strip = 4096 / int64_t(sizeof(T));
    const int64_t most = std::min(strip, (n.size() + L - 1) / L * L);
    T *chain = static_cast<T *>(scratch(0, size_t(2 * m * most) * sizeof(T)));
    if (!chain) return false;
    T *total = chain + m * most;
    for (int64_t j0 = n.begin; j0 < n.end; j0 += strip) {
        const int64_t cols = std::min(strip, n.end - j0), whole = cols / L * L;
        std::memset(chain, 0, size_t(2 * m * most) * sizeof(T));
        for (int64_t k0 = 0; k0 < k; k0 += deep) {
            const int64_t here = std::min(deep, k - k0);
            for (int64_t i = 0; i < m; ++i) {
                const T *from = a.p + i * a.stride + k0 * a.stride_k, *p = b.p + j0 + k0 * b.stride_k;
                T *to = chain + i * most;
                const int64_t step = b.stride_k;
                if (here == deep) {
                    const vec<T> s0 = set(from[0]), s1 = set(from[a.stride_k]), s2 = set(from[2 * a.stride_k]),
                                 s3 = set(from[3 * a.stride_k]), s4 = set(from[4 * a.stride_k]), s5 = set(from[5 * a.stride_k]),
                                 s6 = set(from[6 * a.stride_k]), s7 = set(from[7 * a.stride_k]);
                    const T *q = p + 4 * step;
                    for (int64_t j = 0; j < whole; j += L) {
                        vec<T> x = load(to + j);
                        x = fma(s0, load(p + j), x), x = fma(s1, load(p + j + step), x);
                        x = fma(s2, load(p + j + 2 * step), x), x = fma(s3, load(p + j + 3 * step), x);
                        x = fma(s4, load(q + j), x), x = fma(s5, load(q + j + step), x);
                        x = fma(s6, load(q + j + 2 * step), x), x = fma(s7, load(q + j + 3 * step), x);
                        dk::store(to + j, x);
                    }
                } else {
                    for (int64_t t = 0; t < here; ++t)
                        for (int64_t j = 0; j < whole; j += L)
                            dk::store(to + j, fma(set(from[t * a.stride_k]), load(p + t * step + j), load(to + j)));
                }
                for (int64_t t = 0; t < here; ++t)
                    for (int64_t j = whole; j < cols; ++j) to[j] = fma(from[t * a.stride_k], p[t * step + j], to[j]);
            }
            if ((k0 + here) % gemm_chunk == 0 || k0 + here == k)
                for (int64_t j = 0; j < m * most; ++j) total[j] = total[j] + chain[j], chain[j] = T(0);
        }
        for (int64_t j = 0; j < cols; j += NR) store(total + j, most, 0, m, j0 + j, std::min(NR, cols - j));
    }
    return true;
}

// DOT of x[i * stride_x] and y[i * stride_y]: chunks side by side in lanes, folded in ascending order.
template <class T> bool inner_product(int64_t n, const T *x, int64_t stride_x, const T *y, int64_t stride_y, T *out) {
    constexpr int L = lanes<T>;
    const int64_t chunks = (n + gemm_chunk - 1) / gemm_chunk, whole = n / gemm_chunk;
    T *chains = static_cast<T *>(scratch(0, size_t(chunks + 1) * sizeof(T)));
    if (!chains) return false;
    int64_t done = 0;
    if (stride_x == 1 && stride_y == 1 && L > 1) {
        done = whole / L * L;
        parallel(done / L, 16, [&](int64_t begin, int64_t end) {
            for (int64_t g = begin; g < end; ++g) {
                const T *p = x + g * L * gemm_chunk, *q = y + g * L * gemm_chunk;
                vec<T> sum{};
                for (int64_t k = 0; k < gemm_chunk; k += L, p += L, q += L) {
                    vec<T> a[L], b[L];
                    load_transposed<T>(a, p, gemm_chunk), load_transposed<T>(b, q, gemm_chunk);
#pragma GCC unroll 16
                    for (int t = 0; t < L; ++t) sum = fma(a[t], b[t], sum);
                }
                store(chains + g * L, sum);
            }
        });
    }
    for (; done + 4 <= whole; done += 4) {
        const T *p = x + done * gemm_chunk * stride_x, *q = y + done * gemm_chunk * stride_y;
        const int64_t far_x = gemm_chunk * stride_x, far_y = gemm_chunk * stride_y;
        T c0 = 0, c1 = 0, c2 = 0, c3 = 0;
        for (int64_t k = 0; k < gemm_chunk; ++k, p += stride_x, q += stride_y) {
            c0 = fma(p[0], q[0], c0), c1 = fma(p[far_x], q[far_y], c1);
            c2 = fma(p[2 * far_x], q[2 * far_y], c2), c3 = fma(p[3 * far_x], q[3 * far_y], c3);
        }
        chains[done] = c0, chains[done + 1] = c1, chains[done + 2] = c2, chains[done + 3] = c3;
    }
    for (; done < chunks; ++done) {
        T chain = 0;
        for (int64_t i = done * gemm_chunk; i < std::min(n, (done + 1) * gemm_chunk); ++i)
            chain = fma(x[i * stride_x], y[i * stride_y], chain);
        chains[done] = chain;
    }
    T total = 0;
    for (int64_t c = 0; c < chunks; ++c) total = total + chains[c];
    *out = total;
    return true;
}

}  // namespace dk
