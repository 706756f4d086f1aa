// Rows put where an index says, the last of several winning, and indices of several dimensions made one (native/indexing.h).
//
// Who is last is found with integers: among few rows by looking at all later indices, else by the greatest position, kept at
// each destination that occurs, or, where that takes much memory, by sorting. The winners' rows are copied in words as wide
// as their alignment allows.
#include "device.h"

#include "sort.h"

namespace dk {

constexpr int put_threads = 256;

// out (outer, n_dest, width), source (outer, n, width) in words. A column is one word of each row of each of the outer
// slices; 2^group threads copy a row.
template <class Word> struct PutRows {
    Word *out;
    const Word *source;
    const int64_t *index;
    int64_t n_dest, n, width, columns;
    int32_t group;
};

template <class Word> DK_INLINE void put_row(const PutRows<Word> &r, int64_t i, int64_t d, int lane) {
    for (int64_t c = (int64_t(blockIdx.y) << r.group) + lane; c < r.columns; c += int64_t(gridDim.y) << r.group) {
        const int64_t o = c < r.width ? 0 : c / r.width, k = c - o * r.width;
        r.out[(o * r.n_dest + d) * r.width + k] = r.source[(o * r.n + i) * r.width + k];
    }
}

// n <= put_few_most, a warp for each row.
template <class Word> __global__ void __launch_bounds__(put_threads) put_few(const PutRows<Word> r, int32_t *fault) {
    const int i = int(blockIdx.x) * (put_threads / 32) + int(threadIdx.x) / 32, t = int(threadIdx.x) % 32, n = int(r.n);
    if (i >= n) return;
    const int64_t d = r.index[i];
    if (uint64_t(d) >= uint64_t(r.n_dest)) {
        if (t == 0) *fault = 1;
        return;
    }
    bool later = false;
    for (int j = i + 1 + t; j < n; j += 32) later |= r.index[j] == d;
    if (!__any_sync(all_lanes, later)) put_row(r, i, d, t);
}

// last[d] of the destinations that occur: 0, then 1 + the greatest position that goes there.
__global__ void __launch_bounds__(put_threads)
clear_last(uint32_t *last, const int64_t *index, int64_t n, int64_t n_dest, int32_t *fault) {
    const int64_t i = int64_t(blockIdx.x) * put_threads + threadIdx.x;
    if (i >= n) return;
    if (uint64_t(index[i]) < uint64_t(n_dest))
        last[index[i]] = 0;
    else
        *fault = 1;
}
__global__ void __launch_bounds__(put_threads) find_last(uint32_t *last, const int64_t *index, int64_t n, int64_t n_dest) {
    const int64_t i = int64_t(blockIdx.x) * put_threads + threadIdx.x;
    if (i < n && uint64_t(index[i]) < uint64_t(n_dest)) atomicMax(&last[index[i]], uint32_t(i + 1));
}
template <class Word>
__global__ void __launch_bounds__(put_threads) put_last(const PutRows<Word> r, const uint32_t *last) {
    const int64_t i = (int64_t(blockIdx.x) * put_threads + threadIdx.x) >> r.group;
    if (i >= r.n) return;
    const int64_t d = r.index[i];
    if (uint64_t(d) < uint64_t(r.n_dest) && last[d] == uint32_t(i + 1)) put_row(r, i, d, int(threadIdx.x) & ((1 << r.group) - 1));
}

// Of rows sorted by destination.
template <class Word, class W>
__global__ void __launch_bounds__(put_threads) put_sorted(const PutRows<Word> r, const W *keys, const W *positions) {
    const int64_t place = (int64_t(blockIdx.x) * put_threads + threadIdx.x) >> r.group;
    if (place >= r.n) return;
    const W d = keys[place];
    if (d < W(r.n_dest) && (place + 1 == r.n || keys[place + 1] != d))
        put_row(r, int64_t(positions[place]), int64_t(d), int(threadIdx.x) & ((1 << r.group) - 1));
}

// A bad index counts as 0, so that what is computed from the result stays inside.
__global__ void __launch_bounds__(put_threads)
fold_indices(int64_t *linear, const int64_t *index, int64_t n, int64_t size, int32_t *fault) {
    const int64_t i = int64_t(blockIdx.x) * put_threads + threadIdx.x;
    if (i >= n) return;
    const int64_t d = index[i] < 0 ? index[i] + size : index[i];
    const bool inside = uint64_t(d) < uint64_t(size);
    if (!inside) *fault = 1;
    linear[i] = linear[i] * size + (inside ? d : 0);
}

}  // namespace dk

