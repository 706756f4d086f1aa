"""Interpolation and the gradients of padding as PyTorch operators."""

from __future__ import annotations

from collections.abc import Sequence
from ctypes import c_double, c_int64
from typing import Any

import torch
from torch import Tensor

from diva.errors import KernelError
from diva.kernels.library import native
from diva.kernels.status import failed
from diva.kernels.table import kernel

_CHANNELS_LAST = {4: torch.channels_last, 5: torch.channels_last_3d}
_SIZES = {n: c_int64 * n for n in (1, 2, 3)}
_SCALES = {n: c_double * n for n in (1, 2, 3)}

# operator's name -> (mode of dk_resample, takes align_corners, axes)
_MODES = {
    **{f"upsample_nearest{n}d": (0, False, n) for n in (1, 2, 3)},
    **{f"_upsample_nearest_exact{n}d": (1, False, n) for n in (1, 2, 3)},
    "upsample_linear1d": (2, True, 1),
    "upsample_bilinear2d": (2, True, 2),
    "upsample_trilinear3d": (2, True, 3),
    "upsample_bicubic2d": (3, True, 2),
}

# stock's backward kernels that answer in contiguous layout always
_CONTIGUOUS_GRADIENTS = ("upsample_nearest3d", "_upsample_nearest_exact3d", "upsample_bicubic2d")


def is_channels_last(x: Tensor) -> bool:
    """Whether stock would make a result in channels-last layout from x; (N, C, 1, 1) by its strides."""
    layout = _CHANNELS_LAST.get(x.dim())
    if layout is None:
        return False
    if x.is_contiguous():
        channels = x.shape[1]
        return channels > 1 and x.stride(-1) == channels and x.is_contiguous(memory_format=layout)
    if x.is_contiguous(memory_format=layout):
        return True
    return _has_channels_last_strides(x)


def _has_channels_last_strides(x: Tensor) -> bool:
    shape, strides, least = x.shape, x.stride(), 0
    if strides[1] == 0:
        return False
    for d in (1, *range(x.dim() - 1, 1, -1), 0):
        if shape[d] == 0 or strides[d] < least or (d == 0 and least == strides[1]):
            return False
        least = strides[d] * max(1, shape[d])
    return True


def dense(x: Tensor, channels_last: bool) -> Tensor:
    """x itself or a copy of it, dense in one of the two layouts."""
    return x.contiguous(memory_format=_CHANNELS_LAST[x.dim()]) if channels_last else x.contiguous()


def empty(shape: Sequence[int], like: Tensor, channels_last: bool) -> Tensor:
    """An uninitialised tensor of the type of `like`, dense in one of the two layouts."""
    if channels_last:
        return torch.empty(shape, dtype=like.dtype, device=like.device, memory_format=_CHANNELS_LAST[len(shape)])
    return like.new_empty(shape)


def succeed(status: int, operator: str) -> None:
    """Raise what a kernel's status code says; 0 is success."""
    if status:
        raise failed(status, operator)


def _checked(name: str, shape: Sequence[int], output: Sequence[int], axes: int) -> None:
    if len(shape) != axes + 2 or len(output) != axes:
        raise RuntimeError(
            f"{name}: expected an input of {axes + 2} dimensions and {axes} output sizes, got {list(shape)} and {list(output)}"
        )
    if min(*shape[2:], *output) <= 0 or (shape[1] == 0 and shape[0] != 0):
        raise RuntimeError(
            f"{name}: channels, input and output sizes should be greater than 0, got {list(shape)} and {list(output)}"
        )
    if max(*shape[2:], *output) >= 2**29:
        raise KernelError(f"{name}: sizes up to 2**29 are served, got {list(shape)} and {list(output)}")


def _arguments(axes: int, takes_align: bool, rest: tuple[Any, ...]) -> tuple[int, tuple[float, ...]]:
    align = int(bool(rest[0])) if takes_align else 0
    given = rest[1:] if takes_align else rest
    scales = tuple(s if s is not None and s > 0 else 0.0 for s in given)
    return align, scales + (0.0,) * (axes - len(scales))


