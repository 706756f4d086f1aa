"""Reductions: the bits of the reference on every instruction set, thread count and layout; values near float64."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from diva.kernels import library
from diva.kernels.exact import exact
from diva.kernels.library import native
from diva.kernels.operators import reduction
from diva.kernels.reference import reduction as reference

SIZES = (0, 1, 3, 7, 8, 9, 15, 16, 17, 31, 33, 63, 64, 65, 100, 129, 255, 257, 1000, 4095, 4097, 9001)

OPERATORS: dict[str, tuple[Callable[..., Any], Callable[..., Any]]] = {
    "sum": (reduction.sum_dim, reference.total),
    "mean": (reduction.mean_dim, reference.mean),
    "nansum": (reduction.nansum, reference.number_total),
    "norm": (lambda x, d: reduction.vector_norm(x, 2, d), lambda x, d: reference.norm(x, 2, d)),
    "norm 1": (lambda x, d: reduction.vector_norm(x, 1.0, d), lambda x, d: reference.norm(x, 1, d)),
    "norm 0": (lambda x, d: reduction.vector_norm(x, 0, d), lambda x, d: reference.norm(x, 0, d)),
    "var": (lambda x, d: reduction.var(x, d), lambda x, d: reference.variance(x, d)[0]),
    "std": (lambda x, d: reduction.std(x, d, correction=0), lambda x, d: reference.variance(x, d, 0, root=True)[0]),
}


def numbers(*shape: int, seed: int = 0, dtype: Any = np.float32, odd: bool = False) -> np.ndarray:
    """Normal numbers of very different sizes; `odd`: with denormals, zeros of both signs, infinities and NaN."""
    generator = np.random.default_rng(seed)
    x = (generator.standard_normal(shape) * np.exp2(generator.integers(-8, 8, shape))).astype(dtype)
    if odd and x.size:
        special = np.array([0.0, -0.0, 1e-40, -1e-42, 1e-30, np.inf, -np.inf, np.nan], dtype)
        x = np.where(generator.random(shape) < 0.02, special[generator.integers(0, 8, shape)], x)
    return x.astype(dtype)


def assert_same_bits(got: torch.Tensor, expected: np.ndarray) -> None:
    """Equal to the bit; a NaN is a NaN."""
    array = got.detach().numpy()
    assert array.dtype == expected.dtype and array.shape == expected.shape
    integer = np.int32 if expected.dtype == np.float32 else np.int64
    same = (
        (np.ascontiguousarray(array).view(integer) == np.ascontiguousarray(expected).view(integer))
        if expected.ndim
        else (array.tobytes() == expected.tobytes())
    )
    assert np.all(same | (np.isnan(array) & np.isnan(expected)))


def each_library() -> list[str]:
    return library.available()


@pytest.mark.parametrize("name", OPERATORS)
@pytest.mark.parametrize("odd", [False, True])
def test_rows_and_columns_have_the_bits_of_the_reference(name: str, odd: bool) -> None:
    ours, specified = OPERATORS[name]
    for n in SIZES:
        rows = numbers(2, n, seed=n, odd=odd)
        columns = numbers(n, 37 if n < 1000 else 5, seed=n + 1, odd=odd)
        expected = specified(rows, [1]), specified(columns, [0])
        for isa in each_library():
            native.use(isa)
            assert_same_bits(ours(torch.from_numpy(rows), [1]), expected[0])
            assert_same_bits(ours(torch.from_numpy(columns), [0]), expected[1])


@pytest.mark.parametrize("name", ["sum", "norm", "var"])
def test_negative_zeros_and_underflow_have_the_signs_of_the_reference(name: str) -> None:
    ours, specified = OPERATORS[name]
    for n in (1, 5, 31, 32, 33, 63, 64, 65, 130):
        for x in (np.full((n, 20), -0.0, np.float32), np.full((n, 20), -1e-30, np.float32)):
            for isa in each_library():
                native.use(isa)
                assert_same_bits(ours(torch.from_numpy(x), [0]), specified(x, [0]))
                assert_same_bits(ours(torch.from_numpy(np.ascontiguousarray(x.T)), [1]), specified(x, [0]))


def test_float64_has_the_bits_of_the_reference() -> None:
    for n in (1, 17, 100, 5000):
        x = numbers(3, n, seed=n, dtype=np.float64)
        for isa in each_library():
            native.use(isa)
            assert_same_bits(reduction.sum_dim(torch.from_numpy(x), [1]), reference.total(x, [1]))
            assert_same_bits(reduction.sum_dim(torch.from_numpy(x).t(), [0]), reference.total(x, [1]))
    x = numbers(2, 70, dtype=np.float64)
    assert_same_bits(reduction.var(torch.from_numpy(x), [1]), reference.variance(x, [1])[0])


@settings(deadline=None, max_examples=60, derandomize=True)
@given(
    shape=st.lists(st.sampled_from([1, 2, 3, 5, 16, 33, 64]), min_size=1, max_size=4).filter(
        lambda shape: math.prod(shape) <= 1 << 16
    ),
    order=st.randoms(use_true_random=False),
    step=st.sampled_from([1, 2]),
    expanded=st.booleans(),
)
def test_any_layout_gives_the_row_major_order_of_the_reduced_dimensions(shape, order, step, expanded) -> None:
    permutation = list(range(len(shape)))
    order.shuffle(permutation)
    stored = torch.from_numpy(numbers(*[s * step for s in shape]))
    x = stored[tuple(slice(None, None, step) for _ in shape)].permute(permutation)
    if expanded:
        x = x.unsqueeze(1).expand(-1, 3, *[-1] * (x.dim() - 1))
    dims = [d for d in range(x.dim()) if order.random() < 0.5] or [0]
    array = np.ascontiguousarray(x.numpy())
    assert_same_bits(reduction.sum_dim(x, dims), reference.total(array, dims))
    assert_same_bits(reduction.var(x, dims, correction=0), reference.variance(array, dims, 0)[0])


@pytest.mark.parametrize("shape", [(3, 5, 16, 16), (2, 3, 7, 7), (4, 20, 40, 64)])
def test_images_give_the_same_bits_in_both_memory_formats(shape: tuple[int, ...]) -> None:
    array = numbers(*shape)
    x = torch.from_numpy(array)
    for dims in ([0, 2, 3], [2, 3], [1], [0, 1, 2, 3], [0], [0, 2]):
        expected = reference.total(array, dims)
        assert_same_bits(reduction.sum_dim(x, dims), expected)
        assert_same_bits(reduction.sum_dim(x.to(memory_format=torch.channels_last), dims), expected)


@pytest.mark.parametrize("threads", [1, 2, 3, 8])
def test_threads_do_not_change_a_bit(threads: int) -> None:
    native.use()
    native.set_threads(threads)
    array = numbers(300_001)
    assert_same_bits(reduction.sum_dim(torch.from_numpy(array), None), reference.total(array))
    array = numbers(9000, 130)
    for name in ("sum", "norm", "var"):
        ours, specified = OPERATORS[name]
        assert_same_bits(ours(torch.from_numpy(array), [0]), specified(array, [0]))
    array = numbers(700, 500)
    assert_same_bits(reduction.sum_dim(torch.from_numpy(array), [1]), reference.total(array, [1]))
    assert_same_bits(reduction.cumsum(torch.from_numpy(array), 0), reference.running_sum(array, 0))


def test_the_order_of_the_gpu_s_threads_changes_no_bit() -> None:
    """Every form of the GPU's kernels: short rows, rows, long ones, thin and tall columns, two reduced dimensions and three."""
    emulated = library.load("emulated")
    native.use("emulated")
    rows, long = torch.from_numpy(numbers(5, 12000)), torch.from_numpy(numbers(1, 90000))
    columns = torch.from_numpy(numbers(9000, 40))
    images = torch.from_numpy(numbers(6, 5, 9, 14))
    calls: list[Callable[[], torch.Tensor]] = [
        lambda: reduction.sum_dim(rows[:, :20], [1]), lambda: reduction.var(rows[:, :700], [1]),
        lambda: reduction.var(rows, [1]), lambda: reduction.sum_dim(long, None), lambda: reduction.prod(long / 1e4 + 1),
        lambda: reduction.sum_dim(columns[:50], [0]), lambda: reduction.var(columns, [0]),
        lambda: reduction.sum_dim(columns[:, :3], [0]), lambda: reduction.sum_dim(images, [0, 2, 3]),
        lambda: reduction.vector_norm(images[:, :, ::2, ::2], 1.0, [0, 2, 3]), lambda: reduction.nansum(images, [0, 2]),
        lambda: reduction.cumsum(rows, 1), lambda: reduction.cumsum(long, 1), lambda: reduction.cumprod(columns, 0),
    ]  # fmt: skip
    expected = [call() for call in calls]
    try:
        for order in (1, 2, 3):
            emulated.emulator_order(order)
            for number, call in enumerate(calls):
                assert call().numpy().tobytes() == expected[number].numpy().tobytes(), (order, number)
    finally:
        emulated.emulator_order(0)
    native.use()
    for number, call in enumerate(calls):
        assert call().numpy().tobytes() == expected[number].numpy().tobytes(), number


