// Matrix products that are too small or too thin to earn packing: tiles read the operands where they lie. The same order of
// operations as gemm.h, hence the same bits.
#pragma once

#include "gemm.h"

namespace dk {


// C's rows [m0, m1) and columns [n0, n1) on this thread. A is read in place, or packed where neither its rows nor its terms are
// neighbours; B is read in place where its columns are neighbours, else packed.
template <class T, class Store>
bool gemm_direct(Range m, Range n, int64_t k, const StridedA<T> &a, const StridedB<T> &b, const Store &store) {
    constexpr int64_t MR = Tile<T>::rows, NR = Tile<T>::cols, L = lanes<T>;
    if (m.size() <= 0 || n.size() <= 0) return true;
    const Along along = a.stride_k == 1 && k > 1 ? Along::terms : Along::rows;
    // Panels of equal height: a low last one would leave the multipliers waiting.
    const int64_t most = along == Along::terms && rows_collide<T>(a.stride) ? std::min<int64_t>(7, MR) : MR;
    const int64_t panels = (m.size() + most - 1) / most, high = (m.size() + panels - 1) / panels;
    const T *pa = a.p + m.begin * a.stride;
    int64_t panel_a = high * a.stride, step_a = along == Along::terms ? a.stride : a.stride_k;
    if (along == Along::rows && a.stride != 1) {
        T *packed = static_cast<T *>(scratch(0, size_t(panels * MR * k + L) * sizeof(T)));
        if (!packed) return false;
        for (int64_t i = 0; i < panels; ++i) a(packed + i * MR * k, m.begin + i * high, std::min(high, m.size() - i * high), 0, k);
        pa = packed, panel_a = MR * k, step_a = MR;
    }
    // The last columns that do not fill a register are packed in any case: a tile reads whole registers.
    const int64_t whole = b.stride == 1 ? n.size() / L * L : 0, packed_from = whole == n.size() ? whole : whole / NR * NR;
    T *packed_b = nullptr;
    if (packed_from < n.size()) {
        packed_b = static_cast<T *>(scratch(1, size_t((n.size() - packed_from + NR) * k + L) * sizeof(T)));
        if (!packed_b) return false;
        b(packed_b, n.begin + packed_from, n.size() - packed_from, 0, k);
    }
    const T *pb = b.p + n.begin * b.stride;
    alignas(64) T kept[MR * NR];
    for (int64_t j = 0; j < n.size(); j += NR) {
        const int64_t width = std::min(NR, n.size() - j);
        const bool packed = j >= packed_from;
        const T *panel_b = packed ? packed_b + (j - packed_from) * k : pb + j;
        for (int64_t i = 0; i < m.size(); i += high) {
            const int64_t height = std::min(high, m.size() - i);
            int64_t ld = NR;
            T *r = width % L == 0 ? store.place(m.begin + i, n.begin + j, &ld) : nullptr;
            if (!r) r = kept, ld = NR;
            auto function = along == Along::rows ? tile_of<T, Along::rows>(height, width) : tile_of<T, Along::terms>(height, width);
            function(k, pa + i / high * panel_a, step_a, panel_b, packed ? NR : b.stride_k, r, ld, true);
            store(r, ld, m.begin + i, height, n.begin + j, width);
        }
    }
    return true;
}

}  // namespace dk
