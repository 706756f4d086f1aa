#include "matmul.h"

#include "diva_kernels.h"
#include "gemm_direct.h"
#include "gemm_thin.h"

namespace dk {
namespace {

// Where R goes: out, or beta C + alpha R. `dense` promises that out's columns are neighbours and that C is not out, so that R may
// be summed in place.
template <class T, bool dense> struct Output {
    static constexpr bool in_place = dense;
    T *out;
    int64_t row, col;
    const T *c;  // nullptr: nothing is added
    int64_t c_row, c_col;
    T beta, alpha;

    T *place(int64_t m0, int64_t n0, int64_t *ld) const {
        if (!dense) return nullptr;
        *ld = row;
        return out + m0 * row + n0;
    }
    T combined(T r, const T *from) const {
        T scaled = alpha == T(1) ? r : alpha * r;
        return !from ? scaled : (beta == T(1) ? *from : beta * *from) + scaled;
    }
    void operator()(const T *r, int64_t ld, int64_t m0, int64_t rows, int64_t n0, int64_t cols) const {
        T *to = out + m0 * row + n0 * col;
        if (!c && alpha == T(1)) {
            if (r == to) return;
            if (col == 1) {
                for (int64_t i = 0; i < rows; ++i) write(to + i * row, r + i * ld, cols);
            } else {
                for (int64_t j = 0; j < cols; ++j)
                    for (int64_t i = 0; i < rows; ++i) to[i * row + j * col] = r[i * ld + j];
            }
            return;
        }
        const T *from = c ? c + m0 * c_row + n0 * c_col : nullptr;
        if (col == 1 && c && alpha == T(1) && beta == T(1) && (c_col == 1 || c_row == 0)) {
            for (int64_t i = 0; i < rows; ++i) add(to + i * row, r + i * ld, from + i * c_row, cols);
            return;
        }
        for (int64_t i = 0; i < rows; ++i)
            for (int64_t j = 0; j < cols; ++j)
                to[i * row + j * col] = combined(r[i * ld + j], from ? from + i * c_row + j * c_col : nullptr);
    }

  private:
    static void write(T *to, const T *r, int64_t cols) {
        constexpr int64_t L = lanes<T>;
        int64_t j = 0;
        for (; j + L <= cols; j += L) store(to + j, load(r + j));
        if (j < cols) store(to + j, load(r + j, cols - j), cols - j);
    }
    void add(T *to, const T *r, const T *from, int64_t cols) const {
        constexpr int64_t L = lanes<T>;
        int64_t j = 0;
        if (c_col == 1)
            for (; j + L <= cols; j += L) store(to + j, load(from + j) + load(r + j));
        for (; j < cols; ++j) to[j] = from[j * c_col] + r[j];
    }
};

// The way that suits shape and strides; which one never shows in the bits. `alone`: this thread only.
template <class T, class Store>
bool product(int64_t m, int64_t n, int64_t k, const StridedA<T> &a, const StridedB<T> &b, const Store &store, bool alone) {
    constexpr int64_t L = lanes<T>;
    auto grid = [&](auto &&block) { return alone ? block(Range{0, m}, Range{0, n}) : gemm_grid<T>(m, n, k, block); };
    const bool small = double(m) * double(n) * double(k) <= 1 << 24;
    if (m <= thin_rows && b.stride_k == 1 && k >= 2 * L && k <= 1 << 16)
        return gemm_grid_columns<T>(m, n, k, alone, [&](Range cols) { return gemm_thin<T>(m, cols, k, a, b, store); });
    if (m <= 3 && b.stride == 1 && n >= 8 * L)
        return gemm_grid_columns<T>(m, n, k, alone, [&](Range cols) { return gemm_rows<T>(m, cols, k, a, b, store); });
    if (k <= 4096 && (m <= 3 * Tile<T>::rows || (small && !(b.stride == 1 && rows_collide<T>(b.stride_k)))))
        return grid([&](Range rows, Range cols) { return gemm_direct<T>(rows, cols, k, a, b, store); });
    if (alone) return gemm_block<T>({0, m}, {0, n}, {0, k}, a, b, store);
    return gemm<T>(m, n, k, a, b, store);
}

// Chooses which operand lies along the registers: C, or its transpose, whose sums are the same.
template <class T>
bool product_into(int64_t m, int64_t n, int64_t k, const StridedA<T> &a, const StridedB<T> &b, const Output<T, false> &to,
                  bool alone) {
    constexpr int64_t L = lanes<T>;
    auto idle = [](int64_t size) { return double((size + L - 1) / L * L) / double(size); };  // lanes paid for each one used
    bool turn = false;
    if (n == 1) turn = m > 1;
    else if (m <= thin_rows) turn = false;
    else if (n <= thin_rows) turn = true;
    else if (idle(n) >= 1.4 * idle(m)) turn = k >= 16;
    else if (b.stride_k == 1 && b.stride != 1) turn = m <= 4 * L && k >= 128 && n >= 2 * m && idle(m) <= 1.8;
    const bool disjoint = !to.c || to.c + (m - 1) * to.c_row + (n - 1) * to.c_col < to.out ||
                          to.out + (m - 1) * to.row + (n - 1) * to.col < to.c;
    const bool dense = disjoint && (turn ? to.row : to.col) == 1 && (turn ? to.col : to.row) >= (turn ? m : n);
    auto go = [&](auto store) {
        if (turn) return product<T>(n, m, k, StridedA<T>{b.p, b.stride, b.stride_k}, StridedB<T>{a.p, a.stride, a.stride_k}, store, alone);
        return product<T>(m, n, k, a, b, store, alone);
    };
    const int64_t row = turn ? to.col : to.row, col = turn ? to.row : to.col, c_row = turn ? to.c_col : to.c_row,
                  c_col = turn ? to.c_row : to.c_col;
    if (dense) return go(Output<T, true>{to.out, row, col, to.c, c_row, c_col, to.beta, to.alpha});
    return go(Output<T, false>{to.out, row, col, to.c, c_row, c_col, to.beta, to.alpha});
}

template <class T>
int32_t matrices(int64_t batch, int64_t m, int64_t n, int64_t k, const T *a, int64_t a_batch, int64_t a_row, int64_t a_k, const T *b,
                 int64_t b_batch, int64_t b_k, int64_t b_col, T *out, int64_t out_batch, int64_t out_row, int64_t out_col,
                 const T *c, int64_t c_batch, int64_t c_row, int64_t c_col, double beta, double alpha) {
    if (m <= 0 || n <= 0 || batch <= 0) return DK_OK;
    FloatingPoint control;
    if (T(beta) == T(0)) c = nullptr;
    auto one = [&](int64_t i, bool alone) {
        Output<T, false> to{out + i * out_batch, out_row, out_col, c ? c + i * c_batch : nullptr, c_row, c_col, T(beta), T(alpha)};
        return product_into<T>(m, n, k, {a + i * a_batch, a_row, a_k}, {b + i * b_batch, b_col, b_k}, to, alone);
    };
    const int64_t work = std::max<int64_t>(1, m * n * k);
    if (batch == 1) return one(0, thread_count() == 1) ? DK_OK : DK_NO_MEMORY;
    std::atomic<bool> ok{true};
    if (batch < thread_count() && work >= 1 << 22) {  // few and big: each is cut
        for (int64_t i = 0; i < batch; ++i)
            if (!one(i, false)) ok = false;
    } else {
        const int64_t grain = std::max<int64_t>((int64_t(1) << 20) / work, batch / (8 * thread_count()));
        parallel(batch, std::max<int64_t>(1, grain), [&](int64_t begin, int64_t end) {
            for (int64_t i = begin; i < end; ++i)
                if (!one(i, true)) ok = false;
        });
    }
    return ok ? DK_OK : DK_NO_MEMORY;
}

// An operand whose terms are (batch, k), batch the slower: the strided packer, one matrix of the batch after the other.
template <class T, int W> struct BatchedPacker {
    const T *p;
    int64_t stride, stride_k, stride_batch, k;
    void operator()(T *out, int64_t i0, int64_t count, int64_t from, int64_t depth) const {
        for (int64_t i = 0; i < count; i += W, out += depth * W) {
            for (int64_t t = 0; t < depth;) {
                const int64_t batch = (from + t) / k, first = (from + t) % k, here = std::min(depth - t, k - first);
                pack_panel<T, W>(out + t * W, p + batch * stride_batch + (i0 + i) * stride + first * stride_k, stride, stride_k,
                                 std::min<int64_t>(W, count - i), here);
                t += here;
            }
        }
    }
};

template <class T>
int32_t summed(int64_t batch, int64_t m, int64_t n, int64_t k, const T *a, int64_t a_batch, int64_t a_row, int64_t a_k, const T *b,
               int64_t b_batch, int64_t b_k, int64_t b_col, T *out, int64_t out_row, int64_t out_col, const T *c, int64_t c_row,
               int64_t c_col, double beta, double alpha) {
    if (m <= 0 || n <= 0) return DK_OK;
    FloatingPoint control;
    Output<T, false> to{out, out_row, out_col, T(beta) == T(0) ? nullptr : c, c_row, c_col, T(beta), T(alpha)};
    BatchedPacker<T, Tile<T>::rows> pack_a{a, a_row, a_k, a_batch, k};
    BatchedPacker<T, Tile<T>::cols> pack_b{b, b_col, b_k, b_batch, k};
    return gemm<T>(m, n, batch * k, pack_a, pack_b, to) ? DK_OK : DK_NO_MEMORY;
}

template <class T> int32_t dot(int64_t n, const T *x, int64_t x_step, const T *y, int64_t y_step, T *out) {
    FloatingPoint control;
    return inner_product<T>(n, x, x_step, y, y_step, out) ? DK_OK : DK_NO_MEMORY;
}

}  // namespace
}  // namespace dk

