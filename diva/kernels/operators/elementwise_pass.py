"""One pass over tensors: operands of any shapes, strides and types brought to an elementwise kernel, and its result."""

from __future__ import annotations

import ctypes
import re
from collections.abc import Sequence
from typing import Any, NoReturn

import torch
from torch import Tensor

from diva.errors import KernelError
from diva.kernels.library import SOURCES, native
from diva.kernels.status import BAD_ARGUMENT, failed

Number = int | float
FLOATS = {torch.float32: 4, torch.float64: 8}  # the types that the kernels compute in, and their bytes


def _numbers() -> dict[str, int]:
    """The functions' numbers, as elementwise.h lists them."""
    text = re.sub(r"/\*.*?\*/", "", (SOURCES / "elementwise.h").read_text(), flags=re.DOTALL)
    listed = text[text.index("enum {") + 6 : text.index("};")]
    numbers: dict[str, int] = {}
    following = 0
    for entry in filter(None, (part.strip() for part in listed.split(","))):
        name, _, value = (part.strip() for part in entry.partition("="))
        following = int(value) if value else following
        numbers[name.removeprefix("DK_")] = following
        following += 1
    return numbers


_NUMBERS = _numbers()


def function(name: str) -> int:
    """The number of the elementwise function DK_<name>."""
    return _NUMBERS[name]


def unary(f: int, x: Tensor, out: Tensor | None = None) -> Tensor:
    """f(x); x float32 or float64."""
    if (out is None or out is x) and x.is_contiguous():
        if out is None:
            out = torch.empty_like(x)
        status = native.of(x).unary(f, x.numel(), out.data_ptr(), x.data_ptr())
        if status:
            refuse(f, x, status)
        return out
    return elementwise(f, (x,), out=out)


def scalar(f: int, x: Tensor, p: Number, q: Number = 0.0, r: Number = 0.0, out: Tensor | None = None) -> Tensor:
    """f(x; p, q, r): the numbers are rounded once, to the type of x."""
    if (out is None or out is x) and x.is_contiguous():
        if out is None:
            out = torch.empty_like(x)
        status = native.of(x).scalar(f, x.numel(), out.data_ptr(), x.data_ptr(), p, q, r)
        if status:
            refuse(f, x, status)
        return out
    return elementwise(f, (x,), p, q, r, out)


def binary(f: int, x: Tensor, y: Tensor, out: Tensor | None = None) -> Tensor:
    """f(x, y); both float32 or both float64. Where the result goes to x itself, y does not overlap it otherwise."""
    if (out is None or out is x) and x.shape == y.shape and x.is_contiguous() and y.is_contiguous():
        if out is None:
            out = torch.empty_like(x)
        status = native.of(x).binary(f, x.numel(), out.data_ptr(), x.data_ptr(), y.data_ptr())
        if status:
            refuse(f, x, status)
        return out
    return elementwise(f, (x, y), out=out)


def binary_with(
    f: int, x: Tensor, y: Tensor, p: Number = 0.0, q: Number = 0.0, r: Number = 0.0, out: Tensor | None = None
) -> Tensor:
    """f(x, y; p, q, r)."""
    alike = x.shape == y.shape and x.dtype is y.dtype and x.is_contiguous() and y.is_contiguous()
    if alike and (out is None or out is x):
        if out is None:
            out = torch.empty_like(x)
        status = native.of(x).elementwise(f, x.numel(), out.data_ptr(), x.data_ptr(), y.data_ptr(), 0, p, q, r)
        if status:
            refuse(f, x, status)
        return out
    return elementwise(f, (x, y), p, q, r, out)


