// Bags of embeddings, and windows folded back (native/indexing.h).
#include "device.h"

namespace dk {

constexpr int bag_threads = 256, bag_chain = 256;

// A bag is taken by 2^group threads, each of which takes some of its columns.
template <class T> struct Bags {
    T *out;
    int64_t *size, *most;
    const T *weight;
    const int64_t *index, *offset;
    const T *per_sample;
    int64_t bags, n_dest, width, padding;
    int32_t group, mean;
    int32_t *fault;
};

// The row that an index stands for, or -1 where nothing is to be taken.
template <class T> DK_INLINE int64_t row_of(const Bags<T> &b, int64_t row) {
    if (uint64_t(row) < uint64_t(b.n_dest)) return row == b.padding ? -1 : row;
    *b.fault = 1;
    return -1;
}

struct Bag {
    int64_t number, first, last;
    int lane;
};
template <class T> DK_INLINE Bag bag_of_this_thread(const Bags<T> &b) {
    const int64_t thread = int64_t(blockIdx.x) * bag_threads + threadIdx.x, number = thread >> b.group;
    if (number >= b.bags) return {-1, 0, 0, 0};
    const int64_t first = b.offset[number], last = b.offset[number + 1];
    if (first > last) *b.fault = 1;
    return {number, first, last, int(threadIdx.x) & ((1 << b.group) - 1)};
}

// One column of one bag; four rows are loaded at a time. `held` gets the number taken.
template <class T, bool weighted> DK_INLINE T bag_sum(const Bags<T> &b, const Bag &bag, int64_t c, int64_t &held) {
    constexpr int ahead = 4;
    T total = 0, acc = 0;
    held = 0;
    for (int64_t i = bag.first; i < bag.last; i += ahead) {
        int64_t row[ahead];
        T x[ahead], scale[ahead];
        DK_UNROLL for (int a = 0; a < ahead; ++a) row[a] = b.index[i + a < bag.last ? i + a : i];
        DK_UNROLL for (int a = 0; a < ahead; ++a) row[a] = i + a < bag.last ? row_of(b, row[a]) : -1;
        DK_UNROLL for (int a = 0; a < ahead; ++a) {
            x[a] = row[a] >= 0 && c < b.width ? b.weight[row[a] * b.width + c] : T(0);
            scale[a] = weighted && row[a] >= 0 ? b.per_sample[i + a] : T(1);
        }
        DK_UNROLL for (int a = 0; a < ahead; ++a) {
            if (row[a] < 0) continue;
            acc = weighted ? fma(scale[a], x[a], acc) : acc + x[a];
            if (++held % bag_chain == 0) total = total + acc, acc = 0;
        }
    }
    return total + acc;
}

template <class T, bool weighted> __global__ void __launch_bounds__(bag_threads, 4) bag_sums(const Bags<T> b) {
    const Bag bag = bag_of_this_thread(b);
    if (bag.number < 0) return;
    int64_t c = (int64_t(blockIdx.y) << b.group) + bag.lane;
    do {
        int64_t held;
        const T sum = bag_sum<T, weighted>(b, bag, c, held);
        if (c < b.width) b.out[bag.number * b.width + c] = b.mean && held ? sum / T(held) : sum;
        if (c == 0) b.size[bag.number] = held;
        c += int64_t(gridDim.y) << b.group;
    } while (c < b.width);
}

template <class T> __global__ void __launch_bounds__(bag_threads, 4) bag_maxima(const Bags<T> b) {
    const Bag bag = bag_of_this_thread(b);
    if (bag.number < 0) return;
    int64_t c = (int64_t(blockIdx.y) << b.group) + bag.lane;
    do {
        T best = 0;
        int64_t at = -1, held = 0;
        for (int64_t i = bag.first; i < bag.last; ++i) {
            const int64_t row = row_of(b, b.index[i]);
            if (row < 0) continue;
            ++held;
            const T x = c < b.width ? b.weight[row * b.width + c] : T(0);
            if (at < 0 || x > best) best = x, at = row;
        }
        if (c < b.width) b.out[bag.number * b.width + c] = best, b.most[bag.number * b.width + c] = at;
        if (c == 0) b.size[bag.number] = held;
        c += int64_t(gridDim.y) << b.group;
    } while (c < b.width);
}

// Heights and widths, in this order.
struct Folding {
    int32_t size[2], kernel[2], dilation[2], padding[2], stride[2], windows[2];
};

// The window whose tap at `reach` is this one, or -1.
DK_INLINE int window_at(int place, int reach, int stride, int windows) {
    const int from = place - reach;
    if (from < 0) return -1;
    const int window = stride == 1 ? from : from / stride;
    return window * stride == from && window < windows ? window : -1;
}

// A thread for each pixel, which adds the taps that reach it.
template <class T>
__global__ void __launch_bounds__(bag_threads) fold_pixels(T *out, const T *x, int64_t pixels, const Folding f) {
    const int64_t pixel = int64_t(blockIdx.x) * bag_threads + threadIdx.x;
    if (pixel >= pixels) return;
    const int64_t line = pixel / f.size[1], plane = line / f.size[0], area = int64_t(f.windows[0]) * f.windows[1];
    const int py = int(line - plane * f.size[0]) + f.padding[0], px = int(pixel - line * f.size[1]) + f.padding[1];
    const T *source = x + plane * f.kernel[0] * f.kernel[1] * area;
    T acc = 0;
    for (int ky = 0; ky < f.kernel[0]; ++ky, source += f.kernel[1] * area) {
        const int wy = window_at(py, ky * f.dilation[0], f.stride[0], f.windows[0]);
        if (wy < 0) continue;
        for (int kx = 0; kx < f.kernel[1]; ++kx) {
            const int wx = window_at(px, kx * f.dilation[1], f.stride[1], f.windows[1]);
            if (wx >= 0) acc = acc + source[kx * area + int64_t(wy) * f.windows[1] + wx];
        }
    }
    out[pixel] = acc;
}

}  // namespace dk

