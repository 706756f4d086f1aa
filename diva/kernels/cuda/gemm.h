// Matrix products on a GPU, each element one DOT of D1: one kernel, for tiles of several shapes.
//
// A block computes a tile of rows x cols of C. Its operands pass through shared memory, 16 values of k at a time, in two
// buffers: while one is used, asynchronous copies fill the other. A thread holds TM x TN sums of the present chunk of 256
// in registers, each the chain of D1, and where its block sums several chunks, R beside them. When C has too few tiles for a
// GPU, each chunk has a block of its own, over gridDim.y; they store chains, and fold_chunks adds those in order.
//
// Roofline, for the large tile (128 x 128, 256 threads of 8 x 8) on an H100, whose SM does 128 FMA a clock:
//   device memory and L2    (128 + 128) * 4 bytes for 128 * 128 FMA: 1/16 byte per FMA, 8 bytes a clock and SM (L2 gives ~24)
//   shared memory           a warp and k: 4 loads of 128 bits for 64 FMA of each thread, 2 wavefronts each, since half a warp
//                           reads at most 128 different bytes: 8 clocks of the 16 in which its share of the SM does the FMA
//   issue                   a thread and 16 k: 1024 FMA, 64 loads, 16 copies (4 where rows of 16 bytes can be copied), about
//                           40 others: 0.89 to 0.91 of the instructions are FMA, the bound on the part of the peak
//   registers               64 chains, 64 R, 2 x 16 operands (the next k's are loaded during this k's FMA), addresses: 217 to
//                           223 of the 255 that a block of 256 threads, alone on an SM, may have; for one chunk 125 to 128,
//                           and two blocks. Two warps of each scheduler have 64 independent FMA each: enough for its latency.
// The counts of instructions and registers are what ptxas 13 makes for sm_90.
#pragma once

#include "async.h"

