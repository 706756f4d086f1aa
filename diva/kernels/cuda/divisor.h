// Whole numbers divided by one that all threads share: a multiplication and a shift for numbers below 2^31.
#pragma once

#include "device.h"

namespace dk {

template <class I> struct Divisor;

// n / by for 0 <= n < 2^31, by >= 1: with 2^shift the least power of two that is not below `by` and
// magic = floor(2^32 (2^shift - by) / by) + 1 it is (floor(n magic / 2^32) + n) / 2^shift, and the sum is below 2^32.
template <> struct Divisor<int32_t> {
    uint32_t by = 1, magic = 1, shift = 0;
    Divisor() = default;
    DK_INLINE explicit Divisor(int64_t d) : by(uint32_t(d > 0 ? d : 1)) {
        while ((uint64_t(1) << shift) < by) ++shift;
        magic = uint32_t((((uint64_t(1) << shift) - by) << 32) / by + 1);
    }
    DK_INLINE uint32_t quotient(uint32_t n) const { return (__umulhi(n, magic) + n) >> shift; }
    DK_INLINE int32_t quotient(int32_t n) const { return int32_t(quotient(uint32_t(n))); }
    // n becomes the quotient; the remainder.
    DK_INLINE int32_t split(int32_t &n) const {
        const int32_t q = quotient(n), r = n - q * int32_t(by);
        n = q;
        return r;
    }
};

template <> struct Divisor<int64_t> {
    int64_t by = 1;
    Divisor() = default;
    DK_INLINE explicit Divisor(int64_t d) : by(d > 0 ? d : 1) {}
    DK_INLINE int64_t quotient(int64_t n) const { return n / by; }
    DK_INLINE int64_t split(int64_t &n) const {
        const int64_t q = n / by, r = n - q * by;
        n = q;
        return r;
    }
};

}  // namespace dk
