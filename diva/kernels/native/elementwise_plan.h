// The dimensions that an elementwise operator walks through, as few as its operands' strides allow.
#pragma once

#include <cstdint>

namespace dk {

constexpr int max_dims = 64;

// Dimensions from the outermost to the innermost; strides of the operands in each.
struct Plan {
    int ndim = 0;
    int64_t size[max_dims], stride[3][max_dims];
    bool in_order[3];  // operand lies in memory as out does
};

// Dimensions that every operand walks through as one become one; those of size 1 go.
inline void coalesce(Plan &plan, int ndim, const int64_t *sizes, const int64_t *strides) {
    int d = -1;
    for (int k = 0; k < ndim; k++) {
        if (sizes[k] == 1) continue;
        bool joins = d >= 0;
        for (int o = 0; o < 3 && joins; o++) joins = plan.stride[o][d] == strides[o * ndim + k] * sizes[k];
        if (joins) {
            plan.size[d] *= sizes[k];
        } else {
            plan.size[++d] = sizes[k];
        }
        for (int o = 0; o < 3; o++) plan.stride[o][d] = strides[o * ndim + k];
    }
    if (d < 0) {
        d = 0, plan.size[0] = 1;
        for (auto &stride : plan.stride) stride[0] = 1;
    }
    plan.ndim = d + 1;
    for (int o = 0; o < 3; o++) {
        int64_t expected = 1;
        plan.in_order[o] = true;
        for (int k = d; k >= 0; k--) {
            plan.in_order[o] = plan.in_order[o] && plan.stride[o][k] == expected;
            expected *= plan.size[k];
        }
    }
}

}  // namespace dk
