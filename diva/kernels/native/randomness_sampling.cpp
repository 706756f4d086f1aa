// Permutations and draws of categories.
#include <algorithm>
#include <vector>

#include "randomness_fill.h"

namespace dk {
namespace {

struct Keyed {
    uint64_t key;
    int64_t index;
    bool operator<(const Keyed &other) const { return key != other.key ? key < other.key : index < other.index; }
};

void fill_words(uint64_t *out, int64_t n, uint64_t nonce) {
    fill_by_blocks<64>(out, n, nonce, [](const uint32_t *words, int64_t, uint64_t *to) {
        for (int64_t j = 0; j < 32; ++j) {
            const uint32_t *row = words + 2 * counters * (j / counters) + j % counters;
            to[j] = uint64_t(row[0]) << 32 | row[counters];
        }
    });
}

// By the keys' top bits into buckets of about four, each then sorted: keys are uniform, so that this takes time in n.
int32_t permutation(int64_t *out, int64_t n, uint64_t nonce) {
    int bits = 1;
    while (bits < 40 && (int64_t(4) << bits) < n) ++bits;
    std::vector<uint64_t> keys;
    std::vector<Keyed> sorted;
    std::vector<int64_t> next;
    try {
        keys.resize(size_t(n)), sorted.resize(size_t(n)), next.resize((size_t(1) << bits) + 1);
    } catch (...) {
        return DK_NO_MEMORY;
    }
    fill_words(keys.data(), n, nonce);
    for (int64_t i = 0; i < n; ++i) ++next[(keys[i] >> (64 - bits)) + 1];
    for (size_t b = 1; b < next.size(); ++b) next[b] += next[b - 1];
    for (int64_t i = 0; i < n; ++i) sorted[next[keys[i] >> (64 - bits)]++] = {keys[i], i};
    // next[b] is now the end of bucket b
    int64_t begin = 0;
    for (size_t b = 0; b + 1 < next.size(); ++b) {
        std::sort(sorted.begin() + begin, sorted.begin() + next[b]);
        begin = next[b];
    }
    for (int64_t i = 0; i < n; ++i) out[i] = sorted[i].index;
    return DK_OK;
}

bool good_weights(const double *w, int64_t n, int64_t wanted) {
    int64_t positive = 0;
    for (int64_t j = 0; j < n; ++j) {
        if (!(w[j] >= 0 && w[j] < __builtin_inf())) return false;
        positive += w[j] > 0;
    }
    return positive >= wanted;
}

void draw_with_replacement(int64_t *out, const double *w, int64_t n, int64_t count, const double *u, double *sums) {
    double sum = 0;
    int64_t last = 0;
    for (int64_t j = 0; j < n; ++j) {
        sum += w[j];
        sums[j] = sum;
        if (w[j] > 0) last = j;
    }
    for (int64_t k = 0; k < count; ++k) {
        int64_t j = std::upper_bound(sums, sums + n, u[k] * sum) - sums;
        out[k] = j < n ? j : last;
    }
}

struct Racer {
    double time;
    int64_t index;
    bool operator<(const Racer &other) const { return time != other.time ? time < other.time : index < other.index; }
};

void draw_by_race(int64_t *out, const double *w, int64_t n, int64_t count, const double *e, std::vector<Racer> &racers) {
    racers.clear();
    for (int64_t j = 0; j < n; ++j)
        if (w[j] > 0) racers.push_back({e[j] / w[j], j});
    std::partial_sort(racers.begin(), racers.begin() + count, racers.end());
    for (int64_t k = 0; k < count; ++k) out[k] = racers[k].index;
}

int32_t multinomial(int64_t *out, const double *weights, int64_t rows, int64_t n, int64_t count, uint64_t nonce, bool replacement) {
    FloatingPoint control;
    for (int64_t r = 0; r < rows; ++r)
        if (!good_weights(weights + r * n, n, replacement ? 1 : count)) return DK_BAD_ARGUMENT;
    std::vector<double> drawn, sums;
    std::vector<Racer> racers;
    try {
        drawn.resize(size_t(rows * (replacement ? count : n))), sums.resize(size_t(n)), racers.reserve(size_t(n));
    } catch (...) {
        return DK_NO_MEMORY;
    }
    if (replacement) {
        fill(drawn.data(), rows * count, nonce, [](auto word) { return unit(word); });
        for (int64_t r = 0; r < rows; ++r)
            draw_with_replacement(out + r * count, weights + r * n, n, count, drawn.data() + r * count, sums.data());
    } else {
        fill(drawn.data(), rows * n, nonce, [](auto word) { return waiting_time(word); });
        for (int64_t r = 0; r < rows; ++r) draw_by_race(out + r * count, weights + r * n, n, count, drawn.data() + r * n, racers);
    }
    return DK_OK;
}

}  // namespace
}  // namespace dk

extern "C" {

int32_t dk_permutation(int64_t *out, int64_t n, uint64_t nonce) { return dk::permutation(out, n, nonce); }

int32_t dk_multinomial(int64_t *out, const double *weights, int64_t rows, int64_t n, int64_t count, uint64_t nonce,
                       int32_t replacement) {
    return dk::multinomial(out, weights, rows, n, count, nonce, replacement != 0);
}
}
