"""Normalisation as the specification has it: batch, layer and group norm, forward and backward (D5).

With REDUCE and REDUCE_fma of D3, every operation rounded once, n = how many elements one statistic is taken over:

    mean = REDUCE(x) / n;  d = x - mean;  var = REDUCE_fma(d, d) / n;  inv = 1 / sqrt(var + eps)
    xhat = d * inv;  y = fma(xhat, weight, bias)

A missing weight is 1 and a missing bias is +0, and they take part. The elements of a statistic are in row-major order of
the logical shape, whatever the memory layout: batch norm (sample, space) of a channel, layer norm the normalised
dimensions of a row, group norm (channel in the group, space) of a sample's group.

Backward in training, g the gradient of y:

    dbias = REDUCE(g);  dweight = REDUCE_fma(g, xhat)      per channel: over (sample, space), layer norm: over the rows
    layer and group norm:  gy = g * weight;  dx = inv * fma(-xhat, REDUCE_fma(gy, xhat) / n, gy - REDUCE(gy) / n)
    batch norm, whose weight is one number per statistic:  dx = (inv * weight) * fma(-xhat, dweight / n, g - dbias / n)
"""

from __future__ import annotations

from typing import Any

import numpy as np

from diva.kernels.reference.arithmetic import fma, reduce_dot, reduce_sum

Array = Any  # numpy.ndarray of float32 or float64


def statistics(rows: Array, degrees: int | None = None) -> tuple[Array, Array]:
    """(mean, variance) over the last axis; variance = REDUCE_fma(d, d) / degrees, by default degrees = n."""
    n = rows.shape[-1]
    number = rows.dtype.type
    with np.errstate(all="ignore"):
        mean = reduce_sum(rows) / number(n)
        d = rows - mean[..., None]
        return mean, reduce_dot(d, d) / number(n if degrees is None else degrees)


def inverse(var: Array, eps: float) -> Array:
    """1 / sqrt(var + eps), eps rounded to the type of `var`."""
    with np.errstate(all="ignore"):
        return var.dtype.type(1) / np.sqrt(var + var.dtype.type(eps))


def normalized(rows: Array, mean: Array, inv: Array) -> Array:
    """xhat = (x - mean) * inv, mean and inv per row."""
    with np.errstate(all="ignore"):
        return (rows - mean[..., None]) * inv[..., None]


def channel_rows(x: Array) -> Array:
    """x of shape (N, C, ...) as (C, N * ...): the elements of each channel in their order."""
    return np.moveaxis(x, 1, 0).reshape(x.shape[1], -1)


def from_channel_rows(rows: Array, shape: tuple[int, ...]) -> Array:
    """The inverse of `channel_rows`."""
    return np.moveaxis(rows.reshape(shape[1], shape[0], *shape[2:]), 0, 1)


def batch_norm(
    x: Array, weight: Array | None, bias: Array | None, eps: float, given: tuple[Array, Array] | None = None
) -> tuple[Array, Array, Array]:
    """(y, mean, inv) of x (N, C, ...); `given` (mean, var), the running statistics, in evaluation."""
    rows = channel_rows(x)
    mean, var = statistics(rows) if given is None else given
    inv = inverse(var, eps)
    gamma, beta = _weight(weight, x), _bias(bias, x)
    y = fma(normalized(rows, mean, inv), gamma[:, None], beta[:, None])
    return from_channel_rows(y, x.shape), mean, inv


def running(r: Array, s: Array, momentum: float) -> Array:
    """A running statistic after the batch statistic s: fma(momentum, s - r, r)."""
    with np.errstate(all="ignore"):
        return fma(r.dtype.type(momentum), s - r, r)


def unbiased_variance(x: Array) -> Array:
    """The variance that the running one takes in: REDUCE_fma(d, d) / (n - 1) of each channel; NaN for n = 1."""
    rows = channel_rows(x)
    return statistics(rows, rows.shape[1] - 1)[1]


