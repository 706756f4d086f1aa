// What the host functions of grid_sample share.
#pragma once

#include "resampling_taps.h"

namespace dk {

// The gradient of the image (resampling_grid_image.cu).
int32_t grid_sample_image(float *gx, const float *gy, const float *grid, int64_t n, int64_t channels, int32_t axes,
                          const int64_t *in, int64_t positions, int32_t interpolation, int32_t padding, bool align);
int32_t grid_sample_image(double *gx, const double *gy, const double *grid, int64_t n, int64_t channels, int32_t axes,
                          const int64_t *in, int64_t positions, int32_t interpolation, int32_t padding, bool align);

inline bool is_refused(int32_t axes, int32_t interpolation, int32_t padding) {
    return axes < 2 || axes > 3 || interpolation < 0 || interpolation > (axes == 2 ? 2 : 1) || padding < 0 || padding > 2;
}

inline SampledImage image_of(int32_t axes, const int64_t *in, int32_t padding, bool align) {
    SampledImage g{{1, 1, 1}, padding, align};
    for (int a = 0; a < axes; ++a) g.in[a] = int32_t(in[axes - 1 - a]);
    return g;
}

inline int64_t volume_of(int32_t axes, const int64_t *in) {
    int64_t volume = 1;
    for (int a = 0; a < axes; ++a) volume *= in[a];
    return volume;
}

template <int axes_, int interpolation_> struct SampleKind {
    static constexpr int axes = axes_, interpolation = interpolation_;
};

// go(kind) with axes and interpolation known at compile time.
template <class Go> int32_t with_kind(int32_t axes, int32_t interpolation, const Go &go) {
    if (interpolation == by_cubic) return go(SampleKind<2, by_cubic>());
    if (interpolation == by_nearest) return axes == 2 ? go(SampleKind<2, by_nearest>()) : go(SampleKind<3, by_nearest>());
    return axes == 2 ? go(SampleKind<2, by_line>()) : go(SampleKind<3, by_line>());
}

}  // namespace dk
