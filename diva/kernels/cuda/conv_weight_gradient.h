// The gradient of a convolution's weight: dw[o, column] = DOT over (n, q) of g[n, o, q] x[n, column at q], a column being an
// (input channel, tap). Few outputs and a long DOT: every chunk of 256 is a chain of its own, `parts[chunk][o][column]`, and
// `add_chains` adds them in their order.
#pragma once

#include "conv_async.h"
#include "conv_shape.h"

namespace dk {

struct WeightShape {
    GatherAxis axis[3];  // of the forward pass
    int32_t batch, groups, channels, rows, columns;  // rows: output channels of a group; columns: channels of x times taps
    int32_t row_tiles, column_tiles, chunks_each, narrow;  // narrow: 32 bits number the terms
    int64_t pixels, depth, first_chunk, chunks;  // of the output; terms; the chunks that are computed now
    int64_t x[5], g[5], w[5];
};

struct ColumnOf {
    int32_t channel, j[3];
};

DK_INLINE ColumnOf column_of(const WeightShape &p, int32_t column) {
    ColumnOf r;
    const int32_t kernel_w = p.axis[2].kernel, kernel_h = p.axis[1].kernel, taps = kernel_w * kernel_h * p.axis[0].kernel;
    r.channel = column / taps;
    int32_t rest = column - r.channel * taps;
    r.j[2] = rest % kernel_w, rest /= kernel_w;
    r.j[1] = rest % kernel_h, r.j[0] = rest / kernel_h;
    return r;
}

struct Pixel {
    int64_t image;
    int32_t q[3];
};

DK_INLINE Pixel pixel_of(const WeightShape &p, int64_t k) {
    Pixel r;
    const Divider &w = p.axis[2].count[0], &h = p.axis[1].count[0], &d = p.axis[0].count[0];
    uint32_t rest;
    if (p.narrow) {
        rest = uint32_t(k);
    } else {
        r.image = k / p.pixels, rest = uint32_t(k - r.image * p.pixels);
    }
    uint32_t next = w.of(rest);
    r.q[2] = int32_t(rest - next * w.divisor), rest = next;
    next = h.of(rest);
    r.q[1] = int32_t(rest - next * h.divisor), rest = next;
    next = d.of(rest);
    r.q[0] = int32_t(rest - next * d.divisor);
    if (p.narrow) r.image = next;
    return r;
}

// What a block is for: the first row and column of its tile, and its chunks.
struct WeightBlock {
    int32_t row, column, group, chunk, end;
};

DK_INLINE WeightBlock weight_block(const WeightShape &p, int BM, int BN) {
    WeightBlock b;
    uint32_t rest = blockIdx.x;
    b.row = int32_t(rest % uint32_t(p.row_tiles)) * BM, rest /= uint32_t(p.row_tiles);
    b.column = int32_t(rest % uint32_t(p.column_tiles)) * BN, rest /= uint32_t(p.column_tiles);
    b.group = int32_t(rest % uint32_t(p.groups));
    b.chunk = int32_t(rest / uint32_t(p.groups)) * p.chunks_each;
    b.end = b.chunk + p.chunks_each < p.chunks ? b.chunk + p.chunks_each : int32_t(p.chunks);
    return b;
}

// Columns by rows of one chunk after the other; a thread copies one term of each slice, for some rows and columns.
template <class T, int BM, int BN, int MT, int NT, int stages>
__global__ void __launch_bounds__((BM / MT) * (BN / NT), ((BM / MT) * (BN / NT) < 256 ? 384 : 512) / ((BM / MT) * (BN / NT)))
weight_tiles(T *parts, const T *g, const T *x, WeightShape p) {
    constexpr int threads = BM / MT * (BN / NT), V = per_vector<T>, lines = threads / slice;
    constexpr int a_pitch = BM + 16 / sizeof(T), b_pitch = BN + 16 / sizeof(T), stage = slice * (a_pitch + b_pitch);
    static_assert(BM % lines == 0 && BN % lines == 0, "the tile's parts");
    __shared__ Vector<T> memory[stages * stage / V];
    __shared__ int64_t x_place[dot_chunk], g_place[dot_chunk];
    __shared__ uint32_t outside[dot_chunk];
    __shared__ WeightBlock here_;
    const WeightBlock &here = here_;  // read again where it is used: the sums need the registers
    T *const numbers = reinterpret_cast<T *>(memory);

    const int t = int(threadIdx.x);
    if (t == 0) here_ = weight_block(p, BM, BN);
    __syncthreads();

    const int k_of_mine = t % slice, line = t / slice;
    Tap columns[BN / lines];
    for (int e = 0; e < BN / lines; ++e) {
        Tap tap{0, bit_never};
        if (here.column + line + e * lines < p.columns) {
            const ColumnOf c = column_of(p, here.column + line + e * lines);
            int64_t place = c.channel * p.x[1];
            tap.bits = bit_position;
            for (int a = 0; a < 3; ++a) {
                place += (c.j[a] * p.axis[a].dilation - p.axis[a].padding) * p.x[2 + a];
                tap.bits |= (p.axis[a].bits ? 1u << c.j[a] : 0u) << p.axis[a].first_bit;
            }
            tap.offset = int32_t(place);
        }
        columns[e] = tap;
    }
    uint32_t rows_beyond = 0;
    for (int e = 0; e < BM / lines; ++e) rows_beyond |= uint32_t(here.row + line + e * lines >= p.rows) << e;
    const Part<T, BN, NT> part(t);
    const T *const g_line = g + (int64_t(here.group) * p.rows + here.row + line) * p.g[1];

    T acc[MT][NT] = {};
    for (int chunk = here.chunk; chunk < here.end; ++chunk) {
        const int64_t first = (p.first_chunk + chunk) * dot_chunk;
        const int length = int(p.depth - first < dot_chunk ? p.depth - first : dot_chunk), slices = (length + slice - 1) / slice;
        __syncthreads();
        for (int k = t; k < slices * slice; k += threads) {
            uint32_t bits = bit_never | bit_position;
            int64_t of_x = int64_t(here.group) * p.channels * p.x[1], of_g = 0;
            if (k < length) {
                const Pixel at = pixel_of(p, first + k);
                bits = bit_never;
                of_x += at.image * p.x[0], of_g = at.image * p.g[0];
                for (int a = 0; a < 3; ++a) {
                    const GatherAxis &axis = p.axis[a];
                    of_x += int64_t(at.q[a]) * axis.source_step * p.x[2 + a], of_g += at.q[a] * p.g[2 + a];
                    if (!axis.bits) continue;
                    int32_t place = at.q[a] * axis.source_step - axis.padding;
                    for (int j = 0; j < axis.kernel; ++j, place += axis.dilation)
                        bits |= uint32_t(uint32_t(place) >= uint32_t(axis.source_size)) << (axis.first_bit + j);
                }
            }
            x_place[k] = of_x, g_place[k] = of_g, outside[k] = bits;
        }
        __syncthreads();
        auto fetch = [&](int s, int at) {
            if (s < slices) {
                T *const a = numbers + at + k_of_mine * a_pitch + line;
                T *const b = numbers + at + slice * a_pitch + k_of_mine * b_pitch + line;
                const int k = s * slice + k_of_mine;
                const uint32_t bits = outside[k];
                const bool inside = (bits & bit_position) == 0;
                const T *from = whole_address(g_line + g_place[k]);
                const T *const image = whole_address(x + x_place[k]);
                if (rows_beyond == 0) {
                    DK_UNROLL
                    for (int e = 0; e < BM / lines; ++e, from += lines * p.g[1]) copy_or_zero(a + e * lines, from, inside);
                } else {
                    DK_UNROLL
                    for (int e = 0; e < BM / lines; ++e, from += lines * p.g[1])
                        copy_or_zero(a + e * lines, from, inside && !(rows_beyond >> e & 1));
                }
                DK_UNROLL
                for (int e = 0; e < BN / lines; ++e)
                    copy_or_zero(b + e * lines, image + columns[e].offset, (bits & columns[e].bits) == 0);
            }
            copies_end();
        };
        constexpr int last_stage = (stages - 1) * stage;
        for (int s = 0; s < stages - 1; ++s) fetch(s, s * stage);
        for (int s = 0, at = 0; s < slices; ++s) {
            copies_wait<stages - 2>();
            __syncthreads();
            fetch(s + stages - 1, at ? at - stage : last_stage);
            outer_products<T, MT, NT, a_pitch, b_pitch, BM / (MT / V), BN / (NT / V)>(acc, numbers + at + part.row,
                                                                                      numbers + at + slice * a_pitch + part.column);
            at = at == last_stage ? 0 : at + stage;
        }
        copies_wait<0>();
        DK_UNROLL
        for (int i = 0; i < MT; ++i) {
            const int row = here.row + part.row + i / V * (BM / (MT / V)) + i % V;
            T *const to = parts + ((int64_t(chunk) * p.groups + here.group) * p.rows + row) * p.columns;
            DK_UNROLL
            for (int j = 0; j < NT; j += V) {
                const int column = here.column + part.column + j / V * (BN / (NT / V));
                if (row < p.rows && column + V <= p.columns && reinterpret_cast<uint64_t>(to + column) % 16 == 0) {
                    Vector<T> v;
                    DK_UNROLL
                    for (int e = 0; e < V; ++e) v.v[e] = acc[i][j + e];
                    *reinterpret_cast<Vector<T> *>(to + column) = v;
                } else {
                    DK_UNROLL
                    for (int e = 0; e < V; ++e)
                        if (row < p.rows && column + e < p.columns) to[column + e] = acc[i][j + e];
                }
                DK_UNROLL
                for (int e = 0; e < V; ++e) acc[i][j + e] = 0;
            }
        }
    }
}

// The direct route: a thread for one chunk, one column and a few rows. Any geometry.
template <class T, int rows_each>
__global__ void __launch_bounds__(128) weight_direct(T *parts, const T *g, const T *x, WeightShape p) {
    uint32_t block = blockIdx.x;
    const int row0 = int(block % uint32_t(p.row_tiles)) * rows_each;
    block /= uint32_t(p.row_tiles);
    const int group = int(block % uint32_t(p.groups));
    const int64_t item = int64_t(block / uint32_t(p.groups)) * 128 + threadIdx.x;
    const int64_t chunk = item / p.columns;
    if (chunk >= p.chunks) return;
    const ColumnOf c = column_of(p, int32_t(item - chunk * p.columns));
    int64_t k = (p.first_chunk + chunk) * dot_chunk;
    const int64_t end = k + dot_chunk < p.depth ? k + dot_chunk : p.depth;
    int64_t row_place[rows_each];
    for (int r = 0; r < rows_each; ++r) row_place[r] = (row0 + r < p.rows ? r : 0) * p.g[1];
    const T *const g_here = g + (int64_t(group) * p.rows + row0) * p.g[1];
    const T *const x_here = x + (int64_t(group) * p.channels + c.channel) * p.x[1];
    const int width = p.axis[2].size;
    const int64_t x_step = int64_t(p.axis[2].source_step) * p.x[4];

    Pixel at = pixel_of(p, k);
    T acc[rows_each] = {};
    while (k < end) {  // from here to the end of a row of the output
        const int run = int(end - k < width - at.q[2] ? end - k : width - at.q[2]);
        int32_t place[3];
        for (int a = 0; a < 3; ++a) place[a] = at.q[a] * p.axis[a].source_step + c.j[a] * p.axis[a].dilation - p.axis[a].padding;
        const bool inside =
            uint32_t(place[0]) < uint32_t(p.axis[0].source_size) && uint32_t(place[1]) < uint32_t(p.axis[1].source_size);
        const T *from_x = x_here + at.image * p.x[0] + place[0] * p.x[2] + place[1] * p.x[3] + place[2] * p.x[4];
        const T *from_g = g_here + at.image * p.g[0] + at.q[0] * p.g[2] + at.q[1] * p.g[3] + at.q[2] * p.g[4];
#pragma unroll 4
        for (int i = 0; i < run; ++i) {
            const bool here = inside && uint32_t(place[2] + i * p.axis[2].source_step) < uint32_t(p.axis[2].source_size);
            const T value = here ? from_x[i * x_step] : T(0);
            DK_UNROLL
            for (int r = 0; r < rows_each; ++r) acc[r] = fma(from_g[row_place[r] + i * p.g[4]], value, acc[r]);
        }
        k += run;
        at.q[2] = 0;
        if (++at.q[1] == p.axis[1].size) {
            at.q[1] = 0;
            if (++at.q[0] == p.axis[0].size) at.q[0] = 0, ++at.image;
        }
    }
    for (int r = 0; r < rows_each; ++r)
        if (row0 + r < p.rows)
            parts[((chunk * p.groups + group) * p.rows + row0 + r) * p.columns + item - chunk * p.columns] = acc[r];
}

constexpr int chain_outputs = 32, chain_lines = 8, chain_each = 8, chains_at_once = chain_lines * chain_each;

// dw = R: R = +0, or `before` if it is not null; R = R + parts[chunk], ascending. Where `later` is not null R goes there instead.
template <class T>
__global__ void __launch_bounds__(chain_outputs *chain_lines)
add_chains(T *dw, T *later, const T *before, const T *parts, WeightShape p) {
    __shared__ T chains[chains_at_once][chain_outputs];
    const int64_t outputs = int64_t(p.groups) * p.rows * p.columns;
    const int64_t output = int64_t(blockIdx.x) * chain_outputs + threadIdx.x % 32;
    const int line = int(threadIdx.x) / 32, lane = int(threadIdx.x) % 32;
    T next[chain_each];
    auto fetch = [&](int64_t first) {
        DK_UNROLL
        for (int e = 0; e < chain_each; ++e) {
            const int64_t chunk = first + line + e * chain_lines;
            next[e] = chunk < p.chunks && output < outputs ? parts[chunk * outputs + output] : T(0);
        }
    };
    T sum = before && line == 0 && output < outputs ? before[output] : T(0);
    fetch(0);
    for (int64_t first = 0; first < p.chunks; first += chains_at_once) {
        __syncthreads();
        DK_UNROLL
        for (int e = 0; e < chain_each; ++e) chains[line + e * chain_lines][lane] = next[e];
        __syncthreads();
        fetch(first + chains_at_once);
        if (line) continue;
        const int count = int(p.chunks - first < chains_at_once ? p.chunks - first : chains_at_once);
#pragma unroll 8
        for (int e = 0; e < count; ++e) sum = sum + chains[e][lane];
    }
    if (line || output >= outputs) return;
    if (later) {
        later[output] = sum;
        return;
    }
    const ColumnOf c = column_of(p, int32_t(output % p.columns));
    dw[output / p.columns * p.w[0] + c.channel * p.w[1] + c.j[0] * p.w[2] + c.j[1] * p.w[3] + c.j[2] * p.w[4]] = sum;
}

}  // namespace dk
