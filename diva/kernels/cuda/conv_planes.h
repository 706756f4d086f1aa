// Channels-last images copied to planes, for tiles that read one channel of many positions at a time.
#pragma once

#include "conv_host.h"
#include "device.h"

namespace dk {

constexpr int plane_side = 32;

// to[image][channel][pixel] = from[image image_stride + pixel pixel_stride + channel].
template <class T>
__global__ void __launch_bounds__(256)
copy_planes(T *to, const T *from, int64_t image_stride, int64_t pixel_stride, int32_t channels, int32_t pixels) {
    __shared__ T square[plane_side][plane_side + 1];
    const uint32_t across = uint32_t(channels + plane_side - 1) / plane_side;
    const uint32_t down = uint32_t(pixels + plane_side - 1) / plane_side;
    uint32_t block = blockIdx.x;
    const int c0 = int(block % across) * plane_side;
    block /= across;
    const int q0 = int(block % down) * plane_side;
    const int64_t image = block / down;
    const int lane = int(threadIdx.x) % plane_side, line = int(threadIdx.x) / plane_side;
    for (int r = line; r < plane_side; r += 256 / plane_side)
        if (q0 + r < pixels && c0 + lane < channels)
            square[r][lane] = from[image * image_stride + (q0 + r) * pixel_stride + c0 + lane];
    __syncthreads();
    for (int r = line; r < plane_side; r += 256 / plane_side)
        if (c0 + r < channels && q0 + lane < pixels) to[(image * channels + c0 + r) * pixels + q0 + lane] = square[lane][r];
}

}  // namespace dk

#if DK_HOST
#include <optional>

namespace dk {
namespace {

// An image tensor that tiles can read: itself, or, where neighbours in memory are channels, a copy in planes. `stride`
// (n, c, d, h, w) is then changed to the copy's.
template <class T> class Planes {
  public:
    int32_t status = 0;

    Planes(const T *from, int64_t *stride, int64_t images, int64_t channels, const int64_t *size, bool worth) : data_(from) {
        const int64_t pixels = size[0] * size[1] * size[2];
        const bool last = stride[1] == 1 && stride[4] >= channels && (size[1] == 1 || stride[3] == size[2] * stride[4]) &&
                          (size[0] == 1 || stride[2] == size[1] * size[2] * stride[4]);
        const int64_t blocks = images * up(channels, plane_side) * up(pixels, plane_side);
        if (!worth || !last || channels < 4 || pixels < 2 || pixels > most_positions || blocks > most_positions) return;
        memory_.emplace(size_t(images) * size_t(channels) * size_t(pixels) * sizeof(T));
        if (!*memory_) {
            status = DK_NO_MEMORY;
            return;
        }
        status = launch<copy_planes<T>>(dim3(unsigned(blocks)), 256, memory_->template as<T>(), from, stride[0], stride[4],
                                        int32_t(channels), int32_t(pixels));
        data_ = memory_->template as<T>();
        stride[0] = channels * pixels, stride[1] = pixels, stride[2] = size[1] * size[2], stride[3] = size[2], stride[4] = 1;
    }
    const T *data() const { return data_; }

  private:
    const T *data_;
    std::optional<Scratch> memory_;
};

}  // namespace
}  // namespace dk
#endif
