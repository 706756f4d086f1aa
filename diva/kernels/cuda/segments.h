// REDUCE over segments: the rows of a matrix, or the channels of a tensor of planes, whose terms cross from image to image.
//
// A warp sums a block of 4096 terms, a thread block of eight warps up to eight of them; longer segments are split over the
// grid, their blocks' sums kept in memory and summed by the kernel that comes next. `V` terms of a thread are neighbours and
// come by one load: thread t has the lanes 2 t and 2 t + 1, with V = 1 the lanes t and t + 32. The tree is the same.
#pragma once

#include "reduce.h"

namespace dk {

constexpr int team_warps = 8;  // of a thread block for one segment
constexpr int whole_block = int(reduce_block_length);
constexpr int64_t team_terms = team_warps * reduce_block_length;  // the longest segment of one thread block

// V neighbouring numbers at an address that is a multiple of V numbers.
template <class T, int V> struct alignas(V * sizeof(T)) several {
    T v[V];
};
template <int V, class T> DK_INLINE several<T, V> load_several(const T *p) {
    if constexpr (V == 1) {
        return {{*p}};
    } else if constexpr (V == 2 && sizeof(T) == 4) {
        const float2 a = *reinterpret_cast<const float2 *>(p);
        return {{a.x, a.y}};
    } else if constexpr (V == 4) {
        const float4 a = *reinterpret_cast<const float4 *>(p);
        return {{a.x, a.y, a.z, a.w}};
    } else {
        const double2 a = *reinterpret_cast<const double2 *>(p);
        return {{a.x, a.y}};
    }
}
template <class T, int V> DK_INLINE void store_several(T *p, const several<T, V> &a) {
    if constexpr (V == 1) {
        *p = a.v[0];
    } else if constexpr (V == 2 && sizeof(T) == 4) {
        *reinterpret_cast<float2 *>(p) = make_float2(a.v[0], a.v[1]);
    } else if constexpr (V == 4) {
        *reinterpret_cast<float4 *>(p) = make_float4(a.v[0], a.v[1], a.v[2], a.v[3]);
    } else {
        *reinterpret_cast<double2 *>(p) = make_double2(a.v[0], a.v[1]);
    }
}

// a / b, of numbers that are mostly small: a division of 64 bits takes a hundred instructions.
DK_INLINE int64_t quotient(int64_t a, int64_t b) {
    return (a | b) >> 31 ? a / b : int64_t(uint32_t(a) / uint32_t(b));
}

// `n` planes of `space` numbers, `stride` apart; segment s of them begins at s * pitch.
struct Segments {
    int64_t n, space, stride, pitch;
    DK_INLINE int64_t count() const { return n * space; }
    DK_INLINE int64_t blocks() const { return (count() + reduce_block_length - 1) / reduce_block_length; }
};

// A walk over the terms first, first + step, ... of a segment: no division but at its beginning.
struct PlaneWalk {
    int64_t at, image;  // from the segment's beginning; the plane
    DK_INLINE PlaneWalk(const Segments &s, int64_t first, int64_t step) : space_(s.space), wrap_(s.stride - s.space) {
        image = quotient(first, space_), k_ = first - image * space_, at = image * s.stride + k_;
        images_ = quotient(step, space_), step_ = step - images_ * space_, move_ = images_ * s.stride + step_;
    }
    DK_INLINE void next() {
        k_ += step_, at += move_, image += images_;
        if (k_ >= space_) k_ -= space_, at += wrap_, ++image;
    }

  private:
    int64_t k_, space_, wrap_, images_, step_, move_;
};
// The same where a segment is one run of memory.
struct Line {
    int64_t at, image;
    DK_INLINE Line(const Segments &, int64_t first, int64_t step) : at(first), image(0), step_(step) {}
    DK_INLINE void next() { at += step_; }