def batch_norm_backward(
    g: Array, x: Array, weight: Array | None, mean: Array, inv: Array, train: bool
) -> tuple[Array, Array, Array]:
    """(dx, dweight, dbias). Not in training (mean and inv of the running statistics): dx = g * (weight * inv)."""
    rows, grad = channel_rows(x), channel_rows(g)
    gamma, n = _weight(weight, x), x.dtype.type(rows.shape[1])
    xhat = normalized(rows, mean, inv)
    dweight, dbias = reduce_dot(grad, xhat), reduce_sum(grad)
    with np.errstate(all="ignore"):
        scale = (inv * gamma)[:, None]
        if train:
            dx = scale * fma(-xhat, (dweight / n)[:, None], grad - (dbias / n)[:, None])
        else:
            dx = grad * scale
    return from_channel_rows(dx, x.shape), dweight, dbias


def layer_norm(x: Array, weight: Array | None, bias: Array | None, eps: float) -> tuple[Array, Array, Array]:
    """(y, mean, inv) of x (M, D), each row by itself."""
    mean, var = statistics(x)
    inv = inverse(var, eps)
    gamma = np.ones(x.shape[1], x.dtype) if weight is None else weight
    beta = np.zeros(x.shape[1], x.dtype) if bias is None else bias
    return fma(normalized(x, mean, inv), gamma, beta), mean, inv


def layer_norm_backward(
    g: Array, x: Array, weight: Array | None, mean: Array, inv: Array
) -> tuple[Array, Array, Array]:
    """(dx, dweight, dbias)."""
    gamma = np.ones(x.shape[1], x.dtype) if weight is None else weight
    xhat = normalized(x, mean, inv)
    dx = _row_gradient(_product(g, gamma), xhat, inv)
    return dx, reduce_dot(g.T, xhat.T), reduce_sum(g.T)


def group_norm(
    x: Array, weight: Array | None, bias: Array | None, groups: int, eps: float
) -> tuple[Array, Array, Array]:
    """(y, mean, inv) of x (N, C, ...); mean and inv are (N, groups)."""
    rows = x.reshape(x.shape[0], groups, -1)
    mean, var = statistics(rows)
    inv = inverse(var, eps)
    xhat = normalized(rows, mean, inv).reshape(*x.shape[:2], -1)
    return fma(xhat, _weight(weight, x)[:, None], _bias(bias, x)[:, None]).reshape(x.shape), mean, inv


def group_norm_backward(
    g: Array, x: Array, weight: Array | None, mean: Array, inv: Array, groups: int
) -> tuple[Array, Array, Array]:
    """(dx, dweight, dbias)."""
    n_samples, n_channels = x.shape[:2]
    xhat = normalized(x.reshape(n_samples, groups, -1), mean, inv)
    grad = g.reshape(n_samples, n_channels, -1)
    gy = _product(grad, _weight(weight, x)[:, None]).reshape(xhat.shape)
    dx = _row_gradient(gy, xhat, inv).reshape(x.shape)
    grad, xhat = channel_rows(grad), channel_rows(xhat.reshape(grad.shape))
    return dx, reduce_dot(grad, xhat), reduce_sum(grad)


def _row_gradient(gy: Array, xhat: Array, inv: Array) -> Array:
    n = gy.dtype.type(gy.shape[-1])
    with np.errstate(all="ignore"):
        along, mean = reduce_dot(gy, xhat) / n, reduce_sum(gy) / n
        return inv[..., None] * fma(-xhat, along[..., None], gy - mean[..., None])


def _product(a: Array, b: Array) -> Array:
    with np.errstate(all="ignore"):
        return a * b


def _weight(weight: Array | None, x: Array) -> Array:
    return np.ones(x.shape[1], x.dtype) if weight is None else weight


def _bias(bias: Array | None, x: Array) -> Array:
    return np.zeros(x.shape[1], x.dtype) if bias is None else bias
