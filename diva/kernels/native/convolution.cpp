// Convolution: chooses the route of each pass. All routes give the same bits; they differ in speed and in what they need.
#include "convolution.h"

#include <new>

#include "conv_batch.h"
#include "conv_general.h"
#include "conv_weight.h"

namespace dk {
namespace {

// Two registers of images by default, one where the second would be empty.
template <class T> bool by_batch(const Gather &p) {
    const bool flat = p.axes[0].size() == 1 && p.axes[0][0].count == 1 && p.axes[0][0].tap.size() == 1 && p.axes[0][0].source_size == 1;
    return flat && p.axes[0][0].offset[0] == 0 && p.batch >= lanes<T> && vector_bytes > 0;
}

template <class T>
int32_t gather(const Gather &p, const T *source, const T *weight, const T *bias, T *out, const int64_t *out_size) {
    if (by_batch<T>(p)) {
        const int nv = p.batch > lanes<T> ? 2 : 1;
        const PackedWeights plan = plan_weights(p, tile_rows(nv));
        T *packed = static_cast<T *>(scratch(7, size_t(plan.total + 2 * lanes<T>) * sizeof(T)));
        if (!packed) return DK_NO_MEMORY;
        if (pack_weights(p, plan, weight, packed))
            return nv == 2 ? gather_batch<T, 2>(p, plan, packed, source, bias, out, out_size[1], out_size[2])
                           : gather_batch<T, 1>(p, plan, packed, source, bias, out, out_size[1], out_size[2]);
    }
    return gather_general(p, source, weight, bias, out);
}

template <class T> int32_t forward(const T *x, const T *w, const T *bias, T *y, const int64_t *geometry) {
    FloatingPoint control;
    try {
        const Geometry g(geometry);
        return gather(forward_gather(g), x, w, bias, y, g.out);
    } catch (const std::bad_alloc &) {
        return DK_NO_MEMORY;
    }
}

template <class T> int32_t input(const T *gradient, const T *w, const T *bias, T *dx, const int64_t *geometry) {
    FloatingPoint control;
    try {
        const Geometry g(geometry);
        return gather(input_gather(g), gradient, w, bias, dx, g.in);
    } catch (const std::bad_alloc &) {
        return DK_NO_MEMORY;
    }
}

template <class T> int32_t weight(const T *gradient, const T *x, T *dw, const int64_t *geometry) {
    FloatingPoint control;
    try {
        const Geometry g(geometry);
        if (g.in[0] == 1 && g.out[0] == 1 && g.kernel[0] == 1 && g.batch > 0 && g.groups == 1) {
            bool finite = true;
            const int32_t status = weight_by_channels(g, gradient, x, dw, finite);
            if (finite) return status;
        }
        return weight_general(g, gradient, x, dw);
    } catch (const std::bad_alloc &) {
        return DK_NO_MEMORY;
    }
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
int32_t dk_conv_weight_f32(const float *g, const float *x, float *dw, const int64_t *geometry) {
    return dk::weight(g, x, dw, geometry);
}
int32_t dk_conv_weight_f64(const double *g, const double *x, double *dw, const int64_t *geometry) {
    return dk::weight(g, x, dw, geometry);
}
}
