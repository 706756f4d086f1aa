// Permutations and draws of categories (native/randomness.h).
#include "device.h"

#include "../native/randomness_numbers.h"
#include "sorted_pairs.h"

namespace dk {
namespace sampling {

constexpr unsigned whole = 0xffffffffu;
constexpr int most = sorted_pairs::most_in_block;

// --- permutations ---

__global__ void __launch_bounds__(1024) short_permutation(int64_t *out, int n, int size, Nonce nonce) {
    __shared__ uint64_t key[most];
    __shared__ uint32_t index[most];
    for (int i = int(threadIdx.x); i < size; i += int(blockDim.x)) {
        key[i] = i < n ? word64_of(nonce.get(), i) : ~uint64_t(0);
        index[i] = i < n ? uint32_t(i) : ~uint32_t(0);
    }
    sorted_pairs::sort_in_block(key, index, size);
    for (int i = int(threadIdx.x); i < n; i += int(blockDim.x)) out[i] = index[i];
}

__global__ void __launch_bounds__(256) permutation_keys(uint64_t *key, uint32_t *index, int64_t n, Nonce nonce) {
    const int64_t counter = counter_of_thread();
    if (element64(counter, 0) >= n) return;
    const PhiloxWords four = philox(nonce.get(), uint64_t(counter));
    DK_UNROLL
    for (int h = 0; h < 2; ++h) {
        const int64_t i = element64(counter, h);
        if (i < n) key[i] = four.half(h), index[i] = uint32_t(i);
    }
}

// --- draws ---

// A warp for each row.
__global__ void __launch_bounds__(128)
check_weights(const double *weights, int64_t rows, int64_t n, int64_t wanted, int32_t *fault) {
    const int64_t row = int64_t(blockIdx.x) * 4 + threadIdx.x / 32;
    if (row >= rows) return;
    bool good = true;
    int64_t positive = 0;
    for (int64_t j = threadIdx.x % 32; j < n; j += 32) {
        const double w = weights[row * n + j];
        good = good && w >= 0 && w < infinity<double>();
        positive += w > 0;
    }
    good = __all_sync(whole, good);
    for (int w = 16; w; w /= 2) positive += __shfl_xor_sync(whole, positive, w);
    if (threadIdx.x % 32 == 0 && (!good || positive < wanted)) *fault = 1;
}

// c_j = c_{j-1} + w_j, j ascending, by a warp for each row, which loads 32 weights at a time; the last j with w_j > 0.
__global__ void __launch_bounds__(128)
add_weights(double *sums, int64_t *last, const double *weights, int64_t rows, int64_t n) {
    const int64_t row = int64_t(blockIdx.x) * 4 + threadIdx.x / 32;
    if (row >= rows) return;
    const int t = int(threadIdx.x) % 32;
    double sum = 0;
    int64_t last_positive = 0;
    for (int64_t first = 0; first < n; first += 32) {
        const double w = first + t < n ? weights[row * n + first + t] : 0;
        double mine = 0;
        for (int k = 0; k < 32; ++k) {
            sum = sum + __shfl_sync(whole, w, k);
            if (k == t) mine = sum;
        }
        if (first + t < n) sums[row * n + first + t] = mine;
        const uint32_t positive = __ballot_sync(whole, w > 0);
        if (positive) last_positive = first + 31 - __clz(int(positive));
    }
    if (t == 0) last[row] = last_positive;
}

__global__ void __launch_bounds__(256) draw_with_replacement(int64_t *out, const double *sums, const int64_t *last,
                                                                    int64_t rows, int64_t n, int64_t count, Nonce nonce) {
    const int64_t i = counter_of_thread();
    if (i >= rows * count) return;
    const int64_t row = i / count;
    const double *c = sums + row * n;
    const double bound = unit(wide(word64_of(nonce.get(), i))).v * c[n - 1];
    int64_t low = 0, high = n;  // the first j with c_j > bound is in low .. high
    while (low < high) {
        const int64_t middle = low + (high - low) / 2;
        if (c[middle] > bound)
            high = middle;
        else
            low = middle + 1;
    }
    out[i] = low < n ? low : last[row];
}

// When element i arrives, as the bits of a number >= 0: their order is the numbers'. Without weight: after all others.
DK_INLINE uint64_t arrival(uint64_t nonce, int64_t i, double weight) {
    if (!(weight > 0)) return ~uint64_t(0);
    return uint64_t(bits_of(waiting_time(wide(word64_of(nonce, i))).v / weight));
}

// A thread block for each row of at most 2048 weights.
__global__ void __launch_bounds__(1024)
short_races(int64_t *out, const double *weights, int n, int size, int64_t count, Nonce nonce) {
    __shared__ uint64_t key[most];
    __shared__ uint32_t index[most];
    const int64_t first = int64_t(blockIdx.x) * n;
    for (int j = int(threadIdx.x); j < size; j += int(blockDim.x)) {
        key[j] = j < n ? arrival(nonce.get(), first + j, weights[first + j]) : ~uint64_t(0);
        index[j] = j < n ? uint32_t(j) : ~uint32_t(0);
    }
    sorted_pairs::sort_in_block(key, index, size);
    for (int k = int(threadIdx.x); k < count; k += int(blockDim.x)) out[blockIdx.x * count + k] = index[k];
}

__global__ void __launch_bounds__(256)
race_keys(uint64_t *key, uint32_t *index, const double *weights, int64_t first, int64_t n, Nonce nonce) {
    const int64_t i = counter_of_thread();
    if (i >= n) return;
    key[i] = arrival(nonce.get(), first + i, weights[first + i]), index[i] = uint32_t(i);
}
// The first `count` of each row of n sorted indices.
__global__ void __launch_bounds__(256)
first_of_rows(int64_t *out, const int64_t *sorted, int64_t rows, int64_t n, int64_t count) {
    const int64_t i = counter_of_thread();
    if (i >= rows * count) return;
    const int64_t row = i / count;
    out[i] = sorted[row * n + i % count] - row * n;
}

}  // namespace sampling
}  // namespace dk

