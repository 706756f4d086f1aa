// Convolution and its input gradient (native/convolution.h): one gather, by tiles or directly.
#include "conv_direct.h"
#include "conv_gather.h"
#include "conv_planes.h"

#if DK_HOST

namespace dk {
namespace {

inline GatherShape forward_shape(const Geometry &g, bool &fits) {
    GatherShape p{};
    for (int a = 0; a < 3; ++a) p.axis[a] = forward_axis(g, a), p.weight_tap[a] = g.w[2 + a];
    p.batch = int32_t(g.batch), p.groups = int32_t(g.groups);
    p.channels = int32_t(g.in_channels / g.groups), p.rows = int32_t(g.out_channels / g.groups);
    p.weight_row = g.w[0], p.weight_channel = g.w[1], p.weight_group = g.w[0] * p.rows;
    for (int a = 0; a < 5; ++a) p.source[a] = g.x[a], p.out[a] = g.y[a];
    fits = place_bits(p.axis);
    return p;
}

inline GatherShape input_shape(const Geometry &g, bool &fits) {
    GatherShape p{};
    for (int a = 0; a < 3; ++a) p.axis[a] = input_axis(g, a), p.weight_tap[a] = g.w[2 + a];
    p.batch = int32_t(g.batch), p.groups = int32_t(g.groups);
    p.channels = int32_t(g.out_channels / g.groups), p.rows = int32_t(g.in_channels / g.groups);
    p.weight_row = g.w[1], p.weight_channel = g.w[0], p.weight_group = g.w[0] * p.channels;
    for (int a = 0; a < 5; ++a) p.source[a] = g.y[a], p.out[a] = g.x[a];
    const GatherAxis &w = p.axis[2];
    p.backwards = phase_of(w, w.phases - 1).taps > phase_of(w, 0).taps;
    fits = place_bits(p.axis);
    return p;
}

inline int64_t largest_class(const GatherShape &p) {
    return int64_t(p.axis[0].count[0].divisor) * p.axis[1].count[0].divisor * p.axis[2].count[0].divisor;
}

// Whether a source's place relative to a position's fits in 32 bits.
inline bool narrow_places(const GatherShape &p) {
    int64_t reach = size_of(p.source[1]) * p.channels;
    for (int a = 0; a < 3; ++a)
        reach += size_of(p.source[2 + a]) *
                 (int64_t(p.axis[a].padding) + p.axis[a].kernel * int64_t(p.axis[a].dilation) + p.axis[a].stride);
    return reach < most_positions;
}

template <class T, int BM, int BN, int MT, int NT, int G, int stages>
int32_t by_tiles(GatherShape p, const T *source, const T *weight, const T *bias, T *out) {
    p.depth = int32_t(up(p.depth, slice) * slice);
    p.row_tiles = int32_t(up(p.rows, BM)), p.position_tiles = int32_t(up(p.batch * largest_class(p), BN));
    const int64_t slots = int64_t(p.classes) * p.groups;
    const int64_t squares = int64_t(p.row_tiles) * (BM / pack_side) * up(p.depth, pack_side);
    const int64_t blocks = slots * p.row_tiles * p.position_tiles;
    if (blocks > most_positions || slots * squares > most_positions) return DK_BAD_ARGUMENT;
    Scratch packed(size_t(slots) * size_t(p.row_tiles) * BM * size_t(p.depth) * sizeof(T));
    if (!packed) return DK_NO_MEMORY;
    if (int32_t failed = launch<pack_weights<T, BM>>(dim3(unsigned(slots * squares)), 256, packed.as<T>(), weight, p)) return failed;
    return launch<gather_tiles<T, BM, BN, MT, NT, G, stages>>(dim3(unsigned(blocks)), G * (BM / MT) * (BN / NT), out, source,
                                                              packed.as<T>(), bias, p);
}

template <class T, int rows_each, bool wide>
int32_t directly(GatherShape p, const T *source, const T *weight, const T *bias, T *out) {
    p.row_tiles = int32_t(up(p.rows, rows_each));
    const int64_t tiles = up(p.batch * largest_class(p), direct_threads), others = int64_t(p.classes) * p.groups * p.row_tiles;
    // Several tiles for a block where there are more than enough blocks: its preparation is then shared.
    const int64_t each = tiles * others / most_direct_blocks;
    p.tiles_each = int32_t(each < 1 ? 1 : each > 16 ? 16 : each), p.position_tiles = int32_t(up(tiles, p.tiles_each));
    const int64_t blocks = others * p.position_tiles;
    if (blocks > most_positions) return DK_BAD_ARGUMENT;
    return launch<gather_direct<T, rows_each, wide>>(dim3(unsigned(blocks)), direct_threads, out, source, weight, bias, p);
}

inline bool wants_tiles(const GatherShape &p) {
    const double positions = double(p.batch) * double(largest_class(p)) * p.classes, work = positions * p.rows * p.groups * p.depth;
    return p.rows > 16 && p.depth >= 16 && work >= worth_tiles;
}

template <class T> int32_t route(const GatherShape &p, bool narrow, const T *source, const T *weight, const T *bias, T *out) {
    if (!narrow) return directly<T, 8, true>(p, source, weight, bias, out);
    if (!wants_tiles(p)) {
        if (p.rows == 1) return directly<T, 1, false>(p, source, weight, bias, out);
        if (p.rows <= 4) return directly<T, 4, false>(p, source, weight, bias, out);
        return directly<T, 8, false>(p, source, weight, bias, out);
    }
    const bool one_chunk = p.depth <= dot_chunk;
    if constexpr (sizeof(T) == 8) {
        return one_chunk ? by_tiles<T, 32, 64, 4, 8, 1, 3>(p, source, weight, bias, out)
                         : by_tiles<T, 32, 64, 4, 8, 2, 3>(p, source, weight, bias, out);
    } else {
        if (p.rows <= 32)
            return one_chunk ? by_tiles<T, 32, 128, 8, 8, 1, 3>(p, source, weight, bias, out)
                             : by_tiles<T, 32, 128, 8, 8, 2, 3>(p, source, weight, bias, out);
        // Tiles with more rows than positions copy less of what is hard to find.
        const bool tall = p.rows % 128 == 0 || p.rows % 128 > 64;
        if (one_chunk)
            return tall ? by_tiles<T, 128, 64, 8, 8, 1, 3>(p, source, weight, bias, out)
                        : by_tiles<T, 64, 128, 8, 8, 1, 3>(p, source, weight, bias, out);
        // Few tiles: smaller ones, with four chunks at a time.
        const double tiles = double(p.groups) * double(up(p.rows, 64)) * double(p.batch) * double(largest_class(p)) * p.classes / 128;
        if (tiles < few_tiles) return by_tiles<T, 64, 64, 8, 8, 4, 2>(p, source, weight, bias, out);
        return tall ? by_tiles<T, 128, 64, 8, 8, 2, 3>(p, source, weight, bias, out)
                    : by_tiles<T, 64, 128, 8, 8, 2, 3>(p, source, weight, bias, out);
    }
}

// The images in as few parts as have fewer than 2^31 positions each. `size` is the source's.
template <class T>
int32_t gather(GatherShape p, bool fits, const int64_t *size, const T *source, const T *weight, const T *bias, T *out) {
    p.classes = 1, p.depth = p.channels;
    for (const GatherAxis &a : p.axis) p.classes *= a.phases, p.depth *= a.taps;
    // A copy costs about as much as 64 multiplications for each number.
    const bool worth = fits && wants_tiles(p) && int64_t(p.rows) * (p.depth / p.channels) * p.classes >= 128;
    const Planes<T> planes(source, p.source, p.batch, int64_t(p.channels) * p.groups, size, worth);
    if (planes.status) return planes.status;
    source = planes.data();
    const bool narrow = fits && narrow_places(p);
    const int64_t images = p.batch, most = (most_positions - 256) / largest_class(p);
    if (most < 1) return DK_BAD_ARGUMENT;
    for (int64_t first = 0; first < images; first += most) {
        p.batch = int32_t(images - first < most ? images - first : most);
        if (int32_t failed = route(p, narrow, source + first * p.source[0], weight, bias, out + first * p.out[0])) return failed;
    }
    return DK_OK;
}

template <class T> int32_t forward(const T *x, const T *w, const T *bias, T *y, const int64_t *geometry) {
    const Geometry all(geometry);
    bool fits;
    const GatherShape p = forward_shape(all, fits);
    return gather(p, fits, all.in, x, w, bias, y);
}
template <class T> int32_t input(const T *g, const T *w, const T *bias, T *dx, const int64_t *geometry) {
    const Geometry all(geometry);
    bool fits;
    const GatherShape p = input_shape(all, fits);
    return gather(p, fits, all.out, g, w, bias, dx);
}

}  // namespace
}  // namespace dk

extern "C" {

int32_t dk_conv_forward_f32(const float *x, const float *w, const float *bias, float *y, const int64_t *geometry) {
    return dk::forward(x, w, bias, y, geometry);
}
int32_t dk_conv_forward_f64(const double *x, const double *w, const double *bias, double *y, const int64_t *geometry) {
    return dk::forward(x, w, bias, y, geometry);
}
int32_t dk_conv_input_f32(const float *g, const float *w, const float *bias, float *dx, const int64_t *geometry) {
    return dk::input(g, w, bias, dx, geometry);
}
int32_t dk_conv_input_f64(const double *g, const double *w, const double *bias, double *dx, const int64_t *geometry) {
    return dk::input(g, w, bias, dx, geometry);
}
}
#endif