def test_more_than_a_block_of_blocks_is_reduced_in_three_levels() -> None:
    array = np.ones(4096 * 4096 + 4097, np.float32)
    array[::5000] = 0.3
    assert_same_bits(reduction.sum_dim(torch.from_numpy(array), None), reference.total(array))


def test_products_and_running_sums_have_the_bits_of_the_reference() -> None:
    for shape, dim in (((5, 1), 1), ((3, 300), 1), ((2, 1500), 1), ((600, 21), 0), ((2, 700, 3), 1), ((0, 3), 0)):
        x = 1 + numbers(*shape) / 256
        t = torch.from_numpy(x)
        for isa in each_library():
            native.use(isa)
            assert_same_bits(reduction.prod_dim(t, dim), reference.product(x, [dim]))
            assert_same_bits(reduction.cumsum(t, dim), reference.running_sum(x, dim))
            assert_same_bits(reduction.cumprod(t, dim), reference.running_product(x, dim))
    assert_same_bits(reduction.prod(t), reference.product(x))


def test_values_and_gradients_are_near_float64() -> None:
    """Bound: each of n additions errs by half an ulp of a partial sum, at most n / 64 + 6 of them on a path."""
    x = torch.from_numpy(numbers(40, 70, 3))
    calls: list[Callable[[torch.Tensor], torch.Tensor]] = [
        lambda t: t.sum(),
        lambda t: t.mean((0, 2), keepdim=True),
        lambda t: t.var(1),
        lambda t: t.std((0, 1), correction=0),
        lambda t: t.norm(),
        lambda t: torch.linalg.vector_norm(t, 1, dim=1),
        lambda t: torch.linalg.vector_norm(t, float("inf"), dim=1),
        lambda t: t.nansum(1),
        lambda t: t.cumsum(1),
        lambda t: (1 + t / 1000).prod(1),
        lambda t: t[:, :, 0].trace(),
    ]
    for call in calls:
        wide = x.double().requires_grad_()
        expected = call(wide)
        expected.sum().backward()
        narrow = x.clone().requires_grad_()
        with exact():
            result = call(narrow)
            result.sum().backward()
        torch.testing.assert_close(result.double(), expected, rtol=2e-6, atol=2e-6 * float(x.abs().max()) * 40)
        torch.testing.assert_close(narrow.grad.double(), wide.grad, rtol=1e-5, atol=1e-5)


