"""Distances between rows and evenly spaced numbers: stock's values, by operators whose bits are fixed."""

from __future__ import annotations

from math import inf

import pytest
import torch

from diva.kernels.exact import exact
from diva.kernels.operators import distance


@pytest.mark.parametrize("p", [0.0, 1.0, 1.5, 2.0, 3.0, inf])
@pytest.mark.parametrize("shapes", [((5, 3), (4, 3)), ((2, 40, 3), (2, 30, 3)), ((1, 3, 2), (4, 2, 2))])
def test_values_and_gradients_are_stocks(
    p: float, shapes: tuple[tuple[int, ...], tuple[int, ...]], monkeypatch
) -> None:
    monkeypatch.setattr(distance, "_ELEMENTS", 500)  # several blocks of rows
    a, b = (torch.randn(shape, generator=torch.Generator().manual_seed(len(shape))) for shape in shapes)
    results = []
    for scope in (False, True):
        x, y = ((t if scope else t.double()).requires_grad_() for t in (a.clone(), b.clone()))
        if scope:
            with exact():
                d = torch.cdist(x, y, p, compute_mode="donot_use_mm_for_euclid_dist")
                parts = torch.autograd.grad(d.sum(), (x, y))
        else:
            d = torch.cdist(x, y, p, compute_mode="donot_use_mm_for_euclid_dist")
            parts = torch.autograd.grad(d.sum(), (x, y))
        results.append((d, *parts))
    for ours, stock in zip(results[1], results[0], strict=True):
        # sums of at most 40 slopes of order 1; differences of order 1 are rounded to 2^-24
        torch.testing.assert_close(ours.double(), stock, atol=1e-4, rtol=1e-4)


def test_equal_rows_are_at_distance_zero_with_gradient_zero() -> None:
    x = torch.ones(3, 2, requires_grad=True)
    with exact():
        d = torch.cdist(x, x.detach())
        d.sum().backward()
    assert torch.equal(d, torch.zeros(3, 3))
    assert x.grad is not None and torch.equal(x.grad, torch.zeros(3, 2))


@pytest.mark.parametrize(
    ("start", "end", "steps"), [(0, 1, 11), (-1.5, 2.25, 6), (3, -3, 2), (2, 5, 1), (0, 1, 0), (-1, 1, 1000)]
)
def test_evenly_spaced_numbers_are_stocks(start: float, end: float, steps: int) -> None:
    with exact():
        ours = torch.linspace(start, end, steps)
    torch.testing.assert_close(ours, torch.linspace(start, end, steps), atol=1e-6, rtol=0)  # 2^-24 of 3, twice
    assert steps < 2 or (float(ours[0]), float(ours[-1])) == (start, end)
