// The gradient of a convolution's bias: one REDUCE per channel over images and positions.
#include "conv_problem.h"
#include "convolution.h"
#include "vec.h"

namespace dk {
namespace {

constexpr int64_t lane_count = 64, block = 4096;  // D3

// Lane j adds x[64 r + j], r ascending from +0; then the tree. n <= 4096.
template <class T> T reduce_block(const T *x, int64_t n) {
    T lane[lane_count] = {};
    constexpr int64_t w = lanes<T>;
    int64_t k = 0;
    for (; k + lane_count <= n; k += lane_count)
        for (int64_t j = 0; j < lane_count; j += w) store(lane + j, load(lane + j) + load(x + k + j));
    for (int64_t j = 0; k + j < n; ++j) lane[j] += x[k + j];
    for (int64_t half = lane_count / 2; half; half /= 2)
        for (int64_t j = 0; j < half; ++j) lane[j] += lane[j + half];
    return lane[0];
}

template <class T> T reduce(const T *x, int64_t n) {
    if (n <= block) return reduce_block(x, n);
    std::vector<T> parts;
    for (int64_t k = 0; k < n; k += block) parts.push_back(reduce_block(x + k, n - k < block ? n - k : block));
    return reduce(parts.data(), int64_t(parts.size()));
}

template <class T> int32_t bias(const T *g, T *db, const int64_t *geometry, bool output) {
    FloatingPoint control;
    const Geometry all(geometry);
    const int64_t channels = output ? all.out_channels : all.in_channels;
    const int64_t *stride = output ? all.y : all.x, *size = output ? all.out : all.in;
    const int64_t pixels = size[0] * size[1] * size[2], n = all.batch * pixels, blocks = (n + block - 1) / block;
    const bool dense = stride[4] == 1 && stride[3] == size[2] && (stride[2] == size[1] * size[2] || size[0] == 1);
    std::atomic<bool> fine{true};
    parallel(channels, grain_for(channels, double(channels) * double(n)), [&](int64_t begin, int64_t end) {
        T *buffer = static_cast<T *>(scratch(0, size_t(block) * sizeof(T)));
        T *parts = static_cast<T *>(scratch(1, size_t(blocks + 1) * sizeof(T)));
        if (!buffer || !parts) {
            fine = false;
            return;
        }
        for (int64_t c = begin; c < end; ++c) {
            const T *plane = g + c * stride[1];
            for (int64_t b = 0; b < blocks; ++b) {
                const int64_t first = b * block, count = n - first < block ? n - first : block;
                for (int64_t k = 0; k < count;) {
                    const int64_t image = (first + k) / pixels, q = (first + k) % pixels;
                    const T *from = plane + image * stride[0];
                    if (dense) {
                        const int64_t run = pixels - q < count - k ? pixels - q : count - k;
                        for (int64_t i = 0; i < run; ++i) buffer[k + i] = from[q + i];
                        k += run;
                    } else {
                        const int64_t column = q % size[2], row = q / size[2];
                        const int64_t run = size[2] - column < count - k ? size[2] - column : count - k;
                        from += row / size[1] * stride[2] + row % size[1] * stride[3] + column * stride[4];
                        for (int64_t i = 0; i < run; ++i) buffer[k + i] = from[i * stride[4]];
                        k += run;
                    }
                }
                parts[b] = reduce_block(buffer, count);
            }
            db[c] = blocks == 0 ? T(0) : blocks == 1 ? parts[0] : reduce(parts, blocks);
        }
    });
    return fine ? DK_OK : DK_NO_MEMORY;
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
