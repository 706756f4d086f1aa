// One convolution, told in a way that the forward pass and the input gradient share.
//
// Both gather: out[n, m, q] = DOT over (c, tap) of source[n, c, q' source_step + offset(tap)] weight(m, c, tap). The forward
// pass has one class of output positions. The input gradient has one for each remainder of the position by the stride:
// inside a class every position has the same taps, and moving by one stride moves one position in the source.
#pragma once

#include <atomic>
#include <cstdint>
#include <cstring>
#include <vector>

#include "diva_kernels.h"
#include "pool.h"

namespace dk {
namespace {

struct Geometry {
    int64_t n[37];
    int64_t batch, groups, in_channels, out_channels;
    int64_t *in = n + 4, *out = n + 7, *kernel = n + 10, *stride = n + 13, *padding = n + 16, *dilation = n + 19;
    int64_t *x = n + 22, *y = n + 27, *w = n + 32;  // strides: (n, c, d, h, w), (n, c, d, h, w), (out, in, d, h, w)
    explicit Geometry(const int64_t *numbers) {
        std::memcpy(n, numbers, sizeof n);
        batch = n[0], groups = n[1], in_channels = n[2], out_channels = n[3];
        // A 1x1 kernel sees an image as one row, if its rows follow each other and no output has none (output padding).
        bool point = kernel[1] == 1 && kernel[2] == 1 && x[3] == in[2] * x[4] && y[3] == out[2] * y[4];
        for (int a = 1; a < 3; ++a) point = point && stride[a] == 1 && padding[a] == 0 && in[a] == out[a];
        if (point) in[2] *= in[1], out[2] *= out[1], in[1] = out[1] = 1;
    }
    Geometry(const Geometry &) = delete;
    int64_t taps() const { return kernel[0] * kernel[1] * kernel[2]; }
};

// One axis of a class: output positions start + step i, i < count; tap k of the list reads source i source_step + offset[k].
struct Axis {
    int64_t start, step, count, source_step, source_size;
    std::vector<int64_t> tap, offset;
};

// What a gather reads and writes; strides as in Geometry, `source`, `out` per image.
struct Gather {
    int64_t batch, groups, channels, rows;  // channels of the source and rows of the output, both per group
    const int64_t *source, *out;            // strides
    int64_t weight_row, weight_channel, weight_group, weight_tap[3], kernel_taps;
    std::vector<Axis> axes[3];  // classes are the products of these
};

inline Gather forward_gather(const Geometry &g) {
    Gather p;
    p.batch = g.batch, p.groups = g.groups, p.channels = g.in_channels / g.groups, p.rows = g.out_channels / g.groups;
    p.source = g.x, p.out = g.y, p.kernel_taps = g.taps();
    p.weight_row = g.w[0], p.weight_channel = g.w[1], p.weight_group = g.w[0] * p.rows;
    for (int a = 0; a < 3; ++a) {
        p.weight_tap[a] = g.w[2 + a];
        Axis axis{0, 1, g.out[a], g.stride[a], g.in[a], {}, {}};
        for (int64_t t = 0; t < g.kernel[a]; ++t) axis.tap.push_back(t), axis.offset.push_back(t * g.dilation[a] - g.padding[a]);
        p.axes[a].push_back(axis);
    }
    return p;
}

inline Gather input_gather(const Geometry &g) {
    Gather p;
    p.batch = g.batch, p.groups = g.groups, p.channels = g.out_channels / g.groups, p.rows = g.in_channels / g.groups;
    p.source = g.y, p.out = g.x, p.kernel_taps = g.taps();
    p.weight_row = g.w[1], p.weight_channel = g.w[0], p.weight_group = g.w[0] * p.channels;
    for (int a = 0; a < 3; ++a) {
        p.weight_tap[a] = g.w[2 + a];
        for (int64_t q = 0; q < g.stride[a] && q < g.in[a]; ++q) {
            Axis axis{q, g.stride[a], (g.in[a] - q + g.stride[a] - 1) / g.stride[a], 1, g.out[a], {}, {}};
            for (int64_t t = 0; t < g.kernel[a]; ++t) {
                int64_t distance = q + g.padding[a] - t * g.dilation[a];
                if (distance % g.stride[a]) continue;
                axis.tap.push_back(t), axis.offset.push_back(distance / g.stride[a]);
            }
            p.axes[a].push_back(axis);
        }
    }
    return p;
}

// Work below this many fused multiply-adds stays on one thread: waking another costs tens of microseconds.
constexpr double worth_a_thread = 400e3;

// Pieces so that each is worth a thread and every thread gets several.
inline int64_t grain_for(int64_t items, double work) {
    if (work < worth_a_thread || items <= 1) return items;
    int64_t grain = int64_t(double(items) * (worth_a_thread / 4) / work);
    return grain < 1 ? 1 : grain;
}

}  // namespace
}  // namespace dk