  private:
    int64_t step_;
};

// The tree over the 64 lanes of a warp; the sum in every thread.
template <int V, class T> DK_INLINE T fold_lanes(T first, T second) {
    if constexpr (V == 1) {
        T a = first + second;
        DK_UNROLL
        for (int w = 16; w; w /= 2) a = a + __shfl_xor_sync(whole_warp, a, w);
        return a;
    } else {  // lane 2 t + 32 is with thread t + 16: the lower half of the warp takes the even lanes, the upper the odd
        const bool upper = threadIdx.x % 32 >= 16;
        const T kept = upper ? second : first, given = upper ? first : second;
        T a = kept + __shfl_xor_sync(whole_warp, given, 16);
        DK_UNROLL
        for (int w = 8; w; w /= 2) a = a + __shfl_xor_sync(whole_warp, a, w);
        return a + __shfl_xor_sync(whole_warp, a, 16);
    }
}

// Where a thread's terms begin, in a block of 4096 that begins at `begin`; the step is 32 V.
template <class Place, int V> DK_INLINE Place place_of_thread(const Segments &s, int64_t begin) {
    return Place(s, begin + int(threadIdx.x) % 32 * V, 32 * V);
}

// S sums of a block of `count` <= 4096 terms by a warp, in every thread. step.get(place) reads what V terms at a place are
// made of, step.add(acc, terms) adds them to acc[sum][V]: reading goes ahead, for a chain of additions waits for each.
template <int V, int S, class T, class Place, class Step>
DK_INLINE void warp_sums(T (&out)[S], Place place, int count, const Step &step) {
    constexpr int visits = 2 / V;                                             // loads that make a row of 64 terms
    constexpr int batch = (S == 1 ? 8 : 4) * visits * 4 / int(sizeof(T));  // that are in flight
    using Terms = decltype(step.template get<V>(place));
    T acc[visits][S][V] = {};
    const int first = int(threadIdx.x) % 32 * V;
    int i = 0;
    if (count >= batch * 32 * V) {
        Terms here[batch], next[batch];
        auto read = [&](Terms (&to)[batch]) {
            DK_UNROLL
            for (int r = 0; r < batch; ++r) to[r] = step.template get<V>(place), place.next();
        };
        auto add = [&] {
            DK_UNROLL
            for (int r = 0; r < batch; ++r) step.add(acc[r % visits], here[r]);
        };
        read(here);
        for (i = batch * 32 * V; i + batch * 32 * V <= count; i += batch * 32 * V) {
            read(next), add();  // each batch is read before the last one is waited for
            DK_UNROLL
            for (int r = 0; r < batch; ++r) here[r] = next[r];
        }
        add();
    }
    constexpr int some = 4 * visits;  // of the rows that are left
    for (i += first; i < count + first; i += some * 32 * V) {
        Terms terms[some] = {};
        DK_UNROLL
        for (int r = 0; r < some; ++r) {
            if (i + r * 32 * V < count) terms[r] = step.template get<V>(place);
            place.next();
        }
        DK_UNROLL
        for (int r = 0; r < some; ++r)
            if (i + r * 32 * V < count) step.add(acc[r % visits], terms[r]);
    }
    DK_UNROLL
    for (int s = 0; s < S; ++s) out[s] = fold_lanes<V>(acc[0][s][0], acc[visits - 1][s][V - 1]);
}

template <class T> struct Plain {
    const T *x;
    template <int V, class Place> DK_INLINE several<T, V> get(const Place &place) const {
        return load_several<V>(x + place.at);
    }
    template <int V> DK_INLINE void add(T (&acc)[1][V], const several<T, V> &a) const {
        DK_UNROLL
        for (int k = 0; k < V; ++k) acc[0][k] = acc[0][k] + a.v[k];
    }
};

// REDUCE of n numbers in memory by a warp, in every thread.
template <class T> DK_INLINE T warp_total(const T *x, int64_t n) {
    if (n > reduce_block_length) return warp_sum(x, n);
    T sum[1];
    const Segments line{1, n, n, n};
    warp_sums<1, 1>(sum, place_of_thread<Line, 1>(line, 0), int(n), Plain<T>{x});
    return sum[0];
}

// S sums of a segment of at most team_terms terms, by the eight warps of a thread block (or by one, of at most 4096 terms),
// in every thread. `place`: of this warp's block. `shared`: for 8 S numbers, not in use.
template <int warps, int V, int S, class T, class Place, class Step>
DK_INLINE void team_sums(T (&out)[S], const Place &place, int count, const Step &step, T *shared) {
    if constexpr (warps == 1) {
        warp_sums<V, S>(out, place, count, step);
    } else {
        const int warp = int(threadIdx.x) / 32, begin = warp * whole_block;
        T sums[S] = {};
        if (begin < count) warp_sums<V, S>(sums, place, count - begin < whole_block ? count - begin : whole_block, step);
        if (threadIdx.x % 32 == 0)
            for (int s = 0; s < S; ++s) shared[s * warps + warp] = sums[s];
        __syncthreads();
        DK_UNROLL
        for (int s = 0; s < S; ++s) {
            T a[warps];
            DK_UNROLL
            for (int k = 0; k < warps; ++k) a[k] = T(0) + shared[s * warps + k];  // a lane of the next REDUCE
            const T sum = ((a[0] + a[4]) + (a[2] + a[6])) + ((a[1] + a[5]) + (a[3] + a[7]));
            out[s] = count <= whole_block ? shared[s * warps] : sum;
        }
        __syncthreads();
    }
}

// Which part of a grid this is: thread blocks of `each` parts of a segment, or 4 segments to a thread block.
template <int warps> DK_INLINE int64_t segment_of_team() {
    return warps == 1 ? int64_t(blockIdx.x) * 4 + int(threadIdx.x) / 32 : int64_t(blockIdx.x);
}
constexpr int threads_of(int warps) { return warps == 1 ? 128 : 32 * warps; }

}  // namespace dk
