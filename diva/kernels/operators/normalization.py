"""Normalisation operators: batch, layer and group norm, forward and backward.

Instance norm reaches batch norm; torch's RMS norm is made of pow, mean, rsqrt and mul, here on a GPU too.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from diva.kernels.library import native
from diva.kernels.status import failed
from diva.kernels.table import COMPOSED_ON_CUDA, composition, kernel

_CHANNELS_LAST = {4: torch.channels_last, 5: torch.channels_last_3d}

COMPOSED_ON_CUDA["_fused_rms_norm"] = composition("aten::_fused_rms_norm")


def _laid_out(x: Tensor) -> tuple[Tensor, bool]:
    """x as dense memory of planes, or of pixels with their channels last (then True)."""
    if x.is_contiguous():
        return x, x.dim() == 2
    last = _CHANNELS_LAST.get(x.dim())
    if last is not None:
        if x.is_contiguous(memory_format=last):
            return x, True
        if torch._prims_common.suggest_memory_format(x) is last:
            return x.contiguous(memory_format=last), True
    return x.contiguous(), x.dim() == 2


def _like(x: Tensor, other: Tensor) -> Tensor:
    """x in the dense layout of `other`."""
    if x.is_contiguous() and other.is_contiguous():
        return x
    if x.stride() == other.stride():
        return x
    if other.is_contiguous():
        return x.contiguous()
    return x.contiguous(memory_format=_CHANNELS_LAST[other.dim()])


def _of_channels(t: Tensor | None, what: str, x: Tensor, channels: int) -> Tensor | None:
    """A weight, bias or statistic as one run of numbers; RuntimeError when it does not fit x."""
    if t is None:
        return None
    if t.dtype is not x.dtype:
        raise RuntimeError(f"mixed dtype: the {what} is {t.dtype} and the input {x.dtype}; exact kernels want one type")
    if t.numel() != channels:
        raise RuntimeError(f"the {what} has {t.numel()} elements and the input {channels} channels")
    return t if t.is_contiguous() else t.contiguous()


def _pointer(t: Tensor | None) -> int | None:
    return None if t is None else t.data_ptr()


def _check(status: int, name: str) -> None:
    if status:
        raise failed(status, name)


def _sizes(x: Tensor) -> tuple[int, int, int]:
    """(samples, channels, elements of space)"""
    shape = x.shape
    if len(shape) < 2:
        raise RuntimeError(f"batch norm: expected a tensor of at least 2 dimensions, got the shape {list(shape)}")
    n, channels = shape[0], shape[1]
    space = 1
    for size in shape[2:]:
        space *= size
    return n, channels, space


def _batch_norm(
    x: Tensor, weight: Tensor | None, bias: Tensor | None, running_mean: Tensor | None, running_var: Tensor | None,
    training: bool, momentum: float, eps: float,
) -> tuple[Tensor, Tensor, Tensor]:  # fmt: skip
    n, channels, space = _sizes(x)
    weight, bias = _of_channels(weight, "weight", x, channels), _of_channels(bias, "bias", x, channels)
    means, variances = (
        _of_channels(running_mean, "running mean", x, channels),
        _of_channels(running_var, "running variance", x, channels),
    )
    x, pixels = _laid_out(x)
    y = torch.empty_like(x)
    if training:
        if x.numel() == 0:
            raise RuntimeError(f"input tensor must have at least one element, but got input_sizes = {list(x.shape)}")
        mean, inv = x.new_empty(channels), x.new_empty(channels)
    else:
        if means is None or variances is None:
            raise RuntimeError("batch norm: evaluation wants a running mean and a running variance")
        mean, inv = x.new_empty(0), x.new_empty(0)
        if x.numel() == 0:
            return y, mean, inv
    status = native.of(x).batch_norm(
        x.data_ptr(), y.data_ptr(), _pointer(weight), _pointer(bias), _pointer(means), _pointer(variances), mean.data_ptr(),
        inv.data_ptr(), n, channels, space, pixels, training, momentum, eps,
    )  # fmt: skip
    if status:
        _check(status, "batch norm")
    if training:
        _put_back(running_mean, means)
        _put_back(running_var, variances)
    return y, mean, inv


def _put_back(running: Tensor | None, copy: Tensor | None) -> None:
    if running is not None and copy is not None and copy is not running:
        running.copy_(copy)


def _batch_norm_backward(
    g: Tensor, x: Tensor, weight: Tensor | None, mean: Tensor | None, second: Tensor | None, training: bool, eps: float,
    output_mask: Sequence[bool],
) -> tuple[Tensor | None, Tensor | None, Tensor | None]:  # fmt: skip
    n, channels, space = _sizes(x)
    if g.shape != x.shape or g.dtype is not x.dtype:
        raise RuntimeError(f"batch norm: the gradient is {g.dtype}{list(g.shape)}, the input {x.dtype}{list(x.shape)}")
    if mean is None or second is None:
        raise RuntimeError("batch norm: its backward wants the statistics that normalised the input")
    weight, mean = _of_channels(weight, "weight", x, channels), _of_channels(mean, "mean", x, channels)
    second = _of_channels(second, "variance", x, channels)
    x, pixels = _laid_out(x)
    g = _like(g, x)
    want_x, want_weight, want_bias = output_mask
    dx = torch.empty_like(x) if want_x else None
    if x.numel() == 0:
        return dx, x.new_zeros(channels) if want_weight else None, x.new_zeros(channels) if want_bias else None
    dweight = x.new_empty(channels) if want_weight else None
    dbias = x.new_empty(channels) if want_bias else None
    status = native.of(x).batch_norm_backward(
        g.data_ptr(), x.data_ptr(), _pointer(weight), _pointer(mean), _pointer(second), _pointer(dx), _pointer(dweight),
        _pointer(dbias), n, channels, space, pixels, training, eps,
    )  # fmt: skip
    if status:
        _check(status, "batch norm")
    return dx, dweight, dbias


@kernel("native_batch_norm", "_native_batch_norm_legit")
def native_batch_norm(
    input: Tensor, weight: Tensor | None, bias: Tensor | None, running_mean: Tensor | None, running_var: Tensor | None,
    training: bool, momentum: float, eps: float,
) -> tuple[Tensor, Tensor, Tensor]:  # fmt: skip
    """(y, mean, inv); the latter are empty in evaluation."""
    return _batch_norm(input, weight, bias, running_mean, running_var, training, momentum, eps)


@kernel("_native_batch_norm_legit.no_stats")
def native_batch_norm_without_running(
    input: Tensor, weight: Tensor | None, bias: Tensor | None, training: bool, momentum: float, eps: float
) -> tuple[Tensor, Tensor, Tensor]:
    """(y, mean, inv), no running statistics."""
    return _batch_norm(input, weight, bias, None, None, training, momentum, eps)


@kernel("_batch_norm_with_update")
def batch_norm_with_update(
    input: Tensor,
    weight: Tensor | None,
    bias: Tensor | None,
    running_mean: Tensor,
    running_var: Tensor,
    momentum: float,
    eps: float,
) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """(y, mean, inv, nothing reserved)."""
    result = _batch_norm(input, weight, bias, running_mean, running_var, True, momentum, eps)
    return (*result, input.new_empty(0, dtype=torch.uint8))


@kernel("native_batch_norm_backward")
def native_batch_norm_backward(
    grad_out: Tensor, input: Tensor, weight: Tensor | None, running_mean: Tensor | None, running_var: Tensor | None,
    save_mean: Tensor | None, save_invstd: Tensor | None, train: bool, eps: float, output_mask: Sequence[bool],
) -> tuple[Tensor | None, Tensor | None, Tensor | None]:  # fmt: skip
    """(dx, dweight, dbias) as far as the mask asks."""
    if train:
        return _batch_norm_backward(grad_out, input, weight, save_mean, save_invstd, True, eps, output_mask)
    return _batch_norm_backward(grad_out, input, weight, running_mean, running_var, False, eps, output_mask)


@kernel("batch_norm_backward")
def batch_norm_backward(
    grad_out: Tensor, input: Tensor, weight: Tensor, running_mean: Tensor | None, running_var: Tensor | None,
    save_mean: Tensor | None, save_var: Tensor | None, update: bool, eps: float, output_mask: Sequence[bool], reserve: Tensor,
) -> tuple[Tensor | None, Tensor | None, Tensor | None]:  # fmt: skip
    """The same, for `_batch_norm_with_update`."""
    mean, second = (save_mean, save_var) if update else (running_mean, running_var)
    return _batch_norm_backward(grad_out, input, weight, mean, second, update, eps, output_mask)


@kernel("batch_norm_update_stats")
def batch_norm_update_stats(
    input: Tensor, running_mean: Tensor | None, running_var: Tensor | None, momentum: float
) -> tuple[Tensor, Tensor]:
    """(mean, biased variance) of each channel; the running ones take them in."""
    n, channels, space = _sizes(input)
    if input.numel() == 0:
        raise RuntimeError(f"input tensor must have at least one element, but got input_sizes = {list(input.shape)}")
    means = _of_channels(running_mean, "running mean", input, channels)
    variances = _of_channels(running_var, "running variance", input, channels)
    x, pixels = _laid_out(input)
    mean, var = x.new_empty(channels), x.new_empty(channels)
    status = native.of(x).batch_norm_statistics(
        x.data_ptr(),
        mean.data_ptr(),
        var.data_ptr(),
        _pointer(means),
        _pointer(variances),
        n,
        channels,
        space,
        pixels,
        momentum,
    )
    _check(status, "batch norm")
    _put_back(running_mean, means)
    _put_back(running_var, variances)
    return mean, var


@kernel("native_layer_norm")
def native_layer_norm(
    input: Tensor, normalized_shape: Sequence[int], weight: Tensor | None, bias: Tensor | None, eps: float
) -> tuple[Tensor, Tensor, Tensor]:
    """(y, mean, inv); the latter have the input's shape with 1 for each normalised dimension."""
    rows, width, outer = _rows(input, normalized_shape)
    weight, bias = _of_channels(weight, "weight", input, width), _of_channels(bias, "bias", input, width)
    x = input if input.is_contiguous() else input.contiguous()
    y = torch.empty_like(x)
    mean, inv = x.new_empty(outer), x.new_empty(outer)
    if width == 0:
        return y, mean.zero_(), inv.fill_(float("nan"))
    status = native.of(x).layer_norm(
        x.data_ptr(), y.data_ptr(), _pointer(weight), _pointer(bias), mean.data_ptr(), inv.data_ptr(), rows, width, eps
    )
    if status:
        _check(status, "layer norm")
    return y, mean, inv


