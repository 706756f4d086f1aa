// Numbers that stand for words on the GPU, where a captured graph is to read a nonce anew at each replay.
#include "nonce.h"

#include "launch.h"

namespace dk {
namespace {

struct Codes {
    uint64_t first = 0, count = 0;
    const uint64_t *words = nullptr;
};
Codes codes;  // of the process: one graph is captured at a time, and a backward pass draws on a thread of its own

}  // namespace

const uint64_t *nonce_slot(uint64_t nonce) {
    const uint64_t index = nonce - codes.first;  // far beyond `count` for a nonce below `first`
    return index < codes.count ? codes.words + index : nullptr;
}

}  // namespace dk

extern "C" void dk_cuda_nonces(uint64_t first_code, int64_t count, const void *device_words) {
    dk::codes = {first_code, uint64_t(count > 0 ? count : 0), static_cast<const uint64_t *>(device_words)};
}
