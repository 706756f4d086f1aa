// The gradient of grid_sample's image (native/resampling_grid.h): gx = the chain fma(gy, w, gx) from +0 over the taps that
// read an image point, by ascending (position, tap). The taps of each point are listed: counted and placed by atomics of
// integers, in whatever order, and then put in order, so that no bit depends on it; all channels use the same lists.
#include "device.h"

#include "resampling_taps.h"

namespace dk {

constexpr int list_threads = 256;
constexpr int long_list = 1024;     // taps; where a list is longer, a block goes through all taps of the sample for it
constexpr int channels_at_once = 4;

// Points are positions of all `samples`; tap k of point i is at [k * points + i]. Its key, position * taps + k, is its place
// in the order of its sample. SampledImage points are (sample, offset).
template <class T> struct TapLists {
    SampledImage image;
    int32_t samples, positions, points, volume, targets, channels;
    int32_t *used, *n_long;                // numbers in lists so far; long lists
    int32_t *count, *start;                // of an image point's list
    int32_t *target, *arrival;             // of a tap: its image point, -1 outside; how many came before it
    T *weight;
    int32_t *keys;                         // lists in the order of arrival
    int32_t *position;                     // and in theirs
    T *weight_in_order;
    int32_t *long_targets;
};

DK_INLINE int64_t number_of_this_thread() { return int64_t(blockIdx.x) * list_threads + threadIdx.x; }

__global__ void __launch_bounds__(list_threads) clear_lists(int32_t *to, int64_t n) {
    const int64_t i = number_of_this_thread();
    if (i < n) to[i] = 0;
}

template <class T, int axes, int interpolation>
__global__ void __launch_bounds__(list_threads) find_taps(TapLists<T> l, const T *grid) {
    const int64_t i = number_of_this_thread();
    if (i >= l.points) return;
    using Found = GridTaps<T, axes, interpolation>;
    const Found taps(l.image, grid + i * axes);
    const int32_t first = int32_t(i) / l.positions * l.volume;
    DK_UNROLL for (int k = 0; k < Found::count; ++k) {
        const int64_t at = int64_t(k) * l.points + i;
        const int32_t offset = taps.offset(l.image, k), target = offset < 0 ? -1 : first + offset;
        l.target[at] = target, l.weight[at] = taps.weight(k);
        if (target >= 0) l.arrival[at] = atomicAdd(&l.count[target], 1);
    }
}

// Gives each image point room for its list: a block's lists one after the other, blocks as they come.
template <class T> __global__ void __launch_bounds__(list_threads) place_lists(TapLists<T> l) {
    __shared__ int before[list_threads / 32];  // numbers of the warps before
    const int64_t target = number_of_this_thread();
    const int t = int(threadIdx.x), lane = t % 32;
    const int mine = target < l.targets ? l.count[target] : 0;
    int sum = mine;
    for (int w = 1; w < 32; w *= 2) {
        const int more = __shfl_up_sync(0xffffffffu, sum, w);
        sum += lane >= w ? more : 0;
    }
    if (lane == 31) before[t / 32] = sum;
    __syncthreads();
    if (t == 0) {
        int all = 0;
        for (int w = 0; w < list_threads / 32; ++w) all += before[w];
        int next = atomicAdd(l.used, all);
        for (int w = 0; w < list_threads / 32; ++w) {
            const int warp = before[w];
            before[w] = next, next += warp;
        }
    }
    __syncthreads();
    if (target < l.targets) l.start[target] = before[t / 32] + sum - mine;
    if (mine > long_list) l.long_targets[atomicAdd(l.n_long, 1)] = int32_t(target);
}

// A thread for each tap, tap k in the grid's second dimension.
template <class T> __global__ void __launch_bounds__(list_threads) list_taps(TapLists<T> l) {
    const int64_t i = number_of_this_thread(), at = int64_t(blockIdx.y) * l.points + i;
    if (i >= l.points || l.target[at] < 0) return;
    l.keys[l.start[l.target[at]] + l.arrival[at]] = int32_t(i) % l.positions * int32_t(gridDim.y) + int32_t(blockIdx.y);
}

// Each tap goes where as many as have a smaller key are before it.
template <class T> __global__ void __launch_bounds__(list_threads) order_lists(TapLists<T> l) {
    const int64_t i = number_of_this_thread(), at = int64_t(blockIdx.y) * l.points + i;
    if (i >= l.points || l.target[at] < 0) return;
    const int start = l.start[l.target[at]], n = l.count[l.target[at]];
    if (n > long_list) return;
    const int32_t key = l.keys[start + l.arrival[at]];
    int rank = 0;
    for (int j = 0; j < n; ++j) rank += l.keys[start + j] < key;
    l.position[start + rank] = int32_t(i) % l.positions, l.weight_in_order[start + rank] = l.weight[at];
}

// Long lists, a block for each: all taps of the sample by ascending keys, of which those of the list are taken.
template <class T, int taps> __global__ void __launch_bounds__(list_threads) order_long_lists(TapLists<T> l) {
    __shared__ int found[list_threads / 32];
    const int t = int(threadIdx.x), warp = t / 32;
    for (int which = int(blockIdx.x); which < *l.n_long; which += int(gridDim.x)) {
        const int32_t target = l.long_targets[which], first = target / l.volume * l.positions;
        int next = l.start[target];
        for (int64_t begin = 0; begin < int64_t(l.positions) * taps; begin += list_threads) {
            const int64_t key = begin + t, at = key % taps * l.points + first + key / taps;
            const bool mine = key < int64_t(l.positions) * taps && l.target[at] == target;
            const unsigned votes = __ballot_sync(0xffffffffu, mine);
            if (t % 32 == 0) found[warp] = __popc(votes);
            __syncthreads();
            int place = next + __popc(votes & ((1u << t % 32) - 1));
            for (int w = 0; w < list_threads / 32; ++w) {
                place += w < warp ? found[w] : 0;
                next += found[w];
            }
            if (mine) l.position[place] = int32_t(key / taps), l.weight_in_order[place] = l.weight[at];
            __syncthreads();
        }
    }
}

template <class T> __global__ void __launch_bounds__(list_threads) gather_taps(T *gx, const T *gy, TapLists<T> l) {
    const int64_t target = number_of_this_thread();
    if (target >= l.targets) return;
    const int32_t sample = int32_t(target) / l.volume, offset = int32_t(target) % l.volume;
    const int start = l.start[target], end = start + l.count[target];
    const int64_t first = int64_t(sample) * l.channels;
    for (int c = int(blockIdx.y) * channels_at_once; c < l.channels; c += int(gridDim.y) * channels_at_once) {
        T acc[channels_at_once];
        DK_UNROLL for (int q = 0; q < channels_at_once; ++q) acc[q] = 0;
        const T *up = gy + (first + c) * l.positions;
        for (int j = start; j < end; ++j) {
            const int32_t p = l.position[j];
            const T w = l.weight_in_order[j];
            DK_UNROLL for (int q = 0; q < channels_at_once; ++q)
                if (c + q < l.channels) acc[q] = fma(up[int64_t(q) * l.positions + p], w, acc[q]);
        }
        DK_UNROLL for (int q = 0; q < channels_at_once; ++q)
            if (c + q < l.channels) gx[(first + c + q) * l.volume + offset] = acc[q];
    }
}

}  // namespace dk

