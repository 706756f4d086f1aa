// Contributions to indexed destinations, in the order of the source (native/indexing.h).
//
// Few contributions (at most 256: one chain) find each other by votes of a warp. More are sorted by destination, stably, so
// that those of one destination lie together in their order; chains of 256 of them are computed side by side, then a hot
// destination's chains are folded in order. Maximum and minimum are cut in chains as well: the first of the greatest is the
// first of the chains' first ones, so that no bit changes.
#include "device.h"

#include "sort.h"

namespace dk {

enum Op : int32_t { sum = 0, product = 1, maximum = 2, minimum = 3 };
constexpr int chain_length = 256, reduce_threads = 256;
constexpr int blocks_at_once = 4;  // on a multiprocessor: with 64 registers the loads of take_rows are under way together

template <class T, int op> DK_INLINE T apply(T acc, T x) {
    if (op == sum) return acc + x;
    if (op == product) return acc * x;
    if (op == maximum) return acc != acc ? acc : (x > acc || x != x ? x : acc);
    return acc != acc ? acc : (x < acc || x != x ? x : acc);
}
template <class T, int op> DK_INLINE T identity() {
    return op == sum ? T(0) : op == product ? T(1) : op == maximum ? -infinity<T>() : infinity<T>();
}

template <class T, int w> struct alignas(w * sizeof(T)) Pack {
    T v[w];
    template <int op> DK_INLINE void take(const Pack &x, T scale) {
        DK_UNROLL for (int j = 0; j < w; ++j) v[j] = apply<T, op>(v[j], op == sum ? x.v[j] * scale : x.v[j]);
    }
};

// out (outer, n_dest, width), source (outer, n, width). A column is one number of each row of each of the outer slices: of
// these are `packs` packs, taken by 2^group threads at a time.
template <class T> struct Rows {
    T *out;
    const T *source;
    int64_t n_dest, n, width, packs;
    int32_t group, by_count;
    T scale;
};

// Where a pack of columns begins in row 0 of `out` and of `source`.
struct Columns {
    int64_t out, source;
};
template <class T> DK_INLINE Columns columns_of(const Rows<T> &r, int64_t pack, int w) {
    const int64_t column = pack * w, o = column < r.width ? 0 : column / r.width, k = column - o * r.width;
    return {o * r.n_dest * r.width + k, o * r.n * r.width + k};
}

template <class T, int w> DK_INLINE Pack<T, w> load_pack(const T *p) { return *reinterpret_cast<const Pack<T, w> *>(p); }
template <class T, int w> DK_INLINE void store_pack(T *p, const Pack<T, w> &x) { *reinterpret_cast<Pack<T, w> *>(p) = x; }

// acc takes rows at(0), .., at(n - 1) of the source, from the column on; eight loads are under way at a time.
template <class T, int w, int op, class At>
DK_INLINE void take_rows(Pack<T, w> &acc, const T *column, int64_t width, T scale, int n, const At &at) {
    constexpr int ahead = 8;
    int j = 0;
    for (; j + ahead <= n; j += ahead) {
        Pack<T, w> x[ahead];
        DK_UNROLL for (int a = 0; a < ahead; ++a) x[a] = load_pack<T, w>(column + at(j + a) * width);
        DK_UNROLL for (int a = 0; a < ahead; ++a) acc.template take<op>(x[a], scale);
    }
    for (; j < n; ++j) acc.template take<op>(load_pack<T, w>(column + at(j) * width), scale);
}

// At most 256 contributions: a warp for each, which goes on when it is the first to its destination.
template <class T, int w, int op>
__global__ void __launch_bounds__(reduce_threads, blocks_at_once)
reduce_few(const Rows<T> r, const int64_t *index, int64_t skip, int32_t *fault) {
    constexpr int warps = reduce_threads / 32;
    __shared__ uint8_t mine[warps][chain_length];
    const int n = int(r.n), warp = int(threadIdx.x) / 32, t = int(threadIdx.x) % 32, i = int(blockIdx.x) * warps + warp;
    if (i >= n) return;
    const int64_t d = index[i];
    if (uint64_t(d) >= uint64_t(r.n_dest)) {
        if (t == 0) *fault = 1;
        return;
    }
    if (d == skip) return;
    bool alike[chain_length / 32];
    DK_UNROLL for (int j = 0; j < chain_length / 32; ++j) alike[j] = 32 * j + t < n && index[32 * j + t] == d;
    int count = 0;
    DK_UNROLL for (int j = 0; j < chain_length / 32; ++j) {
        const int from = 32 * j;
        const bool same = alike[j];
        const unsigned mask = __ballot_sync(all_lanes, same);
        if (mask && !count && from + __ffs(int(mask)) - 1 != i) return;
        if (same) mine[warp][count + __popc(mask & lanes_below())] = uint8_t(from + t);
        count += __popc(mask);
    }
    __syncwarp();
    const T scale = r.by_count ? T(1) / T(count) : r.scale;
    for (int64_t pack = int64_t(blockIdx.y) * 32 + t; pack < r.packs; pack += int64_t(gridDim.y) * 32) {
        const Columns at = columns_of(r, pack, w);
        T *out = r.out + at.out + d * r.width;
        Pack<T, w> acc = load_pack<T, w>(out);
        take_rows<T, w, op>(acc, r.source + at.source, r.width, scale, count, [&](int j) { return int64_t(mine[warp][j]); });
        store_pack<T, w>(out, acc);
    }
}

// Destinations as keys, of index (outer, n, inner) in out (outer, n_dest, inner), whose numbers are counted one by one; one
// more for bad ones.
template <class W> struct ScatterKeys {
    const int64_t *index;
    int64_t n_dest, n, inner, all;
    int32_t *fault;
    DK_INLINE W key(int64_t i) const {
        const int64_t d = index[i];
        const W row = W(i) / W(inner), key = W((int64_t(row / W(n)) * n_dest + d) * inner + int64_t(W(i) - row * W(inner)));
        return uint64_t(d) < uint64_t(n_dest) ? key : W(all);
    }
    DK_INLINE void check(W key) const {
        if (key == W(all)) *fault = 1;
    }
    DK_INLINE W position(int64_t i) const { return W(i); }
};

// Sorted contributions, all n of them.
template <class W> struct Sorted {
    const W *keys, *positions;
    int64_t n;

    // The first place whose key is not below d.
    DK_INLINE int64_t begin(W d, int64_t past) const {
        int64_t low = 0;
        while (low < past) {
            const int64_t middle = (low + past) / 2;
            if (keys[middle] < d)
                low = middle + 1;
            else
                past = middle;
        }
        return low;
    }
    // The first place after `from`, whose key is d, and at most `past`, whose key is another; near ones are found soonest.
    DK_INLINE int64_t end(W d, int64_t from, int64_t past) const {
        int64_t step = 1;
        for (; from + step < past && keys[from + step] == d; step *= 2) from += step;
        if (from + step < past) past = from + step;
        while (past - from > 1) {
            const int64_t middle = (from + past) / 2;
            (keys[middle] == d ? from : past) = middle;
        }
        return past;
    }
};

// Each group of threads takes what may begin a chain. Units 0 .. windows - 1 are windows of 256 places from place 256 on:
// a chain after the first of its destination has at least 256 places of that destination before it, so that a window has at
// most one such beginning, and it is of the destination of the window's first place. Its result goes to partial[window].
// The other units are places: where the destination changes, its first chain begins.
template <class T, class W, int w, int op>
__global__ void __launch_bounds__(reduce_threads, blocks_at_once)
reduce_chains(const Rows<T> r, const Sorted<W> sorted, T *partial, int64_t windows, int64_t units) {
    const int64_t unit = (int64_t(blockIdx.x) * reduce_threads + threadIdx.x) >> r.group;
    if (unit >= units) return;
    const bool hot = unit < windows;
    int64_t from = hot ? (unit + 1) * chain_length : unit - windows, first = from;
    const W d = sorted.keys[from];
    if (d >= W(r.n_dest)) return;
    if (hot) {
        first = sorted.begin(d, from);
        from = first + (from - first + chain_length - 1) / chain_length * chain_length;
        if (from == first || from >= sorted.n || sorted.keys[from] != d) return;
    } else if (from && sorted.keys[from - 1] == d) {
        return;
    }
    const int64_t past = from + chain_length < sorted.n ? from + chain_length : sorted.n;
    const int n = int(sorted.keys[past - 1] == d ? past - from : sorted.end(d, from, past) - from);
    T scale = r.scale;
    if (r.by_count) scale = T(1) / T(n < chain_length && !hot ? n : sorted.end(d, first, sorted.n) - first);
    const W *positions = sorted.positions + from;
    const int lane = int(threadIdx.x) & ((1 << r.group) - 1);
    for (int64_t pack = (int64_t(blockIdx.y) << r.group) + lane; pack < r.packs; pack += int64_t(gridDim.y) << r.group) {
        const Columns at = columns_of(r, pack, w);
        T *to = hot ? partial + (unit * r.packs + pack) * w : r.out + at.out + int64_t(d) * r.width;
        Pack<T, w> acc;
        if (hot)
            DK_UNROLL for (int j = 0; j < w; ++j) acc.v[j] = identity<T, op>();
        else
            acc = load_pack<T, w>(to);
        take_rows<T, w, op>(acc, r.source + at.source, r.width, scale, n, [=](int j) { return int64_t(positions[j]); });
        store_pack<T, w>(to, acc);
    }
}

// The chains after the first, which lie in neighbouring windows, to the destination; done by the first of those windows.
template <class T, class W, int w, int op>
__global__ void __launch_bounds__(reduce_threads, blocks_at_once)
fold_chains(const Rows<T> r, const Sorted<W> sorted, const T *partial, int64_t windows) {
    const int64_t window = (int64_t(blockIdx.x) * reduce_threads + threadIdx.x) >> r.group;
    if (window >= windows) return;
    const int64_t from = (window + 1) * chain_length;
    const W d = sorted.keys[from];
    if (d >= W(r.n_dest)) return;
    const int64_t first = sorted.begin(d, from), second = first + chain_length;
    if (second < from || second >= from + chain_length || second >= sorted.n || sorted.keys[second] != d) return;
    const int64_t chains = (sorted.end(d, second, sorted.n) - second + chain_length - 1) / chain_length;
    const int lane = int(threadIdx.x) & ((1 << r.group) - 1);
    for (int64_t pack = (int64_t(blockIdx.y) << r.group) + lane; pack < r.packs; pack += int64_t(gridDim.y) << r.group) {
        T *out = r.out + columns_of(r, pack, w).out + int64_t(d) * r.width;
        Pack<T, w> acc = load_pack<T, w>(out);
        take_rows<T, w, op>(acc, partial + (window * r.packs + pack) * w, r.packs * w, T(1), int(chains),
                            [](int j) { return int64_t(j); });
        store_pack<T, w>(out, acc);
    }
}

// A thread for each column of index (outer, n, inner), n <= 256: its destinations are no other thread's.
template <class T, int op>
__global__ void __launch_bounds__(reduce_threads)
scatter_columns(T *out, const int64_t *index, const T *source, int64_t columns, int64_t n_dest, int64_t n, int64_t inner,
                int32_t *fault) {
    const int64_t column = int64_t(blockIdx.x) * reduce_threads + threadIdx.x;
    if (column >= columns) return;
    const int64_t o = column / inner, k = column - o * inner;
    T *mine = out + o * n_dest * inner + k;
    index += o * n * inner + k, source += o * n * inner + k;
    for (int64_t i = 0; i < n; ++i) {
        const int64_t d = index[i * inner];
        if (uint64_t(d) < uint64_t(n_dest))
            mine[d * inner] = apply<T, op>(mine[d * inner], source[i * inner]);
        else
            *fault = 1;
    }
}

}  // namespace dk

