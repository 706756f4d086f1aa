#include "pool.h"

#include <pthread.h>
#include <unistd.h>

#include <atomic>
#include <condition_variable>
#include <cstdlib>
#include <mutex>
#include <new>
#include <thread>
#include <vector>

#include "diva_kernels.h"

#ifndef DK_SOURCE_DIGEST
#include "source_digest.h"  // written by CMake
#endif

#if defined(__x86_64__)
#include <immintrin.h>
#endif

namespace dk {
namespace {

struct Job {
    Body body;
    void *context;
    int64_t n, grain, pieces;
    std::atomic<int64_t> next{0};
    std::atomic<int> inside{0};  // workers that may still look at this job
};

struct Pool {
    std::mutex mutex;
    std::condition_variable wake, idle;
    std::vector<std::thread> workers;
    Job *job = nullptr;
    std::atomic<uint64_t> turn{0};  // counts jobs
    int wanted = 0;                 // workers that may join the present job
    int asleep = 0;
};

// Never destroyed: workers sleep in it until the process ends, and a forked child leaves its parent's behind.
Pool *pool = nullptr;
std::mutex *pool_mutex = new std::mutex;
std::atomic<int> threads{1};
thread_local bool inside_piece = false;

void run_pieces(Job &job) {
    for (;;) {
        int64_t piece = job.next.fetch_add(1);
        if (piece >= job.pieces) return;
        int64_t begin = piece * job.grain, end = begin + job.grain;
        job.body(job.context, begin, end < job.n ? end : job.n);
    }
}

// A kernel is often followed by another: before it sleeps, who waits looks this many times, some 20 us. Longer would take the
// processor from other processes of a busy machine.
constexpr int looks = 1000;

inline void pause() {
#if defined(__x86_64__)
    _mm_pause();
#elif defined(__aarch64__)
    __asm__ __volatile__("yield");
#endif
}

void work(Pool *mine, int index) {
    inside_piece = true;
    FloatingPoint control;
    uint64_t seen = 0;
    std::unique_lock<std::mutex> lock(mine->mutex);
    for (;;) {
        lock.unlock();
        for (int i = 0; i < looks && mine->turn.load(std::memory_order_relaxed) == seen; i++) pause();
        lock.lock();
        ++mine->asleep;
        mine->wake.wait(lock, [&] { return mine->turn.load() != seen; });
        --mine->asleep;
        seen = mine->turn.load();
        Job *job = mine->job;
        if (!job || index >= mine->wanted) continue;
        job->inside.fetch_add(1);
        lock.unlock();
        run_pieces(*job);
        lock.lock();
        if (job->inside.fetch_sub(1) == 1) mine->idle.notify_all();
    }
}

// In a forked child no worker lives and the locks may be held by threads that are gone: begin anew.
void after_fork_in_child() {
    pool = nullptr;
    pool_mutex = new std::mutex;
    inside_piece = false;
}

Pool *ready_pool(int helpers) {
    static bool prepared = (pthread_atfork(nullptr, nullptr, after_fork_in_child), true);
    (void)prepared;
    if (!pool) pool = new Pool;
    while (int(pool->workers.size()) < helpers) {
        int index = int(pool->workers.size());
        pool->workers.emplace_back(work, pool, index);
        pool->workers.back().detach();
    }
    return pool;
}

struct Arena {
    void *memory[8] = {};
    size_t size[8] = {};
    ~Arena() {
        for (void *m : memory) std::free(m);
    }
};
thread_local Arena arena;

}  // namespace

int thread_count() { return threads.load(std::memory_order_relaxed); }

void parallel_pieces(int64_t n, int64_t grain, Body body, void *context) {
    if (n <= 0) return;
    if (grain < 1) grain = 1;
    Job job;
    job.body = body, job.context = context, job.n = n, job.grain = grain, job.pieces = (n + grain - 1) / grain;
    int helpers = int(job.pieces < thread_count() ? job.pieces : thread_count()) - 1;
    if (helpers <= 0 || inside_piece) {
        run_pieces(job);
        return;
    }
    // One job at a time: a second calling thread (autograd has its own) does its pieces alone rather than wait.
    std::mutex *turnstile = pool_mutex;
    if (!turnstile->try_lock()) {
        run_pieces(job);
        return;
    }
    Pool *here = nullptr;
    try {
        here = ready_pool(helpers);
    } catch (...) {  // no more threads to be had: the caller does the work
    }
    if (here) {
        bool wake;
        {
            std::lock_guard<std::mutex> lock(here->mutex);
            here->job = &job, here->wanted = helpers, ++here->turn;
            wake = here->asleep > 0;
        }
        if (wake) here->wake.notify_all();
    }
    inside_piece = true;
    run_pieces(job);
    inside_piece = false;
    if (here) {
        std::unique_lock<std::mutex> lock(here->mutex);
        here->job = nullptr;  // no worker joins any more
        lock.unlock();
        for (int i = 0; i < looks && job.inside.load() != 0; i++) pause();
        lock.lock();
        here->idle.wait(lock, [&] { return job.inside.load() == 0; });
    }
    turnstile->unlock();
}

void *scratch(int slot, size_t bytes) {
    if (bytes > arena.size[slot] || !arena.memory[slot]) {
        std::free(arena.memory[slot]);
        size_t rounded = (bytes / 4096 + 1) * 4096;
        arena.memory[slot] = std::aligned_alloc(64, rounded);
        arena.size[slot] = arena.memory[slot] ? rounded : 0;
    }
    return arena.memory[slot];
}

#if defined(__x86_64__)
FloatingPoint::FloatingPoint() : saved_(_mm_getcsr()) {
    if ((saved_ & 0xe040) != 0) _mm_setcsr(unsigned(saved_) & ~0xe040u);  // FTZ, rounding mode, DAZ
}
FloatingPoint::~FloatingPoint() {
    if ((saved_ & 0xe040) != 0) _mm_setcsr(unsigned(saved_));
}
#elif defined(__aarch64__)
FloatingPoint::FloatingPoint() {
    __asm__ __volatile__("mrs %0, fpcr" : "=r"(saved_));
    uint64_t plain = saved_ & ~uint64_t(0x1c80000);  // FZ, rounding mode, FZ16
    if (plain != saved_) __asm__ __volatile__("msr fpcr, %0" ::"r"(plain));
}
FloatingPoint::~FloatingPoint() { __asm__ __volatile__("msr fpcr, %0" ::"r"(saved_)); }
#else
FloatingPoint::FloatingPoint() : saved_(0) {}
FloatingPoint::~FloatingPoint() {}
#endif

}  // namespace dk

extern "C" {

void dk_set_threads(int32_t count) { dk::threads.store(count < 1 ? 1 : count); }

int32_t dk_threads(void) { return dk::thread_count(); }

int32_t dk_supported(void) {
#if defined(DK_AVX512)
    return __builtin_cpu_supports("avx512f") && __builtin_cpu_supports("avx512dq") && __builtin_cpu_supports("avx512bw") &&
           __builtin_cpu_supports("avx512vl") && __builtin_cpu_supports("fma");
#elif defined(DK_AVX2)
    return __builtin_cpu_supports("avx2") && __builtin_cpu_supports("fma");
#else
    return 1;
#endif
}

const char *dk_instruction_set(void) {
#if defined(DK_AVX512)
    return "avx512";
#elif defined(DK_AVX2)
    return "avx2";
#elif defined(DK_NEON)
    return "neon";
#else
    return "scalar";
#endif
}

const char *dk_source_digest(void) { return DK_SOURCE_DIGEST; }
}