#if DK_HOST
#include "../native/diva_kernels.h"
#include "launch.h"
#include "resampling_grid_host.h"

namespace dk {
namespace {

constexpr int64_t taps_at_once = int64_t(1) << 26;  // in memory, where several samples have more: about 1.6 GB for float
constexpr int64_t most_numbers = 0x7fffffff - list_threads;

template <class P> void point_at(P *&pointer, char *address) { pointer = reinterpret_cast<P *>(address); }

// Bytes of the lists; places them in `memory` where that is given.
template <class T> size_t place(TapLists<T> &l, int taps, char *memory) {
    size_t used = 0;
    auto take = [&](auto *&pointer, int64_t n) {
        if (memory) point_at(pointer, memory + used);
        used += (size_t(n) * sizeof(*pointer) + 15) / 16 * 16;
    };
    const int64_t all = int64_t(l.points) * taps;
    take(l.used, 2 + int64_t(l.targets));  // these are cleared together
    if (memory) l.n_long = l.used + 1, l.count = l.used + 2;
    take(l.start, l.targets), take(l.target, all), take(l.arrival, all), take(l.weight, all), take(l.keys, all);
    take(l.position, all), take(l.weight_in_order, all), take(l.long_targets, all / long_list + 1);
    return used;
}

// The samples of one group of them.
template <class T, class Kind> int32_t gradient(T *gx, const T *gy, const T *grid, const TapLists<T> &l, Kind kind) {
    constexpr int taps = GridTaps<T, kind.axes, kind.interpolation>::count;
    const dim3 points = blocks_for(l.points, list_threads), targets = blocks_for(l.targets, list_threads);
    const dim3 every_tap(points.x, taps);
    const int64_t groups = (l.channels + channels_at_once - 1) / channels_at_once;
    const int64_t long_lists = int64_t(l.points) * taps / long_list, cleared = 2 + int64_t(l.targets);  // at most
    const dim3 gathers(targets.x, unsigned(groups < 65535 ? groups : 65535));
    int32_t failed = launch<clear_lists>(blocks_for(cleared, list_threads), list_threads, l.used, cleared);
    if (!failed) failed = launch<find_taps<T, kind.axes, kind.interpolation>>(points, list_threads, l, grid);
    if (!failed) failed = launch<place_lists<T>>(targets, list_threads, l);
    if (!failed) failed = launch<list_taps<T>>(every_tap, list_threads, l);
    if (!failed) failed = launch<order_lists<T>>(every_tap, list_threads, l);
    if (!failed) failed = launch<order_long_lists<T, taps>>(dim3(unsigned(long_lists < 512 ? long_lists : 512)), list_threads, l);
    if (!failed) failed = launch<gather_taps<T>>(gathers, list_threads, gx, gy, l);
    return failed;
}

template <class T>
int32_t image_gradient(T *gx, const T *gy, const T *grid, int64_t n, int64_t channels, int32_t axes, const int64_t *in,
                       int64_t positions, int32_t interpolation, int32_t padding, bool align) {
    return with_kind(axes, interpolation, [&](auto kind) -> int32_t {
        constexpr int taps = GridTaps<T, kind.axes, kind.interpolation>::count;
        const int64_t volume = volume_of(axes, in), each = positions * taps > volume ? positions * taps : volume;
        if (!(n && channels && volume)) return DK_OK;
        if (each > most_numbers || channels > most_numbers) return DK_NO_MEMORY;
        int64_t group = taps_at_once / each;
        group = group < 1 ? 1 : group < n ? group : n;
        TapLists<T> l{};
        l.image = image_of(axes, in, padding, align), l.positions = int32_t(positions), l.volume = int32_t(volume);
        l.channels = int32_t(channels);
        auto of_samples = [&](int64_t samples) {
            l.samples = int32_t(samples), l.points = int32_t(samples * positions), l.targets = int32_t(samples * volume);
        };
        of_samples(group);
        Scratch scratch(place(l, taps, nullptr));
        if (!scratch) return DK_NO_MEMORY;
        for (int64_t s = 0; s < n; s += group) {
            of_samples(n - s < group ? n - s : group);
            place(l, taps, scratch.as<char>());
            const T *up = gy + s * channels * positions, *at = grid + s * positions * axes;
            if (const int32_t failed = gradient(gx + s * channels * volume, up, at, l, kind)) return failed;
        }
        return DK_OK;
    });
}

}  // namespace

int32_t grid_sample_image(float *gx, const float *gy, const float *grid, int64_t n, int64_t channels, int32_t axes,
                          const int64_t *in, int64_t positions, int32_t interpolation, int32_t padding, bool align) {
    return image_gradient(gx, gy, grid, n, channels, axes, in, positions, interpolation, padding, align);
}
int32_t grid_sample_image(double *gx, const double *gy, const double *grid, int64_t n, int64_t channels, int32_t axes,
                          const int64_t *in, int64_t positions, int32_t interpolation, int32_t padding, bool align) {
    return image_gradient(gx, gy, grid, n, channels, axes, in, positions, interpolation, padding, align);
}

}  // namespace dk
#endif
