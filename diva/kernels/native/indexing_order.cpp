// Selection by (value, index), a total order: the first k of a row and its k-th; bags of embeddings; windows folded back.
#include <algorithm>
#include <cstring>
#include <type_traits>

#include "diva_kernels.h"
#include "pool.h"
#include "vec.h"

namespace dk {
namespace {

template <class T> struct Entry {
    std::make_unsigned_t<bits_t<T>> key;
    uint32_t index;
    bool operator<(const Entry &other) const { return key != other.key ? key < other.key : index < other.index; }
};
// For floats key and index fit one word, which is compared at once.
template <> struct Entry<float> {
    uint64_t both;
    bool operator<(const Entry &other) const { return both < other.both; }
};

// Unsigned numbers in the order of the values: -0 as +0, NaN above all.
template <class T> DK_INLINE std::make_unsigned_t<bits_t<T>> key_of(T x) {
    using U = std::make_unsigned_t<bits_t<T>>;
    if (x != x) return ~U(0);
    x = x + T(0);
    U u;
    std::memcpy(&u, &x, sizeof u);
    const U sign = U(1) << (8 * sizeof(T) - 1);
    return u & sign ? ~u : u | sign;
}
DK_INLINE Entry<float> entry(float x, uint32_t i, bool largest) {
    const uint32_t key = key_of(x);
    return {uint64_t(largest ? ~key : key) << 32 | i};
}
DK_INLINE Entry<double> entry(double x, uint32_t i, bool largest) {
    const uint64_t key = key_of(x);
    return {largest ? ~key : key, i};
}
DK_INLINE uint32_t index_of(const Entry<float> &e) { return uint32_t(e.both); }
DK_INLINE uint32_t index_of(const Entry<double> &e) { return e.index; }

template <class T> int32_t select_rows(T *values, int64_t *indices, const T *x, int64_t rows, int64_t n, int64_t k, bool largest) {
    if (k < 0 || k > n || n >= int64_t(1) << 31) return DK_BAD_ARGUMENT;
    int32_t status = DK_OK;
    parallel(rows, std::max<int64_t>(1, 16384 / std::max<int64_t>(1, n)), [&](int64_t begin, int64_t end) {
        Entry<T> *all = static_cast<Entry<T> *>(scratch(0, size_t(n + 1) * sizeof(Entry<T>)));
        if (!all) return __atomic_store_n(&status, int32_t(DK_NO_MEMORY), __ATOMIC_RELAXED);
        for (int64_t r = begin; r < end; ++r) {
            const T *row = x + r * n;
            int64_t held = n;
            if (k * 8 < n) {  // a heap of the k best so far, its worst on top
                held = k;
                for (int64_t i = 0; i < k; ++i) all[i] = entry(row[i], uint32_t(i), largest);
                std::make_heap(all, all + k);
                T worst = k ? row[index_of(all[0])] : T(0);
                for (int64_t i = k; k && i < n; ++i) {
                    // an equal value that comes later never wins
                    if (largest ? row[i] <= worst : row[i] >= worst) continue;
                    const Entry<T> e = entry(row[i], uint32_t(i), largest);
                    if (!(e < all[0])) continue;
                    std::pop_heap(all, all + k);
                    all[k - 1] = e;
                    std::push_heap(all, all + k);
                    worst = row[index_of(all[0])];
                }
            } else {
                for (int64_t i = 0; i < n; ++i) all[i] = entry(row[i], uint32_t(i), largest);
                if (k < n) std::nth_element(all, all + k, all + held);
            }
            std::sort(all, all + k);
            for (int64_t i = 0; i < k; ++i) {
                const uint32_t at = index_of(all[i]);
                values[r * k + i] = row[at], indices[r * k + i] = at;
            }
        }
    });
    return status;
}

template <class T> int32_t kth_rows(T *values, int64_t *indices, const T *x, int64_t rows, int64_t n, int64_t k, int32_t nan) {
    if (n < 1 || k >= n || (nan == 0 && k < 0) || n >= int64_t(1) << 31) return DK_BAD_ARGUMENT;
    int32_t status = DK_OK;
    parallel(rows, std::max<int64_t>(1, 16384 / n), [&](int64_t begin, int64_t end) {
        Entry<T> *all = static_cast<Entry<T> *>(scratch(0, size_t(n) * sizeof(Entry<T>)));
        if (!all) return __atomic_store_n(&status, int32_t(DK_NO_MEMORY), __ATOMIC_RELAXED);
        for (int64_t r = begin; r < end; ++r) {
            const T *row = x + r * n;
            int64_t first_nan = -1, held = 0;
            for (int64_t i = 0; i < n; ++i) {
                if (row[i] != row[i]) {
                    if (first_nan < 0) first_nan = i;
                    if (nan) continue;
                }
                all[held++] = entry(row[i], uint32_t(i), false);
            }
            int64_t at = first_nan;
            if (!((nan == 1 && first_nan >= 0) || held == 0)) {
                const int64_t wanted = k < 0 ? (held - 1) / 2 : k;
                std::nth_element(all, all + wanted, all + held);
                at = index_of(all[wanted]);
            }
            values[r] = row[at], indices[r] = at;
        }
    });
    return status;
}

template <class T, bool weighted> void bag_sum(T *dst, const T *weight, const int64_t *index, const T *per_sample, int64_t first,
                                               int64_t last, int64_t width, int64_t padding) {
    auto block = [&](int64_t j, auto zero, auto read, auto spread) {
        auto total = zero, acc = zero;
        int64_t held = 0;
        for (int64_t i = first; i < last; ++i) {
            if (index[i] == padding) continue;
            auto x = read(weight + index[i] * width + j);
            acc = weighted ? fma(spread(per_sample[i]), x, acc) : acc + x;
            if (++held % 256 == 0) total = total + acc, acc = zero;
        }
        return total + acc;
    };
    int64_t j = 0;
    for (; j + lanes<T> <= width; j += lanes<T>)
        store(dst + j, block(j, vec<T>{}, [](const T *p) { return load(p); }, [](T w) { return set(w); }));
    for (; j < width; ++j) dst[j] = block(j, T(0), [](const T *p) { return *p; }, [](T w) { return w; });
}

template <class T>
int32_t embedding_bag(T *out, int64_t *size, int64_t *most, const T *weight, const int64_t *index, const int64_t *offset,
                      const T *per_sample, int64_t bags, int64_t n_dest, int64_t width, int32_t mode, int64_t padding) {
    FloatingPoint control;
    if (mode < 0 || mode > 2 || (mode == 2 && !most)) return DK_BAD_ARGUMENT;
    for (int64_t b = 0; b < bags; ++b)
        if (offset[b] > offset[b + 1]) return DK_BAD_ARGUMENT;
    for (int64_t i = bags ? offset[0] : 0; bags && i < offset[bags]; ++i)
        if (uint64_t(index[i]) >= uint64_t(n_dest)) return DK_BAD_ARGUMENT;
    const int64_t work = bags ? (offset[bags] - offset[0]) * width / bags : 0;
    parallel(bags, std::max<int64_t>(1, 32768 / std::max<int64_t>(1, work)), [&](int64_t begin, int64_t end) {
        for (int64_t b = begin; b < end; ++b) {
            T *dst = out + b * width;
            const int64_t first = offset[b], last = offset[b + 1];
            int64_t taken = 0;
            for (int64_t i = first; i < last; ++i) taken += index[i] != padding;
            size[b] = taken;
            if (mode == 2) {
                std::fill(dst, dst + width, T(0));
                std::fill(most + b * width, most + (b + 1) * width, int64_t(-1));
                for (int64_t i = first; i < last; ++i) {
                    if (index[i] == padding) continue;
                    const T *row = weight + index[i] * width;
                    for (int64_t j = 0; j < width; ++j)
                        if (most[b * width + j] < 0 || row[j] > dst[j]) dst[j] = row[j], most[b * width + j] = index[i];
                }
                continue;
            }
            if (per_sample)
                bag_sum<T, true>(dst, weight, index, per_sample, first, last, width, padding);
            else
                bag_sum<T, false>(dst, weight, index, per_sample, first, last, width, padding);
            if (mode == 1 && taken)
                for (int64_t j = 0; j < width; ++j) dst[j] = dst[j] / T(taken);
        }
    });
    return DK_OK;
}

template <class T>
int32_t fold_windows(T *out, const T *x, int64_t planes, int64_t height, int64_t width, const int64_t *kernel,
                     const int64_t *dilation, const int64_t *padding, const int64_t *stride, const int64_t *windows) {
    FloatingPoint control;
    const int64_t taps = kernel[0] * kernel[1], area = windows[0] * windows[1];
    parallel(planes, std::max<int64_t>(1, 16384 / std::max<int64_t>(1, taps * area)), [&](int64_t begin, int64_t end) {
        for (int64_t p = begin; p < end; ++p) {
            T *plane = out + p * height * width;
            std::fill(plane, plane + height * width, T(0));
            for (int64_t tap = 0; tap < taps; ++tap) {
                const T *source = x + (p * taps + tap) * area;
                const int64_t dy = tap / kernel[1] * dilation[0] - padding[0], dx = tap % kernel[1] * dilation[1] - padding[1];
                const int64_t s = stride[1];
                int64_t from = 0, to = windows[1];  // windows whose column lies inside
                while (from < to && from * s + dx < 0) ++from;
                while (to > from && (to - 1) * s + dx >= width) --to;
                for (int64_t wy = 0; wy < windows[0]; ++wy) {
                    const int64_t y = wy * stride[0] + dy;
                    if (y < 0 || y >= height) continue;
                    T *row = plane + y * width + dx;
                    const T *from_row = source + wy * windows[1];
                    if (s == 1)
                        for (int64_t wx = from; wx < to; ++wx) row[wx] = row[wx] + from_row[wx];
                    else
                        for (int64_t wx = from; wx < to; ++wx) row[wx * s] = row[wx * s] + from_row[wx];
                }
            }
        }
    });
    return DK_OK;
}

}  // namespace
}  // namespace dk

