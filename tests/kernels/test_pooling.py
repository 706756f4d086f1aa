"""Pooling: the kernels give the reference's bits, torch's indices and strides, and the gradients of float64."""

from __future__ import annotations

from collections.abc import Iterator
from typing import NamedTuple

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor
from torch.nn import functional as F

from diva.kernels.exact import exact
from diva.kernels.library import available, load, native
from diva.kernels.reference import pooling as reference

aten = torch.ops.aten


class Pool(NamedTuple):
    """One pooling of (N, C, *space)."""

    shape: tuple[int, ...]
    kernel: tuple[int, ...]
    stride: tuple[int, ...]
    padding: tuple[int, ...]
    dilation: tuple[int, ...] = (1, 1)
    ceil_mode: bool = False

    @property
    def name(self) -> str:
        return f"{len(self.kernel)}d"

    def windows(self, include_pad: bool = True) -> list[list[reference.Window]]:
        sizes = zip(self.shape[2:], self.kernel, self.stride, self.padding, self.dilation, strict=True)
        return [reference.windows(*s, ceil_mode=self.ceil_mode, include_pad=include_pad) for s in sizes]


POOLS = [
    Pool((2, 3, 8, 9), (2, 2), (2, 2), (0, 0)),
    Pool((1, 2, 5, 37), (3, 3), (2, 2), (1, 1)),
    Pool((1, 37, 6, 7), (3, 3), (1, 1), (1, 1)),
    Pool((1, 2, 11, 70), (3, 2), (1, 1), (1, 0), ceil_mode=True),
    Pool((1, 3, 13, 23), (3, 4), (3, 5), (1, 2), ceil_mode=True),
    Pool((2, 64, 6, 6), (2, 2), (2, 2), (0, 0)),
    Pool((1, 2, 3, 3), (3, 3), (3, 3), (0, 0)),
    Pool((1, 19, 4, 5, 6), (2, 2, 3), (2, 1, 2), (1, 0, 1), (1, 1, 1)),
]
DILATED = [
    Pool((1, 3, 9, 40), (3, 3), (1, 2), (1, 1), (2, 2)),
    Pool((1, 18, 2, 7), (2, 2), (1, 1), (1, 1), (3, 2)),  # a window without a position
    Pool((1, 2, 7, 6, 5), (2, 3, 2), (2, 1, 1), (0, 1, 1), (3, 1, 2), True),
]
ADAPTIVE = [
    ((2, 3, 8, 9), (3, 4)),
    ((1, 20, 8, 6), (4, 2)),
    ((1, 3, 5, 7), (9, 1)),
    ((1, 2, 4, 40), (4, 20)),
    ((1, 17, 4, 5, 6), (2, 2, 5)),
]


@pytest.fixture(params=available())
def instruction_set(request: pytest.FixtureRequest) -> Iterator[str]:
    native.use(request.param)
    yield request.param
    native.use()


def made(*shape: int, seed: int = 0, dtype: torch.dtype = torch.float32) -> Tensor:
    """Numbers of which many are equal."""
    random = torch.Generator().manual_seed(seed)
    return (torch.randn(shape, generator=random, dtype=dtype) * 3).round() / 3


def layouts(x: Tensor) -> list[Tensor]:
    last = torch.channels_last if x.dim() == 4 else torch.channels_last_3d
    return [x, x.contiguous(memory_format=last), x.transpose(-1, -2).contiguous().transpose(-1, -2)]


def same_bits(found: Tensor, expected: np.ndarray) -> None:
    values, expected = np.ascontiguousarray(found.numpy()), expected.reshape(found.shape)
    assert values.dtype == expected.dtype
    nan = np.isnan(values)
    assert np.array_equal(nan, np.isnan(expected))
    integer = np.int32 if values.dtype == np.float32 else np.int64
    assert np.array_equal(values.view(integer)[~nan], np.ascontiguousarray(expected).view(integer)[~nan])


def planes(x: Tensor) -> np.ndarray:
    array = x.contiguous().numpy()
    return array.reshape(-1, *array.shape[2:])


