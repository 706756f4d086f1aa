// Drives the elementwise kernels: pieces for the threads, and operands of any strides brought in order block by block.
#include "elementwise_loop.h"

#include <cstring>

#include "diva_kernels.h"
#include "elementwise_plan.h"
#include "pool.h"

namespace dk {
namespace {

constexpr int64_t block = 1024;   // numbers that are brought in order at a time: three operands stay in the first cache
constexpr int64_t most = 8192;    // of those, where an operand begins again and again and so is brought only once

template <class T> Entry<T> entry_of(int32_t f) {
    switch (f / 64) {
        case 0: return arithmetic_entry<T>(f);
        case 1: return function_entry<T>(f);
        case 2: return activation_entry<T>(f);
        case 3: return backward_entry<T>(f);
        default: return {};
    }
}

template <class T>
int32_t dense(int32_t f, int64_t n, T *out, const T *x, const T *y, const T *z, double p, double q, double r) {
    Entry<T> entry = entry_of<T>(f);
    if (!entry.kernel) return DK_BAD_ARGUMENT;
    if (n <= 0) return DK_OK;
    FloatingPoint control;
    T scalars[3] = {T(p), T(q), T(r)};
    if (n <= entry.grain) {
        entry.kernel(n, out, x, y, z, scalars);
        return DK_OK;
    }
    parallel(n, entry.grain, [&](int64_t begin, int64_t end) {
        entry.kernel(end - begin, out + begin, x + begin, y ? y + begin : y, z ? z + begin : z, scalars);
    });
    return DK_OK;
}

// Numbers after which operand o begins again, 0 where it does not or is in order.
int64_t period_of(const Plan &plan, int o) {
    int first = 0;
    int64_t period = 1;
    while (first < plan.ndim && plan.stride[o][first] == 0) first++;
    for (int k = first; k < plan.ndim; k++) period *= plan.size[k];
    return first > 0 && !plan.in_order[o] ? period : 0;
}

// n numbers from p on, `stride` apart, to buffer.
template <class T> void bring(T *buffer, const T *p, int64_t stride, int64_t n) {
    if (stride == 1) {
        std::memcpy(buffer, p, size_t(n) * sizeof(T));
    } else if (stride == 0) {
        const T value = *p;
        for (int64_t i = 0; i < n; i++) buffer[i] = value;
    } else {
        for (int64_t i = 0; i < n; i++) buffer[i] = p[i * stride];
    }
}

// Where operand o has its number with the flat index i, and how far i is into the innermost dimension.
template <class T> const T *locate(const Plan &plan, int o, const T *p, int64_t i, int64_t *index) {
    for (int k = plan.ndim - 1; k >= 0; k--) {
        index[k] = i % plan.size[k];
        i /= plan.size[k];
        p += index[k] * plan.stride[o][k];
    }
    return p;
}

// The numbers [i, i + n) of operand o in order: where they lie, or brought to buffer.
template <class T> const T *in_order(const Plan &plan, int o, const T *p, int64_t i, int64_t n, T *buffer) {
    if (plan.in_order[o]) return p + i;
    int64_t index[max_dims];
    const int last = plan.ndim - 1;
    const int64_t stride = plan.stride[o][last];
    p = locate(plan, o, p, i, index);
    int64_t run = plan.size[last] - index[last];
    if (stride == 1 && run >= n) return p;
    for (int64_t done = 0;;) {
        int64_t m = run < n - done ? run : n - done;
        bring(buffer + done, p, stride, m);
        done += m;
        if (done == n) return buffer;
        p -= index[last] * stride;
        index[last] = 0, run = plan.size[last];
        for (int k = last - 1; k >= 0; k--) {
            p += plan.stride[o][k];
            if (++index[k] < plan.size[k]) break;
            p -= index[k] * plan.stride[o][k];
            index[k] = 0;
        }
    }
}

template <class T>
int32_t strided(int32_t f, int32_t ndim, const int64_t *sizes, const int64_t *strides, T *out, const T *x, const T *y, const T *z,
                double p, double q, double r) {
    Entry<T> entry = entry_of<T>(f);
    if (!entry.kernel || ndim < 0 || ndim > max_dims) return DK_BAD_ARGUMENT;
    int64_t n = 1;
    for (int k = 0; k < ndim; k++) n *= sizes[k];
    if (n <= 0) return DK_OK;
    FloatingPoint control;
    Plan plan;
    coalesce(plan, ndim, sizes, strides);
    T scalars[3] = {T(p), T(q), T(r)};
    const T *operands[3] = {x, y, z};
    const int64_t row = plan.size[plan.ndim - 1];
    // Where every operand that is not in order begins again after few numbers, blocks are whole periods of the longest
    // (the others' divide it), and what was brought once serves all of them.
    int64_t period = 0;
    bool periodic = true;
    for (int o = 0; o < 3; o++) {
        if (!operands[o] || plan.in_order[o]) continue;
        const int64_t own = period_of(plan, o);
        periodic = periodic && own != 0 && own <= most;
        period = own > period ? own : period;
    }
    periodic = periodic && period > 0;
    const int64_t step = periodic ? period * (period < block ? block / period : 1) : block;
    const int64_t grain = periodic ? (cheap + step - 1) / step * step : costly;
    parallel(n, grain, [&](int64_t begin, int64_t end) {
        alignas(64) T buffer[3][most];
        const T *here[3] = {};
        for (int64_t i = begin; i < end;) {
            int64_t m = end - i < step ? end - i : step;
            if (!periodic && row >= block / 4) {  // long rows: stay inside one, so that it is read where it lies
                int64_t left = row - i % row;
                m = left < m ? left : m;
            }
            for (int o = 0; o < 3; o++)
                if (operands[o] && (i == begin || !periodic || plan.in_order[o]))
                    here[o] = in_order(plan, o, operands[o], i, m, buffer[o]);
            entry.kernel(m, out + i, here[0], here[1], here[2], scalars);
            i += m;
        }
    });
    return DK_OK;
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
