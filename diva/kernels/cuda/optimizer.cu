// SGD, Adam, AdamW and Adagrad (native/optimizer.h): many tensors in one launch, one pass over memory.
//
// A launch takes the addresses and sizes of some tensors by value. Each tensor is cut into pieces, a block for each; a
// block finds its tensor by bisection.
#include "device.h"

namespace dk {

constexpr int step_threads = 256;
enum { weight_decay_flag = 1, maximize_flag = 2, variant_flag = 4, decoupled_flag = 8 };

template <class T> constexpr int pack_size = 16 / sizeof(T);                    // elements of a 128-bit load
template <class T> constexpr int piece_size = step_threads * 2 * pack_size<T>;  // elements of a block

template <class T> struct alignas(16) Pack {
    T v[pack_size<T>];
};

// Arguments of a kernel have 4096 bytes: those of each tensor, and 192 for the rule and the padding.
template <class T, int arrays, int scalars> struct Tensors {
    static constexpr int most = (4096 - 192) / (8 * arrays + 8 + 4 + scalars * int(sizeof(T)));
    T *array[arrays][most];  // parameters, gradients, state
    int64_t size[most];
    T scalar[scalars * most + 1];
    int32_t first[most + 1];  // piece of each tensor
    int32_t count;
};

// rule(x, scalars): x[0] the parameter, x[1] the gradient, then the state; all but the gradient are stored.
template <class T, bool with_momentum> struct Sgd {
    static constexpr int arrays = with_momentum ? 3 : 2, scalars = 0;
    T lr, momentum, kept, weight_decay;
    int32_t flags, first;
    DK_INLINE bool reads(int k) const { return k != 2 || !first; }
    DK_INLINE void operator()(T (&x)[arrays], const T *) const {
        T d = x[1];
        if (flags & maximize_flag) d = -d;
        if (flags & weight_decay_flag) d = fma(weight_decay, x[0], d);
        if constexpr (with_momentum) {
            const T v = first ? d : fma(kept, d, x[2] * momentum);
            x[2] = v;
            d = flags & variant_flag ? fma(momentum, v, d) : v;
        }
        x[0] = fma(-lr, d, x[0]);
    }
};

template <class T, bool amsgrad> struct Adam {
    static constexpr int arrays = amsgrad ? 5 : 4, scalars = 2;
    T weight1, beta2, weight2, eps, weight_decay, shrink;
    int32_t flags, near_start;
    DK_INLINE bool reads(int) const { return true; }
    DK_INLINE void operator()(T (&x)[arrays], const T *scalar) const {
        T d = x[1];
        if (flags & maximize_flag) d = -d;
        if (flags & weight_decay_flag) {
            if (flags & decoupled_flag)
                x[0] = x[0] * shrink;
            else
                d = fma(weight_decay, x[0], d);
        }
        // m + weight (g - m): for |weight| < 1/2 fma(weight, g - m, m), else fma(weight - 1, g - m, g)
        const T way = d - x[2];
        const T mean = near_start ? fma(weight1, way, x[2]) : fma(weight1 - T(1), way, d);
        const T square = fma(d * weight2, d, x[3] * beta2);
        T most = square;
        if constexpr (amsgrad) x[4] = most = square > x[4] || square != square ? square : x[4];
        x[2] = mean, x[3] = square;
        x[0] = x[0] + (mean * scalar[0]) / (sqrt(most) / scalar[1] + eps);
    }
};

template <class T> struct Adagrad {
    static constexpr int arrays = 3, scalars = 1;
    T eps, weight_decay;
    int32_t flags;
    DK_INLINE bool reads(int) const { return true; }
    DK_INLINE void operator()(T (&x)[arrays], const T *scalar) const {
        T d = x[1];
        if (flags & maximize_flag) d = -d;
        if (flags & weight_decay_flag) d = fma(weight_decay, x[0], d);
        x[2] = fma(d, d, x[2]);
        x[0] = x[0] + (d * scalar[0]) / (sqrt(x[2]) + eps);
    }
};

template <class T, class Rule> using TensorsOf = Tensors<T, Rule::arrays, Rule::scalars>;

template <class T, class Rule>
__global__ void __launch_bounds__(step_threads, 3) step_tensors(const TensorsOf<T, Rule> tensors, const Rule rule) {
    constexpr int n_arrays = Rule::arrays, w = pack_size<T>, packs = piece_size<T> / w;
    const int piece = int(blockIdx.x);
    int t = 0;
    for (int past = tensors.count; past - t > 1;) {  // the last tensor whose first piece is not after this one
        const int middle = (t + past) / 2;
        (tensors.first[middle] <= piece ? t : past) = middle;
    }
    const int64_t from = int64_t(piece - tensors.first[t]) * piece_size<T>, left = tensors.size[t] - from;
    const int n = int(left < piece_size<T> ? left : piece_size<T>);
    T *array[n_arrays], scalar[2];
    DK_UNROLL for (int s = 0; s < Rule::scalars; ++s) scalar[s] = tensors.scalar[s * TensorsOf<T, Rule>::most + t];
    uint64_t together = 0;
    DK_UNROLL for (int k = 0; k < n_arrays; ++k) {
        array[k] = tensors.array[k][t] + from;
        together |= reinterpret_cast<uint64_t>(array[k]);
    }
    const int whole = together % 16 ? 0 : n / w;  // packs of 128 bits
    if (whole == packs) {
        Pack<T> pack[2][n_arrays];
        DK_UNROLL for (int u = 0; u < 2; ++u)
            DK_UNROLL for (int k = 0; k < n_arrays; ++k)
                if (rule.reads(k)) pack[u][k] = reinterpret_cast<const Pack<T> *>(array[k])[u * step_threads + threadIdx.x];
        DK_UNROLL for (int u = 0; u < 2; ++u) {
            DK_UNROLL for (int j = 0; j < w; ++j) {
                T x[n_arrays];
                DK_UNROLL for (int k = 0; k < n_arrays; ++k) x[k] = pack[u][k].v[j];
                rule(x, scalar);
                DK_UNROLL for (int k = 0; k < n_arrays; ++k) pack[u][k].v[j] = x[k];
            }
            DK_UNROLL for (int k = 0; k < n_arrays; ++k)
                if (k != 1) reinterpret_cast<Pack<T> *>(array[k])[u * step_threads + threadIdx.x] = pack[u][k];
        }
        return;
    }
    for (int i = int(threadIdx.x); i < n; i += step_threads) {
        T x[n_arrays];
        DK_UNROLL for (int k = 0; k < n_arrays; ++k) x[k] = rule.reads(k) ? array[k][i] : T(0);
        rule(x, scalar);
        DK_UNROLL for (int k = 0; k < n_arrays; ++k)
            if (k != 1) array[k][i] = x[k];
    }
}

}  // namespace dk