@kernel("native_layer_norm_backward")
def native_layer_norm_backward(
    grad_out: Tensor, input: Tensor, normalized_shape: Sequence[int], mean: Tensor, rstd: Tensor, weight: Tensor | None,
    bias: Tensor | None, output_mask: Sequence[bool],
) -> tuple[Tensor | None, Tensor | None, Tensor | None]:  # fmt: skip
    """(dx, dweight, dbias) as far as the mask asks."""
    rows, width, _ = _rows(input, normalized_shape)
    if grad_out.shape != input.shape or grad_out.dtype is not input.dtype:
        raise RuntimeError(f"layer norm: the gradient is {list(grad_out.shape)}, the input {list(input.shape)}")
    weight = _of_channels(weight, "weight", input, width)
    x, g = input.contiguous(), grad_out.contiguous()
    want_x, want_weight, want_bias = output_mask
    dx = torch.empty_like(x) if want_x else None
    dweight = x.new_empty(normalized_shape) if want_weight else None
    dbias = x.new_empty(normalized_shape) if want_bias else None
    status = native.of(x).layer_norm_backward(
        g.data_ptr(), x.data_ptr(), _pointer(weight), mean.contiguous().data_ptr(), rstd.contiguous().data_ptr(), _pointer(dx),
        _pointer(dweight), _pointer(dbias), rows, width,
    )  # fmt: skip
    if status:
        _check(status, "layer norm")
    return dx, dweight, dbias


