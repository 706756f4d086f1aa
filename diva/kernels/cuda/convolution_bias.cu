// The gradient of a convolution's bias: one REDUCE per channel over images and positions.
#include "conv_planes.h"
#include "conv_shape.h"
#include "reduce.h"

namespace dk {

constexpr int bias_warps = 8, bias_parts = 32;  // parts: blocks of 4096 that one block of threads reduces and keeps

struct BiasShape {
    int64_t n, blocks, pixels, image, channel, plane[3], size[3];  // n terms of a channel; strides and sizes of its image
    Divider by_pixels, by_width, by_height;
    int32_t dense;
};

// REDUCE's block b of channel c, by a warp; the sum in every thread.
template <class T> DK_INLINE T bias_block(const T *g, const BiasShape &p, int64_t channel, int64_t b) {
    const int64_t begin = b * reduce_block_length, end = begin + reduce_block_length;
    const T *const from = g + channel * p.channel;
    // The images before the block's first are skipped once, so that 32 bits do for the rest.
    const int64_t before = begin / p.pixels;
    const T *const first = from + before * p.image;
    const int64_t skipped = before * p.pixels;
    return warp_reduce_block<T>(begin, end < p.n ? end : p.n, [=](T acc, int64_t i) {
        const uint32_t at = uint32_t(i - skipped), image = p.by_pixels.of(at), q = at - image * uint32_t(p.pixels);
        int64_t place = image * p.image;
        if (p.dense) {
            place += q;
        } else {
            const uint32_t row = p.by_width.of(q), depth = p.by_height.of(row);
            place += int64_t(q - row * uint32_t(p.size[2])) * p.plane[2] +
                     int64_t(row - depth * uint32_t(p.size[1])) * p.plane[1] + depth * p.plane[0];
        }
        return acc + first[place];
    });
}

// A block of threads for each channel.
template <class T> __global__ void __launch_bounds__(32 * bias_warps) bias_channels(T *db, const T *g, BiasShape p) {
    __shared__ T parts[bias_parts];
    const int warp = int(threadIdx.x) / 32;
    for (int64_t b = warp; b < p.blocks; b += bias_warps) {
        const T sum = bias_block(g, p, blockIdx.x, b);
        if (threadIdx.x % 32 == 0) parts[b] = sum;
    }
    __syncthreads();
    if (warp) return;
    const T total = p.blocks > 1 ? warp_sum(parts, p.blocks) : p.blocks ? parts[0] : T(0);
    if (threadIdx.x == 0) db[blockIdx.x] = total;
}

// A warp for each block of 4096 of each channel: parts[channel][block].
template <class T>
__global__ void __launch_bounds__(32 * bias_warps) bias_blocks(T *parts, const T *g, BiasShape p, int64_t channels) {
    const int64_t item = int64_t(blockIdx.x) * bias_warps + threadIdx.x / 32;
    if (item >= channels * p.blocks) return;
    const T sum = bias_block(g, p, item / p.blocks, item % p.blocks);
    if (threadIdx.x % 32 == 0) parts[item] = sum;
}

template <class T> __global__ void __launch_bounds__(32) bias_totals(T *db, const T *parts, int64_t blocks) {
    const T total = warp_sum(parts + blockIdx.x * blocks, blocks);
    if (threadIdx.x == 0) db[blockIdx.x] = total;
}

}  // namespace dk

#if DK_HOST

namespace dk {
namespace {

template <class T> int32_t bias(const T *g, T *db, const int64_t *geometry, bool output) {
    const Geometry all(geometry);
    const int64_t channels = output ? all.out_channels : all.in_channels;
    const int64_t *size = output ? all.out : all.in;
    int64_t stride[5];
    for (int a = 0; a < 5; ++a) stride[a] = (output ? all.y : all.x)[a];
    BiasShape p{};
    p.pixels = size[0] * size[1] * size[2], p.n = all.batch * p.pixels, p.blocks = up(p.n, reduce_block_length);
    if (p.pixels > most_positions - reduce_block_length) return DK_BAD_ARGUMENT;
    const Planes<T> planes(g, stride, all.batch, channels, size, double(p.n) * double(channels) >= worth_planes);
    if (planes.status) return planes.status;
    g = planes.data();
    p.image = stride[0], p.channel = stride[1];
    for (int a = 0; a < 3; ++a) p.plane[a] = stride[2 + a], p.size[a] = size[a];
    p.dense = stride[4] == 1 && (stride[3] == size[2] || size[1] == 1) && (stride[2] == size[1] * size[2] || size[0] == 1);
    p.by_pixels = divider(p.pixels), p.by_width = divider(size[2]), p.by_height = divider(size[1]);
    if (p.blocks <= bias_parts) return launch<bias_channels<T>>(dim3(unsigned(channels)), 32 * bias_warps, db, g, p);
    Scratch parts(size_t(channels) * size_t(p.blocks) * sizeof(T));
    if (!parts) return DK_NO_MEMORY;
    const dim3 grid = blocks_for(channels * p.blocks, bias_warps);
    if (int32_t failed = launch<bias_blocks<T>>(grid, 32 * bias_warps, parts.as<T>(), g, p, channels)) return failed;
    return launch<bias_totals<T>>(dim3(unsigned(channels)), 32, db, parts.as<T>(), p.blocks);
}

}  // namespace
}  // namespace dk

extern "C" {

int32_t dk_conv_bias_f32(const float *g, float *db, const int64_t *geometry, int32_t channels) {
    return dk::bias(g, db, geometry, channels == 3);
}
int32_t dk_conv_bias_f64(const double *g, double *db, const int64_t *geometry, int32_t channels) {
    return dk::bias(g, db, geometry, channels == 3);
}
}
#endif