#if DK_HOST
#include "../native/diva_kernels.h"
#include "launch.h"

namespace dk {
namespace {

// lists: the addresses of each array of all tensors; scalars: lists of numbers, one of each tensor.
template <class T, class Rule>
int32_t step(const Rule &rule, const int64_t *const *lists, const int64_t *sizes, int64_t count,
             const double *const *scalars) {
    using Some = TensorsOf<T, Rule>;
    static_assert(sizeof(Some) + sizeof(Rule) <= 4080);
    constexpr int64_t most_pieces = 0x7fffffff;
    Some some;
    for (int64_t t = 0; t < count;) {
        int64_t pieces = 0;
        int held = 0;
        for (; t < count && held < Some::most; ++t) {
            const int64_t of_this = (sizes[t] + piece_size<T> - 1) / piece_size<T>;
            if (of_this <= 0) continue;
            if (of_this > most_pieces) return DK_BAD_ARGUMENT;
            if (pieces + of_this > most_pieces) break;
            for (int k = 0; k < Rule::arrays; ++k) some.array[k][held] = reinterpret_cast<T *>(lists[k][t]);
            for (int s = 0; s < Rule::scalars; ++s) some.scalar[s * Some::most + held] = T(scalars[s][t]);
            some.size[held] = sizes[t], some.first[held] = int32_t(pieces);
            pieces += of_this, ++held;
        }
        some.first[held] = int32_t(pieces), some.count = held;
        if (int32_t status = launch<step_tensors<T, Rule>>(unsigned(pieces), step_threads, some, rule)) return status;
    }
    return DK_OK;
}

template <class T>
int32_t sgd(const int64_t *params, const int64_t *grads, const int64_t *buffers, const int64_t *sizes, int64_t count, double lr,
            double momentum, double kept, double weight_decay, int32_t flags, int32_t first) {
    const int64_t *lists[] = {params, grads, buffers};
    if (buffers)
        return step<T>(Sgd<T, true>{T(lr), T(momentum), T(kept), T(weight_decay), flags, first}, lists, sizes, count, nullptr);
    return step<T>(Sgd<T, false>{T(lr), T(momentum), T(kept), T(weight_decay), flags, first}, lists, sizes, count, nullptr);
}

template <class T>
int32_t adam(const int64_t *params, const int64_t *grads, const int64_t *means, const int64_t *squares, const int64_t *maxima,
             const int64_t *sizes, int64_t count, const double *step_sizes, const double *roots, double weight1, double beta2,
             double weight2, double eps, double weight_decay, double shrink, int32_t flags) {
    const int64_t *lists[] = {params, grads, means, squares, maxima};
    const double *scalars[] = {step_sizes, roots};
    const T w1 = T(weight1), b2 = T(beta2), w2 = T(weight2), e = T(eps), wd = T(weight_decay), less = T(shrink);
    const bool near_start = w1 < T(0.5) && w1 > T(-0.5);
    if (maxima) return step<T>(Adam<T, true>{w1, b2, w2, e, wd, less, flags, near_start}, lists, sizes, count, scalars);
    return step<T>(Adam<T, false>{w1, b2, w2, e, wd, less, flags, near_start}, lists, sizes, count, scalars);
}

template <class T>
int32_t adagrad(const int64_t *params, const int64_t *grads, const int64_t *sums, const int64_t *sizes, int64_t count,
                const double *step_sizes, double eps, double weight_decay, int32_t flags) {
    const int64_t *lists[] = {params, grads, sums};
    const double *scalars[] = {step_sizes};
    return step<T>(Adagrad<T>{T(eps), T(weight_decay), flags}, lists, sizes, count, scalars);
}

}  // namespace
}  // namespace dk

