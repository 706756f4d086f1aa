// Random numbers (native/randomness.h): a thread for each Philox counter, which gives four words of 32 bits or two of 64.
//
// A distribution is a struct: value(word, i) is element i. Its numbers travel as given, and are rounded here.
#include "device.h"

#include "../native/randomness_numbers.h"

namespace dk {
namespace distributions {

template <class T> struct Uniform {
    double low, high;
    template <class W> DK_INLINE T value(W word, int64_t) const {
        const T a = T(low), width = T(high) - a;
        return fma(unit(word), set(width), set(a)).v;
    }
};
template <class T> struct Normal {
    double mean, std;
    template <class W> DK_INLINE T value(W word, int64_t) const {
        return fma(standard_normal(word), set(T(std)), set(T(mean))).v;
    }
};
template <class T> struct NormalEach {
    const T *mean, *std;
    int32_t *fault;
    template <class W> DK_INLINE T value(W word, int64_t i) const {
        const T s = std[i];
        if (!(s >= 0)) *fault = 1;
        return fma(standard_normal(word), set(s), set(mean[i])).v;
    }
};
template <class T> struct Exponential {
    double rate;
    template <class W> DK_INLINE T value(W word, int64_t) const { return waiting_time(word).v / T(rate); }
};
template <class T> struct LogNormal {
    double mean, std;
    template <class W> DK_INLINE T value(W word, int64_t) const { return log_normal_number<T>(word, T(mean), T(std)).v; }
};
template <class T> struct Cauchy {
    double median, scale;
    template <class W> DK_INLINE T value(W word, int64_t) const {
        return cauchy_number(word, double(T(median)), double(T(scale))).v;
    }
};
struct Geometric {
    double log_failure;
    DK_INLINE double value(wide word, int64_t) const { return geometric_number(word, log_failure).v; }
};
template <class T> struct Truncated {
    Truncation given;
    DK_INLINE T value(wide word, int64_t) const {
        Truncation t = given;
        t.mean = double(T(t.mean)), t.std = double(T(t.std)), t.low = double(T(t.low)), t.high = double(T(t.high));
        return T(truncated(word, t).v);
    }
};
template <class T> struct Bernoulli {
    double p;
    DK_INLINE T value(words32 word, int64_t) const { return T(word.v < threshold(p) ? 1 : 0); }
};
template <class T> struct BernoulliEach {
    const T *p;
    int32_t *fault;
    DK_INLINE uint8_t value(words32 word, int64_t i) const {
        const T here = p[i];
        const bool good = here >= 0 && here <= 1;
        if (!good) *fault = 1;
        return good && word.v < threshold(double(here)) ? 1 : 0;
    }
};
struct Integers {
    int64_t low;
    uint64_t range;
    DK_INLINE int64_t value(wide word, int64_t) const {
        return int64_t(uint64_t(low) + (range ? __umul64hi(word.v, range) : word.v));
    }
};

}  // namespace distributions

namespace randomness {

constexpr int threads = 256;

template <class Out, class D> __global__ void __launch_bounds__(threads) fill32(Out *out, int64_t n, Nonce nonce, D distribution) {
    const int64_t counter = counter_of_thread();
    if (element32(counter, 0) >= n) return;
    const PhiloxWords four = philox(nonce.get(), uint64_t(counter));
    DK_UNROLL
    for (int w = 0; w < 4; ++w) {
        const int64_t i = element32(counter, w);
        if (i < n) out[i] = distribution.value(words32(four.w[w]), i);
    }
}
template <class Out, class D> __global__ void __launch_bounds__(threads) fill64(Out *out, int64_t n, Nonce nonce, D distribution) {
    const int64_t counter = counter_of_thread();
    if (element64(counter, 0) >= n) return;
    const PhiloxWords four = philox(nonce.get(), uint64_t(counter));
    DK_UNROLL
    for (int h = 0; h < 2; ++h) {
        const int64_t i = element64(counter, h);
        if (i < n) out[i] = distribution.value(wide(four.half(h)), i);
    }
}

// Bernoulli bytes. Where 128 elements lie whole in front of a warp, at a multiple of 4, each thread writes four neighbours:
// the warp's 32 counters are elements 0 .. 127 of it, bit c of vote w is element 64 (c / 16) + 16 w + c % 16.
__global__ void __launch_bounds__(threads) fill_bytes(uint8_t *out, int64_t n, Nonce nonce, double p) {
    const int64_t counter = counter_of_thread();
    const int t = int(threadIdx.x) % 32;
    const PhiloxWords four = philox(nonce.get(), uint64_t(counter));
    const uint64_t limit = threshold(p);
    uint32_t votes[4];
    DK_UNROLL
    for (int w = 0; w < 4; ++w) votes[w] = __ballot_sync(0xffffffffu, four.w[w] < limit);
    const int64_t first = (counter - t) * 4;
    if (first + 128 <= n && reinterpret_cast<uint64_t>(out) % 4 == 0) {
        const int w = t / 4 % 4;
        const uint32_t low = w & 1 ? votes[1] : votes[0], high = w & 1 ? votes[3] : votes[2];
        const uint32_t bits = (w & 2 ? high : low) >> (t / 16 * 16 + t % 4 * 4);
        const uint32_t bytes = (bits & 1) | (bits & 2) << 7 | (bits & 4) << 14 | (bits & 8) << 21;
        *reinterpret_cast<uint32_t *>(out + first + 4 * t) = bytes;
        return;
    }
    DK_UNROLL
    for (int w = 0; w < 4; ++w)
        if (element32(counter, w) < n) out[element32(counter, w)] = uint8_t(votes[w] >> t & 1);
}

}  // namespace randomness
}  // namespace dk

