"""Transcendental functions and powers as PyTorch operators; `out` may have any strides."""

from __future__ import annotations

import torch
from torch import Tensor

from diva.kernels.operators.elementwise_pass import (
    FLOATS,
    Number,
    as_float,
    binary,
    binary_with,
    function,
    into,
    promote,
    scalar,
    tensors,
    unary,
)
from diva.kernels.table import kernel, stock

_SQUARE, _CUBE, _SQRT, _RSQRT = function("SQUARE"), function("CUBE"), function("SQRT"), function("RSQRT")
_INVERSE = function("RDIV_SCALAR")
_POW, _POW_SCALAR, _SCALAR_POW = function("POW"), function("POW_SCALAR"), function("SCALAR_POW")
_LOGADDEXP, _XLOGY = function("LOGADDEXP"), function("XLOGY")
_XLOGY_SCALAR, _SCALAR_XLOGY = function("XLOGY_SCALAR"), function("SCALAR_XLOGY")
_LOGIT, _LOGIT_BACKWARD = function("LOGIT"), function("LOGIT_BACKWARD")

_stock_pow_tensor, _stock_pow_scalar = stock("pow.Tensor_Tensor"), stock("pow.Tensor_Scalar")
_stock_scalar_pow = stock("pow.Scalar")


def _serve(name: str, f: int, meaning: str) -> None:
    """Declare a function of one tensor; integers are taken as the default float type."""

    def operator(self: Tensor, *, out: Tensor | None = None) -> Tensor:
        return unary(f, self if self.dtype in FLOATS else as_float(self), out)

    operator.__qualname__ = operator.__name__ = name
    operator.__doc__ = meaning
    kernel(name)(operator)


for _name in ("exp", "exp2", "expm1", "log", "log2", "log10", "log1p", "tanh", "sin", "cos"):
    _serve(_name, function(_name.upper()), f"{_name}: float32 correctly rounded.")
for _name in ("sigmoid", "erf"):
    _serve(_name, function(_name.upper()), f"{_name}: a fixed program, about 1 ulp.")


@kernel("pow.Tensor_Scalar")
def pow_scalar(self: Tensor, exponent: Number, *, out: Tensor | None = None) -> Tensor:
    """self ** exponent. 0: 1; 1: self; 2: x x; 3: (x x) x; 0.5: sqrt; -0.5: 1 / sqrt; -1: 1 / x; -2: 1 / (x x); else a program."""
    ready = promote(self, exponent)
    if ready is None:
        return into(out, _stock_pow_scalar(self, exponent))
    x = ready[0]
    if exponent == 2:
        return unary(_SQUARE, x, out)
    if exponent == 3:
        return unary(_CUBE, x, out)
    if exponent == 0.5:
        return unary(_SQRT, x, out)
    if exponent == -0.5:
        return unary(_RSQRT, x, out)
    if exponent == -1:
        return scalar(_INVERSE, x, 1.0, out=out)
    if exponent == -2:
        return scalar(_INVERSE, unary(_SQUARE, x), 1.0, out=out)
    if exponent == 1:
        return into(out, x.clone())
    if exponent == 0:
        return into(out, torch.ones_like(x))
    return scalar(_POW_SCALAR, x, exponent, out=out)


@kernel("pow.Tensor_Tensor")
def pow_tensor(self: Tensor, exponent: Tensor, *, out: Tensor | None = None) -> Tensor:
    """self ** exponent by the fixed program."""
    ready = tensors(self, exponent)
    if ready is None:
        return into(out, _stock_pow_tensor(self, exponent))
    return binary(_POW, ready[0], ready[1], out)


@kernel("pow.Scalar")
def scalar_pow(self: Number, exponent: Tensor, *, out: Tensor | None = None) -> Tensor:
    """The number `self` to the powers `exponent` by the fixed program."""
    ready = promote(exponent, self)
    if ready is None:
        return into(out, _stock_scalar_pow(self, exponent))
    return scalar(_SCALAR_POW, ready[0], self, out=out)


@kernel("logaddexp")
def logaddexp(self: Tensor, other: Tensor, *, out: Tensor | None = None) -> Tensor:
    """max + LOG1P(EXP(-|self - other|))."""
    ready = tensors(self, other) or [as_float(self), as_float(other)]
    return binary(_LOGADDEXP, ready[0], ready[1], out)


@kernel("xlogy.Tensor")
def xlogy(self: Tensor, other: Tensor, *, out: Tensor | None = None) -> Tensor:
    """self * LOG(other); NaN where other is, 0 where self is 0."""
    x, y = promote(self, other) or [as_float(self), as_float(other)]
    if not isinstance(y, Tensor):
        return scalar(_XLOGY_SCALAR, x, y, out=out)
    if not isinstance(x, Tensor):
        return scalar(_SCALAR_XLOGY, y, x, out=out)
    return binary(_XLOGY, x, y, out)


@kernel("logit")
def logit(self: Tensor, eps: float | None = None, *, out: Tensor | None = None) -> Tensor:
    """LOG(x / (1 - x)), x = self, held in [eps, 1 - eps] where eps is given."""
    return scalar(_LOGIT, as_float(self), -1.0 if eps is None else eps, out=out)


@kernel("logit_backward")
def logit_backward(grad_output: Tensor, self: Tensor, eps: float | None = None, *, out: Tensor | None = None) -> Tensor:
    """g / (x (1 - x)); outside of the bounds 0, and NaN without eps."""
    return binary_with(_LOGIT_BACKWARD, self, grad_output, -1.0 if eps is None else eps, out=out)