#if DK_HOST
#include "../native/diva_kernels.h"
#include "launch.h"

namespace dk {
namespace {

constexpr int64_t most_y = 65535;

inline unsigned tiles_of(int64_t packs, int group) {
    const int64_t tiles = (packs + (int64_t(1) << group) - 1) >> group;
    return unsigned(tiles < most_y ? tiles : most_y);
}

// most: how many contributions one destination may have.
template <class T, class W, int w, int op, class Source>
int32_t reduce_sorted(const Rows<T> &r, const Source &source, int64_t most) {
    Sort<W> sort(r.n, bits_of_keys(uint64_t(r.n_dest) + 1));
    const int64_t windows = most > chain_length ? (r.n - 1) / chain_length : 0;
    Scratch partial(size_t(windows * r.packs * w) * sizeof(T));
    if (!sort || !partial) return DK_NO_MEMORY;
    if (int32_t status = sort(source)) return status;
    const Sorted<W> sorted{sort.keys(), sort.positions(), r.n};
    const int64_t units = windows + r.n;
    if (((units << r.group) + reduce_threads - 1) / reduce_threads > 0x7fffffff) return DK_BAD_ARGUMENT;
    dim3 grid = blocks_for(units << r.group, reduce_threads);
    grid.y = tiles_of(r.packs, r.group);
    int32_t status = launch<reduce_chains<T, W, w, op>>(grid, reduce_threads, r, sorted, partial.as<T>(), windows, units);
    if (status || !windows) return status;
    grid.x = blocks_for(windows << r.group, reduce_threads).x;
    return launch<fold_chains<T, W, w, op>>(grid, reduce_threads, r, sorted, partial.as<T>(), windows);
}

template <class T, int w, int op>
int32_t reduce_rows(const Rows<T> &r, const int64_t *index, int64_t skip) {
    if (r.n <= chain_length) {
        constexpr int warps = reduce_threads / 32;
        return launch<reduce_few<T, w, op>>(dim3(unsigned((r.n + warps - 1) / warps), tiles_of(r.packs, 5)), reduce_threads, r,
                                            index, skip, fault_word());
    }
    if (uint64_t(r.n_dest) < 0xfffffffeu && uint64_t(r.n) < 0xffffffffu)
        return reduce_sorted<T, uint32_t, w, op>(r, IndexKeys<uint32_t>{index, r.n_dest, skip, fault_word()}, r.n);
    return reduce_sorted<T, uint64_t, w, op>(r, IndexKeys<uint64_t>{index, r.n_dest, skip, fault_word()}, r.n);
}

// Threads of one place or window: as many as there are packs, at most a warp.
inline int group_of(int64_t packs) {
    int group = 0;
    while (group < 5 && int64_t(1) << group < packs) ++group;
    return group;
}

template <class T>
int32_t index_reduce(T *out, const int64_t *index, const T *source, int64_t outer, int64_t n_dest, int64_t n, int64_t width,
                     int32_t op, double alpha, bool by_count, int64_t skip) {
    if (op < sum || op > minimum) return DK_BAD_ARGUMENT;
    if (outer <= 0 || n <= 0 || width <= 0) return DK_OK;
    constexpr int w = 16 / sizeof(T);
    const bool packed = op == sum && width % w == 0 && (uint64_t(out) | uint64_t(source)) % 16 == 0;
    const int64_t packs = outer * width / (packed ? w : 1);
    const Rows<T> r{out, source, n_dest, n, width, packs, group_of(packs), by_count && op == sum, T(alpha)};
    return status_after(op == product   ? reduce_rows<T, 1, product>(r, index, skip)
                        : op == maximum ? reduce_rows<T, 1, maximum>(r, index, skip)
                        : op == minimum ? reduce_rows<T, 1, minimum>(r, index, skip)
                        : packed        ? reduce_rows<T, w, sum>(r, index, skip)
                                        : reduce_rows<T, 1, sum>(r, index, skip));
}

template <class T, int op>
int32_t scatter_reduce(T *out, const int64_t *index, const T *source, int64_t outer, int64_t n_dest, int64_t n,
                       int64_t inner) {
    const int64_t columns = outer * inner, all = columns * n_dest;
    if (n <= 32 || (n <= chain_length && columns >= 32768)) {
        if ((columns + reduce_threads - 1) / reduce_threads > 0x7fffffff) return DK_BAD_ARGUMENT;
        return launch<scatter_columns<T, op>>(blocks_for(columns, reduce_threads), reduce_threads, out, index, source, columns,
                                              n_dest, n, inner, fault_word());
    }
    const Rows<T> r{out, source, all, columns * n, 1, 1, 0, 0, T(1)};
    if (uint64_t(all) < 0xffffffffu && uint64_t(r.n) < 0xffffffffu)
        return reduce_sorted<T, uint32_t, 1, op>(r, ScatterKeys<uint32_t>{index, n_dest, n, inner, all, fault_word()}, n);
    return reduce_sorted<T, uint64_t, 1, op>(r, ScatterKeys<uint64_t>{index, n_dest, n, inner, all, fault_word()}, n);
}

template <class T>
int32_t scatter_reduce(T *out, const int64_t *index, const T *source, int64_t outer, int64_t n_dest, int64_t n,
                       int64_t inner, int32_t op) {
    if (op < sum || op > minimum) return DK_BAD_ARGUMENT;
    if (outer <= 0 || n <= 0 || inner <= 0) return DK_OK;
    auto reduce = op == sum       ? scatter_reduce<T, sum>
                  : op == product ? scatter_reduce<T, product>
                  : op == maximum ? scatter_reduce<T, maximum>
                                  : scatter_reduce<T, minimum>;
    return status_after(reduce(out, index, source, outer, n_dest, n, inner));
}

}  // namespace
}  // namespace dk

