// The elementwise operators of elementwise.h on a GPU: chooses the function, and brings any strides to few dimensions.
#include "elementwise_pass.h"

#if DK_HOST
#include "../native/diva_kernels.h"
#include "../native/elementwise_plan.h"

namespace dk {
namespace {

template <class T> PassEntry<T> entry_of(int32_t f) {
    switch (f / 64) {
        case 0: return arithmetic_pass<T>(f);
        case 1: return function_pass<T>(f);
        case 2: return activation_pass<T>(f);
        case 3: return backward_pass<T>(f);
        default: return {};
    }
}

bool is_aligned(const void *p) { return reinterpret_cast<uintptr_t>(p) % 16 == 0; }

template <class T> int32_t dense(const PassEntry<T> &entry, int64_t n, T *out, const T *const *in, const Scalars<T> &s) {
    bool aligned = is_aligned(out);
    for (int o = 0; o < entry.arity; o++) aligned = aligned && is_aligned(in[o]);
    return entry.dense(n, out, in, s, aligned);
}

template <class T>
int32_t dense(int32_t f, int64_t n, T *out, const T *x, const T *y, const T *z, double p, double q, double r) {
    const PassEntry<T> entry = entry_of<T>(f);
    if (!entry.arity) return DK_BAD_ARGUMENT;
    if (n <= 0) return DK_OK;
    const T *const in[3] = {x, y, z};
    return dense(entry, n, out, in, {T(p), T(q), T(r)});
}

// Whether the dimensions from `outer` on can be walked in 32 bits.
bool is_small(const Plan &plan, int outer, int arity) {
    constexpr double limit = 2147483647;
    double n = 1;
    for (int k = outer; k < plan.ndim; k++) n *= double(plan.size[k]);
    bool small = n <= limit && plan.ndim - outer <= walk_dims;
    for (int o = 0; o < arity && small; o++) {
        double last = 0;
        for (int k = outer; k < plan.ndim; k++) {
            const double stride = double(plan.stride[o][k]);
            last += double(plan.size[k] - 1) * (stride < 0 ? -stride : stride);
        }
        small = last <= limit;
    }
    return small;
}

// Four neighbours of out in one row, and in each operand neighbours that are aligned too, or one number.
template <class T> bool is_wide(const Plan &plan, int outer, int arity, const T *out, const T *const *in) {
    const int last = plan.ndim - 1;
    bool wide = plan.size[last] % pass_each == 0 && is_aligned(out);
    for (int o = 0; o < arity && wide; o++) {
        if (plan.stride[o][last] == 0) continue;
        wide = plan.stride[o][last] == 1 && is_aligned(in[o]);
        for (int k = outer; k < last; k++) wide = wide && plan.stride[o][k] % int64_t(16 / sizeof(T)) == 0;
    }
    return wide;
}

// The dimensions from `outer` on; in halves, or one by one, where they are too many or too large.
template <class T>
int32_t walk_from(const PassEntry<T> &entry, Plan &plan, int outer, T *out, const T *const *in, const Scalars<T> &s) {
    if (is_small(plan, outer, entry.arity)) {
        Walk walk{};
        walk.ndim = plan.ndim - outer, walk.wide = is_wide(plan, outer, entry.arity, out, in), walk.n = 1;
        for (int k = 0; k < walk.ndim; k++) {
            walk.n *= uint32_t(plan.size[outer + k]);
            walk.size[k] = Divisor<int32_t>(plan.size[outer + k]);
            for (int o = 0; o < entry.arity; o++) walk.stride[o][k] = int32_t(plan.stride[o][outer + k]);
        }
        return entry.strided(walk, out, in, s);
    }
    const int64_t size = plan.size[outer];
    if (size == 1) return walk_from(entry, plan, outer + 1, out, in, s);
    int64_t row = 1;
    for (int k = outer + 1; k < plan.ndim; k++) row *= plan.size[k];
    const T *rest[3] = {};
    for (int o = 0; o < entry.arity; o++) rest[o] = in[o] + size / 2 * plan.stride[o][outer];
    plan.size[outer] = size / 2;
    int32_t status = walk_from(entry, plan, outer, out, in, s);
    plan.size[outer] = size - size / 2;
    if (!status) status = walk_from(entry, plan, outer, out + size / 2 * row, rest, s);
    plan.size[outer] = size;
    return status;
}

template <class T>
int32_t strided(int32_t f, int32_t ndim, const int64_t *sizes, const int64_t *strides, T *out, const T *x, const T *y, const T *z,
                double p, double q, double r) {
    const PassEntry<T> entry = entry_of<T>(f);
    if (!entry.arity || ndim < 0 || ndim > max_dims) return DK_BAD_ARGUMENT;
    int64_t n = 1;
    for (int k = 0; k < ndim; k++) n *= sizes[k];
    if (n <= 0) return DK_OK;
    Plan plan;
    coalesce(plan, ndim, sizes, strides);
    const T *const in[3] = {x, y, z};
    const Scalars<T> s = {T(p), T(q), T(r)};
    bool in_order = true;
    for (int o = 0; o < entry.arity; o++) in_order = in_order && plan.in_order[o];
    return in_order ? dense(entry, n, out, in, s) : walk_from(entry, plan, 0, out, in, s);
}

}  // namespace
}  // namespace dk

extern "C" {

int32_t dk_unary_f32(int32_t f, int64_t n, float *out, const float *x) {
    return dk::dense<float>(f, n, out, x, nullptr, nullptr, 0, 0, 0);
}
int32_t dk_unary_f64(int32_t f, int64_t n, double *out, const double *x) {
    return dk::dense<double>(f, n, out, x, nullptr, nullptr, 0, 0, 0);
}
int32_t dk_scalar_f32(int32_t f, int64_t n, float *out, const float *x, double p, double q, double r) {
    return dk::dense<float>(f, n, out, x, nullptr, nullptr, p, q, r);
}
int32_t dk_scalar_f64(int32_t f, int64_t n, double *out, const double *x, double p, double q, double r) {
    return dk::dense<double>(f, n, out, x, nullptr, nullptr, p, q, r);
}
int32_t dk_binary_f32(int32_t f, int64_t n, float *out, const float *x, const float *y) {
    return dk::dense<float>(f, n, out, x, y, nullptr, 0, 0, 0);
}
int32_t dk_binary_f64(int32_t f, int64_t n, double *out, const double *x, const double *y) {
    return dk::dense<double>(f, n, out, x, y, nullptr, 0, 0, 0);
}
int32_t dk_elementwise_f32(int32_t f, int64_t n, float *out, const float *x, const float *y, const float *z, double p, double q,
                           double r) {
    return dk::dense<float>(f, n, out, x, y, z, p, q, r);
}
int32_t dk_elementwise_f64(int32_t f, int64_t n, double *out, const double *x, const double *y, const double *z, double p,
                           double q, double r) {
    return dk::dense<double>(f, n, out, x, y, z, p, q, r);
}
int32_t dk_elementwise_strided_f32(int32_t f, int32_t ndim, const int64_t *sizes, const int64_t *strides, float *out,
                                   const float *x, const float *y, const float *z, double p, double q, double r) {
    return dk::strided<float>(f, ndim, sizes, strides, out, x, y, z, p, q, r);
}
int32_t dk_elementwise_strided_f64(int32_t f, int32_t ndim, const int64_t *sizes, const int64_t *strides, double *out,
                                   const double *x, const double *y, const double *z, double p, double q, double r) {
    return dk::strided<double>(f, ndim, sizes, strides, out, x, y, z, p, q, r);
}
}
#endif
