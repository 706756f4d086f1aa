// Convolution: chooses the route of each pass. All routes give the same bits; they differ in speed and in what they need.
#include "convolution.h"

#include <new>

#include "conv_batch.h"
#include "conv_channel.h"
#include "conv_general.h"
#include "conv_lanes.h"
#include "conv_pixel.h"
#include "conv_weight.h"

namespace dk {
namespace {

// What the routes cost, in fused multiply-adds of one register and their like; infinite where a route does not apply.
struct Costs {
    double batch, pixel, channel, general;
};

inline double visible_share(const Axis &a) {
    int64_t seen = 0;
    for (int64_t i = 0; i < a.count; ++i) {
        const auto [lo, hi] = visible_taps(a, i);
        seen += hi - lo;
    }
    return a.count && !a.tap.empty() ? double(seen) / double(a.count * int64_t(a.tap.size())) : 1;
}

template <class T> Costs route_costs(const Gather &p, int nv) {
    const Axis &depth = p.axes[0][0];
    const bool flat = p.axes[0].size() == 1 && depth.count == 1 && depth.tap.size() == 1 && depth.source_size == 1 && depth.offset[0] == 0;
    const double whole = double(p.groups * p.rows);
    double batch = 0, pixel = 0, channel = 0, general = 0, positions = 0;
    const double registers_of_rows = double(p.groups * ((p.rows + lanes<T> - 1) / lanes<T>));
    for (const Axis &d : p.axes[0])
        for (const Axis &h : p.axes[1])
            for (const Axis &w : p.axes[2]) {
                const double taps = double(d.tap.size() * h.tap.size() * w.tap.size()), k = taps * double(p.channels);
                const int64_t here = d.count * h.count * w.count;
                bool together = false;
                const Split split(w);
                const int64_t filled = d.count * pixel_registers_of<T>(h.count, w.count, w.count + split.extra, together);
                positions += double(here);
                batch += whole * double(here) * (k * visible_share(h) * visible_share(w) + 6);
                pixel += whole * double(filled) * (k * 1.15 + 6);
                const int64_t most = tile_rows(2), tiles = (w.count + most - 1) / most, tile_width = (w.count + tiles - 1) / tiles;
                const int64_t chains = tile_width * (p.rows > lanes<T> ? 2 : 1);  // too few leave the adders waiting
                const double slow = chains < 12 ? 12.0 / double(chains) : 1;
                channel += registers_of_rows * double(d.count * h.count * w.count) * (k * visible_share(h) * slow + 6);
                general += whole * double((here + lanes<T> - 1) / lanes<T>) * (k * 1.6 + 6) +
                           double(p.groups * here) * k * 1.5;
            }
    const int64_t images = nv * lanes<T>;
    const double blocks = double((p.batch + images - 1) / images * nv), n = double(p.batch);
    const double source = double(p.groups * p.channels * p.axes[0][0].source_size * p.axes[1][0].source_size * p.axes[2][0].source_size);
    const double sources = source * double(p.axes[1].size() * p.axes[2].size());  // one copy per class
    Costs costs;
    costs.batch = flat && p.batch >= lanes<T> / 2 && vector_bytes ? batch * blocks + n * (0.8 * sources + 0.8 * whole * positions) : 1e300;
    costs.pixel = n * (pixel + 0.25 * sources + 0.25 * whole * positions);
    costs.channel = n * (channel + 0.25 * sources + 0.6 * whole * positions);
    costs.general = n * general;
    return costs;
}

template <class T>
int32_t gather(const Gather &p, const T *source, const T *weight, const T *bias, T *out, const int64_t *out_size) {
    const int nv = p.batch > lanes<T> ? 2 : 1;
    const Costs costs = route_costs<T>(p, nv);
    if (costs.batch < costs.pixel && costs.batch < costs.channel && costs.batch < costs.general) {
        const PackedWeights plan = plan_weights(p, tile_rows(nv));
        T *packed = static_cast<T *>(scratch(7, size_t(plan.total + 2 * lanes<T>) * sizeof(T)));
        if (!packed) return DK_NO_MEMORY;
        if (pack_weights(p, plan, weight, packed))
            return nv == 2 ? gather_batch<T, 2>(p, plan, packed, source, bias, out, out_size[1], out_size[2])
                           : gather_batch<T, 1>(p, plan, packed, source, bias, out, out_size[1], out_size[2]);
    }
    if (costs.channel < costs.pixel && costs.channel < costs.general)
        return p.rows > lanes<T> ? gather_channel<T, 2>(p, source, weight, bias, out) : gather_channel<T, 1>(p, source, weight, bias, out);
    if (costs.pixel < costs.general) return gather_pixel(p, source, weight, bias, out);
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
        if (g.in[0] == 1 && g.out[0] == 1 && g.kernel[0] == 1 && g.padding[0] == 0 && g.batch > 0) {
            const int64_t narrow = g.out_channels / g.groups;
            if (g.groups > 1 && g.in_channels == g.out_channels && lanes<T> > narrow) {
                if (narrow == 1) return weight_by_lanes<T, 1>(g, gradient, x, dw);
                if constexpr (lanes<T> >= 2)
                    if (narrow == 2) return weight_by_lanes<T, 2>(g, gradient, x, dw);
                if constexpr (lanes<T> >= 4)
                    if (narrow == 4) return weight_by_lanes<T, 4>(g, gradient, x, dw);
                if constexpr (lanes<T> >= 8)
                    if (narrow == 8) return weight_by_lanes<T, 8>(g, gradient, x, dw);
            }
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
