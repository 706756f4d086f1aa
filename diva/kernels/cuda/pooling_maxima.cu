// The gradient of maximum pooling (native/pooling.h), from the indices alone. A block has a tile of inputs in shared
// memory and adds the outputs whose indices lie in it, a batch at a time; of the outputs of a batch that share an index the
// first goes first, then the next. What order the atomics of integers come in changes nothing: the least number wins.
#include "device.h"

namespace dk {

constexpr int batch = 256;  // outputs, a thread for each
constexpr int nobody = 0x7fffffff;
template <class T> constexpr int tile_length = 16384 / int(sizeof(T));

// A block's inputs and outputs are `columns` planes side by side: output o of column c is at o output_row + c output_column;
// the key of input i of column c is i key_row + c key_column, where it is kept in the tile.
//   planes (pixels 0): c is a plane, of which several are taken when they are small; keys are addresses
//   channels last (1): c is a channel
struct PoolColumns {
    int32_t pixels, columns, rows;  // a batch is `rows` outputs of each of `columns`
    int32_t groups;  // of columns in a sample, which planes have not
    int32_t tile, tiles, batches;
    int64_t outputs, space, channels, samples;

    DK_INLINE int64_t all_columns() const { return pixels ? channels : samples; }
    DK_INLINE int64_t keys() const { return columns * space; }
};

// Where a block's columns begin, how many there are, and which output of a batch this thread has.
struct PoolShare {
    int64_t sample, first;
    int32_t columns, column, row;
    int64_t output, output_row, input;  // addresses

    DK_INLINE PoolShare(const PoolColumns &s, uint32_t unit) {
        const int t = int(threadIdx.x);
        sample = s.pixels ? unit / uint32_t(s.groups) : 0;
        first = int64_t(s.pixels ? unit % uint32_t(s.groups) : unit) * s.columns;
        const int64_t left = s.all_columns() - first;
        columns = left < s.columns ? int32_t(left) : s.columns;
        column = s.pixels ? t % s.columns : t / s.rows, row = s.pixels ? t / s.columns : t % s.rows;
        if (row >= s.rows) column = columns;  // a thread too many
        output_row = s.pixels ? s.channels : 1;
        output = s.pixels ? sample * s.outputs * s.channels + first + column : (first + column) * s.outputs;
        input = s.pixels ? sample * s.space * s.channels + first : first * s.space;
    }
    DK_INLINE bool has(const PoolColumns &s, int64_t o) const { return column < columns && o < s.outputs; }
};

// Least and largest index of each batch of each unit: which batches a tile need look at.
__global__ void __launch_bounds__(batch) index_ranges(int2 *ranges, const int64_t *indices, PoolColumns s, int32_t *fault) {
    __shared__ int least, most;
    const uint32_t unit = blockIdx.x / uint32_t(s.batches), b = blockIdx.x % uint32_t(s.batches);
    const PoolShare mine(s, unit);
    if (threadIdx.x == 0) least = nobody, most = -1;
    __syncthreads();
    int low = nobody, high = -1;
    const int64_t o = int64_t(b) * s.rows + mine.row;
    if (mine.has(s, o)) {
        const int64_t i = indices[mine.output + o * mine.output_row];
        if (i >= 0 && i < s.space)
            low = high = i < nobody ? int(i) : nobody;
        else if (i != -1 && fault)
            *fault = 1;  // here, since no tile may look at it
    }
    for (int w = 16; w; w /= 2) {
        const int other_low = __shfl_xor_sync(0xffffffffu, low, w), other_high = __shfl_xor_sync(0xffffffffu, high, w);
        low = other_low < low ? other_low : low, high = other_high > high ? other_high : high;
    }
    if (threadIdx.x % 32 == 0) atomicMin(&least, low), atomicMax(&most, high);
    __syncthreads();
    if (threadIdx.x == 0) ranges[blockIdx.x] = int2{least, most};
}

// The first and the last batch with an index in [low, high]; in every thread.
DK_INLINE int2 batches_of(const int2 *ranges, int batches, int64_t low, int64_t high, int *ends) {
    if (threadIdx.x == 0) ends[0] = nobody, ends[1] = -1;
    __syncthreads();
    for (int b = int(threadIdx.x); b < batches; b += batch) {
        const int2 range = ranges[b];
        if (range.x <= high && range.y >= low) atomicMin(&ends[0], b), atomicMax(&ends[1], b);
    }
    __syncthreads();
    return int2{ends[0], ends[1]};
}

template <class T>
__global__ void __launch_bounds__(batch)
max_pool_backward(T *dx, const T *g, const int64_t *indices, const int2 *ranges, PoolColumns s, int32_t *fault) {
    __shared__ T sum[tile_length<T>];
    __shared__ int claim[tile_length<T>];  // the least thread of those that have a number for a key
    __shared__ int left[2], ends[2];
    const int t = int(threadIdx.x);
    const uint32_t unit = blockIdx.x / uint32_t(s.tiles);
    const int64_t begin = int64_t(blockIdx.x % uint32_t(s.tiles)) * s.tile;
    const int length = int(s.keys() - begin < s.tile ? s.keys() - begin : s.tile);
    const PoolShare mine(s, unit);
    for (int k = t; k < length; k += batch) sum[k] = 0, claim[k] = nobody;
    if (t < 2) left[t] = 0;
    int2 which{0, s.batches - 1};
    if (ranges) {
        const int64_t row = s.pixels ? s.columns : 1;
        which = batches_of(ranges + int64_t(unit) * s.batches, s.batches, begin / row, (begin + length - 1) / row, ends);
    }
    __syncthreads();
    const int64_t key_row = s.pixels ? s.columns : 1;
    const int64_t key_of_column = (s.pixels ? mine.column : mine.column * s.space) - begin;
    int64_t index = -1;
    T value = 0;
    auto load = [&](int64_t b) {
        const int64_t o = b * s.rows + mine.row;
        index = -1;
        if (!mine.has(s, o)) return;
        index = indices[mine.output + o * mine.output_row], value = g[mine.output + o * mine.output_row];
    };
    if (which.x <= which.y) load(which.x);
    int turn = 0;
    for (int b = which.x; b <= which.y; ++b) {
        const bool inside = index >= 0 && index < s.space;
        if (!inside && index != -1 && fault) *fault = 1;
        const int64_t key = index * key_row + key_of_column;
        bool pending = inside && key >= 0 && key < length;
        const T mine_now = value;
        if (b < which.y) load(b + 1);
        for (bool again = true; again; turn ^= 1) {
            if (pending) atomicMin(&claim[key], t);
            __syncthreads();
            if (t == 0) left[turn ^ 1] = 0;
            if (pending) {
                // who asks after the first has taken its turn finds `nobody`, which is not its own number either
                if (atomicCAS(&claim[key], t, nobody) == t)
                    sum[key] = sum[key] + mine_now, pending = false;
                else
                    left[turn] = 1;
            }
            __syncthreads();
            again = left[turn] != 0;
        }
    }
    if (!s.pixels) {
        const int64_t all = mine.columns * s.space - begin;
        for (int k = t; k < length && k < all; k += batch) dx[mine.input + begin + k] = sum[k];
        return;
    }
    T *rows = dx + mine.input + begin / s.columns * s.channels;  // tiles are whole rows
    for (int k = t; k < length; k += batch)
        if (k % s.columns < mine.columns) rows[k / s.columns * s.channels + k % s.columns] = sum[k];
}

}  // namespace dk

