"""Pooling operators: maxima, averages and adaptive windows, forward and backward, in any layout."""

from __future__ import annotations

import ctypes
from collections.abc import Sequence
from functools import lru_cache
from typing import Any, NamedTuple

import torch
from torch import Tensor

from diva.kernels.library import native
from diva.kernels.status import failed
from diva.kernels.table import kernel, stock

Sizes = Sequence[int]

_stock_max_pool2d = stock("max_pool2d_with_indices")
_stock_max_pool3d = stock("max_pool3d_with_indices")
_stock_avg_pool2d = stock("avg_pool2d")
_stock_avg_pool3d = stock("avg_pool3d")

_CHANNELS_LAST = {2: torch.channels_last, 3: torch.channels_last_3d}


class _Plan(NamedTuple):
    """What a call needs beside the tensors: made once for each combination of shape and arguments."""

    planes: Any  # the geometry (pooling.h) of planes
    pixels: Any  # and of channels last
    shape: tuple[int, ...]  # of the output


def _plan(
    name: str,
    shape: tuple[int, ...],
    dims: int,
    outputs: tuple[int, ...],
    numbers: tuple[tuple[int, ...], ...],
    *flags: int,
) -> _Plan:
    if len(shape) not in (dims + 1, dims + 2) or any(size == 0 for size in shape[-dims - 1 :]):
        raise RuntimeError(
            f"{name}(): expected a {dims + 1}- or {dims + 2}-dimensional tensor whose dimensions, but for the batch, are not empty; "
            f"got the shape {list(shape)}"
        )
    samples = shape[0] if len(shape) == dims + 2 else 1
    channels, space = shape[-dims - 1], shape[-dims:]
    ones = (1,) * (3 - dims)
    kernel_size, stride, padding, dilation = numbers
    lists = (
        ones + space,
        ones + outputs,
        ones + kernel_size,
        ones + stride,
        (0,) * (3 - dims) + padding,
        ones + dilation,
    )
    rest = [number for sizes in lists for number in sizes] + list(flags)
    array = ctypes.c_int64 * 24
    return _Plan(array(0, samples * channels, 1, *rest), array(1, samples, channels, *rest), (*shape[:-dims], *outputs))


def _spread(name: str, what: str, value: Sizes, dims: int) -> tuple[int, ...]:
    if len(value) not in (1, dims):
        raise RuntimeError(f"{name}(): {what} must be one number or {dims} numbers, got {list(value)}")
    return tuple(value) * dims if len(value) == 1 else tuple(value)


@lru_cache(maxsize=4096)
def _windows(
    name: str, shape: tuple[int, ...], kernel_size: Sizes, stride: Sizes, padding: Sizes, dilation: Sizes, ceil_mode: bool,
    include_pad: bool, divisor: int | None,
) -> _Plan:  # fmt: skip
    dims = int(name[-2])
    kernel_size = _spread(name, "kernel_size", kernel_size, dims)
    stride = _spread(name, "stride", stride, dims) if stride else kernel_size
    padding, dilation = _spread(name, "padding", padding, dims), _spread(name, "dilation", dilation, dims)
    if min(kernel_size) < 1:
        raise RuntimeError(f"{name}(): kernel size should be greater than zero, but got {list(kernel_size)}")
    if min(stride) < 1 or min(dilation) < 1:
        raise RuntimeError(
            f"{name}(): stride and dilation should be greater than zero, but got {stride} and {dilation}"
        )
    if divisor == 0:
        raise RuntimeError("divisor must be not zero")
    outputs = []
    for size, k, s, p, d in zip(shape[-dims:], kernel_size, stride, padding, dilation, strict=True):
        if p < 0 or p > k // 2:
            raise RuntimeError(
                f"{name}(): pad should be at least zero and at most half of the kernel size, "
                f"but got pad={p} and kernel_size={k}"
            )
        n = (size + 2 * p - d * (k - 1) - 1 + (s - 1 if ceil_mode else 0)) // s + 1
        if ceil_mode and (n - 1) * s >= size + p:
            n -= 1
        if n < 1:
            raise RuntimeError(f"{name}(): Output size is too small: {n} for an input of {list(shape)}")
        outputs.append(n)
    numbers = (kernel_size, stride, padding, dilation)
    return _plan(name, shape, dims, tuple(outputs), numbers, 0, int(include_pad), divisor or 0)