def _rows(x: Tensor, normalized_shape: Sequence[int]) -> tuple[int, int, list[int]]:
    """(rows, their length, shape of what there is one of per row)"""
    shape, last = x.shape, len(normalized_shape)
    if last == 0 or tuple(shape[-last:]) != tuple(normalized_shape):
        raise RuntimeError(
            f"Given normalized_shape={list(normalized_shape)}, expected input with shape [*, {list(normalized_shape)}], "
            f"but got input of size {list(shape)}"
        )
    width, rows = 1, 1
    for size in normalized_shape:
        width *= size
    for size in shape[:-last]:
        rows *= size
    return rows, width, [*shape[:-last], *([1] * last)]


@kernel("native_group_norm")
def native_group_norm(
    input: Tensor, weight: Tensor | None, bias: Tensor | None, N: int, C: int, HxW: int, group: int, eps: float
) -> tuple[Tensor, Tensor, Tensor]:
    """(y, mean, inv); the latter are (N, group)."""
    _check_groups(input, N, C, HxW, group)
    weight, bias = _of_channels(weight, "weight", input, C), _of_channels(bias, "bias", input, C)
    dense, _ = _laid_out(input)
    x = dense.contiguous()
    y = torch.empty_like(x)
    mean, inv = x.new_empty((N, group)), x.new_empty((N, group))
    if x.numel() == 0:
        return y, mean.zero_(), inv.fill_(float("nan"))
    status = native.of(x).group_norm(
        x.data_ptr(),
        y.data_ptr(),
        _pointer(weight),
        _pointer(bias),
        mean.data_ptr(),
        inv.data_ptr(),
        N,
        C,
        HxW,
        group,
        eps,
    )
    if status:
        _check(status, "group norm")
    return _like(y, dense), mean, inv


