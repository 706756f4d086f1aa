"""In-place and out= forms of a functional kernel, with PyTorch's rules for types, shapes and memory."""

from __future__ import annotations

import inspect
import warnings
from collections.abc import Callable, Iterable
from functools import cache
from typing import Any

import torch
from torch import Tensor

Kernel = Callable[..., Any]

_c: Any = torch._C
_is_alias_of = _c._is_alias_of  # whether two tensors share memory; unlike data_ptr(), of their whole storages
_FLOATS = (torch.float32, torch.float64)
# Tensor arguments that are broadcast to the result; an operator with others (mat1, index, ...) has its own shape rule.
_BROADCAST = {"self", "other", "tensor1", "tensor2", "end", "weight", "exponent", "min", "max"}
# Functional operators without an in-place form whose result has the shape of every tensor argument.
_SHAPE_OF_SELF = {
    "_log_softmax", "_log_softmax_backward_data", "_softmax", "_softmax_backward_data", "elu_backward", "gelu_backward",
    "hardshrink_backward", "hardsigmoid_backward", "hardtanh_backward", "leaky_relu_backward", "log_sigmoid_backward",
    "logit_backward", "maximum", "minimum", "fmax", "fmin", "sigmoid_backward", "silu_backward", "softplus",
    "softplus_backward", "softshrink", "softshrink_backward", "tanh_backward", "threshold_backward",
}  # fmt: skip
# Results whose shape follows from other arguments by a simple rule.
_SHAPES: dict[str, Callable[..., tuple[int, ...]]] = {
    "mm": lambda a, b: (a.shape[0], b.shape[1]),
    "bmm": lambda a, b: (a.shape[0], a.shape[1], b.shape[2]),
    "addmm": lambda _, a, b: (a.shape[0], b.shape[1]),
    "baddbmm": lambda _, a, b: (a.shape[0], a.shape[1], b.shape[2]),
}


@cache
def variants(name: str, function: Kernel) -> dict[str, Kernel]:
    """The in-place and out= overloads of the aten operator `name` ("add.Tensor"), computed by its functional kernel.

    Only operators that PyTorch does not itself compose of others (those arrive here by themselves, and lose their
    gradient when they are overridden).
    """
    schema = _schema(name)
    if schema is None or _written(schema) or not _has_own_kernel(name):
        return {}
    base = name.partition(".")[0]
    found: dict[str, Kernel] = {}
    takes_out = "out" in inspect.signature(function).parameters and len(schema.returns) == 1
    inputs = [(argument.name, str(argument.type)) for argument in schema.arguments]
    for other in (*_schemas(base), *_schemas(f"{base}_")):
        written = _written(other)
        given = [(argument.name, str(argument.type)) for argument in other.arguments]
        variant = other.name.removeprefix("aten::") + (f".{other.overload_name}" if other.overload_name else "")
        if not written or not _has_own_kernel(variant):
            continue
        if other.name.endswith("_") and given == inputs and written == ["self"]:
            found[variant] = _in_place(function, schema, takes_out)
        elif given[: -len(written)] == inputs and [a for a, _ in given[-len(written) :]] == written:
            found[variant] = _out(function, schema, written, takes_out)
    return found


def _schema(name: str) -> Any:
    base, _, overload = name.partition(".")
    return next((schema for schema in _schemas(base) if schema.overload_name == overload), None)


@cache
def _schemas(base: str) -> list[Any]:
    return list(torch._C._jit_get_schemas_for_operator(f"aten::{base}"))


def _written(schema: Any) -> list[str]:
    return [a.name for a in schema.arguments if a.alias_info is not None and a.alias_info.is_write]


def _has_own_kernel(name: str) -> bool:
    """Whether the CPU reaches a kernel of this very operator, instead of a composition with its own gradient."""
    full = f"aten::{name}"
    keys = ("CPU", "CompositeExplicitAutograd", "CompositeExplicitAutogradNonFunctional")
    return torch._C._dispatch_has_kernel(full) and any(
        torch._C._dispatch_has_kernel_for_dispatch_key(full, key) for key in keys
    )


def _in_place(function: Kernel, schema: Any, takes_out: bool) -> Kernel:
    tensors = [a.name for a in schema.arguments if "Tensor" in str(a.type)]
    lists = any("List[" in str(a.type) and "Tensor" in str(a.type) for a in schema.arguments)
    broadcasts = set(tensors) <= _BROADCAST

    def through_copy(self: Tensor, *args: Any, **kwargs: Any) -> Tensor:
        result = function(self, *args, **kwargs)
        _check_cast(result, self)
        if result.shape != self.shape:
            raise RuntimeError(
                f"output with shape {list(self.shape)} doesn't match the broadcast shape {list(result.shape)}"
            )
        return self.copy_(result)

    if not takes_out or lists:
        return through_copy

    if len(tensors) == 1:

        def alone(self: Tensor, *args: Any, **kwargs: Any) -> Tensor:
            if self.dtype in _FLOATS and "dtype" not in kwargs and (self.is_contiguous() or _is_dense(self)):
                function(self, *args, out=self, **kwargs)
                return self
            return through_copy(self, *args, **kwargs)

        return alone

    def with_others(self: Tensor, *args: Any, **kwargs: Any) -> Tensor:
        dtype, shape = self.dtype, self.shape
        if dtype not in _FLOATS or not (self.is_contiguous() or _is_dense(self)):
            return through_copy(self, *args, **kwargs)
        for other in args:
            if isinstance(other, Tensor):
                if other is self:
                    continue
                if (
                    other.dtype is not dtype
                    or (other.shape != shape and not (broadcasts and _fits(other.shape, shape)))
                    or _is_alias_of(self, other)
                ):
                    return through_copy(self, *args, **kwargs)
            elif other.__class__ is complex:
                return through_copy(self, *args, **kwargs)
        function(self, *args, out=self, **kwargs)
        return self

    return with_others