def _declare(name: str, mode: int, takes_align: bool, axes: int) -> None:
    sizes, floats = _SIZES[axes], _SCALES[axes]

    def forward(x: Tensor, output_size: Sequence[int], *rest: Any) -> Tensor:
        shape = x.shape
        _checked(name, shape, output_size, axes)
        if mode < 2 and x.dtype == torch.uint8:  # every byte is a float: the same indices as for images of floats
            return forward(x.to(torch.float32), output_size, *rest).to(torch.uint8)
        align, scales = _arguments(axes, takes_align, rest)
        last = is_channels_last(x)
        x = dense(x, last)
        y = empty((*shape[:2], *output_size), x, last)
        if y.numel():
            outer, inner = (shape[0], shape[1]) if last else (shape[0] * shape[1], 1)
            status = native.of(x).resample(
                y.data_ptr(),
                x.data_ptr(),
                outer,
                inner,
                axes,
                sizes(*shape[2:]),
                sizes(*output_size),
                floats(*scales),
                mode,
                align,
            )
            if status:
                succeed(status, name)
        return y

    def backward(gy: Tensor, output_size: Sequence[int], input_size: Sequence[int], *rest: Any) -> Tensor:
        _checked(f"{name}_backward", input_size, output_size, axes)
        if tuple(gy.shape) != (*input_size[:2], *output_size):
            raise RuntimeError(
                f"{name}_backward: expected grad_output of shape {[*input_size[:2], *output_size]}, got {list(gy.shape)}"
            )
        align, scales = _arguments(axes, takes_align, rest)
        last = is_channels_last(gy) and name not in _CONTIGUOUS_GRADIENTS
        gy = dense(gy, last)
        gx = empty(input_size, gy, last)
        if gx.numel():
            outer, inner = (input_size[0], input_size[1]) if last else (input_size[0] * input_size[1], 1)
            status = native.of(gy).resample_backward(
                gx.data_ptr(), gy.data_ptr(), outer, inner, axes, sizes(*input_size[2:]), sizes(*output_size), floats(*scales), mode,
                align,
            )  # fmt: skip
            if status:
                succeed(status, f"{name}_backward")
        return gx

    forward.__name__ = forward.__qualname__ = name
    backward.__name__ = backward.__qualname__ = f"{name}_backward"
    kernel(name)(forward)
    kernel(f"{name}_backward")(backward)


for _name, (_mode, _takes_align, _axes) in _MODES.items():
    _declare(_name, _mode, _takes_align, _axes)


def _declare_pad(name: str, reflect: int, axes: int) -> None:
    sizes = _SIZES[axes]

    def backward(gy: Tensor, x: Tensor, padding: Sequence[int]) -> Tensor:
        shape = x.shape
        if len(shape) not in (axes + 1, axes + 2) or len(padding) != 2 * axes:
            raise RuntimeError(
                f"{name}: expected {axes + 1} or {axes + 2} dimensions, got {list(shape)}, padding {list(padding)}"
            )
        inputs = shape[-axes:]
        left = [padding[2 * (axes - 1 - k)] for k in range(axes)]
        right = [padding[2 * (axes - 1 - k) + 1] for k in range(axes)]
        outputs = [n + a + b for n, a, b in zip(inputs, left, right, strict=True)]
        if tuple(gy.shape) != (*shape[:-axes], *outputs):
            raise RuntimeError(
                f"{name}: expected grad_output of shape {[*shape[:-axes], *outputs]}, got {list(gy.shape)}"
            )
        if reflect and any(max(a, b) >= n for n, a, b in zip(inputs, left, right, strict=True)):
            raise RuntimeError(f"{name}: padding {list(padding)} should be less than the input {list(shape)}")
        last = len(shape) == axes + 2 and axes > 1 and is_channels_last(x)
        gy = dense(gy, last)
        gx = empty(shape, gy, last)
        if gx.numel():
            inner = shape[1] if last else 1
            outer = gx.numel() // (inner * _product(inputs))
            status = native.of(gy).pad_backward(
                gx.data_ptr(), gy.data_ptr(), outer, inner, axes, sizes(*inputs), sizes(*outputs), sizes(*left), reflect
            )
            if status:
                succeed(status, name)
        return gx

    backward.__name__ = backward.__qualname__ = name
    kernel(name)(backward)


