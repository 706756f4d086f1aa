"""Distributions beside the fillers, permutations, draws of categories, and the truncated normal of torch.nn.init, D7."""

from __future__ import annotations

from collections.abc import Callable
from decimal import Decimal, localcontext
from functools import lru_cache
from typing import Any

import torch
from torch import Tensor

from diva.kernels.library import native
from diva.kernels.operators.randomness import fill, fill_as, nonce
from diva.kernels.status import failed
from diva.kernels.table import kernel

PINS: list[tuple[Any, str, Any]] = []  # (object, attribute, replacement), to be set while the scope is open

_CATEGORIES = 1 << 24  # stock's limit


@kernel("exponential_")
def exponential_(self: Tensor, lambd: float = 1.0, *, generator: torch.Generator | None = None) -> Tensor:
    """-log(u) / lambd; never 0, at most 16.7 / lambd in float32."""
    if not lambd > 0:
        raise RuntimeError(f"exponential_ expects lambda > 0.0, but found lambda={lambd}")
    return fill(self, native.of(self).exponential, nonce(generator, self), lambd)


@kernel("cauchy_")
def cauchy_(
    self: Tensor, median: float = 0.0, sigma: float = 1.0, *, generator: torch.Generator | None = None
) -> Tensor:
    """fma(tan(pi (u - 1/2)), sigma, median)."""
    if not sigma > 0:
        raise RuntimeError(f"cauchy_ expects sigma > 0.0, but found sigma={sigma}")
    return fill(self, native.of(self).cauchy, nonce(generator, self), median, sigma)


@kernel("log_normal_")
def log_normal_(
    self: Tensor, mean: float = 1.0, std: float = 2.0, *, generator: torch.Generator | None = None
) -> Tensor:
    """exp(fma(z, std, mean))."""
    if not std > 0:
        raise RuntimeError(f"log_normal_ expects std > 0.0, but found std={std}")
    return fill(self, native.of(self).log_normal, nonce(generator, self), mean, std)


@kernel("geometric_")
def geometric_(self: Tensor, p: float, *, generator: torch.Generator | None = None) -> Tensor:
    """ceil(log(u) / log(1 - p)) in binary64, whatever the type: the number of the first success, from 1."""
    if not 0 < p < 1:
        raise RuntimeError(f"geometric_ expects p to be in (0, 1), but got p={p}")
    return fill_as(self, torch.float64, native.on(self).geometric, nonce(generator, self), log_failure(p))


@kernel("normal.Tensor_float")
def normal_of_means(mean: Tensor, std: float = 1.0, *, generator: torch.Generator | None = None) -> Tensor:
    """fma(z, std, mean) with a mean per element."""
    return _normal_each(mean, mean.new_full((), std), mean.dtype, generator)


@kernel("normal.float_Tensor")
def normal_of_deviations(mean: float, std: Tensor, *, generator: torch.Generator | None = None) -> Tensor:
    """fma(z, std, mean) with a standard deviation per element."""
    return _normal_each(std.new_full((), mean), std, std.dtype, generator)


@kernel("normal.Tensor_Tensor")
def normal_of_both(mean: Tensor, std: Tensor, *, generator: torch.Generator | None = None) -> Tensor:
    """fma(z, std, mean), mean and std broadcast together; the type is that of mean."""
    return _normal_each(mean, std, mean.dtype, generator)


def _normal_each(mean: Tensor, std: Tensor, dtype: torch.dtype, generator: torch.Generator | None) -> Tensor:
    shape = torch.broadcast_shapes(mean.shape, std.shape)
    means, stds = (t.to(dtype).expand(shape).contiguous() for t in (mean, std))
    out = torch.empty_like(means)
    function = native.of(out).normal_each
    status = function(out.data_ptr(), out.numel(), nonce(generator, out), means.data_ptr(), stds.data_ptr())
    if status:
        raise failed(status, "normal", RuntimeError("normal expects all elements of std >= 0.0"))
    return out


@kernel("randperm.generator_out")
def randperm(n: int, *, generator: torch.Generator | None, out: Tensor) -> Tensor:
    """The order that sorts 0..n-1 by (word64, index), into `out`, which takes the length n."""
    if n < 0:
        raise RuntimeError(f"n must be non-negative, got {n}")
    return fill_as(
        out if out.shape == (n,) else out.resize_(n), torch.int64, native.on(out).permutation, nonce(generator, out)
    )


