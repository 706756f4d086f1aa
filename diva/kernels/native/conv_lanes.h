// The weight gradient of narrow groups (depthwise among them): registers hold channels of several groups side by side.
//
// In groups of S channels in and out, lane c of a register of the gradient meets input channel i of its own group: a
// permutation of the input's register. P[tap][i][c] = fma(g[q][c], x[q at tap][c / S * S + i], P), q over a chunk.
#pragma once

#include "conv_problem.h"
#include "conv_tile.h"
#include "conv_transpose.h"

namespace dk {
namespace {

template <class T, int S, int I, size_t... J> DK_INLINE vec<T> member(vec<T> x, std::index_sequence<J...>) {
    if constexpr (S == 1) return x;
    return __builtin_shufflevector(x, x, int(J) / S * S + I...);
}

// Taps `first`..`first + NT` of a chunk; r[tap][i] += P.
template <class T, int S, int NT, size_t... A>
DK_INLINE void lanes_body(const T *g, const T *x, const int64_t *tap, const Step *steps, int64_t count, T *r, bool first,
                          std::index_sequence<A...>) {
    constexpr auto all = std::make_index_sequence<lanes<T>>{};
    vec<T> acc[NT * S] = {((void)A, vec<T>{})...};
    for (int64_t k = 0; k < count; ++k) {
        const vec<T> a = load(g + steps[k].v);
        const T *at = x + steps[k].s;
        ((acc[A] = fma(a, member<T, S, int(A % S)>(load(at + tap[A / S]), all), acc[A])), ...);
    }
    (store(r + int64_t(A) * lanes<T>, (first ? vec<T>{} : load(r + int64_t(A) * lanes<T>)) + acc[A]), ...);
}

template <class T, int S, int NT>
void lanes_tile(int nt, const T *g, const T *x, const int64_t *tap, const Step *steps, int64_t count, T *r, bool first) {
    if constexpr (NT > 1)
        if (nt < NT) return lanes_tile<T, S, NT - 1>(nt, g, x, tap, steps, count, r, first);
    lanes_body<T, S, NT>(g, x, tap, steps, count, r, first, std::make_index_sequence<NT * S>{});
}

template <int S> constexpr int lanes_taps = registers == 32 ? (S == 1 ? 10 : 24 / S) : (S == 1 ? 10 : 12 / S);

// to[position][lane] of `channels` planes, of which `used` exist, for `count` numbers of a row from channel stride `apart`.
template <class T> void lanes_row(const T *from, int64_t apart, int64_t across, int64_t used, int64_t count, T *to) {
    if (across == 1) {
        transpose(from, apart, to, lanes<T>, used, count, true);
        return;
    }
    for (int64_t k = 0; k < count; ++k) {
        if (apart == 1) {
            store(to + k * lanes<T>, load(from + k * across, used));
            continue;
        }
        for (int64_t c = 0; c < lanes<T>; ++c) to[k * lanes<T> + c] = c < used ? from[c * apart + k * across] : T(0);
    }
}

template <class T, int S> int32_t weight_by_lanes(const Geometry &g, const T *gradient, const T *x, T *dw) {
    constexpr int64_t w = lanes<T>;
    const int64_t blocks = (g.out_channels + w - 1) / w, pixels = g.out[1] * g.out[2], depth = g.batch * pixels, taps = g.taps();
    const int64_t left = g.padding[2], reach = (g.out[2] - 1) * g.stride[2] + (g.kernel[2] - 1) * g.dilation[2] + 1;
    const int64_t pitch = left + g.in[2] > reach ? left + g.in[2] : reach;
    std::vector<int64_t> tap;
    for (int64_t a = 0; a < g.kernel[1]; ++a)
        for (int64_t b = 0; b < g.kernel[2]; ++b) tap.push_back((a * g.dilation[1] * pitch + b * g.dilation[2]) * w);
    std::atomic<bool> fine{true};
    parallel(blocks, grain_for(blocks, double(g.out_channels * depth) * double(taps * S)), [&](int64_t begin, int64_t end) {
        T *v = static_cast<T *>(scratch(0, size_t(chunk * w) * sizeof(T)));
        T *r = static_cast<T *>(scratch(1, size_t(taps * S * w) * sizeof(T)));
        Step *steps = static_cast<Step *>(scratch(2, size_t(chunk) * sizeof(Step)));
        if (!v || !r || !steps) {
            fine = false;
            return;
        }
        for (int64_t block = begin; block < end; ++block) {
            const int64_t c0 = block * w, used = g.out_channels - c0 < w ? g.out_channels - c0 : w;
            for (int64_t k = 0; k < taps * S * w; ++k) r[k] = 0;
            for (int64_t first = 0; first < depth; first += chunk) {
                const int64_t count = depth - first < chunk ? depth - first : chunk;
                const int64_t images = (first + count - 1) / pixels - first / pixels + 1;
                int64_t most = (count / g.out[2] + 2 * images) * g.stride[1] + images * ((g.kernel[1] - 1) * g.dilation[1] + 1);
                T *copy = static_cast<T *>(scratch(3, size_t(most * pitch * w) * sizeof(T)));
                if (!copy) {
                    fine = false;
                    return;
                }
                T *row = copy;
                for (int64_t k = 0; k < count;) {
                    const int64_t image = (first + k) / pixels, q = (first + k) % pixels;
                    const int64_t run = pixels - q < count - k ? pixels - q : count - k;
                    const int64_t top = q / g.out[2], bottom = (q + run - 1) / g.out[2];
                    const int64_t y0 = top * g.stride[1] - g.padding[1];
                    const int64_t rows = (bottom - top) * g.stride[1] + (g.kernel[1] - 1) * g.dilation[1] + 1;
                    const T *from_g = gradient + image * g.y[0] + c0 * g.y[1];
                    if (g.y[4] == 1 && (g.y[3] == g.out[2] || g.out[1] == 1)) {
                        lanes_row(from_g + q, g.y[1], 1, used, run, v + k * w);
                    } else {
                        for (int64_t i = 0; i < run; ++i) {
                            const T *a = from_g + (q + i) / g.out[2] * g.y[3] + (q + i) % g.out[2] * g.y[4];
                            for (int64_t c = 0; c < w; ++c) v[(k + i) * w + c] = c < used ? a[c * g.y[1]] : T(0);
                        }
                    }
                    for (int64_t i = q / g.out[2], j = q % g.out[2], e = 0; e < run; ++e) {
                        const int64_t at = row - copy + ((i - top) * g.stride[1] * pitch + j * g.stride[2]) * w;
                        steps[k + e] = {int32_t((k + e) * w), int32_t(at)};
                        if (++j == g.out[2]) j = 0, ++i;
                    }
                    for (int64_t y = y0; y < y0 + rows; ++y, row += pitch * w) {
                        const bool inside = y >= 0 && y < g.in[1];
                        const int64_t lo = inside ? left : pitch, hi = inside ? left + g.in[2] : pitch;
                        for (int64_t i = 0; i < lo; ++i) store(row + i * w, vec<T>{});
                        if (inside)
                            lanes_row(x + image * g.x[0] + c0 * g.x[1] + y * g.x[3], g.x[1], g.x[4], used, g.in[2], row + left * w);
                        for (int64_t i = hi; i < pitch; ++i) store(row + i * w, vec<T>{});
                    }
                    k += run;
                }
                constexpr int at_once = lanes_taps<S>;
                const int64_t tiles = (taps + at_once - 1) / at_once, per_tile = (taps + tiles - 1) / tiles;
                for (int64_t t = 0; t < taps; t += per_tile) {
                    const int nt = int(taps - t < per_tile ? taps - t : per_tile);
                    lanes_tile<T, S, at_once>(nt, v, copy, tap.data() + t, steps, count, r + t * S * w, first == 0);
                }
            }
            for (int64_t c = 0; c < used; ++c)
                for (int64_t t = 0; t < taps; ++t)
                    for (int64_t i = 0; i < S; ++i)
                        dw[(c0 + c) * g.w[0] + i * g.w[1] + t / g.kernel[2] * g.w[3] + t % g.kernel[2] * g.w[4]] =
                            r[(t * S + i) * w + c];
        }
    });
    return fine ? DK_OK : DK_NO_MEMORY;
}

}  // namespace
}  // namespace dk
