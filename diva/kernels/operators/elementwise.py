"""Elementwise arithmetic as PyTorch operators: sums, products, quotients, roots, and what combines them.

Everywhere `out` may have any strides. Integer and bool results come from PyTorch's own kernels: they are exact.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor

from diva.kernels.operators.elementwise_pass import (
    FLOATS,
    Number,
    as_float,
    binary,
    binary_with,
    common_type,
    elementwise,
    function,
    integer_tensors,
    into,
    promote,
    scalar,
    tensors,
    unary,
)
from diva.kernels.table import kernel, stock

_ADD, _ADD_SCALAR, _ADD_SCALED = function("ADD"), function("ADD_SCALAR"), function("ADD_SCALED")
_ADD_SCALED_SCALAR = function("ADD_SCALED_SCALAR")
_SUB, _RSUB_SCALAR, _RSUB_SCALED = function("SUB"), function("RSUB_SCALAR"), function("RSUB_SCALED")
_MUL, _MUL_SCALAR = function("MUL"), function("MUL_SCALAR")
_DIV, _DIV_SCALAR, _RDIV_SCALAR = function("DIV"), function("DIV_SCALAR"), function("RDIV_SCALAR")
_DIV_MODE = {"floor": function("DIV_FLOOR"), "trunc": function("DIV_TRUNC")}
_SQRT, _RSQRT = function("SQRT"), function("RSQRT")
_ADDCMUL, _ADDCDIV = function("ADDCMUL"), function("ADDCDIV")
_LERP, _LERP_SCALAR = function("LERP"), function("LERP_SCALAR")
_CLAMP_MIN, _CLAMP_MAX, _CLAMP = function("CLAMP_MIN"), function("CLAMP_MAX"), function("CLAMP")
_CLAMP_MIN_TENSOR, _CLAMP_MAX_TENSOR = function("CLAMP_MIN_TENSOR"), function("CLAMP_MAX_TENSOR")
_CLAMP_TENSOR = function("CLAMP_TENSOR")

_stock_add, _stock_sub, _stock_rsub = stock("add.Tensor"), stock("sub.Tensor"), stock("rsub.Tensor")
_stock_mul, _stock_div_mode = stock("mul.Tensor"), stock("div.Tensor_mode")
_stock_addcmul = stock("addcmul")
_stock_clamp, _stock_clamp_tensor = stock("clamp"), stock("clamp.Tensor")

Operand = Tensor | Number
_NUMBERS = (float, int)  # of Python: beside one of these the other operand is a tensor


def _same_float(x: Operand, y: Operand) -> bool:
    """Two tensors of one type of ours; the second has dimensions, or the first has none either."""
    return (
        isinstance(x, Tensor)
        and isinstance(y, Tensor)
        and x.dtype is y.dtype
        and x.dtype in FLOATS
        and (y.dim() != 0 or x.dim() == 0)
    )


@kernel("add.Tensor")
def add(self: Operand, other: Operand, *, alpha: Number = 1, out: Tensor | None = None) -> Tensor:
    """self + other; with alpha fma(alpha, other, self): one rounding."""
    if _same_float(self, other):
        if alpha == 1:
            return binary(_ADD, self, other, out)  # type: ignore[arg-type]
        return binary_with(_ADD_SCALED, self, other, alpha, out=out)  # type: ignore[arg-type]
    return _add(self, other, alpha, out, lambda: _stock_add(*integer_tensors(self, other), alpha=alpha))


@kernel("sub.Tensor")
def sub(self: Operand, other: Operand, *, alpha: Number = 1, out: Tensor | None = None) -> Tensor:
    """self - other; with alpha fma(-alpha, other, self)."""
    if alpha == 1 and _same_float(self, other):
        return binary(_SUB, self, other, out)  # type: ignore[arg-type]
    return _add(self, other, -alpha, out, lambda: _stock_sub(*integer_tensors(self, other), alpha=alpha))


@kernel("rsub.Tensor")
def rsub(self: Operand, other: Operand, *, alpha: Number = 1, out: Tensor | None = None) -> Tensor:
    """other - self; with alpha fma(-alpha, self, other)."""
    return _add(other, self, -alpha, out, lambda: _stock_rsub(*integer_tensors(self, other), alpha=alpha))


def _add(x: Operand, y: Operand, alpha: Number, out: Tensor | None, integers: Callable[[], Tensor]) -> Tensor:
    """x + alpha y for every kind of operand."""
    if not (type(y) in _NUMBERS and isinstance(x, Tensor) and x.dtype in FLOATS):
        ready = promote(x, y)
        if ready is None:
            return into(out, integers())
        x, y = ready
    if isinstance(x, Tensor) and isinstance(y, Tensor):
        if alpha == 1 or alpha == -1:
            return binary(_ADD if alpha == 1 else _SUB, x, y, out)
        return binary_with(_ADD_SCALED, x, y, alpha, out=out)
    if isinstance(x, Tensor):
        if alpha == 1:
            return scalar(_ADD_SCALAR, x, y, out=out)  # type: ignore[arg-type]
        return scalar(_ADD_SCALED_SCALAR, x, y, alpha, out=out)  # type: ignore[arg-type]
    assert isinstance(y, Tensor)
    if alpha == -1:
        return scalar(_RSUB_SCALAR, y, x, out=out)
    return scalar(_RSUB_SCALED, y, x, -alpha, out=out)


@kernel("mul.Tensor")
def mul(self: Operand, other: Operand, *, out: Tensor | None = None) -> Tensor:
    """self * other."""
    if _same_float(self, other):
        return binary(_MUL, self, other, out)  # type: ignore[arg-type]
    if type(other) in _NUMBERS and self.dtype in FLOATS:  # type: ignore[union-attr]
        return scalar(_MUL_SCALAR, self, other, out=out)  # type: ignore[arg-type]
    ready = promote(self, other)
    if ready is None:
        return into(out, _stock_mul(*integer_tensors(self, other)))
    x, y = ready
    if isinstance(x, Tensor):
        return binary(_MUL, x, y, out) if isinstance(y, Tensor) else scalar(_MUL_SCALAR, x, y, out=out)
    return scalar(_MUL_SCALAR, y, x, out=out)


@kernel("div.Tensor")
def div(self: Operand, other: Operand, *, out: Tensor | None = None) -> Tensor:
    """self / other, a true division also by a number."""
    if _same_float(self, other):
        return binary(_DIV, self, other, out)  # type: ignore[arg-type]
    if type(other) in _NUMBERS and self.dtype in FLOATS:  # type: ignore[union-attr]
        return scalar(_DIV_SCALAR, self, other, out=out)  # type: ignore[arg-type]
    x, y = promote(self, other) or _floats(self, other)
    if isinstance(x, Tensor):
        return binary(_DIV, x, y, out) if isinstance(y, Tensor) else scalar(_DIV_SCALAR, x, y, out=out)
    return scalar(_RDIV_SCALAR, y, x, out=out)


def _floats(*operands: Operand) -> list[Any]:
    """Integer operands in the default float type."""
    dtype = torch.get_default_dtype()
    return [o.to(dtype) if isinstance(o, Tensor) else o for o in operands]


@kernel("div.Tensor_mode")
def div_mode(self: Operand, other: Operand, *, rounding_mode: str | None, out: Tensor | None = None) -> Tensor:
    """self / other, rounded down ("floor", from the exact remainder) or towards zero ("trunc", of the quotient)."""
    if rounding_mode is None:
        result: Tensor = div(self, other, out=out)
        return result
    if rounding_mode not in _DIV_MODE:
        raise RuntimeError(
            f"div expected rounding_mode to be one of None, 'trunc', or 'floor' but found '{rounding_mode}'"
        )
    ready = tensors(self, other)
    if ready is None:
        return into(out, _stock_div_mode(*integer_tensors(self, other), rounding_mode=rounding_mode))
    return binary(_DIV_MODE[rounding_mode], ready[0], ready[1], out)


@kernel("floor_divide")
def floor_divide(self: Operand, other: Operand, *, out: Tensor | None = None) -> Tensor:
    """self / other rounded down."""
    result: Tensor = div_mode(self, other, rounding_mode="floor", out=out)
    return result


@kernel("reciprocal")
def reciprocal(self: Tensor, *, out: Tensor | None = None) -> Tensor:
    """1 / self."""
    return scalar(_RDIV_SCALAR, as_float(self), 1.0, out=out)


@kernel("sqrt")
def sqrt(self: Tensor, *, out: Tensor | None = None) -> Tensor:
    """The square root, correctly rounded."""
    return unary(_SQRT, as_float(self), out)


@kernel("rsqrt")
def rsqrt(self: Tensor, *, out: Tensor | None = None) -> Tensor:
    """1 / sqrt(self): two roundings."""
    return unary(_RSQRT, as_float(self), out)


@kernel("addcmul")
def addcmul(self: Tensor, tensor1: Tensor, tensor2: Tensor, *, value: Number = 1, out: Tensor | None = None) -> Tensor:
    """fma(value * tensor1, tensor2, self)."""
    if common_type(self, tensor1, tensor2) not in FLOATS and promote(self, tensor1, tensor2) is None:
        return into(out, _stock_addcmul(self, tensor1, tensor2, value=value))
    return _combine(_ADDCMUL, (self, tensor1, tensor2), value, out)


@kernel("addcdiv")
def addcdiv(self: Tensor, tensor1: Tensor, tensor2: Tensor, *, value: Number = 1, out: Tensor | None = None) -> Tensor:
    """self + (value * tensor1) / tensor2."""
    if not any(t.dtype.is_floating_point for t in (tensor1, tensor2)):
        raise RuntimeError("Integer division with addcdiv is no longer supported; convert the tensors to float first")
    return _combine(_ADDCDIV, (self, tensor1, tensor2), value, out)


def _combine(f: int, operands: tuple[Tensor, ...], value: Number, out: Tensor | None) -> Tensor:
    dtype = operands[0].dtype
    if any(o.dtype is not dtype for o in operands):
        dtype = common_type(*operands)
        operands = tuple(o.to(dtype) for o in operands)
    return elementwise(f, operands, value, out=out)


@kernel("lerp.Scalar", "lerp.Tensor")
def lerp(self: Tensor, end: Tensor, weight: Operand, *, out: Tensor | None = None) -> Tensor:
    """d = end - self; |weight| < 1/2: fma(weight, d, self), else fma(weight - 1, d, end)."""
    if self.dtype is not end.dtype or (isinstance(weight, Tensor) and weight.dtype is not self.dtype):
        raise RuntimeError(f"expected dtype {self.dtype} for `end` and `weight`, found {end.dtype}")
    if isinstance(weight, Tensor):
        return elementwise(_LERP, (self, end, weight), out=out)
    return elementwise(_LERP_SCALAR, (self, end), weight, out=out)


def _plain(name: str, f: int) -> None:
    """Serve a function of two operands without a form for numbers; integers by PyTorch's own kernel."""
    integers = stock(name)

    def operator(self: Operand, other: Operand, *, out: Tensor | None = None) -> Tensor:
        if _same_float(self, other):
            return binary(f, self, other, out)  # type: ignore[arg-type]
        ready = tensors(self, other)
        if ready is None:
            return into(out, integers(*integer_tensors(self, other)))
        return binary(f, ready[0], ready[1], out)

    operator.__qualname__ = operator.__name__ = name
    kernel(name)(operator)


