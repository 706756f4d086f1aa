// grid_sample (native/resampling_grid.h): a thread for each position, which finds its taps once for all channels.
// The gradient of the image is in resampling_grid_image.cu.
#include "device.h"

#include "resampling_taps.h"

namespace dk {

constexpr int grid_threads = 128;

// Blocks: x positions, y samples from `sample` on, z groups of `group` channels.
struct GridWork {
    SampledImage image;
    int64_t positions, channels, volume, sample, group;
};

DK_INLINE int64_t position_of_this_thread() { return int64_t(blockIdx.x) * grid_threads + threadIdx.x; }

// y = the chain fma(x, w, y) from +0 over the taps that are inside.
template <class T, int axes, int interpolation>
__global__ void __launch_bounds__(grid_threads) grid_sample(T *y, const T *x, const T *grid, GridWork g) {
    const int64_t p = position_of_this_thread(), s = g.sample + blockIdx.y, first = blockIdx.z * g.group;
    if (p >= g.positions) return;
    using Found = GridTaps<T, axes, interpolation>;
    const Found taps(g.image, grid + (s * g.positions + p) * axes);
    int32_t offset[Found::count];
    T weight[Found::count];
    DK_UNROLL for (int k = 0; k < Found::count; ++k) offset[k] = taps.offset(g.image, k), weight[k] = taps.weight(k);
    const int64_t last = first + g.group < g.channels ? first + g.group : g.channels;
    for (int64_t c = first; c < last; ++c) {
        const T *plane = x + (s * g.channels + c) * g.volume;
        T acc = 0;
        DK_UNROLL for (int k = 0; k < Found::count; ++k)
            if (offset[k] >= 0) acc = fma(plane[offset[k]], weight[k], acc);
        y[(s * g.channels + c) * g.positions + p] = acc;
    }
}

// The gradient of the grid: for each axis the chain fma(x gy, w', acc) from +0 by ascending (channel, tap), times dp/dg.
template <class T, int axes, int interpolation>
__global__ void __launch_bounds__(grid_threads) grid_slopes(T *ggrid, const T *gy, const T *x, const T *grid, GridWork g) {
    const int64_t p = position_of_this_thread(), s = g.sample + blockIdx.y;
    if (p >= g.positions) return;
    using Found = GridTaps<T, axes, interpolation>;
    const Found taps(g.image, grid + (s * g.positions + p) * axes);
    int32_t offset[Found::count];
    DK_UNROLL for (int k = 0; k < Found::count; ++k) offset[k] = taps.offset(g.image, k);
    T acc[axes];
    DK_UNROLL for (int a = 0; a < axes; ++a) acc[a] = 0;
    for (int64_t c = 0; c < g.channels; ++c) {
        const T *plane = x + (s * g.channels + c) * g.volume;
        const T up = gy[(s * g.channels + c) * g.positions + p];
        DK_UNROLL for (int k = 0; k < Found::count; ++k) {
            if (offset[k] < 0) continue;
            const T both = plane[offset[k]] * up;
            DK_UNROLL for (int a = 0; a < axes; ++a) acc[a] = fma(both, taps.slope(a, k), acc[a]);
        }
    }
    DK_UNROLL for (int a = 0; a < axes; ++a) ggrid[(s * g.positions + p) * axes + a] = acc[a] * taps.factor(a);
}

// Nearest sampling has no slope.
template <class T> __global__ void __launch_bounds__(grid_threads) no_slopes(T *ggrid, int64_t n) {
    const int64_t i = position_of_this_thread();
    if (i < n) ggrid[i] = 0;
}

}  // namespace dk

#if DK_HOST
#include "../native/diva_kernels.h"
#include "launch.h"
#include "resampling_grid_host.h"