def _product(sizes: Sequence[int]) -> int:
    total = 1
    for n in sizes:
        total *= n
    return total


for _axes in (1, 2, 3):
    _declare_pad(f"reflection_pad{_axes}d_backward", 1, _axes)
    _declare_pad(f"replication_pad{_axes}d_backward", 0, _axes)


def _declare_grid(axes: int) -> None:
    name, sizes = f"grid_sampler_{axes}d", _SIZES[axes]

    def check(x: Tensor, grid: Tensor, interpolation: int) -> None:
        if x.dim() != axes + 2 or grid.dim() != axes + 2 or x.shape[0] != grid.shape[0] or grid.shape[-1] != axes:
            raise RuntimeError(
                f"{name}: expected an input of {axes + 2} dimensions and a grid (N, .., {axes}), got {list(x.shape)}, {list(grid.shape)}"
            )
        if x.dtype != grid.dtype or min(x.shape[2:]) <= 0 or (axes == 3 and interpolation == 2):
            raise RuntimeError(
                f"{name}: expected one type, non-empty spatial dimensions and bicubic in two only, got {x.dtype}, {grid.dtype}, "
                f"{list(x.shape)}, interpolation {interpolation}"
            )
        if _product(x.shape[2:]) >= 2**31:
            raise KernelError(f"{name}: images of less than 2**31 pixels are served, got {list(x.shape)}")

    def forward(x: Tensor, grid: Tensor, interpolation: int, padding: int, align: bool) -> Tensor:
        check(x, grid, interpolation)
        shape, outputs = x.shape, grid.shape[1:-1]
        x, grid = x.contiguous(), grid.contiguous()
        y = x.new_empty((*shape[:2], *outputs))
        if y.numel():
            status = native.of(x).grid_sample(
                y.data_ptr(), x.data_ptr(), grid.data_ptr(), shape[0], shape[1], axes, sizes(*shape[2:]), _product(outputs),
                interpolation, padding, int(align),
            )  # fmt: skip
            succeed(status, name)
        return y

    def backward(
        gy: Tensor, x: Tensor, grid: Tensor, interpolation: int, padding: int, align: bool, output_mask: Sequence[bool]
    ) -> tuple[Tensor | None, Tensor]:
        check(x, grid, interpolation)
        shape, outputs = x.shape, grid.shape[1:-1]
        if tuple(gy.shape) != (*shape[:2], *outputs):
            raise RuntimeError(
                f"{name}_backward: expected grad_output of {[*shape[:2], *outputs]}, got {list(gy.shape)}"
            )
        gy, x, grid = gy.contiguous(), x.contiguous(), grid.contiguous()
        gx = x.new_empty(shape) if output_mask[0] else None
        ggrid = x.new_empty(grid.shape)
        status = native.of(x).grid_sample_backward(
            None if gx is None else gx.data_ptr() or None, ggrid.data_ptr() or None, gy.data_ptr(), x.data_ptr(), grid.data_ptr(),
            shape[0], shape[1], axes, sizes(*shape[2:]), _product(outputs), interpolation, padding, int(align),
        )  # fmt: skip
        succeed(status, f"{name}_backward")
        return gx, ggrid

    forward.__name__ = forward.__qualname__ = name
    backward.__name__ = backward.__qualname__ = f"{name}_backward"
    kernel(name)(forward)
    kernel(f"{name}_backward")(backward)


_declare_grid(2)
_declare_grid(3)
