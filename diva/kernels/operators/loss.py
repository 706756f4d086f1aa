"""Losses with kernels of their own: negative log-likelihood, squared, smooth L1, Huber, binary cross entropy.

The others (cross entropy, L1, KL, with logits, triplet margin, cosine embedding ...) are compositions of served operators.
"""

from __future__ import annotations

import ctypes
import math

import torch
from torch import Tensor

from diva.kernels.library import native
from diva.kernels.operators.reduction import check
from diva.kernels.status import failed
from diva.kernels.table import kernel

NONE, MEAN, SUM = range(3)
SQUARED, SMOOTH_L1, HUBER = range(3)
BAD_TARGET = 3


@kernel("nll_loss_forward", "nll_loss2d_forward")
def nll(x: Tensor, target: Tensor, weight: Tensor | None, reduction: int, ignore_index: int) -> tuple[Tensor, Tensor]:
    """(REDUCE of -x[target] * w, or over the total weight; the total weight)."""
    samples, classes, inner = _classes(x, target, weight)
    x, target, place = _dense(x), _indices(target), ctypes.c_int64()
    result = x.new_empty(target.shape if reduction == NONE and x.dim() > 1 else ())
    total = x.new_empty(())
    w = None if weight is None else _dense(weight)
    status = native.of(x).nll(
        reduction,
        result.data_ptr(),
        total.data_ptr(),
        x.data_ptr(),
        target.data_ptr(),
        None if w is None else w.data_ptr(),
        ignore_index,
        samples,
        classes,
        inner,
        ctypes.addressof(place),
    )
    if status:
        _check_targets(status, target, place.value)
    return result, total


@kernel("nll_loss_backward", "nll_loss2d_backward")
def nll_backward(
    grad: Tensor,
    x: Tensor,
    target: Tensor,
    weight: Tensor | None,
    reduction: int,
    ignore_index: int,
    total_weight: Tensor,
    *,
    out: Tensor | None = None,
) -> Tensor:
    """-(w * g) at the targets, g over the total weight for the mean; +0 elsewhere."""
    samples, classes, inner = _classes(x, target, weight)
    target, place = _indices(target), ctypes.c_int64()
    expected = target.shape if reduction == NONE and x.dim() > 1 else ()
    if grad.shape != expected and not (not expected and grad.numel() == 1):
        raise RuntimeError(
            f"nll_loss_backward: expected a gradient of shape {list(expected)}, but got {list(grad.shape)}"
        )
    dx = x.new_empty(x.shape)
    g, w = _dense(grad), None if weight is None else _dense(weight)
    status = native.of(x).nll_backward(
        reduction,
        dx.data_ptr(),
        g.data_ptr(),
        total_weight.data_ptr(),
        target.data_ptr(),
        None if w is None else w.data_ptr(),
        ignore_index,
        samples,
        classes,
        inner,
        ctypes.addressof(place),
    )
    if status:
        _check_targets(status, target, place.value)
    return dx if out is None else out.copy_(dx)


@kernel("mse_loss")
def mse(x: Tensor, target: Tensor, reduction: int = MEAN, *, out: Tensor | None = None) -> Tensor:
    """d = x - target; REDUCE_fma(d, d), over n for the mean."""
    return _pair(SQUARED, x, target, reduction, 0.0, out)


@kernel("mse_loss_backward")
def mse_backward(grad: Tensor, x: Tensor, target: Tensor, reduction: int, *, out: Tensor | None = None) -> Tensor:
    """((2 c) * d) * grad, c = 1 / n for the mean."""
    return _pair_backward(SQUARED, grad, x, target, reduction, 0.0, out)


@kernel("smooth_l1_loss")
def smooth_l1(
    x: Tensor, target: Tensor, reduction: int = MEAN, beta: float = 1.0, *, out: Tensor | None = None
) -> Tensor:
    """z = |x - target|; z < beta ? ((z / 2) z) / beta : z - beta / 2; then REDUCE."""
    return _pair(SMOOTH_L1, x, target, reduction, beta, out)


@kernel("smooth_l1_loss_backward.grad_input")
def smooth_l1_backward(
    grad: Tensor, x: Tensor, target: Tensor, reduction: int, beta: float, *, grad_input: Tensor
) -> Tensor:
    """c, -c or (c d) / beta, times grad."""
    return _into(grad_input, _pair_backward(SMOOTH_L1, grad, x, target, reduction, beta, None))


@kernel("huber_loss")
def huber(x: Tensor, target: Tensor, reduction: int = MEAN, delta: float = 1.0, *, out: Tensor | None = None) -> Tensor:
    """z = |x - target|; z <= delta ? (z / 2) z : delta (z - delta / 2); then REDUCE."""
    return _pair(HUBER, x, target, reduction, delta, out)


@kernel("huber_loss_backward.out")
def huber_backward(
    grad: Tensor, x: Tensor, target: Tensor, reduction: int, delta: float, *, grad_input: Tensor
) -> Tensor:
    """c delta, -(c delta) or c d, times grad."""
    return _into(grad_input, _pair_backward(HUBER, grad, x, target, reduction, delta, None))