namespace dk {
namespace {

constexpr int64_t most_samples = 65535;  // of a launch: the grid's second dimension

template <class T>
int32_t forward(T *y, const T *x, const T *grid, int64_t n, int64_t channels, int32_t axes, const int64_t *in,
                int64_t positions, int32_t interpolation, int32_t padding, bool align) {
    if (is_refused(axes, interpolation, padding)) return DK_BAD_ARGUMENT;
    GridWork g{image_of(axes, in, padding, align), positions, channels, volume_of(axes, in), 0, 0};
    const int64_t across = (positions + grid_threads - 1) / grid_threads;
    // As many channels to a thread, which has its taps once, as leave about 4096 blocks.
    const int64_t wanted = channels * across * n / 4096, fewest = (channels + most_samples - 1) / most_samples;
    g.group = wanted > fewest ? (wanted < channels ? wanted : channels) : fewest;
    if (g.group < 1) return DK_OK;
    return with_kind(axes, interpolation, [&](auto kind) {
        int32_t failed = 0;
        for (g.sample = 0; g.sample < n && !failed; g.sample += most_samples) {
            const int64_t samples = n - g.sample < most_samples ? n - g.sample : most_samples;
            const dim3 blocks(unsigned(across), unsigned(samples), unsigned((channels + g.group - 1) / g.group));
            failed = launch<grid_sample<T, kind.axes, kind.interpolation>>(blocks, grid_threads, y, x, grid, g);
        }
        return failed;
    });
}

template <class T>
int32_t slopes(T *ggrid, const T *gy, const T *x, const T *grid, int64_t n, int64_t channels, int32_t axes,
               const int64_t *in, int64_t positions, int32_t interpolation, int32_t padding, bool align) {
    if (interpolation == by_nearest) {
        const int64_t all = n * positions * axes;
        return launch<no_slopes<T>>(blocks_for(all, grid_threads), grid_threads, ggrid, all);
    }
    GridWork g{image_of(axes, in, padding, align), positions, channels, volume_of(axes, in), 0, channels};
    return with_kind(axes, interpolation, [&](auto kind) {
        int32_t failed = 0;
        if constexpr (kind.interpolation != by_nearest)
            for (g.sample = 0; g.sample < n && !failed; g.sample += most_samples) {
                const int64_t samples = n - g.sample < most_samples ? n - g.sample : most_samples;
                const dim3 blocks(blocks_for(positions, grid_threads).x, unsigned(samples));
                failed = launch<grid_slopes<T, kind.axes, kind.interpolation>>(blocks, grid_threads, ggrid, gy, x, grid, g);
            }
        return failed;
    });
}

template <class T>
int32_t backward(T *gx, T *ggrid, const T *gy, const T *x, const T *grid, int64_t n, int64_t channels, int32_t axes,
                 const int64_t *in, int64_t positions, int32_t interpolation, int32_t padding, bool align) {
    if (is_refused(axes, interpolation, padding)) return DK_BAD_ARGUMENT;
    int32_t failed = 0;
    if (gx) failed = grid_sample_image(gx, gy, grid, n, channels, axes, in, positions, interpolation, padding, align);
    if (ggrid && !failed)
        failed = slopes(ggrid, gy, x, grid, n, channels, axes, in, positions, interpolation, padding, align);
    return failed;
}

}  // namespace
}  // namespace dk

extern "C" {

int32_t dk_grid_sample_f32(float *y, const float *x, const float *grid, int64_t n, int64_t channels, int32_t axes,
                           const int64_t *in, int64_t positions, int32_t interpolation, int32_t padding, int32_t align) {
    return dk::forward(y, x, grid, n, channels, axes, in, positions, interpolation, padding, align != 0);
}
int32_t dk_grid_sample_f64(double *y, const double *x, const double *grid, int64_t n, int64_t channels, int32_t axes,
                           const int64_t *in, int64_t positions, int32_t interpolation, int32_t padding, int32_t align) {
    return dk::forward(y, x, grid, n, channels, axes, in, positions, interpolation, padding, align != 0);
}
int32_t dk_grid_sample_backward_f32(float *gx, float *ggrid, const float *gy, const float *x, const float *grid, int64_t n,
                                    int64_t channels, int32_t axes, const int64_t *in, int64_t positions,
                                    int32_t interpolation, int32_t padding, int32_t align) {
    return dk::backward(gx, ggrid, gy, x, grid, n, channels, axes, in, positions, interpolation, padding, align != 0);
}
int32_t dk_grid_sample_backward_f64(double *gx, double *ggrid, const double *gy, const double *x, const double *grid,
                                    int64_t n, int64_t channels, int32_t axes, const int64_t *in, int64_t positions,
                                    int32_t interpolation, int32_t padding, int32_t align) {
    return dk::backward(gx, ggrid, gy, x, grid, n, channels, axes, in, positions, interpolation, padding, align != 0);
}
}
#endif