namespace dk {

constexpr int dot_chunk = 256;
constexpr int tile_depth = 16;  // values of k in a buffer
constexpr int tiles_of_chunk = dot_chunk / tile_depth;

// out (m, n) = [beta C +] alpha R; C is read where it is not null. (A factor of 1 may be left out: it changes no bit.)
template <class T> struct Output {
    T *out;
    int64_t batch, row, col;
    const T *c;
    int64_t c_batch, c_row, c_col;
    T beta, alpha;
    bool wide;  // columns are neighbours, and 16 bytes of them may be stored at a time

    DK_INLINE T finished(T r, const T *from) const {
        const T scaled = alpha * r;
        return c ? beta * *from + scaled : scaled;
    }
};

template <class T> struct Operand {
    const T *p;
    int64_t batch, step;  // from one row of the tile (of A; column of B) to the next, or, where those are neighbours, from k to k + 1
    bool wide;            // neighbours may be copied 16 bytes at a time: every address is a multiple of it
};

template <class T> struct Product {
    int m, n, tiles_m, tiles_n;
    int64_t k;
    Operand<T> a, b;
    Output<T> out;
    int64_t chunk_step;  // from the sums of a block to those of the next along gridDim.y
    int first, part;     // chunks first + part * blockIdx.y and those after it, `part` of them as far as there are so many
};

// A tile of `rows` x `cols`, TM x TN by a thread, whose warps are LM threads high; `resident` blocks are to fit an SM.
template <class T_, int rows_, int cols_, int TM_, int TN_, int LM_, int resident_> struct Tile {
    using T = T_;
    static constexpr int rows = rows_, cols = cols_, TM = TM_, TN = TN_, LM = LM_, LN = 32 / LM, resident = resident_;
    static constexpr int warps_n = cols / (TN * LN), warps = rows / (TM * LM) * warps_n, threads = 32 * warps;
};

// `n` numbers of T that are loaded and stored as one.
template <class T, int n> struct alignas(n * sizeof(T)) Piece {
    T v[n];
};
template <class T> constexpr int piece = 16 / int(sizeof(T));

// What a thread copies of one operand: elements (i, k) of `width` rows i and 16 k, to shared[k][i].
//
// `neighbours`: i and i + 1 lie side by side in memory (else k and k + 1 do). Rows beyond the matrix repeat its last one: they
// are computed and never stored. Beyond the last k both operands are +0: fma(0, 0, x) is x, or +0 where x is -0, of which a
// sum with R, which is never -0, shows nothing.
template <class T, int width, int threads, bool neighbours> struct Copier;

// Lanes lie along k: 8 of a row, then the next row; that is 4 banks on in shared memory: no two lanes meet.
template <class T, int width, int threads> struct Copier<T, width, threads, false> {
    static constexpr int pitch = width + piece<T>, together = threads / 8;
    static constexpr int passes = (width + together - 1) / together, count = 2 * passes;
    const T *from[passes];
    int k, i;

    DK_INLINE Copier(const Operand<T> &x, const T *p, int begin, int size) : k(int(threadIdx.x) % 8), i(int(threadIdx.x) / 8) {
#pragma unroll
        for (int pass = 0; pass < passes; ++pass) {
            const int row = begin + i + pass * together;
            from[pass] = p + (row < size ? row : size - 1) * x.step + k;
        }
    }
    DK_INLINE void copy(int number, T *shared, int left) {
        const int pass = number / 2, half = number % 2 * 8;
        if (width % together && i + pass * together >= width) return;
        copy_async<sizeof(T)>(shared + (k + half) * pitch + i + pass * together, from[pass] + half, k + half < left);
    }
    DK_INLINE void next() {
#pragma unroll
        for (int pass = 0; pass < passes; ++pass) from[pass] += tile_depth;
    }
};

// Lanes lie along the rows i, the `wide` way each with 16 bytes.
template <class T, int width, int threads> struct Copier<T, width, threads, true> {
    static constexpr int pitch = width + piece<T>, across = width / piece<T>, together = threads / across;
    static constexpr int count = (tile_depth + together - 1) / together;
    const T *from;
    int64_t step;
    int k, i, most;  // most: rows from this thread's to the matrix's last
    bool wide;

    DK_INLINE Copier(const Operand<T> &x, const T *p, int begin, int size) : step(x.step), wide(x.wide) {
        k = int(threadIdx.x) / across;
        i = int(threadIdx.x) % across * (wide ? piece<T> : 1);
        most = size - 1 - begin - i;
        from = p + begin + i + k * step;
        if (wide && most < 0) from -= i;
    }
    DK_INLINE void copy(int number, T *shared, int left) {
        const int at = k + number * together;
        if (tile_depth % together && at >= tile_depth) return;
        const T *row = from + number * together * step;
        T *to = shared + at * pitch + i;
        if (wide) {
            copy_async<16>(to, row, at < left);
        } else {
#pragma unroll
            for (int j = 0; j < piece<T>; ++j)
                copy_async<sizeof(T)>(to + j * across, row + (j * across < most ? j * across : most), at < left);
        }
    }
    DK_INLINE void next() { from += tile_depth * step; }
};

// The place of a tile: 8 rows of tiles together, down first, so that the blocks that run at one time share operands in L2.
struct Place {
    int m, n;
};
DK_INLINE Place place_of_tile(int tile, int tiles_m, int tiles_n) {
    constexpr int high = 8;
    const int group = tile / (high * tiles_n), within = tile - group * (high * tiles_n), first = group * high;
    const int rows = tiles_m - first < high ? tiles_m - first : high;
    return {first + within % rows, within / rows};
}

// x; what is computed from it is computed here, and not before a loop, where it would take registers all through.
DK_INLINE int here(int x) {
    asm volatile("" : "+r"(x));
    return x;
}

// A thread's part of a tile: TM x TN elements in pieces of 16 bytes, a warp's pieces side by side. In each half of a warp
// are 2 rows of threads and all 8 columns.
template <class S> struct TilePart {
    using T = typename S::T;
    static constexpr int PM = S::TM < piece<T> ? S::TM : piece<T>, PN = S::TN < piece<T> ? S::TN : piece<T>;
    int row, col;

    DK_INLINE TilePart() {
        const int lane = int(threadIdx.x) % 32, warp = int(threadIdx.x) / 32;
        const int down = S::LM == 4 ? lane / 16 * 2 + lane % 2 : lane, right = S::LM == 4 ? lane / 2 % 8 : 0;
        row = warp / S::warps_n * (S::LM * S::TM) + down * PM;
        col = warp % S::warps_n * (S::LN * S::TN) + right * PN;
    }
    static DK_INLINE int down(int i) { return i / PM * (S::LM * PM) + i % PM; }
    static DK_INLINE int right(int j) { return j / PN * (S::LN * PN) + j % PN; }

    // The operands of one k; a and b are shared memory's rows of it.
    DK_INLINE void load(T (&x)[S::TM], T (&y)[S::TN], const T *a, const T *b) const {
#pragma unroll
        for (int i = 0; i < S::TM; i += PM) {
            const auto loaded = *reinterpret_cast<const Piece<T, PM> *>(a + row + down(i));
#pragma unroll
            for (int q = 0; q < PM; ++q) x[i + q] = loaded.v[q];
        }
#pragma unroll
        for (int j = 0; j < S::TN; j += PN) {
            const auto loaded = *reinterpret_cast<const Piece<T, PN> *>(b + col + right(j));
#pragma unroll
            for (int q = 0; q < PN; ++q) y[j + q] = loaded.v[q];
        }
    }

    // Of C (m x n), the tile at row0, col0 is this block's.
    DK_INLINE void store(const T (&sum)[S::TM][S::TN], const Output<T> &to, T *out, const T *c, int m, int n, int row0,
                         int col0) const {
        row0 = here(row0 + row), col0 = here(col0 + col);
#pragma unroll
        for (int i = 0; i < S::TM; ++i) {
            const int at_row = row0 + down(i);
            if (at_row >= m) continue;
            T *to_row = out + at_row * to.row;
            const T *c_row = c + at_row * to.c_row;
#pragma unroll
            for (int j = 0; j < S::TN; j += PN) {
                const int at_col = col0 + right(j);
                Piece<T, PN> whole;
#pragma unroll
                for (int q = 0; q < PN; ++q)
                    whole.v[q] = at_col + q < n ? to.finished(T(0) + sum[i][j + q], c_row + (at_col + q) * to.c_col) : T(0);
                if (to.wide && at_col < n) *reinterpret_cast<Piece<T, PN> *>(to_row + at_col) = whole;
#pragma unroll
                for (int q = 0; q < PN; ++q)
                    if (!to.wide && at_col + q < n) to_row[(at_col + q) * to.col] = whole.v[q];
            }
        }
    }
};

#if defined(__CUDA_ARCH__) && __CUDA_ARCH__ < 860
constexpr int fewer = 1;  // blocks of an SM: its arithmetic is half as wide, or copies pass through registers
#else
constexpr int fewer = 0;
#endif

// One tile of C for each block, summed over the chunks that blockIdx.y says: several, with R in registers, or one.
template <class T, int rows, int cols, int TM, int TN, int LM, int resident, bool a_neighbours, bool b_neighbours, bool several>
__global__ void __launch_bounds__(Tile<T, rows, cols, TM, TN, LM, resident>::threads, resident > 1 ? resident - fewer : 1)
gemm_tile(Product<T> g) {
    using S = Tile<T, rows, cols, TM, TN, LM, resident>;
    using CopyA = Copier<T, S::rows, S::threads, a_neighbours>;
    using CopyB = Copier<T, S::cols, S::threads, b_neighbours>;
    struct alignas(16) Shared {
        T a[2][tile_depth * CopyA::pitch], b[2][tile_depth * CopyB::pitch];
    };
    static_assert(CopyA::count <= 2 * (tile_depth - 1) && CopyB::count <= 2 * (tile_depth - 1), "copies come before the wait");
    __shared__ Shared shared;

    const Place place = place_of_tile(int(blockIdx.x), g.tiles_m, g.tiles_n);
    const int row0 = place.m * S::rows, col0 = place.n * S::cols, batch = int(blockIdx.z);
    const int64_t begin_k = (g.first + int64_t(blockIdx.y) * g.part) * dot_chunk, most_k = int64_t(g.part) * dot_chunk;
    int left = int(g.k - begin_k < most_k ? g.k - begin_k : most_k);  // terms from here on

    const TilePart<S> part;
    CopyA copy_a(g.a, g.a.p + batch * g.a.batch + begin_k * (a_neighbours ? g.a.step : 1), row0, g.m);
    CopyB copy_b(g.b, g.b.p + batch * g.b.batch + begin_k * (b_neighbours ? g.b.step : 1), col0, g.n);
    T chain[TM][TN] = {}, total[several ? TM : 1][several ? TN : 1] = {};
    // The operands of the next k are loaded during this k's products. (Of one chunk the registers are to do for two blocks, and
    // the compiler is left to load as early as it can.)
    constexpr int ahead = several ? 1 : 0;
    T x[2][TM], y[2][TN];

#pragma unroll
    for (int number = 0; number < CopyA::count; ++number) copy_a.copy(number, shared.a[0], left);
#pragma unroll
    for (int number = 0; number < CopyB::count; ++number) copy_b.copy(number, shared.b[0], left);
    copies_done();
    __syncthreads();
    if (ahead) part.load(x[0], y[0], shared.a[0], shared.b[0]);

    for (int now = 0, tile = 1; left > 0; now ^= 1, ++tile) {
        left -= tile_depth;
        copy_a.next(), copy_b.next();
#pragma unroll
        for (int k = 0; k < tile_depth; ++k) {
            const int next = k + ahead;
            if (next < tile_depth)
                part.load(x[next % 2], y[next % 2], shared.a[now] + next * CopyA::pitch, shared.b[now] + next * CopyB::pitch);
            // Here all threads have loaded their last from this buffer, and all copies to the other have come.
            if (k == tile_depth - 1) {
                copies_done();
                __syncthreads();
                if (ahead) part.load(x[next % 2], y[next % 2], shared.a[now ^ 1], shared.b[now ^ 1]);
            }
            // Two for each k, all before the wait. Behind the last buffer these are zeros.
#pragma unroll
            for (int number = 2 * k; number < 2 * k + 2; ++number) {
                if (number < CopyA::count) copy_a.copy(number, shared.a[now ^ 1], left);
                if (number < CopyB::count) copy_b.copy(number, shared.b[now ^ 1], left);
            }
#pragma unroll
            for (int i = 0; i < TM; ++i)
#pragma unroll
                for (int j = 0; j < TN; ++j) chain[i][j] = fma(x[k % 2][i], y[k % 2][j], chain[i][j]);
        }
        if constexpr (several) {
            if (tile % tiles_of_chunk && left > 0) continue;
#pragma unroll
            for (int i = 0; i < TM; ++i)
#pragma unroll
                for (int j = 0; j < TN; ++j) total[i][j] = total[i][j] + chain[i][j], chain[i][j] = 0;
        }
    }
    T *out = g.out.out + batch * g.out.batch + int64_t(blockIdx.y) * g.chunk_step;
    const T *c = g.out.c + batch * g.out.c_batch;
    if constexpr (several) part.store(total, g.out, out, c, g.m, g.n, row0, col0);
    else part.store(chain, g.out, out, c, g.m, g.n, row0, col0);
}

// out = [beta C +] alpha R, R = +0, then + each chain, ascending; `running` holds R between groups of chunks.
template <class T>
__global__ void __launch_bounds__(256)
fold_chunks(Output<T> to, const T *chains, int chunks, int64_t m, int64_t n, T *running, bool begins, bool ends) {
    constexpr int ahead = 16;  // loads on their way at one time
    const int64_t size = m * n, at = int64_t(blockIdx.x) * 256 + threadIdx.x, batch = blockIdx.z;
    if (at >= size) return;
    const T *p = chains + batch * chunks * size + at;
    T r = begins ? T(0) : running[batch * size + at];
    int c = 0;
    for (; c + ahead <= chunks; c += ahead) {
        T next[ahead];
#pragma unroll
        for (int i = 0; i < ahead; ++i) next[i] = p[(c + i) * size];
#pragma unroll
        for (int i = 0; i < ahead; ++i) r = r + next[i];
    }
    for (; c < chunks; ++c) r = r + p[c * size];
    if (!ends) {
        running[batch * size + at] = r;
        return;
    }
    const int64_t i = at / n, j = at - i * n;
    to.out[batch * to.batch + i * to.row + j * to.col] = to.finished(r, to.c + batch * to.c_batch + i * to.c_row + j * to.c_col);
}

// out[z][i][b * k + t] = x[z * z_step + b * b_step + i * step + t * k_step]: an operand, neither of whose strides is 1, in order.
template <class T>
__global__ void __launch_bounds__(256)
gather_operand(T *out, const T *x, int64_t rows, int64_t batch, int64_t k, int64_t z_step, int64_t b_step, int64_t step,
               int64_t k_step) {
    const int64_t at = int64_t(blockIdx.x) * 256 + threadIdx.x;
    if (at >= rows * batch * k) return;
    const int64_t t = at % k, b = at / k % batch, i = at / k / batch, z = blockIdx.z;
    out[z * rows * batch * k + at] = x[z * z_step + b * b_step + i * step + t * k_step];
}

}  // namespace dk
