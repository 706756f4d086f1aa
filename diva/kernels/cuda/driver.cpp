// The CUDA driver, loaded at run time: nothing of CUDA is needed to build this or to load it.
#include "launch.h"

#include <cstdlib>
#include <mutex>
#include <string>

#include "../native/diva_kernels.h"
#include "source_digest.h"

namespace dk {
namespace {

Kernel *&first_kernel() {
    static Kernel *first = nullptr;
    return first;
}
thread_local std::string message;

}  // namespace

int64_t launches = 0;

Kernel::Kernel(const char *file_, const char *spelled_) : file(file_), spelled(spelled_), next(first_kernel()), function{} {
    first_kernel() = this;
}

// "static const char* ...[with auto kernel = dk::name<float>]" -> "dk::name<float>"
static std::string name_of(const Kernel &kernel) {
    std::string text = kernel.spelled;
    size_t from = text.rfind("kernel = ");
    text = from == std::string::npos ? text : text.substr(from + 9);
    if (!text.empty() && text.back() == ']') text.pop_back();
    return !text.empty() && text[0] == '&' ? text.substr(1) : text;
}
}  // namespace dk

extern "C" const char *dk_cuda_kernels(void) {
    static std::string listing;
    static std::once_flag once;
    std::call_once(once, [] {
        for (dk::Kernel *k = dk::first_kernel(); k; k = k->next) listing += std::string(k->file) + "\t" + dk::name_of(*k) + "\n";
    });
    return listing.c_str();
}
extern "C" int64_t dk_cuda_launches(void) { return dk::launches; }
extern "C" const char *dk_cuda_message(void) { return dk::message.c_str(); }

#if defined(DK_EMULATED)

namespace dk {

static int32_t fault = 0;
int32_t *fault_word() { return &fault; }
int32_t status_after(int32_t launched) {
    int32_t found = fault;
    fault = 0;
    return launched ? launched : found ? DK_BAD_ARGUMENT : DK_OK;
}
Scratch::Scratch(size_t bytes) : address_(std::malloc(bytes ? bytes : 1)) {
    if (address_) std::memset(address_, 0xff, bytes);  // NaN, -1: what is read before it is written shows
}
Scratch::~Scratch() { std::free(address_); }

}  // namespace dk

extern "C" int32_t dk_cuda_fault(void) { return dk::status_after(0) != 0; }
extern "C" void dk_cuda_use(int32_t, void *) {}
extern "C" void dk_cuda_connect(void *, void *, void *) {}

#else

#include <dlfcn.h>

