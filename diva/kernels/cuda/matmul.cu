// Matrix products and inner products (native/matmul.h); how, and how fast, is in gemm.h.
#include "device.h"

#include "gemm.h"

namespace dk {

constexpr int dot_chunks = 32;  // of a block: a chunk for each thread of a warp

// Chains of x . y, 256 terms each, a thread each. The terms come through shared memory, so that lanes lie along them when they
// are read. Without `chains`, all chunks are in the one block, which adds them up.
template <class T>
__global__ void __launch_bounds__(32)
dot_chains(int64_t n, const T *x, int64_t x_step, const T *y, int64_t y_step, T *chains, Output<T> out) {
    constexpr int pitch = 33;
    __shared__ T shared[2][2][dot_chunks * pitch];  // buffer, operand
    const int lane = int(threadIdx.x);
    const int64_t first = int64_t(blockIdx.x) * dot_chunks;
    const auto copy = [&](int k, int buffer) {
#pragma unroll 4
        for (int c = 0; c < dot_chunks; ++c) {
            const int64_t at = (first + c) * dot_chunk + k + lane;
            copy_async<sizeof(T)>(&shared[buffer][0][c * pitch + lane], x + at * x_step, at < n && k < dot_chunk);
            copy_async<sizeof(T)>(&shared[buffer][1][c * pitch + lane], y + at * y_step, at < n && k < dot_chunk);
        }
    };
    copy(0, 0);
    T chain = 0;
    for (int k = 0; k < dot_chunk; k += 32) {
        const int now = k / 32 % 2;
        copies_done();
        __syncthreads();
        copy(k + 32, now ^ 1);
#pragma unroll
        for (int i = 0; i < 32; ++i) chain = fma(shared[now][0][lane * pitch + i], shared[now][1][lane * pitch + i], chain);
    }
    copies_done();
    const int64_t count = (n + dot_chunk - 1) / dot_chunk;
    if (chains) {
        if (first + lane < count) chains[first + lane] = chain;
        return;
    }
    T r = 0;
    for (int c = 0; c < int(count); ++c) r = r + __shfl_sync(0xffffffffu, chain, c);
    if (lane == 0) *out.out = out.finished(r, out.c);
}

// R of many chains: the block brings them, one thread adds them, ascending.
template <class T> __global__ void __launch_bounds__(256) dot_fold(int64_t count, const T *chains, Output<T> out) {
    constexpr int held = 2048;
    __shared__ T shared[2][held];
    const auto copy = [&](int64_t begin, int buffer) {
#pragma unroll
        for (int i = 0; i < held; i += 256) {
            const int64_t at = begin + i + threadIdx.x;
            copy_async<sizeof(T)>(&shared[buffer][i + threadIdx.x], chains + at, at < count);
        }
    };
    copy(0, 0);
    T r = 0;
    int now = 0;
    for (int64_t begin = 0; begin < count; begin += held, now ^= 1) {
        copies_done();
        __syncthreads();
        copy(begin + held, now ^ 1);
        if (threadIdx.x == 0) {
            const int here = count - begin < held ? int(count - begin) : held;
#pragma unroll 16
            for (int i = 0; i < here; ++i) r = r + shared[now][i];
        }
    }
    copies_done();
    if (threadIdx.x == 0) *out.out = out.finished(r, out.c);
}

}  // namespace dk

#if DK_HOST
#include <algorithm>
#include <cmath>
#include <optional>
#include <utility>

#include "../native/diva_kernels.h"
#include "launch.h"

