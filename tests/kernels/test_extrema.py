"""Largest and smallest elements."""

from __future__ import annotations

import math

import pytest
import torch

from diva.kernels.exact import exact


@pytest.mark.parametrize("dim", [(), (0,), (-1,), (0, 2), (2, 1)])
@pytest.mark.parametrize("keepdim", [False, True])
def test_the_values_are_those_of_stock(dim, keepdim):
    x = torch.randn(5, 7, 9).transpose(0, 2)
    expected = [torch.amax(x, dim, keepdim), torch.amin(x, dim, keepdim)]
    with exact():
        assert all(
            torch.equal(a, b) for a, b in zip([x.amax(dim, keepdim), x.amin(dim, keepdim)], expected, strict=True)
        )


@pytest.mark.parametrize("n", [2, 17, 1000])
def test_of_equal_zeros_the_first_is_taken_whatever_the_width_of_vectors(n):
    x = torch.zeros(n)
    x[0] = -0.0
    with exact():
        for found in (x.max(), x.min(), x.amax(), x.amin(0), *x.aminmax()):
            assert math.copysign(1, found.item()) == -1


def test_nan_wins_and_gradients_flow():
    x = torch.tensor([[1.0, math.nan, 3.0], [1.0, 5.0, 3.0]], requires_grad=True)
    with exact():
        found = x.amax(1)
        found[1].backward()
    assert found[0].isnan() and found[1] == 5
    assert x.grad is not None and x.grad[1].tolist() == [0, 1, 0]


def test_integers_and_scalars_pass():
    with exact():
        assert torch.tensor(3).amax().item() == 3
        assert torch.arange(6).reshape(2, 3).amax((0, 1)).item() == 5


def test_nothing_has_no_largest_element():
    with exact(), pytest.raises(RuntimeError, match="empty"):
        torch.empty(2, 0).amax(1)
