"""Activations as PyTorch operators, forward and backward; `out` may have any strides.

The formulas stand in native/elementwise.h and, to be executed, in reference/activation.py.
"""

from __future__ import annotations

import torch
from torch import Tensor

from diva.kernels.operators.elementwise_pass import (
    FLOATS,
    Number,
    binary,
    binary_with,
    elementwise,
    function,
    into,
    scalar,
    unary,
)
from diva.kernels.table import kernel, stock

_RELU, _THRESHOLD, _HARDTANH = function("RELU"), function("THRESHOLD"), function("HARDTANH")
_THRESHOLD_BACKWARD = function("THRESHOLD_BACKWARD")
_GELU = {"none": function("GELU"), "tanh": function("GELU_TANH")}
_GELU_BACKWARD = {"none": function("GELU_BACKWARD"), "tanh": function("GELU_TANH_BACKWARD")}
_ELU, _ELU_BACKWARD = function("ELU"), function("ELU_BACKWARD")
_ELU_BACKWARD_RESULT = function("ELU_BACKWARD_RESULT")
_SOFTPLUS, _SOFTPLUS_BACKWARD = function("SOFTPLUS"), function("SOFTPLUS_BACKWARD")
_LEAKY_RELU, _LEAKY_RELU_BACKWARD = function("LEAKY_RELU"), function("LEAKY_RELU_BACKWARD")
_LOG_SIGMOID, _LOG_SIGMOID_BACKWARD = function("LOG_SIGMOID"), function("LOG_SIGMOID_BACKWARD")
_PRELU, _PRELU_BACKWARD = function("PRELU"), function("PRELU_BACKWARD")
_PRELU_BACKWARD_WEIGHT = function("PRELU_BACKWARD_WEIGHT")
_HARDSHRINK, _SOFTSHRINK = function("HARDSHRINK"), function("SOFTSHRINK")
_HARDSHRINK_BACKWARD, _HARDTANH_BACKWARD = function("HARDSHRINK_BACKWARD"), function("HARDTANH_BACKWARD")
_SIGMOID_BACKWARD, _TANH_BACKWARD = function("SIGMOID_BACKWARD"), function("TANH_BACKWARD")
_GLU, _GLU_BACKWARD_GATE = function("GLU"), function("GLU_BACKWARD_GATE")

_stock_relu, _stock_hardtanh = stock("relu"), stock("hardtanh")
_stock_threshold, _stock_threshold_backward = stock("threshold"), stock("threshold_backward")


def _integers(x: Tensor) -> bool:
    return not (x.dtype.is_floating_point or x.dtype.is_complex)


@kernel("relu")
def relu(self: Tensor, *, out: Tensor | None = None) -> Tensor:
    """x < 0 ? 0 : x; NaN and -0 pass."""
    if self.dtype not in FLOATS and _integers(self):
        return into(out, _stock_relu(self))
    return unary(_RELU, self, out)


@kernel("threshold")
def threshold(self: Tensor, threshold: Number, value: Number, *, out: Tensor | None = None) -> Tensor:
    """x <= threshold ? value : x; NaN passes."""
    if _integers(self):
        return into(out, _stock_threshold(self, threshold, value))
    return scalar(_THRESHOLD, self, threshold, value, out=out)


@kernel("threshold_backward")
def threshold_backward(grad_output: Tensor, self: Tensor, threshold: Number, *, out: Tensor | None = None) -> Tensor:
    """x <= threshold ? 0 : g; g where x is NaN."""
    if self.dtype not in FLOATS and _integers(self):
        return into(out, _stock_threshold_backward(grad_output, self, threshold))
    return binary_with(_THRESHOLD_BACKWARD, self, grad_output, threshold, out=out)


@kernel("hardtanh")
def hardtanh(self: Tensor, min_val: Number = -1, max_val: Number = 1, *, out: Tensor | None = None) -> Tensor:
    """x < min ? min : x > max ? max : x; NaN passes."""
    if _integers(self):
        return into(out, _stock_hardtanh(self, min_val, max_val))
    return scalar(_HARDTANH, self, min_val, max_val, out=out)


