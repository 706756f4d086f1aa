// CUDA's language for g++: threads of a block as fibers of one CPU thread, which switch at barriers and shuffles.
//
// What a GPU leaves open the emulator can vary: the order in which blocks and threads run (dk_emulator_order). A kernel
// whose bits depend on it has a race. A barrier that not all threads of a block reach, or a shuffle that not all of a warp
// reach, stops with a message.
#pragma once

#include <cstddef>
#include <cstdint>
#include <cstring>

#define __global__
#define __device__
#define __host__
#define __forceinline__ inline
#define __shared__ static
#define __constant__ static const
#define __launch_bounds__(...)

struct dim3 {
    unsigned x, y, z;
    constexpr dim3(unsigned x_ = 1, unsigned y_ = 1, unsigned z_ = 1) : x(x_), y(y_), z(z_) {}
};
extern dim3 threadIdx, blockIdx, blockDim, gridDim;
constexpr int warpSize = 32;

struct alignas(8) float2 { float x, y; };
struct alignas(16) float4 { float x, y, z, w; };
struct alignas(16) double2 { double x, y; };
struct alignas(8) int2 { int x, y; };
struct alignas(16) int4 { int x, y, z, w; };
struct alignas(8) uint2 { unsigned x, y; };
struct alignas(16) uint4 { unsigned x, y, z, w; };
inline float2 make_float2(float x, float y) { return {x, y}; }
inline float4 make_float4(float x, float y, float z, float w) { return {x, y, z, w}; }
inline double2 make_double2(double x, double y) { return {x, y}; }

namespace dk {
namespace emulator {

void block_barrier();
// Hands `size` bytes of this thread to its warp, waits for all, and takes those of lane `from`.
void shuffle(void *value, size_t size, int from);
uint32_t ballot(bool yes);
int lane_id();

// Runs body(context) for each thread of each block.
void run(dim3 grid, dim3 block, void (*body)(void *), void *context, const char *kernel);

template <class T> inline T shuffled(T value, int from) {
    shuffle(&value, sizeof value, from);
    return value;
}

}  // namespace emulator
}  // namespace dk

inline void __syncthreads() { dk::emulator::block_barrier(); }
inline void __syncwarp(unsigned = 0xffffffffu) { dk::emulator::ballot(false); }
inline uint32_t __ballot_sync(unsigned, int yes) { return dk::emulator::ballot(yes != 0); }
inline int __any_sync(unsigned, int yes) { return dk::emulator::ballot(yes != 0) != 0; }
inline int __all_sync(unsigned, int yes) { return dk::emulator::ballot(yes == 0) == 0; }
template <class T> inline T __shfl_sync(unsigned, T v, int from, int width = 32) {
    int lane = dk::emulator::lane_id();
    return dk::emulator::shuffled(v, (lane & ~(width - 1)) | (from & (width - 1)));
}
template <class T> inline T __shfl_down_sync(unsigned, T v, unsigned by, int width = 32) {
    int lane = dk::emulator::lane_id(), from = lane + int(by);
    return dk::emulator::shuffled(v, from / width == lane / width ? from : lane);
}
template <class T> inline T __shfl_up_sync(unsigned, T v, unsigned by, int width = 32) {
    int lane = dk::emulator::lane_id(), from = lane - int(by);
    return dk::emulator::shuffled(v, from >= 0 && from / width == lane / width ? from : lane);
}
template <class T> inline T __shfl_xor_sync(unsigned, T v, int by, int width = 32) {
    int lane = dk::emulator::lane_id(), from = lane ^ by;
    return dk::emulator::shuffled(v, from / width <= lane / width ? from : lane);
}
inline void __threadfence() {}
inline void __threadfence_block() {}

// Of integers alone: their order changes no bit. One thread runs at a time.
template <class T> inline T atomicAdd(T *p, T x) { T old = *p; *p = T(old + x); return old; }
template <class T> inline T atomicMax(T *p, T x) { T old = *p; if (x > old) *p = x; return old; }
template <class T> inline T atomicMin(T *p, T x) { T old = *p; if (x < old) *p = x; return old; }
template <class T> inline T atomicOr(T *p, T x) { T old = *p; *p = T(old | x); return old; }
template <class T> inline T atomicExch(T *p, T x) { T old = *p; *p = x; return old; }
template <class T> inline T atomicCAS(T *p, T expected, T x) { T old = *p; if (old == expected) *p = x; return old; }
void atomicAdd(float *, float) = delete;
void atomicAdd(double *, double) = delete;

inline float __fmaf_rn(float a, float b, float c) { return __builtin_fmaf(a, b, c); }
inline double __fma_rn(double a, double b, double c) { return __builtin_fma(a, b, c); }
inline float __fadd_rn(float a, float b) { return a + b; }
inline float __fmul_rn(float a, float b) { return a * b; }
inline float __fdiv_rn(float a, float b) { return a / b; }
inline double __dadd_rn(double a, double b) { return a + b; }
inline double __dmul_rn(double a, double b) { return a * b; }
inline double __ddiv_rn(double a, double b) { return a / b; }
inline float __fsqrt_rn(float a) { return __builtin_sqrtf(a); }
inline double __dsqrt_rn(double a) { return __builtin_sqrt(a); }
inline int __float_as_int(float x) { int i; std::memcpy(&i, &x, sizeof i); return i; }
inline float __int_as_float(int x) { float f; std::memcpy(&f, &x, sizeof f); return f; }
inline int64_t __double_as_longlong(double x) { int64_t i; std::memcpy(&i, &x, sizeof i); return i; }
inline double __longlong_as_double(int64_t x) { double d; std::memcpy(&d, &x, sizeof d); return d; }
inline int __popc(unsigned x) { return __builtin_popcount(x); }
inline int __ffs(int x) { return __builtin_ffs(x); }
inline int __clz(int x) { return x ? __builtin_clz(unsigned(x)) : 32; }
inline uint32_t __umulhi(uint32_t a, uint32_t b) { return uint32_t((uint64_t(a) * b) >> 32); }
inline uint64_t __umul64hi(uint64_t a, uint64_t b) { return uint64_t(((unsigned __int128)a * b) >> 64); }
template <class T> inline T __ldg(const T *p) { return *p; }
