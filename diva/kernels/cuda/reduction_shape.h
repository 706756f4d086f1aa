// Where the elements that are reduced lie: the dimensions of native/reduction_layout.h as a kernel's argument.
#pragma once

#include "device.h"

#include "divisor.h"

namespace dk {
namespace reduction {

struct Dimension {
    int64_t size, stride, place;
    Divisor<int32_t> by;  // where the size is below 2^31
    DK_INLINE uint32_t quotient(uint32_t i) const { return by.quotient(i); }
};

// Reduced dimensions, then kept ones, as in Layout. The kept one in which neighbouring threads go ("column") is not among
// the `kept`: it is apart, of size 1 where rows are reduced.
struct Shape {
    static constexpr int most = 34;
    int32_t reduced, kept;
    int32_t large;  // some index is 2^31 or more
    int64_t n, outputs, width, column_stride, column_place;
    Dimension dimensions[most];

    DK_INLINE int64_t term(int64_t i) const {
        int64_t ignored;
        return at(i, 0, reduced, ignored);
    }
    // The first element of matrix (or row) number `index`; `place` becomes its output's.
    DK_INLINE int64_t matrix(int64_t index, int64_t &place) const { return at(index, reduced, reduced + kept, place); }

  private:
    DK_INLINE int64_t at(int64_t index, int first, int last, int64_t &place) const {
        int64_t offset = 0;
        place = 0;
        if (large) {
            for (int d = last - 1; d >= first; --d) {
                const int64_t q = index / dimensions[d].size, digit = index - q * dimensions[d].size;
                offset += digit * dimensions[d].stride, place += digit * dimensions[d].place;
                index = q;
            }
            return offset;
        }
        uint32_t i = uint32_t(index);
        for (int d = last - 1; d > first; --d) {
            const uint32_t q = dimensions[d].quotient(i);
            const int64_t digit = i - q * uint32_t(dimensions[d].size);
            offset += digit * dimensions[d].stride, place += digit * dimensions[d].place;
            i = q;
        }
        place += i * dimensions[first].place;
        return offset + i * dimensions[first].stride;
    }
};

// Where term i is: reduced dimensions that are one, two, or more. `plain`: too much code to be repeated in a loop's body.
struct OnePlace {
    static constexpr bool plain = false;
    int64_t stride;
    DK_INLINE int64_t operator()(int64_t i) const { return i * stride; }
};
struct TwoPlaces {
    static constexpr bool plain = false;
    Dimension outer, inner;
    DK_INLINE int64_t operator()(int64_t i) const {
        const uint32_t q = inner.quotient(uint32_t(i));
        return q * outer.stride + (uint32_t(i) - q * uint32_t(inner.size)) * inner.stride;
    }
};
struct ManyPlaces {
    static constexpr bool plain = true;
    const Shape &s;
    DK_INLINE int64_t operator()(int64_t i) const { return s.term(i); }
};

// body(place)
template <class Body> DK_INLINE void with_places(const Shape &s, const Body &body) {
    if (s.reduced == 1)
        body(OnePlace{s.dimensions[0].stride});
    else if (s.reduced == 2 && !s.large)
        body(TwoPlaces{s.dimensions[0], s.dimensions[1]});
    else
        body(ManyPlaces{s});
}

}  // namespace reduction
}  // namespace dk

#if DK_HOST
#include "../native/reduction_layout.h"

namespace dk {
namespace reduction {

inline Dimension dimension(int64_t size, int64_t stride, int64_t place) {
    return {size, stride, place, Divisor<int32_t>(size <= INT32_MAX ? size : 1)};
}

// The kept dimension whose elements lie nearest to each other, where that is nearer than a row's own; else -1.
inline int64_t column_of(const Layout &layout) {
    if (layout.n <= 1) return -1;
    auto distance = [&](int64_t d) { return layout.strides[d] < 0 ? -layout.strides[d] : layout.strides[d]; };
    int64_t nearest = INT64_MAX, column = -1;
    for (int64_t d = 0; d < layout.reduced; ++d)
        if (layout.sizes[d] > 1 && distance(d) < nearest) nearest = distance(d);
    for (int64_t d = layout.reduced; d < layout.reduced + layout.kept; ++d)
        if (layout.sizes[d] > 1 && distance(d) > 0 && distance(d) < nearest) nearest = distance(d), column = d;
    return column;
}

inline Shape shape_of(const Layout &layout, int64_t column) {
    Shape s;
    s.reduced = int32_t(layout.reduced), s.kept = 0, s.n = layout.n, s.outputs = layout.outputs;
    s.large = s.n > INT32_MAX || s.outputs > INT32_MAX;
    s.width = 1, s.column_stride = 0, s.column_place = 0;
    for (int64_t d = 0; d < layout.reduced; ++d) s.dimensions[d] = dimension(layout.sizes[d], layout.strides[d], 0);
    for (int64_t d = layout.reduced; d < layout.reduced + layout.kept; ++d) {
        if (d == column)
            s.width = layout.sizes[d], s.column_stride = layout.strides[d], s.column_place = layout.places[d];
        else
            s.dimensions[s.reduced + s.kept++] = dimension(layout.sizes[d], layout.strides[d], layout.places[d]);
    }
    if (s.kept == 0) s.dimensions[s.reduced + s.kept++] = dimension(1, 0, 0);
    return s;
}

// (blocks, outputs) without gaps, the outputs in the order of `s`: matrices, then columns; results go where those of `s` go.
inline Shape shape_of_results(const Shape &s, int64_t blocks) {
    Shape r = s;
    r.reduced = 1, r.n = blocks;
    r.dimensions[0] = dimension(blocks, s.outputs, 0);
    int64_t stride = s.width;
    for (int32_t d = s.kept - 1; d >= 0; --d) {
        const Dimension &given = s.dimensions[s.reduced + d];
        r.dimensions[1 + d] = dimension(given.size, stride, given.place);
        stride *= given.size;
    }
    r.column_stride = 1;
    return r;
}

}  // namespace reduction
}  // namespace dk
#endif