def check_max(pool: Pool, x: Tensor) -> None:
    forward, backward = (
        getattr(aten, f"max_pool{pool.name}_with_indices"),
        getattr(aten, f"max_pool{pool.name}_with_indices_backward"),
    )
    values, indices = reference.max_pool(planes(x), pool.windows())
    g = made(*x.shape[:2], *values.shape[1:], seed=1, dtype=x.dtype)
    dx = reference.max_pool_backward(planes(g), indices, tuple(x.shape[2:]))
    rest = (list(pool.kernel), list(pool.stride), list(pool.padding), list(pool.dilation), pool.ceil_mode)
    with exact():
        for t in layouts(x):
            y, i = forward(t, *rest)
            same_bits(y, values)
            same_bits(i, indices)
            same_bits(backward(g, t, *rest, i), dx)


@pytest.mark.parametrize("pool", POOLS + DILATED, ids=str)
def test_max_pool_has_the_bits_of_the_reference_in_every_layout(pool: Pool, instruction_set: str) -> None:
    check_max(pool, made(*pool.shape))


def test_max_pool_has_the_bits_of_the_reference_for_extreme_numbers(instruction_set: str) -> None:
    x = made(1, 3, 6, 40)
    special = torch.tensor([float("nan"), float("inf"), -float("inf"), -0.0, 0.0, 1e-41])
    x.view(-1)[::3] = special.repeat(40)
    check_max(Pool((1, 3, 6, 40), (2, 3), (1, 2), (1, 1)), x)
    check_max(Pool((1, 2, 4, 4), (2, 2), (2, 2), (0, 0)), made(1, 2, 4, 4, dtype=torch.float64))


@pytest.mark.parametrize("pool", POOLS, ids=str)
@pytest.mark.parametrize(("include_pad", "divisor"), [(True, None), (False, None), (True, 7)])
def test_average_pool_has_the_bits_of_the_reference_in_every_layout(
    pool: Pool, include_pad: bool, divisor: int | None, instruction_set: str
) -> None:
    x, along = made(*pool.shape), pool.windows(include_pad)
    y = reference.average_pool(planes(x), along, divisor)
    g = made(*x.shape[:2], *y.shape[1:], seed=1)
    g.view(-1)[::5] = -0.0
    dx = reference.average_pool_backward(planes(g), along, tuple(x.shape[2:]), divisor)
    rest = (list(pool.kernel), list(pool.stride), list(pool.padding), pool.ceil_mode, include_pad, divisor)
    with exact():
        for t in layouts(x):
            same_bits(getattr(aten, f"avg_pool{pool.name}")(t, *rest), y)
            same_bits(getattr(aten, f"avg_pool{pool.name}_backward")(g, t, *rest), dx)


@pytest.mark.parametrize(("shape", "outputs"), ADAPTIVE, ids=str)
def test_adaptive_pools_have_the_bits_of_the_reference_in_every_layout(
    shape: tuple[int, ...], outputs: tuple[int, ...], instruction_set: str
) -> None:
    x, d = made(*shape), f"{len(outputs)}d"
    along = [reference.adaptive_windows(size, n) for size, n in zip(shape[2:], outputs, strict=True)]
    y, (values, indices) = reference.average_pool(planes(x), along), reference.max_pool(planes(x), along)
    g = made(*shape[:2], *outputs, seed=1)
    expected = (
        reference.average_pool_backward(planes(g), along, shape[2:]),
        reference.max_pool_backward(planes(g), indices, shape[2:]),
    )
    with exact():
        for t in layouts(x):
            average = getattr(aten, f"_adaptive_avg_pool{d}")(t, list(outputs))
            largest, i = getattr(aten, f"adaptive_max_pool{d}")(t, list(outputs))
            back = getattr(aten, f"_adaptive_avg_pool{d}_backward")(g, t)
            largest_back = getattr(aten, f"adaptive_max_pool{d}_backward")(g, t, i)
            for found, e in zip(
                (average, largest, i, back, largest_back), (y, values, indices, *expected), strict=True
            ):
                same_bits(found, e)


