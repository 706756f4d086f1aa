// Selection by (value, index), a total order: the first k of a row and its k-th (native/indexing.h).
//
// Values become unsigned keys in the order of the values. A row of at most 32: each lane of a warp counts who comes before it.
// Longer: a block narrows the bytes of key and index, the highest first, to those of the k-th; whoever comes before it is
// gathered, in any order, and sorted, by which no two are equal. More than sort_most of a long row: all rows are sorted.
#include "device.h"

#include "sort.h"

namespace dk {

template <class T> struct key_type;
template <> struct key_type<float> { using type = uint32_t; };
template <> struct key_type<double> { using type = uint64_t; };
template <class T> using key_t = typename key_type<T>::type;

// Unsigned numbers in the order of the values: -0 as +0, NaN above all; `flip`: in the opposite order.
template <class T> DK_INLINE key_t<T> key_of(T x, bool flip) {
    using U = key_t<T>;
    const U sign = U(1) << (8 * sizeof(T) - 1), bits = U(bits_of(x + T(0)));
    const U key = x != x ? ~U(0) : bits & sign ? ~bits : bits | sign;
    return flip ? ~key : key;
}

template <class T> struct RowsOf {
    T *values;
    int64_t *indices;
    const T *x;
    int64_t rows, n, k;
    int32_t largest, nan;
};
template <class T> DK_INLINE void put(const RowsOf<T> &r, int64_t to, const T *row, int64_t at) {
    r.values[to] = row[at], r.indices[to] = at;
}

// The number wanted of a row of which `nans` are NaN, the first of them at first_nan; -1 - i for element i itself.
template <class T> DK_INLINE int64_t wanted_of(const RowsOf<T> &r, int64_t nans, int64_t first_nan) {
    if (!r.nan) return r.k;
    const int64_t held = r.n - nans;
    if ((r.nan == 1 && nans) || !held) return -1 - first_nan;
    return r.k < 0 ? (held - 1) / 2 : r.k;
}

constexpr int short_rows_per_block = 8;

// Rows of at most 32, a warp for each; kth: the k-th alone, else the first k.
template <class T, bool kth> __global__ void __launch_bounds__(32 * short_rows_per_block) select_short(const RowsOf<T> r) {
    const int64_t number = int64_t(blockIdx.x) * short_rows_per_block + threadIdx.x / 32;
    if (number >= r.rows) return;
    const int t = int(threadIdx.x) % 32, n = int(r.n);
    const T *row = r.x + number * n, mine = row[t < n ? t : 0];
    const key_t<T> key = key_of(mine, r.largest);
    int rank = 0;
    for (int j = 0; j < n; ++j) {
        const key_t<T> other = __shfl_sync(all_lanes, key, j);
        rank += other < key || (other == key && j < t);
    }
    const unsigned nans = __ballot_sync(all_lanes, t < n && mine != mine);
    if (t >= n) return;
    if (!kth) {
        if (rank < r.k) put(r, number * r.k + rank, row, t);
        return;
    }
    const int64_t wanted = wanted_of(r, __popc(nans), __ffs(int(nans)) - 1);
    if (wanted < 0 ? t == -1 - wanted : rank == wanted) put(r, number, row, t);
}

// What is known of the key and the index of the k-th: the bits of the masks.
template <class U> struct Prefix {
    U key = 0, key_mask = 0;
    uint32_t index = 0, index_mask = 0;
    DK_INLINE bool fits(U k, uint32_t i) const { return (k & key_mask) == key && (i & index_mask) == index; }
    DK_INLINE bool reaches(U k, uint32_t i) const {
        return (k & key_mask) < key || ((k & key_mask) == key && (i & index_mask) <= index);
    }
};

// The byte that holds number `wanted` of those counted, by one warp: its value, the number in it, and how many it holds.
DK_INLINE void find_byte(const uint32_t *counts, uint32_t wanted, uint32_t *found) {
    constexpr int each = digits_most / 32;
    const int t = int(threadIdx.x);
    uint32_t sum = 0;
    for (int j = 0; j < each; ++j) sum += counts[t * each + j];
    uint32_t below = warp_inclusive(sum) - sum;
    if (wanted < below || wanted >= below + sum) return;
    for (int j = 0; j < each; ++j) {
        const uint32_t count = counts[t * each + j];
        if (wanted < below + count) {
            found[0] = uint32_t(t * each + j), found[1] = wanted - below, found[2] = count;
            return;
        }
        below += count;
    }
}

// use(x, i, inside) for the numbers of a row by a block, all of whose threads call each time; four are loaded at a time.
template <class T, class Use> DK_INLINE void over_row(const T *row, int64_t n, const Use &use) {
    constexpr int ahead = 4;
    for (int64_t from = threadIdx.x; from - threadIdx.x < n; from += ahead * int64_t(blockDim.x)) {
        T x[ahead];
        DK_UNROLL for (int a = 0; a < ahead; ++a) {
            const int64_t i = from + a * int64_t(blockDim.x);
            x[a] = row[i < n ? i : 0];
        }
        DK_UNROLL for (int a = 0; a < ahead; ++a) {
            const int64_t i = from + a * int64_t(blockDim.x);
            use(x[a], uint32_t(i), i < n);
        }
    }
}

// Number `wanted` of a row, by a block; `through`: what reaches it suffices, else it alone is to fit.
template <class T> DK_INLINE Prefix<key_t<T>> narrow(const T *row, int64_t n, uint32_t wanted, bool flip, bool through) {
    __shared__ uint32_t counts[digits_most], found[3];
    Prefix<key_t<T>> known;
    int index_bytes = 1;
    while (index_bytes < 4 && (n - 1) >> (8 * index_bytes)) ++index_bytes;
    for (int pass = 0; pass < int(sizeof(T)) + index_bytes; ++pass) {
        const bool of_key = pass < int(sizeof(T));
        const int shift = 8 * (of_key ? int(sizeof(T)) - 1 - pass : int(sizeof(T)) + index_bytes - 1 - pass);
        for (int d = int(threadIdx.x); d < digits_most; d += int(blockDim.x)) counts[d] = 0;
        __syncthreads();
        over_row(row, n, [&](T x, uint32_t i, bool inside) {
            const key_t<T> key = key_of(x, flip);
            count_digit(counts, (of_key ? unsigned(key >> shift) : i >> shift) & 255, inside && known.fits(key, i));
        });
        __syncthreads();
        if (threadIdx.x < 32) find_byte(counts, wanted, found);
        __syncthreads();
        wanted = found[1];
        if (of_key)
            known.key |= key_t<T>(found[0]) << shift, known.key_mask |= key_t<T>(255) << shift;
        else
            known.index |= found[0] << shift, known.index_mask |= 255u << shift;
        if (found[2] == (through ? wanted + 1 : 1)) break;
    }
    return known;
}

constexpr int sort_most = 2048;

// The first k <= sort_most of a row, a block for each.
template <class T> __global__ void __launch_bounds__(1024, 1) select_long(const RowsOf<T> r) {
    using U = key_t<T>;
    __shared__ U keys[sort_most];
    __shared__ uint32_t indices[sort_most], held;
    const T *row = r.x + int64_t(blockIdx.x) * r.n;
    const int t = int(threadIdx.x), threads = int(blockDim.x), k = int(r.k);
    int size = 1;
    while (size < k) size *= 2;
    for (int j = t; j < size; j += threads) keys[j] = ~U(0), indices[j] = ~0u;
    if (t == 0) held = 0;
    Prefix<U> known;  // of nothing: all reach it
    if (k < r.n) known = narrow(row, r.n, uint32_t(k - 1), r.largest != 0, true);
    __syncthreads();
    over_row(row, r.n, [&](T x, uint32_t i, bool inside) {
        const U key = key_of(x, r.largest != 0);
        if (!inside || !known.reaches(key, i)) return;
        const uint32_t at = atomicAdd(&held, uint32_t(1));
        keys[at] = key, indices[at] = i;
    });
    for (int run = 2; run <= size; run *= 2)  // bitonic
        for (int apart = run / 2; apart; apart /= 2) {
            __syncthreads();
            for (int p = t; p < size / 2; p += threads) {
                const int a = p / apart * 2 * apart + p % apart, b = a + apart;
                const bool after = keys[a] > keys[b] || (keys[a] == keys[b] && indices[a] > indices[b]);
                if (after != bool(a & run)) {
                    const U key = keys[a];
                    const uint32_t index = indices[a];
                    keys[a] = keys[b], indices[a] = indices[b];
                    keys[b] = key, indices[b] = index;
                }
            }
        }
    __syncthreads();
    for (int j = t; j < k; j += threads) put(r, int64_t(blockIdx.x) * k + j, row, indices[j]);
}

// The k-th of a row, a block for each.
template <class T> __global__ void __launch_bounds__(1024, 1) kth_long(const RowsOf<T> r) {
    __shared__ uint32_t nans, first_nan;
    const int64_t number = int64_t(blockIdx.x);
    const T *row = r.x + number * r.n;
    if (threadIdx.x == 0) nans = 0, first_nan = ~0u;
    __syncthreads();
    if (r.nan)
        over_row(row, r.n, [&](T x, uint32_t i, bool inside) {
            if (inside && x != x) atomicAdd(&nans, uint32_t(1)), atomicMin(&first_nan, i);
        });
    __syncthreads();
    const int64_t wanted = wanted_of(r, nans, first_nan);
    if (wanted < 0) {
        if (threadIdx.x == 0) put(r, number, row, -1 - wanted);
        return;
    }
    const Prefix<key_t<T>> known = narrow(row, r.n, uint32_t(wanted), false, false);
    over_row(row, r.n, [&](T x, uint32_t i, bool inside) {
        if (inside && known.fits(key_of(x, false), i)) put(r, number, row, i);
    });
}

template <class T, class W> struct ValueKeys {
    const T *x;
    int32_t largest;
    DK_INLINE W key(int64_t i) const { return W(key_of(x[i], largest != 0)); }
    DK_INLINE W position(int64_t i) const { return W(i); }
    DK_INLINE void check(W) const {}
};
template <class W> struct RowKeys {
    const W *positions;
    W n;
    DK_INLINE W key(int64_t i) const { return positions[i] / n; }
    DK_INLINE W position(int64_t i) const { return positions[i]; }
    DK_INLINE void check(W) const {}
};

// The first k of each row, from all places sorted by row and value.
template <class T, class W> __global__ void __launch_bounds__(256) take_sorted(const RowsOf<T> r, const W *positions) {
    const int64_t i = int64_t(blockIdx.x) * 256 + threadIdx.x;
    if (i >= r.rows * r.k) return;
    const int64_t number = i / r.k, at = int64_t(positions[number * r.n + i % r.k]);
    r.values[i] = r.x[at], r.indices[i] = at - number * r.n;
}

}  // namespace dk

