// Contributions to indexed destinations, in the order of the source; and rows put where an index says.
#include <algorithm>

#include "diva_kernels.h"
#include "pool.h"
#include "vec.h"

namespace dk {
namespace {

constexpr int64_t chunk = 256;
enum Op : int32_t { sum = 0, product = 1, maximum = 2, minimum = 3 };

template <class T, int op> DK_INLINE T apply(T acc, T x) {
    if (op == sum) return acc + x;
    if (op == product) return acc * x;
    if (op == maximum) return acc != acc ? acc : (x > acc || x != x ? x : acc);
    return acc != acc ? acc : (x < acc || x != x ? x : acc);
}
template <class T, int op> DK_INLINE T identity() { return op == product ? T(1) : T(0); }

// dst[j] = apply(dst[j], source[j] * scale)
template <class T, int op, bool scaled> DK_INLINE void apply_row(T *dst, const T *source, T scale, int64_t n) {
    int64_t j = 0;
    if (op == sum || op == product)
        for (; j + lanes<T> <= n; j += lanes<T>) {
            vec<T> x = scaled ? load(source + j) * set(scale) : load(source + j);
            vec<T> acc = load(dst + j);
            store(dst + j, op == sum ? acc + x : acc * x);
        }
    for (; j < n; ++j) dst[j] = apply<T, op>(dst[j], scaled ? source[j] * scale : source[j]);
}

inline bool outside(const int64_t *index, int64_t n, int64_t n_dest) {
    uint64_t bad = 0;
    for (int64_t i = 0; i < n; ++i) bad |= uint64_t(index[i]) >= uint64_t(n_dest);
    return bad != 0;
}

template <class T> struct Rows {
    T *out;
    const int64_t *index;
    const T *source;
    int64_t outer, n_dest, n, width, skip;
    T alpha;
    bool by_count;
    const int32_t *count;  // of each destination; null when nothing asks for it
    const int32_t *rank;   // of each contribution, null when no destination is hot
    const int32_t *slot;   // of each hot destination
    int64_t hot;
};

template <class T, int op, bool scaled> int32_t reduce_columns(const Rows<T> &r, int64_t o, int64_t from, int64_t to) {
    const int64_t n = to - from;
    T *partial = nullptr;
    if (r.hot && !(partial = static_cast<T *>(scratch(0, size_t(r.hot * n) * sizeof(T))))) return DK_NO_MEMORY;
    T *out = r.out + o * r.n_dest * r.width + from;
    const T *source = r.source + o * r.n * r.width + from;
    for (int64_t i = 0; i < r.n; ++i, source += r.width) {
        const int64_t d = r.index[i];
        if (d == r.skip) continue;
        const T scale = r.by_count ? T(1) / T(r.count[d]) : r.alpha;
        if (!r.rank || r.rank[i] < chunk) {
            apply_row<T, op, scaled>(out + d * r.width, source, scale, n);
            continue;
        }
        T *mine = partial + r.slot[d] * n;
        if (r.rank[i] % chunk == 0) {
            if (r.rank[i] > chunk) apply_row<T, op, false>(out + d * r.width, mine, T(1), n);
            std::fill(mine, mine + n, identity<T, op>());
        }
        apply_row<T, op, scaled>(mine, source, scale, n);
    }
    for (int64_t d = 0; r.hot && d < r.n_dest; ++d)
        if (r.count[d] > chunk) apply_row<T, op, false>(out + d * r.width, partial + r.slot[d] * n, T(1), n);
    return DK_OK;
}

// Columns of one task: as many tasks as threads, each a multiple of a cache line; which column is whose changes no bit.
inline int64_t columns_of_task(int64_t work, int64_t tasks, int64_t width, int64_t line) {
    const int64_t threads = thread_count();
    if (work < 65536 || tasks >= threads) return std::max<int64_t>(1, width);
    const int64_t share = (width + threads - 1) / threads;
    return std::max(line, (share + line - 1) / line * line);
}

template <class T>
int32_t scatter_reduce(T *out, const int64_t *index, const T *source, int64_t outer, int64_t n_dest, int64_t n,
                       int64_t inner, int32_t op);

template <class T>
int32_t index_reduce(T *out, const int64_t *index, const T *source, int64_t outer, int64_t n_dest, int64_t n, int64_t width,
                     int32_t op, double alpha, bool by_count, int64_t skip) {
    if (op < sum || op > minimum) return DK_BAD_ARGUMENT;
    FloatingPoint control;
    if (width == 1 && outer == 1 && alpha == 1 && !by_count && skip < 0)
        return scatter_reduce(out, index, source, 1, n_dest, n, 1, op);
    if (outside(index, n, n_dest)) return DK_BAD_ARGUMENT;
    Rows<T> r{out, index, source, outer, n_dest, n, width, skip, T(alpha), by_count, nullptr, nullptr, nullptr, 0};
    const bool chunked = (op == sum || op == product) && n > chunk;
    if (by_count || chunked) {
        int32_t *count = static_cast<int32_t *>(scratch(7, size_t(2 * n_dest + n + 1) * sizeof(int32_t)));
        if (!count) return DK_NO_MEMORY;
        int32_t *slot = count + n_dest, *rank = slot + n_dest, most = 0;
        std::fill(count, count + n_dest, 0);
        for (int64_t i = 0; i < n; ++i)
            if (index[i] != skip) rank[i] = count[index[i]]++, most = std::max(most, rank[i] + 1);
        r.count = count;
        if (chunked && most > chunk) {
            r.rank = rank, r.slot = slot;
            for (int64_t d = 0; d < n_dest; ++d)
                if (count[d] > chunk) slot[d] = int32_t(r.hot++);
        }
    }
    const int64_t columns = columns_of_task(outer * n * width, outer, width, 64 / sizeof(T));
    const int64_t pieces = (width + columns - 1) / columns;
    const bool scaled = by_count || r.alpha != T(1);
    int32_t status = DK_OK;
    const int64_t grain = std::max<int64_t>(1, 32768 / std::max<int64_t>(1, n * columns));
    parallel(outer * pieces, grain, [&](int64_t begin, int64_t end) {
        for (int64_t t = begin; t < end; ++t) {
            const int64_t o = t / pieces, from = t % pieces * columns, to = std::min(width, from + columns);
            const int32_t s = op == product   ? reduce_columns<T, product, false>(r, o, from, to)
                              : op == maximum ? reduce_columns<T, maximum, false>(r, o, from, to)
                              : op == minimum ? reduce_columns<T, minimum, false>(r, o, from, to)
                              : scaled        ? reduce_columns<T, sum, true>(r, o, from, to)
                                              : reduce_columns<T, sum, false>(r, o, from, to);
            if (s != DK_OK) __atomic_store_n(&status, s, __ATOMIC_RELAXED);
        }
    });
    return status;
}

// One column with more contributions than destinations: each destination's chain and count side by side.
template <class T, int op> int32_t scatter_dense(T *out, const int64_t *index, const T *source, int64_t n_dest, int64_t n) {
    struct State {
        T chain;
        bits_t<T> count;
    };
    State *state = static_cast<State *>(scratch(0, size_t(n_dest) * sizeof(State)));
    if (!state) return DK_NO_MEMORY;
    for (int64_t d = 0; d < n_dest; ++d) state[d] = {out[d], 0};
    for (int64_t i = 0; i < n; ++i) {
        State &s = state[index[i]];
        s.chain = apply<T, op>(s.chain, source[i]);
        if (++s.count % chunk) continue;
        T &total = out[index[i]];
        total = s.count == chunk ? s.chain : apply<T, op>(total, s.chain);
        s.chain = identity<T, op>();
    }
    for (int64_t d = 0; d < n_dest; ++d) {
        if (state[d].count < chunk)
            out[d] = state[d].chain;
        else if (state[d].count % chunk)
            out[d] = apply<T, op>(out[d], state[d].chain);
    }
    return DK_OK;
}

// Columns [from, to) of one outer slice.
template <class T, int op>
int32_t scatter_columns(T *out, const int64_t *index, const T *source, int64_t n_dest, int64_t n, int64_t inner, int64_t from,
                        int64_t to) {
    const int64_t width = to - from;
    if ((op != sum && op != product) || n <= chunk) {
        for (int64_t i = 0; i < n; ++i)
            for (int64_t k = from; k < to; ++k) {
                T &acc = out[index[i * inner + k] * inner + k];
                acc = apply<T, op>(acc, source[i * inner + k]);
            }
        return DK_OK;
    }
    int32_t *count = static_cast<int32_t *>(scratch(0, size_t(n_dest * width) * sizeof(int32_t)));
    T *partial = static_cast<T *>(scratch(1, size_t(n_dest * width) * sizeof(T)));
    if (!count || !partial) return DK_NO_MEMORY;
    std::fill(count, count + n_dest * width, 0);
    int32_t most = 0;
    for (int64_t i = 0; i < n; ++i)
        for (int64_t k = from; k < to; ++k) {
            const int64_t d = index[i * inner + k], at = d * width + k - from;
            const int32_t rank = count[at]++;
            const T x = source[i * inner + k];
            T &acc = out[d * inner + k];
            if (rank < chunk) {
                acc = apply<T, op>(acc, x);
                continue;
            }
            most = std::max(most, rank);
            if (rank % chunk == 0) {
                if (rank > chunk) acc = apply<T, op>(acc, partial[at]);
                partial[at] = identity<T, op>();
            }
            partial[at] = apply<T, op>(partial[at], x);
        }
    if (most)
        for (int64_t d = 0; d < n_dest; ++d)
            for (int64_t k = 0; k < width; ++k)
                if (count[d * width + k] > chunk) {
                    T &acc = out[d * inner + from + k];
                    acc = apply<T, op>(acc, partial[d * width + k]);
                }
    return DK_OK;
}

template <class T>
int32_t scatter_reduce(T *out, const int64_t *index, const T *source, int64_t outer, int64_t n_dest, int64_t n,
                       int64_t inner, int32_t op) {
    if (op < sum || op > minimum) return DK_BAD_ARGUMENT;
    FloatingPoint control;
    if (outside(index, outer * n * inner, n_dest)) return DK_BAD_ARGUMENT;
    const int64_t columns = columns_of_task(outer * n * inner, outer, inner, 64 / sizeof(T));
    const int64_t pieces = (inner + columns - 1) / columns;
    const int64_t grain = std::max<int64_t>(1, 16384 / std::max<int64_t>(1, n * columns));
    int32_t status = DK_OK;
    parallel(outer * pieces, grain, [&](int64_t begin, int64_t end) {
        for (int64_t t = begin; t < end; ++t) {
            const int64_t o = t / pieces, from = t % pieces * columns, to = std::min(inner, from + columns);
            T *y = out + o * n_dest * inner;
            const T *x = source + o * n * inner;
            const int64_t *d = index + o * n * inner;
            if (inner == 1 && n > n_dest && (op == sum || op == product)) {
                const int32_t s =
                    op == sum ? scatter_dense<T, sum>(y, d, x, n_dest, n) : scatter_dense<T, product>(y, d, x, n_dest, n);
                if (s != DK_OK) __atomic_store_n(&status, s, __ATOMIC_RELAXED);
                continue;
            }
            const int32_t s = op == sum       ? scatter_columns<T, sum>(y, d, x, n_dest, n, inner, from, to)
                              : op == product ? scatter_columns<T, product>(y, d, x, n_dest, n, inner, from, to)
                              : op == maximum ? scatter_columns<T, maximum>(y, d, x, n_dest, n, inner, from, to)
                                              : scatter_columns<T, minimum>(y, d, x, n_dest, n, inner, from, to);
            if (s != DK_OK) __atomic_store_n(&status, s, __ATOMIC_RELAXED);
        }
    });
    return status;
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

int32_t dk_put_rows(void *out, const int64_t *index, const void *source, int64_t outer, int64_t n_dest, int64_t n,
                    int64_t row_bytes) {
    if (dk::outside(index, n, n_dest)) return DK_BAD_ARGUMENT;
    const int64_t columns = dk::columns_of_task(outer * n * row_bytes / 4, outer, row_bytes, 64);
    const int64_t pieces = (row_bytes + columns - 1) / columns;
    const int64_t grain = std::max<int64_t>(1, 131072 / std::max<int64_t>(1, n * columns));
    dk::parallel(outer * pieces, grain, [&](int64_t begin, int64_t end) {
        for (int64_t t = begin; t < end; ++t) {
            const int64_t o = t / pieces, from = t % pieces * columns, size = std::min(columns, row_bytes - from);
            char *y = static_cast<char *>(out) + o * n_dest * row_bytes + from;
            const char *x = static_cast<const char *>(source) + o * n * row_bytes + from;
            if (size == 4)
                for (int64_t i = 0; i < n; ++i) std::memcpy(y + index[i] * row_bytes, x + i * row_bytes, 4);
            else if (size == 8)
                for (int64_t i = 0; i < n; ++i) std::memcpy(y + index[i] * row_bytes, x + i * row_bytes, 8);
            else
                for (int64_t i = 0; i < n; ++i) std::memcpy(y + index[i] * row_bytes, x + i * row_bytes, size_t(size));
        }
    });
    return DK_OK;
}

int32_t dk_fold_index(int64_t *linear, const int64_t *index, int64_t n, int64_t size) {
    for (int64_t i = 0; i < n; ++i) {
        const int64_t p = index[i] < 0 ? index[i] + size : index[i];
        if (uint64_t(p) >= uint64_t(size)) return DK_BAD_ARGUMENT;
        linear[i] = linear[i] * size + p;
    }
    return DK_OK;
}
}
