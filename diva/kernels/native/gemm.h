// Matrix products C[m][n] = DOT over k of A[m][k] B[k][n] in the order of D1, cut into panels and tiles (after BLIS; Van Zee and
// van de Geijn 2015). Internal: a template over where the operands come from and where the result goes, so that convolution
// packs its panels straight from images.
//
//   bool gemm<T>(m, n, k, pack_a, pack_b, store)            in parallel, over tiles or, when they are few, over chunks of k
//   bool gemm_block<T>({m0, m1}, {n0, n1}, {k0, k1}, pack_a, pack_b, store)     on this thread: the part of C in these rows
//                      and columns, summed over these k only (k0 a multiple of 256); for callers that cut their own tasks
//
// Both return false when there is no memory. They are called after `FloatingPoint control;`.
//
// pack_a(T *out, m0, rows, k0, depth) packs A[m0..m0+rows)[k0..k0+depth) as ceil(rows / MR) panels, one after the other, each
//   `depth` x MR (MR = Tile<T>::rows): out[panel * depth * MR + (k - k0) * MR + i] = A[m0 + panel * MR + i][k].
//   Rows beyond `rows` in the last panel may hold anything.
// pack_b(T *out, n0, cols, k0, depth) packs B[k0..k0+depth)[n0..n0+cols) as ceil(cols / NR) panels, each `depth` x NR
//   (NR = Tile<T>::cols): out[panel * depth * NR + (k - k0) * NR + j] = B[k][n0 + panel * NR + j].
//   Columns beyond `cols` may hold anything (write zeros: lanes never mix, but NaN and denormals may be slow elsewhere).
//   m0 and n0 are multiples of MR and NR counted from the block's first row and column. A packer may write one register
//   beyond its last panel. It is called with depth <= 512; a panel holds several chunks of 256 one below the other.
//   Padding taps of a convolution are packed as +0.
// store has two functions:
//   T *place(m0, n0, int64_t *ld): where the tile beginning at (m0, n0), all of its columns dense, may be summed in place
//     (the memory of C, when its rows are dense and its old contents are not needed), setting *ld to the distance of rows;
//     or nullptr: then it is summed in scratch memory. Asked only for tiles whose columns fill their registers.
//   void operator()(const T *r, int64_t ld, m0, rows, n0, cols): called once for each tile when R is complete, to write it
//     (with bias, alpha, beta: separate rounded operations). r may be what place() gave: then only add what is missing.
//   static constexpr bool in_place: whether place() may ever give memory (when not, more scratch memory is taken).
//
// Scratch slots of the thread: 0 holds A's panels, 1 B's, 2 R; slots 3 to 7 are free for packers and callers.
// Tasks of gemm(): a grid over C, each cut from whole tiles and run by gemm_block; the grid depends on the number of threads,
// which is scheduling: no element's order does. Packers and store are shared by threads: const, no state.
#pragma once

#include <atomic>

#include "gemm_kernel.h"
#include "pool.h"

