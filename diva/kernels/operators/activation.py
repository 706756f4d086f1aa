"""Activations as PyTorch operators, forward and backward; `out` may have any strides."""

from __future__ import annotations

from torch import Tensor

from diva.kernels.operators.elementwise_pass import FLOATS, Number, elementwise, function, scalar, unary
from diva.kernels.table import kernel, stock

_RELU, _THRESHOLD, _THRESHOLD_BACKWARD = function("RELU"), function("THRESHOLD"), function("THRESHOLD_BACKWARD")

_stock_relu = stock("relu")


@kernel("relu")
def relu(self: Tensor, *, out: Tensor | None = None) -> Tensor:
    """x < 0 ? 0 : x; NaN and -0 pass."""
    if self.dtype not in FLOATS and not self.dtype.is_floating_point:
        return _stock_relu(self) if out is None else out.copy_(_stock_relu(self))
    return unary(_RELU, self, out)


@kernel("threshold")
def threshold(self: Tensor, threshold: Number, value: Number, *, out: Tensor | None = None) -> Tensor:
    """x <= threshold ? value : x; NaN passes."""
    return scalar(_THRESHOLD, self, threshold, value, out=out)


@kernel("threshold_backward")
def threshold_backward(grad_output: Tensor, self: Tensor, threshold: Number, *, out: Tensor | None = None) -> Tensor:
    """x <= threshold ? 0 : g; g where x is NaN."""
    return elementwise(_THRESHOLD_BACKWARD, (self, grad_output), threshold, out=out)
