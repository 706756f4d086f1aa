// Convolution: chooses the route of each pass. All routes give the same bits; they differ in speed and in what they need.
#include "convolution.h"

#include <new>

#include "conv_general.h"

namespace dk {
namespace {

template <class T> int32_t forward(const T *x, const T *w, const T *bias, T *y, const int64_t *geometry) {
    FloatingPoint control;
    try {
        const Geometry g(geometry);
        return gather_general(forward_gather(g), x, w, bias, y);
    } catch (const std::bad_alloc &) {
        return DK_NO_MEMORY;
    }
}

template <class T> int32_t input(const T *gradient, const T *w, const T *bias, T *dx, const int64_t *geometry) {
    FloatingPoint control;
    try {
        const Geometry g(geometry);
        return gather_general(input_gather(g), gradient, w, bias, dx);
    } catch (const std::bad_alloc &) {
        return DK_NO_MEMORY;
    }
}

template <class T> int32_t weight(const T *gradient, const T *x, T *dw, const int64_t *geometry) {
    FloatingPoint control;
    try {
        const Geometry g(geometry);
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