#if DK_HOST
#include "../native/diva_kernels.h"
#include "launch.h"

namespace dk {
namespace {

constexpr int64_t most_blocks = 0x7fffffff;

template <class T> int32_t embedding_bag(Bags<T> b, int32_t mode) {
    if (mode < 0 || mode > 2 || (mode == 2 && !b.most)) return DK_BAD_ARGUMENT;
    if (b.bags <= 0) return DK_OK;
    while (b.group < 5 && int64_t(1) << b.group < b.width) ++b.group;
    b.mean = mode == 1, b.fault = fault_word();
    const int64_t blocks = ((b.bags << b.group) + bag_threads - 1) / bag_threads, tiles = (b.width + 31) / 32;
    if (blocks > most_blocks) return DK_BAD_ARGUMENT;
    const dim3 grid(unsigned(blocks), unsigned(tiles < 1 ? 1 : tiles < 65535 ? tiles : 65535));
    return status_after(mode == 2      ? launch<bag_maxima<T>>(grid, bag_threads, b)
                        : b.per_sample ? launch<bag_sums<T, true>>(grid, bag_threads, b)
                                       : launch<bag_sums<T, false>>(grid, bag_threads, b));
}

template <class T>
int32_t fold_windows(T *out, const T *x, int64_t planes, int64_t height, int64_t width, const int64_t *kernel,
                     const int64_t *dilation, const int64_t *padding, const int64_t *stride, const int64_t *windows) {
    const int64_t size[2] = {height, width}, pixels = planes * height * width;
    Folding f;
    for (int d = 0; d < 2; ++d) {
        constexpr int64_t limit = int64_t(1) << 30;  // of every coordinate
        if (size[d] + padding[d] >= limit || kernel[d] * dilation[d] >= limit || windows[d] * stride[d] >= limit)
            return DK_BAD_ARGUMENT;
        f.size[d] = int32_t(size[d]), f.kernel[d] = int32_t(kernel[d]), f.dilation[d] = int32_t(dilation[d]);
        f.padding[d] = int32_t(padding[d]), f.stride[d] = int32_t(stride[d]), f.windows[d] = int32_t(windows[d]);
    }
    if ((pixels + bag_threads - 1) / bag_threads > most_blocks) return DK_BAD_ARGUMENT;
    return launch<fold_pixels<T>>(blocks_for(pixels, bag_threads), bag_threads, out, x, pixels, f);
}

}  // namespace
}  // namespace dk

extern "C" {

int32_t dk_embedding_bag_f32(float *out, int64_t *size, int64_t *most, const float *weight, const int64_t *index,
                             const int64_t *offset, const float *per_sample, int64_t bags, int64_t n_dest, int64_t width,
                             int32_t mode, int64_t padding) {
    return dk::embedding_bag(dk::Bags<float>{out, size, most, weight, index, offset, per_sample, bags, n_dest, width, padding, 0, 0,
                                             nullptr}, mode);
}
int32_t dk_embedding_bag_f64(double *out, int64_t *size, int64_t *most, const double *weight, const int64_t *index,
                             const int64_t *offset, const double *per_sample, int64_t bags, int64_t n_dest, int64_t width,
                             int32_t mode, int64_t padding) {
    return dk::embedding_bag(dk::Bags<double>{out, size, most, weight, index, offset, per_sample, bags, n_dest, width, padding, 0,
                                              0, nullptr}, mode);
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
#endif