@kernel("multinomial")
def multinomial(
    self: Tensor, num_samples: int, replacement: bool = False, *, generator: torch.Generator | None = None
) -> Tensor:
    """Categories by weight, in binary64: by inverse CDF with replacement, without by the race of exponential times."""
    n = self.shape[-1] if self.dim() else 1
    if self.dim() not in (1, 2) or not self.is_floating_point() or not 0 < n <= _CATEGORIES:
        raise RuntimeError("multinomial expects a float tensor of 1 or 2 dimensions with at most 2^24 categories")
    if num_samples <= 0 or (not replacement and num_samples > n):
        raise RuntimeError(f"cannot sample n_sample={num_samples} of {n} categories (replacement={replacement})")
    weights = self.to(torch.float64).contiguous()
    rows = self.shape[0] if self.dim() == 2 else 1
    out = weights.new_empty((*self.shape[:-1], num_samples), dtype=torch.int64)
    function = native.on(out).multinomial
    status = function(out.data_ptr(), weights.data_ptr(), rows, n, num_samples, nonce(generator, out), replacement)
    if status:
        said = (
            "multinomial: weights must be finite and not below 0, with enough of them above 0 in each row to draw from"
        )
        raise failed(status, "multinomial", RuntimeError(said))
    return out


@lru_cache(maxsize=256)
def log_failure(p: float) -> float:
    """log(1 - p) rounded from decimal arithmetic, which is the same on every machine, as libm's is not."""
    with localcontext() as context:
        context.prec = 50 - min(0, Decimal(p).adjusted())
        return float((1 - Decimal(p)).ln())


@lru_cache(maxsize=256)
def normal_cdf(x: float) -> float:
    """The normal distribution function at x, rounded from decimal arithmetic, the same on every machine; NaN is refused.

    |x| <= 4: 1/2 + phi(x) (x + x^3 / 3 + x^5 / (3 5) + ...). Beyond: phi(x) / (|x| + 1 / (|x| + 2 / (|x| + 3 / ...))), or
    1 less that.
    """
    if x != x:
        raise ValueError("the normal distribution function of NaN")
    with localcontext() as context:
        context.prec = 55
        size = min(abs(Decimal(x)), Decimal(60))  # there, it is 1e-784: 0 in binary64
        density = (-size * size / 2).exp() / (2 * _PI).sqrt()
        if size <= 4:
            term, total, odd = size, size, 1
            while term > Decimal(10) ** -55:
                odd += 2
                term = term * size * size / odd
                total += term
            upper = Decimal("0.5") - density * total
        else:
            below = size
            for k in range(400, 0, -1):
                below = size + k / below
            upper = density / below
        return float(upper if x < 0 else 1 - upper)


_PI = Decimal("3.14159265358979323846264338327950288419716939937510582097494459")


def trunc_normal_(
    tensor: Tensor, mean: float = 0.0, std: float = 1.0, a: float = -2.0, b: float = 2.0,
    generator: torch.Generator | None = None,
) -> Tensor:  # fmt: skip
    """Fill with normal numbers between a and b by inverse CDF, in binary64 for both types: what torch.nn.init's does.

    One nonce a call, whatever the tensor. With both bounds above the mean the distribution is mirrored, so that the
    probabilities are small numbers, which have the digits.
    """
    if type(tensor) not in (Tensor, torch.nn.Parameter) or not (tensor.is_cpu or tensor.is_cuda):
        return _stock_trunc_normal_(tensor, mean, std, a, b, generator)
    if not (std > 0 and a <= b):
        raise ValueError(f"trunc_normal_ expects std > 0 and a <= b, but got std={std}, a={a}, b={b}")
    low, high = (a - mean) / std, (b - mean) / std
    mirrored = low > 0
    if mirrored:
        low, high = -high, -low
    start = normal_cdf(low)
    with torch.no_grad():
        fill(
            tensor, native.of(tensor).truncated_normal, nonce(generator, tensor), mean, -std if mirrored else std, a, b,
            start, normal_cdf(high) - start,
        )  # fmt: skip
    torch.autograd.graph.increment_version(tensor)
    return tensor


_stock_trunc_normal_: Callable[..., Tensor] = torch.nn.init.trunc_normal_
PINS.append((torch.nn.init, "trunc_normal_", trunc_normal_))
if hasattr(torch.nn.init, "_no_grad_trunc_normal_"):  # for who imported the name trunc_normal_ before the scope opened
    _stock_trunc_normal_ = torch.nn.init._no_grad_trunc_normal_
    PINS.append((torch.nn.init, "_no_grad_trunc_normal_", trunc_normal_))
