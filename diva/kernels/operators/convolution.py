"""Convolution as PyTorch operators: every nn.Conv* and nn.ConvTranspose* comes here, forward and backward.

`aten::convolution` and `aten::convolution_backward` have no CPU kernel of their own in stock PyTorch (they choose a backend);
ours stand at the CPU key, below autograd, so that autograd's own formula for them holds.
"""

from __future__ import annotations

import ctypes
from collections.abc import Sequence
from functools import lru_cache
from typing import NamedTuple

import torch
from torch import Tensor

from diva.kernels.library import native
from diva.kernels.status import failed
from diva.kernels.table import kernel

Ints = Sequence[int]
_FORMATS = {4: torch.channels_last, 5: torch.channels_last_3d}


class _Plan(NamedTuple):
    """What one pair of shapes needs: made once, kept."""

    address: int  # of the 37 numbers that convolution.h describes
    numbers: ctypes.Array[ctypes.c_int64]
    shape: tuple[int, ...]  # of the output


@lru_cache(maxsize=4096)
def _plan(
    x_shape: tuple[int, ...],
    w_shape: tuple[int, ...],
    stride: tuple[int, ...],
    padding: tuple[int, ...],
    dilation: tuple[int, ...],
    transposed: bool,
    output_padding: tuple[int, ...],
    groups: int,
    x_strides: tuple[int, ...],
    w_strides: tuple[int, ...],
    y_strides: tuple[int, ...] | None,
) -> _Plan:
    """Check the shapes as stock does and lay the numbers out; y_strides None: only the output's shape is wanted."""
    n_spatial = len(x_shape) - 2
    if n_spatial not in (1, 2, 3) or len(w_shape) != len(x_shape):
        raise RuntimeError(
            f"convolution: expected input and weight of 3, 4 or 5 dimensions, got {x_shape} and {w_shape}"
        )
    stride, padding, dilation = (_spread(v, n_spatial) for v in (stride, padding, dilation))
    extra = _spread(output_padding, n_spatial) if transposed else (0,) * n_spatial
    kernel_size, size = w_shape[2:], x_shape[2:]
    if min(stride) <= 0 or min(dilation) <= 0:
        raise RuntimeError(f"convolution: stride and dilation must be positive, got {stride} and {dilation}")
    if min(padding) < 0:
        raise RuntimeError(f"convolution: negative padding is not supported, got {padding}")
    if min(kernel_size) <= 0:
        raise RuntimeError(f"convolution: kernel size must be positive, got {kernel_size}")
    if groups <= 0 or w_shape[0] % groups or w_shape[0] < groups:
        raise RuntimeError(f"convolution: weight of shape {w_shape} cannot be divided into groups={groups}")
    channels = w_shape[0] if transposed else w_shape[1] * groups
    if x_shape[1] != channels:
        raise RuntimeError(
            f"Given groups={groups}, {'transposed, ' if transposed else ''}weight of size {list(w_shape)}, expected input"
            f"{list(x_shape)} to have {channels} channels, but got {x_shape[1]} channels instead"
        )
    reach = [d * (k - 1) + 1 for d, k in zip(dilation, kernel_size, strict=True)]
    if transposed:
        if any(e < 0 or (e >= s and e >= d) for e, s, d in zip(extra, stride, dilation, strict=True)):
            raise RuntimeError(f"output padding must be smaller than either stride or dilation, but got {extra}")
        grown = zip(size, stride, padding, reach, extra, strict=True)
        out_size = tuple((n - 1) * s - 2 * p + r + e for n, s, p, r, e in grown)
        out_channels = w_shape[1] * groups
    else:
        shrunk = zip(size, stride, padding, reach, strict=True)
        out_size = tuple((n + 2 * p - r) // s + 1 if n + 2 * p >= r else 0 for n, s, p, r in shrunk)
        out_channels = w_shape[0]
    if min(out_size) <= 0:
        raise RuntimeError(
            f"convolution: calculated output size {out_size} is too small (input {size}, kernel {kernel_size}, stride {stride}, "
            f"padding {padding}, dilation {dilation})"
        )
    shape = (x_shape[0], out_channels, *out_size)
    if y_strides is None:
        return _Plan(0, (ctypes.c_int64 * 1)(), shape)
    front = (3 - n_spatial) * (1,)
    zero = (3 - n_spatial) * (0,)
    image, result = (shape, x_shape) if transposed else (x_shape, shape)
    image_strides, result_strides = (y_strides, x_strides) if transposed else (x_strides, y_strides)
    numbers = (
        *(x_shape[0], groups, image[1], result[1]),
        *(*front, *image[2:], *front, *result[2:], *front, *kernel_size),
        *(*front, *stride, *zero, *padding, *front, *dilation),
        *(*image_strides[:2], *zero, *image_strides[2:], *result_strides[:2], *zero, *result_strides[2:]),
        *(*w_strides[:2], *zero, *w_strides[2:]),
    )
    array = (ctypes.c_int64 * 37)(*numbers)
    return _Plan(ctypes.addressof(array), array, shape)


def _spread(values: tuple[int, ...], n: int) -> tuple[int, ...]:
    if len(values) == n:
        return values
    if len(values) == 1:
        return values * n
    raise RuntimeError(f"convolution: expected {n} numbers for {n} spatial dimensions, got {values}")


def _format(x: Tensor, weight: Tensor) -> torch.memory_format:
    """Channels-last where the input or the weight is, as stock has it; else contiguous."""
    if x.is_contiguous() and weight.is_contiguous():
        return torch.contiguous_format
    last = _FORMATS.get(x.dim())
    if last is not None:
        for tensor in (x, weight):
            if tensor.is_contiguous(memory_format=last) and not tensor.is_contiguous():
                return last
    return torch.contiguous_format


def _empty(x: Tensor, shape: tuple[int, ...], memory_format: torch.memory_format) -> Tensor:
    if memory_format is torch.contiguous_format:
        return x.new_empty(shape)
    return torch.empty(shape, dtype=x.dtype, device=x.device, memory_format=memory_format)


def _check(x: Tensor, weight: Tensor, *others: Tensor | None) -> None:
    for tensor in (weight, *others):
        if tensor is not None and tensor.dtype != x.dtype:
            raise RuntimeError(
                f"convolution: input, weight, bias and gradient must have one dtype, got {x.dtype} and {tensor.dtype}"
            )


def _run(name: str, x: Tensor, *arguments: int) -> None:
    status = getattr(native.of(x), name)(*arguments)
    if status:
        raise failed(status, name)


@kernel("convolution", "convolution_overrideable")
def convolution(
    x: Tensor,
    weight: Tensor,
    bias: Tensor | None,
    stride: Ints,
    padding: Ints,
    dilation: Ints,
    transposed: bool,
    output_padding: Ints,
    groups: int,
) -> Tensor:
    """DOT over (channel, tap), then the bias: `reference.convolution.forward`; transposed: `input_gradient` of it."""
    _check(x, weight, bias)
    how = (tuple(stride), tuple(padding), tuple(dilation), transposed, tuple(output_padding), groups)
    x_shape, w_shape = tuple(x.shape), tuple(weight.shape)
    shape = _plan(x_shape, w_shape, *how, (), (), None).shape
    y = _empty(x, shape, _format(x, weight))
    if bias is not None:
        if bias.dim() != 1 or bias.shape[0] != shape[1]:
            raise RuntimeError(f"convolution: expected bias of {shape[1]} numbers, got shape {tuple(bias.shape)}")
        bias = bias.contiguous()
    if y.numel():
        plan = _plan(x_shape, w_shape, *how, x.stride(), weight.stride(), y.stride())
        added = bias.data_ptr() if bias is not None else 0
        name = "conv_input" if transposed else "conv_forward"
        _run(name, x, x.data_ptr(), weight.data_ptr(), added, y.data_ptr(), plan.address)
    return y


@kernel("convolution_backward", "convolution_backward_overrideable")
def convolution_backward(
    g: Tensor,
    x: Tensor,
    weight: Tensor,
    bias_sizes: Ints | None,
    stride: Ints,
    padding: Ints,
    dilation: Ints,
    transposed: bool,
    output_padding: Ints,
    groups: int,
    output_mask: Sequence[bool],
) -> tuple[Tensor | None, Tensor | None, Tensor | None]:
    """The gradients that output_mask asks for: `reference.convolution`, `input_gradient`, `weight_gradient`, `bias_gradient`."""
    _check(x, weight, g)
    how = (tuple(stride), tuple(padding), tuple(dilation), transposed, tuple(output_padding), groups)
    x_shape, w_shape = tuple(x.shape), tuple(weight.shape)
    shape = _plan(x_shape, w_shape, *how, (), (), None).shape
    if tuple(g.shape) != shape:
        raise RuntimeError(f"convolution_backward: expected a gradient of shape {shape}, got {tuple(g.shape)}")
    memory_format = _format(x, weight)
    g_strides, x_strides, w_strides = g.stride(), x.stride(), weight.stride()
    dx = dw = db = None
    if output_mask[0]:
        dx = _empty(x, x_shape, memory_format)
        if dx.numel():
            plan = _plan(x_shape, w_shape, *how, dx.stride(), w_strides, g_strides)
            name = "conv_forward" if transposed else "conv_input"
            _run(name, x, g.data_ptr(), weight.data_ptr(), 0, dx.data_ptr(), plan.address)
    if output_mask[1]:
        dw = _empty(x, w_shape, memory_format)
        if dw.numel():
            plan = _plan(x_shape, w_shape, *how, x_strides, dw.stride(), g_strides)
            # the gradient lies on the output of the convolution that the kernel is told, which a transposed one reverses
            first, second = (x, g) if transposed else (g, x)
            _run("conv_weight", x, first.data_ptr(), second.data_ptr(), dw.data_ptr(), plan.address)
    if output_mask[2]:
        db = x.new_empty((shape[1],))
        if db.numel():
            plan = _plan(x_shape, w_shape, *how, x_strides, w_strides, g_strides)
            _run("conv_bias", x, g.data_ptr(), db.data_ptr(), plan.address, 2 if transposed else 3)
    return dx, dw, db
