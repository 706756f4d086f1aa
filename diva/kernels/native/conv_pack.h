// Weights in the order in which tiles read them, and the proof that none of them is Inf or NaN.
#pragma once

#include "conv_problem.h"
#include "conv_tile.h"
#include "conv_transpose.h"

namespace dk {
namespace {

// One class of output positions: its taps and where its weights lie in the packed buffer.
struct Class {
    const Axis *d, *h, *w;
    int64_t taps, depth, packed;         // depth = channels * taps; packed: offset of its weights
    std::vector<int64_t> tap_weight;     // offset of each tap in the weight tensor
};

struct PackedWeights {
    int64_t block_rows, blocks, total;   // rows per tile; blocks per group; numbers in all
    std::vector<Class> classes;
    int64_t at(const Class &c, int64_t group, int64_t block) const {
        return c.packed + (group * blocks + block) * c.depth * block_rows;
    }
};

// `exactly`: every block has most_rows rows, the last filled up with zeros; else the blocks are evened out.
inline PackedWeights plan_weights(const Gather &p, int64_t most_rows, bool exactly = false) {
    PackedWeights plan;
    plan.blocks = (p.rows + most_rows - 1) / most_rows;
    plan.block_rows = exactly ? most_rows : (p.rows + plan.blocks - 1) / plan.blocks;
    plan.blocks = (p.rows + plan.block_rows - 1) / plan.block_rows;
    plan.total = 0;
    for (const Axis &d : p.axes[0])
        for (const Axis &h : p.axes[1])
            for (const Axis &w : p.axes[2]) {
                Class c{&d, &h, &w, int64_t(d.tap.size() * h.tap.size() * w.tap.size()), 0, plan.total, {}};
                c.depth = p.channels * c.taps;
                for (int64_t i : d.tap)
                    for (int64_t j : h.tap)
                        for (int64_t k : w.tap)
                            c.tap_weight.push_back(i * p.weight_tap[0] + j * p.weight_tap[1] + k * p.weight_tap[2]);
                plan.total += p.groups * plan.blocks * c.depth * plan.block_rows;
                plan.classes.push_back(c);
            }
    return plan;
}

// x * 0 is 0 for finite x and NaN else: the sum says whether all of n numbers are finite.
template <class T> bool all_finite(const T *x, int64_t n) {
    vec<T> a{}, b{};
    int64_t k = 0;
    for (; k + 2 * lanes<T> <= n; k += 2 * lanes<T>) a = fma(load(x + k), vec<T>{}, a), b = fma(load(x + k + lanes<T>), vec<T>{}, b);
    T sum = 0;
    for (; k < n; ++k) sum += x[k] * T(0);
    a = a + b;
    for (int i = 0; i < lanes<T>; ++i) sum += a[i];
    return sum == T(0);
}

// to[k][r] of one block: rows first..first + rows of the weight, all (c, tap) of the class. `to` may be overrun by lanes.
template <class T>
void pack_block(const Gather &p, const Class &c, const T *weight, int64_t rows, int64_t block_rows, T *to) {
    const bool along_k = p.weight_channel == c.taps && p.weight_tap[2] == 1;  // whole rows are contiguous: forward
    bool in_order = true;
    for (int64_t t = 0; t < c.taps; ++t) in_order = in_order && c.tap_weight[size_t(t)] == t;
    if (along_k && in_order) {
        transpose(weight, p.weight_row, to, block_rows, rows, c.depth, false);
    } else if (p.weight_row == 1) {
        for (int64_t k = 0; k < c.depth; ++k) {
            const T *from = weight + k / c.taps * p.weight_channel + c.tap_weight[size_t(k % c.taps)];
            for (int64_t r = 0; r < rows; ++r) to[k * block_rows + r] = from[r];
        }
    } else if (p.weight_row == p.kernel_taps && p.kernel_taps <= 64 && p.weight_tap[2] == 1) {  // rows side by side: input gradient
        alignas(64) T turned[64 * 64];
        const int64_t pitch = (rows + lanes<T> - 1) / lanes<T> * lanes<T>;
        for (int64_t i = 0; i * c.taps < c.depth; ++i) {
            const T *from = weight + i * p.weight_channel;
            if (in_order && c.taps == p.kernel_taps) {
                transpose(from, p.weight_row, to + i * c.taps * block_rows, block_rows, rows, c.taps, false);
                continue;
            }
            transpose(from, p.weight_row, turned, pitch, rows, p.kernel_taps, true);
            for (int64_t t = 0; t < c.taps; ++t)
                std::memcpy(to + (i * c.taps + t) * block_rows, turned + c.tap_weight[size_t(t)] * pitch, size_t(rows) * sizeof(T));
        }
    } else {
        for (int64_t i = 0; i * c.taps < c.depth; ++i)
            for (int64_t t = 0; t < c.taps; ++t) {
                const T *from = weight + i * p.weight_channel + c.tap_weight[size_t(t)];
                T *row = to + (i * c.taps + t) * block_rows;
                for (int64_t r = 0; r < rows; ++r) row[r] = from[r * p.weight_row];
            }
    }
}

// All blocks of all classes; false where a weight is not finite (then what was packed is of no use).
template <class T> bool pack_weights(const Gather &p, const PackedWeights &plan, const T *weight, T *to) {
    std::atomic<bool> finite{true};
    for (const Class &c : plan.classes) {
        const int64_t items = p.groups * plan.blocks;
        parallel(items, grain_for(items, 2.0 * double(items * c.depth * plan.block_rows)), [&](int64_t begin, int64_t end) {
            for (int64_t item = begin; item < end; ++item) {
                const int64_t group = item / plan.blocks, block = item % plan.blocks, first = block * plan.block_rows;
                const int64_t rows = p.rows - first < plan.block_rows ? p.rows - first : plan.block_rows;
                T *into = to + plan.at(c, group, block);
                if (rows < plan.block_rows)
                    for (int64_t k = 0; k < c.depth * plan.block_rows; ++k) into[k] = 0;
                pack_block(p, c, weight + group * p.weight_group + first * p.weight_row, rows, plan.block_rows, into);
                if (!all_finite(into, c.depth * plan.block_rows)) finite = false;
            }
        });
    }
    return finite;
}

}  // namespace
}  // namespace dk
