// Copies from device memory to shared memory that run beside the arithmetic: cp.async, from sm_80 on.
//
//   copy_async<bytes>(to, from, use)  4, 8 or 16 bytes, both addresses aligned to them; zeros (and nothing is read) without `use`
//   copies_done()                     waits for this thread's copies; a barrier must follow before other threads read them
//
// Elsewhere they are ordinary loads and stores. The emulator runs each at the first or at the last moment that a GPU might:
// a missing wait shows, and so does a copy into what is still read.
#pragma once

#include "device.h"

namespace dk {

template <int bytes> struct BytesAs;
template <> struct BytesAs<4> { using type = float; };
template <> struct BytesAs<8> { using type = double; };
template <> struct BytesAs<16> { using type = float4; };

template <int bytes> DK_INLINE void copy_now(void *to, const void *from, bool use) {
    using B = typename BytesAs<bytes>::type;
    if (use) *static_cast<B *>(to) = *static_cast<const B *>(from);
    else *static_cast<B *>(to) = B{};
}

#if defined(__CUDA_ARCH__) && __CUDA_ARCH__ >= 800

template <int bytes> DK_INLINE void copy_async(void *to, const void *from, bool use) {
    const unsigned address = unsigned(__cvta_generic_to_shared(to));
    const int taken = use ? bytes : 0;
    if (bytes == 16) asm volatile("cp.async.cg.shared.global [%0], [%1], 16, %2;" ::"r"(address), "l"(from), "r"(taken) : "memory");
    else asm volatile("cp.async.ca.shared.global [%0], [%1], %2, %3;" ::"r"(address), "l"(from), "n"(bytes), "r"(taken) : "memory");
}
DK_INLINE void copies_done() { asm volatile("cp.async.wait_all;" ::: "memory"); }

#elif defined(DK_EMULATED)

struct Pending {
    void *to;
    const void *from;
    void (*copy)(void *, const void *, bool);
    bool use;
};
struct Copies {
    static constexpr int most = 64;  // of a thread between two waits
    Pending list[most];
    int count;
};
inline Copies copies_of_threads[1024];  // of the block that runs

inline Copies &my_copies() { return copies_of_threads[threadIdx.x + blockDim.x * (threadIdx.y + blockDim.y * threadIdx.z)]; }

template <int bytes> inline void copy_async(void *to, const void *from, bool use) {
    if ((blockIdx.x + threadIdx.x / 8) % 2 == 0) return copy_now<bytes>(to, from, use);
    Copies &mine = my_copies();
    if (mine.count == Copies::most) __builtin_trap();
    mine.list[mine.count++] = {to, from, copy_now<bytes>, use};
}
inline void copies_done() {
    Copies &mine = my_copies();
    for (int i = 0; i < mine.count; ++i) mine.list[i].copy(mine.list[i].to, mine.list[i].from, mine.list[i].use);
    mine.count = 0;
}

#else

template <int bytes> DK_INLINE void copy_async(void *to, const void *from, bool use) { copy_now<bytes>(to, from, use); }
DK_INLINE void copies_done() {}

#endif

}  // namespace dk
