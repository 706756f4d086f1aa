// Copies from global to shared memory that pass by the registers and are waited for later (cp.async, from sm_80 on).
//
// Before sm_80 they are plain copies. The emulator keeps them back until they are waited for, as late as a GPU may.
#pragma once

#include "device.h"

#if defined(DK_EMULATED)
#include <vector>
#endif

namespace dk {

template <class T> constexpr int per_vector = int(16 / sizeof(T));
template <class T> struct alignas(16) Vector {  // what is loaded and stored by one instruction
    T v[per_vector<T>];
};

// An address that the compiler does not take apart again: sums with an offset are then one instruction.
template <class T> DK_INLINE const T *whole_address(const T *p) {
#if defined(__CUDACC_RTC__)
    asm("" : "+l"(p));
#endif
    return p;
}

#if defined(__CUDACC_RTC__) && __CUDA_ARCH__ >= 800

DK_INLINE uint32_t shared_address(const void *p) { return uint32_t(__cvta_generic_to_shared(p)); }
// *to = yes ? *from : +0; nothing is read where the answer is no.
DK_INLINE void copy_or_zero(float *to, const float *from, bool yes) {
    const uint32_t to_ = shared_address(to), bytes = yes ? 4 : 0;
    asm volatile("cp.async.ca.shared.global [%0], [%1], 4, %2;" ::"r"(to_), "l"(from), "r"(bytes) : "memory");
}
DK_INLINE void copy_or_zero(double *to, const double *from, bool yes) {
    const uint32_t to_ = shared_address(to), bytes = yes ? 8 : 0;
    asm volatile("cp.async.ca.shared.global [%0], [%1], 8, %2;" ::"r"(to_), "l"(from), "r"(bytes) : "memory");
}
template <class T> DK_INLINE void copy_vector(T *to, const T *from) {
    asm volatile("cp.async.cg.shared.global [%0], [%1], 16;" ::"r"(shared_address(to)), "l"(from) : "memory");
}
DK_INLINE void copies_end() { asm volatile("cp.async.commit_group;" ::: "memory"); }
// Waits for all sets of this thread's copies but the last n.
template <int n> DK_INLINE void copies_wait() { asm volatile("cp.async.wait_group %0;" ::"n"(n) : "memory"); }

#elif defined(DK_EMULATED)

struct KeptCopy {
    void *to;
    uint64_t value[2];
    int32_t bytes, set;
};
struct KeptCopies {
    std::vector<KeptCopy> copies;
    int32_t set = 0;
};
inline KeptCopies &kept_copies() {
    static KeptCopies of_thread[1024];
    return of_thread[threadIdx.x];
}
inline void keep_copy(void *to, const void *from, int32_t bytes) {
    KeptCopy copy{to, {0, 0}, bytes, kept_copies().set};
    if (from) std::memcpy(copy.value, from, size_t(bytes));
    kept_copies().copies.push_back(copy);
}
template <class T> inline void copy_or_zero(T *to, const T *from, bool yes) {
    keep_copy(to, yes ? from : nullptr, int32_t(sizeof(T)));
}
template <class T> inline void copy_vector(T *to, const T *from) { keep_copy(to, from, 16); }
inline void copies_end() { ++kept_copies().set; }
template <int n> inline void copies_wait() {
    KeptCopies &kept = kept_copies();
    size_t done = 0;
    for (; done < kept.copies.size() && kept.copies[done].set < kept.set - n; ++done)
        std::memcpy(kept.copies[done].to, kept.copies[done].value, size_t(kept.copies[done].bytes));
    kept.copies.erase(kept.copies.begin(), kept.copies.begin() + std::ptrdiff_t(done));
}

#else

template <class T> DK_INLINE void copy_or_zero(T *to, const T *from, bool yes) { *to = yes ? *from : T(0); }
template <class T> DK_INLINE void copy_vector(T *to, const T *from) {
    *reinterpret_cast<Vector<T> *>(to) = *reinterpret_cast<const Vector<T> *>(from);
}
DK_INLINE void copies_end() {}
template <int n> DK_INLINE void copies_wait() {}

#endif

constexpr int slice = 8;

// Eight steps of the chains of a thread's part of a tile: acc[i][j] = fma(a[k][row i], b[k][column j], acc[i][j]),
// k ascending. A thread's rows are vectors `row_step` apart, its columns likewise: what a warp reads at once lies together.

template <class T, int MT, int NT, int a_pitch, int b_pitch, int row_step, int column_step>
DK_INLINE void outer_products(T (&acc)[MT][NT], const T *a, const T *b) {
    constexpr int V = per_vector<T>;
    DK_UNROLL
    for (int k = 0; k < slice; ++k) {
        T left[MT], right[NT];
        DK_UNROLL
        for (int i = 0; i < MT; i += V) {
            const Vector<T> v = *reinterpret_cast<const Vector<T> *>(a + k * a_pitch + i / V * row_step);
            DK_UNROLL
            for (int e = 0; e < V; ++e) left[i + e] = v.v[e];
        }
        DK_UNROLL
        for (int j = 0; j < NT; j += V) {
            const Vector<T> v = *reinterpret_cast<const Vector<T> *>(b + k * b_pitch + j / V * column_step);
            DK_UNROLL
            for (int e = 0; e < V; ++e) right[j + e] = v.v[e];
        }
        DK_UNROLL
        for (int i = 0; i < MT; ++i) {
            DK_UNROLL
            for (int j = 0; j < NT; ++j) acc[i][j] = fma(left[i], right[j], acc[i][j]);
        }
    }
}

// Where thread t of those that share a tile has its part: warps of 4 by 8 threads.
template <class T, int BN, int NT> struct Part {
    int row, column;  // the first ones
    DK_INLINE explicit Part(int t) {
        constexpr int across = BN / NT / 8;
        const int warp = t / 32, lane = t % 32;
        row = (warp / across * 4 + lane / 8) * per_vector<T>;
        column = (warp % across * 8 + lane % 8) * per_vector<T>;
    }
};

}  // namespace dk
