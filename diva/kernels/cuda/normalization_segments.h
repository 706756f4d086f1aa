// The kernels of normalisation whose statistics are over segments: channels of planes, rows, groups of channels.
//
// A segment of up to 32768 terms is one thread block's (one of up to 1024, a warp's): read, summed and written in one
// launch. Longer ones take three launches, or two backward, with the sums of blocks of 4096 terms kept between them.
#pragma once

#include "segments.h"

namespace dk {

// What has a weight of its own. CHANNEL: a segment. ELEMENT: a place in the row. MEMBER: a plane of the segment, which is a
// group of channels. IMAGE: a segment is a channel whose planes' statistics are those of their images' groups.
enum Affine { CHANNEL, ELEMENT, MEMBER, IMAGE };

template <int kind> struct place_of { using type = PlaneWalk; };
template <> struct place_of<ELEMENT> { using type = Line; };

template <class T> struct Normalise {
    const T *x;
    T *y;  // null: statistics alone
    const T *weight, *bias;
    T *running_mean, *running_var, *mean, *second;  // second: inv, or with `variance` the biased variance
    Segments shape;
    int64_t segments, groups;
    T momentum, eps;
    int32_t variance, given;  // given: the running statistics are the mean and variance

    DK_INLINE T inverse(T squares, T count) const { return T(1) / sqrt(squares / count + eps); }
    // What is kept of a segment, or a channel.
    DK_INLINE void keep(int64_t s, T m, T squares, int64_t count) const {
        if (mean) mean[s] = m;
        if (second) second[s] = variance ? squares / T(count) : inverse(squares, T(count));
        if (running_mean) running_mean[s] = fma(momentum, m - running_mean[s], running_mean[s]);
        if (running_var) running_var[s] = fma(momentum, squares / T(count - 1) - running_var[s], running_var[s]);
    }
};

// Weights or biases of a segment.
template <class T, int kind> struct Parameter {
    const T *p;
    T held;
    DK_INLINE Parameter(const T *given, T missing, int64_t segment, int64_t groups, const Segments &shape) : p(nullptr), held(missing) {
        if (given && kind == CHANNEL) held = given[segment];
        if (given && kind == ELEMENT) p = given;
        if (given && kind == MEMBER) p = given + segment % groups * shape.n;
    }
    template <int V, class Place> DK_INLINE several<T, V> at(const Place &place) const {
        if (kind == ELEMENT && p) return load_several<V>(p + place.at);
        const T w = kind == MEMBER && p ? p[place.image] : held;
        several<T, V> all;
        DK_UNROLL
        for (int k = 0; k < V; ++k) all.v[k] = w;
        return all;
    }
};

template <class T> struct Squares {
    const T *x;
    T mean;
    template <int V, class Place> DK_INLINE several<T, V> get(const Place &place) const {
        return load_several<V>(x + place.at);
    }
    template <int V> DK_INLINE void add(T (&acc)[1][V], const several<T, V> &a) const {
        DK_UNROLL
        for (int k = 0; k < V; ++k) acc[0][k] = fma(a.v[k] - mean, a.v[k] - mean, acc[0][k]);
    }
};

// y of a segment, or of a part of it: the terms from `place` on, `step` apart, of which thread t is the first-th.
template <int V, class T, class Place, int kind>
DK_INLINE void write_normalised(T *y, const T *x, Place place, int64_t first, int64_t end, int64_t step, T mean, T inv,
                                const Parameter<T, kind> &weight, const Parameter<T, kind> &bias) {
    auto write = [&](const Place &here, several<T, V> a) {
        const several<T, V> w = weight.template at<V>(here), b = bias.template at<V>(here);
        DK_UNROLL
        for (int k = 0; k < V; ++k) a.v[k] = fma((a.v[k] - mean) * inv, w.v[k], b.v[k]);
        store_several(y + here.at, a);
    };
    int64_t i = first;
    for (; i + step < end; i += 2 * step) {  // two loads in flight
        const Place here = place;
        const several<T, V> a = load_several<V>(x + here.at);
        place.next();
        const several<T, V> b = load_several<V>(x + place.at);
        write(here, a), write(place, b);
        place.next();
    }
    if (i < end) write(place, load_several<V>(x + place.at));
}

// Statistics and y of a segment by a team.
template <class T, int V, int kind, int warps>
__global__ void __launch_bounds__(threads_of(warps)) normalise_segments(Normalise<T> a) {
    using Place = typename place_of<kind>::type;
    __shared__ T shared[team_warps];
    const int64_t segment = segment_of_team<warps>();
    if (segment >= a.segments) return;
    const int count = int(a.shape.count()), thread = int(threadIdx.x) % (32 * warps);
    const T *x = a.x + segment * a.shape.pitch;
    const Place place = place_of_thread<Place, V>(a.shape, thread / 32 * whole_block);
    T sum[1], squares[1];
    team_sums<warps, V>(sum, place, count, Plain<T>{x}, shared);
    const T mean = sum[0] / T(count);
    team_sums<warps, V>(squares, place, count, Squares<T>{x, mean}, shared);
    if (thread == 0) a.keep(segment, mean, squares[0], count);
    if (!a.y) return;
    const Parameter<T, kind> weight(a.weight, T(1), segment, a.groups, a.shape), bias(a.bias, T(0), segment, a.groups, a.shape);
    const int64_t first = thread * V, step = 32 * warps * V;
    write_normalised<V>(a.y + segment * a.shape.pitch, x, Place(a.shape, first, step), first, count, step, mean,
                        a.inverse(squares[0], T(count)), weight, bias);
}

constexpr int sum_warps = 4;  // of the thread blocks that sum blocks of 4096 terms; all of one segment

// This warp's block of 4096 terms, and the segment.
struct SegmentShare {
    int64_t segment, block, blocks;
    int count;
    DK_INLINE explicit SegmentShare(const Segments &shape) : blocks(shape.blocks()) {
        const int64_t each = (blocks + sum_warps - 1) / sum_warps;
        segment = quotient(int64_t(blockIdx.x), each);
        block = (int64_t(blockIdx.x) - segment * each) * sum_warps + int(threadIdx.x) / 32;
        const int64_t left = shape.count() - block * reduce_block_length;
        count = left < whole_block ? int(left) : whole_block;  // not above 0: there is none
    }
};

// First launch of long segments: the sum of each block of 4096 terms.
template <class T, int V, int kind> __global__ void __launch_bounds__(32 * sum_warps) sum_blocks(T *sums, const T *x, Segments shape) {
    using Place = typename place_of<kind>::type;
    const SegmentShare here(shape);
    if (here.count <= 0) return;
    T sum[1];
    warp_sums<V>(sum, place_of_thread<Place, V>(shape, here.block * whole_block), here.count,
                 Plain<T>{x + here.segment * shape.pitch});
    if (threadIdx.x % 32 == 0) sums[here.segment * here.blocks + here.block] = sum[0];
}

// Second: the mean from them, and REDUCE_fma(d, d) of each block.
template <class T, int V, int kind>
__global__ void __launch_bounds__(32 * sum_warps) square_blocks(T *squares, T *means, const T *sums, const T *x, Segments shape) {
    using Place = typename place_of<kind>::type;
    __shared__ T shared;
    const SegmentShare here(shape);
    if (threadIdx.x < 32) {
        const T sum = warp_total(sums + here.segment * here.blocks, here.blocks);
        if (threadIdx.x == 0) shared = sum / T(shape.count());
    }
    __syncthreads();
    const T mean = shared;
    if (here.count <= 0) return;
    T sum[1];
    warp_sums<V>(sum, place_of_thread<Place, V>(shape, here.block * whole_block), here.count,
                 Squares<T>{x + here.segment * shape.pitch, mean});
    if (threadIdx.x % 32) return;
    squares[here.segment * here.blocks + here.block] = sum[0];
    if (here.block == 0) means[here.segment] = mean;
}

// Last: y of a part of a segment, `length` terms. The sums of squares' blocks, and the means, are in memory; or both statistics are given.
template <class T, int V, int kind, int warps>
__global__ void __launch_bounds__(threads_of(warps)) write_segments(Normalise<T> a, const T *squares, const T *means, int64_t length) {
    using Place = typename place_of<kind>::type;
    __shared__ T shared;
    const int64_t count = a.shape.count(), parts = quotient(count + length - 1, length);
    const int64_t team = segment_of_team<warps>(), segment = quotient(team, parts), begin = (team - segment * parts) * length;
    if (segment >= a.segments) return;
    T mean, inv;
    if (a.given) {
        mean = a.running_mean[segment], inv = T(1) / sqrt(a.running_var[segment] + a.eps);
    } else {
        mean = means[segment];
        if (threadIdx.x < 32) {
            const T sum = warp_total(squares + segment * a.shape.blocks(), a.shape.blocks());
            if (threadIdx.x == 0) shared = sum;
        }
        __syncthreads();
        inv = a.inverse(shared, T(count));
        if (begin == 0 && threadIdx.x == 0) a.keep(segment, mean, shared, count);
    }
    if (!a.y) return;
    const Parameter<T, kind> weight(a.weight, T(1), segment, a.groups, a.shape), bias(a.bias, T(0), segment, a.groups, a.shape);
    const int64_t step = 32 * warps * V, first = begin + int(threadIdx.x) % (32 * warps) * V;
    const int64_t end = begin + length < count ? begin + length : count;
    write_normalised<V>(a.y + segment * a.shape.pitch, a.x + segment * a.shape.pitch, Place(a.shape, first, step), first, end, step,
                        mean, inv, weight, bias);
}

template <class T> struct Gradient {
    const T *g, *x, *weight, *mean, *second;
    T *dx, *dweight, *dbias;  // each null where it is not wanted
    Segments shape;
    int64_t segments, groups;
    T eps;
    int32_t training, summed;  // not training: second is the variance. summed: both sums are wanted

    DK_INLINE T inverse(int64_t s) const { return training ? second[s] : T(1) / sqrt(second[s] + eps); }
};

// What V terms of both sums are made of.
template <class T, int V, bool many> struct AscentTerms {
    several<T, V> v, x;  // the gradient, with its weight where a segment has many; x
};
template <class T, int V> struct AscentTerms<T, V, true> {
    several<T, V> v, x;
    T mean, inv;
};

// Both sums of a segment, of v = g (or g * weight, where a segment has many weights) and of v * xhat.
template <class T, int kind> struct Ascent {
    const T *g, *x;
    T mean, inv;
    Parameter<T, kind> weight;
    DK_INLINE Ascent(const Gradient<T> &a, int64_t segment)
        : g(a.g + segment * a.shape.pitch), x(a.x + segment * a.shape.pitch), mean(a.mean[segment]), inv(a.inverse(segment)),
          weight(a.weight, T(1), segment, a.groups, a.shape) {}
    template <int V, class Place> DK_INLINE several<T, V> value(const Place &place) const {
        several<T, V> v = load_several<V>(g + place.at);
        if constexpr (kind != CHANNEL) {
            const several<T, V> w = weight.template at<V>(place);
            DK_UNROLL
            for (int k = 0; k < V; ++k) v.v[k] = v.v[k] * w.v[k];
        }
        return v;
    }
    template <int V, class Place> DK_INLINE AscentTerms<T, V, false> get(const Place &place) const {
        return {value<V>(place), load_several<V>(x + place.at)};
    }
    template <int V> DK_INLINE void add(T (&acc)[2][V], const AscentTerms<T, V, false> &a) const {
        DK_UNROLL
        for (int k = 0; k < V; ++k) {
            acc[0][k] = acc[0][k] + a.v.v[k];
            acc[1][k] = fma(a.v.v[k], (a.x.v[k] - mean) * inv, acc[1][k]);
        }
    }
};
// The same of a channel of group norm.
template <class T> struct Ascent<T, IMAGE> {
    const T *g, *x, *mean, *inv;
    int64_t groups;
    DK_INLINE Ascent(const Gradient<T> &a, int64_t segment)
        : g(a.g + segment * a.shape.pitch), x(a.x + segment * a.shape.pitch), groups(a.groups) {
        const int64_t group = segment / (a.segments / groups);
        mean = a.mean + group, inv = a.second + group;
    }
    template <int V, class Place> DK_INLINE AscentTerms<T, V, true> get(const Place &place) const {
        const int64_t group = place.image * groups;
        return {load_several<V>(g + place.at), load_several<V>(x + place.at), mean[group], inv[group]};
    }
    template <int V> DK_INLINE void add(T (&acc)[2][V], const AscentTerms<T, V, true> &a) const {
        DK_UNROLL
        for (int k = 0; k < V; ++k) {
            acc[0][k] = acc[0][k] + a.v.v[k];
            acc[1][k] = fma(a.v.v[k], (a.x.v[k] - a.mean) * a.inv, acc[1][k]);
        }
    }
};

// dx of the terms from `place` on, from both sums of their segment.
template <int V, class T, class Place, int kind>
DK_INLINE void write_gradient(const Gradient<T> &a, const Ascent<T, kind> &of, int64_t segment, const T (&sums)[2], Place place,
                              int64_t first, int64_t end, int64_t step) {
    T *dx = a.dx + segment * a.shape.pitch;
    const T n = T(a.shape.count()), across = sums[0] / n, along = sums[1] / n;
    const T outer = kind == CHANNEL ? of.inv * of.weight.held : of.inv;
    for (int64_t i = first; i < end; i += step, place.next()) {
        several<T, V> v = of.template value<V>(place);
        if (kind != CHANNEL || a.training) {
            const several<T, V> b = load_several<V>(of.x + place.at);
            DK_UNROLL
            for (int k = 0; k < V; ++k) v.v[k] = outer * fma(-((b.v[k] - of.mean) * of.inv), along, v.v[k] - across);
        } else {
            DK_UNROLL
            for (int k = 0; k < V; ++k) v.v[k] = v.v[k] * outer;
        }
        store_several(dx + place.at, v);
    }
}

template <class T> DK_INLINE void keep_sums(const Gradient<T> &a, int64_t segment, const T (&sums)[2]) {
    if (a.dbias) a.dbias[segment] = sums[0];
    if (a.dweight) a.dweight[segment] = sums[1];
}

// Both sums and dx of a segment by a team; IMAGE: the sums alone.
template <class T, int V, int kind, int warps>
__global__ void __launch_bounds__(threads_of(warps)) gradient_segments(Gradient<T> a) {
    using Place = typename place_of<kind>::type;
    __shared__ T shared[2 * team_warps];
    const int64_t segment = segment_of_team<warps>();
    if (segment >= a.segments) return;
    const int count = int(a.shape.count()), thread = int(threadIdx.x) % (32 * warps);
    const Ascent<T, kind> ascent(a, segment);
    T sums[2] = {0, 0};
    if (a.summed) team_sums<warps, V>(sums, place_of_thread<Place, V>(a.shape, thread / 32 * whole_block), count, ascent, shared);
    if ((kind == CHANNEL || kind == IMAGE) && thread == 0) keep_sums(a, segment, sums);
    if constexpr (kind != IMAGE) {
        const int64_t first = thread * V, step = 32 * warps * V;
        if (a.dx) write_gradient<V>(a, ascent, segment, sums, Place(a.shape, first, step), first, count, step);
    }
}

// First launch of long segments: both sums of each block of 4096 terms; REDUCE(v) of all segments, then the others.
template <class T, int V, int kind> __global__ void __launch_bounds__(32 * sum_warps) gradient_blocks(T *results, Gradient<T> a) {
    using Place = typename place_of<kind>::type;
    const SegmentShare here(a.shape);
    if (here.count <= 0) return;
    T sums[2];
    warp_sums<V>(sums, place_of_thread<Place, V>(a.shape, here.block * whole_block), here.count, Ascent<T, kind>(a, here.segment));
    if (threadIdx.x % 32) return;
    results[here.segment * here.blocks + here.block] = sums[0];
    results[(a.segments + here.segment) * here.blocks + here.block] = sums[1];
}

// Second: dx of a part of a segment, `length` terms. CHANNEL: the sums are kept, dx may not be wanted.
template <class T, int V, int kind>
__global__ void __launch_bounds__(32 * team_warps) write_gradients(Gradient<T> a, const T *results, int64_t length) {
    using Place = typename place_of<kind>::type;
    __shared__ T shared[2];
    const int64_t count = a.shape.count(), blocks = a.shape.blocks(), parts = quotient(count + length - 1, length);
    const int64_t segment = quotient(int64_t(blockIdx.x), parts), begin = (int64_t(blockIdx.x) - segment * parts) * length;
    const int warp = int(threadIdx.x) / 32;
    if (warp < 2) {
        const T sum = a.summed ? warp_total(results + (warp * a.segments + segment) * blocks, blocks) : T(0);
        if (threadIdx.x % 32 == 0) shared[warp] = sum;
    }
    __syncthreads();
    const T sums[2] = {shared[0], shared[1]};
    if (kind == CHANNEL && begin == 0 && threadIdx.x == 0) keep_sums(a, segment, sums);
    if (!a.dx) return;
    const int64_t step = 32 * team_warps * V, first = begin + int(threadIdx.x) * V;
    const int64_t end = begin + length < count ? begin + length : count;
    write_gradient<V>(a, Ascent<T, kind>(a, segment), segment, sums, Place(a.shape, first, step), first, end, step);
}

}  // namespace dk