def test_shapes_types_and_errors_are_those_of_stock() -> None:
    x = torch.randn(2, 3, 4)
    calls: list[Callable[[], torch.Tensor]] = [
        lambda: x.sum(), lambda: x.sum(1), lambda: x.sum((0, -1), keepdim=True), lambda: x[0, 0, 0].sum(0),
        lambda: x.sum(1, dtype=torch.float64), lambda: x.long().sum(1), lambda: x.bool().sum(),
        lambda: x.long().sum(0, dtype=torch.float32), lambda: torch.empty(0, 3).sum(0), lambda: torch.empty(0).mean(),
        lambda: torch.empty(2, 0).var(1), lambda: x.var(), lambda: x.std(2, keepdim=True), lambda: x.norm(dim=1),
        lambda: torch.var_mean(x, 1)[1], lambda: x.prod(), lambda: x.long().prod(1), lambda: x.cumsum(-1),
        lambda: x.long().cumsum(0), lambda: x.norm(p=1), lambda: x.mean([], keepdim=True), lambda: x[0, 0, 0].cumsum(0),
    ]  # fmt: skip
    for number, call in enumerate(calls):
        expected = call()
        with exact():
            got = call()
        assert (got.shape, got.dtype, got.stride()) == (expected.shape, expected.dtype, expected.stride()), number
        torch.testing.assert_close(got, expected, equal_nan=True)
    bad: list[Callable[[], torch.Tensor]] = [
        lambda: x.sum(3), lambda: x.sum((1, 1)), lambda: x.mean(-4), lambda: x.long().mean(), lambda: x.var((0, 0)),
        lambda: x.cumsum(5), lambda: x.trace(), lambda: x.long().var(),
    ]  # fmt: skip
    for call in bad:
        with pytest.raises((RuntimeError, IndexError)) as stock:
            call()
        with exact(), pytest.raises(stock.type):
            call()
