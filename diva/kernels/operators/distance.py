"""Distances between all pairs of rows, and evenly spaced numbers: composed of operators that other families serve."""

from __future__ import annotations

from collections.abc import Iterator
from math import inf

import torch
from torch import Tensor

from diva.errors import KernelError
from diva.kernels.table import kernel

_ELEMENTS = 2**22  # of the differences that exist at a time


@kernel("_cdist_forward")
def cdist(x1: Tensor, x2: Tensor, p: float, compute_mode: int | None) -> Tensor:
    """(.., P, R): the norm of x1[i] - x2[j] over the last dimension, whatever compute_mode says."""
    _check(x1, x2, p)
    parts = [_norms(part.unsqueeze(-2) - x2.unsqueeze(-3), p) for part in _row_blocks(x1, x2)]
    return parts[0] if len(parts) == 1 else torch.cat(parts, -2)


@kernel("_cdist_backward")
def cdist_backward(grad: Tensor, x1: Tensor, x2: Tensor, p: float, distances: Tensor) -> Tensor:
    """The gradient of x1: the sum over j of grad[i, j] times the slope of the norm of d = x1[i] - x2[j].

    p 1: sign(d) grad; 2: d (grad / distance); inf: sign(d) grad where |d| is the distance; else
    sign(d) |d|^(p - 1) (grad / distance^(p - 1)); 0 where the distance is 0.
    """
    _check(x1, x2, p)
    parts, first = [], 0
    for part in _row_blocks(x1, x2):
        rows = slice(first, first + part.shape[-2])
        first = rows.stop
        difference = part.unsqueeze(-2) - x2.unsqueeze(-3)
        parts.append(_slopes(difference, grad[..., rows, :], distances[..., rows, :], p).sum(-2))
    result = parts[0] if len(parts) == 1 else torch.cat(parts, -2)
    return result if result.shape == x1.shape else result.sum_to_size(x1.shape)


def _check(x1: Tensor, x2: Tensor, p: float) -> None:
    if x1.dim() < 2 or x2.dim() < 2 or x1.shape[-1] != x2.shape[-1] or x1.dtype != x2.dtype or p < 0:
        raise RuntimeError(
            f"cdist: expected rows of one length and type and p >= 0, got {list(x1.shape)}, {list(x2.shape)}, p = {p}"
        )


def _row_blocks(x1: Tensor, x2: Tensor) -> Iterator[Tensor]:
    each = x2.numel() * max(1, x1.shape[:-2].numel())
    n = max(1, _ELEMENTS // max(1, each))
    yield from (x1[..., first : first + n, :] for first in range(0, max(1, x1.shape[-2]), n))


def _norms(difference: Tensor, p: float) -> Tensor:
    if not difference.shape[-1]:
        return difference.new_zeros(difference.shape[:-1])
    norms: Tensor = torch.linalg.vector_norm(difference, p, dim=-1)
    return norms


def _slopes(difference: Tensor, grad: Tensor, distances: Tensor, p: float) -> Tensor:
    grad, distances = grad.unsqueeze(-1), distances.unsqueeze(-1)
    if p == 0:
        return torch.zeros_like(difference)
    if p == 1:
        return difference.sign() * grad
    if p == inf:
        return torch.where(difference.abs() == distances, difference.sign() * grad, 0.0)
    if p == 2:
        return torch.where(distances == 0, 0.0, difference * (grad / distances))
    scale = grad / distances.pow(p - 1)
    slopes = difference.sign() * difference.abs().pow(p - 1) * scale
    return torch.where((distances == 0) | ((difference == 0) & (p < 1)), 0.0, slopes)


@kernel("linspace.out")
def linspace(start: float, end: float, steps: int, *, out: Tensor) -> Tensor:
    """step = (end - start) / (steps - 1); the first half start + step i, the rest end - step (steps - 1 - i)."""
    if steps < 0:
        raise RuntimeError("number of steps must be non-negative")
    if not out.is_floating_point():
        raise KernelError(f"linspace: exact kernels compute in float32 and float64, not in {out.dtype}")
    out.resize_(steps)
    first, last, intervals = (out.new_full((), float(number)) for number in (start, end, steps - 1))
    if steps < 2:
        return out.copy_(first.expand(steps))
    step = (last - first) / intervals
    index = torch.arange(steps, device=out.device)
    up, down = index.to(out.dtype) * step, (steps - 1 - index).to(out.dtype) * step
    return out.copy_(torch.where(index < steps // 2, first + up, last - down))
