"""Softmax, log-softmax and their gradients, along any dimension. Results are contiguous, as stock's are."""

from __future__ import annotations

import math

import torch
from torch import Tensor

from diva.errors import KernelError
from diva.kernels.library import native
from diva.kernels.operators.reduction import check
from diva.kernels.table import kernel


@kernel("_softmax")
def softmax(x: Tensor, dim: int, half_to_float: bool, *, out: Tensor | None = None) -> Tensor:
    """e = EXP32(x - max); e / REDUCE(e)."""
    if half_to_float:
        raise KernelError(
            "softmax with half to float conversion: exact kernels compute in float32 and float64 throughout"
        )
    if not x.is_contiguous():
        x = x.contiguous()
    outer, n, inner = _split(x.shape, dim)
    result = torch.empty_like(x) if out is None or not out.is_contiguous() else out
    status = native.of(x).softmax(result.data_ptr(), x.data_ptr(), outer, n, inner)
    if status:
        check(status, "softmax")
    return result if out is None or result is out else out.copy_(result)


@kernel("_log_softmax")
def log_softmax(x: Tensor, dim: int, half_to_float: bool, *, out: Tensor | None = None) -> Tensor:
    """(x - max) - LOG(REDUCE(EXP32(x - max)))."""
    if half_to_float:
        raise KernelError("log_softmax with half to float conversion: exact kernels compute in float32 and float64")
    if not x.is_contiguous():
        x = x.contiguous()
    outer, n, inner = _split(x.shape, dim)
    result = torch.empty_like(x) if out is None or not out.is_contiguous() else out
    status = native.of(x).log_softmax(result.data_ptr(), x.data_ptr(), outer, n, inner)
    if status:
        check(status, "log_softmax")
    return result if out is None or result is out else out.copy_(result)


@kernel("_softmax_backward_data")
def softmax_backward(g: Tensor, y: Tensor, dim: int, input_dtype: torch.dtype, *, out: Tensor | None = None) -> Tensor:
    """t = REDUCE_fma(g, y); y * (g - t)."""
    g, y = _pair(g, y, input_dtype)
    result = torch.empty_like(g) if out is None or not out.is_contiguous() else out
    status = native.of(g).softmax_backward(result.data_ptr(), g.data_ptr(), y.data_ptr(), *_split(g.shape, dim))
    if status:
        check(status, "softmax backward")
    return result if out is None or result is out else out.copy_(result)


@kernel("_log_softmax_backward_data")
def log_softmax_backward(
    g: Tensor, y: Tensor, dim: int, input_dtype: torch.dtype, *, out: Tensor | None = None
) -> Tensor:
    """t = REDUCE(g); g - EXP32(y) * t."""
    g, y = _pair(g, y, input_dtype)
    result = torch.empty_like(g) if out is None or not out.is_contiguous() else out
    status = native.of(g).log_softmax_backward(result.data_ptr(), g.data_ptr(), y.data_ptr(), *_split(g.shape, dim))
    if status:
        check(status, "log_softmax backward")
    return result if out is None or result is out else out.copy_(result)


def _pair(g: Tensor, y: Tensor, input_dtype: torch.dtype) -> tuple[Tensor, Tensor]:
    if g.shape != y.shape or g.dtype is not y.dtype:
        raise RuntimeError(
            f"Expected tensors of one shape and type, but got {g.dtype} {list(g.shape)} and {y.dtype} {list(y.shape)}"
        )
    if input_dtype is not g.dtype:
        raise KernelError(
            f"softmax from {input_dtype} to {g.dtype}: exact kernels compute in float32 and float64 throughout"
        )
    return g if g.is_contiguous() else g.contiguous(), y if y.is_contiguous() else y.contiguous()


def _split(shape: torch.Size, dim: int) -> tuple[int, int, int]:
    """(elements before the dimension, its length, elements after it)."""
    rank = len(shape)
    if rank == 2 and (dim == 1 or dim == -1):
        return shape[0], shape[1], 1
    limit = max(rank, 1)
    if not -limit <= dim < limit:
        raise IndexError(f"Dimension out of range (expected to be in range of [{-limit}, {limit - 1}], but got {dim})")
    if rank == 0:
        return 1, 1, 1
    at = dim % rank
    return math.prod(shape[:at]), shape[at], math.prod(shape[at + 1 :])
