// Running sums and products (native/reduction.h): chains inside chunks of 256, and the carries of the chunks before.
//
// Many rows or columns: each goes through its chunks in one launch. Few and long ones: the chunks' totals, their carries in
// order, and the chains once more with the carries.
#include "device.h"

namespace dk {
namespace joins {

template <class T> struct Add {
    static constexpr T start = 0;
    static DK_INLINE T join(T a, T b) { return a + b; }
};
template <class T> struct Multiply {
    static constexpr T start = 1;
    static DK_INLINE T join(T a, T b) { return a * b; }
};

}  // namespace joins

namespace running {

constexpr int64_t chunk = 256;
constexpr unsigned whole_warp = 0xffffffffu;

// --- rows: a thread of a warp for each of 32 chunks, whose elements pass through shared memory 32 by 32 ---

constexpr int row_warps = 4;

// What a warp has of shared memory: 32 elements of each of its 32 chunks, where each chunk begins and how long it is.
template <class T> struct Staging {
    T tile[32][33];
    int64_t begin[32];
    int length[32];
};

// The chains of 32 chunks, this thread's from `begin` on, of `length` elements (0: none). y null: nothing is written.
// Returns this thread's chain, that is its last term.
template <class T, class Op> DK_INLINE T warp_chains(T *y, const T *x, int64_t begin, int length, T carry, Staging<T> &shared) {
    const int t = int(threadIdx.x) % 32;
    __syncwarp();  // what was read before is read
    shared.begin[t] = begin, shared.length[t] = length;
    int longest = length;
    for (int w = 16; w; w /= 2) {
        const int other = __shfl_xor_sync(whole_warp, longest, w);
        if (other > longest) longest = other;
    }
    T p = Op::start;
    for (int at = 0; at < longest; at += 32) {
        __syncwarp();
        DK_UNROLL
        for (int c = 0; c < 32; ++c)
            if (at + t < shared.length[c]) shared.tile[c][t] = x[shared.begin[c] + at + t];
        __syncwarp();
        for (int k = 0; k < 32 && at + k < length; ++k) {
            p = Op::join(p, shared.tile[t][k]);
            if (y) shared.tile[t][k] = Op::join(carry, p);
        }
        __syncwarp();
        if (!y) continue;
        DK_UNROLL
        for (int c = 0; c < 32; ++c)
            if (at + t < shared.length[c]) y[shared.begin[c] + at + t] = shared.tile[c][t];
    }
    return p;
}

DK_INLINE int length_of(int64_t left) { return left < 0 ? 0 : left < chunk ? int(left) : int(chunk); }

// A warp for each row, from its first chunk to its last.
template <class T, class Op> __global__ void __launch_bounds__(32 * row_warps) whole_rows(T *out, const T *x, int64_t rows, int64_t n) {
    __shared__ Staging<T> staging[row_warps];
    const int t = int(threadIdx.x) % 32, warp = int(threadIdx.x) / 32;
    const int64_t row = int64_t(blockIdx.x) * row_warps + warp;
    if (row >= rows) return;
    T carry = Op::start;
    for (int64_t first = 0; first < n; first += 32 * chunk) {
        const int64_t mine = first + t * chunk;
        const int length = length_of(n - mine);
        const T total = warp_chains<T, Op>(nullptr, x, row * n + mine, length, carry, staging[warp]);
        T before = carry;
        for (int c = 0; c < 32; ++c) {
            if (t == c) before = carry;
            const T joined = Op::join(carry, __shfl_sync(whole_warp, total, c));
            if (first + c * chunk < n) carry = joined;
        }
        warp_chains<T, Op>(out, x, row * n + mine, length, before, staging[warp]);
    }
}

// A warp for each 32 chunks, those of a row being neighbours: their totals to `carries`, or, with y, the elements by them.
// Carries null: rows of one chunk.
template <class T, class Op> __global__ void __launch_bounds__(32 * row_warps)
parts_of_rows(T *y, const T *x, T *carries, int64_t rows, int64_t n, int64_t chunks) {
    __shared__ Staging<T> staging[row_warps];
    const int64_t item = int64_t(blockIdx.x) * (32 * row_warps) + threadIdx.x, row = item / chunks, at = (item - row * chunks) * chunk;
    const int length = row < rows ? length_of(n - at) : 0;
    const T before = y && carries && length ? carries[item] : Op::start;
    const T total = warp_chains<T, Op>(y, x, row * n + at, length, before, staging[threadIdx.x / 32]);
    if (!y && length) carries[item] = total;
}

// --- columns: neighbouring threads go down neighbouring columns ---

// x and y are (outer, n, inner). parts = 1: all chunks of a column by one thread. parts = chunks: one chunk; its total to
// carries[(outer parts + part) inner + column], or, with y, its elements by that carry.
template <class T, class Op> __global__ void __launch_bounds__(128)
columns(T *y, const T *x, T *carries, int64_t outer, int64_t n, int64_t inner, int64_t parts) {
    const int64_t item = int64_t(blockIdx.x) * 128 + threadIdx.x;
    if (item >= outer * parts * inner) return;
    const int64_t rest = item / inner, column = item - rest * inner, o = rest / parts, part = rest - o * parts;
    const int64_t last = parts == 1 || (part + 1) * chunk > n ? n : (part + 1) * chunk;
    const int64_t base = o * n * inner + column;
    T carry = parts > 1 && y ? carries[item] : Op::start;
    for (int64_t begin = part * chunk; begin < last; begin += chunk) {
        const int64_t end = begin + chunk < last ? begin + chunk : last;
        T p = Op::start;
        int64_t i = begin;
        for (; i + 8 <= end; i += 8) {
            T loaded[8];
            DK_UNROLL
            for (int k = 0; k < 8; ++k) loaded[k] = x[base + (i + k) * inner];
            DK_UNROLL
            for (int k = 0; k < 8; ++k) {
                p = Op::join(p, loaded[k]);
                if (y) y[base + (i + k) * inner] = Op::join(carry, p);
            }
        }
        for (; i < end; ++i) {
            p = Op::join(p, x[base + i * inner]);
            if (y) y[base + i * inner] = Op::join(carry, p);
        }
        carry = Op::join(carry, p);
        if (!y) carries[item] = p;
    }
}

// Totals, (outer, parts, inner), become the carries: what the chunks before give, in order.
template <class T, class Op> __global__ void __launch_bounds__(128) carry_on(T *carries, int64_t outer, int64_t parts, int64_t inner) {
    const int64_t item = int64_t(blockIdx.x) * 128 + threadIdx.x;
    if (item >= outer * inner) return;
    T *here = carries + item / inner * parts * inner + item % inner, carry = Op::start;
    int64_t part = 0;
    for (; part + 8 <= parts; part += 8) {
        T loaded[8];
        DK_UNROLL
        for (int k = 0; k < 8; ++k) loaded[k] = here[(part + k) * inner];
        DK_UNROLL
        for (int k = 0; k < 8; ++k) {
            here[(part + k) * inner] = carry;
            carry = Op::join(carry, loaded[k]);
        }
    }
    for (; part < parts; ++part) {
        const T total = here[part * inner];
        here[part * inner] = carry;
        carry = Op::join(carry, total);
    }
}

}  // namespace running
}  // namespace dk

