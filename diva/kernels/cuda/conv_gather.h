// The tiled route of a gather: rows by positions, the DOT's terms in slices of 8 through shared memory.
//
// A block has G sets of threads for one tile. Set g computes the chains of chunks g, G + g, .. of 256 terms; after each round
// the chains are added to R in their order, which every set keeps for its share of the tile's rows. So a small output still
// fills the GPU, and a thread holds one chain and a G-th of R in registers.
#pragma once

#include "conv_async.h"
#include "conv_shape.h"

namespace dk {

constexpr int pack_side = 32;

// Weights as tiles read them: packed[class][group][tile of BM rows][term][row], +0 where there is none.
template <class T, int BM>
__global__ void __launch_bounds__(256) pack_weights(T *packed, const T *weight, GatherShape p) {
    __shared__ T square[pack_side][pack_side + 1];
    const uint32_t row_squares = uint32_t(p.row_tiles) * (BM / pack_side);
    const uint32_t depth_squares = uint32_t(p.depth + pack_side - 1) / pack_side;
    uint32_t block = blockIdx.x;
    const int row0 = int(block % row_squares) * pack_side;
    block /= row_squares;
    const int k0 = int(block % depth_squares) * pack_side;
    block /= depth_squares;
    const int group = int(block % uint32_t(p.groups));
    const Class c = class_of(p, int32_t(block / uint32_t(p.groups)));
    const T *const from = weight + group * p.weight_group;
    T *const to = packed + int64_t(block) * p.row_tiles * BM * p.depth;
    const int lane = int(threadIdx.x) % pack_side;
    if (k0 + lane < c.depth) {
        const int64_t place = term_weight(p, c, term_of(c, k0 + lane));
        for (int r = int(threadIdx.x) / pack_side; r < pack_side; r += 256 / pack_side)
            square[r][lane] = row0 + r < p.rows ? from[(row0 + r) * p.weight_row + place] : T(0);
    } else {
        for (int r = int(threadIdx.x) / pack_side; r < pack_side; r += 256 / pack_side) square[r][lane] = T(0);
    }
    __syncthreads();
    const int row = row0 + lane;
    for (int r = int(threadIdx.x) / pack_side; r < pack_side && k0 + r < p.depth; r += 256 / pack_side)
        to[(int64_t(row / BM) * p.depth + k0 + r) * BM + row % BM] = square[lane][r];
}

template <class T, int BM, int BN, int MT, int NT, int G, int stages> struct GatherTile {
    static constexpr int threads = BM / MT * (BN / NT), V = per_vector<T>;
    static constexpr int row_step = BM / (MT / V), column_step = BN / (NT / V);
    static constexpr int stage = slice * (BM + BN);
    static constexpr int numbers = G * stages * stage > BM * BN || G == 1 ? G * stages * stage : BM * BN;
    static constexpr int share = MT / G;  // rows of R per thread
};

// Adds the bias and writes a thread's part of R: `row` is its first row of the tile, which `rows` are in the output.
template <class T, int R, int NT, int row_step, int column_step>
DK_INLINE void write_part(const T (&sum)[R][NT], T *out, const T *bias, const int64_t *place, int64_t row_stride, int row,
                          int rows) {
    constexpr int V = per_vector<T>;
    auto row_of = [=](int i) { return row + i / V * row_step + i % V; };
    auto value = [&](int i, int j) { return bias && row_of(i) < rows ? sum[i][j] + bias[row_of(i)] : sum[i][j]; };
    if (R % V == 0 && row_stride == 1) {  // channels last: neighbours are rows
        DK_UNROLL
        for (int j = 0; j < NT; ++j) {
            const int64_t at = place[j / V * column_step + j % V];
            if (at < 0) continue;
            DK_UNROLL
            for (int i = 0; i < R; i += V) {
                T *to = out + at + row_of(i);
                if (V > 1 && row_of(i) + V <= rows && reinterpret_cast<uint64_t>(to) % 16 == 0) {
                    Vector<T> v;
                    DK_UNROLL
                    for (int e = 0; e < V; ++e) v.v[e] = value(i + e, j);
                    *reinterpret_cast<Vector<T> *>(to) = v;
                    continue;
                }
                DK_UNROLL
                for (int e = 0; e < V; ++e)
                    if (row_of(i) + e < rows) to[e] = value(i + e, j);
            }
        }
        return;
    }
    DK_UNROLL
    for (int j = 0; j < NT; j += V) {
        const int64_t *at = place + j / V * column_step;
        bool together = at[0] >= 0;
        DK_UNROLL
        for (int e = 1; e < V; ++e) together = together && at[e] == at[0] + e;
        DK_UNROLL
        for (int i = 0; i < R; ++i) {
            if (row_of(i) >= rows) continue;
            T *line = out + row_of(i) * row_stride;
            if (together && reinterpret_cast<uint64_t>(line + at[0]) % 16 == 0) {
                Vector<T> v;
                DK_UNROLL
                for (int e = 0; e < V; ++e) v.v[e] = value(i, j + e);
                *reinterpret_cast<Vector<T> *>(line + at[0]) = v;
                continue;
            }
            DK_UNROLL
            for (int e = 0; e < V; ++e)
                if (at[e] >= 0) line[at[e]] = value(i, j + e);
        }
    }
}

template <class T, int BM, int BN, int MT, int NT, int G, int stages>
__global__ void __launch_bounds__(G * (BM / MT) * (BN / NT), (BM * MT < 512 ? 384 : 512) / (G * (BM / MT) * (BN / NT)))
gather_tiles(T *out, const T *source, const T *packed, const T *bias, GatherShape p) {
    using Tile = GatherTile<T, BM, BN, MT, NT, G, stages>;
    // Of each slice a thread copies `terms` terms of `per_thread` positions, and `vectors` of the weights.
    constexpr int threads = Tile::threads, V = Tile::V, vectors = slice * BM / V / threads;
    constexpr int per_thread = BN > threads ? BN / threads : 1, terms = BN < threads ? slice * BN / threads : slice;
    static_assert(per_thread * terms * threads == slice * BN && terms % 2 == 0 && slice * BM % (V * threads) == 0, "parts");
    __shared__ Vector<T> memory[Tile::numbers / V];
    __shared__ TapPair taps[G][dot_chunk / 2];
    __shared__ int64_t place[BN];
    __shared__ GatherBlock here_;
    const GatherBlock &here = here_;  // read again where it is used: the sums need the registers
    T *const numbers = reinterpret_cast<T *>(memory);

    const int set = int(threadIdx.x) / threads, t = int(threadIdx.x) % threads;
    if (threadIdx.x == 0) here_ = block_of(p);
    __syncthreads();
    const Class &c = here.c;
    const int64_t first_position = int64_t(here.position_tile) * BN;
    if (first_position >= c.positions) return;  // classes differ in size; all of the block go

    const int column = t % BN, first_term = t / BN * terms;
    const T *from[per_thread];
    uint32_t outside[per_thread];
    for (int e = 0; e < per_thread; ++e) {
        const int64_t number = first_position + column + e * threads;
        const bool inside = number < c.positions;
        const Position at = position_of(c, inside ? int32_t(number) : 0);
        outside[e] = inside ? outside_of(p, c, at) : bit_never | bit_position;
        from[e] = whole_address(source + source_place(p, at) + int64_t(here.group) * p.channels * p.source[1]);
        if (int(threadIdx.x) < BN) place[column + e * threads] = inside ? out_place(p, c, at) : -1;
    }
    T *const mine = numbers + set * stages * Tile::stage;
    const Part<T, BN, NT> part(t);

    T acc[MT][NT] = {}, sum[Tile::share][NT] = {};
    for (int first = 0; first < c.depth; first += G * dot_chunk) {
        const int begin = first + set * dot_chunk, left = c.depth - begin, longest = c.depth - first;
        const int length = left < 0 ? 0 : left < dot_chunk ? left : dot_chunk, slices = (length + slice - 1) / slice;
        const int steps = longest < dot_chunk ? (longest + slice - 1) / slice : dot_chunk / slice;
        __syncthreads();
        for (int k = t; k < slices * slice; k += threads) {
            Tap tap{0, bit_never};
            if (k < length) {
                const Term term = term_of(c, begin + k);
                tap = {int32_t(term_source(p, c, term)), term_bits(p, term)};
            }
            taps[set][k / 2].tap[k % 2] = tap;
        }
        __syncthreads();
        const T *rows_from = whole_address(
            packed + ((int64_t(here.slot) * p.row_tiles + here.row_tile) * p.depth + begin) * BM + t * V);
        const TapPair *taps_from = taps[set] + first_term / 2;
        // Copies a slice, if the set has `left` > 0 of them yet, to the stage at `at`.
        auto fetch = [&](int left, int at) {
            if (left > 0) {
                T *const to = mine + at;
                TapPair pair[terms / 2];
                DK_UNROLL
                for (int k = 0; k < terms / 2; ++k) pair[k] = taps_from[k];
                DK_UNROLL
                for (int e = 0; e < vectors; ++e) copy_vector(to + (t + e * threads) * V, rows_from + e * threads * V);
                DK_UNROLL
                for (int k = 0; k < terms; ++k) {
                    const Tap tap = pair[k / 2].tap[k % 2];
                    DK_UNROLL
                    for (int e = 0; e < per_thread; ++e)
                        copy_or_zero(to + slice * BM + (first_term + k) * BN + column + e * threads, from[e] + tap.offset,
                                     (outside[e] & tap.bits) == 0);
                }
                rows_from += slice * BM, taps_from += slice / 2;
            }
            copies_end();
        };
        constexpr int last_stage = (stages - 1) * Tile::stage;
        for (int s = 0; s < stages - 1; ++s) fetch(slices - s, s * Tile::stage);
        for (int left = slices, beyond = slices - steps, at = 0; left > beyond; --left) {
            copies_wait<stages - 2>();
            __syncthreads();
            fetch(left - (stages - 1), at ? at - Tile::stage : last_stage);
            if (left > 0) {
                const T *const a = mine + at;
                outer_products<T, MT, NT, BM, BN, Tile::row_step, Tile::column_step>(acc, a + part.row,
                                                                                     a + slice * BM + part.column);
            }
            at = at == last_stage ? 0 : at + Tile::stage;
        }
        copies_wait<0>();
        if constexpr (G == 1) {
            DK_UNROLL
            for (int i = 0; i < MT; ++i) {
                DK_UNROLL
                for (int j = 0; j < NT; ++j) sum[i][j] = sum[i][j] + acc[i][j];
            }
            break;  // one set is for one chunk
        } else {
            // R = R + P_c, c ascending: one set after the other lays its chains out, and all take their rows of them.
            for (int turn = 0; turn < G && first + turn * dot_chunk < c.depth; ++turn) {
                __syncthreads();
                if (turn == set) {
                    DK_UNROLL
                    for (int i = 0; i < MT; ++i) {
                        DK_UNROLL
                        for (int j = 0; j < NT; ++j) numbers[(i * NT + j) * threads + t] = acc[i][j], acc[i][j] = 0;
                    }
                }
                __syncthreads();
                DK_UNROLL
                for (int i = 0; i < Tile::share; ++i) {
                    DK_UNROLL
                    for (int j = 0; j < NT; ++j)
                        sum[i][j] = sum[i][j] + numbers[((set * Tile::share + i) * NT + j) * threads + t];
                }
            }
        }
    }
    __syncthreads();
    const int share = set * Tile::share, row0 = here.row_tile * BM;
    const int row = share / V * Tile::row_step + share % V + part.row;
    const int64_t base = (int64_t(here.group) * p.rows + row0) * p.out[1];
    write_part<T, Tile::share, NT, Tile::row_step, Tile::column_step>(
        sum, out + base, bias ? bias + here.group * p.rows + row0 : nullptr, place + part.column, p.out[1], row, p.rows - row0);
}

}  // namespace dk
