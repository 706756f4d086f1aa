// Batch norm, forward and backward (native/normalization.h), for planes and for channels last.
#include "normalization_columns.h"

#if DK_HOST
#include "normalization_launch.h"

namespace dk {
namespace {

dim3 column_grid(int64_t rows, int64_t columns) {
    const int64_t blocks = (rows + reduce_block_length - 1) / reduce_block_length;
    return dim3(unsigned((columns + tile_columns - 1) / tile_columns * (blocks ? blocks : 1)));
}

// How rows are written: `units` pieces of V columns to a tile of at most 32, `length` rows to a thread block.
struct Writing {
    int32_t units = 1;
    int64_t length;
    dim3 grid;
    Writing(int64_t rows, int64_t columns, int V) {
        while (units * V < wide && units * V < columns) units *= 2;
        length = 16384 / (units * V) * (1 + rows / (512 * reduce_block_length));
        grid = dim3(unsigned((rows + length - 1) / length * ((columns + wide - 1) / wide)));
    }
};

template <class T, int V>
int32_t write_all_columns(const Normalise<T> &a, const T *squares, const T *means, int64_t rows) {
    const Writing to(rows, a.segments, V);
    return launch<write_columns<T, V>>(to.grid, column_threads, a, squares, means, rows, to.length, to.units);
}
template <class T> int32_t write_columns_of(const Normalise<T> &a, const T *squares, const T *means, int64_t rows) {
    if constexpr (sizeof(T) == 4)
        if (a.segments % 4 == 0 && aligned(16, a.x, a.y)) return write_all_columns<T, 4>(a, squares, means, rows);
    return write_all_columns<T, 1>(a, squares, means, rows);
}

template <class T> int32_t normalise_pixels(const Normalise<T> &a, int64_t rows) {
    const int64_t columns = a.segments, blocks = (rows + reduce_block_length - 1) / reduce_block_length;
    const dim3 grid = column_grid(rows, columns);
    if (a.given) return write_columns_of<T>(a, nullptr, nullptr, rows);
    if (blocks <= 1) return launch<normalise_columns<T>>(grid, column_threads, a, rows);
    Scratch memory(size_t(columns * (2 * blocks + 1)) * sizeof(T));
    if (!memory) return DK_NO_MEMORY;
    T *sums = memory.as<T>(), *squares = sums + columns * blocks, *means = squares + columns * blocks;
    int32_t status = launch<sum_columns<T>>(grid, column_threads, sums, a.x, rows, columns);
    if (!status) status = launch<square_columns<T>>(grid, column_threads, squares, means, sums, a.x, rows, columns);
    return status ? status : write_columns_of<T>(a, squares, means, rows);
}

// Both statistics are given, there is only y to write.
template <class T> int32_t evaluate(const Normalise<T> &a) {
    const int64_t count = a.shape.count(), length = part_of(a.shape);
    const T *none = nullptr;
    if (for_warps(count, a.segments))
        return launch<write_segments<T, 1, CHANNEL, 1>>(blocks_for(a.segments, 4), threads_of(1), a, none, none, count);
    const dim3 grid = grid_of_parts(a.shape, a.segments);
    if constexpr (sizeof(T) == 4)
        if (a.shape.space % 4 == 0 && aligned(16, a.x, a.y))
            return launch<write_segments<T, 4, CHANNEL, team_warps>>(grid, 32 * team_warps, a, none, none, length);
    return launch<write_segments<T, 1, CHANNEL, team_warps>>(grid, 32 * team_warps, a, none, none, length);
}

template <class T> int32_t normalise_channels(Normalise<T> a, int64_t n, int64_t channels, int64_t space, bool channels_last) {
    if (n * space * channels == 0) return DK_OK;
    a.segments = channels, a.groups = 1;
    if (channels_last || space == 1) return normalise_pixels(a, n * space);
    a.shape = {n, space, channels * space, space};
    if (a.given) return evaluate(a);
    if constexpr (sizeof(T) == 4) {
        if (space % 4 == 0 && aligned(16, a.x, a.y)) return normalise<T, 2, 4, CHANNEL>(a);
        if (space % 2 == 0 && aligned(8, a.x, a.y)) return normalise<T, 2, 1, CHANNEL>(a);
    }
    return normalise<T, 1, 1, CHANNEL>(a);
}

template <class T>
int32_t batch_norm(const T *x, T *y, const T *weight, const T *bias, T *running_mean, T *running_var, T *mean, T *inv, int64_t n,
                   int64_t channels, int64_t space, int32_t channels_last, int32_t training, double momentum, double eps) {
    Normalise<T> a{x, y, weight, bias, running_mean, running_var, mean, inv, {}, 0, 1, T(momentum), T(eps), 0, !training};
    return normalise_channels(a, n, channels, space, channels_last);
}

template <class T>
int32_t batch_norm_statistics(const T *x, T *mean, T *var, T *running_mean, T *running_var, int64_t n, int64_t channels,
                              int64_t space, int32_t channels_last, double momentum) {
    Normalise<T> a{x, nullptr, nullptr, nullptr, running_mean, running_var, mean, var, {}, 0, 1, T(momentum), T(0), 1, 0};
    return normalise_channels(a, n, channels, space, channels_last);
}

template <class T, int V> int32_t write_gradient_tiles(const Gradient<T> &a, const T *across, const T *along, int64_t rows) {
    const Writing to(rows, a.segments, V);
    return launch<write_gradient_columns<T, V>>(to.grid, column_threads, a, across, along, rows, to.length, to.units);
}

template <class T> int32_t gradient_of_pixels(const Gradient<T> &a, int64_t rows) {
    const int64_t columns = a.segments, blocks = (rows + reduce_block_length - 1) / reduce_block_length;
    const dim3 grid = column_grid(rows, columns);
    if (blocks <= 1) return launch<gradient_columns<T>>(grid, column_threads, a, rows);
    Scratch memory(a.summed ? size_t(2 * columns * blocks) * sizeof(T) : 0);
    if (!memory) return DK_NO_MEMORY;
    T *across = memory.as<T>(), *along = across + columns * blocks;
    if (a.summed)
        if (int32_t status = launch<gradient_column_blocks<T, false>>(grid, column_threads, across, along, a, rows)) return status;
    if (!a.dx) return launch<fold_column_blocks<T>>(column_grid(1, columns), column_threads, across, along, a, blocks);
    if constexpr (sizeof(T) == 4)
        if (columns % 4 == 0 && aligned(16, a.g, a.x, a.dx)) return write_gradient_tiles<T, 4>(a, across, along, rows);
    return write_gradient_tiles<T, 1>(a, across, along, rows);
}

template <class T>
int32_t batch_norm_backward(const T *g, const T *x, const T *weight, const T *mean, const T *second, T *dx, T *dweight, T *dbias,
                            int64_t n, int64_t channels, int64_t space, int32_t channels_last, int32_t training, double eps) {
    const int32_t summed = dweight || dbias || training;
    if (channels == 0 || (!summed && !dx)) return DK_OK;
    Gradient<T> a{g, x, weight, mean, second, dx, dweight, dbias, {}, channels, 1, T(eps), training, summed};
    if (channels_last || space == 1) return gradient_of_pixels(a, n * space);
    a.shape = {n, space, channels * space, space};
    if constexpr (sizeof(T) == 4)
        if (space % 2 == 0 && aligned(8, g, x, dx)) return gradient<T, 2, CHANNEL>(a);
    return gradient<T, 1, CHANNEL>(a);
}

}  // namespace
}  // namespace dk