#if DK_HOST
#include "../native/diva_kernels.h"
#include "launch.h"

namespace dk {
namespace running {
namespace {

template <class T, class Op> int32_t cumulate(T *out, const T *x, int64_t outer, int64_t n, int64_t inner) {
    const int64_t chunks = (n + chunk - 1) / chunk, lines = outer * inner;
    T *const none = nullptr;
    if (lines == 0 || n == 0) return DK_OK;
    if (inner == 1 && chunks > 1 && (chunks <= 32 || lines >= 1024))
        return launch<whole_rows<T, Op>>(blocks_for(lines, row_warps), 32 * row_warps, out, x, lines, n);
    if (inner > 1 && lines >= 16384)
        return launch<columns<T, Op>>(blocks_for(lines, 128), 128, out, x, none, outer, n, inner, int64_t(1));
    auto chains = [&](T *y, T *carries) {
        const dim3 grid = blocks_for(lines * chunks, 128);
        if (inner > 1) return launch<columns<T, Op>>(grid, 128, y, x, carries, outer, n, inner, chunks);
        return launch<parts_of_rows<T, Op>>(grid, 32 * row_warps, y, x, carries, lines, n, chunks);
    };
    if (chunks == 1) return chains(out, none);
    Scratch memory(size_t(lines * chunks) * sizeof(T));
    if (!memory) return DK_NO_MEMORY;
    T *carries = memory.as<T>();
    int32_t status = chains(none, carries);
    if (!status) status = launch<carry_on<T, Op>>(blocks_for(lines, 128), 128, carries, outer, chunks, inner);
    return status ? status : chains(out, carries);
}

}  // namespace

extern "C" {

int32_t dk_cumulate_f32(int32_t product, float *out, const float *x, int64_t outer, int64_t n, int64_t inner) {
    return product ? cumulate<float, joins::Multiply<float>>(out, x, outer, n, inner)
                   : cumulate<float, joins::Add<float>>(out, x, outer, n, inner);
}
int32_t dk_cumulate_f64(int32_t product, double *out, const double *x, int64_t outer, int64_t n, int64_t inner) {
    return product ? cumulate<double, joins::Multiply<double>>(out, x, outer, n, inner)
                   : cumulate<double, joins::Add<double>>(out, x, outer, n, inner);
}
}

}  // namespace running
}  // namespace dk
#endif
