// Which kernels normalise segments: by their length and number.
#pragma once

#include <cstdint>

#include "../native/diva_kernels.h"
#include "launch.h"
#include "normalization_segments.h"

namespace dk {
namespace {

template <class... P> bool aligned(size_t bytes, const P *...addresses) {
    return ((reinterpret_cast<uintptr_t>(addresses) % bytes == 0) && ...);  // null is aligned
}

// Short segments are a warp's: where there are enough of them to fill a GPU, up to a block of 4096 terms.
inline bool for_warps(int64_t count, int64_t segments) {
    return count <= 1024 || (count <= reduce_block_length && segments >= 1024);
}
inline dim3 grid_of_sums(const Segments &shape, int64_t segments) {
    return dim3(unsigned(segments * ((shape.blocks() + sum_warps - 1) / sum_warps)));
}
// Terms of a part: enough that adding up the blocks' sums, which each part does, is little beside.
inline int64_t part_of(const Segments &shape) { return 8192 * (1 + shape.blocks() / 512); }
inline dim3 grid_of_parts(const Segments &shape, int64_t segments) {
    const int64_t length = part_of(shape);
    return dim3(unsigned(segments * ((shape.count() + length - 1) / length)));
}

// V: terms of a load where sums are taken; W: where y is written.
template <class T, int V, int W, int kind> int32_t normalise_long(const Normalise<T> &a) {
    constexpr int sums_of = kind == MEMBER ? int(ELEMENT) : kind;
    const int64_t blocks = a.shape.blocks(), count = a.shape.count();
    const Segments shape = kind == MEMBER ? Segments{1, count, count, a.shape.pitch} : a.shape;
    Scratch memory(size_t(a.segments * (2 * blocks + 1)) * sizeof(T));
    if (!memory) return DK_NO_MEMORY;
    T *sums = memory.as<T>(), *squares = sums + a.segments * blocks, *means = squares + a.segments * blocks;
    const dim3 grid = grid_of_sums(shape, a.segments);
    int32_t status = launch<sum_blocks<T, V, sums_of>>(grid, 32 * sum_warps, sums, a.x, shape);
    if (!status) status = launch<square_blocks<T, V, sums_of>>(grid, 32 * sum_warps, squares, means, sums, a.x, shape);
    if (status) return status;
    return launch<write_segments<T, W, kind, team_warps>>(grid_of_parts(shape, a.segments), 32 * team_warps, a, squares, means,
                                                          part_of(shape));
}

template <class T, int V, int W, int kind> int32_t normalise(const Normalise<T> &a) {
    const int64_t count = a.shape.count();
    if (for_warps(count, a.segments)) return launch<normalise_segments<T, V, kind, 1>>(blocks_for(a.segments, 4), threads_of(1), a);
    if (count <= team_terms)
        return launch<normalise_segments<T, V, kind, team_warps>>(dim3(unsigned(a.segments)), 32 * team_warps, a);
    return normalise_long<T, V, W, kind>(a);
}

template <class T, int V, int kind> int32_t gradient(const Gradient<T> &a) {
    const int64_t count = a.shape.count(), blocks = a.shape.blocks();
    if (!a.summed && !a.dx) return DK_OK;
    if (for_warps(count, a.segments)) return launch<gradient_segments<T, V, kind, 1>>(blocks_for(a.segments, 4), threads_of(1), a);
    if (count <= team_terms)
        return launch<gradient_segments<T, V, kind, team_warps>>(dim3(unsigned(a.segments)), 32 * team_warps, a);
    Scratch memory(a.summed ? size_t(2 * a.segments * blocks) * sizeof(T) : 0);
    if (!memory) return DK_NO_MEMORY;
    T *results = memory.as<T>();
    if (a.summed)
        if (int32_t status = launch<gradient_blocks<T, V, kind>>(grid_of_sums(a.shape, a.segments), 32 * sum_warps, results, a))
            return status;
    constexpr int writes = kind == IMAGE ? int(CHANNEL) : kind;  // IMAGE: the sums alone
    const int64_t length = a.dx ? part_of(a.shape) : count;
    const dim3 grid = a.dx ? grid_of_parts(a.shape, a.segments) : dim3(unsigned(a.segments));
    return launch<write_gradients<T, V, writes>>(grid, 32 * team_warps, a, results, length);
}

}  // namespace
}  // namespace dk
