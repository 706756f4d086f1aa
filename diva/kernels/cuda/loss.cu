// Losses (native/loss.h): negative log-likelihood, and those of pairs of numbers. Sums of up to 32768 terms are one thread
// block's; of more, two launches.
#include "segments.h"

namespace dk {

// --- negative log-likelihood ---

template <class T> struct Likelihood {
    const T *x, *weight;
    const int64_t *target;
    int64_t ignored, classes, inner;
    int32_t *fault;

    struct Terms {
        T v, w;
    };
    DK_INLINE bool counts(int64_t t) const {
        if (t == ignored) return false;
        if (t >= 0 && t < classes) return true;
        *fault = 1;
        return false;
    }
    DK_INLINE Terms of(int64_t i) const {
        const int64_t t = target[i];
        if (!counts(t)) return {T(0), T(0)};
        const int64_t sample = inner == 1 ? i : quotient(i, inner);
        const T value = x[(sample * classes + t) * inner + (i - sample * inner)];
        if (!weight) return {-value, T(1)};
        const T w = weight[t];
        return {-(value * w), w};
    }
    template <int V, class Place> DK_INLINE Terms get(const Place &place) const { return of(place.at); }
    template <int V> DK_INLINE void add(T (&acc)[2][V], const Terms &a) const {
        acc[0][0] = acc[0][0] + a.v;
        acc[1][0] = acc[1][0] + a.w;
    }
};

constexpr int loss_threads = 256;
DK_INLINE int64_t item_of_thread() { return int64_t(blockIdx.x) * loss_threads + int(threadIdx.x); }

template <class T> __global__ void __launch_bounds__(loss_threads) likelihood_values(T *out, T *total, Likelihood<T> a, int64_t n) {
    const int64_t i = item_of_thread();
    if (i == 0) *total = 0;
    if (i < n) out[i] = a.of(i).v;
}

template <class T> DK_INLINE void keep_likelihood(T *out, T *total, const T (&sums)[2], int32_t mean) {
    *out = mean ? sums[0] / sums[1] : sums[0];
    *total = sums[1];
}

// Sums of up to 32768 terms, by one thread block.
template <class T>
__global__ void __launch_bounds__(32 * team_warps) likelihood_sums(T *out, T *total, Likelihood<T> a, int64_t n, int32_t mean) {
    __shared__ T shared[2 * team_warps];
    const Segments line{1, n, n, n};
    T sums[2];
    team_sums<team_warps, 1>(sums, place_of_thread<Line, 1>(line, int(threadIdx.x) / 32 * whole_block), int(n), a, shared);
    if (threadIdx.x == 0) keep_likelihood(out, total, sums, mean);
}

// Sums of each block of 4096 terms, by warps; then of those.
template <class T> __global__ void __launch_bounds__(128) likelihood_blocks(T *results, Likelihood<T> a, int64_t n, int64_t blocks) {
    const int64_t block = int64_t(blockIdx.x) * 4 + int(threadIdx.x) / 32, left = n - block * whole_block;
    if (left <= 0) return;
    const Segments line{1, n, n, n};
    T sums[2];
    warp_sums<1>(sums, place_of_thread<Line, 1>(line, block * whole_block), left < whole_block ? int(left) : whole_block, a);
    if (threadIdx.x % 32 == 0) results[block] = sums[0], results[blocks + block] = sums[1];
}
template <class T>
__global__ void __launch_bounds__(32) likelihood_finish(T *out, T *total, const T *results, int64_t blocks, int32_t mean) {
    const T sums[2] = {warp_total(results, blocks), warp_total(results + blocks, blocks)};
    if (threadIdx.x == 0) keep_likelihood(out, total, sums, mean);
}

// dx, V neighbours a thread: of one sample, or where `inner` is 1 of samples that follow one another.
template <class T, int V>
__global__ void __launch_bounds__(loss_threads)
likelihood_gradient(T *dx, const T *grad, const T *total, Likelihood<T> a, int64_t n, int32_t reduction) {
    const int64_t e = item_of_thread() * V;
    if (e >= n) return;
    const int64_t row = quotient(e, a.inner), k = e - row * a.inner;
    int64_t sample = quotient(row, a.classes), c = row - sample * a.classes;
    const T g = reduction == 0 ? T(0) : reduction == 1 ? *grad / *total : *grad;
    several<T, V> d;
    DK_UNROLL
    for (int j = 0; j < V; ++j) {
        const int64_t i = a.inner == 1 ? sample : sample * a.inner + k + j, t = a.target[i];
        d.v[j] = 0;
        if ((c == 0 || t == c) && a.counts(t) && t == c) {
            const T here = reduction == 0 ? grad[i] : g;
            d.v[j] = a.weight ? -(a.weight[t] * here) : -here;
        }
        if (a.inner == 1 && ++c == a.classes) c = 0, ++sample;
    }
    store_several(dx + e, d);
}

// --- pairs ---

enum PairLoss { SQUARED, SMOOTH_L1, HUBER };

template <class T> struct Pairs {
    const T *x, *y;
    T p;
    int32_t kind;

    DK_INLINE T value(T x_, T y_) const {
        const T d = x_ - y_;
        if (kind == SQUARED) return d * d;
        const T z = from_bits<T>(to_bits<T>(lane<T>(d)) & ~to_bits<T>(lane<T>(T(-0.0)))).v;
        if (kind == SMOOTH_L1) return z < p ? ((T(0.5) * z) * z) / p : z - T(0.5) * p;
        return z <= p ? (T(0.5) * z) * z : p * (z - T(0.5) * p);
    }
    DK_INLINE T slope(T x_, T y_, T g, T c) const {
        const T d = x_ - y_;
        if (kind == SQUARED) return ((T(2) * c) * d) * g;
        if (kind == SMOOTH_L1) return (d <= -p ? -c : d >= p ? c : (c * d) / p) * g;
        return (d < -p ? -(c * p) : d > p ? c * p : c * d) * g;
    }
    struct Terms {
        T x, y;
    };
    template <int V, class Place> DK_INLINE Terms get(const Place &place) const { return {x[place.at], y[place.at]}; }
    template <int V> DK_INLINE void add(T (&acc)[1][V], const Terms &a) const {
        const T d = a.x - a.y;
        acc[0][0] = kind == SQUARED ? fma(d, d, acc[0][0]) : acc[0][0] + value(a.x, a.y);
    }
};

template <class T, int V> __global__ void __launch_bounds__(loss_threads) pair_values(T *out, Pairs<T> a, int64_t n) {
    const int64_t i = item_of_thread() * V;
    if (i >= n) return;
    several<T, V> x = load_several<V>(a.x + i), y = load_several<V>(a.y + i);
    DK_UNROLL
    for (int k = 0; k < V; ++k) x.v[k] = a.value(x.v[k], y.v[k]);
    store_several(out + i, x);
}

template <class T, int V>
__global__ void __launch_bounds__(loss_threads) pair_gradients(T *dx, const T *grad, int64_t step, Pairs<T> a, int64_t n, T c) {
    const int64_t i = item_of_thread() * V;
    if (i >= n) return;
    several<T, V> x = load_several<V>(a.x + i), y = load_several<V>(a.y + i), g;
    if (step) {
        g = load_several<V>(grad + i);
    } else {
        DK_UNROLL
        for (int k = 0; k < V; ++k) g.v[k] = *grad;
    }
    DK_UNROLL
    for (int k = 0; k < V; ++k) x.v[k] = a.slope(x.v[k], y.v[k], g.v[k], c);
    store_several(dx + i, x);
}

template <class T> __global__ void __launch_bounds__(32 * team_warps) pair_sum(T *out, Pairs<T> a, int64_t n, int32_t mean) {
    __shared__ T shared[team_warps];
    const Segments line{1, n, n, n};
    T sum[1];
    team_sums<team_warps, 1>(sum, place_of_thread<Line, 1>(line, int(threadIdx.x) / 32 * whole_block), int(n), a, shared);
    if (threadIdx.x == 0) *out = mean ? sum[0] / T(n) : sum[0];
}

template <class T> __global__ void __launch_bounds__(128) pair_blocks(T *results, Pairs<T> a, int64_t n) {
    const int64_t block = int64_t(blockIdx.x) * 4 + int(threadIdx.x) / 32, left = n - block * whole_block;
    if (left <= 0) return;
    const Segments line{1, n, n, n};
    T sum[1];
    warp_sums<1>(sum, place_of_thread<Line, 1>(line, block * whole_block), left < whole_block ? int(left) : whole_block, a);
    if (threadIdx.x % 32 == 0) results[block] = sum[0];
}
template <class T> __global__ void __launch_bounds__(32) pair_finish(T *out, const T *results, int64_t blocks, int64_t n, int32_t mean) {
    const T sum = warp_total(results, blocks);
    if (threadIdx.x == 0) *out = mean ? sum / T(n) : sum;
}

}  // namespace dk