def _out(function: Kernel, schema: Any, names: list[str], takes_out: bool) -> Kernel:
    if len(names) > 1:

        def several(*args: Any, **kwargs: Any) -> tuple[Tensor, ...]:
            outs = tuple(kwargs.pop(name) for name in names)
            for out, result in zip(outs, function(*args, **kwargs), strict=True):
                _store(out, result)
            return outs

        return several

    (name,) = names

    def through_copy(*args: Any, **kwargs: Any) -> Tensor:
        out: Tensor = kwargs.pop(name)
        _store(out, function(*args, **kwargs))
        return out

    base = schema.name.removeprefix("aten::")
    shape_of = _SHAPES.get(base)
    if not takes_out or (shape_of is None and base not in _SHAPE_OF_SELF and not _schemas(f"{base}_")):
        return through_copy

    def straight(*args: Any, **kwargs: Any) -> Tensor:
        out: Tensor = kwargs[name]
        dtype, shape = out.dtype, out.shape
        if dtype not in _FLOATS or "dtype" in kwargs or not out.is_contiguous():
            return through_copy(*args, **kwargs)
        for given in args:
            if isinstance(given, Tensor):
                if given is out and shape_of is None:
                    continue
                if given.dtype is not dtype or _is_alias_of(out, given):
                    return through_copy(*args, **kwargs)
                if shape_of is None and (given.shape != shape or not given.is_contiguous()):
                    return through_copy(*args, **kwargs)
            elif given.__class__ is complex or given.__class__ is list:
                return through_copy(*args, **kwargs)
        if shape_of is not None and shape_of(*args[: shape_of.__code__.co_argcount]) != shape:
            return through_copy(*args, **kwargs)
        del kwargs[name]
        function(*args, out=out, **kwargs)
        return out

    return straight


def _is_dense(x: Tensor) -> bool:
    """Whether the elements fill a piece of memory: in channels-last order, or as a transposed matrix."""
    if x.ndim == 4:
        return x.is_contiguous(memory_format=torch.channels_last)
    if x.ndim == 5:
        return x.is_contiguous(memory_format=torch.channels_last_3d)
    return x.ndim == 2 and x.mT.is_contiguous()


def _fits(shape: Iterable[int], into: Iterable[int]) -> bool:
    """Whether a tensor of `shape` is broadcast to exactly `into`."""
    mine, wanted = tuple(shape), tuple(into)
    if len(mine) > len(wanted):
        return False
    return all(m in (1, w) for m, w in zip(reversed(mine), reversed(wanted), strict=False))


def _check_cast(result: Tensor, out: Tensor) -> None:
    if result.dtype is not out.dtype and not torch.can_cast(result.dtype, out.dtype):
        raise RuntimeError(
            f"result type {_spelled(result.dtype)} can't be cast to the desired output type {_spelled(out.dtype)}"
        )


def _spelled(dtype: torch.dtype) -> str:
    names = {torch.int64: "Long", torch.int32: "Int", torch.int16: "Short", torch.uint8: "Byte", torch.int8: "Char"}
    floats = {torch.float64: "Double", torch.float32: "Float", torch.float16: "Half", torch.bool: "Bool"}
    return {**names, **floats}.get(dtype, str(dtype).removeprefix("torch."))


def _store(out: Tensor, result: Tensor) -> None:
    """Put the result where the caller wants it, as out= does: resized when the shape differs, converted when allowed."""
    _check_cast(result, out)
    if out.shape != result.shape:
        if out.numel():
            warnings.warn(
                f"An output with one or more elements was resized since it had shape {list(out.shape)}, which does not "
                f"match the required output shape {list(result.shape)}. This behavior is deprecated, and in a future "
                "PyTorch release outputs will not be resized unless they have zero elements. You can explicitly reuse "
                "an out tensor t by resizing it, inplace, to zero elements with t.resize_(0).",
                UserWarning,
                stacklevel=3,
            )
        last = not result.is_contiguous() and result.ndim == 4 and _is_dense(result)
        out.resize_(result.shape, memory_format=torch.channels_last if last else torch.contiguous_format)
    out.copy_(result)
