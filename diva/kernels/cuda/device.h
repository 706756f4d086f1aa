// What a kernel file sees, first of all its includes, whoever compiles it:
//   NVRTC     device code of a GPU: the kernels alone, without the host functions
//   g++       the host functions (the C interface of native/*.h), which launch the kernels on a GPU: libdiva_kernels_cuda
//   g++ -DDK_EMULATED   the same, the kernels run on the CPU thread by thread: libdiva_kernels_emulated
// A file is kernels (templates and functions in namespace dk, `__global__`), then, between #if DK_HOST and #endif, the
// host functions.
#pragma once

#define DK_DEVICE 1

#if defined(__CUDACC_RTC__)

#define DK_HOST 0
#define DK_INLINE __device__ __forceinline__
typedef signed char int8_t;
typedef unsigned char uint8_t;
typedef int int32_t;
typedef unsigned int uint32_t;
typedef long int64_t;
typedef unsigned long uint64_t;
namespace std {
DK_INLINE void memcpy(void *to, const void *from, size_t n) { ::memcpy(to, from, n); }
}
#define __builtin_inf() __builtin_bit_cast(double, 0x7ff0000000000000ull)
#define __builtin_inff() __builtin_bit_cast(float, 0x7f800000u)
#define DK_UNROLL _Pragma("unroll")
#define DK_TABLE __device__ const

#else

#define DK_HOST 1
#define DK_INLINE inline __attribute__((always_inline))
#include <cstdint>
#include <cstring>

#include "emulator.h"

#define DK_UNROLL _Pragma("GCC unroll 16")
#define DK_TABLE static const

#endif

#include "lane.h"

#if !DK_HOST
using namespace dk;  // kernels are asked for by g++'s spelling of their names, which leaves out dk:: before types
#endif