#if DK_HOST
#include "../native/diva_kernels.h"
#include "launch.h"

namespace dk {
namespace {

template <class... P> bool aligned(size_t bytes, const P *...addresses) {
    return ((reinterpret_cast<uintptr_t>(addresses) % bytes == 0) && ...);
}
int64_t blocks_of_terms(int64_t n) { return (n + reduce_block_length - 1) / reduce_block_length; }

template <class T>
int32_t likelihood(int32_t reduction, T *out, T *total, const T *x, const int64_t *target, const T *weight, int64_t ignored,
                   int64_t samples, int64_t classes, int64_t inner, int64_t *bad) {
    *bad = -1;  // which it is only the GPU knows
    const Likelihood<T> a{x, weight, target, ignored, classes, inner, fault_word()};
    const int64_t n = samples * inner, blocks = blocks_of_terms(n);
    const int32_t mean = reduction == 1;
    if (reduction == 0)
        return status_after(launch<likelihood_values<T>>(blocks_for(n ? n : 1, loss_threads), loss_threads, out, total, a, n));
    if (n <= team_terms)
        return status_after(launch<likelihood_sums<T>>(1, 32 * team_warps, out, total, a, n, mean));
    Scratch memory(size_t(2 * blocks) * sizeof(T));
    if (!memory) return DK_NO_MEMORY;
    T *results = memory.as<T>();
    int32_t status = launch<likelihood_blocks<T>>(blocks_for(blocks, 4), 128, results, a, n, blocks);
    if (!status) status = launch<likelihood_finish<T>>(1, 32, out, total, results, blocks, mean);
    return status_after(status);
}

template <class T>
int32_t likelihood_backward(int32_t reduction, T *dx, const T *grad, const T *total, const int64_t *target, const T *weight,
                            int64_t ignored, int64_t samples, int64_t classes, int64_t inner, int64_t *bad) {
    *bad = -1;
    const Likelihood<T> a{nullptr, weight, target, ignored, classes, inner, fault_word()};
    const int64_t n = samples * classes * inner;
    if constexpr (sizeof(T) == 4)
        if (n % 4 == 0 && (inner == 1 || inner % 4 == 0) && aligned(16, dx))
            return status_after(launch<likelihood_gradient<T, 4>>(blocks_for(n, 4 * loss_threads), loss_threads, dx, grad, total, a,
                                                                  n, reduction));
    return status_after(
        launch<likelihood_gradient<T, 1>>(blocks_for(n, loss_threads), loss_threads, dx, grad, total, a, n, reduction));
}

template <class T> int32_t pair_loss(int32_t kind, int32_t reduction, T *out, const T *x, const T *y, int64_t n, double p) {
    if (kind < 0 || kind > 2) return DK_BAD_ARGUMENT;
    const Pairs<T> a{x, y, T(p), kind};
    const int32_t mean = reduction == 1;
    if (reduction == 0) {
        if constexpr (sizeof(T) == 4)
            if (n % 4 == 0 && aligned(16, out, x, y))
                return launch<pair_values<T, 4>>(blocks_for(n, 4 * loss_threads), loss_threads, out, a, n);
        return launch<pair_values<T, 1>>(blocks_for(n, loss_threads), loss_threads, out, a, n);
    }
    if (n <= team_terms) return launch<pair_sum<T>>(1, 32 * team_warps, out, a, n, mean);
    const int64_t blocks = blocks_of_terms(n);
    Scratch memory(size_t(blocks) * sizeof(T));
    if (!memory) return DK_NO_MEMORY;
    int32_t status = launch<pair_blocks<T>>(blocks_for(blocks, 4), 128, memory.as<T>(), a, n);
    return status ? status : launch<pair_finish<T>>(1, 32, out, memory.as<T>(), blocks, n, mean);
}

template <class T>
int32_t pair_backward(int32_t kind, int32_t reduction, T *dx, const T *grad, int64_t step, const T *x, const T *y, int64_t n, double p) {
    if (kind < 0 || kind > 2) return DK_BAD_ARGUMENT;
    const Pairs<T> a{x, y, T(p), kind};
    const T c = reduction == 1 ? T(1) / T(n) : T(1);
    if constexpr (sizeof(T) == 4)
        if (n % 4 == 0 && aligned(16, dx, x, y) && (!step || aligned(16, grad)))
            return launch<pair_gradients<T, 4>>(blocks_for(n, 4 * loss_threads), loss_threads, dx, grad, step, a, n, c);
    return launch<pair_gradients<T, 1>>(blocks_for(n, loss_threads), loss_threads, dx, grad, step, a, n, c);
}

}  // namespace
}  // namespace dk