@lru_cache(maxsize=4096)
def _adaptive(name: str, shape: tuple[int, ...], output_size: tuple[int, ...]) -> _Plan:
    dims = int(name[-2])
    outputs = _spread(name, "output_size", output_size, dims)
    if min(outputs) < 0:
        raise RuntimeError(f"{name}(): elements of output_size must be greater than or equal to 0, got {list(outputs)}")
    return _plan(name, shape, dims, outputs, ((1,) * dims,) * 3 + ((1,) * dims,), 1, 0, 0)


def _dense(x: Tensor, dims: int) -> tuple[Tensor, bool]:
    """x in one of the two layouts, and whether that is channels last."""
    if x.is_contiguous():
        return x, False
    if x.dim() == dims + 2:
        if x.is_contiguous(memory_format=_CHANNELS_LAST[dims]):
            return x, True
        if torch._prims_common.suggest_memory_format(x) is not torch.contiguous_format:
            return x.contiguous(memory_format=_CHANNELS_LAST[dims]), True
    return x.contiguous(), False


def _as(x: Tensor, dims: int, pixels: bool) -> Tensor:
    return x.contiguous(memory_format=_CHANNELS_LAST[dims]) if pixels else x.contiguous()


def _empty(x: Tensor, shape: tuple[int, ...], dims: int, pixels: bool, dtype: torch.dtype | None = None) -> Tensor:
    if pixels:
        return torch.empty(shape, dtype=dtype or x.dtype, device=x.device, memory_format=_CHANNELS_LAST[dims])
    return x.new_empty(shape, dtype=dtype)


def _check(status: int, name: str) -> None:
    if status:
        said = RuntimeError(f"{name}: an index lies outside the input, or a plane has more than 2^30 elements")
        raise failed(status, name, said)


def _max_pool(x: Tensor, plan: _Plan, dims: int) -> tuple[Tensor, Tensor]:
    x, pixels = _dense(x, dims)
    y = _empty(x, plan.shape, dims, pixels)
    indices = _empty(x, plan.shape, dims, pixels, torch.int64)
    status = native.of(x).max_pool(
        x.data_ptr(), y.data_ptr(), indices.data_ptr(), plan.pixels if pixels else plan.planes
    )
    if status:
        _check(status, f"max_pool{dims}d")
    return y, indices


def _max_pool_backward(name: str, g: Tensor, x: Tensor, indices: Tensor, dims: int) -> Tensor:
    if g.shape != indices.shape or g.shape[:-dims] != x.shape[:-dims]:
        raise RuntimeError(
            f"{name}(): expected gradient and indices of one shape, with the input's samples and channels; "
            f"got {list(g.shape)}, {list(indices.shape)} and an input of {list(x.shape)}"
        )
    if g.dtype != x.dtype:
        raise RuntimeError(f"{name}(): expected dtype {x.dtype} for the gradient, got {g.dtype}")
    pixels = not x.is_contiguous() and _dense(x, dims)[1]
    g, indices = _as(g, dims, pixels), _as(indices, dims, pixels)
    dx = _empty(x, x.shape, dims, pixels)
    space, outputs = x.shape[-dims:].numel(), g.shape[-dims:].numel()
    channels = x.shape[1] if pixels else 1
    n = x.shape[0] if pixels else x.shape[:-dims].numel()
    status = native.of(x).max_pool_backward(
        g.data_ptr(), indices.data_ptr(), dx.data_ptr(), n, channels, space, outputs
    )
    if status:
        _check(status, name)
    return dx


def _average_pool(x: Tensor, plan: _Plan, dims: int) -> Tensor:
    x, pixels = _dense(x, dims)
    y = _empty(x, plan.shape, dims, pixels)
    _check(native.of(x).average_pool(x.data_ptr(), y.data_ptr(), plan.pixels if pixels else plan.planes), "avg_pool")
    return y


def _average_pool_backward(name: str, g: Tensor, x: Tensor, plan: _Plan, dims: int) -> Tensor:
    if g.shape != plan.shape or g.dtype != x.dtype:
        raise RuntimeError(
            f"{name}(): expected a gradient of shape {list(plan.shape)} and {x.dtype}, got {list(g.shape)} and {g.dtype}"
        )
    pixels = not x.is_contiguous() and _dense(x, dims)[1]
    g = _as(g, dims, pixels)
    dx = _empty(x, x.shape, dims, pixels)
    status = native.of(x).average_pool_backward(g.data_ptr(), dx.data_ptr(), plan.pixels if pixels else plan.planes)
    _check(status, name)
    return dx