namespace dk {
namespace {

using Status = int;
using Handle = void *;

struct Driver {
    Status (*device_get)(int *, int);
    Status (*primary_retain)(Handle *, int);
    Status (*context_current)(Handle *);
    Status (*context_push)(Handle);
    Status (*context_pop)(Handle *);
    Status (*module_load)(Handle *, const void *);
    Status (*module_function)(Handle *, Handle, const char *);
    Status (*launch)(Handle, unsigned, unsigned, unsigned, unsigned, unsigned, unsigned, unsigned, Handle, void **, void **);
    Status (*host_alloc)(void **, size_t, unsigned);
    Status (*error_string)(Status, const char **);
    Status (*init)(unsigned);
    Status (*stream_wait)(Handle);
    Status (*stream_capturing)(Handle, int *);
    Status (*exchange_mode)(int *);
    bool loaded = false;
};

int32_t failed(const char *doing, const char *why) {
    message = std::string(doing) + ": " + why;
    return CUDA_FAILED;
}

Driver load_driver() {
    Driver d{};
    void *library = dlopen("libcuda.so.1", RTLD_NOW | RTLD_GLOBAL);
    if (!library) return d;
    bool all = true;
    auto find = [&](auto &slot, const char *name) {
        slot = reinterpret_cast<std::remove_reference_t<decltype(slot)>>(dlsym(library, name));
        all = all && slot;
    };
    find(d.device_get, "cuDeviceGet"), find(d.primary_retain, "cuDevicePrimaryCtxRetain");
    find(d.context_current, "cuCtxGetCurrent"), find(d.context_push, "cuCtxPushCurrent_v2");
    find(d.context_pop, "cuCtxPopCurrent_v2"), find(d.module_load, "cuModuleLoadData");
    find(d.module_function, "cuModuleGetFunction"), find(d.launch, "cuLaunchKernel");
    find(d.host_alloc, "cuMemHostAlloc"), find(d.error_string, "cuGetErrorString"), find(d.init, "cuInit");
    find(d.stream_wait, "cuStreamSynchronize"), find(d.stream_capturing, "cuStreamIsCapturing");
    find(d.exchange_mode, "cuThreadExchangeStreamCaptureMode");
    d.loaded = all && d.init(0) == 0;
    return d;
}
const Driver &driver() {
    static const Driver d = load_driver();
    return d;
}

int32_t failed(const char *doing, Status status) {
    const char *text = nullptr;
    if (driver().error_string) driver().error_string(status, &text);
    return failed(doing, text ? text : "unknown error of the driver");
}

constexpr int most_devices = 16;

using Compile = int32_t (*)(const char *file, const char *kernel, int32_t device, const void **image, const char **symbol);
using Allocate = uint64_t (*)(int64_t bytes);
using Release = void (*)(uint64_t address);
Compile compile_kernel = nullptr;
Allocate allocate_memory = nullptr;
Release release_memory = nullptr;

thread_local int32_t current_device = 0;
thread_local Handle current_stream = nullptr;

std::mutex loading;
Handle contexts[most_devices];

// The primary context of the device is current while this lives; PyTorch uses the same.
class OnDevice {
  public:
    explicit OnDevice(int32_t device) {
        const Driver &d = driver();
        if (!d.loaded) {
            status = failed("CUDA", "the driver's library libcuda.so.1 could not be loaded, or is too old");
            return;
        }
        if (device < 0 || device >= most_devices) {
            status = failed("choosing the GPU", "it is not among the first 16");
            return;
        }
        Handle mine = __atomic_load_n(&contexts[device], __ATOMIC_ACQUIRE);
        if (!mine) {
            std::lock_guard<std::mutex> held(loading);
            int number = 0;
            Status s = d.device_get(&number, device);
            if (!s) s = d.primary_retain(&mine, number);
            if (s) {
                status = failed("opening the GPU", s);
                return;
            }
            __atomic_store_n(&contexts[device], mine, __ATOMIC_RELEASE);
        }
        Handle now = nullptr;
        d.context_current(&now);
        if (now != mine) {
            Status s = d.context_push(mine);
            if (s) status = failed("choosing the GPU", s);
            pushed_ = s == 0;
        }
    }
    ~OnDevice() {
        Handle ignored;
        if (pushed_) driver().context_pop(&ignored);
    }
    int32_t status = 0;

  private:
    bool pushed_ = false;
};

// While this lives, this thread may allocate and load although some stream is being captured: the driver refuses that by
// default, and ends the capture.
class DuringCapture {
  public:
    DuringCapture() { driver().exchange_mode(&mode_); }
    ~DuringCapture() { driver().exchange_mode(&mode_); }
    DuringCapture(const DuringCapture &) = delete;
    DuringCapture &operator=(const DuringCapture &) = delete;