#if DK_HOST
#include "../native/diva_kernels.h"
#include "launch.h"

namespace dk {
namespace {

constexpr int64_t most_blocks = 0x7fffffff, short_row = 32;

template <class T, class W> int32_t select_sorted(const RowsOf<T> &r) {
    const int64_t all = r.rows * r.n;
    if ((all + 255) / 256 > most_blocks) return DK_BAD_ARGUMENT;
    Sort<W> by_value(all, 8 * sizeof(T)), by_row(r.rows > 1 ? all : 0, bits_of_keys(uint64_t(r.rows - 1)));
    if (!by_value || !by_row) return DK_NO_MEMORY;
    int32_t status = by_value(ValueKeys<T, W>{r.x, r.largest});
    const W *positions = by_value.positions();
    if (!status && r.rows > 1) status = by_row(RowKeys<W>{positions, W(r.n)}), positions = by_row.positions();
    return status ? status : launch<take_sorted<T, W>>(blocks_for(r.rows * r.k, 256), 256, r, positions);
}

template <class T> unsigned threads_for(const RowsOf<T> &r) { return r.n > 4096 ? 1024 : r.n > 512 ? 256 : 128; }

template <class T> int32_t select_rows(const RowsOf<T> &r) {
    if (r.k < 0 || r.k > r.n || r.n >= int64_t(1) << 31) return DK_BAD_ARGUMENT;
    if (r.rows <= 0 || !r.k) return DK_OK;
    if (r.n <= short_row)
        return (r.rows - 1) / short_rows_per_block >= most_blocks
                   ? DK_BAD_ARGUMENT
                   : launch<select_short<T, false>>(blocks_for(r.rows, short_rows_per_block), 32 * short_rows_per_block, r);
    if (r.k <= sort_most) return r.rows > most_blocks ? DK_BAD_ARGUMENT : launch<select_long<T>>(unsigned(r.rows), threads_for(r), r);
    if constexpr (sizeof(T) == 4)
        if (uint64_t(r.rows) * uint64_t(r.n) < 0xffffffffu) return select_sorted<T, uint32_t>(r);
    return select_sorted<T, uint64_t>(r);
}

template <class T> int32_t kth_rows(const RowsOf<T> &r) {
    if (r.n < 1 || r.k >= r.n || (r.nan == 0 && r.k < 0) || r.n >= int64_t(1) << 31) return DK_BAD_ARGUMENT;
    if (r.rows <= 0) return DK_OK;
    if (r.rows > most_blocks) return DK_BAD_ARGUMENT;
    if (r.n <= short_row)
        return launch<select_short<T, true>>(blocks_for(r.rows, short_rows_per_block), 32 * short_rows_per_block, r);
    return launch<kth_long<T>>(unsigned(r.rows), threads_for(r), r);
}

}  // namespace
}  // namespace dk

extern "C" {

int32_t dk_select_f32(float *values, int64_t *indices, const float *x, int64_t rows, int64_t n, int64_t k, int32_t largest) {
    return dk::select_rows(dk::RowsOf<float>{values, indices, x, rows, n, k, largest, 0});
}
int32_t dk_select_f64(double *values, int64_t *indices, const double *x, int64_t rows, int64_t n, int64_t k, int32_t largest) {
    return dk::select_rows(dk::RowsOf<double>{values, indices, x, rows, n, k, largest, 0});
}
int32_t dk_kth_f32(float *values, int64_t *indices, const float *x, int64_t rows, int64_t n, int64_t k, int32_t nan) {
    return dk::kth_rows(dk::RowsOf<float>{values, indices, x, rows, n, k, 0, nan});
}
int32_t dk_kth_f64(double *values, int64_t *indices, const double *x, int64_t rows, int64_t n, int64_t k, int32_t nan) {
    return dk::kth_rows(dk::RowsOf<double>{values, indices, x, rows, n, k, 0, nan});
}
}
#endif