@settings(deadline=None, max_examples=40)
@given(
    st.tuples(st.integers(1, 2), st.integers(1, 20), st.integers(1, 12), st.integers(1, 45)),
    st.integers(1, 4), st.integers(1, 3), st.integers(0, 2), st.integers(1, 2), st.booleans(), st.booleans(),
)  # fmt: skip
def test_max_pool_is_that_of_torch_with_its_indices_and_strides(
    shape: tuple[int, ...], kernel: int, stride: int, padding: int, dilation: int, ceil_mode: bool, pixels: bool
) -> None:
    x = made(*shape).contiguous(memory_format=torch.channels_last if pixels else torch.contiguous_format)
    arguments = (x, [kernel], [stride], [padding], [dilation], ceil_mode)
    try:
        expected = aten.max_pool2d_with_indices(*arguments)
    except RuntimeError:
        with exact(), pytest.raises(RuntimeError):
            aten.max_pool2d_with_indices(*arguments)
        return
    with exact():
        found = aten.max_pool2d_with_indices(*arguments)
    for a, e in zip(found, expected, strict=True):
        assert a.shape == e.shape and a.is_contiguous() == e.is_contiguous()
        if pixels:
            assert a.is_contiguous(memory_format=torch.channels_last)
        if not torch.isinf(expected[0]).any():  # torch gives a window without a position an index that is none
            assert torch.equal(a, e)


@pytest.mark.parametrize("n_threads", [2, 3, 8])
def test_the_number_of_threads_changes_no_bit(n_threads: int) -> None:
    def everything() -> list[Tensor]:
        found: list[Tensor] = []
        for x in layouts(made(3, 70, 40, 41)):
            y, i = aten.max_pool2d_with_indices(x, [3], [2], [1])
            found += [y, i, aten.max_pool2d_with_indices_backward(y, x, [3], [2], [1], [1], False, i)]
            found.append(aten.avg_pool2d(x, [3], [1], [1]))
            found.append(aten.avg_pool2d_backward(found[-1], x, [3], [1], [1], False, True, None))
        return found

    with exact():
        native.set_threads(1)
        alone = everything()
        native.set_threads(n_threads)
        assert all(torch.equal(a, b) for a, b in zip(alone, everything(), strict=True))


def test_the_order_of_a_gpus_threads_and_blocks_changes_no_bit() -> None:
    # Planes of several tiles and batches, of one, several to a tile; channels last of several tiles and an odd number.
    cases = [made(1, 1, 66, 65), made(2, 3, 20, 19), made(5, 7, 4, 4)]
    cases.append(made(1, 33, 14, 13).contiguous(memory_format=torch.channels_last))

    def everything() -> list[Tensor]:
        found: list[Tensor] = []
        for x in cases:
            y, i = aten.max_pool2d_with_indices(x, [3], [2], [1])
            one = torch.full_like(i, 5)  # every output has the same input
            found += [y, i]
            found += [aten.max_pool2d_with_indices_backward(y, x, [3], [2], [1], [1], False, at) for at in (i, one)]
            found.append(aten.avg_pool2d(x, [3], [2], [1]))
            found.append(aten.avg_pool2d_backward(found[-1], x, [3], [2], [1], False, True, None))
        return found

    with exact():
        expected = everything()
        native.use("emulated")
        try:
            for order in range(4):
                load("emulated").emulator_order(order)
                assert all(torch.equal(a, b) for a, b in zip(everything(), expected, strict=True)), order
        finally:
            load("emulated").emulator_order(0)


