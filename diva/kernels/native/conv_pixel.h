// The pixel route: registers hold neighbouring positions of one image, read from a zero-padded copy of the rows at work.
//
// The copy keeps the columns (and rows) that a stride visits side by side, one plane per remainder, so that neighbouring
// positions are neighbouring numbers for every tap. It holds true zeros on padding: no demand on the weights.
#pragma once

#include "conv_pack.h"

namespace dk {
namespace {

// An axis of the copy: tap t reads plane phase[t] at position i + shift[t]; plane p holds source first[p] + i step.
struct Split {
    std::vector<int64_t> phase, shift, first;
    int64_t extra = 0, step = 1;  // positions beyond `count`
    explicit Split(const Axis &a) : step(a.source_step) {
        if (a.offset.empty()) return;
        int64_t low = a.offset[0];
        for (int64_t o : a.offset) low = o < low ? o : low;
        for (int64_t o : a.offset) {
            const int64_t remainder = (o - low) % step;
            size_t p = 0;
            while (p < first.size() && first[p] != low + remainder) ++p;
            if (p == first.size()) first.push_back(low + remainder);
            phase.push_back(int64_t(p)), shift.push_back((o - low) / step);
            extra = shift.back() > extra ? shift.back() : extra;
        }
    }
};

struct PixelClass {
    const Class *c;
    Split h, w;
    int64_t pitch, row_registers, r_pitch;  // of the copy; registers per row, 0: registers run on over rows; of R
    std::vector<Step> steps;                // for the band height that they were made for
    int64_t plane = 0;                      // of the copy, per (channel, depth tap)
    explicit PixelClass(const Class &c_) : c(&c_), h(*c_.h), w(*c_.w) {}
};

template <class T, int NV> struct PixelTile {
    static void run(int nv, int rows, const T *const *x, const T *s, const Step *steps, int64_t count, Fold<T> fold) {
        if constexpr (NV > 1)
            if (nv < NV) return PixelTile<T, NV - 1>::run(nv, rows, x, s, steps, count, fold);
        tile_of<T, NV, Fold<T>>(rows)(x, s, 1, steps, count, fold);
    }
};

// Registers per tile for this many rows: the widest tile that holds all of them, else the default.
inline int pixel_registers(int64_t rows) {
    for (int nv : {6, 4}) if (rows <= tile_rows(nv)) return nv;
    return registers == 32 || rows <= tile_rows(3) ? 3 : 2;
}

// Registers that `height` rows of a class fill, and whether rows are run together.
template <class T> int64_t pixel_registers_of(int64_t height, int64_t width, int64_t pitch, bool &together) {
    const int64_t apart = height * ((width + lanes<T> - 1) / lanes<T>);
    const int64_t flat = ((height - 1) * pitch + width + lanes<T> - 1) / lanes<T>;
    together = flat <= apart;
    return together ? flat : apart;
}

template <class T>
void copy_rows(const Gather &p, const PixelClass &c, const T *source, int64_t i_d, int64_t j0, int64_t height, T *to) {
    const Axis &d = *c.c->d, &h = *c.c->h, &w = *c.c->w;
    const int64_t rows = height + c.h.extra, columns = c.pitch;
    for (int64_t ch = 0; ch < p.channels; ++ch)
        for (int64_t od : d.offset) {
            const int64_t z = i_d * d.source_step + od;
            for (int64_t fh : c.h.first)
                for (int64_t fw : c.w.first) {
                    const int64_t s = c.w.step, across = s * p.source[4];
                    int64_t lo = fw >= 0 ? 0 : (-fw + s - 1) / s, hi = fw >= w.source_size ? 0 : (w.source_size - 1 - fw) / s + 1;
                    hi = hi > columns ? columns : hi;
                    const bool empty = z < 0 || z >= d.source_size || hi <= lo;
                    const T *from = source + ch * p.source[1] + z * p.source[2] + (fw + lo * s) * p.source[4];
                    for (int64_t r = 0; r < rows; ++r, to += columns) {
                        const int64_t y = (j0 + r) * c.h.step + fh;
                        if (empty || y < 0 || y >= h.source_size) {
                            for (int64_t k = 0; k < columns; k += lanes<T>) store(to + k, vec<T>{});  // what it overruns comes next
                            continue;
                        }
                        for (int64_t k = 0; k < lo; ++k) to[k] = 0;
                        copy_every(from + y * p.source[3], across, to + lo, hi - lo);
                        for (int64_t k = hi; k < columns; ++k) to[k] = 0;
                    }
                }
        }
}

template <class T> void pixel_steps(const Gather &p, PixelClass &c, int64_t height, int64_t block_rows) {
    const int64_t rows = height + c.h.extra, n_w = int64_t(c.w.first.size()), n_h = int64_t(c.h.first.size());
    c.plane = n_h * n_w * rows * c.pitch;
    c.steps.clear();
    for (int64_t ch = 0, k = 0; ch < p.channels; ++ch)
        for (size_t d = 0; d < c.c->d->tap.size(); ++d)
            for (size_t a = 0; a < c.c->h->tap.size(); ++a)
                for (size_t b = 0; b < c.c->w->tap.size(); ++b, ++k) {
                    const int64_t at = (ch * int64_t(c.c->d->tap.size()) + int64_t(d)) * c.plane +
                                       ((c.h.phase[a] * n_w + c.w.phase[b]) * rows + c.h.shift[a]) * c.pitch + c.w.shift[b];
                    c.steps.push_back({int32_t(at), int32_t(k % chunk * block_rows)});
                }
}

template <class T>
void write_rows(const PixelClass &c, const T *r, int64_t height, T bias, bool add, T *row, int64_t row_step, int64_t step) {
    const int64_t width = c.c->w->count;
    const vec<T> b = set(bias);
    for (int64_t j = 0; j < height; ++j, r += c.r_pitch, row += row_step) {
        if (step == 1) {
            int64_t k = 0;
            for (; k + lanes<T> <= width; k += lanes<T>) store(row + k, add ? load(r + k) + b : load(r + k));
            if (k < width) store(row + k, add ? load(r + k) + b : load(r + k), width - k);
        } else {
            for (int64_t k = 0; k < width; ++k) row[k * step] = add ? r[k] + bias : r[k];
        }
    }
}

// Rows of output positions per band, so that the copy and R stay in the second-level cache.
template <class T> int64_t pixel_band(const Gather &p, const PixelClass &c) {
    const int64_t per_row = int64_t(c.h.first.size() * c.w.first.size() * c.c->d->tap.size()) * p.channels * c.pitch;
    const int64_t cache = 384 * 1024 / int64_t(sizeof(T));
    int64_t band = cache / (per_row + p.rows * c.r_pitch + 1) - c.h.extra;
    return band < 1 ? 1 : band > c.c->h->count ? c.c->h->count : band;
}

template <class T, int NV>
bool pixel_class(const Gather &p, const PackedWeights &plan, PixelClass c, const T *packed, const T *source, const T *bias, T *out) {
    const Axis &d = *c.c->d, &h = *c.c->h, &w = *c.c->w;
    bool together = false;
    c.pitch = w.count + c.w.extra;
    pixel_registers_of<T>(h.count, w.count, c.pitch, together);
    c.row_registers = together ? 0 : (w.count + lanes<T> - 1) / lanes<T>;
    c.r_pitch = together ? c.pitch : c.row_registers * lanes<T>;
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
    pixel_steps<T>(p, c, band, plan.block_rows);
    const int64_t last_band = h.count - (bands - 1) * band;
    PixelClass last = c;
    if (last_band != band) pixel_steps<T>(p, last, last_band, plan.block_rows);
    std::atomic<bool> fine{true};
    parallel(items, grain_for(items, work), [&](int64_t begin, int64_t end) {
        const int64_t r_row = (band * c.r_pitch + lanes<T> - 1) / lanes<T> * lanes<T>;
        T *copy = static_cast<T *>(scratch(0, size_t(p.channels * int64_t(d.tap.size()) * c.plane + 2 * lanes<T>) * sizeof(T)));
        T *r = static_cast<T *>(scratch(1, size_t(p.rows * r_row + lanes<T>) * sizeof(T)));
        if (!copy || !r) {
            fine = false;
            return;
        }
        for (int64_t item = begin; item < end; ++item) {
            const int64_t part = item % parts, j0 = item / parts % bands * band, i = item / parts / bands % d.count;
            const int64_t group = item / parts / bands / d.count % p.groups, image = item / parts / bands / d.count / p.groups;
            const int64_t height = j0 + band < h.count ? band : h.count - j0;
            const PixelClass &here = height == band ? c : last;
            const int64_t b0 = part * part_blocks, b1 = b0 + part_blocks < plan.blocks ? b0 + part_blocks : plan.blocks;
            const int64_t m0 = b0 * plan.block_rows, m1 = b1 * plan.block_rows < p.rows ? b1 * plan.block_rows : p.rows;
            const int64_t filled = together ? ((height - 1) * c.pitch + w.count + lanes<T> - 1) / lanes<T> : height * c.row_registers;
            copy_rows(p, here, source + image * p.source[0] + group * p.channels * p.source[1], i, j0, height, copy);
            if (here.c->depth == 0)
                for (int64_t k = 0; k < p.rows * r_row; ++k) r[k] = 0;
            for (int64_t first = 0; first < here.c->depth; first += chunk) {
                const int64_t count = here.c->depth - first < chunk ? here.c->depth - first : chunk;
                for (int64_t v = 0; v < filled; v += NV) {
                    const int nv = int(filled - v < NV ? filled - v : NV);
                    const T *x[NV];
                    for (int64_t k = 0; k < NV; ++k) {
                        const int64_t at = v + (k < nv ? k : 0);
                        x[k] = copy + (together ? at * lanes<T> : at / c.row_registers * c.pitch + at % c.row_registers * lanes<T>);
                    }
                    for (int64_t b = b0; b < b1; ++b) {
                        const int64_t m = b * plan.block_rows, rows = p.rows - m < plan.block_rows ? p.rows - m : plan.block_rows;
                        PixelTile<T, NV>::run(nv, int(rows), x, packed + plan.at(*here.c, group, b) + first * plan.block_rows,
                                              here.steps.data() + first, count, Fold<T>{r + m * r_row + v * lanes<T>, r_row, first == 0});
                    }
                }
            }
            T *to = out + image * p.out[0] + group * p.rows * p.out[1] + (d.start + i * d.step) * p.out[2] +
                    (h.start + j0 * h.step) * p.out[3] + w.start * p.out[4];
            if (p.out[1] == 1 && p.rows > 1) {  // channels-last
                for (int64_t j = 0; j < height; ++j) {
                    if (bias)
                        for (int64_t m = m0; m < m1; ++m)
                            for (int64_t k = 0; k < w.count; ++k) r[m * r_row + j * c.r_pitch + k] += bias[group * p.rows + m];
                    transpose(r + m0 * r_row + j * c.r_pitch, r_row, to + m0 + j * h.step * p.out[3], w.step * p.out[4], m1 - m0, w.count,
                              false);
                }
            } else {
                for (int64_t m = m0; m < m1; ++m)
                    write_rows(c, r + m * r_row, height, bias ? bias[group * p.rows + m] : T(0), bias != nullptr, to + m * p.out[1],
                               h.step * p.out[3], w.step * p.out[4]);
            }
        }
    });
    return fine;
}

template <class T, int NV>
bool pixel_classes(const Gather &p, const PackedWeights &plan, const T *packed, const T *source, const T *bias, T *out) {
    for (const Class &c : plan.classes)
        if (!pixel_class<T, NV>(p, plan, PixelClass(c), packed, source, bias, out)) return false;
    return true;
}

template <class T> int32_t gather_pixel(const Gather &p, const T *source, const T *weight, const T *bias, T *out) {
    const int nv = pixel_registers(p.rows);
    const PackedWeights plan = plan_weights(p, tile_rows(nv));
    T *packed = static_cast<T *>(scratch(7, size_t(plan.total + 2 * lanes<T>) * sizeof(T)));
    if (!packed) return DK_NO_MEMORY;
    pack_weights(p, plan, weight, packed);
    const bool done = nv == 6   ? pixel_classes<T, 6>(p, plan, packed, source, bias, out)
                      : nv == 4 ? pixel_classes<T, 4>(p, plan, packed, source, bias, out)
                      : nv == 3 ? pixel_classes<T, 3>(p, plan, packed, source, bias, out)
                                : pixel_classes<T, 2>(p, plan, packed, source, bias, out);
    return done ? DK_OK : DK_NO_MEMORY;
}

}  // namespace
}  // namespace dk
