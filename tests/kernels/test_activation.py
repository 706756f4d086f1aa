"""Activations under exact kernels: values and gradients near stock's in double precision, bad arguments refused."""

import pytest
import torch
import torch.nn.functional as F

from diva.errors import KernelError
from diva.kernels.exact import exact

ACTIVATIONS = {
    "relu": F.relu,
    "threshold": lambda x: F.threshold(x, 0.1, 20.0),
    "sigmoid": torch.sigmoid,
    "tanh": torch.tanh,
    "silu": F.silu,
    "gelu": F.gelu,
    "gelu_tanh": lambda x: F.gelu(x, approximate="tanh"),
    "softplus": F.softplus,
    "softplus_scaled": lambda x: F.softplus(x, 2.0, 10.0),
    "mish": F.mish,
    "elu": F.elu,
    "selu": F.selu,
    "celu": lambda x: F.celu(x, 1.7),
    "log_sigmoid": F.logsigmoid,
    "hardtanh": F.hardtanh,
    "relu6": F.relu6,
    "hardswish": F.hardswish,
    "hardsigmoid": F.hardsigmoid,
    "leaky_relu": F.leaky_relu,
    "hardshrink": F.hardshrink,
    "softshrink": F.softshrink,
    "tanhshrink": F.tanhshrink,
    "glu": lambda x: F.glu(x, 0),
    "prelu": lambda x: F.prelu(x.view(-1, 2), torch.tensor([0.3, 0.2], dtype=x.dtype)),
    "logit": lambda x: torch.logit(torch.sigmoid(x), 1e-3),
}


def points(seed=0):
    generator = torch.Generator().manual_seed(seed)
    return torch.cat(
        [
            torch.randn(2000, generator=generator) * 3,
            torch.linspace(-12, 12, 994),
            torch.tensor([0.0, 1e-30, -1e-30, 3, -3, 6]),
        ]
    )


def value_and_gradient(f, x):
    x = x.clone().requires_grad_()
    y = f(x)
    y.backward(torch.full_like(y, 0.7))
    return y.detach(), x.grad


@pytest.mark.parametrize("name", ACTIVATIONS)
def test_values_and_gradients_agree_with_double_precision(name):
    """Within 12 roundings of a number of the size of x or 1: the longest formula has a dozen operations after the functions."""
    f, x = ACTIVATIONS[name], points()
    y, g = value_and_gradient(f, x.double())
    with exact():
        found_y, found_g = value_and_gradient(f, x)
    assert found_y.dtype == torch.float32 and found_y.shape == y.shape
    room = 12 * 2**-24 * (1 + x.abs().double())
    if name == "logit":  # its slope is 1 / (s (1 - s)), so that the rounding of the sigmoid is multiplied by up to 1000
        room = room * 1000
    assert ((found_y - y).abs() <= room[: y.numel()].view_as(y) + 12 * 2**-24 * y.abs()).all()
    assert ((found_g - g).abs() <= room).all()


@pytest.mark.parametrize("name", [n for n in ACTIVATIONS if n != "gelu"])
def test_double_precision_values_and_gradients_agree_with_stock(name):
    f, x = ACTIVATIONS[name], points(1).double()
    y, g = value_and_gradient(f, x)
    with exact():
        found_y, found_g = value_and_gradient(f, x)
    room = (1000 if name == "logit" else 1) * 16 * 2**-53 * (1 + x.abs())
    if name == "hardsigmoid":
        room = room + 2**-27  # stock multiplies by 1/6 rounded to float32
    assert ((found_y - y).abs() <= room[: y.numel()].view_as(y) + room[0]).all()
    assert ((found_g - g).abs() <= room).all()


@pytest.mark.parametrize("name", [n for n in ACTIVATIONS if n not in ("glu", "prelu")])
def test_strides_of_channels_last_stay(name):
    x = torch.randn(2, 6, 5, 4).contiguous(memory_format=torch.channels_last).requires_grad_()
    with exact():
        y = ACTIVATIONS[name](x)
        y.backward(torch.ones_like(y))
        dense = ACTIVATIONS[name](x.detach().contiguous())
    assert y.is_contiguous(memory_format=torch.channels_last)
    assert torch.equal(y.detach(), dense)
    assert x.grad is not None and x.grad.is_contiguous(memory_format=torch.channels_last)


@pytest.mark.parametrize("name", [n for n in ACTIVATIONS if n != "glu"])
def test_nothing_in_nothing_out(name):
    with exact():
        assert ACTIVATIONS[name](torch.empty(0, 2)).numel() == 0


def test_zero_and_nan_pass_relu_as_in_stock():
    x = torch.tensor([-0.0, 0.0, float("nan"), -1.0, float("-inf"), float("inf")])
    with exact():
        y = torch.relu(x)
    assert torch.equal(torch.signbit(y), torch.tensor([True, False, False, False, False, False])) and y[2].isnan()
    assert torch.equal(y[3:], torch.tensor([0.0, 0.0, float("inf")]))


def test_relu_of_integers_is_stock():
    with exact():
        assert torch.equal(torch.relu(torch.tensor([-2, 3])), torch.tensor([0, 3]))


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda x: F.glu(x[:5], 0), "Halving dimension must be even"),
        (lambda x: F.softshrink(x, -1.0), "lambda must be greater or equal to 0"),
        (lambda x: F.gelu(x, approximate="erf"), "none or tanh"),
        (lambda x: torch.ops.aten.silu_backward(x, x[:7]), "must match"),
    ],
)
def test_bad_arguments_are_refused(call, message):
    with exact(), pytest.raises(RuntimeError, match=message):
        call(torch.randn(10))


def test_half_precision_is_refused():
    with exact(), pytest.raises(KernelError, match="float32 and float64"):
        F.silu(torch.ones(3, dtype=torch.bfloat16))