extern "C" {

int32_t dk_sgd_f32(const int64_t *params, const int64_t *grads, const int64_t *buffers, const int64_t *sizes, int64_t count,
                   double lr, double momentum, double kept, double weight_decay, int32_t flags, int32_t first) {
    return dk::sgd<float>(params, grads, buffers, sizes, count, lr, momentum, kept, weight_decay, flags, first);
}
int32_t dk_sgd_f64(const int64_t *params, const int64_t *grads, const int64_t *buffers, const int64_t *sizes, int64_t count,
                   double lr, double momentum, double kept, double weight_decay, int32_t flags, int32_t first) {
    return dk::sgd<double>(params, grads, buffers, sizes, count, lr, momentum, kept, weight_decay, flags, first);
}
int32_t dk_adam_f32(const int64_t *params, const int64_t *grads, const int64_t *means, const int64_t *squares,
                    const int64_t *maxima, const int64_t *sizes, int64_t count, const double *step_sizes, const double *roots,
                    double weight1, double beta2, double weight2, double eps, double weight_decay, double shrink, int32_t flags) {
    return dk::adam<float>(params, grads, means, squares, maxima, sizes, count, step_sizes, roots, weight1, beta2, weight2, eps,
                           weight_decay, shrink, flags);
}
int32_t dk_adam_f64(const int64_t *params, const int64_t *grads, const int64_t *means, const int64_t *squares,
                    const int64_t *maxima, const int64_t *sizes, int64_t count, const double *step_sizes, const double *roots,
                    double weight1, double beta2, double weight2, double eps, double weight_decay, double shrink, int32_t flags) {
    return dk::adam<double>(params, grads, means, squares, maxima, sizes, count, step_sizes, roots, weight1, beta2, weight2, eps,
                            weight_decay, shrink, flags);
}
int32_t dk_adagrad_f32(const int64_t *params, const int64_t *grads, const int64_t *sums, const int64_t *sizes, int64_t count,
                       const double *step_sizes, double eps, double weight_decay, int32_t flags) {
    return dk::adagrad<float>(params, grads, sums, sizes, count, step_sizes, eps, weight_decay, flags);
}
int32_t dk_adagrad_f64(const int64_t *params, const int64_t *grads, const int64_t *sums, const int64_t *sizes, int64_t count,
                       const double *step_sizes, double eps, double weight_decay, int32_t flags) {
    return dk::adagrad<double>(params, grads, sums, sizes, count, step_sizes, eps, weight_decay, flags);
}
}
#endif