#if DK_HOST
#include "../native/diva_kernels.h"
#include "launch.h"

namespace dk {
namespace {

template <class I> I least_of(I a, I b) { return a < b ? a : b; }

template <class T> PoolColumns columns_of(int64_t n, int64_t channels, int64_t space, int64_t outputs) {
    PoolColumns s{};
    s.pixels = channels > 1, s.samples = n, s.channels = channels, s.space = space, s.outputs = outputs;
    if (s.pixels) {
        s.columns = int32_t(least_of<int64_t>(channels, 32)), s.rows = batch / s.columns;
        s.groups = int32_t((channels + s.columns - 1) / s.columns);
    } else {
        const int64_t fit = least_of<int64_t>(tile_length<T> / space, batch / (outputs ? outputs : 1));
        s.columns = int32_t(fit > 1 ? least_of(fit, n) : 1);
        s.rows = int32_t(s.columns > 1 ? (outputs ? outputs : 1) : batch);
    }
    s.tile = s.pixels ? tile_length<T> / s.columns * s.columns : tile_length<T>;
    s.tiles = int32_t((s.keys() + s.tile - 1) / s.tile), s.batches = int32_t((outputs + s.rows - 1) / s.rows);
    return s;
}

template <class T>
int32_t max_pool_gradient(const T *g, const int64_t *indices, T *dx, int64_t n, int64_t channels, int64_t space,
                          int64_t outputs) {
    if (!(n && channels && space)) return DK_OK;
    const PoolColumns s = columns_of<T>(n, channels, space, outputs);
    const int64_t units = s.pixels ? n * s.groups : (n + s.columns - 1) / s.columns;
    auto go = [&](const int2 *ranges) {
        const dim3 blocks = blocks_for(units * s.tiles, 1);
        return launch<max_pool_backward<T>>(blocks, batch, dx, g, indices, ranges, s, fault_word());
    };
    if (s.tiles == 1 || s.batches <= 1) return status_after(go(nullptr));
    Scratch scratch(size_t(units * s.batches) * sizeof(int2));
    if (!scratch) return DK_NO_MEMORY;
    int2 *ranges = scratch.as<int2>();
    const dim3 blocks = blocks_for(units * s.batches, 1);
    const int32_t failed = launch<index_ranges>(blocks, batch, ranges, indices, s, fault_word());
    return status_after(failed ? failed : go(ranges));
}

}  // namespace
}  // namespace dk

extern "C" {

int32_t dk_max_pool_backward_f32(const float *g, const int64_t *indices, float *dx, int64_t n, int64_t channels,
                                 int64_t space, int64_t outputs) {
    return dk::max_pool_gradient(g, indices, dx, n, channels, space, outputs);
}
int32_t dk_max_pool_backward_f64(const double *g, const int64_t *indices, double *dx, int64_t n, int64_t channels,
                                 int64_t space, int64_t outputs) {
    return dk::max_pool_gradient(g, indices, dx, n, channels, space, outputs);
}
}
#endif
