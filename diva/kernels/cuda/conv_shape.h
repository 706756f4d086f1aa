// What the kernels of a convolution are told, and how they find their way in it: positions, taps, and what lies outside.
//
// The forward pass and the input gradient are one gather: out[n, m, q] = DOT over (c, tap) of source[n, c, place(q, tap)]
// weight(m, c, tap). The forward pass has one class of output positions; the input gradient has one for each remainder of
// the position by the stride, on every axis: inside a class all positions have the same taps, and no other tap is looked at.
//
// Outside of the source a term is +0 times the weight, as specified (so an infinite weight gives NaN there). Which taps
// are outside is one word per position: a bit for each tap of each axis. A tap has its own bits; they are compared by one `and`.
#pragma once

#include "device.h"

namespace dk {

constexpr int dot_chunk = 256;  // D1
constexpr uint32_t bit_never = 1u << 31, bit_position = 1u << 30;  // of a word: always set; set where there is no such position
constexpr int mask_bits = 30;

// n / divisor for n < 2^31 by one multiplication.
struct Divider {
    uint32_t divisor, magic, shift;
    DK_INLINE uint32_t of(uint32_t n) const { return divisor == 1 ? n : __umulhi(n, magic) >> shift; }
};

struct GatherAxis {
    int32_t size, stride, phases;      // of the output: its size, and step and number of its classes
    int32_t source_size, source_step;  // one position on is so many places on in the source
    int32_t kernel, padding, dilation, forward;
    int32_t common, inverse, tap_step;  // gcd(stride, dilation); of dilation / common modulo tap_step; stride / common
    int32_t taps, bits, first_bit;     // of a class at most; bits in a word, 0 where no tap can be outside
    Divider count[2];                  // positions of a class: the classes below size % stride have one more
};

struct GatherShape {
    GatherAxis axis[3];
    int32_t batch, groups, channels, rows;  // channels of the source and rows of the output are those of a group
    int32_t classes, backwards;  // backwards: the last classes, which have longer DOTs, are begun with
    int32_t depth;               // of the longest DOT, made a multiple of the slice where tiles are used
    int32_t row_tiles, position_tiles, tiles_each;
    int64_t source[5], out[5];              // strides (n, c, d, h, w)
    int64_t weight_row, weight_channel, weight_group, weight_tap[3];
};

// One axis of a class: positions start + i stride, i < count; tap j is the kernel's tap + j tap_step and reads
// source i source_step + offset + j offset_step.
struct Phase {
    int32_t start, count, taps, tap, tap_step, offset, offset_step;
    Divider by_count;
};

DK_INLINE Phase phase_of(const GatherAxis &a, int32_t q) {
    Phase f;
    const int32_t left = a.size % a.stride;
    f.by_count = q < left || left == 0 ? a.count[0] : a.count[1];
    f.start = q, f.count = int32_t(f.by_count.divisor);
    if (a.forward) {
        f.taps = a.kernel, f.tap = 0, f.tap_step = 1, f.offset = -a.padding, f.offset_step = a.dilation;
        return f;
    }
    const int32_t distance = q + a.padding;
    f.tap_step = a.tap_step;
    f.tap = int32_t(int64_t(distance / a.common) * a.inverse % a.tap_step);
    f.taps = distance % a.common || f.tap >= a.kernel ? 0 : (a.kernel - 1 - f.tap) / a.tap_step + 1;
    f.offset = (distance - f.tap * a.dilation) / a.stride;
    f.offset_step = -(a.dilation / a.common);
    return f;
}

struct Class {
    Phase phase[3];
    int32_t taps, depth;  // depth of its DOT
    int32_t positions;    // of all images
};

DK_INLINE Class class_of(const GatherShape &p, int32_t number) {
    Class c;
    c.phase[2] = phase_of(p.axis[2], number % p.axis[2].phases);
    number /= p.axis[2].phases;
    c.phase[1] = phase_of(p.axis[1], number % p.axis[1].phases);
    c.phase[0] = phase_of(p.axis[0], number / p.axis[1].phases);
    c.taps = c.phase[0].taps * c.phase[1].taps * c.phase[2].taps;
    c.depth = p.channels * c.taps;
    c.positions = p.batch * c.phase[0].count * c.phase[1].count * c.phase[2].count;
    return c;
}

// What a block is for.
struct GatherBlock {
    Class c;
    int32_t row_tile, position_tile, group, slot;  // slot: of the class and group
};

DK_INLINE GatherBlock block_of(const GatherShape &p) {
    GatherBlock b;
    uint32_t rest = blockIdx.x;
    b.row_tile = int32_t(rest % uint32_t(p.row_tiles)), rest /= uint32_t(p.row_tiles);
    b.position_tile = int32_t(rest % uint32_t(p.position_tiles)), rest /= uint32_t(p.position_tiles);
    b.group = int32_t(rest % uint32_t(p.groups));
    int32_t number = int32_t(rest / uint32_t(p.groups));
    if (p.backwards) number = p.classes - 1 - number;
    b.slot = number * p.groups + b.group;
    b.c = class_of(p, number);
    return b;
}

// The taps of an axis that are outside of the source for position i of its class.
DK_INLINE uint32_t outside_bits(const GatherAxis &a, const Phase &f, int32_t i) {
    uint32_t bits = 0;
    if (a.bits) {
        int32_t at = i * a.source_step + f.offset;
        for (int j = 0; j < f.taps; ++j, at += f.offset_step) bits |= uint32_t(uint32_t(at) >= uint32_t(a.source_size)) << j;
    }
    return bits << a.first_bit;
}

struct Position {
    int32_t image, i[3];  // i: in the class
};

DK_INLINE Position position_of(const Class &c, int32_t number) {
    Position r;
    uint32_t rest = uint32_t(number), next = c.phase[2].by_count.of(rest);
    r.i[2] = int32_t(rest - next * c.phase[2].by_count.divisor), rest = next;
    next = c.phase[1].by_count.of(rest);
    r.i[1] = int32_t(rest - next * c.phase[1].by_count.divisor), rest = next;
    next = c.phase[0].by_count.of(rest);
    r.i[0] = int32_t(rest - next * c.phase[0].by_count.divisor);
    r.image = int32_t(next);
    return r;
}

DK_INLINE uint32_t outside_of(const GatherShape &p, const Class &c, const Position &at) {
    return bit_never | outside_bits(p.axis[0], c.phase[0], at.i[0]) | outside_bits(p.axis[1], c.phase[1], at.i[1]) |
           outside_bits(p.axis[2], c.phase[2], at.i[2]);
}

DK_INLINE int64_t source_place(const GatherShape &p, const Position &at) {
    int64_t place = at.image * p.source[0];
    for (int a = 0; a < 3; ++a) place += int64_t(at.i[a]) * p.axis[a].source_step * p.source[2 + a];
    return place;
}

DK_INLINE int64_t out_place(const GatherShape &p, const Class &c, const Position &at) {
    int64_t place = at.image * p.out[0];
    for (int a = 0; a < 3; ++a) place += (c.phase[a].start + int64_t(at.i[a]) * p.axis[a].stride) * p.out[2 + a];
    return place;
}

// Term k of a class's DOT.
struct Term {
    int32_t channel, j[3];
};

DK_INLINE Term term_of(const Class &c, int32_t k) {
    Term t;
    t.channel = k / c.taps;
    int32_t rest = k - t.channel * c.taps;
    t.j[2] = rest % c.phase[2].taps, rest /= c.phase[2].taps;
    t.j[1] = rest % c.phase[1].taps;
    t.j[0] = rest / c.phase[1].taps;
    return t;
}

DK_INLINE uint32_t term_bits(const GatherShape &p, const Term &t) {
    uint32_t bits = bit_position;
    for (int a = 0; a < 3; ++a) bits |= (p.axis[a].bits ? 1u << t.j[a] : 0u) << p.axis[a].first_bit;
    return bits;
}

DK_INLINE int64_t term_source(const GatherShape &p, const Class &c, const Term &t) {
    int64_t place = t.channel * p.source[1];
    for (int a = 0; a < 3; ++a) place += (c.phase[a].offset + t.j[a] * c.phase[a].offset_step) * p.source[2 + a];
    return place;
}

DK_INLINE int64_t term_weight(const GatherShape &p, const Class &c, const Term &t) {
    int64_t place = t.channel * p.weight_channel;
    for (int a = 0; a < 3; ++a) place += (c.phase[a].tap + t.j[a] * c.phase[a].tap_step) * p.weight_tap[a];
    return place;
}

// A term as tiles use it: where it is read from a position's place, and its bits.
struct Tap {
    int32_t offset;
    uint32_t bits;
};
struct alignas(16) TapPair {  // loaded together
    Tap tap[2];
};

}  // namespace dk