  private:
    int mode_ = 2;  // relaxed; then what it was before
};

Handle function_of(Kernel &kernel, int32_t device) {
    if (Handle found = __atomic_load_n(&kernel.function[device], __ATOMIC_ACQUIRE)) return found;
    const void *image = nullptr;
    const char *symbol = nullptr;
    const std::string name = name_of(kernel);
    if (!compile_kernel || compile_kernel(kernel.file, name.c_str(), device, &image, &symbol)) {
        message = name + ": could not be compiled for this GPU";
        return nullptr;
    }
    std::lock_guard<std::mutex> held(loading);
    if (kernel.function[device]) return kernel.function[device];
    const DuringCapture allowed;
    Handle module = nullptr, found = nullptr;
    Status s = driver().module_load(&module, image);
    if (!s) s = driver().module_function(&found, module, symbol);
    if (s) {
        failed(name.c_str(), s);
        return nullptr;
    }
    __atomic_store_n(&kernel.function[device], found, __ATOMIC_RELEASE);
    return found;
}

}  // namespace

int32_t launch_on_gpu(Kernel &kernel, dim3 grid, dim3 block, void **arguments) {
    OnDevice here(current_device);
    if (here.status) return here.status;
    Handle function = function_of(kernel, current_device);
    if (!function) return CUDA_FAILED;
    Status s = driver().launch(function, grid.x, grid.y, grid.z, block.x, block.y, block.z, 0, current_stream, arguments, nullptr);
    __atomic_fetch_add(&launches, 1, __ATOMIC_RELAXED);
    static const bool blocking = [] {
        const char *asked = std::getenv("CUDA_LAUNCH_BLOCKING");
        return asked && *asked && *asked != '0';
    }();
    if (!s && blocking) {
        int capturing = 0;  // what is captured does not run yet: waiting for it would end the capture
        if (!driver().stream_capturing(current_stream, &capturing) && !capturing) s = driver().stream_wait(current_stream);
    }
    return s ? failed(name_of(kernel).c_str(), s) : 0;
}

// One word in memory of the host that every GPU sees: reading it waits for nothing. Null where none can be had.
int32_t *fault_word() {
    static int32_t *word = nullptr;
    if (int32_t *found = __atomic_load_n(&word, __ATOMIC_ACQUIRE)) return found;
    OnDevice here(current_device);
    if (here.status) return nullptr;
    std::lock_guard<std::mutex> held(loading);
    if (word) return word;
    const DuringCapture allowed;
    void *memory = nullptr;
    if (Status s = driver().host_alloc(&memory, 64, 1 | 2)) {  // portable, mapped
        failed("a word for the GPU's faults", s);
        return nullptr;
    }
    std::memset(memory, 0, 64);  // the same address on the GPU, where addresses are unified (all from sm_75 on)
    __atomic_store_n(&word, static_cast<int32_t *>(memory), __ATOMIC_RELEASE);
    return word;
}
int32_t status_after(int32_t launched) {
    if (launched) return launched;
    int32_t *word = fault_word();
    if (!word) return CUDA_FAILED;
    if (!__atomic_load_n(word, __ATOMIC_RELAXED)) return DK_OK;
    __atomic_store_n(word, 0, __ATOMIC_RELAXED);
    return EARLIER_FAULT;
}

Scratch::Scratch(size_t bytes)
    : address_(allocate_memory ? reinterpret_cast<void *>(allocate_memory(int64_t(bytes ? bytes : 1))) : nullptr) {}
Scratch::~Scratch() {
    if (address_) release_memory(reinterpret_cast<uint64_t>(address_));
}

}  // namespace dk

extern "C" int32_t dk_cuda_fault(void) { return dk::status_after(0) == dk::EARLIER_FAULT; }
extern "C" void dk_cuda_use(int32_t device, void *stream) { dk::current_device = device, dk::current_stream = stream; }
extern "C" void dk_cuda_connect(void *compile, void *allocate, void *release) {
    dk::compile_kernel = reinterpret_cast<dk::Compile>(compile);
    dk::allocate_memory = reinterpret_cast<dk::Allocate>(allocate);
    dk::release_memory = reinterpret_cast<dk::Release>(release);
}

#endif

/* What every library of kernels says of itself. */
extern "C" void dk_set_threads(int32_t) {}
extern "C" int32_t dk_threads(void) { return 1; }
extern "C" const char *dk_source_digest(void) { return DK_SOURCE_DIGEST; }
#if defined(DK_EMULATED)
extern "C" int32_t dk_supported(void) {
#if defined(__x86_64__)
    return __builtin_cpu_supports("avx2") && __builtin_cpu_supports("fma");
#else
    return 1;
#endif
}
extern "C" const char *dk_instruction_set(void) { return "emulated"; }
#else
extern "C" int32_t dk_supported(void) { return dk::driver().loaded; }
extern "C" const char *dk_instruction_set(void) { return "cuda"; }
#endif