def _is_whole(x: Tensor) -> bool:
    return not x.dtype.is_floating_point and not x.dtype.is_complex


@kernel("max_pool2d_with_indices")
def max_pool2d_with_indices(
    self: Tensor,
    kernel_size: Sizes,
    stride: Sizes = (),
    padding: Sizes = (0,),
    dilation: Sizes = (1,),
    ceil_mode: bool = False,
) -> tuple[Tensor, Tensor]:
    """Maxima of windows and their indices; integers by torch, as exact."""
    if _is_whole(self):
        return _stock_max_pool2d(self, kernel_size, stride, padding, dilation, ceil_mode)  # type: ignore[no-any-return]
    plan = _windows(
        "max_pool2d",
        self.shape,
        tuple(kernel_size),
        tuple(stride),
        tuple(padding),
        tuple(dilation),
        ceil_mode,
        False,
        None,
    )
    return _max_pool(self, plan, 2)


@kernel("max_pool3d_with_indices")
def max_pool3d_with_indices(
    self: Tensor,
    kernel_size: Sizes,
    stride: Sizes = (),
    padding: Sizes = (0,),
    dilation: Sizes = (1,),
    ceil_mode: bool = False,
) -> tuple[Tensor, Tensor]:
    """Maxima of windows and their indices; integers by torch, as exact."""
    if _is_whole(self):
        return _stock_max_pool3d(self, kernel_size, stride, padding, dilation, ceil_mode)  # type: ignore[no-any-return]
    plan = _windows(
        "max_pool3d",
        self.shape,
        tuple(kernel_size),
        tuple(stride),
        tuple(padding),
        tuple(dilation),
        ceil_mode,
        False,
        None,
    )
    return _max_pool(self, plan, 3)


@kernel("max_pool2d_with_indices_backward")
def max_pool2d_with_indices_backward(
    grad_output: Tensor, self: Tensor, kernel_size: Sizes, stride: Sizes, padding: Sizes, dilation: Sizes, ceil_mode: bool,
    indices: Tensor,
) -> Tensor:  # fmt: skip
    """Gradient of the input."""
    return _max_pool_backward("max_pool2d_backward", grad_output, self, indices, 2)


@kernel("max_pool3d_with_indices_backward")
def max_pool3d_with_indices_backward(
    grad_output: Tensor, self: Tensor, kernel_size: Sizes, stride: Sizes, padding: Sizes, dilation: Sizes, ceil_mode: bool,
    indices: Tensor,
) -> Tensor:  # fmt: skip
    """Gradient of the input."""
    return _max_pool_backward("max_pool3d_backward", grad_output, self, indices, 3)


@kernel("adaptive_max_pool2d")
def adaptive_max_pool2d(self: Tensor, output_size: Sizes) -> tuple[Tensor, Tensor]:
    """Maxima of adaptive windows and their indices."""
    return _max_pool(self, _adaptive("adaptive_max_pool2d", self.shape, tuple(output_size)), 2)


@kernel("adaptive_max_pool3d")
def adaptive_max_pool3d(self: Tensor, output_size: Sizes) -> tuple[Tensor, Tensor]:
    """Maxima of adaptive windows and their indices."""
    return _max_pool(self, _adaptive("adaptive_max_pool3d", self.shape, tuple(output_size)), 3)


@kernel("adaptive_max_pool2d_backward")
def adaptive_max_pool2d_backward(grad_output: Tensor, self: Tensor, indices: Tensor) -> Tensor:
    """Gradient of the input."""
    return _max_pool_backward("adaptive_max_pool2d_backward", grad_output, self, indices, 2)


@kernel("adaptive_max_pool3d_backward")
def adaptive_max_pool3d_backward(grad_output: Tensor, self: Tensor, indices: Tensor) -> Tensor:
    """Gradient of the input."""
    return _max_pool_backward("adaptive_max_pool3d_backward", grad_output, self, indices, 3)