@kernel("native_group_norm_backward")
def native_group_norm_backward(
    grad_out: Tensor, input: Tensor, mean: Tensor, rstd: Tensor, weight: Tensor | None, N: int, C: int, HxW: int, group: int,
    output_mask: Sequence[bool],
) -> tuple[Tensor | None, Tensor | None, Tensor | None]:  # fmt: skip
    """(dx, dweight, dbias) as far as the mask asks."""
    _check_groups(input, N, C, HxW, group)
    if grad_out.shape != input.shape or grad_out.dtype is not input.dtype:
        raise RuntimeError(f"group norm: the gradient is {list(grad_out.shape)}, the input {list(input.shape)}")
    weight = _of_channels(weight, "weight", input, C)
    dense, _ = _laid_out(input)
    x, g = dense.contiguous(), grad_out.contiguous()
    want_x, want_weight, want_bias = output_mask
    dx = torch.empty_like(x) if want_x else None
    if x.numel() == 0:
        return dx, x.new_zeros(C) if want_weight else None, x.new_zeros(C) if want_bias else None
    dweight = x.new_empty(C) if want_weight else None
    dbias = x.new_empty(C) if want_bias else None
    status = native.of(x).group_norm_backward(
        g.data_ptr(), x.data_ptr(), _pointer(weight), mean.contiguous().data_ptr(), rstd.contiguous().data_ptr(), _pointer(dx),
        _pointer(dweight), _pointer(dbias), N, C, HxW, group,
    )  # fmt: skip
    if status:
        _check(status, "group norm")
    return dx if dx is None else _like(dx, dense), dweight, dbias


def _check_groups(x: Tensor, n: int, channels: int, space: int, groups: int) -> None:
    if groups < 1 or channels % groups or x.numel() != n * channels * space:
        raise RuntimeError(
            f"Expected number of channels in input to be divisible by num_groups, but got input of shape {list(x.shape)} and "
            f"num_groups={groups}"
        )
