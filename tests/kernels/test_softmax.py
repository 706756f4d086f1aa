"""Softmax and log-softmax: the bits of the reference along any dimension; values and gradients near float64."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import torch

from diva.kernels import library
from diva.kernels.exact import exact
from diva.kernels.library import native
from diva.kernels.operators import softmax
from diva.kernels.reference import softmax as reference

FORWARD: dict[str, tuple[Callable[..., Any], Callable[..., Any]]] = {
    "softmax": (softmax.softmax, reference.softmax),
    "log_softmax": (softmax.log_softmax, reference.log_softmax),
}
BACKWARD: dict[str, tuple[Callable[..., Any], Callable[..., Any]]] = {
    "softmax": (softmax.softmax_backward, reference.softmax_backward),
    "log_softmax": (softmax.log_softmax_backward, reference.log_softmax_backward),
}
SIZES = (1, 2, 7, 8, 9, 10, 15, 16, 17, 33, 63, 64, 65, 100, 257, 1000, 4097, 9000)


def scores(*shape: int, seed: int = 0) -> np.ndarray:
    return (np.random.default_rng(seed).standard_normal(shape) * 5).astype(np.float32)


def assert_same_bits(got: torch.Tensor, expected: np.ndarray) -> None:
    """Equal to the bit; a NaN is a NaN."""
    array = np.ascontiguousarray(got.numpy())
    assert array.dtype == expected.dtype and array.shape == expected.shape
    same = array.view(np.int32) == np.ascontiguousarray(expected).view(np.int32)
    assert np.all(same | (np.isnan(array) & np.isnan(expected)))


@pytest.mark.parametrize("name", FORWARD)
def test_rows_and_columns_have_the_bits_of_the_reference(name: str) -> None:
    ours, specified = FORWARD[name]
    gradient, specified_gradient = BACKWARD[name]
    for n in SIZES:
        x, g = scores(19 if n < 200 else 3, n, seed=n), scores(19 if n < 200 else 3, n, seed=n + 1)
        y = specified(x)
        dx = specified_gradient(g, y)
        wide = torch.from_numpy(np.repeat(x.T[:, :, None], 3, 2).copy())  # (n, rows, 3): columns
        for isa in library.available():
            native.use(isa)
            assert_same_bits(ours(torch.from_numpy(x), 1, False), y)
            assert_same_bits(ours(wide, 0, False)[:, :, 1].t(), y)
            assert_same_bits(gradient(torch.from_numpy(g), torch.from_numpy(y), -1, torch.float32), dx)
            turned = [torch.from_numpy(np.ascontiguousarray(a.T)) for a in (g, y)]
            assert_same_bits(gradient(*turned, 0, torch.float32).t(), dx)


@pytest.mark.parametrize("name", FORWARD)
def test_special_scores_have_the_bits_of_the_reference(name: str) -> None:
    ours, specified = FORWARD[name]
    inf, nan = np.inf, np.nan
    rows = [[0.0, -0.0, 0.0], [-inf, 1.0, 2.0], [-inf, -inf, -inf], [inf, 0.0, 1.0], [nan, 0.0, 1.0], [0.0, 1.0, nan],
            [1e-40, -1e-40, 0.0], [-200.0, 0.0, -90.0], [3e38, -3e38, 1.0], [-103.9, -103.0, 0.0]]  # fmt: skip
    for repeat in (1, 7, 25):
        x = np.array([row * repeat for row in rows], np.float32)
        for isa in library.available():
            native.use(isa)
            assert_same_bits(ours(torch.from_numpy(x), 1, False), specified(x))
            assert_same_bits(ours(torch.from_numpy(x).t(), 0, False).t(), specified(x))


@pytest.mark.parametrize("threads", [1, 2, 3, 8])
@pytest.mark.parametrize("name", FORWARD)
def test_threads_do_not_change_a_bit(name: str, threads: int) -> None:
    ours, specified = FORWARD[name]
    native.use()
    native.set_threads(threads)
    x = scores(500, 130)
    assert_same_bits(ours(torch.from_numpy(x), 1, False), specified(x))
    assert_same_bits(ours(torch.from_numpy(x), 0, False), np.ascontiguousarray(specified(np.ascontiguousarray(x.T)).T))


@pytest.mark.parametrize("name", FORWARD)
def test_the_order_of_a_gpus_threads_does_not_change_a_bit(name: str) -> None:
    ours, specified = FORWARD[name]
    gradient, specified_gradient = BACKWARD[name]
    gpu = native.use("emulated")
    try:
        for n in (10, 50, 200, 900, 1500, 9000):
            x, g = scores(5, n, seed=n), scores(5, n, seed=n + 1)
            y = specified(x)
            dx = specified_gradient(g, y)
            for order in (1, 2, 3):
                gpu.emulator_order(order)
                assert_same_bits(ours(torch.from_numpy(x), 1, False), y)
                assert_same_bits(ours(torch.from_numpy(x).t(), 0, False).t(), y)
                assert_same_bits(gradient(torch.from_numpy(g), torch.from_numpy(y), -1, torch.float32), dx)
    finally:
        gpu.emulator_order(0)


@pytest.mark.parametrize("dim", [0, 1, 2, -1])
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_values_and_gradients_are_near_float64(dim: int, dtype: torch.dtype) -> None:
    """Bound: the exponential and the logarithm err by an ulp, the sum of 21 by a few; float64 a thousandth of that."""
    x = torch.from_numpy(scores(6, 21, 35))
    tolerance = 3e-6 if dtype is torch.float32 else 1e-13
    for function in (torch.softmax, torch.log_softmax):
        wide = x.double().requires_grad_()
        expected = function(wide, dim)
        (expected * torch.arange(35)).sum().backward()
        ours = x.clone().to(dtype).requires_grad_()
        with exact():
            got = function(ours, dim)
            (got * torch.arange(35)).sum().backward()
        assert got.is_contiguous() and got.dtype == dtype
        torch.testing.assert_close(got.double(), expected, rtol=tolerance, atol=tolerance)
        torch.testing.assert_close(ours.grad.double(), wide.grad, rtol=tolerance * 100, atol=tolerance * 1000)


def test_layout_of_the_input_does_not_change_a_bit() -> None:
    x = torch.from_numpy(scores(2, 21, 9, 11))
    with exact():
        expected = torch.softmax(x, 1)
        assert torch.equal(torch.softmax(x.to(memory_format=torch.channels_last), 1), expected)
        assert torch.equal(torch.softmax(x[:1].expand(3, -1, -1, -1), 1)[2], expected[0])
        assert torch.equal(torch.softmax(x.transpose(1, 3), 3).transpose(1, 3), expected)


def test_empty_and_scalar_tensors_and_bad_arguments_are_as_in_stock() -> None:
    with exact():
        assert torch.softmax(torch.tensor(3.0), 0).item() == 1.0
        assert torch.softmax(torch.empty(0, 3), 1).shape == (0, 3)
        assert torch.log_softmax(torch.empty(3, 0), 1).shape == (3, 0)
        with pytest.raises(IndexError):
            torch.softmax(torch.zeros(3), 1)
        with pytest.raises(RuntimeError):
            torch.ops.aten._softmax_backward_data(torch.zeros(3), torch.zeros(4), 0, torch.float32)