@kernel("binary_cross_entropy")
def binary_cross_entropy(
    x: Tensor, target: Tensor, weight: Tensor | None = None, reduction: int = MEAN, *, out: Tensor | None = None
) -> Tensor:
    """v = (y - 1) * max(log1p(-x), -100) - y * max(log(x), -100), times the weight; then REDUCE."""
    inside = ((x >= 0) & (x <= 1)).all()
    if x.is_cuda:
        torch._assert_async(inside, "all elements of input should be between 0 and 1")  # as stock: nobody waits for it
    elif not bool(inside):
        raise RuntimeError("all elements of input should be between 0 and 1")
    v = (target - 1) * torch.clamp_min(torch.log1p(-x), -100) - target * torch.clamp_min(torch.log(x), -100)
    if weight is not None:
        v = v * weight
    v = v if reduction == NONE else v.mean() if reduction == MEAN else v.sum()
    return v if out is None else out.copy_(v)


@kernel("binary_cross_entropy_backward")
def binary_cross_entropy_backward(
    grad: Tensor,
    x: Tensor,
    target: Tensor,
    weight: Tensor | None = None,
    reduction: int = MEAN,
    *,
    out: Tensor | None = None,
) -> Tensor:
    """(grad * (x - y)) / max((1 - x) * x, 1e-12), times the weight, over n for the mean."""
    dx = (grad * (x - target)) / torch.clamp_min((1 - x) * x, 1e-12)
    if weight is not None:
        dx = dx * weight
    if reduction == MEAN:
        dx = dx / x.numel()
    return dx if out is None else out.copy_(dx)


def _dense(x: Tensor) -> Tensor:
    return x if x.is_contiguous() else x.contiguous()


def _indices(target: Tensor) -> Tensor:
    return _dense(target if target.dtype is torch.int64 else target.long())


def _into(out: Tensor, result: Tensor) -> Tensor:
    return out.resize_(result.shape).copy_(result)


def _classes(x: Tensor, target: Tensor, weight: Tensor | None) -> tuple[int, int, int]:
    """(samples, classes, places in each sample); RuntimeError where the shapes do not fit, ValueError-like as stock."""
    shape, expected = x.shape, target.shape
    if target.dtype not in (torch.int64, torch.uint8):
        raise RuntimeError(f"nll_loss: expected targets of type Long or Byte, but found {target.dtype}")
    if len(shape) == 2 and len(expected) == 1 and shape[0] == expected[0]:
        sizes = shape[0], shape[1], 1
    elif len(shape) == 1 and expected.numel() == 1 and len(expected) <= 1:
        sizes = 1, shape[0], 1
    elif len(shape) == 4 and len(expected) == 3 and (shape[0], *shape[2:]) == tuple(expected):
        sizes = shape[0], shape[1], math.prod(expected[1:])
    else:
        raise RuntimeError(f"size mismatch (got input: {list(shape)}, target: {list(expected)})")
    if weight is not None and (weight.dim() != 1 or weight.shape[0] != sizes[1]):
        raise RuntimeError(f"weight tensor should be defined either for all {sizes[1]} classes or no classes")
    if weight is not None and weight.dtype is not x.dtype:
        raise RuntimeError(f"expected scalar type {x.dtype} but found {weight.dtype}")
    return sizes


def _check_targets(status: int, target: Tensor, place: int) -> None:
    if status == BAD_TARGET and not target.is_cuda:  # on a GPU the number says that it failed
        raise IndexError(f"Target {int(target.reshape(-1)[place])} is out of bounds.")
    raise failed(status, "nll_loss", IndexError("a target is out of bounds"))


def _together(x: Tensor, y: Tensor) -> tuple[Tensor, Tensor]:
    """Both of one type, one shape and one dense layout."""
    if x.dtype is not y.dtype:
        dtype = torch.result_type(x, y)
        x, y = x.to(dtype), y.to(dtype)
    if x.shape != y.shape:
        x, y = torch.broadcast_tensors(x, y)
    return x, y


def _pair(kind: int, x: Tensor, y: Tensor, reduction: int, parameter: float, out: Tensor | None) -> Tensor:
    x, y = _together(x, y)
    if reduction == NONE and _same_dense(x, y):
        result = torch.empty_like(x)  # elementwise: any one dense order of both does
    else:
        x, y = _dense(x), _dense(y)
        result = x.new_empty(x.shape if reduction == NONE else ())
    status = native.of(x).pair_loss(
        kind, reduction, result.data_ptr(), x.data_ptr(), y.data_ptr(), x.numel(), parameter
    )
    check(status, "loss")
    return result if out is None else out.copy_(result)


def _same_dense(x: Tensor, y: Tensor) -> bool:
    if x.dim() != 4 or x.stride() != y.stride():
        return False
    return x.is_contiguous(memory_format=torch.channels_last)


def _pair_backward(
    kind: int, grad: Tensor, x: Tensor, y: Tensor, reduction: int, parameter: float, out: Tensor | None
) -> Tensor:
    x, y = _together(x, y)
    step = int(grad.numel() != 1 and any(grad.stride()))
    if step:
        grad = grad if grad.shape == x.shape else grad.expand(x.shape)
    if _same_dense(x, y) and (not step or grad.stride() == x.stride()):
        dx = torch.empty_like(x)
    else:
        x, y = _dense(x), _dense(y)
        dx = x.new_empty(x.shape)
        grad = _dense(grad) if step else grad
    grad = grad if grad.dtype is x.dtype else grad.to(x.dtype)
    status = native.of(x).pair_loss_backward(
        kind, reduction, dx.data_ptr(), grad.data_ptr(), step, x.data_ptr(), y.data_ptr(), x.numel(), parameter
    )
    check(status, "loss backward")
    return dx if out is None else out.copy_(dx)