namespace dk {

struct Range {
    int64_t begin, end;
    int64_t size() const { return end - begin; }
};

// Cache blocks: depth of a panel (a multiple of 256), A's block (in L2), B's block (in L3), R of a block that is not in place.
template <class T> struct Blocks {
    static constexpr int64_t depth = 512;
    static constexpr int64_t rows = 224 / Tile<T>::rows * Tile<T>::rows;
    static constexpr int64_t cols = (sizeof(T) == 4 ? 2048 : 1024) / Tile<T>::cols * Tile<T>::cols;
    static constexpr int64_t r_rows = 4 * rows;
};

template <class T, class PackA, class PackB, class Store>
bool gemm_block(Range m, Range n, Range k, const PackA &pack_a, const PackB &pack_b, const Store &store) {
    constexpr int MR = Tile<T>::rows, NR = Tile<T>::cols, L = lanes<T>;
    using B = Blocks<T>;
    if (m.size() <= 0 || n.size() <= 0) return true;
    auto up = [](int64_t x, int64_t to) { return (x + to - 1) / to * to; };
    const bool blocked = k.size() > B::depth;
    // R of blocks of k is kept between them: in place, or in scratch memory (then fewer rows at a time), one tile after the
    // other. In place, the last panel of columns may still need scratch memory.
    const int64_t step_m = blocked && !Store::in_place ? B::r_rows : m.size();
    const int64_t block_k = std::min(std::max<int64_t>(k.size(), 1), B::depth), block_m = std::min(up(m.size(), MR), B::rows),
                  block_n = std::min(up(n.size(), NR), B::cols);
    const int64_t kept_panels = !blocked ? 0 : Store::in_place ? 1 : block_n / NR;
    const int64_t kept_tiles = std::max<int64_t>(1, kept_panels * (up(std::min(step_m, m.size()), MR) / MR));
    T *a = static_cast<T *>(scratch(0, size_t(block_m * block_k + L) * sizeof(T)));
    T *b = static_cast<T *>(scratch(1, size_t(block_n * block_k + L) * sizeof(T)));
    T *kept = static_cast<T *>(scratch(2, size_t(kept_tiles * MR * NR) * sizeof(T)));
    if (!a || !b || !kept) return false;

    for (int64_t jc = n.begin; jc < n.end; jc += B::cols) {
        const int64_t cols = std::min(B::cols, n.end - jc);
        for (int64_t sm = m.begin; sm < m.end; sm += step_m) {
            const Range part{sm, std::min(sm + step_m, m.end)};
            int64_t kb = k.begin;
            do {  // once even when there is nothing to sum: R = +0
                const int64_t depth = std::min(B::depth, k.end - kb);
                const bool first = kb == k.begin, last = kb + depth >= k.end;
                pack_b(b, jc, cols, kb, depth);
                for (int64_t ic = part.begin; ic < part.end; ic += B::rows) {
                    const int64_t rows = std::min(B::rows, part.end - ic);
                    pack_a(a, ic, rows, kb, depth);
                    for (int64_t jr = 0; jr < cols; jr += NR) {
                        const int64_t width = std::min<int64_t>(NR, cols - jr);
                        for (int64_t ir = 0; ir < rows; ir += MR) {
                            const int64_t height = std::min<int64_t>(MR, rows - ir);
                            int64_t ld = NR;
                            T *r = width % L == 0 ? store.place(ic + ir, jc + jr, &ld) : nullptr;
                            if (!r) {
                                int64_t tile = (ic + ir - part.begin) / MR;
                                if (!blocked) tile = 0;
                                else if (!Store::in_place) tile = tile * kept_panels + jr / NR;
                                r = kept + tile * MR * NR, ld = NR;
                            }
                            tile_of<T, Along::rows>(height, width)(depth, a + ir * depth, MR, b + jr * depth, NR, r, ld,
                                                                           first);
                            if (last) store(r, ld, ic + ir, height, jc + jr, width);
                        }
                    }
                }
                kb += depth;
            } while (kb < k.end);
        }
    }
    return true;
}

// R of whole chunks, each kept apart: what parallel sums over k write before the ordered fold.
template <class T> struct ChunkStore {
    static constexpr bool in_place = false;
    T *to;  // (m, n), dense
    int64_t m0, n0, n;
    T *place(int64_t, int64_t, int64_t *) const { return nullptr; }
    void operator()(const T *r, int64_t ld, int64_t row, int64_t rows, int64_t col, int64_t cols) const {
        for (int64_t i = 0; i < rows; ++i)
            std::memcpy(to + (row - m0 + i) * n + col - n0, r + i * ld, size_t(cols) * sizeof(T));
    }
};

// Few outputs, many terms: chunks of 256 in parallel, their chains kept, then added in ascending order. A window of chunks at a
// time bounds the memory. A chain of -0 is kept as +0, which adds the same: R is never -0.
template <class T, class PackA, class PackB, class Store>
bool gemm_over_chunks(int64_t m, int64_t n, int64_t k, const PackA &pack_a, const PackB &pack_b, const Store &store) {
    constexpr int NR = Tile<T>::cols, MR = Tile<T>::rows;
    const int64_t chunks = (k + gemm_chunk - 1) / gemm_chunk, size = m * n;
    const int64_t window = std::min(chunks, std::max<int64_t>(4 * thread_count(), (int64_t(1) << 20) / size));
    T *kept = static_cast<T *>(scratch(3, size_t((window + 1) * size) * sizeof(T)));
    if (!kept) return false;
    T *total = kept + window * size;
    std::memset(total, 0, size_t(size) * sizeof(T));
    std::atomic<bool> ok{true};
    for (int64_t from = 0; from < chunks; from += window) {
        const int64_t here = std::min(window, chunks - from);
        parallel(here, 1, [&](int64_t begin, int64_t end) {
            for (int64_t c = begin; c < end; ++c) {
                const int64_t k0 = (from + c) * gemm_chunk;
                ChunkStore<T> keep{kept + c * size, 0, 0, n};
                if (!gemm_block<T>({0, m}, {0, n}, {k0, std::min(k, k0 + gemm_chunk)}, pack_a, pack_b, keep)) ok = false;
            }
        });
        if (!ok) return false;
        parallel(size, 8192, [&](int64_t begin, int64_t end) {
            for (int64_t c = 0; c < here; ++c)
                for (int64_t i = begin; i < end; ++i) total[i] = total[i] + kept[c * size + i];
        });
    }
    for (int64_t i = 0; i < m; i += MR)
        for (int64_t j = 0; j < n; j += NR)
            store(total + i * n + j, n, i, std::min<int64_t>(MR, m - i), j, std::min<int64_t>(NR, n - j));
    return true;
}

// block(rows, columns) for the parts of a grid over C (m x n, k terms), in parallel; false when one of them returned false.
template <class T, class Block> bool gemm_grid(int64_t m, int64_t n, int64_t k, const Block &block) {
    constexpr int64_t MR = Tile<T>::rows, NR = Tile<T>::cols;
    const int64_t threads = thread_count();
    const double work = double(m) * double(n) * double(k);
    if (threads == 1 || work < 1 << 20) return block(Range{0, m}, Range{0, n});
    const int64_t tiles_m = (m + MR - 1) / MR, tiles_n = (n + NR - 1) / NR;
    // The longer side is halved until there are enough tasks: what is packed twice stays small.
    const int64_t wanted = work < 1 << 24 ? threads : 2 * threads;
    int64_t cuts_m = 1, cuts_n = 1;
    while (cuts_m * cuts_n < wanted) {
        const int64_t rows = m / cuts_m, cols = n / cuts_n;
        if (rows >= cols && 2 * cuts_m <= tiles_m) cuts_m *= 2;
        else if (2 * cuts_n <= tiles_n) cuts_n *= 2;
        else if (2 * cuts_m <= tiles_m) cuts_m *= 2;
        else break;
    }
    std::atomic<bool> ok{true};
    auto part = [](int64_t size, int64_t unit, int64_t tiles, int64_t cuts, int64_t i) {
        return Range{tiles * i / cuts * unit, std::min(size, tiles * (i + 1) / cuts * unit)};
    };
    parallel(cuts_m * cuts_n, 1, [&](int64_t begin, int64_t end) {
        for (int64_t i = begin; i < end; ++i)
            if (!block(part(m, MR, tiles_m, cuts_m, i / cuts_n), part(n, NR, tiles_n, cuts_n, i % cuts_n))) ok = false;
    });
    return ok;
}

// block(columns) for parts of n columns, in parallel unless `alone`: for products of a few rows (m x n, k terms).
template <class T, class Block> bool gemm_grid_columns(int64_t m, int64_t n, int64_t k, bool alone, const Block &block) {
    constexpr int64_t NR = Tile<T>::cols;
    const double work = double(m) * double(n) * double(k);
    if (alone || thread_count() == 1 || work < 1 << 18) return block(Range{0, n});
    const int64_t grain = std::max(4 * NR, (n / (2 * thread_count()) + NR - 1) / NR * NR);
    std::atomic<bool> ok{true};
    parallel(n, grain, [&](int64_t begin, int64_t end) {
        if (!block(Range{begin, end})) ok = false;
    });
    return ok;
}

template <class T, class PackA, class PackB, class Store>
bool gemm(int64_t m, int64_t n, int64_t k, const PackA &pack_a, const PackB &pack_b, const Store &store) {
    const int64_t threads = thread_count();
    const int64_t tiles = ((m + Tile<T>::rows - 1) / Tile<T>::rows) * ((n + Tile<T>::cols - 1) / Tile<T>::cols);
    if (threads > 1 && tiles < 2 * threads && k >= 4 * gemm_chunk && m * n * (k >> 10) > 1 << 10)
        return gemm_over_chunks<T>(m, n, k, pack_a, pack_b, store);
    return gemm_grid<T>(m, n, k, [&](Range rows, Range cols) {
        return gemm_block<T>(rows, cols, {0, k}, pack_a, pack_b, store);
    });
}

// A matrix in memory as an operand: element (i, k) at p[i * stride + k * stride_k], where i is the row of A or the column of B.
template <class T, int W> struct StridedPacker {
    const T *p;
    int64_t stride, stride_k;
    void operator()(T *out, int64_t i0, int64_t count, int64_t k0, int64_t depth) const {
        for (int64_t i = 0; i < count; i += W, out += depth * W)
            pack_panel<T, W>(out, p + (i0 + i) * stride + k0 * stride_k, stride, stride_k, std::min<int64_t>(W, count - i), depth);
    }
};
template <class T> using StridedA = StridedPacker<T, Tile<T>::rows>;
template <class T> using StridedB = StridedPacker<T, Tile<T>::cols>;

}  // namespace dk