#if DK_HOST
#include "../native/diva_kernels.h"
#include "launch.h"

namespace dk {
namespace {

constexpr int64_t most_blocks = 0x7fffffff, put_few_most = 512, much_memory = int64_t(1) << 22;
inline bool too_many(int64_t threads) { return (threads + put_threads - 1) / put_threads > most_blocks; }

template <class Word, class W> int32_t put_in_order(const PutRows<Word> &r, dim3 grid) {
    Sort<W> sort(r.n, bits_of_keys(uint64_t(r.n_dest) + 1));
    if (!sort) return DK_NO_MEMORY;
    int32_t status = sort(IndexKeys<W>{r.index, r.n_dest, -1, fault_word()});
    return status ? status : launch<put_sorted<Word, W>>(grid, put_threads, r, sort.keys(), sort.positions());
}

template <class Word> int32_t put_many(const PutRows<Word> &r, dim3 grid) {
    if (r.n_dest >= 0xfffffffe) return put_in_order<Word, uint64_t>(r, grid);
    if (r.n_dest > much_memory && r.n_dest / 8 > r.n) return put_in_order<Word, uint32_t>(r, grid);
    Scratch last(size_t(r.n_dest) * sizeof(uint32_t));
    if (!last) return DK_NO_MEMORY;
    const dim3 each = blocks_for(r.n, put_threads);
    int32_t status = launch<clear_last>(each, put_threads, last.as<uint32_t>(), r.index, r.n, r.n_dest, fault_word());
    if (!status) status = launch<find_last>(each, put_threads, last.as<uint32_t>(), r.index, r.n, r.n_dest);
    return status ? status : launch<put_last<Word>>(grid, put_threads, r, last.as<uint32_t>());
}

template <class Word>
int32_t put_words(void *out, const int64_t *index, const void *source, int64_t outer, int64_t n_dest, int64_t n,
                  int64_t row_bytes) {
    const int64_t width = row_bytes / int64_t(sizeof(Word)), columns = outer * width;
    int group = 0;
    while (group < 5 && int64_t(1) << group < columns) ++group;
    if (n <= put_few_most) group = 5;
    const PutRows<Word> r{static_cast<Word *>(out), static_cast<const Word *>(source), index, n_dest, n, width, columns, group};
    if (n > most_blocks || too_many(n << group)) return DK_BAD_ARGUMENT;
    dim3 grid = blocks_for(n << group, put_threads);
    const int64_t tiles = (columns + (int64_t(1) << group) - 1) >> group;
    grid.y = unsigned(tiles < 65535 ? tiles : 65535);
    return n <= put_few_most ? launch<put_few<Word>>(grid, put_threads, r, fault_word()) : put_many<Word>(r, grid);
}

}  // namespace
}  // namespace dk

extern "C" {

int32_t dk_put_rows(void *out, const int64_t *index, const void *source, int64_t outer, int64_t n_dest, int64_t n,
                    int64_t row_bytes) {
    if (outer <= 0 || n <= 0 || row_bytes <= 0) return DK_OK;
    const uint64_t together = uint64_t(out) | uint64_t(source) | uint64_t(row_bytes);
    auto put = together % 16 == 0  ? dk::put_words<uint4>
               : together % 8 == 0 ? dk::put_words<uint2>
               : together % 4 == 0 ? dk::put_words<uint32_t>
               : together % 2 == 0 ? dk::put_words<unsigned short>
                                   : dk::put_words<uint8_t>;
    return dk::status_after(put(out, index, source, outer, n_dest, n, row_bytes));
}

int32_t dk_fold_index(int64_t *linear, const int64_t *index, int64_t n, int64_t size) {
    if (n <= 0) return DK_OK;
    if (dk::too_many(n)) return DK_BAD_ARGUMENT;
    return dk::status_after(
        dk::launch<dk::fold_indices>(dk::blocks_for(n, dk::put_threads), dk::put_threads, linear, index, n, size, dk::fault_word()));
}
}
#endif