extern "C" {
int32_t dk_batch_norm_f32(const float *x, float *y, const float *weight, const float *bias, float *running_mean,
                          float *running_var, float *mean, float *inv, int64_t n, int64_t channels, int64_t space,
                          int32_t channels_last, int32_t training, double momentum, double eps) {
    return dk::batch_norm(x, y, weight, bias, running_mean, running_var, mean, inv, n, channels, space, channels_last, training,
                          momentum, eps);
}
int32_t dk_batch_norm_f64(const double *x, double *y, const double *weight, const double *bias, double *running_mean,
                          double *running_var, double *mean, double *inv, int64_t n, int64_t channels, int64_t space,
                          int32_t channels_last, int32_t training, double momentum, double eps) {
    return dk::batch_norm(x, y, weight, bias, running_mean, running_var, mean, inv, n, channels, space, channels_last, training,
                          momentum, eps);
}
int32_t dk_batch_norm_statistics_f32(const float *x, float *mean, float *var, float *running_mean, float *running_var,
                                     int64_t n, int64_t channels, int64_t space, int32_t channels_last, double momentum) {
    return dk::batch_norm_statistics(x, mean, var, running_mean, running_var, n, channels, space, channels_last, momentum);
}
int32_t dk_batch_norm_statistics_f64(const double *x, double *mean, double *var, double *running_mean, double *running_var,
                                     int64_t n, int64_t channels, int64_t space, int32_t channels_last, double momentum) {
    return dk::batch_norm_statistics(x, mean, var, running_mean, running_var, n, channels, space, channels_last, momentum);
}
int32_t dk_batch_norm_backward_f32(const float *g, const float *x, const float *weight, const float *mean, const float *second,
                                   float *dx, float *dweight, float *dbias, int64_t n, int64_t channels, int64_t space,
                                   int32_t channels_last, int32_t training, double eps) {
    return dk::batch_norm_backward(g, x, weight, mean, second, dx, dweight, dbias, n, channels, space, channels_last, training, eps);
}
int32_t dk_batch_norm_backward_f64(const double *g, const double *x, const double *weight, const double *mean,
                                   const double *second, double *dx, double *dweight, double *dbias, int64_t n,
                                   int64_t channels, int64_t space, int32_t channels_last, int32_t training, double eps) {
    return dk::batch_norm_backward(g, x, weight, mean, second, dx, dweight, dbias, n, channels, space, channels_last, training, eps);
}
}
#endif
