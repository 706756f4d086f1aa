// The key of a random call: a number, or where on the GPU it is read from, so that a captured CUDA graph has fresh ones.
#pragma once

#include "device.h"

namespace dk {

struct Nonce {
    uint64_t value;
    const uint64_t *where;  // on the GPU; not null: read from there
    DK_INLINE uint64_t get() const { return where ? *where : value; }
};

#if DK_HOST

// The word that stands for `nonce`, null where it is a number like any other (see dk_cuda_nonces).
const uint64_t *nonce_slot(uint64_t nonce);

inline Nonce nonce_of(uint64_t nonce) { return {nonce, nonce_slot(nonce)}; }

#endif

}  // namespace dk
