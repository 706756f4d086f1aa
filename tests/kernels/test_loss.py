"""Losses: the bits of the reference; values and gradients near float64; errors as in stock."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import torch
from torch.nn import functional as F

from diva.kernels import library
from diva.kernels.exact import exact
from diva.kernels.library import native
from diva.kernels.operators import loss
from diva.kernels.reference import loss as reference

REDUCTIONS = ("none", "mean", "sum")
PAIRS: dict[str, tuple[Callable[..., Any], Callable[..., Any]]] = {
    "mse": (
        lambda x, y, r: loss.mse(x, y, r),
        lambda g, x, y, r: loss.mse_backward(g, x, y, r),
    ),
    "smooth_l1": (
        lambda x, y, r: loss.smooth_l1(x, y, r, 0.7),
        lambda g, x, y, r: loss.smooth_l1_backward(g, x, y, r, 0.7, grad_input=torch.empty(0)),
    ),
    "huber": (
        lambda x, y, r: loss.huber(x, y, r, 0.7),
        lambda g, x, y, r: loss.huber_backward(g, x, y, r, 0.7, grad_input=torch.empty(0)),
    ),
}


def numbers(*shape: int, seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).standard_normal(shape).astype(np.float32)


def assert_same_bits(got: torch.Tensor, expected: Any) -> None:
    """Equal to the bit; a NaN is a NaN."""
    array, expected = np.atleast_1d(got.numpy()), np.atleast_1d(np.asarray(expected))
    assert array.dtype == expected.dtype and array.shape == expected.shape
    same = np.ascontiguousarray(array).view(np.int32) == np.ascontiguousarray(expected).view(np.int32)
    assert np.all(same | (np.isnan(array) & np.isnan(expected)))


@pytest.mark.parametrize("weighted", [False, True])
@pytest.mark.parametrize("reduction", REDUCTIONS)
def test_negative_log_likelihood_has_the_bits_of_the_reference(reduction: Any, weighted: bool) -> None:
    for shape in ((1, 3), (16, 10), (65, 7), (5000, 4), (2, 5, 9, 11), (3, 4, 50, 60), (0, 3)):
        x = numbers(*shape)
        places = (shape[0], *shape[2:])
        target = np.random.default_rng(1).integers(0, shape[1], places)
        target[np.random.default_rng(2).random(places) < 0.1] = -1
        weight = np.abs(numbers(shape[1], seed=3)) if weighted else None
        expected, total = reference.nll(x, target, weight, reduction, -1)
        g = numbers(*places, seed=4) if reduction == "none" else np.float32(0.37)
        dx = reference.nll_backward(g, shape, target, weight, reduction, total, -1)
        code = REDUCTIONS.index(reduction)
        tensors = torch.from_numpy(x), torch.from_numpy(target), None if weight is None else torch.from_numpy(weight)
        for isa in library.available():
            native.use(isa)
            got, got_total = loss.nll(*tensors, code, -1)
            assert_same_bits(got, expected)
            assert_same_bits(got_total, total)
            assert_same_bits(loss.nll_backward(torch.as_tensor(g), *tensors, code, -1, got_total), dx)


@pytest.mark.parametrize("name", PAIRS)
@pytest.mark.parametrize("reduction", REDUCTIONS)
def test_losses_of_pairs_have_the_bits_of_the_reference(name: Any, reduction: Any) -> None:
    forward, backward = PAIRS[name]
    code = REDUCTIONS.index(reduction)
    for n in (0, 1, 7, 16, 17, 63, 65, 1000, 4097, 20_001):
        x, y = numbers(n), numbers(n, seed=1)
        if n > 100:
            x[::50], x[1::50], y[2::70], x[3::90] = np.nan, np.inf, 1e-40, y[3::90]
        g = numbers(n, seed=2) if reduction == "none" else np.float32(0.37)
        expected = reference.pair(name, x, y, reduction, 0.7)
        dx = reference.pair_backward(name, g, x, y, reduction, 0.7)
        for isa in library.available():
            native.use(isa)
            assert_same_bits(forward(torch.from_numpy(x), torch.from_numpy(y), code), expected)
            got = backward(torch.as_tensor(g), torch.from_numpy(x), torch.from_numpy(y), code)
            assert_same_bits(got, dx)


@pytest.mark.parametrize("threads", [1, 2, 3, 8])
def test_threads_do_not_change_a_bit(threads: int) -> None:
    native.use()
    native.set_threads(threads)
    x, y = numbers(100_001), numbers(100_001, seed=1)
    for name, (forward, _) in PAIRS.items():
        expected = reference.pair(name, x, y, "mean", 0.7)  # type: ignore[arg-type]
        assert_same_bits(forward(torch.from_numpy(x), torch.from_numpy(y), 1), expected)


@pytest.mark.parametrize("order", [1, 2, 3])
def test_the_order_of_a_gpus_threads_does_not_change_a_bit(order: int) -> None:
    gpu = native.use("emulated")
    gpu.emulator_order(order)
    try:
        for n in (300, 9000, 33_000):
            x, y = numbers(n), numbers(n, seed=1)
            for name, (forward, _) in PAIRS.items():
                expected = reference.pair(name, x, y, "mean", 0.7)  # type: ignore[arg-type]
                assert_same_bits(forward(torch.from_numpy(x), torch.from_numpy(y), 1), expected)
            target = np.random.default_rng(1).integers(0, 2, n)
            scores = numbers(n, 2, seed=2)
            expected, _ = reference.nll(scores, target, None, "mean")
            assert_same_bits(loss.nll(torch.from_numpy(scores), torch.from_numpy(target), None, 1, -100)[0], expected)
    finally:
        gpu.emulator_order(0)


def test_a_target_that_is_no_class_is_refused_by_the_gpus_kernels() -> None:
    gpu = native.use("emulated")
    x, targets, weight = torch.zeros(3, 3), torch.tensor([0, 5, 1]), torch.ones(3)
    for reduction in range(3):
        with pytest.raises(Exception, match=r"nll_loss|out of bounds"):
            loss.nll(x, targets, weight, reduction, -100)
        with pytest.raises(Exception, match=r"nll_loss|out of bounds"):
            loss.nll_backward(torch.ones(3 if reduction == 0 else ()), x, targets, weight, reduction, -100, weight[0])
    loss.nll(x, targets.clamp(max=2), weight, 1, -100)  # the next call knows nothing of it
    assert gpu.instruction_set() == b"emulated"


@pytest.mark.parametrize("reduction", REDUCTIONS)
def test_values_and_gradients_are_near_float64(reduction: str) -> None:
    """Bound: a few roundings of each value, and sums of 600 of them."""
    generator = torch.Generator().manual_seed(0)
    x = torch.randn(30, 20, generator=generator)
    y = torch.randn(30, 20, generator=generator)
    labels = torch.randint(0, 20, (30,), generator=generator)
    weight = torch.rand(20, generator=generator)
    calls: list[Callable[[torch.Tensor, torch.dtype], torch.Tensor]] = [
        lambda t, d: F.cross_entropy(t, labels, reduction=reduction),
        lambda t, d: F.cross_entropy(t, labels, weight.to(d), ignore_index=3, reduction=reduction, label_smoothing=0.1),
        lambda t, d: F.cross_entropy(t, y.softmax(1).to(d), reduction=reduction),
        lambda t, d: F.mse_loss(t, y.to(d), reduction=reduction),
        lambda t, d: F.mse_loss(t, y[:, :1].expand(30, 20).to(d), reduction=reduction),
        lambda t, d: F.l1_loss(t, y.to(d), reduction=reduction),
        lambda t, d: F.smooth_l1_loss(t, y.to(d), reduction=reduction, beta=0.5),
        lambda t, d: F.huber_loss(t, y.to(d), reduction=reduction, delta=0.5),
        lambda t, d: F.binary_cross_entropy(t.sigmoid(), y.sigmoid().to(d), reduction=reduction),
        lambda t, d: F.binary_cross_entropy_with_logits(
            t, y.sigmoid().to(d), reduction=reduction, pos_weight=weight.to(d)
        ),
        lambda t, d: F.kl_div(t.log_softmax(1), y.softmax(1).to(d), reduction=reduction),
    ]
    for number, call in enumerate(calls):
        wide = x.double().requires_grad_()
        expected = call(wide, torch.float64)
        expected.sum().backward()
        ours = x.clone().requires_grad_()
        with exact():
            got = call(ours, torch.float32)
            got.sum().backward()
        torch.testing.assert_close(got.double(), expected, rtol=1e-5, atol=1e-5, msg=lambda m, k=number: f"{k}: {m}")
        torch.testing.assert_close(
            ours.grad.double(), wide.grad, rtol=1e-5, atol=1e-5, msg=lambda m, k=number: f"{k}: {m}"
        )


def test_layout_does_not_change_a_bit_and_is_kept_without_reduction() -> None:
    x, y = torch.from_numpy(numbers(2, 3, 5, 7)), torch.from_numpy(numbers(2, 3, 5, 7, seed=1))
    last = [t.to(memory_format=torch.channels_last) for t in (x, y)]
    for forward, backward in PAIRS.values():
        for code in range(3):
            assert torch.equal(forward(*last, code), forward(x, y, code))
            assert torch.equal(forward(last[0], y, code), forward(x, y, code))
            g = y if code == 0 else torch.tensor(0.3)
            assert torch.equal(backward(g, *last, code), backward(g, x, y, code))
        assert forward(*last, 0).stride() == last[0].stride()


def test_targets_and_shapes_that_stock_refuses_are_refused() -> None:
    x = torch.zeros(4, 3)
    with exact():
        for target in (torch.tensor([0, 1, 2, 3]), torch.tensor([0, -1, 2, 0])):
            with pytest.raises(IndexError, match="out of bounds"):
                F.nll_loss(x, target)
        with pytest.raises((RuntimeError, ValueError)):
            F.nll_loss(x, torch.zeros(5, dtype=torch.long))
        with pytest.raises(RuntimeError):
            F.nll_loss(x, torch.zeros(4, dtype=torch.long), weight=torch.ones(4))
        with pytest.raises(RuntimeError):
            F.mse_loss(x, torch.zeros(5, 3))
        with pytest.raises(RuntimeError, match="between 0 and 1"):
            F.binary_cross_entropy(x - 1, x)
        assert torch.isnan(F.nll_loss(torch.zeros(0, 3), torch.zeros(0, dtype=torch.long)))