def elementwise(
    f: int, operands: Sequence[Tensor], p: Number = 0.0, q: Number = 0.0, r: Number = 0.0, out: Tensor | None = None
) -> Tensor:
    """f of up to three operands of one type, broadcast against each other, and of numbers.

    The result has the strides that PyTorch's own operators give it. `out` has its shape, any strides, and may be one of
    the operands; one that overlaps an operand otherwise is written at the end.
    """
    first = operands[0]
    for operand in operands[1:]:
        if operand.dtype is not first.dtype:
            raise RuntimeError(f"expected tensors of one type, found {first.dtype} and {operand.dtype}")
    if _alike(first, operands):
        if out is None:
            out = torch.empty_like(first)
        elif out.stride() != first.stride() or _overlaps(out, operands):
            return _assign(out, elementwise(f, operands, p, q, r))
        at = [operand.data_ptr() for operand in operands] + [0, 0]
        status = native.of(first).elementwise(f, first.numel(), out.data_ptr(), at[0], at[1], at[2], p, q, r)
        if status:
            refuse(f, first, status)
        return out
    shape = common_shape(operands)
    strides = [_expanded_strides(operand, shape) for operand in operands]
    order = _memory_order(shape, strides)
    if out is None:
        out = first.new_empty_strided(shape, _strides_in(order, shape))
    elif tuple(out.shape) != shape or not _lies_in(order, out) or _overlaps(out, operands):
        return _assign(out, elementwise(f, operands, p, q, r))
    n = len(shape)
    missing = [[0] * n] * (3 - len(operands))
    sizes = (ctypes.c_int64 * n)(*[shape[d] for d in order])
    steps = (ctypes.c_int64 * (3 * n))(*[stride[d] for stride in strides + missing for d in order])
    at = [operand.data_ptr() for operand in operands] + [0, 0]
    call = native.of(first).elementwise_strided
    status = call(f, n, sizes, steps, out.data_ptr(), at[0], at[1], at[2], p, q, r)
    if status:
        refuse(f, first, status)
    return out


def refuse(f: int, x: Tensor, status: int) -> NoReturn:
    """The kernel said no; where it refused its arguments, there is no such program for this type."""
    name = next(name for name, number in _NUMBERS.items() if number == f)
    if status != BAD_ARGUMENT:
        raise failed(status, name.lower())
    raise KernelError(
        f"there is no exact kernel of {name.lower()} for {x.dtype}; convert the tensor, or use --backend torch"
    )


def _assign(out: Tensor, result: Tensor) -> Tensor:
    if out.shape != result.shape:
        raise RuntimeError(
            f"output with shape {list(out.shape)} doesn't match the broadcast shape {list(result.shape)}"
        )
    out.copy_(result)
    return out


def _alike(first: Tensor, operands: Sequence[Tensor]) -> bool:
    """All operands have the shape and the strides of the first, which lie densely: one run of numbers."""
    stride = first.stride()
    shape = first.shape
    for operand in operands[1:]:
        if operand.stride() != stride or operand.shape != shape:
            return all(o.shape == shape and o.is_contiguous() for o in operands)
    return first.is_contiguous() or _dense(shape, stride)


def _dense(shape: Sequence[int], stride: Sequence[int]) -> bool:
    expected = 1
    for step, size in sorted((step, size) for step, size in zip(stride, shape, strict=True) if size != 1):
        if step != expected:
            return False
        expected *= size
    return True


def _overlaps(out: Tensor, operands: Sequence[Tensor]) -> bool:
    """Writing to out would change what is still to be read: it shares memory with an operand that lies otherwise."""
    memory = out.untyped_storage().data_ptr()
    for operand in operands:
        same = operand.data_ptr() == out.data_ptr() and operand.stride() == out.stride() and operand.shape == out.shape
        if not same and operand.untyped_storage().data_ptr() == memory:
            return True
    return False


def common_shape(operands: Sequence[Tensor]) -> tuple[int, ...]:
    """The shape that the operands are broadcast to; RuntimeError, in PyTorch's words, when they do not fit."""
    shape = list(operands[0].shape)
    for operand in operands[1:]:
        other = list(operand.shape)
        if len(other) > len(shape):
            shape = [1] * (len(other) - len(shape)) + shape
        for d in range(1, len(other) + 1):
            if other[-d] != 1 and shape[-d] != other[-d]:
                if shape[-d] != 1:
                    raise RuntimeError(
                        f"The size of tensor a ({shape[-d]}) must match the size of tensor b ({other[-d]}) "
                        f"at non-singleton dimension {len(shape) - d}"
                    )
                shape[-d] = other[-d]
    return tuple(shape)


def _expanded_strides(x: Tensor, shape: tuple[int, ...]) -> list[int]:
    missing = len(shape) - x.dim()
    steps = x.stride()
    return [
        0 if d < missing or (x.shape[d - missing] == 1 and shape[d] != 1) else steps[d - missing]
        for d in range(len(shape))
    ]