extern "C" {

int32_t dk_nll_f32(int32_t reduction, float *out, float *total, const float *x, const int64_t *target, const float *weight,
                   int64_t ignored, int64_t samples, int64_t classes, int64_t inner, int64_t *bad) {
    return dk::likelihood(reduction, out, total, x, target, weight, ignored, samples, classes, inner, bad);
}
int32_t dk_nll_f64(int32_t reduction, double *out, double *total, const double *x, const int64_t *target, const double *weight,
                   int64_t ignored, int64_t samples, int64_t classes, int64_t inner, int64_t *bad) {
    return dk::likelihood(reduction, out, total, x, target, weight, ignored, samples, classes, inner, bad);
}
int32_t dk_nll_backward_f32(int32_t reduction, float *dx, const float *grad, const float *total, const int64_t *target,
                            const float *weight, int64_t ignored, int64_t samples, int64_t classes, int64_t inner, int64_t *bad) {
    return dk::likelihood_backward(reduction, dx, grad, total, target, weight, ignored, samples, classes, inner, bad);
}
int32_t dk_nll_backward_f64(int32_t reduction, double *dx, const double *grad, const double *total, const int64_t *target,
                            const double *weight, int64_t ignored, int64_t samples, int64_t classes, int64_t inner, int64_t *bad) {
    return dk::likelihood_backward(reduction, dx, grad, total, target, weight, ignored, samples, classes, inner, bad);
}
int32_t dk_pair_loss_f32(int32_t kind, int32_t reduction, float *out, const float *x, const float *y, int64_t n, double p) {
    return dk::pair_loss(kind, reduction, out, x, y, n, p);
}
int32_t dk_pair_loss_f64(int32_t kind, int32_t reduction, double *out, const double *x, const double *y, int64_t n, double p) {
    return dk::pair_loss(kind, reduction, out, x, y, n, p);
}
int32_t dk_pair_loss_backward_f32(int32_t kind, int32_t reduction, float *dx, const float *grad, int64_t step, const float *x,
                                  const float *y, int64_t n, double p) {
    return dk::pair_backward(kind, reduction, dx, grad, step, x, y, n, p);
}
int32_t dk_pair_loss_backward_f64(int32_t kind, int32_t reduction, double *dx, const double *grad, int64_t step, const double *x,
                                  const double *y, int64_t n, double p) {
    return dk::pair_backward(kind, reduction, dx, grad, step, x, y, n, p);
}
}
#endif