extern "C" {

int32_t dk_select_f32(float *values, int64_t *indices, const float *x, int64_t rows, int64_t n, int64_t k, int32_t largest) {
    return dk::select_rows(values, indices, x, rows, n, k, largest != 0);
}
int32_t dk_select_f64(double *values, int64_t *indices, const double *x, int64_t rows, int64_t n, int64_t k, int32_t largest) {
    return dk::select_rows(values, indices, x, rows, n, k, largest != 0);
}
int32_t dk_kth_f32(float *values, int64_t *indices, const float *x, int64_t rows, int64_t n, int64_t k, int32_t nan) {
    return dk::kth_rows(values, indices, x, rows, n, k, nan);
}
int32_t dk_kth_f64(double *values, int64_t *indices, const double *x, int64_t rows, int64_t n, int64_t k, int32_t nan) {
    return dk::kth_rows(values, indices, x, rows, n, k, nan);
}
int32_t dk_embedding_bag_f32(float *out, int64_t *size, int64_t *most, const float *weight, const int64_t *index,
                             const int64_t *offset, const float *per_sample, int64_t bags, int64_t n_dest, int64_t width,
                             int32_t mode, int64_t padding) {
    return dk::embedding_bag(out, size, most, weight, index, offset, per_sample, bags, n_dest, width, mode, padding);
}
int32_t dk_embedding_bag_f64(double *out, int64_t *size, int64_t *most, const double *weight, const int64_t *index,
                             const int64_t *offset, const double *per_sample, int64_t bags, int64_t n_dest, int64_t width,
                             int32_t mode, int64_t padding) {
    return dk::embedding_bag(out, size, most, weight, index, offset, per_sample, bags, n_dest, width, mode, padding);
}
int32_t dk_fold_windows_f32(float *out, const float *x, int64_t planes, int64_t height, int64_t width, const int64_t *kernel,
                            const int64_t *dilation, const int64_t *padding, const int64_t *stride, const int64_t *windows) {
    return dk::fold_windows(out, x, planes, height, width, kernel, dilation, padding, stride, windows);
}
int32_t dk_fold_windows_f64(double *out, const double *x, int64_t planes, int64_t height, int64_t width,
                            const int64_t *kernel, const int64_t *dilation, const int64_t *padding, const int64_t *stride,
                            const int64_t *windows) {
    return dk::fold_windows(out, x, planes, height, width, kernel, dilation, padding, stride, windows);
}
}
