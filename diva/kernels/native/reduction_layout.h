// How a tensor that is to be reduced lies in memory: dimensions joined where they can be, and where each element is.
#pragma once

#include <cstdint>

#include "vec.h"

namespace dk {

struct Layout {
    static constexpr int64_t most = 32;  // dimensions

    int64_t reduced = 0, kept = 0;  // reduced ones first; after joining at least one of each
    int64_t n = 1, outputs = 1;
    int64_t sizes[most + 2], strides[most + 2], places[most + 2];  // places: the kept dimensions' strides in the output
    int64_t column = -1;  // the kept dimension whose elements are neighbours in memory

    Layout(int64_t n_reduced, int64_t n_kept, const int64_t *given_sizes, const int64_t *given_strides) {
        for (int64_t d = 0; d < n_reduced; ++d) n *= given_sizes[d], append(given_sizes[d], given_strides[d], reduced, 0);
        if (reduced == 0) sizes[0] = 1, strides[0] = 1, reduced = 1;
        for (int64_t d = 0; d < n_kept; ++d) outputs *= given_sizes[n_reduced + d];
        int64_t place = outputs;
        for (int64_t d = 0; d < n_kept; ++d) {
            int64_t size = given_sizes[n_reduced + d];
            place = size ? place / size : 0;
            append(size, given_strides[n_reduced + d], kept, reduced, place);
        }
        if (kept == 0) sizes[reduced] = 1, strides[reduced] = 0, places[reduced] = 1, kept = 1;
        if (strides[reduced - 1] == 1 && sizes[reduced - 1] > 1) return;
        for (int64_t d = reduced; d < reduced + kept; ++d)
            if (strides[d] == 1 && sizes[d] > 1) column = d;
    }

    bool has_columns() const { return column >= 0 && n > 1; }
    int64_t column_width() const { return sizes[column]; }
    int64_t column_step() const { return places[column]; }

    int64_t reduced_offset(int64_t index) const { return offset(index, 0, reduced); }
    int64_t kept_offset(int64_t index) const { return offset(index, reduced, reduced + kept); }

    // Where the matrix of columns number `index` begins; its first output's place.
    int64_t matrix_offset(int64_t index, int64_t *place) const {
        int64_t at = 0;
        *place = 0;
        for (int64_t d = reduced + kept - 1; d >= reduced; --d) {
            if (d == column) continue;
            int64_t i = index % sizes[d];
            index /= sizes[d];
            at += i * strides[d], *place += i * places[d];
        }
        return at;
    }

    void list_offsets(int64_t *offsets) const {
        int64_t inner = sizes[reduced - 1], stride = strides[reduced - 1];
        for (int64_t i = 0; i < n; i += inner) {
            int64_t base = reduced_offset(i);
            for (int64_t k = 0; k < inner; ++k) offsets[i + k] = base + k * stride;
        }
    }

    // Elements begin .. end - 1 of the reduced dimensions, in their row-major order.
    template <class T> void gather(const T *x, int64_t begin, int64_t end, T *buffer) const {
        int64_t inner = sizes[reduced - 1], stride = strides[reduced - 1];
        while (begin < end) {
            int64_t at = begin % inner, run = inner - at < end - begin ? inner - at : end - begin;
            const T *here = x + reduced_offset(begin);
            if (stride == 1)
                std::memcpy(buffer, here, size_t(run) * sizeof(T));
            else
                for (int64_t k = 0; k < run; ++k) buffer[k] = here[k * stride];
            begin += run, buffer += run;
        }
    }

  private:
    // Joins a dimension to the one before it where the two are one in memory (and in the output).
    void append(int64_t size, int64_t stride, int64_t &count, int64_t base, int64_t place = 0) {
        if (size == 1) return;
        int64_t last = base + count - 1;
        if (count && strides[last] == stride * size && (base == 0 || places[last] == place * size)) {
            sizes[last] *= size, strides[last] = stride, places[last] = place;
            return;
        }
        sizes[last + 1] = size, strides[last + 1] = stride, places[last + 1] = place;
        ++count;
    }

    int64_t offset(int64_t index, int64_t first, int64_t last) const {
        if (last - first == 1) return index * strides[first];
        int64_t at = 0;
        for (int64_t d = last - 1; d >= first; --d) {
            at += index % sizes[d] * strides[d];
            index /= sizes[d];
        }
        return at;
    }
};

}  // namespace dk
