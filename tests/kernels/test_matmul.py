"""Matrix products: the bits of D1 on every instruction set, at every number of threads, whatever the strides."""

from __future__ import annotations

import ctypes
from collections.abc import Callable, Iterator
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from diva.errors import KernelError
from diva.kernels import library
from diva.kernels.exact import exact
from diva.kernels.library import native
from diva.kernels.operators import matmul as ops
from diva.kernels.reference import matmul as reference

INSTRUCTION_SETS = library.available()


@pytest.fixture(params=INSTRUCTION_SETS)
def instruction_set(request: pytest.FixtureRequest) -> str:
    native.use(request.param)
    return str(request.param)


def numbers(seed: int, *shape: int, dtype: Any = np.float32, special: bool = False) -> np.ndarray:
    """Normal numbers of mixed size; `special` scatters zeros of both signs, denormals, Inf and NaN among them."""
    generator = np.random.default_rng(seed)
    x: np.ndarray = (generator.standard_normal(shape) * 2.0 ** generator.integers(-6, 6, shape)).astype(dtype)
    if special and x.size:
        values: np.ndarray = np.array([0.0, -0.0, 1e-45, -1e-40, 1e38, -1e38], dtype)
        where = generator.random(shape) < 0.2
        x[where] = generator.choice(values, int(where.sum()))
        x.ravel()[generator.integers(0, x.size, 1 + x.size // 500)] = generator.choice([np.inf, -np.inf, np.nan])
    return x


def assert_same_bits(got: torch.Tensor, expected: np.ndarray) -> None:
    found = got.detach().numpy()
    assert found.shape == expected.shape and found.dtype == expected.dtype
    integer = np.int32 if expected.dtype == np.float32 else np.int64
    nan = np.isnan(expected)
    np.testing.assert_array_equal(np.isnan(found), nan)
    same = np.ascontiguousarray(found).view(integer) == np.ascontiguousarray(expected).view(integer)
    assert np.all(same | nan), f"{int((~(same | nan)).sum())} of {expected.size} elements differ"


SHAPES = [
    (0, 3, 4), (3, 0, 4), (3, 4, 0), (1, 1, 1), (1, 300, 40), (2, 33, 15), (3, 17, 130), (4, 257, 16), (8, 40, 17),
    (9, 20, 31), (13, 15, 32), (14, 16, 33), (15, 255, 48), (28, 31, 7), (29, 256, 9), (40, 1, 65), (64, 64, 1), (65, 513, 2),
    (17, 600, 8), (100, 3, 30), (5, 4100, 3),
]  # fmt: skip


@pytest.mark.parametrize(("m", "k", "n"), SHAPES)
def test_mm_has_the_bits_of_the_reference(instruction_set: str, m: int, k: int, n: int) -> None:
    a, b = numbers(1, m, k), numbers(2, k, n)
    expected = reference.matmul(a, b)
    for left in (torch.from_numpy(a), torch.from_numpy(a.T.copy()).t()):
        for right in (torch.from_numpy(b), torch.from_numpy(b.T.copy()).t()):
            assert_same_bits(ops.mm(left, right), expected)


@pytest.mark.parametrize(("m", "k", "n"), [(1, 40, 130), (7, 40, 20), (15, 260, 33), (20, 70, 1), (50, 300, 10)])
def test_non_finite_numbers_denormals_and_zeros_follow_the_reference(
    instruction_set: str, m: int, k: int, n: int
) -> None:
    a, b = numbers(3, m, k, special=True), numbers(4, k, n, special=True)
    expected = reference.matmul(a, b)
    assert_same_bits(ops.mm(torch.from_numpy(a), torch.from_numpy(b)), expected)
    assert_same_bits(ops.mm(torch.from_numpy(a), torch.from_numpy(b.T.copy()).t()), expected)


@pytest.mark.parametrize(("m", "k", "n"), [(1, 20, 70), (6, 17, 9), (15, 260, 3), (9, 8, 17)])
def test_float64_has_the_bits_of_the_reference(instruction_set: str, m: int, k: int, n: int) -> None:
    a, b = numbers(5, m, k, dtype=np.float64), numbers(6, k, n, dtype=np.float64)
    expected = reference.matmul(a, b)
    assert_same_bits(ops.mm(torch.from_numpy(a), torch.from_numpy(b)), expected)
    assert_same_bits(ops.mm(torch.from_numpy(a), torch.from_numpy(b.T.copy()).t()), expected)


def chained(a: np.ndarray, b: np.ndarray) -> np.ndarray:
    """D1 for many elements at once, by float64 products of float32 numbers that leave room: exact, so the order is moot."""
    return (a.astype(np.float64) @ b.astype(np.float64)).astype(np.float32)


@pytest.mark.parametrize(
    ("m", "k", "n"),
    [(300, 700, 2100), (1000, 40, 50), (20, 9000, 40), (3, 5000, 1200), (230, 1100, 70), (64, 20000, 33)],
)
def test_blocks_panels_and_strips_miss_no_term(instruction_set: str, m: int, k: int, n: int) -> None:
    """Small whole numbers: every order gives the exact sum, so that large shapes need no slow reference."""
    slow = instruction_set in ("scalar", "neon", "emulated")  # neon may be an emulator
    if slow:
        m, k = min(m, 20), min(k, 2100 if n < 1000 else 520)
    generator = np.random.default_rng(7)
    a = generator.integers(-8, 8, (m, k)).astype(np.float32)
    b = generator.integers(-8, 8, (k, n)).astype(np.float32)
    expected = chained(a, b) + np.float32(0)
    for threads in (3,) if slow else (1, 3):
        native.set_threads(threads)
        for right in (torch.from_numpy(b), torch.from_numpy(b.T.copy()).t()):
            assert_same_bits(ops.mm(torch.from_numpy(a), right), expected)
            assert_same_bits(ops.mm(right.t(), torch.from_numpy(a).t()).t(), expected)


@pytest.mark.parametrize(
    ("m", "k", "n"), [(150, 300, 200), (16, 5000, 40), (1, 3000, 400), (2, 2000, 600), (700, 30, 90), (8, 1100, 300)]
)
def test_every_thread_count_and_instruction_set_gives_the_same_bits(m: int, k: int, n: int) -> None:
    a, b = torch.from_numpy(numbers(8, m, k)), torch.from_numpy(numbers(9, k, n))
    columns = b.t().contiguous().t()
    results = []
    for name in INSTRUCTION_SETS:
        native.use(name)
        for threads in (1,) if name == "emulated" else (1, 2, 3, 8):
            native.set_threads(threads)
            results += [ops.mm(a, b), ops.mm(a, columns), ops.mm(b.t(), a.t()).t()]
    for result in results[1:]:
        assert_same_bits(result, results[0].numpy())


@pytest.fixture
def gpu_plan() -> Iterator[Callable[..., None]]:
    """Sets the GPU's tile (0 .. 3: 128 x 128, 64 x 64, 32 x 32, 128 x 8), split of k, bytes for chains; emulator's order."""
    emulated = native.use("emulated")
    ask = ctypes.CDLL(str(emulated.path)).dk_emulator_plan
    ask.argtypes = [ctypes.c_int32, ctypes.c_int32, ctypes.c_int64]

    def plan(tile: int, split: bool, memory: int, order: int) -> None:
        ask(tile, split, memory)
        emulated.emulator_order(order)

    yield plan
    plan(0, False, 0, 0)


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize("tile", [0, 1, 2, 3])
def test_no_tile_split_or_order_of_a_gpu_shows(gpu_plan: Callable[..., None], tile: int, dtype: Any) -> None:
    tile = max(tile, 1) if dtype == np.float64 else tile  # a thread cannot hold as many doubles
    m, k, n = 129, 530, 67 if tile < 3 else 9
    a, b, c = (
        torch.from_numpy(numbers(34 + i, *shape, dtype=dtype, special=True))
        for i, shape in enumerate([(m, k), (k, n), (m, n)])
    )
    aligned = a[:128].t().contiguous().t(), b[:, :8].contiguous()  # copied and stored 16 bytes at a time
    native.use()  # the CPU's bits are the reference's; of many doubles that would take minutes
    expected, expected_aligned = ops.addmm(c, a, b, beta=0.5, alpha=3).numpy(), ops.mm(*aligned).numpy()
    native.use("emulated")
    layouts = (a, b), (a.t().contiguous().t(), b.t().contiguous().t())
    plans = [(False, 1), (True, 1), (True, 1 << 20), (False, 1)]  # memory for one chunk at a time; for all
    for order, (split, memory) in enumerate(plans):
        gpu_plan(tile, split, memory, order)
        assert_same_bits(ops.addmm(c, *layouts[order % 2], beta=0.5, alpha=3), expected)
    assert_same_bits(ops.mm(*aligned), expected_aligned)


def test_a_row_has_the_same_bits_in_every_batch() -> None:
    x, w = torch.from_numpy(numbers(10, 70, 400)), torch.from_numpy(numbers(11, 130, 400))
    whole = ops.mm(x, w.t())
    for size in (1, 2, 8, 9, 16, 33):
        assert_same_bits(ops.mm(x[:size], w.t()), whole[:size].numpy())


@pytest.mark.parametrize(("beta", "alpha"), [(1, 1), (0, 1), (1, 0.3), (0.7, 1), (-1.1, 2.5), (0, 0.1)])
def test_addmm_rounds_each_operation_after_the_sum(instruction_set: str, beta: float, alpha: float) -> None:
    a, b, c = numbers(12, 15, 300), numbers(13, 300, 34), numbers(14, 15, 34)
    t = torch.from_numpy
    assert_same_bits(ops.addmm(t(c), t(a), t(b), beta=beta, alpha=alpha), reference.matmul_add(c, a, b, beta, alpha))
    for row in (c[0], c[:, :1], c[0, 0]):
        expected = reference.matmul_add(np.broadcast_to(row, c.shape), a, b, beta, alpha)
        assert_same_bits(ops.addmm(t(np.array(row)), t(a), t(b), beta=beta, alpha=alpha), expected)
    into = t(c.copy())
    assert ops.addmm(into, t(a), t(b), beta=beta, alpha=alpha, out=into) is into
    assert_same_bits(into, reference.matmul_add(c, a, b, beta, alpha))


def test_beta_zero_ignores_the_addend() -> None:
    nan = torch.full((4, 5), torch.nan)
    assert torch.equal(ops.addmm(nan, torch.ones(4, 3), torch.ones(3, 5), beta=0), torch.full((4, 5), 3.0))


@pytest.mark.parametrize(
    ("batch", "m", "k", "n"), [(0, 2, 3, 4), (3, 9, 40, 33), (5, 64, 32, 20), (2, 1, 70, 40), (4, 7, 0, 3)]
)
def test_batched_products_have_the_bits_of_the_reference(
    instruction_set: str, batch: int, m: int, k: int, n: int
) -> None:
    a, b, c = numbers(15, batch, m, k), numbers(16, batch, k, n), numbers(17, n)
    t = torch.from_numpy
    expected = reference.matmul(a, b)
    turned = t(np.swapaxes(b, 1, 2).copy()).transpose(1, 2)
    added = np.broadcast_to(c, expected.shape)
    for threads in (1, 3):
        native.set_threads(threads)
        assert_same_bits(ops.bmm(t(a), t(b)), expected)
        assert_same_bits(ops.bmm(t(a), turned), expected)
        assert_same_bits(ops.baddbmm(t(c), t(a), turned, beta=0.5, alpha=3), reference.matmul_add(added, a, b, 0.5, 3))
        total = reference.matmul_sum_add(np.broadcast_to(c, (m, n)), a, b, 2.0, 0.3)
        assert_same_bits(ops.addbmm(t(c), t(a), turned, beta=2, alpha=0.3), total)


@pytest.mark.parametrize("n", [0, 1, 15, 16, 17, 256, 257, 1025, 2600, 5000])
def test_dot_and_vector_products_have_the_bits_of_the_reference(instruction_set: str, n: int) -> None:
    x, y = numbers(18, n), numbers(19, n)
    t = torch.from_numpy
    expected = np.asarray(reference.dot(x, y))
    for threads in (1, 3):
        native.set_threads(threads)
        assert_same_bits(ops.dot(t(x), t(y)), expected)
    apart = t(np.repeat(y, 3))[::3]
    assert_same_bits(ops.vdot(t(x), apart), expected)
    a, c = numbers(20, 7, n), numbers(21, 7)
    r = reference.matmul(a, y[:, None])[:, 0]
    assert_same_bits(ops.mv(t(a), apart), r)
    expected = reference.matmul_add(c[:, None], a, y[:, None], 0.3, 1.7)[:, 0]
    assert_same_bits(ops.addmv(t(c), t(a.T.copy()).t(), t(y), beta=0.3, alpha=1.7), expected)


def test_dot_of_many_terms_uses_lanes_for_chunks(instruction_set: str) -> None:
    x, y = numbers(22, 256 * 37 + 11), numbers(23, 256 * 37 + 11)
    assert_same_bits(ops.dot(torch.from_numpy(x), torch.from_numpy(y)), np.asarray(reference.dot(x, y)))


def test_addr_is_a_product_of_one_term() -> None:
    x, y, c = numbers(24, 9), numbers(25, 20), numbers(26, 9, 20)
    t = torch.from_numpy
    expected = reference.matmul_add(c, x[:, None], y[None], 0.5, 2.0)
    assert_same_bits(ops.addr(t(c), t(x), t(y), beta=0.5, alpha=2), expected)


@settings(deadline=None, max_examples=40)
@given(
    m=st.integers(1, 40), k=st.integers(1, 40), n=st.integers(1, 40), left=st.integers(0, 4), right=st.integers(0, 4),
    target=st.integers(0, 2),
)  # fmt: skip
def test_strides_never_show(m: int, k: int, n: int, left: int, right: int, target: int) -> None:
    a, b = strided(30, m, k, left), strided(31, k, n, right)
    out = [torch.empty(m, n), torch.empty(n, m).t(), torch.empty(m, 2 * n)[:, ::2]][target]
    assert ops.mm(a, b, out=out) is out
    assert_same_bits(out, reference.matmul(a.contiguous().numpy(), b.contiguous().numpy()))


def strided(seed: int, rows: int, cols: int, kind: int) -> torch.Tensor:
    if kind == 0:
        return torch.from_numpy(numbers(seed, rows, cols))
    if kind == 1:
        return torch.from_numpy(numbers(seed, cols, rows)).t()
    if kind == 2:
        return torch.from_numpy(numbers(seed, rows + 2, 3 * cols))[1:-1, 1::3]
    if kind == 3:
        return torch.from_numpy(numbers(seed, 1, cols)).expand(rows, cols)
    return torch.from_numpy(numbers(seed, rows, 1)).expand(rows, cols)


def test_an_operand_may_be_the_output() -> None:
    a, b = torch.from_numpy(numbers(32, 20, 20)), torch.from_numpy(numbers(33, 20, 20))
    expected = ops.mm(a, b).numpy().copy()
    assert_same_bits(ops.mm(a, b, out=a), expected)


def test_values_and_gradients_agree_with_float64() -> None:
    """Error of a DOT: |fl - exact| <= gamma_n sum|a b|, n = 256 + 2 roundings (Higham, section 3.1); K is 200 here."""
    torch.manual_seed(0)
    x, w, c = torch.randn(24, 200), torch.randn(30, 200), torch.randn(30)
    values: list[list[torch.Tensor]] = []
    for dtype in (torch.float32, torch.float64):
        leaves = [t.to(dtype).clone().requires_grad_() for t in (x, w, c)]
        if dtype == torch.float32:
            with exact():
                y = torch.nn.functional.linear(*leaves)
                y.backward(torch.ones_like(y))
        else:
            y = torch.nn.functional.linear(*leaves)
            y.backward(torch.ones_like(y))
        values.append([y.detach(), *(leaf.grad for leaf in leaves if leaf.grad is not None)])
    scale = (x.abs().double() @ w.abs().double().t()).max().item()
    for got, expected in zip(*values, strict=True):
        assert (got.double() - expected).abs().max().item() <= 258 * 2**-24 * scale


@pytest.mark.parametrize("arguments", [
    (ops.mm, (2, 3), (4, 5)), (ops.mm, (2, 3, 4), (4, 5)), (ops.bmm, (2, 3, 4), (3, 4, 5)), (ops.bmm, (2, 3, 4), (2, 5, 4)),
    (ops.mv, (2, 3), (4,)), (ops.dot, (3,), (4,)), (ops.dot, (3, 3), (3, 3)),
])  # fmt: skip
def test_shapes_that_do_not_fit_are_refused(arguments: tuple[Any, tuple[int, ...], tuple[int, ...]]) -> None:
    function, left, right = arguments
    with pytest.raises(RuntimeError):
        function(torch.ones(left), torch.ones(right))


def test_an_addend_that_does_not_fit_and_mixed_types_are_refused() -> None:
    with pytest.raises(RuntimeError):
        ops.addmm(torch.ones(4), torch.ones(2, 3), torch.ones(3, 5))
    with pytest.raises(RuntimeError):
        ops.mm(torch.ones(2, 3), torch.ones(3, 5, dtype=torch.float64))
    with pytest.raises(KernelError):
        ops.mm(torch.ones(2, 3, dtype=torch.bfloat16), torch.ones(3, 5, dtype=torch.bfloat16))


def test_integers_keep_the_stock_kernel() -> None:
    a = torch.arange(6).reshape(2, 3)
    assert torch.equal(ops.mm(a, a.t()), torch.tensor([[5, 14], [14, 50]]))
    assert torch.equal(ops.mv(a, torch.tensor([1, 0, 2])), torch.tensor([4, 13]))
