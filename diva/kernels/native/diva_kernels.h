/* The deterministic kernels' C interface: core functions here, one header per family of operators below.
 *
 * Every function returns a status (DK_OK, DK_NO_MEMORY, DK_BAD_ARGUMENT) unless it says otherwise; sizes are int64 and
 * count elements; strides count elements; scalars are doubles that the kernel rounds once to the type it computes in.
 * Python reads these declarations to call them: one prototype ends with ";", uses only the types
 * void, int32_t, int64_t, uint64_t, float, double, const char * and pointers, and no macros. */
#pragma once

#include <stdint.h>

enum { DK_OK = 0, DK_NO_MEMORY = 1, DK_BAD_ARGUMENT = 2 };

#ifdef __cplusplus
extern "C" {
#endif

/* Threads that the kernels may use from now on, the caller included; no result depends on it. */
void dk_set_threads(int32_t count);
int32_t dk_threads(void);

/* 1 where this processor can run this library, else 0. Callable everywhere. */
int32_t dk_supported(void);
const char *dk_instruction_set(void);

/* SHA-256 of the sources that this library was built from, in hexadecimal. */
const char *dk_source_digest(void);

#ifdef __cplusplus
}
#endif

#include "matmul.h"
#include "convolution.h"
#include "elementwise.h"
#include "activation.h"
#include "reduction.h"
#include "softmax.h"
#include "loss.h"
#include "normalization.h"
#include "pooling.h"
#include "resampling.h"
#include "indexing.h"
#include "randomness.h"
#include "optimizer.h"