@kernel("avg_pool2d")
def avg_pool2d(
    self: Tensor, kernel_size: Sizes, stride: Sizes = (), padding: Sizes = (0,), ceil_mode: bool = False,
    count_include_pad: bool = True, divisor_override: int | None = None,
) -> Tensor:  # fmt: skip
    """Averages of windows; integers by torch, as exact."""
    if _is_whole(self):
        return _stock_avg_pool2d(  # type: ignore[no-any-return]
            self, kernel_size, stride, padding, ceil_mode, count_include_pad, divisor_override
        )
    plan = _windows(
        "avg_pool2d", self.shape, tuple(kernel_size), tuple(stride), tuple(padding), (1,), ceil_mode,
        count_include_pad, divisor_override,
    )  # fmt: skip
    return _average_pool(self, plan, 2)


@kernel("avg_pool3d")
def avg_pool3d(
    self: Tensor, kernel_size: Sizes, stride: Sizes = (), padding: Sizes = (0,), ceil_mode: bool = False,
    count_include_pad: bool = True, divisor_override: int | None = None,
) -> Tensor:  # fmt: skip
    """Averages of windows; integers by torch, as exact."""
    if _is_whole(self):
        return _stock_avg_pool3d(  # type: ignore[no-any-return]
            self, kernel_size, stride, padding, ceil_mode, count_include_pad, divisor_override
        )
    plan = _windows(
        "avg_pool3d", self.shape, tuple(kernel_size), tuple(stride), tuple(padding), (1,), ceil_mode, count_include_pad,
        divisor_override,
    )  # fmt: skip
    return _average_pool(self, plan, 3)


@kernel("avg_pool2d_backward")
def avg_pool2d_backward(
    grad_output: Tensor, self: Tensor, kernel_size: Sizes, stride: Sizes, padding: Sizes, ceil_mode: bool,
    count_include_pad: bool, divisor_override: int | None,
) -> Tensor:  # fmt: skip
    """Gradient of the input."""
    plan = _windows(
        "avg_pool2d", self.shape, tuple(kernel_size), tuple(stride), tuple(padding), (1,), ceil_mode, count_include_pad,
        divisor_override,
    )  # fmt: skip
    return _average_pool_backward("avg_pool2d_backward", grad_output, self, plan, 2)


@kernel("avg_pool3d_backward")
def avg_pool3d_backward(
    grad_output: Tensor, self: Tensor, kernel_size: Sizes, stride: Sizes, padding: Sizes, ceil_mode: bool,
    count_include_pad: bool, divisor_override: int | None,
) -> Tensor:  # fmt: skip
    """Gradient of the input."""
    plan = _windows(
        "avg_pool3d", self.shape, tuple(kernel_size), tuple(stride), tuple(padding), (1,), ceil_mode, count_include_pad,
        divisor_override,
    )  # fmt: skip
    return _average_pool_backward("avg_pool3d_backward", grad_output, self, plan, 3)


@kernel("_adaptive_avg_pool2d")
def adaptive_avg_pool2d(self: Tensor, output_size: Sizes) -> Tensor:
    """Averages of adaptive windows. torch takes `mean` instead where there is one output."""
    return _average_pool(self, _adaptive("adaptive_avg_pool2d", self.shape, tuple(output_size)), 2)


@kernel("_adaptive_avg_pool3d")
def adaptive_avg_pool3d(self: Tensor, output_size: Sizes) -> Tensor:
    """Averages of adaptive windows. torch takes `mean` instead where there is one output."""
    return _average_pool(self, _adaptive("adaptive_avg_pool3d", self.shape, tuple(output_size)), 3)


@kernel("_adaptive_avg_pool2d_backward")
def adaptive_avg_pool2d_backward(grad_output: Tensor, self: Tensor) -> Tensor:
    """Gradient of the input."""
    plan = _adaptive("adaptive_avg_pool2d", self.shape, tuple(grad_output.shape[-2:]))
    return _average_pool_backward("adaptive_avg_pool2d_backward", grad_output, self, plan, 2)


@kernel("_adaptive_avg_pool3d_backward")
def adaptive_avg_pool3d_backward(grad_output: Tensor, self: Tensor) -> Tensor:
    """Gradient of the input."""
    plan = _adaptive("adaptive_avg_pool3d", self.shape, tuple(grad_output.shape[-3:]))
    return _average_pool_backward("adaptive_avg_pool3d_backward", grad_output, self, plan, 3)