namespace dk {
namespace {

// `thin`: C has few columns, and memory's speed counts. `large` is for float alone: of doubles a thread cannot hold as many.
template <class T> struct Tiles {
    using large = Tile<T, 128, 128, 8, 8, 4, 1>;
    using large_one_chunk = Tile<T, 128, 128, 8, 8, 4, 2>;
    using middle = Tile<T, 64, 64, 8, 4, 4, sizeof(T) == 4 ? 4 : 2>;
    using small = Tile<T, 32, 32, 4, 4, 4, sizeof(T) == 4 ? 8 : 6>;
    using thin = Tile<T, 128, 8, 1, 8, 32, sizeof(T) == 4 ? 6 : 4>;
};
enum TileKind { LARGE, MIDDLE, SMALL, THIN };
constexpr int64_t thin_cols = 8;

struct Plan {
    TileKind tile;
    bool split;  // a block for each chunk
    int64_t memory;  // bytes that chains may take
};

// What suits the shape: the least of estimated clocks. It is made for an H100 (132 SMs) and used everywhere.
struct Estimate {
    double rows, cols, resident, alone, most;  // alone, most: part of the peak rate of an SM with one block, with many
};
constexpr Estimate estimates[] = {
    {128, 128, 1, 0.82, 0.82}, {64, 64, 4, 0.50, 0.72}, {32, 32, 8, 0.18, 0.50}, {128, 8, 6, 0.08, 0.35}};

double clocks(const Estimate &tile, double batch, double m, double n, double chunks, bool split) {
    const double blocks = std::ceil(m / tile.rows) * std::ceil(n / tile.cols) * batch * (split ? chunks : 1);
    const double per_sm = std::ceil(blocks / 132), rate = std::min(tile.most, std::min(per_sm, tile.resident) * tile.alone);
    const double sums = per_sm * tile.rows * tile.cols * dot_chunk * (split ? 1 : chunks) / (128 * rate);
    const double chains = split ? 4000 + batch * m * n * chunks * 8 / 1200 : 0;  // written and read, and a second launch
    return sums + 1500 * std::ceil(per_sm / tile.resident) + chains;
}

constexpr int64_t chunks_of(int64_t k) { return std::max<int64_t>(1, (k + dot_chunk - 1) / dot_chunk); }

#if defined(DK_EMULATED)
Plan asked{LARGE, false, 0};  // by a test; memory 0: the plan is made here
#endif

template <class T> Plan plan(int64_t batch, int64_t m, int64_t n, int64_t k) {
    const int64_t chunks = chunks_of(k);
#if defined(DK_EMULATED)
    if (asked.memory) return {asked.tile, asked.split && chunks > 1, asked.memory};
#endif
    Plan best{THIN, false, int64_t(128) << 20};
    double least = -1;
    const bool thin = n <= thin_cols, endless = k >= int64_t(1) << 30;
    for (int tile = thin ? THIN : sizeof(T) == 4 ? LARGE : MIDDLE; tile <= (thin ? THIN : SMALL); ++tile)
        for (bool split : {false, true}) {
            if (split ? chunks == 1 : endless) continue;
            const double found = clocks(estimates[tile], double(batch), double(m), double(n), double(chunks), split);
            if (least < 0 || found < least) least = found, best.tile = TileKind(tile), best.split = split;
        }
    return best;
}

// How many blocks have parts of the chunks, and whether the rows of A, the columns of B are neighbours.
struct Launching {
    int64_t batch, parts;
    bool a, b;
};

template <class S, bool several, bool a, bool b> int32_t launch_ways(const Product<typename S::T> &g, const Launching &l) {
    const dim3 grid(unsigned(int64_t(g.tiles_m) * g.tiles_n), unsigned(l.parts), unsigned(l.batch));
    return launch<gemm_tile<typename S::T, S::rows, S::cols, S::TM, S::TN, S::LM, S::resident, a, b, several>>(grid, S::threads, g);
}
template <class S, bool several = true> int32_t launch_tile(Product<typename S::T> g, const Launching &l) {
    g.tiles_m = (g.m + S::rows - 1) / S::rows, g.tiles_n = (g.n + S::cols - 1) / S::cols;
    if (l.a) return l.b ? launch_ways<S, several, true, true>(g, l) : launch_ways<S, several, true, false>(g, l);
    return l.b ? launch_ways<S, several, false, true>(g, l) : launch_ways<S, several, false, false>(g, l);
}
template <class T> int32_t launch_product(TileKind tile, const Product<T> &g, const Launching &l) {
    using S = Tiles<T>;
    if constexpr (sizeof(T) == 4)
        if (tile == LARGE)
            return g.part == 1 ? launch_tile<typename S::large_one_chunk, false>(g, l) : launch_tile<typename S::large>(g, l);
    if (tile == THIN) return launch_tile<typename S::thin>(g, l);
    return tile == SMALL ? launch_tile<typename S::small>(g, l) : launch_tile<typename S::middle>(g, l);
}

// An operand as it is given: element (z, i, b, k), i a row of A or a column of B; b: matrices whose terms follow one another.
template <class T> struct Given {
    const T *p;
    int64_t z_step, step, b_step, k_step;
};

template <class T> bool multiple_of_16(const T *p, int64_t a, int64_t b) {
    return (reinterpret_cast<uintptr_t>(p) | uintptr_t(a * int64_t(sizeof(T))) | uintptr_t(b * int64_t(sizeof(T)))) % 16 == 0;
}

// The operand as gemm_tile takes it; gathered in `memory` when neither its rows nor its terms are neighbours.
template <class T> class Prepared {
  public:
    Operand<T> operand;
    bool neighbours = false;
    int32_t status = DK_OK;

    Prepared(const Given<T> &x, int64_t z, int64_t rows, int64_t b, int64_t k) {
        const bool one = b == 1 || x.b_step == k * x.k_step;  // the terms of all b lie at one distance
        if (one && (x.k_step == 1 || b * k <= 1)) {
            operand = {x.p, x.z_step, x.step, false};
        } else if (one && (x.step == 1 || rows == 1)) {
            neighbours = true;
            operand = {x.p, x.z_step, x.k_step, rows % piece<T> == 0 && multiple_of_16(x.p, x.z_step, x.k_step)};
        } else {
            const int64_t size = rows * b * k, copies = x.z_step == 0 ? 1 : z;
            memory_.emplace(size_t(size * copies) * sizeof(T));
            T *to = memory_->template as<T>();
            operand = {to, x.z_step == 0 ? 0 : size, b * k, false};
            status = !to ? int32_t(DK_NO_MEMORY)
                         : launch<gather_operand<T>>(dim3(blocks_for(size, 256).x, 1, unsigned(copies)), 256, to, x.p, rows, b, k,
                                                     x.z_step, x.b_step, x.step, x.k_step);
        }
    }

  private:
    std::optional<Scratch> memory_;
};

template <class T>
int32_t inner_product(int64_t n, const T *x, int64_t x_step, const T *y, int64_t y_step, const Output<T> &to) {
    const int64_t count = chunks_of(n);
    if (count <= dot_chunks) return launch<dot_chains<T>>(1, 32, n, x, x_step, y, y_step, nullptr, to);
    Scratch memory(size_t(count) * sizeof(T));
    if (!memory) return DK_NO_MEMORY;
    T *chains = memory.as<T>();
    int32_t status = launch<dot_chains<T>>(blocks_for(count, dot_chunks), 32, n, x, x_step, y, y_step, chains, to);
    return status ? status : launch<dot_fold<T>>(1, 256, count, chains, to);
}

// The product over several launches: groups of chunks whose chains memory holds, each followed by their sum.
template <class T> int32_t in_groups(const Plan &how, Product<T> g, Launching l) {
    const int64_t size = l.batch * g.m * g.n, chunks = chunks_of(g.k), most = std::min<int64_t>(chunks, 65535);
    const int64_t held = std::clamp<int64_t>(how.memory / int64_t(sizeof(T)) / size, 1, most);
    Scratch memory(size_t(size * (held + (held < chunks))) * sizeof(T));
    if (!memory) return DK_NO_MEMORY;
    T *chains = memory.as<T>(), *running = chains + size * held;
    const Output<T> to = g.out;
    g.chunk_step = int64_t(g.m) * g.n, g.part = 1;
    for (int64_t first = 0; first < chunks; first += held) {
        g.first = int(first), l.parts = std::min(held, chunks - first);
        g.out = {chains, l.parts * g.chunk_step, g.n, 1, nullptr, 0, 0, 0, 0, 1, g.n % piece<T> == 0};
        int32_t status = launch_product<T>(how.tile, g, l);
        if (status) return status;
        const dim3 grid(blocks_for(g.chunk_step, 256).x, 1, unsigned(l.batch));
        status = launch<fold_chunks<T>>(grid, 256, to, chains, l.parts, g.m, g.n, running, first == 0, first + held >= chunks);
        if (status) return status;
    }
    return DK_OK;
}

// z products of (m, b * k) and (b * k, n), all sizes within the limits of a launch.
template <class T>
int32_t product(int64_t z, int64_t m, int64_t n, int64_t b, int64_t k, Given<T> x, Given<T> y, Output<T> to) {
    if (m == 1 && n == 1 && z == 1 && b == 1) return inner_product(k, x.p, x.k_step, y.p, y.k_step, to);
    // C or its transpose: few columns rather than few rows, and columns that are neighbours.
    if (std::min(m, n) <= thin_cols ? m < n : to.col != 1 && to.row == 1)
        std::swap(m, n), std::swap(x, y), std::swap(to.row, to.col), std::swap(to.c_row, to.c_col);
    to.wide = to.col == 1 && n % piece<T> == 0 && multiple_of_16(to.out, to.row, to.batch);
    const Prepared<T> left(x, z, m, b, k), right(y, z, n, b, k);
    if (left.status || right.status) return left.status ? left.status : right.status;
    const Plan how = plan<T>(z, m, n, b * k);
    Product<T> g{int(m), int(n), 0, 0, b * k, left.operand, right.operand, to, 0, 0, int(chunks_of(b * k))};
    const Launching l{z, 1, left.neighbours, right.neighbours};
    return how.split ? in_groups(how, g, l) : launch_product<T>(how.tile, g, l);
}

template <class T> int32_t products(int64_t z, int64_t m, int64_t n, int64_t b, int64_t k, const Given<T> &x, const Given<T> &y,
                                    Output<T> to, double beta, double alpha) {
    if (z <= 0 || m <= 0 || n <= 0) return DK_OK;
    to.beta = T(beta), to.alpha = T(alpha);
    if (to.beta == T(0)) to.c = nullptr;
    constexpr int64_t most = 1 << 20, most_z = 65535;  // of rows and columns; of batches
    for (int64_t from = 0; from < z; from += most_z)
        for (int64_t i = 0; i < m; i += most)
            for (int64_t j = 0; j < n; j += most) {
                Given<T> here_x = x, here_y = y;
                Output<T> here = to;
                here_x.p += from * x.z_step + i * x.step, here_y.p += from * y.z_step + j * y.step;
                here.out += from * to.batch + i * to.row + j * to.col;
                if (to.c) here.c += from * to.c_batch + i * to.c_row + j * to.c_col;
                const int32_t status = product<T>(std::min(most_z, z - from), std::min(most, m - i), std::min(most, n - j), b, k,
                                                  here_x, here_y, here);
                if (status) return status;
            }
    return DK_OK;
}

}  // namespace
}  // namespace dk