FUNCTIONS = {
    "max 1d": (lambda x: F.max_pool1d(x, 3, 2, 1), (2, 3, 20)),
    "max 2d": (lambda x: F.max_pool2d(x, 3, 2, 1), (2, 3, 9, 10)),
    "max 3d": (lambda x: F.max_pool3d(x, 2), (2, 3, 4, 6, 4)),
    "average 1d": (lambda x: F.avg_pool1d(x, 3, 2, 1), (2, 3, 20)),
    "average 2d, no batch": (lambda x: F.avg_pool2d(x, 3, 2, 1), (3, 9, 10)),
    "average 3d": (lambda x: F.avg_pool3d(x, 2), (2, 3, 4, 6, 4)),
    "adaptive average 1d": (lambda x: F.adaptive_avg_pool1d(x, 7), (2, 3, 20)),
    "adaptive average 2d": (lambda x: F.adaptive_avg_pool2d(x, (4, 3)), (2, 3, 9, 10)),
    "adaptive max 2d": (lambda x: F.adaptive_max_pool2d(x, (4, 3)), (2, 3, 9, 10)),
    "adaptive max 3d": (lambda x: F.adaptive_max_pool3d(x, 2), (2, 3, 4, 6, 5)),
}


@pytest.mark.parametrize("name", FUNCTIONS)
def test_values_and_gradients_are_those_of_float64(name: str) -> None:
    function, shape = FUNCTIONS[name]
    x = torch.randn(shape, generator=torch.Generator().manual_seed(0))

    def run(x: Tensor) -> list[Tensor]:
        x = x.clone().requires_grad_()
        y = function(x)
        y.square().sum().backward()
        return [y.detach(), x.grad]  # type: ignore[list-item]

    expected = run(x.double())
    with exact():
        found = run(x)
    # At most 27 terms below 5 in a window, at most 9 windows on an element: a few units of 2^-24 * 5 * 27.
    for a, e in zip(found, expected, strict=True):
        torch.testing.assert_close(a.double(), e, rtol=1e-5, atol=1e-5)


def test_integers_pass() -> None:
    x = torch.arange(32, dtype=torch.int64).view(1, 2, 4, 4)
    with exact():
        assert aten.max_pool2d_with_indices(x, [2])[0].flatten().tolist() == [5, 7, 13, 15, 21, 23, 29, 31]


def test_an_empty_batch_passes() -> None:
    with exact():
        assert aten.max_pool2d_with_indices(made(0, 3, 4, 4), [2])[0].shape == (0, 3, 2, 2)
        assert aten._adaptive_avg_pool2d(made(0, 3, 4, 4), [3, 1]).shape == (0, 3, 3, 1)


@pytest.mark.parametrize("bad", [-2, 66 * 65, 2**40])
def test_an_index_outside_is_found_on_a_gpu_too(bad: int) -> None:
    x, g = made(1, 1, 66, 65), made(1, 1, 33, 32)
    indices = torch.full(g.shape, -1)
    indices.view(-1)[700] = bad
    native.use("emulated")
    with exact(), pytest.raises(RuntimeError):
        aten.max_pool2d_with_indices_backward(g, x, [2], [2], [0], [1], False, indices)


@pytest.mark.parametrize(
    "call",
    [
        lambda: aten.max_pool2d_with_indices(made(1, 2, 4, 4), [2], [2], [2]),
        lambda: aten.max_pool2d_with_indices(made(1, 2, 4, 4), [0]),
        lambda: aten.max_pool2d_with_indices(made(1, 2, 4, 4), [9]),
        lambda: aten.max_pool2d_with_indices(made(4, 4), [2]),
        lambda: aten.max_pool2d_with_indices(made(1, 2, 4, 4), [2, 2, 2]),
        lambda: aten.avg_pool2d(made(1, 2, 4, 4), [2], [2], [0], False, True, 0),
        lambda: aten._adaptive_avg_pool2d(made(1, 2, 0, 4), [2, 2]),
        lambda: aten.max_pool2d_with_indices_backward(
            made(1, 2, 2, 2), made(1, 2, 4, 4), [2], [2], [0], [1], False, torch.full((1, 2, 2, 2), 16)
        ),
        lambda: aten.avg_pool2d_backward(made(1, 2, 3, 3), made(1, 2, 4, 4), [2], [2], [0], False, True, None),
    ],
)
def test_what_does_not_fit_raises(call: object) -> None:
    with exact(), pytest.raises(RuntimeError):
        call()  # type: ignore[operator]
