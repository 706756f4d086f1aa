// The channel route: registers hold output channels, rows of the tile are neighbouring positions of one output row.
//
// It reads the same zero-padded copy as the pixel route, one number at a time, so that no register is half empty at the end
// of a row; with finite weights the taps above and below the image are left out. R is [position][channel] until it is done.
#pragma once

#include "conv_pixel.h"

namespace dk {
namespace {

// The taps inside of the image for output row j, as a range of kernel rows.
struct RowTaps {
    int64_t lo, hi;
    std::vector<Step> steps;
    std::vector<int64_t> start;  // chunk c is steps[start[c]..start[c + 1])
};

inline RowTaps row_taps(const PixelClass &c, int64_t lo, int64_t hi, int64_t width) {
    RowTaps list{lo, hi, {}, {}};
    const int64_t columns = int64_t(c.c->w->tap.size()), rows = int64_t(c.c->h->tap.size());
    for (int64_t k = 0; k < c.c->depth; ++k) {
        if (k % chunk == 0) list.start.push_back(int64_t(list.steps.size()));
        const int64_t a = k / columns % rows;
        if (a >= lo && a < hi) list.steps.push_back({int32_t(k % chunk * width), c.steps[size_t(k)].v});
    }
    list.start.push_back(int64_t(list.steps.size()));
    return list;
}

// The band's R goes to the output: r[block][position][channel of the block].
template <class T>
void write_channels(const Gather &p, const PixelClass &c, T *r, int64_t height, int64_t rows, int64_t width, const T *bias,
                    T *to, T *turned) {
    const Axis &h = *c.c->h, &w = *c.c->w;
    const int64_t positions = height * w.count, row_step = h.step * p.out[3], step = w.step * p.out[4];
    for (int64_t m = 0; m < rows; m += width, r += positions * width) {
        const int64_t count = rows - m < width ? rows - m : width;
        if (bias) {
            alignas(64) T b[4 * (lanes<T>)] = {};
            for (int64_t i = 0; i < count; ++i) b[i] = bias[m + i];
            for (int64_t q = 0; q < positions; ++q)
                for (int64_t i = 0; i < width; i += lanes<T>) store(r + q * width + i, load(r + q * width + i) + load(b + i));
        }
        if (p.out[1] == 1) {
            for (int64_t q = 0; q < positions; ++q)
                std::memcpy(to + m + q / w.count * row_step + q % w.count * step, r + q * width, size_t(count) * sizeof(T));
        } else if (step == 1 && (row_step == w.count || height == 1)) {
            transpose(r, width, to + m * p.out[1], p.out[1], positions, count, false);
        } else {
            const int64_t pitch = (positions + lanes<T> - 1) / lanes<T> * lanes<T>;
            transpose(r, width, turned, pitch, positions, count, true);
            for (int64_t i = 0; i < count; ++i)
                for (int64_t j = 0; j < height; ++j) {
                    const T *from = turned + i * pitch + j * w.count;
                    T *row = to + (m + i) * p.out[1] + j * row_step;
                    if (step == 2)
                        for (int64_t k = 0; k < w.count; ++k) row[2 * k] = from[k];
                    else
                        for (int64_t k = 0; k < w.count; ++k) row[k * step] = from[k];
                }
        }
    }
}

template <class T, int NV>
bool channel_class(const Gather &p, const PackedWeights &plan, bool finite, PixelClass c, const T *packed, const T *source,
                   const T *bias, T *out) {
    constexpr int64_t width = NV * lanes<T>;
    const Axis &d = *c.c->d, &h = *c.c->h, &w = *c.c->w;
    c.pitch = w.count + c.w.extra;
    c.r_pitch = w.count;
    int64_t band = pixel_band<T>(p, c), parts = 1;
    const int threads = thread_count();
    if (threads > 1) {
        const int64_t units = p.batch * p.groups * d.count;
        while (band > 4 && units * ((h.count + band - 1) / band) < 3 * threads) band = (band + 1) / 2;
        while (parts < plan.blocks && units * ((h.count + band - 1) / band) * parts < 2 * threads) ++parts;
    }
    const int64_t bands = (h.count + band - 1) / band, part_blocks = (plan.blocks + parts - 1) / parts;
    band = (h.count + bands - 1) / bands;
    const int64_t items = p.batch * p.groups * d.count * bands * parts;
    const double work = double(p.batch * p.groups * p.rows * (c.c->depth + 8)) * double(d.count * h.count * c.r_pitch);
    const int64_t most = tile_rows(NV), tiles = (w.count + most - 1) / most, tile_width = (w.count + tiles - 1) / tiles;
    std::atomic<bool> fine{true};
    // A band always copies the rows of a whole one, so that one list of steps serves all.
    pixel_steps<T>(p, c, band, 0);
    std::vector<RowTaps> lists;
    std::vector<int64_t> list_of(size_t(h.count), 0);
    for (int64_t j = 0; j < h.count; ++j) {
        std::pair<int64_t, int64_t> seen{0, int64_t(h.tap.size())};
        if (finite) seen = visible_taps(h, j);
        size_t k = 0;
        while (k < lists.size() && (lists[k].lo != seen.first || lists[k].hi != seen.second)) ++k;
        if (k == lists.size()) lists.push_back(row_taps(c, seen.first, seen.second, width));
        list_of[size_t(j)] = int64_t(k);
    }
    parallel(items, grain_for(items, work), [&](int64_t begin, int64_t end) {
        const int64_t band_positions = band * w.count;
        T *copy = static_cast<T *>(scratch(0, size_t(p.channels * int64_t(d.tap.size()) * c.plane + 2 * lanes<T>) * sizeof(T)));
        T *r = static_cast<T *>(scratch(1, size_t(part_blocks * width * band_positions) * sizeof(T)));
        T *turned = static_cast<T *>(scratch(2, size_t(width * (band_positions + lanes<T>)) * sizeof(T)));
        if (!copy || !r || !turned) {
            fine = false;
            return;
        }
        for (int64_t item = begin; item < end; ++item) {
            const int64_t part = item % parts, j0 = item / parts % bands * band, i = item / parts / bands % d.count;
            const int64_t group = item / parts / bands / d.count % p.groups, image = item / parts / bands / d.count / p.groups;
            const int64_t height = j0 + band < h.count ? band : h.count - j0, positions = height * w.count;
            const int64_t b0 = part * part_blocks, b1 = b0 + part_blocks < plan.blocks ? b0 + part_blocks : plan.blocks;
            const int64_t m0 = b0 * width, m1 = b1 * width < p.rows ? b1 * width : p.rows;
            copy_rows(p, c, source + image * p.source[0] + group * p.channels * p.source[1], i, j0, band, copy);
            if (c.c->depth == 0)
                for (int64_t k = 0; k < (b1 - b0) * width * positions; ++k) r[k] = 0;
            for (int64_t first = 0, index = 0; first < c.c->depth; first += chunk, ++index)
                for (int64_t b = b0; b < b1; ++b) {
                    const T *weights = packed + plan.at(*c.c, group, b) + first * width;
                    const T *registers_of[NV];
                    for (int v = 0; v < NV; ++v) registers_of[v] = weights + v * lanes<T>;
                    T *to = r + (b - b0) * positions * width;
                    for (int64_t j = 0; j < height; ++j) {
                        const RowTaps &list = lists[size_t(list_of[size_t(j0 + j)])];
                        const int64_t a = list.start[size_t(index)], count = list.start[size_t(index) + 1] - a;
                        for (int64_t k = 0; k < w.count; k += tile_width) {
                            const int64_t rows = w.count - k < tile_width ? w.count - k : tile_width;
                            tile_of<T, NV, Fold<T>>(int(rows))(registers_of, copy + j * c.pitch + k, 1, list.steps.data() + a, count,
                                                               Fold<T>{to + (j * w.count + k) * width, width, first == 0});
                        }
                    }
                }
            write_channels(p, c, r, height, m1 - m0, width, bias ? bias + group * p.rows + m0 : nullptr,
                           out + image * p.out[0] + (group * p.rows + m0) * p.out[1] + (d.start + i * d.step) * p.out[2] +
                               (h.start + j0 * h.step) * p.out[3] + w.start * p.out[4],
                           turned);
        }
    });
    return fine;
}

template <class T, int NV>
int32_t gather_channel(const Gather &p, const T *source, const T *weight, const T *bias, T *out) {
    const PackedWeights plan = plan_weights(p, NV * lanes<T>, true);
    T *packed = static_cast<T *>(scratch(7, size_t(plan.total + 2 * lanes<T>) * sizeof(T)));
    if (!packed) return DK_NO_MEMORY;
    const bool finite = pack_weights(p, plan, weight, packed);
    for (const Class &c : plan.classes)
        if (!channel_class<T, NV>(p, plan, finite, PixelClass(c), packed, source, bias, out)) return DK_NO_MEMORY;
    return DK_OK;
}

}  // namespace
}  // namespace dk
