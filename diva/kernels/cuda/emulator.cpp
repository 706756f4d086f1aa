// The emulator's scheduler: one fiber for each thread of a block, switched by setjmp and longjmp.
// (The library for GPUs has it too, and never calls it: the kernels' C++ form, of which it takes the names, refers to it.)
#undef _FORTIFY_SOURCE  // longjmp to another stack is what this is made of
#include "emulator.h"

#include <csetjmp>
#include <cstdio>
#include <cstdlib>
#include <mutex>
#include <vector>

#include <sys/mman.h>
#include <ucontext.h>

#include "launch.h"

dim3 threadIdx, blockIdx, blockDim, gridDim;

namespace dk {
namespace emulator {
namespace {

enum State { READY, AT_BARRIER, AT_WARP, DONE };

constexpr int most = 1024;
constexpr size_t stack_bytes = 256 * 1024;

struct Fiber {
    jmp_buf here;
    State state = DONE;
    bool made = false;
    dim3 index;
    uint8_t slot[2][8];  // two, so that who is ahead by one shuffle does not overwrite what others still read
    int64_t turn = 0;  // shuffles and votes so far; the last two are kept
    bool vote[2];
};

Fiber fibers[most];
char *stacks = nullptr;
int current = 0, count = 0;
jmp_buf scheduler;
void (*body)(void *) = nullptr;
void *context = nullptr;
const char *kernel = "";
uint64_t order = 0;
std::mutex one_at_a_time;

[[noreturn]] void fail(const char *what) {
    std::fprintf(stderr, "emulator: %s: %s (block %u,%u,%u, thread %d of %d)\n", kernel, what, blockIdx.x, blockIdx.y, blockIdx.z,
                 current, count);
    std::abort();
}

void wait(State state) {
    fibers[current].state = state;
    if (!_setjmp(fibers[current].here)) _longjmp(scheduler, 1);
}

void live() {
    for (;;) {
        body(context);
        wait(DONE);
    }
}

void resume(int i) {
    current = i;
    threadIdx = fibers[i].index;
    if (_setjmp(scheduler)) return;
    if (fibers[i].made) _longjmp(fibers[i].here, 1);
    fibers[i].made = true;
    static ucontext_t fresh, back;
    if (getcontext(&fresh)) fail("no context");
    fresh.uc_stack.ss_sp = stacks + size_t(i) * stack_bytes, fresh.uc_stack.ss_size = stack_bytes, fresh.uc_link = nullptr;
    makecontext(&fresh, live, 0);
    swapcontext(&back, &fresh);
}

uint64_t mixed(uint64_t x) {
    x = (x ^ (x >> 31)) * 0x9E3779B97F4A7C15ull;
    return x ^ (x >> 29);
}

// The i-th of n under the order in force: ascending, descending, or a cycle with some stride and start.
int64_t placed(int64_t i, int64_t n, uint64_t salt) {
    if (order == 0) return i;
    if (order == 1) return n - 1 - i;
    uint64_t h = mixed(order * 7919 + salt);
    int64_t start = int64_t(h % uint64_t(n)), stride = 1 + int64_t((h >> 20) % uint64_t(n));
    auto gcd = [](int64_t a, int64_t b) { while (b) { int64_t t = a % b; a = b, b = t; } return a; };
    while (gcd(stride, n) != 1) stride = stride % n + 1;
    return int64_t((uint64_t(start) + uint64_t(i) * uint64_t(stride)) % uint64_t(n));
}

bool release_warps() {
    bool any = false;
    for (int first = 0; first < count; first += 32) {
        bool waiting = false, all = true;
        for (int i = first; i < first + 32 && i < count; i++) {
            waiting |= fibers[i].state == AT_WARP;
            all &= fibers[i].state == AT_WARP || fibers[i].state == DONE;
        }
        if (!waiting || !all) continue;
        for (int i = first; i < first + 32 && i < count; i++)
            if (fibers[i].state == AT_WARP) fibers[i].state = READY;
        any = true;
    }
    return any;
}

bool release_block() {
    for (int i = 0; i < count; i++)
        if (fibers[i].state != AT_BARRIER && fibers[i].state != DONE) return false;
    bool any = false;
    for (int i = 0; i < count; i++)
        if (fibers[i].state == AT_BARRIER) fibers[i].state = READY, any = true;
    return any;
}

void run_block(uint64_t salt) {
    for (int i = 0; i < count; i++) fibers[i].state = READY, fibers[i].turn = 0;
    for (bool ready = true; ready;) {
        for (int k = 0; k < count; k++) {
            int i = int(placed(k, count, salt));
            if (fibers[i].state == READY) resume(i);
        }
        ready = release_warps() || release_block();
    }
    for (current = 0; current < count; current++) {
        if (fibers[current].state == AT_BARRIER) fail("a barrier that not all threads of the block reach");
        if (fibers[current].state == AT_WARP) fail("a shuffle or vote that not all threads of the warp reach");
    }
}

}  // namespace

void block_barrier() { wait(AT_BARRIER); }
int lane_id() { return current % 32; }

void shuffle(void *value, size_t size, int from) {
    const int self = current;
    const int64_t turn = ++fibers[self].turn;
    std::memcpy(fibers[self].slot[turn & 1], value, size);
    wait(AT_WARP);
    const int source = self - self % 32 + from;
    if (source >= count || fibers[source].turn < turn) fail("a shuffle from a lane that takes no part");
    std::memcpy(value, fibers[source].slot[turn & 1], size);
}

uint32_t ballot(bool yes) {
    const int self = current, first = self - self % 32;
    const int64_t turn = ++fibers[self].turn;
    fibers[self].vote[turn & 1] = yes;
    wait(AT_WARP);
    uint32_t result = 0;
    for (int i = first; i < first + 32 && i < count; i++)
        if (fibers[i].turn >= turn && fibers[i].vote[turn & 1]) result |= 1u << (i - first);
    return result;
}

void run(dim3 grid, dim3 block, void (*body_)(void *), void *context_, const char *kernel_) {
    std::lock_guard<std::mutex> held(one_at_a_time);
    ++launches;
    kernel = kernel_, body = body_, context = context_, gridDim = grid, blockDim = block;
    count = int(block.x * block.y * block.z);
    if (count < 1 || count > most || count % 32) fail("blocks have 32, 64, .. 1024 threads");
    if (grid.y > 65535 || grid.z > 65535 || grid.x > 0x7fffffffu) fail("grid too large");
    if (!stacks) {
        stacks = static_cast<char *>(mmap(nullptr, most * stack_bytes, PROT_READ | PROT_WRITE,
                                          MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0));
        if (stacks == MAP_FAILED) fail("no memory");
    }
    for (int i = 0; i < count; i++)
        fibers[i].index = dim3(unsigned(i) % block.x, unsigned(i) / block.x % block.y, unsigned(i) / block.x / block.y);
    int64_t blocks = int64_t(grid.x) * grid.y * grid.z;
    for (int64_t k = 0; k < blocks; k++) {
        int64_t b = placed(k, blocks, 1);
        blockIdx = dim3(unsigned(b % grid.x), unsigned(b / grid.x % grid.y), unsigned(b / grid.x / grid.y));
        run_block(uint64_t(b) + 2);
    }
}

}  // namespace emulator
}  // namespace dk

extern "C" void dk_emulator_order(int64_t order) { dk::emulator::order = uint64_t(order); }