@kernel("hardtanh_backward")
def hardtanh_backward(
    grad_output: Tensor, self: Tensor, min_val: Number, max_val: Number, *, out: Tensor | None = None
) -> Tensor:
    """x <= min or x >= max ? 0 : g."""
    return binary_with(_HARDTANH_BACKWARD, self, grad_output, min_val, max_val, out=out)


def _forward(name: str) -> None:
    """Serve an activation that takes nothing but its tensor."""
    f = function(name.upper())

    def operator(self: Tensor, *, out: Tensor | None = None) -> Tensor:
        return unary(f, self, out)

    operator.__qualname__ = operator.__name__ = name
    kernel(name)(operator)


def _backward(name: str) -> None:
    """Serve the backward function of one: of the gradient and of the input (or result) of the forward function."""
    f = function(name.upper())

    def operator(grad_output: Tensor, self: Tensor, *, out: Tensor | None = None) -> Tensor:
        return binary_with(f, self, grad_output, out=out)

    operator.__qualname__ = operator.__name__ = name
    kernel(name)(operator)


for _name in ("silu", "mish", "hardswish", "hardsigmoid"):
    _forward(_name)
    _backward(f"{_name}_backward")


@kernel("sigmoid_backward")
def sigmoid_backward(grad_output: Tensor, output: Tensor, *, out: Tensor | None = None) -> Tensor:
    """g * ((1 - y) * y)."""
    return binary_with(_SIGMOID_BACKWARD, output, grad_output, out=out)


@kernel("tanh_backward")
def tanh_backward(grad_output: Tensor, output: Tensor, *, out: Tensor | None = None) -> Tensor:
    """g * fma(-y, y, 1)."""
    return binary_with(_TANH_BACKWARD, output, grad_output, out=out)


@kernel("gelu")
def gelu(self: Tensor, *, approximate: str = "none", out: Tensor | None = None) -> Tensor:
    """x / 2 (1 + erf(x / sqrt 2)), or with tanh."""
    return unary(_GELU[_approximation(approximate)], self, out)


@kernel("gelu_backward")
def gelu_backward(grad_output: Tensor, self: Tensor, *, approximate: str = "none", out: Tensor | None = None) -> Tensor:
    """The gradient of `gelu`."""
    return binary_with(_GELU_BACKWARD[_approximation(approximate)], self, grad_output, out=out)


def _approximation(name: str) -> str:
    if name not in _GELU:
        raise RuntimeError("approximate argument must be either none or tanh.")
    return name


@kernel("elu")
def elu(
    self: Tensor, alpha: Number = 1, scale: Number = 1, input_scale: Number = 1, *, out: Tensor | None = None
) -> Tensor:
    """x > 0 ? x * scale : (alpha * scale) * EXPM1(x * input_scale). Serves selu and celu too."""
    return scalar(_ELU, self, alpha, scale, input_scale, out=out)


@kernel("elu_backward")
def elu_backward(
    grad_output: Tensor,
    alpha: Number,
    scale: Number,
    input_scale: Number,
    is_result: bool,
    self_or_result: Tensor,
    *,
    out: Tensor | None = None,
) -> Tensor:
    """The gradient of `elu`, from its input or from its result."""
    if is_result and alpha < 0:
        raise RuntimeError(
            "In-place elu backward calculation is triggered with a negative slope which is not supported. "
            "This is caused by calling in-place forward function with a negative slope, "
            "please call out-of-place version instead."
        )
    f = _ELU_BACKWARD_RESULT if is_result else _ELU_BACKWARD
    return binary_with(f, self_or_result, grad_output, alpha, scale, input_scale, out=out)


@kernel("softplus")
def softplus(self: Tensor, beta: Number = 1, threshold: Number = 20, *, out: Tensor | None = None) -> Tensor:
    """x * beta > threshold ? x : log(1 + exp(x * beta)) / beta."""
    return scalar(_SOFTPLUS, self, beta, threshold, out=out)


@kernel("softplus_backward")
def softplus_backward(
    grad_output: Tensor, self: Tensor, beta: Number, threshold: Number, *, out: Tensor | None = None
) -> Tensor:
    """x * beta > threshold ? g : g * sigmoid(x * beta)."""
    return binary_with(_SOFTPLUS_BACKWARD, self, grad_output, beta, threshold, out=out)


