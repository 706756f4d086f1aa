// The direct route of a gather: a thread for one position and a few rows. For few channels, depthwise and small
// problems, and for what tiles cannot tell in 32 bits (`wide`).
#pragma once

#include "conv_async.h"
#include "conv_shape.h"

namespace dk {

constexpr int direct_threads = 128;

template <bool wide> struct DirectTap;
template <> struct DirectTap<false> {
    int32_t offset;
    uint32_t bits;
};
template <> struct DirectTap<true> {
    int64_t offset;
    int32_t shift[3];
};

// out = R + bias; R by chains of 256 terms, whose taps and weights are laid out in shared memory chain by chain.
template <class T, int rows_each, bool wide>
__global__ void __launch_bounds__(direct_threads, 5)
gather_direct(T *out, const T *source, const T *weight, const T *bias, GatherShape p) {
    __shared__ DirectTap<wide> taps[dot_chunk];
    __shared__ int64_t places[dot_chunk];
    __shared__ Vector<T> weights_[dot_chunk * rows_each / per_vector<T>];
    __shared__ GatherBlock here;
    T *weights = reinterpret_cast<T *>(weights_);

    if (threadIdx.x == 0) here = block_of(p);
    __syncthreads();
    const Class &c = here.c;
    const int row = here.row_tile * rows_each, group = here.group;
    const T *const w = weight + group * p.weight_group + row * p.weight_row;
    const T *const images = source + int64_t(group) * p.channels * p.source[1];
    T *const rows = out + (int64_t(group) * p.rows + row) * p.out[1];

    for (int tile = 0; tile < p.tiles_each; ++tile) {
        const int64_t begin = (int64_t(here.position_tile) * p.tiles_each + tile) * direct_threads;
        const int64_t number = begin + threadIdx.x;
        if (begin >= c.positions) break;
        const bool inside_class = number < c.positions;
        const Position at = position_of(c, inside_class ? int32_t(number) : 0);
        const uint32_t outside = wide ? 0 : inside_class ? outside_of(p, c, at) : bit_never | bit_position;
        const T *const from = images + source_place(p, at);

        T sum[rows_each] = {};
        for (int first = 0; first < c.depth; first += dot_chunk) {
            const int count = c.depth - first < dot_chunk ? c.depth - first : dot_chunk;
            if (tile == 0 || c.depth > dot_chunk) {  // one chunk's taps and weights are those of all tiles
                __syncthreads();
                for (int k = int(threadIdx.x); k < count; k += direct_threads) {
                    const Term term = term_of(c, first + k);
                    places[k] = term_weight(p, c, term);
                    if constexpr (wide) {
                        taps[k].offset = term_source(p, c, term);
                        for (int a = 0; a < 3; ++a) taps[k].shift[a] = c.phase[a].offset + term.j[a] * c.phase[a].offset_step;
                    } else {
                        taps[k] = {int32_t(term_source(p, c, term)), term_bits(p, term)};
                    }
                }
                __syncthreads();
                for (int e = int(threadIdx.x); e < count * rows_each; e += direct_threads) {
                    const int r = e / count, k = e % count;
                    weights[k * rows_each + r] = row + r < p.rows ? w[r * p.weight_row + places[k]] : T(0);
                }
                __syncthreads();
            }
            T acc[rows_each] = {};
#pragma unroll 8
            for (int k = 0; k < count; ++k) {
                bool inside;
                if constexpr (wide) {
                    inside = inside_class;
                    for (int a = 0; a < 3; ++a) {
                        const int place = at.i[a] * p.axis[a].source_step + taps[k].shift[a];
                        inside = inside && uint32_t(place) < uint32_t(p.axis[a].source_size);
                    }
                } else {
                    inside = (outside & taps[k].bits) == 0;
                }
                const T x = inside ? from[taps[k].offset] : T(0);
                DK_UNROLL
                for (int r = 0; r < rows_each; ++r) acc[r] = fma(x, weights[k * rows_each + r], acc[r]);
            }
            DK_UNROLL
            for (int r = 0; r < rows_each; ++r) sum[r] = sum[r] + acc[r];
        }
        if (!inside_class) continue;
        T *const to = rows + out_place(p, c, at);
        DK_UNROLL
        for (int r = 0; r < rows_each; ++r)
            if (row + r < p.rows) to[r * p.out[1]] = bias ? sum[r] + bias[group * p.rows + row + r] : sum[r];
    }
}

}  // namespace dk
