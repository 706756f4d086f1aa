// The batch route: registers hold images, not positions, so that every position has its own list of taps and padding costs
// nothing. For batches that fill registers; any kernel, stride and dilation in one and two dimensions.
#pragma once

#include <map>

#include "conv_pack.h"

namespace dk {
namespace {

// The steps of all positions that see the same taps: chunk c of the chain is steps[start[c]..start[c + 1]).
struct Visible {
    std::vector<Step> steps;
    std::vector<int64_t> start;
};

// Positions of a class along one axis: which taps lie inside of the source, as a range.
inline std::pair<int64_t, int64_t> visible_taps(const Axis &axis, int64_t i) {
    int64_t lo = 0, hi = int64_t(axis.offset.size());
    auto inside = [&](int64_t t) {
        const int64_t at = i * axis.source_step + axis.offset[size_t(t)];
        return at >= 0 && at < axis.source_size;
    };
    while (lo < hi && !inside(lo)) ++lo;
    while (hi > lo && !inside(hi - 1)) --hi;
    return {lo, hi};
}


// Source rows [first, last) that a class needs for its rows [j0, j1).
inline std::pair<int64_t, int64_t> source_rows(const Axis &h, int64_t j0, int64_t j1) {
    int64_t lo = h.source_size, hi = 0;
    for (int64_t o : h.offset) {
        const int64_t a = j0 * h.source_step + o, b = (j1 - 1) * h.source_step + o + 1;
        lo = a < lo ? a : lo, hi = b > hi ? b : hi;
    }
    lo = lo < 0 ? 0 : lo, hi = hi > h.source_size ? h.source_size : hi;
    return {lo, hi < lo ? lo : hi};
}

// buffer[c][row][column][image] for channels [c0, c1) and source rows [r0, r1) of `used` images; other lanes +0.
template <class T>
void gather_images(const Gather &p, const T *source, int64_t used, int64_t images, int64_t c0, int64_t c1, int64_t r0, int64_t r1,
                   int64_t width, T *buffer) {
    const int64_t plane = (r1 - r0) * width;
    const int64_t *s = p.source;
    if (used % lanes<T> || used < images)  // lanes beyond the batch are read by the tiles, so they must be numbers
        for (int64_t k = 0; k < (c1 - c0) * plane * images; ++k) buffer[k] = 0;
    if (s[4] == 1 && (s[3] == width || r1 - r0 == 1)) {
        for (int64_t c = c0; c < c1; ++c)
            transpose(source + c * s[1] + r0 * s[3], s[0], buffer + (c - c0) * plane * images, images, used, plane, false);
    } else if (s[4] == 1) {
        for (int64_t c = c0; c < c1; ++c)
            for (int64_t r = r0; r < r1; ++r)
                transpose(source + c * s[1] + r * s[3], s[0], buffer + ((c - c0) * plane + (r - r0) * width) * images, images, used,
                          width, false);
    } else if (s[1] == 1) {
        for (int64_t r = r0; r < r1; ++r)
            for (int64_t w = 0; w < width; ++w)
                transpose(source + c0 + r * s[3] + w * s[4], s[0], buffer + ((r - r0) * width + w) * images, plane * images, used,
                          c1 - c0, false);
    } else {
        for (int64_t c = c0; c < c1; ++c)
            for (int64_t r = r0; r < r1; ++r)
                for (int64_t w = 0; w < width; ++w)
                    for (int64_t n = 0; n < used; ++n)
                        buffer[((c - c0) * plane + (r - r0) * width + w) * images + n] =
                            source[n * s[0] + c * s[1] + r * s[3] + w * s[4]];
    }
}

// out[n][m][row][column] = r[m][row][column][n] + bias[m] for output rows [h0, h1).
template <class T>
void scatter_images(const Gather &p, T *r, int64_t used, int64_t images, int64_t rows, int64_t h0, int64_t h1, int64_t width,
                    const T *bias, T *out) {
    const int64_t plane = (h1 - h0) * width;
    const int64_t *s = p.out;
    if (bias)
        for (int64_t m = 0; m < rows; ++m) {
            const vec<T> b = set(bias[m]);
            for (int64_t k = 0; k < plane * images; k += lanes<T>) store(r + m * plane * images + k, load(r + m * plane * images + k) + b);
        }
    if (s[4] == 1 && (s[3] == width || h1 - h0 == 1)) {
        for (int64_t m = 0; m < rows; ++m) transpose(r + m * plane * images, images, out + m * s[1] + h0 * s[3], s[0], plane, used, false);
    } else if (s[1] == 1) {
        for (int64_t k = 0; k < plane; ++k)
            transpose(r + k * images, plane * images, out + (h0 + k / width) * s[3] + k % width * s[4], s[0], rows, used, false);
    } else {
        for (int64_t m = 0; m < rows; ++m)
            for (int64_t k = 0; k < plane; ++k)
                for (int64_t n = 0; n < used; ++n)
                    out[n * s[0] + m * s[1] + (h0 + k / width) * s[3] + k % width * s[4]] = r[(m * plane + k) * images + n];
    }
}

inline std::vector<int64_t> visible_key(const Class &c, int64_t j, int64_t k) {
    auto a = visible_taps(*c.h, j), b = visible_taps(*c.w, k);
    return {a.first, a.second, b.first, b.second};
}

// Steps of one kind of position; the source buffer of a chunk begins at the channel of its first step.
inline Visible visible_steps(const Class &c, const std::vector<int64_t> &key, int64_t plane_of_channel, int64_t row, int64_t images,
                             int64_t block_rows) {
    Visible list;
    const int64_t columns = int64_t(c.w->tap.size());
    for (int64_t first = 0; first < c.depth; first += chunk) {
        list.start.push_back(int64_t(list.steps.size()));
        const int64_t base = first / c.taps, last = first + chunk < c.depth ? first + chunk : c.depth;
        for (int64_t k = first; k < last; ++k) {
            const int64_t a = k % c.taps / columns, b = k % c.taps % columns;
            if (a < key[0] || a >= key[1] || b < key[2] || b >= key[3]) continue;
            const int64_t at = (k / c.taps - base) * plane_of_channel + c.h->offset[size_t(a)] * row + c.w->offset[size_t(b)];
            list.steps.push_back({int32_t(at * images), int32_t((k - first) * block_rows)});
        }
    }
    list.start.push_back(int64_t(list.steps.size()));
    return list;
}

template <class T, int NV>
int32_t gather_batch(const Gather &p, const PackedWeights &plan, const T *packed, const T *source, const T *bias, T *out,
                     int64_t out_height, int64_t out_width) {
    constexpr int64_t images = NV * lanes<T>;
    const int64_t width = p.axes[2][0].source_size, image_blocks = (p.batch + images - 1) / images;
    // A band of R and of the source fit the second-level cache: a quarter of a megabyte for R.
    const int64_t budget = 320 * 1024 / int64_t(sizeof(T)) / images;
    int64_t parts = 1, band = out_height;
    while (band > 1 && band * out_width * p.rows / parts > budget) {
        if (p.rows / parts > 128 && parts < plan.blocks)
            parts *= 2;
        else
            band = (band + 1) / 2;
    }
    while (parts < plan.blocks && band * out_width * p.rows / parts > budget) parts *= 2;
    const int64_t part_blocks = (plan.blocks + parts - 1) / parts;
    parts = (plan.blocks + part_blocks - 1) / part_blocks;
    const int64_t bands = (out_height + band - 1) / band, items = image_blocks * p.groups * parts * bands;
    std::atomic<bool> fine{true};
    // Where the rows of a band's source lie depends on the band: one list serves all bands of the same height of source.
    double work = 0;
    for (const Class &c : plan.classes)
        work += double(p.batch * p.groups * p.rows) * double(c.depth + 1) * double(c.h->count * c.w->count) / lanes<T>;
    parallel(items, grain_for(items, work * 16), [&](int64_t begin, int64_t end) {
        T *r = static_cast<T *>(scratch(0, size_t(part_blocks * plan.block_rows * band * out_width * images) * sizeof(T)));
        if (!r) {
            fine = false;
            return;
        }
        int64_t listed_rows = -1, listed_class = -1;
        std::map<std::vector<int64_t>, Visible> lists;
        for (int64_t item = begin; item < end; ++item) {
            const int64_t h0 = item % bands * band, h1 = h0 + band < out_height ? h0 + band : out_height;
            const int64_t part = item / bands % parts, group = item / bands / parts % p.groups;
            const int64_t n0 = item / bands / parts / p.groups * images, used = p.batch - n0 < images ? p.batch - n0 : images;
            const int64_t block0 = part * part_blocks, block1 = block0 + part_blocks < plan.blocks ? block0 + part_blocks : plan.blocks;
            const int64_t m0 = block0 * plan.block_rows, m1 = block1 * plan.block_rows < p.rows ? block1 * plan.block_rows : p.rows;
            const int64_t plane = (h1 - h0) * out_width;
            const T *from = source + n0 * p.source[0] + group * p.channels * p.source[1];
            for (int64_t ci = 0; ci < int64_t(plan.classes.size()); ++ci) {
                const Class &c = plan.classes[size_t(ci)];
                const int64_t step = c.h->step, start = c.h->start;
                const int64_t j0 = h0 <= start ? 0 : (h0 - start + step - 1) / step;
                const int64_t j1 = h1 <= start ? 0 : (h1 - start + step - 1) / step;
                if (j0 >= j1) continue;
                const auto [r0, r1] = source_rows(*c.h, j0, j1);
                if (c.depth == 0 || r1 == r0) {  // no tap, or only padding: +0
                    for (int64_t m = 0; m < m1 - m0; ++m)
                        for (int64_t j = j0; j < j1; ++j)
                            for (int64_t k = 0; k < c.w->count; ++k) {
                                T *to = r + (m * plane + (start + j * step - h0) * out_width + c.w->start + k * c.w->step) * images;
                                for (int64_t i = 0; i < images; i += lanes<T>) store(to + i, vec<T>{});
                            }
                    continue;
                }
                if (listed_class != ci || listed_rows != r1 - r0) lists.clear(), listed_class = ci, listed_rows = r1 - r0;
                for (int64_t first = 0, index = 0; first < c.depth; first += chunk, ++index) {
                    const int64_t c0 = first / c.taps, last = first + chunk < c.depth ? first + chunk : c.depth;
                    const int64_t c1 = (last - 1) / c.taps + 1;
                    T *buffer = static_cast<T *>(scratch(1, size_t((c1 - c0) * (r1 - r0) * width * images) * sizeof(T)));
                    if (!buffer) {
                        fine = false;
                        return;
                    }
                    gather_images(p, from, used, images, c0, c1, r0, r1, width, buffer);
                    for (int64_t j = j0; j < j1; ++j)
                        for (int64_t k = 0; k < c.w->count; ++k) {
                            auto key = visible_key(c, j, k);
                            auto found = lists.find(key);
                            if (found == lists.end())
                                found = lists.emplace(key, visible_steps(c, key, (r1 - r0) * width, width, images, plan.block_rows)).first;
                            const Visible &list = found->second;
                            const int64_t a = list.start[size_t(index)], count = list.start[size_t(index) + 1] - a;
                            const T *x = buffer + ((j * c.h->source_step - r0) * width + k * c.w->source_step) * images;
                            const T *registers_of[NV];
                            for (int v = 0; v < NV; ++v) registers_of[v] = x + v * lanes<T>;
                            T *to = r + ((start + j * step - h0) * out_width + c.w->start + k * c.w->step) * images;
                            for (int64_t b = block0; b < block1; ++b) {
                                const int64_t m = b * plan.block_rows;
                                const int64_t rows = p.rows - m < plan.block_rows ? p.rows - m : plan.block_rows;
                                tile_of<T, NV, Fold<T>>(int(rows))(registers_of, packed + plan.at(c, group, b) + first * plan.block_rows, 1,
                                                                   list.steps.data() + a, count,
                                                                   Fold<T>{to + (m - m0) * plane * images, plane * images, first == 0});
                            }
                        }
                }
            }
            scatter_images(p, r, used, images, m1 - m0, h0, h1, out_width, bias ? bias + group * p.rows + m0 : nullptr,
                           out + n0 * p.out[0] + (group * p.rows + m0) * p.out[1]);
        }
    });
    return fine ? DK_OK : DK_NO_MEMORY;
}

}  // namespace
}  // namespace dk