def _memory_order(shape: tuple[int, ...], strides: list[list[int]]) -> list[int]:
    """Dimensions of the result from the outermost to the innermost in memory, as PyTorch's TensorIterator chooses."""

    def compare(a: int, b: int) -> int:  # > 0: a must be further out than b
        for steps in strides:
            if steps[a] == 0 or steps[b] == 0:
                continue
            if steps[a] != steps[b]:
                return 1 if steps[a] > steps[b] else -1
            if shape[a] > shape[b]:
                return 1
        return 0

    order = list(range(len(shape)))[::-1]  # innermost first
    for i in range(1, len(order)):
        here = i
        for k in range(i - 1, -1, -1):
            comparison = compare(order[k], order[here])
            if comparison > 0:
                order[k], order[here] = order[here], order[k]
                here = k
            elif comparison < 0:
                break
    return order[::-1]


def _strides_in(order: list[int], shape: tuple[int, ...]) -> list[int]:
    strides = [0] * len(shape)
    step = 1
    for d in reversed(order):
        strides[d] = step
        step *= max(shape[d], 1)
    return strides


def _lies_in(order: list[int], out: Tensor) -> bool:
    """`out` is dense with its dimensions in this order."""
    step = 1
    for d in reversed(order):
        if out.shape[d] != 1:
            if out.stride(d) != step:
                return False
            step *= out.shape[d]
    return True


def as_float(x: Tensor) -> Tensor:
    """x, or integers in the default float type."""
    if x.dtype in FLOATS or x.dtype.is_floating_point or x.dtype.is_complex:
        return x
    return x.to(torch.get_default_dtype())


def into(out: Tensor | None, result: Any) -> Tensor:
    """`result`, in `out` where there is one."""
    kept: Tensor = result if out is None else out.copy_(result)
    return kept


def promote(*operands: Tensor | Number) -> list[Any] | None:
    """The operands in the float type that PyTorch computes in, tensors without dimensions as numbers; None: no float.

    At least one of them stays a tensor, and so does what lies on a GPU: reading it would wait for it. KernelError for a float
    type that the kernels do not compute in.
    """
    dtype = common_type(*operands)
    if not (dtype.is_floating_point or dtype.is_complex):
        return None
    native[dtype]
    ready: list[Any] = [o.item() if isinstance(o, Tensor) and o.dim() == 0 and not o.is_cuda else o for o in operands]
    if not any(isinstance(o, Tensor) for o in ready):
        ready[0] = torch.full((), ready[0], dtype=dtype)
    return [_converted(o, dtype) if isinstance(o, Tensor) else o for o in ready]


def _converted(x: Tensor, dtype: torch.dtype) -> Tensor:
    """x in `dtype`; a whole number without dimensions by way of binary64, as `promote` reads it on the CPU."""
    if x.dim() == 0 and x.is_cuda and not x.dtype.is_floating_point:
        x = x.to(torch.float64)
    return x.to(dtype)


def integer_tensors(*operands: Tensor | Number) -> list[Tensor]:
    """The operands for PyTorch's own integer kernels, numbers as tensors without dimensions."""
    dtype = common_type(*operands)
    return [o if isinstance(o, Tensor) else torch.full((), o, dtype=dtype) for o in operands]


def common_type(*operands: Tensor | Number) -> torch.dtype:
    """What PyTorch promotes the operands to."""
    if len(operands) == 1:
        return operands[0].dtype if isinstance(operands[0], Tensor) else torch.result_type(operands[0], 0)
    dtype = torch.result_type(operands[0], operands[1])
    for operand in operands[2:]:  # enough for tensors with dimensions, of which there is at least one here
        dtype = torch.promote_types(dtype, torch.result_type(operands[0], operand))
    return dtype


def tensors(*operands: Tensor | Number) -> list[Tensor] | None:
    """`promote`, with every number as a tensor without dimensions."""
    ready = promote(*operands)
    if ready is None:
        return None
    beside = next(o for o in ready if isinstance(o, Tensor))
    return [o if isinstance(o, Tensor) else beside.new_full((), o) for o in ready]
