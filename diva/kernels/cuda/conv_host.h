// Host functions of convolution: the numbers of native/convolution.h laid out for the kernels.
#pragma once

#include "conv_shape.h"

#if DK_HOST
#include "../native/convolution.h"
#include "../native/diva_kernels.h"
#include "launch.h"

namespace dk {
namespace {

struct Geometry {
    int64_t batch, groups, in_channels, out_channels;
    const int64_t *in, *out, *kernel, *stride, *padding, *dilation, *x, *y, *w;
    explicit Geometry(const int64_t *n)
        : batch(n[0]), groups(n[1]), in_channels(n[2]), out_channels(n[3]), in(n + 4), out(n + 7), kernel(n + 10), stride(n + 13),
          padding(n + 16), dilation(n + 19), x(n + 22), y(n + 27), w(n + 32) {}
    int64_t taps() const { return kernel[0] * kernel[1] * kernel[2]; }
};

// What a route is chosen by; no bit depends on it. The emulator has small numbers, so that small tests reach every kernel.
#if defined(DK_EMULATED)
constexpr double worth_tiles = 1e5, worth_planes = 1e4, few_tiles = 3;
constexpr int64_t most_scratch = 64 << 10, most_direct_blocks = 4;
#else
constexpr double worth_tiles = 16e6;  // multiplications; below, a launch takes longer than they do
constexpr double worth_planes = 1e6;  // numbers; below, the cache holds what is read in pieces
constexpr double few_tiles = 100;     // of 64 by 128: they would not fill a large GPU, which has 132 or 148 multiprocessors
constexpr int64_t most_scratch = int64_t(256) << 20;  // bytes of chains at a time
constexpr int64_t most_direct_blocks = 4096;
#endif

constexpr int64_t most_positions = 0x7fffffff;

inline int64_t up(int64_t n, int64_t step) { return (n + step - 1) / step; }
inline int64_t size_of(int64_t n) { return n < 0 ? -n : n; }
inline int64_t common_divisor(int64_t a, int64_t b) {
    while (b) {
        const int64_t rest = a % b;
        a = b, b = rest;
    }
    return a;
}

inline Divider divider(int64_t d) {
    Divider r{uint32_t(d), 0, 0};
    int bits = 0;
    while ((int64_t(1) << bits) < d) ++bits;
    if (bits) r.magic = uint32_t((uint64_t(1) << (31 + bits)) / uint64_t(d) + 1), r.shift = uint32_t(bits - 1);
    return r;
}

inline GatherAxis forward_axis(const Geometry &g, int a) {
    GatherAxis r{};
    r.size = int32_t(g.out[a]), r.stride = r.phases = 1;
    r.source_size = int32_t(g.in[a]), r.source_step = int32_t(g.stride[a]);
    r.kernel = int32_t(g.kernel[a]), r.padding = int32_t(g.padding[a]), r.dilation = int32_t(g.dilation[a]), r.forward = 1;
    r.common = r.tap_step = 1;
    r.taps = r.kernel;
    const bool beyond = (g.out[a] - 1) * g.stride[a] + (g.kernel[a] - 1) * g.dilation[a] - g.padding[a] >= g.in[a];
    r.bits = g.padding[a] > 0 || beyond ? r.taps : 0;
    r.count[0] = r.count[1] = divider(g.out[a]);
    return r;
}

inline GatherAxis input_axis(const Geometry &g, int a) {
    GatherAxis r{};
    const int64_t s = g.stride[a], d = g.dilation[a];
    r.size = int32_t(g.in[a]), r.stride = int32_t(s), r.phases = int32_t(s < g.in[a] ? s : g.in[a]);
    r.source_size = int32_t(g.out[a]), r.source_step = 1;
    r.kernel = int32_t(g.kernel[a]), r.padding = int32_t(g.padding[a]), r.dilation = int32_t(d);
    r.common = int32_t(common_divisor(s, d)), r.tap_step = r.stride / r.common;
    while (r.tap_step > 1 && int64_t(r.inverse) * (d / r.common) % r.tap_step != 1) ++r.inverse;
    r.taps = r.bits = int32_t(up(g.kernel[a], r.tap_step));
    r.count[0] = divider(up(g.in[a], s)), r.count[1] = divider(g.in[a] / s > 0 ? g.in[a] / s : 1);
    return r;
}

// The bits of the axes side by side; false where they do not fit in a word.
inline bool place_bits(GatherAxis *axis) {
    int64_t used = 0;
    for (int a = 0; a < 3; ++a) {
        axis[a].first_bit = int32_t(used < 31 ? used : 31);
        used += axis[a].bits;
    }
    return used <= mask_bits;
}

}  // namespace
}  // namespace dk
#endif