#if DK_HOST
#include "../native/diva_kernels.h"
#include "launch.h"

namespace dk {
namespace sampling {
namespace {

int power_from(int64_t n) {
    int size = 2;
    while (size < n) size *= 2;
    return size;
}
// Threads of a block that sorts `size` pairs.
unsigned threads_for(int size) { return unsigned(size < 64 ? 32 : size / 2); }

constexpr int64_t most_pairs = (int64_t(1) << 32) - 1;

int32_t permutation(int64_t *out, int64_t n, Nonce nonce) {
    if (n == 0) return DK_OK;
    if (n > most_pairs) return DK_NO_MEMORY;  // 170 GB
    if (n <= most) return launch<short_permutation>(1, threads_for(power_from(n)), out, int(n), power_from(n), nonce);
    sorted_pairs::Pairs pairs(n);
    if (!pairs) return DK_NO_MEMORY;
    if (int32_t status = launch<permutation_keys>(blocks_for(counters64(n), 256), 256, pairs.key, pairs.index, n, nonce)) return status;
    return pairs.sort(out, n);
}

int32_t with_replacement(int64_t *out, const double *weights, int64_t rows, int64_t n, int64_t count, Nonce nonce) {
    Scratch sums(size_t(rows * n) * sizeof(double)), last(size_t(rows) * sizeof(int64_t));
    if (!sums || !last) return DK_NO_MEMORY;
    if (int32_t status = launch<add_weights>(blocks_for(rows, 4), 128, sums.as<double>(), last.as<int64_t>(), weights, rows, n))
        return status;
    return launch<draw_with_replacement>(blocks_for(rows * count, 256), 256, out, sums.as<double>(), last.as<int64_t>(), rows, n,
                                         count, nonce);
}

int32_t by_race(int64_t *out, const double *weights, int64_t rows, int64_t n, int64_t count, Nonce nonce) {
    if (n <= most) {
        const int size = power_from(n);
        return launch<short_races>(unsigned(rows), threads_for(size), out, weights, int(n), size, count, nonce);
    }
    if (n > most_pairs) return DK_NO_MEMORY;
    const int64_t together = most_pairs / n < rows ? most_pairs / n : rows;  // rows sorted in one go
    sorted_pairs::Pairs pairs(together * n);
    Scratch sorted(size_t(together * n) * sizeof(int64_t));
    if (!pairs || !sorted) return DK_NO_MEMORY;
    for (int64_t row = 0; row < rows; row += together) {
        const int64_t here = rows - row < together ? rows - row : together;
        int32_t status = launch<race_keys>(blocks_for(here * n, 256), 256, pairs.key, pairs.index, weights, row * n, here * n, nonce);
        if (!status) status = pairs.sort(sorted.as<int64_t>(), here * n, n);
        if (!status)
            status = launch<first_of_rows>(blocks_for(here * count, 256), 256, out + row * count, sorted.as<int64_t>(), here, n, count);
        if (status) return status;
    }
    return DK_OK;
}

}  // namespace
}  // namespace sampling
}  // namespace dk

extern "C" {

int32_t dk_permutation(int64_t *out, int64_t n, uint64_t nonce) { return dk::sampling::permutation(out, n, dk::nonce_of(nonce)); }

int32_t dk_multinomial(int64_t *out, const double *weights, int64_t rows, int64_t n, int64_t count, uint64_t nonce,
                       int32_t replacement) {
    if (rows == 0) return DK_OK;
    if (n < 1 || (!replacement && count > n)) return DK_BAD_ARGUMENT;
    int32_t status = dk::launch<dk::sampling::check_weights>(dk::blocks_for(rows, 4), 128, weights, rows, n,
                                                             replacement ? 1 : count, dk::fault_word());
    if (!status && count)
        status = replacement ? dk::sampling::with_replacement(out, weights, rows, n, count, dk::nonce_of(nonce))
                             : dk::sampling::by_race(out, weights, rows, n, count, dk::nonce_of(nonce));
    return dk::status_after(status);
}
}
#endif
