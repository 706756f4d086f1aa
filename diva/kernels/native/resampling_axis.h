// One axis of a resampling: which inputs an output reads, with which weights, and the registers that gather them.
#pragma once

#include <algorithm>
#include <cstdint>

#include "pool.h"
#include "vec.h"

namespace dk {
namespace {

enum Mode : int32_t { nearest = 0, nearest_exact = 1, linear = 2, cubic = 3, reflect = 4, replicate = 5 };

DK_INLINE int taps_of(int32_t mode) { return mode == linear ? 2 : mode == cubic ? 4 : 1; }

struct AxisShape {
    int64_t in, out;
    double scale;
    int64_t left;
    int32_t mode;
    bool align;
};

// An axis that is not resampled: output i is input i.
inline bool is_copied(const AxisShape &a) {
    if (a.mode == nearest_exact) return a.in == a.out && !(a.scale > 0);
    if (a.mode == reflect || a.mode == replicate) return a.in == a.out && a.left == 0;
    return a.in == a.out;
}

// Tap t of output i is at [t * out + i].
template <class T> struct Axis {
    int64_t in, out;
    int taps;
    bool copied, weighted;
    int32_t *index;
    T *weight;
};

inline int64_t floor_div(int64_t a, int64_t b) { return a >= 0 ? a / b : -((-a + b - 1) / b); }

// floor(position) clamped to [-2, in], as an integer.
inline int64_t floor_clamped(double position, int64_t in) {
    if (!(position > -2)) return -2;
    if (position >= double(in)) return in;
    int64_t whole = int64_t(position);
    return double(whole) > position ? whole - 1 : whole;
}

inline int64_t nearest_source(const AxisShape &a, int64_t i) {
    int64_t first;
    if (a.mode == nearest_exact)
        first = a.scale > 0 ? floor_clamped((double(i) + 0.5) / a.scale, a.in) : (2 * i + 1) * a.in / (2 * a.out);
    else if (a.out == 2 * a.in)
        first = i >> 1;
    else
        first = a.scale > 0 ? floor_clamped(double(i) / a.scale, a.in) : i * a.in / a.out;
    return std::min(first, a.in - 1);
}

inline int64_t padded_source(const AxisShape &a, int64_t i) {
    int64_t p = i - a.left;
    if (a.mode == replicate) return std::max<int64_t>(0, std::min(p, a.in - 1));
    if (p < 0) return -p;
    return p < a.in ? p : 2 * (a.in - 1) - p;
}

// The whole and the fractional part of a source position.
template <class T> inline void source(const AxisShape &a, int64_t i, int64_t *first, T *t) {
    bool by_factor = !a.align && a.scale > 0;
    if (by_factor) {
        double position = (double(i) + 0.5) / a.scale - 0.5;
        if (a.mode == linear && !(position > 0)) position = 0;
        *first = std::min(floor_clamped(position, a.in), a.in - 1);
        double rest = position - double(*first);
        *t = T(rest > 0 ? (rest < 1 ? rest : 1.0) : 0.0);
        return;
    }
    int64_t numerator = a.align ? (a.out > 1 ? i * (a.in - 1) : 0) : (2 * i + 1) * a.in - a.out;
    int64_t denominator = a.align ? (a.out > 1 ? a.out - 1 : 1) : 2 * a.out;
    if (a.mode == linear && numerator < 0) numerator = 0;
    *first = floor_div(numerator, denominator);
    *t = T(double(numerator - *first * denominator) / double(denominator));
}

template <class T> inline T cubic_near(T x) { return fma(fma(T(1.25), x, T(-2.25)) * x, x, T(1)); }
template <class T> inline T cubic_far(T x) { return fma(fma(fma(T(-0.75), x, T(3.75)), x, T(-6)), x, T(3)); }

template <class T> inline void fill_axis(const AxisShape &a, Axis<T> &axis) {
    for (int64_t i = 0; i < a.out; ++i) {
        if (a.mode == nearest || a.mode == nearest_exact) {
            axis.index[i] = int32_t(nearest_source(a, i));
            continue;
        }
        if (a.mode == reflect || a.mode == replicate) {
            axis.index[i] = int32_t(padded_source(a, i));
            continue;
        }
        int64_t first;
        T t;
        source(a, i, &first, &t);
        if (a.mode == linear) {
            axis.index[i] = int32_t(first), axis.index[a.out + i] = int32_t(std::min(first + 1, a.in - 1));
            axis.weight[i] = T(1) - t, axis.weight[a.out + i] = t;
            continue;
        }
        for (int k = 0; k < 4; ++k)
            axis.index[k * a.out + i] = int32_t(std::max<int64_t>(0, std::min(first - 1 + k, a.in - 1)));
        T back = T(1) - t;
        axis.weight[i] = cubic_far(t + T(1)), axis.weight[a.out + i] = cubic_near(t);
        axis.weight[2 * a.out + i] = cubic_near(back), axis.weight[3 * a.out + i] = cubic_far(back + T(1));
    }
}

// A bump allocator over one scratch slot, each piece 64-byte aligned.
struct Arena64 {
    char *next;
    template <class T> T *take(int64_t n) {
        T *here = reinterpret_cast<T *>(next);
        next += (size_t(n) * sizeof(T) + 63) / 64 * 64;
        return here;
    }
    template <class T> static size_t room(int64_t n) { return (size_t(n) * sizeof(T) + 63) / 64 * 64; }
};

// Lanes row[index[0]], row[index[1]], ...; base: the least index when all lie within 2 lanes<T> of it, else -1.
template <class T> DK_INLINE vec<T> gather_apart(const T *row, const int32_t *index) {
    T each[lanes<T>];
    for (int j = 0; j < lanes<T>; ++j) each[j] = row[index[j]];
    return load(each);
}
template <class T> DK_INLINE vec<T> gather(const T *row, int64_t, const int32_t *index, int64_t) {
    return gather_apart(row, index);
}
#if defined(DK_AVX512)
template <> DK_INLINE vec<float> gather(const float *row, int64_t length, const int32_t *index, int64_t base) {
    if (base < 0) return gather_apart(row, index);
    __m512i within = _mm512_sub_epi32(_mm512_loadu_si512(index), _mm512_set1_epi32(int32_t(base)));
    int64_t rest = length - base - 16;
    const float *p = row + base;
    if (rest >= 16) return (vec<float>)_mm512_permutex2var_ps(_mm512_loadu_ps(p), within, _mm512_loadu_ps(p + 16));
    __m512 low = rest >= 0 ? _mm512_loadu_ps(p) : _mm512_maskz_loadu_ps(__mmask16((1u << (16 + rest)) - 1), p);
    __m512 high = rest > 0 ? _mm512_maskz_loadu_ps(__mmask16((1u << rest) - 1), p + 16) : _mm512_setzero_ps();
    return (vec<float>)_mm512_permutex2var_ps(low, within, high);
}
#elif defined(DK_AVX2)
template <> DK_INLINE vec<float> gather(const float *row, int64_t length, const int32_t *index, int64_t base) {
    if (base < 0 || length - base < 16) return gather_apart(row, index);
    __m256i within = _mm256_sub_epi32(_mm256_loadu_si256((const __m256i *)index), _mm256_set1_epi32(int32_t(base)));
    __m256 low = _mm256_permutevar8x32_ps(_mm256_loadu_ps(row + base), within);
    __m256 high = _mm256_permutevar8x32_ps(_mm256_loadu_ps(row + base + 8), within);
    return (vec<float>)_mm256_blendv_ps(low, high, _mm256_castsi256_ps(_mm256_slli_epi32(within, 28)));
}
#endif

// The least of `n` indices when all lie within 2 lanes<T> of it, else -1: what `gather` wants to know of a block.
template <class T> inline int32_t block_base(const int32_t *index, int64_t n) {
    int32_t least = index[0], most = index[0];
    for (int64_t j = 1; j < n; ++j) least = std::min(least, index[j]), most = std::max(most, index[j]);
    return most - least < 2 * lanes<T> ? least : -1;
}

template <class T> DK_INLINE int64_t blocks_of(int64_t n) { return (n + lanes<T> - 1) / lanes<T>; }

}  // namespace
}  // namespace dk