@kernel("leaky_relu")
def leaky_relu(self: Tensor, negative_slope: Number = 0.01, *, out: Tensor | None = None) -> Tensor:
    """x > 0 ? x : x * slope."""
    return scalar(_LEAKY_RELU, self, negative_slope, out=out)


@kernel("leaky_relu_backward")
def leaky_relu_backward(
    grad_output: Tensor, self: Tensor, negative_slope: Number, self_is_result: bool, *, out: Tensor | None = None
) -> Tensor:
    """x > 0 ? g : g * slope."""
    if self_is_result and negative_slope < 0:
        raise RuntimeError(
            "In-place leakyReLu backward calculation is triggered with a negative slope which is not supported. "
            "This is caused by calling in-place forward function with a negative slope, "
            "please call out-of-place version instead."
        )
    return binary_with(_LEAKY_RELU_BACKWARD, self, grad_output, negative_slope, out=out)


@kernel("log_sigmoid_forward")
def log_sigmoid_forward(self: Tensor) -> tuple[Tensor, Tensor]:
    """min(x, 0) - LOG1P(EXP(-|x|)); the buffer stays empty: the backward function does not need it."""
    return unary(_LOG_SIGMOID, self), self.new_empty(0)


@kernel("log_sigmoid_backward")
def log_sigmoid_backward(grad_output: Tensor, self: Tensor, buffer: Tensor, *, out: Tensor | None = None) -> Tensor:
    """g * sigmoid(-x)."""
    return binary_with(_LOG_SIGMOID_BACKWARD, self, grad_output, out=out)


@kernel("_prelu_kernel")
def prelu(self: Tensor, weight: Tensor) -> Tensor:
    """x > 0 ? x : weight * x."""
    return binary(_PRELU, self, weight)


@kernel("_prelu_kernel_backward")
def prelu_backward(grad_output: Tensor, self: Tensor, weight: Tensor) -> tuple[Tensor, Tensor]:
    """x > 0 ? g : weight * g, and for the weight, not summed: x > 0 ? 0 : x * g."""
    of_weight = binary_with(_PRELU_BACKWARD_WEIGHT, self, grad_output)
    return elementwise(_PRELU_BACKWARD, (self, grad_output, weight)), of_weight


@kernel("hardshrink")
def hardshrink(self: Tensor, lambd: Number = 0.5, *, out: Tensor | None = None) -> Tensor:
    """-lambd <= x <= lambd ? 0 : x."""
    return scalar(_HARDSHRINK, self, lambd, out=out)


@kernel("softshrink")
def softshrink(self: Tensor, lambd: Number = 0.5, *, out: Tensor | None = None) -> Tensor:
    """x > lambd ? x - lambd : x < -lambd ? x + lambd : x * 0."""
    if lambd < 0:
        raise RuntimeError(f"lambda must be greater or equal to 0, but found to be {lambd}.")
    return scalar(_SOFTSHRINK, self, lambd, out=out)


@kernel("hardshrink_backward", "softshrink_backward")
def shrink_backward(grad_output: Tensor, self: Tensor, lambd: Number, *, out: Tensor | None = None) -> Tensor:
    """-lambd <= x <= lambd ? 0 : g."""
    return binary_with(_HARDSHRINK_BACKWARD, self, grad_output, lambd, out=out)


def _halves(x: Tensor, dim: int) -> tuple[Tensor, Tensor]:
    if x.dim() == 0:
        raise RuntimeError("glu does not support 0-dimensional tensors")
    size = x.size(dim)
    if size % 2:
        raise RuntimeError(f"Halving dimension must be even, but dimension {dim % x.dim()} is size {size}")
    return x.narrow(dim, 0, size // 2), x.narrow(dim, size // 2, size // 2)


@kernel("glu")
def glu(self: Tensor, dim: int = -1, *, out: Tensor | None = None) -> Tensor:
    """The first half times the sigmoid of the second."""
    x, gate = _halves(self, dim)
    return binary(_GLU, x, gate, out)


@kernel("glu_backward")
def glu_backward(grad_output: Tensor, self: Tensor, dim: int) -> Tensor:
    """g * sigmoid(gate), and (g * x) * ((1 - s) * s) for the gate."""
    x, gate = _halves(self, dim)
    return torch.cat([binary(_GLU, grad_output, gate), elementwise(_GLU_BACKWARD_GATE, (x, grad_output, gate))], dim)
