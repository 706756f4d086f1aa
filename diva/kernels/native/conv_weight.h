// The weight gradient: registers hold output channels, the chain runs over positions, rows are input channels or taps.
//
// A unit is a block of output channels, a range of input channels and a range of taps: independent of all others. It walks
// over the chunks of 256 positions (n, q), turning the gradient into registers of channels and copying what it needs of the
// input. With many input channels, rows are channels at one tap, and positions whose tap lies on padding are left out (this
// needs a finite gradient: 0 * Inf is NaN). With few, rows are the taps of one kernel row over a zero-padded copy.
#pragma once

#include "conv_problem.h"
#include "conv_pack.h"
#include "conv_tile.h"
#include "conv_transpose.h"

namespace dk {
namespace {

struct WeightPlan {
    const Geometry *g;
    int64_t in, rows, taps, pixels, depth;  // channels per group; positions per image and in all
    int nv;                                 // registers per block of output channels
    bool by_channel;                        // rows are channels at one tap; else taps of one kernel row
    int64_t out_split, channel_split, tap_split;  // output channels, input channels and kernel rows per unit
};

// A run of positions of one chunk in one image, and where its source rows lie in the copy.
struct Run {
    int64_t image, first, count, at;  // first position, number of them, index in the chunk
    int64_t row0, rows, offset;       // source rows copied, and where, counted from the channel's plane
};

template <class T> struct WeightUnit {
    const WeightPlan &plan;
    const T *gradient, *x;
    int64_t group, first_o, last_o, c0, c1, h0, h1;  // output channels, input channels and kernel rows [h0, h1)
    int64_t pitch, left;                    // width of a copied row, columns of zeros at its left
    std::vector<Run> runs;
    int64_t plane = 0, o0 = 0, o1 = 0;  // the block of output channels at work

    int64_t width() const { return (o1 - o0 + lanes<T> - 1) / lanes<T> * lanes<T>; }

    // Runs of the chunk at `first`.
    void cut(int64_t first, int64_t count) {
        const Geometry &g = *plan.g;
        runs.clear();
        plane = 0;
        for (int64_t k = 0; k < count;) {
            Run run;
            run.image = (first + k) / plan.pixels, run.first = (first + k) % plan.pixels, run.at = k;
            run.count = plan.pixels - run.first < count - k ? plan.pixels - run.first : count - k;
            const int64_t a = run.first / g.out[2], b = (run.first + run.count - 1) / g.out[2];
            int64_t top = a * g.stride[1] - g.padding[1] + h0 * g.dilation[1];
            int64_t bottom = b * g.stride[1] - g.padding[1] + (h1 - 1) * g.dilation[1] + 1;
            if (plan.by_channel) {
                top = top < 0 ? 0 : top, bottom = bottom > g.in[1] ? g.in[1] : bottom;
                if (bottom < top) bottom = top;
            }
            run.row0 = top, run.rows = bottom - top, run.offset = plane;
            plane += run.rows * pitch;
            k += run.count;
            runs.push_back(run);
        }
        plane = (plane + 15) / 16 * 16 + 16;  // so that planes do not meet in one set of the cache
    }

    // v[position][channel] of the gradient.
    void turn(T *v) const {
        const Geometry &g = *plan.g;
        const int64_t w = width(), n = o1 - o0;
        for (const Run &run : runs) {
            const T *from = gradient + run.image * g.y[0] + (group * plan.rows + o0) * g.y[1];
            if (g.y[4] == 1 && (g.y[3] == g.out[2] || g.out[1] == 1)) {
                transpose(from + run.first, g.y[1], v + run.at * w, w, n, run.count, true);
                continue;
            }
            for (int64_t k = 0; k < run.count; ++k) {
                const int64_t q = run.first + k;
                const T *a = from + q / g.out[2] * g.y[3] + q % g.out[2] * g.y[4];
                T *to = v + (run.at + k) * w;
                for (int64_t o = 0; o < n; ++o) to[o] = a[o * g.y[1]];
                for (int64_t o = n; o < w; ++o) to[o] = 0;
            }
        }
    }

    // copy[channel][rows of each run][pitch] of the input, zeros outside of it.
    void copy(T *to) const {
        const Geometry &g = *plan.g;
        for (int64_t c = c0; c < c1; ++c)
            for (const Run &run : runs) {
                const T *from = x + run.image * g.x[0] + (group * plan.in + c) * g.x[1];
                T *row = to + (c - c0) * plane + run.offset;
                for (int64_t r = run.row0; r < run.row0 + run.rows; ++r, row += pitch) {
                    const bool inside = r >= 0 && r < g.in[1];
                    int64_t k = 0;
                    for (; k < left; ++k) row[k] = 0;
                    if (inside) {
                        const T *a = from + r * g.x[3];
                        if (g.x[4] == 1)
                            std::memcpy(row + left, a, size_t(g.in[2]) * sizeof(T));
                        else
                            for (int64_t i = 0; i < g.in[2]; ++i) row[left + i] = a[i * g.x[4]];
                        k += g.in[2];
                    }
                    for (; k < pitch; ++k) row[k] = 0;
                }
            }
    }

    // Steps of all positions for the tap at the origin of the padded image; entries may point outside of the copy.
    void base(Step *steps) const {
        const Geometry &g = *plan.g;
        const int64_t w = width();
        for (const Run &run : runs) {
            int64_t i = run.first / g.out[2], j = run.first % g.out[2];
            for (int64_t k = 0; k < run.count; ++k) {
                const int64_t row = i * g.stride[1] - g.padding[1] - run.row0;
                steps[run.at + k] = {int32_t((run.at + k) * w),
                                     int32_t(run.offset + row * pitch + j * g.stride[2] - g.padding[2] + left)};
                if (++j == g.out[2]) j = 0, ++i;
            }
        }
    }

    // The steps whose tap (a, b) lies inside of the image.
    int64_t visible(const Step *steps, int64_t a, int64_t b, Step *to) const {
        const Geometry &g = *plan.g;
        const int64_t down = a * g.dilation[1] - g.padding[1], across = b * g.dilation[2] - g.padding[2], s = g.stride[2];
        int64_t lo = across >= 0 ? 0 : (-across + s - 1) / s;
        int64_t hi = g.in[2] - 1 - across < 0 ? 0 : (g.in[2] - 1 - across) / s + 1;
        if (hi > g.out[2]) hi = g.out[2];
        int64_t n = 0;
        for (const Run &run : runs) {
            const int64_t last = run.first + run.count;
            for (int64_t i = run.first / g.out[2]; i * g.out[2] < last; ++i) {
                const int64_t r = i * g.stride[1] + down;
                if (r < 0 || r >= g.in[1]) continue;
                int64_t q0 = i * g.out[2] + lo, q1 = i * g.out[2] + hi;
                q0 = q0 < run.first ? run.first : q0, q1 = q1 > last ? last : q1;
                const Step *from = steps + run.at - run.first;
                for (int64_t q = q0; q < q1; ++q) to[n++] = from[q];
            }
        }
        return n;
    }

    // One chunk for the block of output channels at work: R of the block is at r.
    template <int NV> void chunk_of_block(int64_t first, int64_t count, const T *v, const T *image, Step *steps, T *r) const {
        const Geometry &g = *plan.g;
        const int64_t w = NV * lanes<T>, kernel_w = g.kernel[2], unit_taps = (h1 - h0) * kernel_w;
        const T *registers_of[NV];
        for (int i = 0; i < NV; ++i) registers_of[i] = v + i * lanes<T>;
        const int64_t whole = plan.by_channel ? c1 - c0 : kernel_w, most = tile_rows(NV);
        const int64_t blocks = (whole + most - 1) / most, block = (whole + blocks - 1) / blocks;
        for (int64_t a = h0; a < h1; ++a) {
            if (plan.by_channel) {
                for (int64_t b = 0; b < kernel_w; ++b) {
                    const int64_t n = visible(steps, a, b, steps + chunk);
                    const T *at = image + a * g.dilation[1] * pitch + b * g.dilation[2];
                    T *to = r + ((a - h0) * kernel_w + b) * w;
                    for (int64_t c = 0; c < whole; c += block) {
                        const int64_t count_c = whole - c < block ? whole - c : block;
                        tile_of<T, NV, Fold<T>>(int(count_c))(registers_of, at + c * plane, plane, steps + chunk, n,
                                                              Fold<T>{to + c * unit_taps * w, unit_taps * w, first == 0});
                    }
                }
                continue;
            }
            for (int64_t c = 0; c < c1 - c0; ++c)
                for (int64_t b = 0; b < kernel_w; b += block) {
                    const int64_t count_b = kernel_w - b < block ? kernel_w - b : block;
                    tile_of<T, NV, Fold<T>>(int(count_b))(
                        registers_of, image + c * plane + a * g.dilation[1] * pitch + b * g.dilation[2], g.dilation[2], steps, count,
                        Fold<T>{r + (c * unit_taps + (a - h0) * kernel_w + b) * w, w, first == 0});
                }
        }
    }

    // All chunks. Sets `finite` to false, and stops, where the gradient is not finite and must be.
    bool walk(T *r, bool &finite) {
        const Geometry &g = *plan.g;
        const int64_t most = plan.nv * lanes<T>, unit_columns = (c1 - c0) * (h1 - h0) * g.kernel[2];
        T *v = static_cast<T *>(scratch(1, size_t(chunk * most) * sizeof(T)));
        Step *steps = static_cast<Step *>(scratch(2, size_t(2 * chunk) * sizeof(Step)));
        if (!v || !steps) return false;
        const bool must_be_finite = plan.by_channel && (g.padding[1] || g.padding[2]);
        for (int64_t first = 0; first < plan.depth; first += chunk) {
            const int64_t count = plan.depth - first < chunk ? plan.depth - first : chunk;
            cut(first, count);
            T *image = static_cast<T *>(scratch(3, size_t((c1 - c0) * plane) * sizeof(T)));
            if (!image) return false;
            copy(image);
            T *to = r;
            for (o0 = first_o; o0 < last_o; o0 = o1) {
                o1 = o0 + most < last_o ? o0 + most : last_o;
                turn(v);
                if (must_be_finite && !all_finite(v, count * width())) {
                    finite = false;
                    return true;
                }
                base(steps);
                switch (width() / lanes<T>) {
                case 1: chunk_of_block<1>(first, count, v, image, steps, to); break;
                case 2: chunk_of_block<2>(first, count, v, image, steps, to); break;
                case 3: chunk_of_block<3>(first, count, v, image, steps, to); break;
                default: chunk_of_block<4>(first, count, v, image, steps, to); break;
                }
                to += unit_columns * width();
            }
        }
        return true;
    }

    // r[block of output channels][channel][tap][output channel] goes to dw.
    void write_all(const T *r, T *dw) {
        const int64_t most = plan.nv * lanes<T>;
        for (o0 = first_o; o0 < last_o; o0 = o1) {
            o1 = o0 + most < last_o ? o0 + most : last_o;
            write(r, dw);
            r += (c1 - c0) * (h1 - h0) * plan.g->kernel[2] * width();
        }
    }

    // r[channel][tap][output channel] goes to dw.
    void write(const T *r, T *dw) const {
        const Geometry &g = *plan.g;
        const int64_t w = width(), kernel_w = g.kernel[2], unit_taps = (h1 - h0) * kernel_w, o = group * plan.rows + o0;
        const bool dense = g.w[4] == 1 && g.w[3] == kernel_w && g.w[1] == plan.taps;
        if (dense && unit_taps == plan.taps) {
            transpose(r, w, dw + o * g.w[0] + c0 * g.w[1], g.w[0], (c1 - c0) * unit_taps, o1 - o0, false);
            return;
        }
        for (int64_t c = c0; c < c1; ++c)
            for (int64_t t = 0; t < unit_taps; ++t)
                for (int64_t i = 0; i < o1 - o0; ++i)
                    dw[(o + i) * g.w[0] + c * g.w[1] + (h0 + t / kernel_w) * g.w[3] + t % kernel_w * g.w[4]] =
                        r[((c - c0) * unit_taps + t) * w + i];
    }
};

template <class T> WeightPlan plan_weight_gradient(const Geometry &g) {
    WeightPlan plan;
    plan.g = &g;
    plan.in = g.in_channels / g.groups, plan.rows = g.out_channels / g.groups, plan.taps = g.taps();
    plan.pixels = g.out[1] * g.out[2], plan.depth = g.batch * plan.pixels;
    plan.by_channel = (plan.in > 13 ? 13 : plan.in) > g.kernel[2];
    const int64_t registers_needed = (plan.rows + lanes<T> - 1) / lanes<T>;
    const int wide = plan.by_channel ? 2 : 4;
    plan.nv = int(registers_needed < wide ? registers_needed : wide);
    // R of a unit stays in the second-level cache.
    const int64_t budget = 192 * 1024 / int64_t(sizeof(T)) / (plan.taps * plan.nv * lanes<T>);
    plan.channel_split = plan.in, plan.tap_split = g.kernel[1];
    int64_t o_blocks = (registers_needed + plan.nv - 1) / plan.nv;
    int64_t parts = (plan.in + (budget < 13 ? 13 : budget) - 1) / (budget < 13 ? 13 : budget);
    const int threads = thread_count();
    if (threads > 1)
        while (g.groups * o_blocks * parts < 3 * threads && plan.in / parts >= 26) ++parts;
    const int64_t step = plan.by_channel ? tile_rows(plan.nv) : 1;
    plan.channel_split = ((plan.in + parts - 1) / parts + step - 1) / step * step;
    // Several blocks of output channels share what is copied of the input where there is room for their R.
    int64_t together = budget / plan.channel_split;
    if (threads > 1 && together > o_blocks * g.groups * parts / (3 * threads)) together = o_blocks * g.groups * parts / (3 * threads);
    together = together < 1 ? 1 : together > o_blocks ? o_blocks : together;
    plan.out_split = together * plan.nv * lanes<T>;
    o_blocks = (o_blocks + together - 1) / together;
    const int64_t units = g.groups * o_blocks * ((plan.in + plan.channel_split - 1) / plan.channel_split);
    if (threads > 1 && units < threads) plan.tap_split = (g.kernel[1] + threads - 1) / threads;
    return plan;
}

// False in `finite`: the gradient holds Inf or NaN where padding was left out, and the general route must be taken.
template <class T> int32_t weight_by_channels(const Geometry &g, const T *gradient, const T *x, T *dw, bool &finite) {
    const WeightPlan plan = plan_weight_gradient<T>(g);
    const int64_t block = plan.out_split, o_blocks = (plan.rows + block - 1) / block;
    const int64_t c_parts = (plan.in + plan.channel_split - 1) / plan.channel_split;
    const int64_t h_parts = (g.kernel[1] + plan.tap_split - 1) / plan.tap_split;
    const int64_t items = g.groups * o_blocks * c_parts * h_parts;
    const double work = double(g.out_channels * plan.in) * double(plan.taps * plan.depth);
    std::atomic<bool> fine{true}, all{true};
    parallel(items, grain_for(items, work), [&](int64_t begin, int64_t end) {
        for (int64_t item = begin; item < end && fine && all; ++item) {
            WeightUnit<T> unit{plan, gradient, x, 0, 0, 0, 0, 0, 0, 0, 0, 0, {}, 0, 0, 0};
            unit.group = item / h_parts / c_parts / o_blocks;
            unit.first_o = item / h_parts / c_parts % o_blocks * block;
            unit.last_o = unit.first_o + block < plan.rows ? unit.first_o + block : plan.rows;
            unit.c0 = item / h_parts % c_parts * plan.channel_split;
            unit.c1 = unit.c0 + plan.channel_split < plan.in ? unit.c0 + plan.channel_split : plan.in;
            unit.h0 = item % h_parts * plan.tap_split;
            unit.h1 = unit.h0 + plan.tap_split < g.kernel[1] ? unit.h0 + plan.tap_split : g.kernel[1];
            unit.left = plan.by_channel ? 0 : g.padding[2];
            const int64_t reach = (g.out[2] - 1) * g.stride[2] + (g.kernel[2] - 1) * g.dilation[2] + 1;
            unit.pitch = unit.left + g.in[2];
            if (!plan.by_channel && unit.pitch < reach) unit.pitch = reach;
            const int64_t unit_taps = (unit.h1 - unit.h0) * g.kernel[2];
            const int64_t width = (unit.last_o - unit.first_o + lanes<T> - 1) / lanes<T> * lanes<T>;
            T *r = static_cast<T *>(scratch(0, size_t((unit.c1 - unit.c0) * unit_taps * width) * sizeof(T)));
            if (!r) {
                fine = false;
                return;
            }
            bool here = true;
            const bool done = unit.walk(r, here);
            if (!here) all = false;
            if (!done) fine = false;
            if (here && done) unit.write_all(r, dw);
        }
    });
    finite = all;
    return fine ? DK_OK : DK_NO_MEMORY;
}

}  // namespace
}  // namespace dk
