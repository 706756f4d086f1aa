// The general route of convolution: any geometry, any strides, non-finite numbers; panels packed from the images.
#pragma once

#include "conv_problem.h"
#include "conv_tile.h"

namespace dk {
namespace {

constexpr int general_nv = 2;

// Source index of every tap at every position of a block (-1 on padding), then R for `width` positions.
template <class T> struct GeneralBlock {
    static constexpr int64_t width = general_nv * lanes<T>;
};

// One class: out[n, m, q] for all images, groups and blocks of positions; R in scratch, chunks ascending.
template <class T>
bool gather_class(const Gather &p, const Axis &d, const Axis &h, const Axis &w, const T *source, const T *weight, const T *bias,
                  T *out) {
    constexpr int64_t width = GeneralBlock<T>::width;
    const int64_t taps = int64_t(d.tap.size() * h.tap.size() * w.tap.size()), depth = p.channels * taps;
    const int64_t positions = d.count * h.count * w.count, blocks = (positions + width - 1) / width;
    const int64_t rows = p.rows, items = p.batch * p.groups * blocks;
    std::vector<Step> steps(size_t(depth > 0 ? depth : 1));
    std::vector<int64_t> tap_weight;
    for (int64_t a : d.tap)
        for (int64_t b : h.tap)
            for (int64_t c : w.tap) tap_weight.push_back(a * p.weight_tap[0] + b * p.weight_tap[1] + c * p.weight_tap[2]);
    for (int64_t k = 0; k < depth; ++k)
        steps[size_t(k)] = {int32_t(k % chunk * width), int32_t(k / taps * p.weight_channel + tap_weight[size_t(k % taps)])};
    std::atomic<bool> fine{true};
    parallel(items, grain_for(items, double(items) * double(width * rows * (depth + 1))), [&](int64_t begin, int64_t end) {
        T *panel = static_cast<T *>(scratch(0, size_t(chunk * width) * sizeof(T)));
        T *r = static_cast<T *>(scratch(1, size_t(rows * width) * sizeof(T)));
        int64_t *index = static_cast<int64_t *>(scratch(2, size_t((taps + 1) * width) * sizeof(int64_t)));
        if (!panel || !r || !index) {
            fine = false;
            return;
        }
        for (int64_t item = begin; item < end; ++item) {
            const int64_t block = item % blocks, group = item / blocks % p.groups, image = item / blocks / p.groups;
            const T *from = source + image * p.source[0] + group * p.channels * p.source[1];
            T *to = out + image * p.out[0] + group * rows * p.out[1];
            int64_t place[width];
            for (int64_t b = 0; b < width; ++b) {
                const int64_t q = block * width + b;
                const int64_t k = q % w.count, j = q / w.count % h.count, i = q / w.count / h.count;
                place[b] = q >= positions ? -1
                                          : (d.start + i * d.step) * p.out[2] + (h.start + j * h.step) * p.out[3] +
                                                (w.start + k * w.step) * p.out[4];
                int64_t *entry = index + b;
                for (int64_t a : d.offset)
                    for (int64_t e : h.offset)
                        for (int64_t f : w.offset) {
                            const int64_t z = i * d.source_step + a, y = j * h.source_step + e, x = k * w.source_step + f;
                            const bool inside = q < positions && z >= 0 && z < d.source_size && y >= 0 && y < h.source_size &&
                                                x >= 0 && x < w.source_size;
                            *entry = inside ? z * p.source[2] + y * p.source[3] + x * p.source[4] : -1;
                            entry += width;
                        }
            }
            for (int64_t k = 0; k < rows * width; ++k) r[k] = 0;
            for (int64_t first = 0; first < depth; first += chunk) {
                const int64_t count = depth - first < chunk ? depth - first : chunk;
                for (int64_t k = 0; k < count; ++k) {
                    const T *plane = from + (first + k) / taps * p.source[1];
                    const int64_t *entry = index + (first + k) % taps * width;
                    for (int64_t b = 0; b < width; ++b) panel[k * width + b] = entry[b] < 0 ? T(0) : plane[entry[b]];
                }
                const T *const x[general_nv] = {panel, panel + lanes<T>};
                for (int64_t m = 0; m < rows; m += tile_rows(general_nv)) {
                    const int64_t count_m = rows - m < tile_rows(general_nv) ? rows - m : tile_rows(general_nv);
                    tile_of<T, general_nv, Fold<T>>(int(count_m))(x, weight + group * p.weight_group + m * p.weight_row, p.weight_row,
                                                                  steps.data() + first, count, Fold<T>{r + m * width, width, first == 0});
                }
            }
            for (int64_t m = 0; m < rows; ++m) {
                const T *value = r + m * width;
                T *row = to + m * p.out[1];
                for (int64_t b = 0; b < width; ++b)
                    if (place[b] >= 0) row[place[b]] = bias ? value[b] + bias[group * rows + m] : value[b];
            }
        }
    });
    return fine;
}

template <class T> int32_t gather_general(const Gather &p, const T *source, const T *weight, const T *bias, T *out) {
    for (const Axis &d : p.axes[0])
        for (const Axis &h : p.axes[1])
            for (const Axis &w : p.axes[2])
                if (!gather_class(p, d, h, w, source, weight, bias, out)) return DK_NO_MEMORY;
    return DK_OK;
}

// dw: columns (i, tap) in blocks; positions (n, q) in chunks of 256; a panel holds a block of columns at a chunk's positions.
template <class T> int32_t weight_general(const Geometry &g, const T *gradient, const T *x, T *dw) {
    constexpr int64_t width = GeneralBlock<T>::width;
    const int64_t taps = g.taps(), in = g.in_channels / g.groups, rows = g.out_channels / g.groups, columns = in * taps;
    const int64_t pixels = g.out[0] * g.out[1] * g.out[2], depth = g.batch * pixels, blocks = (columns + width - 1) / width;
    const int64_t items = g.groups * blocks;
    std::atomic<bool> fine{true};
    parallel(items, grain_for(items, double(items) * double(width * rows) * double(depth + 1)), [&](int64_t begin, int64_t end) {
        T *panel = static_cast<T *>(scratch(0, size_t(chunk * width) * sizeof(T)));
        T *r = static_cast<T *>(scratch(1, size_t(rows * width) * sizeof(T)));
        Step *steps = static_cast<Step *>(scratch(2, size_t(chunk) * sizeof(Step)));
        if (!panel || !r || !steps) {
            fine = false;
            return;
        }
        for (int64_t item = begin; item < end; ++item) {
            const int64_t block = item % blocks, group = item / blocks, first_column = block * width;
            const int64_t used = columns - first_column < width ? columns - first_column : width;
            int64_t tap_d[width], tap_h[width], tap_w[width], channel[width];
            for (int64_t b = 0; b < used; ++b) {
                const int64_t column = first_column + b, t = column % taps;
                channel[b] = (group * in + column / taps) * g.x[1];
                tap_w[b] = t % g.kernel[2] * g.dilation[2] - g.padding[2];
                tap_h[b] = t / g.kernel[2] % g.kernel[1] * g.dilation[1] - g.padding[1];
                tap_d[b] = t / g.kernel[2] / g.kernel[1] * g.dilation[0] - g.padding[0];
            }
            for (int64_t k = 0; k < rows * width; ++k) r[k] = 0;
            for (int64_t first = 0; first < depth; first += chunk) {
                const int64_t count = depth - first < chunk ? depth - first : chunk;
                const T *image_g = gradient + first / pixels * g.y[0] + group * rows * g.y[1];
                for (int64_t k = 0; k < count; ++k) {
                    const int64_t image = (first + k) / pixels, q = (first + k) % pixels;
                    const int64_t c = q % g.out[2], b = q / g.out[2] % g.out[1], a = q / g.out[2] / g.out[1];
                    steps[k] = {int32_t(k * width),
                                int32_t((image - first / pixels) * g.y[0] + a * g.y[2] + b * g.y[3] + c * g.y[4])};
                    T *row = panel + k * width;
                    for (int64_t e = 0; e < used; ++e) {
                        const int64_t i = a * g.stride[0] + tap_d[e], j = b * g.stride[1] + tap_h[e], l = c * g.stride[2] + tap_w[e];
                        const bool inside = i >= 0 && i < g.in[0] && j >= 0 && j < g.in[1] && l >= 0 && l < g.in[2];
                        row[e] = inside ? x[image * g.x[0] + channel[e] + i * g.x[2] + j * g.x[3] + l * g.x[4]] : T(0);
                    }
                    for (int64_t e = used; e < width; ++e) row[e] = 0;
                }
                const T *const panels[general_nv] = {panel, panel + lanes<T>};
                for (int64_t m = 0; m < rows; m += tile_rows(general_nv)) {
                    const int64_t count_m = rows - m < tile_rows(general_nv) ? rows - m : tile_rows(general_nv);
                    tile_of<T, general_nv, Fold<T>>(int(count_m))(panels, image_g + m * g.y[1], g.y[1], steps, count,
                                                                  Fold<T>{r + m * width, width, first == 0});
                }
            }
            for (int64_t m = 0; m < rows; ++m)
                for (int64_t b = 0; b < used; ++b) {
                    const int64_t column = first_column + b, t = column % taps;
                    dw[(group * rows + m) * g.w[0] + column / taps * g.w[1] + t / g.kernel[2] / g.kernel[1] * g.w[2] +
                       t / g.kernel[2] % g.kernel[1] * g.w[3] + t % g.kernel[2] * g.w[4]] = r[m * width + b];
                }
        }
    });
    return fine ? DK_OK : DK_NO_MEMORY;
}

}  // namespace
}  // namespace dk
