// Layer norm and group norm, forward and backward (native/normalization.h): a statistic is a row of memory.
#include "normalization_columns.h"

#if DK_HOST
#include "normalization_launch.h"

namespace dk {
namespace {

template <class T>
int32_t layer_norm(const T *x, T *y, const T *weight, const T *bias, T *mean, T *inv, int64_t rows, int64_t width, double eps) {
    if (rows * width == 0) return DK_OK;
    Normalise<T> a{x, y, weight, bias, nullptr, nullptr, mean, inv, {1, width, width, width}, rows, 1, T(0), T(eps), 0, 0};
    if constexpr (sizeof(T) == 4) {
        if (width % 4 == 0 && aligned(16, x, y, weight, bias)) return normalise<T, 2, 4, ELEMENT>(a);
        if (width % 2 == 0 && aligned(8, x, y, weight, bias)) return normalise<T, 2, 1, ELEMENT>(a);
    }
    return normalise<T, 1, 1, ELEMENT>(a);
}

template <class T>
int32_t layer_norm_backward(const T *g, const T *x, const T *weight, const T *mean, const T *inv, T *dx, T *dweight, T *dbias,
                            int64_t rows, int64_t width) {
    if (width == 0) return DK_OK;
    int32_t status = DK_OK;
    Gradient<T> a{g, x, weight, mean, inv, dx, nullptr, nullptr, {1, width, width, width}, rows, 1, T(0), 1, 1};
    if (dx && rows) {
        if (sizeof(T) == 4 && width % 2 == 0 && aligned(8, g, x, dx, weight))
            status = gradient<T, sizeof(T) == 4 ? 2 : 1, ELEMENT>(a);
        else
            status = gradient<T, 1, ELEMENT>(a);
    }
    if (status || (!dweight && !dbias)) return status;
    const int64_t blocks = rows ? (rows + reduce_block_length - 1) / reduce_block_length : 1;
    const int64_t tiles = (width + tile_columns - 1) / tile_columns;
    a.segments = width, a.dweight = dweight, a.dbias = dbias;
    const dim3 grid(unsigned(tiles * blocks));
    if (rows <= reduce_lanes && width >= 4096)  // a lane has a row at most
        return launch<gradient_short_columns<T, true>>(blocks_for(width, 128), 128, a, rows);
    if (blocks == 1) return launch<gradient_column_blocks<T, true>>(grid, column_threads, dbias, dweight, a, rows);
    Scratch memory(size_t(2 * width * blocks) * sizeof(T));
    if (!memory) return DK_NO_MEMORY;
    T *across = memory.as<T>(), *along = across + width * blocks;
    status = launch<gradient_column_blocks<T, true>>(grid, column_threads, across, along, a, rows);
    if (status) return status;
    return launch<fold_column_blocks<T>>(dim3(unsigned(tiles)), column_threads, across, along, a, blocks);
}

template <class T>
int32_t group_norm(const T *x, T *y, const T *weight, const T *bias, T *mean, T *inv, int64_t n, int64_t channels, int64_t space,
                   int64_t groups, double eps) {
    if (n * channels * space == 0) return DK_OK;
    const int64_t members = channels / groups;
    Normalise<T> a{x,       y,          weight, bias, nullptr, nullptr, mean, inv, {members, space, space, members * space}, n * groups,
                   groups, T(0), T(eps), 0,    0};
    return normalise<T, 1, 1, MEMBER>(a);
}

template <class T>
int32_t group_norm_backward(const T *g, const T *x, const T *weight, const T *mean, const T *inv, T *dx, T *dweight, T *dbias,
                            int64_t n, int64_t channels, int64_t space, int64_t groups) {
    if (channels == 0) return DK_OK;
    const int64_t members = channels / groups;
    Gradient<T> a{g, x, weight, mean, inv, dx, nullptr, nullptr, {members, space, space, members * space}, n * groups, groups, T(0), 1, 1};
    if (dx && n * space > 0)
        if (int32_t status = gradient<T, 1, MEMBER>(a)) return status;
    if (!dweight && !dbias) return DK_OK;
    a.dx = nullptr, a.dweight = dweight, a.dbias = dbias, a.shape = {n, space, channels * space, space}, a.segments = channels;
    return gradient<T, 1, IMAGE>(a);
}

}  // namespace
}  // namespace dk

extern "C" {
int32_t dk_layer_norm_f32(const float *x, float *y, const float *weight, const float *bias, float *mean, float *inv,
                          int64_t rows, int64_t width, double eps) {
    return dk::layer_norm(x, y, weight, bias, mean, inv, rows, width, eps);
}
int32_t dk_layer_norm_f64(const double *x, double *y, const double *weight, const double *bias, double *mean, double *inv,
                          int64_t rows, int64_t width, double eps) {
    return dk::layer_norm(x, y, weight, bias, mean, inv, rows, width, eps);
}
int32_t dk_layer_norm_backward_f32(const float *g, const float *x, const float *weight, const float *mean, const float *inv,
                                   float *dx, float *dweight, float *dbias, int64_t rows, int64_t width) {
    return dk::layer_norm_backward(g, x, weight, mean, inv, dx, dweight, dbias, rows, width);
}
int32_t dk_layer_norm_backward_f64(const double *g, const double *x, const double *weight, const double *mean,
                                   const double *inv, double *dx, double *dweight, double *dbias, int64_t rows, int64_t width) {
    return dk::layer_norm_backward(g, x, weight, mean, inv, dx, dweight, dbias, rows, width);
}
int32_t dk_group_norm_f32(const float *x, float *y, const float *weight, const float *bias, float *mean, float *inv, int64_t n,
                          int64_t channels, int64_t space, int64_t groups, double eps) {
    return dk::group_norm(x, y, weight, bias, mean, inv, n, channels, space, groups, eps);
}
int32_t dk_group_norm_f64(const double *x, double *y, const double *weight, const double *bias, double *mean, double *inv,
                          int64_t n, int64_t channels, int64_t space, int64_t groups, double eps) {
    return dk::group_norm(x, y, weight, bias, mean, inv, n, channels, space, groups, eps);
}
int32_t dk_group_norm_backward_f32(const float *g, const float *x, const float *weight, const float *mean, const float *inv,
                                   float *dx, float *dweight, float *dbias, int64_t n, int64_t channels, int64_t space,
                                   int64_t groups) {
    return dk::group_norm_backward(g, x, weight, mean, inv, dx, dweight, dbias, n, channels, space, groups);
}
int32_t dk_group_norm_backward_f64(const double *g, const double *x, const double *weight, const double *mean,
                                   const double *inv, double *dx, double *dweight, double *dbias, int64_t n, int64_t channels,
                                   int64_t space, int64_t groups) {
    return dk::group_norm_backward(g, x, weight, mean, inv, dx, dweight, dbias, n, channels, space, groups);
}
}
#endif