#if DK_HOST
#include "../native/diva_kernels.h"
#include "launch.h"

namespace dk {
namespace randomness {
namespace {

template <class Out, class D> int32_t by_word32(Out *out, int64_t n, uint64_t nonce, D distribution) {
    return launch<fill32<Out, D>>(blocks_for(counters32(n), threads), threads, out, n, nonce_of(nonce), distribution);
}
template <class Out, class D> int32_t by_word64(Out *out, int64_t n, uint64_t nonce, D distribution) {
    return launch<fill64<Out, D>>(blocks_for(counters64(n), threads), threads, out, n, nonce_of(nonce), distribution);
}
// Words of the width of the numbers.
template <class D> int32_t by_word(float *out, int64_t n, uint64_t nonce, D distribution) {
    return by_word32(out, n, nonce, distribution);
}
template <class D> int32_t by_word(double *out, int64_t n, uint64_t nonce, D distribution) {
    return by_word64(out, n, nonce, distribution);
}

}  // namespace

extern "C" {

// Known answers: `counter`, `key` and `words` are of the host.
int32_t dk_philox(const uint32_t *counter, const uint32_t *key, uint32_t *words) {
    if (counter[3] != 0) return DK_BAD_ARGUMENT;
    const PhiloxWords found = philox(key[0] | uint64_t(key[1]) << 32, counter[0] | uint64_t(counter[1]) << 32, counter[2]);
    for (int w = 0; w < 4; ++w) words[w] = found.w[w];
    return DK_OK;
}

int32_t dk_uniform_f32(float *out, int64_t n, uint64_t nonce, double low, double high) {
    return by_word(out, n, nonce, distributions::Uniform<float>{low, high});
}
int32_t dk_uniform_f64(double *out, int64_t n, uint64_t nonce, double low, double high) {
    return by_word(out, n, nonce, distributions::Uniform<double>{low, high});
}
int32_t dk_normal_f32(float *out, int64_t n, uint64_t nonce, double mean, double std) {
    return by_word(out, n, nonce, distributions::Normal<float>{mean, std});
}
int32_t dk_normal_f64(double *out, int64_t n, uint64_t nonce, double mean, double std) {
    return by_word(out, n, nonce, distributions::Normal<double>{mean, std});
}
int32_t dk_normal_each_f32(float *out, int64_t n, uint64_t nonce, const float *mean, const float *std) {
    return status_after(by_word(out, n, nonce, distributions::NormalEach<float>{mean, std, fault_word()}));
}
int32_t dk_normal_each_f64(double *out, int64_t n, uint64_t nonce, const double *mean, const double *std) {
    return status_after(by_word(out, n, nonce, distributions::NormalEach<double>{mean, std, fault_word()}));
}
int32_t dk_truncated_normal_f32(float *out, int64_t n, uint64_t nonce, double mean, double std, double low, double high,
                                double from, double width) {
    return by_word64(out, n, nonce, distributions::Truncated<float>{{mean, std, low, high, from, width}});
}
int32_t dk_truncated_normal_f64(double *out, int64_t n, uint64_t nonce, double mean, double std, double low, double high,
                                double from, double width) {
    return by_word64(out, n, nonce, distributions::Truncated<double>{{mean, std, low, high, from, width}});
}
int32_t dk_exponential_f32(float *out, int64_t n, uint64_t nonce, double rate) {
    return by_word(out, n, nonce, distributions::Exponential<float>{rate});
}
int32_t dk_exponential_f64(double *out, int64_t n, uint64_t nonce, double rate) {
    return by_word(out, n, nonce, distributions::Exponential<double>{rate});
}
int32_t dk_cauchy_f32(float *out, int64_t n, uint64_t nonce, double median, double scale) {
    return by_word(out, n, nonce, distributions::Cauchy<float>{median, scale});
}
int32_t dk_cauchy_f64(double *out, int64_t n, uint64_t nonce, double median, double scale) {
    return by_word(out, n, nonce, distributions::Cauchy<double>{median, scale});
}
int32_t dk_log_normal_f32(float *out, int64_t n, uint64_t nonce, double mean, double std) {
    return by_word(out, n, nonce, distributions::LogNormal<float>{mean, std});
}
int32_t dk_log_normal_f64(double *out, int64_t n, uint64_t nonce, double mean, double std) {
    return by_word(out, n, nonce, distributions::LogNormal<double>{mean, std});
}
int32_t dk_geometric(double *out, int64_t n, uint64_t nonce, double log_failure) {
    return by_word64(out, n, nonce, distributions::Geometric{log_failure});
}
int32_t dk_bernoulli_f32(float *out, int64_t n, uint64_t nonce, double p) {
    return by_word32(out, n, nonce, distributions::Bernoulli<float>{p});
}
int32_t dk_bernoulli_f64(double *out, int64_t n, uint64_t nonce, double p) {
    return by_word32(out, n, nonce, distributions::Bernoulli<double>{p});
}
int32_t dk_bernoulli_u8(uint8_t *out, int64_t n, uint64_t nonce, double p) {
    return launch<fill_bytes>(blocks_for(counters32(n), threads), threads, out, n, nonce_of(nonce), p);
}
int32_t dk_bernoulli_each_f32(uint8_t *out, int64_t n, uint64_t nonce, const float *p) {
    return status_after(by_word32(out, n, nonce, distributions::BernoulliEach<float>{p, fault_word()}));
}
int32_t dk_bernoulli_each_f64(uint8_t *out, int64_t n, uint64_t nonce, const double *p) {
    return status_after(by_word32(out, n, nonce, distributions::BernoulliEach<double>{p, fault_word()}));
}
int32_t dk_integers(int64_t *out, int64_t n, uint64_t nonce, int64_t low, uint64_t range) {
    return by_word64(out, n, nonce, distributions::Integers{low, range});
}
}

}  // namespace randomness
}  // namespace dk
#endif