for _name, _function in {
    "maximum": "MAXIMUM",
    "minimum": "MINIMUM",
    "fmax": "FMAX",
    "fmin": "FMIN",
    "fmod.Tensor": "FMOD",
    "remainder.Tensor": "REMAINDER",
    "remainder.Scalar_Tensor": "REMAINDER",
    "hypot": "HYPOT",
}.items():
    _plain(_name, function(_function))


@kernel("clamp")
def clamp(self: Tensor, min: Number | None = None, max: Number | None = None, *, out: Tensor | None = None) -> Tensor:
    """x < min ? min : x, then x > max ? max : x; NaN passes, and a NaN bound makes NaN."""
    if min is None and max is None:
        raise RuntimeError("torch.clamp: At least one of 'min' or 'max' must not be None")
    bounds = [bound for bound in (min, max) if bound is not None]
    ready = promote(self, *bounds)
    if ready is None:
        return into(out, _stock_clamp(self, min, max))
    x = ready[0]
    if max is None:
        return scalar(_CLAMP_MIN, x, bounds[0], out=out)
    if min is None:
        return scalar(_CLAMP_MAX, x, bounds[0], out=out)
    return scalar(_CLAMP, x, min, max, out=out)


@kernel("clamp.Tensor")
def clamp_tensor(
    self: Tensor,
    min: Tensor | None = None,
    max: Tensor | None = None,
    *,
    out: Tensor | None = None,
) -> Tensor:
    """`clamp` with tensors as bounds."""
    if min is None and max is None:
        raise RuntimeError("torch.clamp: At least one of 'min' or 'max' must not be None")
    bounds = [bound for bound in (min, max) if bound is not None]
    ready = tensors(self, *bounds)
    if ready is None:
        return into(out, _stock_clamp_tensor(self, min, max))
    f = _CLAMP_MIN_TENSOR if max is None else _CLAMP_MAX_TENSOR if min is None else _CLAMP_TENSOR
    return elementwise(f, ready, out=out)


@kernel("clamp_min")
def clamp_min(self: Tensor, min: Number, *, out: Tensor | None = None) -> Tensor:
    """`clamp` from below."""
    result: Tensor = clamp(self, min, None, out=out)
    return result


@kernel("clamp_max")
def clamp_max(self: Tensor, max: Number, *, out: Tensor | None = None) -> Tensor:
    """`clamp` from above."""
    result: Tensor = clamp(self, None, max, out=out)
    return result


@kernel("clamp_min.Tensor")
def clamp_min_tensor(self: Tensor, min: Tensor, *, out: Tensor | None = None) -> Tensor:
    """`clamp` from below by a tensor."""
    result: Tensor = clamp_tensor(self, min, None, out=out)
    return result


@kernel("clamp_max.Tensor")
def clamp_max_tensor(self: Tensor, max: Tensor, *, out: Tensor | None = None) -> Tensor:
    """`clamp` from above by a tensor."""
    result: Tensor = clamp_tensor(self, None, max, out=out)
    return result
