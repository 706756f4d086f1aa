// The gradient of a convolution's weight (native/convolution.h): chains of 256 by tiles or directly, then their sum in order.
#include "conv_planes.h"
#include "conv_weight_gradient.h"

#if DK_HOST

namespace dk {
namespace {

template <class T, int BM, int BN, int MT, int NT, int stages>
int32_t by_tiles(WeightShape p, T *parts, const T *g, const T *x) {
    p.row_tiles = int32_t(up(p.rows, BM)), p.column_tiles = int32_t(up(p.columns, BN));
    const int64_t tiles = int64_t(p.row_tiles) * p.column_tiles * p.groups;
    // Several chunks for a block where there are more than enough blocks: 4096 are eight rounds of a large GPU.
    const int64_t each = tiles * p.chunks / 4096;
    p.chunks_each = int32_t(each < 1 ? 1 : each > 4 ? 4 : each);
    const int64_t blocks = tiles * up(p.chunks, p.chunks_each);
    if (blocks > most_positions) return DK_BAD_ARGUMENT;
    return launch<weight_tiles<T, BM, BN, MT, NT, stages>>(dim3(unsigned(blocks)), BM / MT * (BN / NT), parts, g, x, p);
}

template <class T, int rows_each> int32_t directly(WeightShape p, T *parts, const T *g, const T *x) {
    p.row_tiles = int32_t(up(p.rows, rows_each));
    const int64_t blocks = int64_t(p.row_tiles) * p.groups * up(p.chunks * p.columns, 128);
    if (blocks > most_positions) return DK_BAD_ARGUMENT;
    return launch<weight_direct<T, rows_each>>(dim3(unsigned(blocks)), 128, parts, g, x, p);
}

inline bool wants_tiles(const WeightShape &p) {
    return p.rows > 8 && p.columns > 8 && double(p.rows) * p.columns * p.groups * double(p.depth) >= worth_tiles;
}

template <class T> int32_t chains(const WeightShape &p, bool tiles, T *parts, const T *g, const T *x) {
    if (!tiles) {
        if (p.rows == 1) return directly<T, 1>(p, parts, g, x);
        if (p.rows <= 4) return directly<T, 4>(p, parts, g, x);
        return directly<T, 8>(p, parts, g, x);
    }
    if constexpr (sizeof(T) == 8) {
        return by_tiles<T, 32, 64, 4, 4, 3>(p, parts, g, x);
    } else {
        if (p.columns <= 32) return by_tiles<T, 64, 32, 8, 4, 3>(p, parts, g, x);
        if (p.rows <= 32) return by_tiles<T, 32, 128, 4, 8, 3>(p, parts, g, x);
        if (p.rows % 128 == 0 || p.rows % 128 > 64) return by_tiles<T, 128, 64, 8, 8, 3>(p, parts, g, x);
        return by_tiles<T, 64, 128, 8, 8, 3>(p, parts, g, x);
    }
}

template <class T> int32_t weight(const T *g, const T *x, T *dw, const int64_t *geometry) {
    const Geometry all(geometry);
    WeightShape p{};
    p.groups = int32_t(all.groups), p.batch = int32_t(all.batch);
    p.channels = int32_t(all.in_channels / all.groups), p.rows = int32_t(all.out_channels / all.groups);
    p.columns = int32_t(p.channels * all.taps());
    for (int a = 0; a < 3; ++a) p.axis[a] = forward_axis(all, a);
    for (int a = 0; a < 5; ++a) p.x[a] = all.x[a], p.g[a] = all.y[a], p.w[a] = all.w[a];
    p.pixels = all.out[0] * all.out[1] * all.out[2], p.depth = all.batch * p.pixels;
    if (p.pixels > most_positions) return DK_BAD_ARGUMENT;
    p.narrow = p.depth <= most_positions;
    const bool fits = place_bits(p.axis) && wants_tiles(p);
    const Planes<T> planes_g(g, p.g, p.batch, all.out_channels, all.out, fits && p.columns >= 64);
    const Planes<T> planes_x(x, p.x, p.batch, all.in_channels, all.in, fits && int64_t(p.rows) * all.taps() >= 64);
    if (planes_g.status) return planes_g.status;
    if (planes_x.status) return planes_x.status;
    g = planes_g.data(), x = planes_x.data();
    int64_t reach = 0;  // of a column's place from a pixel's
    for (int a = 0; a < 3; ++a) reach += size_of(p.x[2 + a]) * (all.padding[a] + all.kernel[a] * all.dilation[a]);
    const bool tiles = fits && reach + size_of(p.x[1]) * p.channels < most_positions;

    const int64_t outputs = all.out_channels * p.columns;
    if (outputs == 0) return DK_OK;
    const int64_t chunks = up(p.depth, dot_chunk);
    const int64_t fit = most_scratch / int64_t(sizeof(T)) / outputs, most = fit < 16 ? 16 : fit;
    const bool once = chunks <= most;
    Scratch parts(size_t(once ? chunks : most) * size_t(outputs) * sizeof(T));
    std::optional<Scratch> sums;
    if (!once) sums.emplace(size_t(outputs) * sizeof(T));
    if (!parts || (sums && !*sums)) return DK_NO_MEMORY;
    int64_t first = 0;
    do {  // all chunks at once, if their chains fit; once also where there is none, since dw is then +0
        p.first_chunk = first, p.chunks = chunks - first < most ? chunks - first : most;
        if (p.chunks)
            if (int32_t failed = chains(p, tiles, parts.as<T>(), g, x)) return failed;
        T *const later = first + p.chunks < chunks ? sums->as<T>() : nullptr;
        const T *const before = first ? sums->as<T>() : nullptr;
        if (int32_t failed = launch<add_chains<T>>(blocks_for(outputs, chain_outputs), chain_outputs * chain_lines, dw, later, before,
                                                   parts.as<T>(), p))
            return failed;
        first += p.chunks;
    } while (first < chunks);
    return DK_OK;
}

}  // namespace
}  // namespace dk

extern "C" {

int32_t dk_conv_weight_f32(const float *g, const float *x, float *dw, const int64_t *geometry) {
    return dk::weight(g, x, dw, geometry);
}
int32_t dk_conv_weight_f64(const double *g, const double *x, double *dw, const int64_t *geometry) {
    return dk::weight(g, x, dw, geometry);
}
}
#endif
