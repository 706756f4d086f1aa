// The thread pool: sleeping workers, survives fork, and no result depends on how many there are.
#pragma once

#include <cstdint>
#include <cstddef>

namespace dk {

using Body = void (*)(void *context, int64_t begin, int64_t end);

// Number of threads that `parallel` may use, the caller included.
int thread_count();

// body(context, begin, end) over pieces of [0, n), each of `grain` items (the last may be short), on up to thread_count()
// threads; returns when all are done. Runs here when there is one piece or when called from inside a piece.
void parallel_pieces(int64_t n, int64_t grain, Body body, void *context);

template <class F> inline void parallel(int64_t n, int64_t grain, F &&body) {
    parallel_pieces(n, grain, [](void *context, int64_t begin, int64_t end) { (*static_cast<F *>(context))(begin, end); },
                    &body);
}

// Scratch memory of this thread, 64-byte aligned, kept for the next call with the same slot (0..7); contents undefined.
// nullptr when there is no memory. A kernel that calls another while it holds a slot must use a different one.
void *scratch(int slot, size_t bytes);

// Round to nearest, denormals kept, while it lives; what was set before is restored.
class FloatingPoint {
  public:
    FloatingPoint();
    ~FloatingPoint();

  private:
    uint64_t saved_;
};

}  // namespace dk
