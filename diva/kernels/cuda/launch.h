// How host functions launch kernels: launch<softmax_rows<T>>(grid, block, x, y, n), on a GPU or in the emulator.
//
// The name of a kernel is taken from the compiler's spelling of it; the file it is in, from the file that is compiled. So
// the list of all kernels (dk_cuda_kernels) needs no table, and NVRTC can be asked for each of them by name.
#pragma once

#include <cstddef>
#include <cstdint>

#include "emulator.h"

#ifdef __cplusplus
extern "C" {
#endif

/* Every kernel: lines of "file<tab>name". */
const char *dk_cuda_kernels(void);

/* Kernels launched since the library was loaded. */
int64_t dk_cuda_launches(void);

/* The emulator: the order in which blocks and threads run: 0 ascending, 1 descending, else mixed by this number. */
void dk_emulator_order(int64_t order);

/* The GPU: what this thread's next calls run on. */
void dk_cuda_use(int32_t device, void *stream);

/* The GPU: what the host functions ask of Python.
 *   compile(file, kernel, device, image, symbol): 0, and the address of a cubin and of its name of the kernel; both stay
 *   allocate(bytes): device memory of the current device and stream, 0 when there is none; release(address) */
void dk_cuda_connect(void *compile, void *allocate, void *release);

/* 1 when a kernel that has run by now set the word of fault_word(), which this clears; else 0. Waits for nothing. */
int32_t dk_cuda_fault(void);

/* From now on a nonce first_code + i, 0 <= i < count, means the number that word i of device_words (uint64) holds when
 * the kernel runs; count = 0 ends it. */
void dk_cuda_nonces(uint64_t first_code, int64_t count, const void *device_words);

/* The last message of the driver on this thread, "" when there was none. */
const char *dk_cuda_message(void);

#ifdef __cplusplus
}
#endif

namespace dk {

enum { CUDA_FAILED = 3, EARLIER_FAULT = 4 };  // statuses beside those of diva_kernels.h

struct Kernel {
    const char *file, *spelled;  // "[with auto kernel = dk::softmax_rows<float>]"
    Kernel *next;
    void *function[16];  // by device, null until it is first used
    Kernel(const char *file, const char *spelled);
};

extern int64_t launches;

// 0 or CUDA_FAILED.
int32_t launch_on_gpu(Kernel &kernel, dim3 grid, dim3 block, void **arguments);

// Device memory that lives until the end of the host function; what was launched before may still use it (the allocator
// gives it out again in the order of the stream).
class Scratch {
  public:
    explicit Scratch(size_t bytes);
    ~Scratch();
    Scratch(const Scratch &) = delete;
    Scratch &operator=(const Scratch &) = delete;
    explicit operator bool() const { return address_ != nullptr; }
    template <class T> T *as() const { return static_cast<T *>(address_); }

  private:
    void *address_;
};

// A word that kernels set to say that an argument was bad (an index out of range), and the status after it: in the emulator
// DK_BAD_ARGUMENT at once, on a GPU EARLIER_FAULT at the first call after the GPU has come to it.
int32_t *fault_word();
int32_t status_after(int32_t launched);

namespace {
template <auto kernel> struct Spelled {
    static const char *text() { return __PRETTY_FUNCTION__; }
};
template <auto kernel> struct Known {
    static Kernel entry;
};
template <auto kernel> Kernel Known<kernel>::entry{DK_FILE, Spelled<kernel>::text()};
}  // namespace

template <auto kernel, class... P> struct Launch;
template <class... P, void (*kernel)(P...)> struct Launch<kernel, P...> {
    static int32_t go(Kernel &entry, dim3 grid, dim3 block, P... arguments) {
        if (!(grid.x && grid.y && grid.z)) return 0;
#if defined(DK_EMULATED)
        auto body = [&] { kernel(arguments...); };
        using Body = decltype(body);
        emulator::run(grid, block, [](void *context) { (*static_cast<Body *>(context))(); }, &body, entry.spelled);
        return 0;
#else
        void *addresses[] = {&arguments...};
        return launch_on_gpu(entry, grid, block, addresses);
#endif
    }
};
template <auto kernel, class... P> Launch<kernel, P...> launcher(void (*)(P...));

// Blocks for n items, `each` in a block.
inline dim3 blocks_for(int64_t n, int64_t each) { return dim3(unsigned((n + each - 1) / each)); }

// Returns 0 or CUDA_FAILED. Arguments are converted to the kernel's parameters.
template <auto kernel, class... A> int32_t launch(dim3 grid, dim3 block, A &&...arguments) {
    return decltype(launcher<kernel>(kernel))::go(Known<kernel>::entry, grid, block, arguments...);
}

}  // namespace dk