extern "C" {

#define DK_PRODUCTS(T, suffix)                                                                                                  \
    int32_t dk_mm_##suffix(int64_t m, int64_t n, int64_t k, const T *a, int64_t a_row, int64_t a_k, const T *b, int64_t b_k,    \
                           int64_t b_col, T *out, int64_t out_row, int64_t out_col) {                                           \
        return dk::products<T>(1, m, n, 1, k, {a, 0, a_row, 0, a_k}, {b, 0, b_col, 0, b_k},                                     \
                               {out, 0, out_row, out_col, nullptr, 0, 0, 0, 0, 1, false}, 0, 1);                                \
    }                                                                                                                           \
    int32_t dk_addmm_##suffix(int64_t m, int64_t n, int64_t k, const T *a, int64_t a_row, int64_t a_k, const T *b, int64_t b_k, \
                              int64_t b_col, T *out, int64_t out_row, int64_t out_col, const T *c, int64_t c_row,               \
                              int64_t c_col, double beta, double alpha) {                                                       \
        return dk::products<T>(1, m, n, 1, k, {a, 0, a_row, 0, a_k}, {b, 0, b_col, 0, b_k},                                     \
                               {out, 0, out_row, out_col, c, 0, c_row, c_col, 0, 1, false}, beta, alpha);                       \
    }                                                                                                                           \
    int32_t dk_bmm_##suffix(int64_t batch, int64_t m, int64_t n, int64_t k, const T *a, int64_t a_batch, int64_t a_row,         \
                            int64_t a_k, const T *b, int64_t b_batch, int64_t b_k, int64_t b_col, T *out, int64_t out_batch,    \
                            int64_t out_row, int64_t out_col) {                                                                 \
        return dk::products<T>(batch, m, n, 1, k, {a, a_batch, a_row, 0, a_k}, {b, b_batch, b_col, 0, b_k},                     \
                               {out, out_batch, out_row, out_col, nullptr, 0, 0, 0, 0, 1, false}, 0, 1);                        \
    }                                                                                                                           \
    int32_t dk_baddbmm_##suffix(int64_t batch, int64_t m, int64_t n, int64_t k, const T *a, int64_t a_batch, int64_t a_row,     \
                                int64_t a_k, const T *b, int64_t b_batch, int64_t b_k, int64_t b_col, T *out,                   \
                                int64_t out_batch, int64_t out_row, int64_t out_col, const T *c, int64_t c_batch,               \
                                int64_t c_row, int64_t c_col, double beta, double alpha) {                                      \
        return dk::products<T>(batch, m, n, 1, k, {a, a_batch, a_row, 0, a_k}, {b, b_batch, b_col, 0, b_k},                     \
                               {out, out_batch, out_row, out_col, c, c_batch, c_row, c_col, 0, 1, false}, beta, alpha);         \
    }                                                                                                                           \
    int32_t dk_addbmm_##suffix(int64_t batch, int64_t m, int64_t n, int64_t k, const T *a, int64_t a_batch, int64_t a_row,      \
                               int64_t a_k, const T *b, int64_t b_batch, int64_t b_k, int64_t b_col, T *out, int64_t out_row,   \
                               int64_t out_col, const T *c, int64_t c_row, int64_t c_col, double beta, double alpha) {          \
        return dk::products<T>(1, m, n, batch, k, {a, 0, a_row, a_batch, a_k}, {b, 0, b_col, b_batch, b_k},                     \
                               {out, 0, out_row, out_col, c, 0, c_row, c_col, 0, 1, false}, beta, alpha);                       \
    }                                                                                                                           \
    int32_t dk_dot_##suffix(int64_t n, const T *x, int64_t x_step, const T *y, int64_t y_step, T *out) {                        \
        return dk::inner_product<T>(n, x, x_step, y, y_step, {out, 0, 0, 0, nullptr, 0, 0, 0, 0, 1, false});                    \
    }

DK_PRODUCTS(float, f32)
DK_PRODUCTS(double, f64)

#if defined(DK_EMULATED)
// For tests: the tile (0 to 3: large to thin), whether each chunk has a block, and the bytes for chains; 0 bytes: as the shape
// has it.
void dk_emulator_plan(int32_t tile, int32_t split, int64_t memory) { dk::asked = {dk::TileKind(tile), split != 0, memory}; }
#endif
}
#endif