extern "C" {

#define DK_PRODUCTS(T, suffix)                                                                                                  \
    int32_t dk_mm_##suffix(int64_t m, int64_t n, int64_t k, const T *a, int64_t a_row, int64_t a_k, const T *b, int64_t b_k,    \
                           int64_t b_col, T *out, int64_t out_row, int64_t out_col) {                                           \
        return dk::matrices<T>(1, m, n, k, a, 0, a_row, a_k, b, 0, b_k, b_col, out, 0, out_row, out_col, nullptr, 0, 0, 0, 0, 1); \
    }                                                                                                                           \
    int32_t dk_addmm_##suffix(int64_t m, int64_t n, int64_t k, const T *a, int64_t a_row, int64_t a_k, const T *b, int64_t b_k, \
                              int64_t b_col, T *out, int64_t out_row, int64_t out_col, const T *c, int64_t c_row,               \
                              int64_t c_col, double beta, double alpha) {                                                       \
        return dk::matrices<T>(1, m, n, k, a, 0, a_row, a_k, b, 0, b_k, b_col, out, 0, out_row, out_col, c, 0, c_row, c_col,    \
                               beta, alpha);                                                                                    \
    }                                                                                                                           \
    int32_t dk_bmm_##suffix(int64_t batch, int64_t m, int64_t n, int64_t k, const T *a, int64_t a_batch, int64_t a_row,         \
                            int64_t a_k, const T *b, int64_t b_batch, int64_t b_k, int64_t b_col, T *out, int64_t out_batch,    \
                            int64_t out_row, int64_t out_col) {                                                                 \
        return dk::matrices<T>(batch, m, n, k, a, a_batch, a_row, a_k, b, b_batch, b_k, b_col, out, out_batch, out_row,         \
                               out_col, nullptr, 0, 0, 0, 0, 1);                                                                \
    }                                                                                                                           \
    int32_t dk_baddbmm_##suffix(int64_t batch, int64_t m, int64_t n, int64_t k, const T *a, int64_t a_batch, int64_t a_row,     \
                                int64_t a_k, const T *b, int64_t b_batch, int64_t b_k, int64_t b_col, T *out,                   \
                                int64_t out_batch, int64_t out_row, int64_t out_col, const T *c, int64_t c_batch,               \
                                int64_t c_row, int64_t c_col, double beta, double alpha) {                                      \
        return dk::matrices<T>(batch, m, n, k, a, a_batch, a_row, a_k, b, b_batch, b_k, b_col, out, out_batch, out_row,         \
                               out_col, c, c_batch, c_row, c_col, beta, alpha);                                                 \
    }                                                                                                                           \
    int32_t dk_addbmm_##suffix(int64_t batch, int64_t m, int64_t n, int64_t k, const T *a, int64_t a_batch, int64_t a_row,      \
                               int64_t a_k, const T *b, int64_t b_batch, int64_t b_k, int64_t b_col, T *out, int64_t out_row,   \
                               int64_t out_col, const T *c, int64_t c_row, int64_t c_col, double beta, double alpha) {          \
        return dk::summed<T>(batch, m, n, k, a, a_batch, a_row, a_k, b, b_batch, b_k, b_col, out, out_row, out_col, c, c_row,   \
                             c_col, beta, alpha);                                                                               \
    }                                                                                                                           \
    int32_t dk_dot_##suffix(int64_t n, const T *x, int64_t x_step, const T *y, int64_t y_step, T *out) {                        \
        return dk::dot<T>(n, x, x_step, y, y_step, out);                                                                        \
    }

DK_PRODUCTS(float, f32)
DK_PRODUCTS(double, f64)
}