extern "C" {

int32_t dk_index_reduce_f32(float *out, const int64_t *index, const float *source, int64_t outer, int64_t n_dest, int64_t n,
                            int64_t width, int32_t op, double alpha, int32_t by_count, int64_t skip) {
    return dk::index_reduce(out, index, source, outer, n_dest, n, width, op, alpha, by_count != 0, skip);
}
int32_t dk_index_reduce_f64(double *out, const int64_t *index, const double *source, int64_t outer, int64_t n_dest,
                            int64_t n, int64_t width, int32_t op, double alpha, int32_t by_count, int64_t skip) {
    return dk::index_reduce(out, index, source, outer, n_dest, n, width, op, alpha, by_count != 0, skip);
}
int32_t dk_scatter_reduce_f32(float *out, const int64_t *index, const float *source, int64_t outer, int64_t n_dest,
                              int64_t n, int64_t inner, int32_t op) {
    return dk::scatter_reduce(out, index, source, outer, n_dest, n, inner, op);
}
int32_t dk_scatter_reduce_f64(double *out, const int64_t *index, const double *source, int64_t outer, int64_t n_dest,
                              int64_t n, int64_t inner, int32_t op) {
    return dk::scatter_reduce(out, index, source, outer, n_dest, n, inner, op);
}

}
#endif
