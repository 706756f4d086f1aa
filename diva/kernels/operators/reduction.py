"""Reductions: sums, means, variances, norms, products, running sums and products. Results are contiguous, as stock's are.

A given `out` may have any strides. The order is row-major over the reduced dimensions, whatever the layout of the input.
"""

from __future__ import annotations

import ctypes
import math
from collections.abc import Callable, Sequence
from itertools import pairwise
from typing import Any

import torch
from torch import Tensor

from diva.errors import KernelError
from diva.kernels.library import native
from diva.kernels.status import failed
from diva.kernels.table import kernel, stock

SUM, MEAN, SQUARES, NORM2, NORM1, NANSUM, DEVIATIONS, NORM0, PRODUCT = range(9)

Dims = Sequence[int] | int | None

_stock_sum = stock("sum.dim_IntList")
_stock_mean = stock("mean.dim")
_stock_nansum = stock("nansum")
_stock_prod = stock("prod")
_stock_prod_dim = stock("prod.dim_int")
_stock_vector_norm = stock("linalg_vector_norm")
_stock_cumsum = stock("cumsum")
_stock_cumprod = stock("cumprod")
_stock_trace = stock("trace")


@kernel("sum.dim_IntList")
def sum_dim(
    x: Tensor, dim: Dims, keepdim: bool = False, *, dtype: torch.dtype | None = None, out: Tensor | None = None
) -> Tensor:
    """REDUCE(x)."""
    if dtype is not None and dtype is not x.dtype and dtype.is_floating_point:
        x = x.to(dtype)
    if x.dtype not in _FLOATS and not x.dtype.is_floating_point:
        return _return(_stock_sum(x, dim, keepdim, dtype=dtype), out)
    return _reduce(SUM, x, dim, keepdim, out)


@kernel("mean.dim")
def mean_dim(
    x: Tensor, dim: Dims, keepdim: bool = False, *, dtype: torch.dtype | None = None, out: Tensor | None = None
) -> Tensor:
    """REDUCE(x) / n."""
    if dtype is not None and dtype is not x.dtype and dtype.is_floating_point:
        x = x.to(dtype)
    if x.dtype not in _FLOATS and not x.dtype.is_floating_point:
        return _return(_stock_mean(x, dim, keepdim, dtype=dtype), out)  # which says that it cannot
    return _reduce(MEAN, x, dim, keepdim, out)


@kernel("nansum")
def nansum(
    x: Tensor, dim: Dims = None, keepdim: bool = False, *, dtype: torch.dtype | None = None, out: Tensor | None = None
) -> Tensor:
    """REDUCE over x with +0 in place of NaN."""
    if dtype is not None and dtype is not x.dtype and dtype.is_floating_point:
        x = x.to(dtype)
    if not (x.dtype.is_floating_point or x.dtype.is_complex):
        return _return(_stock_nansum(x, dim, keepdim, dtype=dtype), out)
    return _reduce(NANSUM, x, dim, keepdim, out)


@kernel("prod")
def prod(x: Tensor, *, dtype: torch.dtype | None = None, out: Tensor | None = None) -> Tensor:
    """The product of all elements: chains over 256, ascending."""
    if dtype is not None and dtype.is_floating_point:
        x = x.to(dtype)
    if not (x.dtype.is_floating_point or x.dtype.is_complex):
        return _return(_stock_prod(x, dtype=dtype), out)
    return _reduce(PRODUCT, x, None, False, out)


@kernel("prod.dim_int")
def prod_dim(
    x: Tensor, dim: int, keepdim: bool = False, *, dtype: torch.dtype | None = None, out: Tensor | None = None
) -> Tensor:
    """The product over one dimension: chains over 256, ascending."""
    if dtype is not None and dtype.is_floating_point:
        x = x.to(dtype)
    if not (x.dtype.is_floating_point or x.dtype.is_complex):
        return _return(_stock_prod_dim(x, dim, keepdim, dtype=dtype), out)
    return _reduce(PRODUCT, x, dim, keepdim, out)


@kernel("trace")
def trace(x: Tensor, *, out: Tensor | None = None) -> Tensor:
    """REDUCE of the diagonal."""
    if not x.dtype.is_floating_point:
        return _return(_stock_trace(x), out)
    if x.dim() != 2:
        raise RuntimeError(f"trace: expected a matrix, but got tensor with dim {x.dim()}")
    return _reduce(SUM, x.diagonal(), None, False, out)


@kernel("linalg_vector_norm")
def vector_norm(
    x: Tensor,
    ord: Any = 2,
    dim: Dims = None,
    keepdim: bool = False,
    *,
    dtype: torch.dtype | None = None,
    out: Tensor | None = None,
) -> Tensor:
    """2: sqrt(REDUCE_fma(x, x)); 1: REDUCE(|x|); 0: how many are not 0; inf, -inf: largest, smallest |x|; p: by pow."""
    if dtype is not None and dtype is not x.dtype:
        x = x.to(dtype)
    kind = _NORMS.get(ord)
    if kind is not None and x.dtype.is_floating_point:
        return _reduce(kind, x, dim, keepdim, out)
    if math.isinf(ord) or not x.dtype.is_floating_point:  # compare-select is exact; integers are told off
        if x.dtype.is_complex:
            raise KernelError(f"exact kernels compute norms in float32 and float64, not in {x.dtype}")
        return _return(_stock_vector_norm(x, ord, dim, keepdim, dtype=dtype), out)
    powers = torch.pow(torch.abs(x), ord)
    return _return(torch.pow(_reduce(SUM, powers, dim, keepdim, None), 1.0 / ord), out)


@kernel("norm.ScalarOpt_dim")
def norm_dim(x: Tensor, p: Any, dim: Dims, keepdim: bool = False, *, out: Tensor | None = None) -> Tensor:
    """The vector norm of order p (None: 2)."""
    result: Tensor = vector_norm(x, 2 if p is None else p, dim, keepdim, out=out)
    return result


@kernel("norm.ScalarOpt_dim_dtype")
def norm_dim_dtype(
    x: Tensor, p: Any, dim: Dims, keepdim: bool, *, dtype: torch.dtype, out: Tensor | None = None
) -> Tensor:
    """The vector norm of order p (None: 2), computed in `dtype`."""
    result: Tensor = vector_norm(x, 2 if p is None else p, dim, keepdim, dtype=dtype, out=out)
    return result


@kernel("var.correction")
def var(
    x: Tensor, dim: Dims = None, *, correction: Any = None, keepdim: bool = False, out: Tensor | None = None
) -> Tensor:
    """d = x - mean; REDUCE_fma(d, d) / max(n - correction, 0)."""
    return _return(_variance(0, x, dim, correction, keepdim)[0], out)


@kernel("std.correction")
def std(
    x: Tensor, dim: Dims = None, *, correction: Any = None, keepdim: bool = False, out: Tensor | None = None
) -> Tensor:
    """The square root of var."""
    return _return(_variance(1, x, dim, correction, keepdim)[0], out)


@kernel("var_mean.correction")
def var_mean(x: Tensor, dim: Dims = None, *, correction: Any = None, keepdim: bool = False) -> tuple[Tensor, Tensor]:
    """(var, mean)."""
    return _variance(0, x, dim, correction, keepdim)


@kernel("std_mean.correction")
def std_mean(x: Tensor, dim: Dims = None, *, correction: Any = None, keepdim: bool = False) -> tuple[Tensor, Tensor]:
    """(std, mean)."""
    return _variance(1, x, dim, correction, keepdim)


@kernel("cumsum")
def cumsum(x: Tensor, dim: int, *, dtype: torch.dtype | None = None, out: Tensor | None = None) -> Tensor:
    """Running sums: chains inside chunks of 256, a carry per chunk."""
    return _cumulate(0, _stock_cumsum, x, dim, dtype, out)


@kernel("cumprod")
def cumprod(x: Tensor, dim: int, *, dtype: torch.dtype | None = None, out: Tensor | None = None) -> Tensor:
    """Running products: chains inside chunks of 256, a carry per chunk."""
    return _cumulate(1, _stock_cumprod, x, dim, dtype, out)


_FLOATS = frozenset((torch.float32, torch.float64))
_NORMS: dict[Any, int] = {2: NORM2, 1: NORM1, 0: NORM0}  # 2.0 is found by 2


def _return(result: Tensor, out: Tensor | None) -> Tensor:
    return result if out is None else out.copy_(result)


def check(status: int, name: str) -> None:
    """Raise what a kernel's status says."""
    if status:
        raise failed(status, name)


def _reduce(kind: int, x: Tensor, dim: Dims, keepdim: bool, out: Tensor | None) -> Tensor:
    shape = x.shape
    rank = len(shape)
    if x.is_contiguous():
        if rank == 2 and out is None and not keepdim and dim is not None and (type(dim) is int or len(dim) == 1):  # type: ignore[arg-type]
            n, inner = shape  # the commonest case: gradients of biases, sums over classes
            if _one(dim if type(dim) is int else dim[0], 2):  # type: ignore[index]
                n, inner, outer = inner, 1, n
                result = x.new_empty(outer)
            else:
                outer, result = 1, x.new_empty(inner)
            status = native.of(x).reduce(kind, result.data_ptr(), x.data_ptr(), None, outer, n, inner)
            if status:
                check(status, "reduction")
            return result
        if dim is None or dim == [] or rank == 0:
            first, last = 0, rank
            if rank == 0 and dim is not None:
                _listed(dim, 0)
        elif type(dim) is int:
            first = _one(dim, rank)
            last = first + 1
        elif len(dim) == 1:  # type: ignore[arg-type]
            first = _one(dim[0], rank)  # type: ignore[index]
            last = first + 1
        else:
            dims = _listed(dim, rank)
            first, last = dims[0], dims[-1] + 1
            if last - first != len(dims):
                return _reduce_strided(kind, x, dims, keepdim, out)
        before, after = shape[:first], shape[last:]
        result = x.new_empty((*before, *(1,) * (last - first), *after) if keepdim else (*before, *after))
        outer, inner = math.prod(before), math.prod(after)
        status = native.of(x).reduce(
            kind, result.data_ptr(), x.data_ptr(), None, outer, math.prod(shape[first:last]), inner
        )
        if status:
            check(status, "reduction")
        return result if out is None else out.copy_(result)
    return _reduce_strided(kind, x, _listed(dim, rank), keepdim, out)


def _reduce_strided(kind: int, x: Tensor, dims: list[int], keepdim: bool, out: Tensor | None) -> Tensor:
    shape, layout = _layout(x, dims, keepdim)
    result = x.new_empty(shape)
    check(native.of(x).reduce_strided(kind, result.data_ptr(), x.data_ptr(), None, *layout), "reduction")
    return result if out is None else out.copy_(result)


def _variance(root: int, x: Tensor, dim: Dims, correction: Any, keepdim: bool) -> tuple[Tensor, Tensor]:
    if not (x.dtype.is_floating_point or x.dtype.is_complex):
        raise RuntimeError("std and var only support floating point and complex dtypes")
    dims = _listed(dim, x.dim())
    shape, layout = _layout(x, dims, keepdim)
    var, mean = x.new_empty(shape), x.new_empty(shape)
    n = math.prod([x.shape[d] for d in dims])
    divisor = max(n - (1.0 if correction is None else float(correction)), 0.0)
    check(native.of(x).variance(root, var.data_ptr(), mean.data_ptr(), x.data_ptr(), divisor, *layout), "variance")
    return var, mean


def _layout(x: Tensor, dims: list[int], keepdim: bool) -> tuple[list[int], tuple[int, int, Any, Any]]:
    """The result's shape; the kernel's arguments: the reduced dimensions, then the kept ones, in the tensor's order."""
    sizes, strides = x.shape, x.stride()
    kept = [d for d in range(len(sizes)) if d not in dims]
    order = dims + kept
    numbers = ctypes.c_int64 * len(order)
    shape = [1 if d in dims else s for d, s in enumerate(sizes)] if keepdim else [sizes[d] for d in kept]
    return shape, (len(dims), len(kept), numbers(*[sizes[d] for d in order]), numbers(*[strides[d] for d in order]))


def _one(dim: int, rank: int) -> int:
    if -rank <= dim < rank:
        return dim if dim >= 0 else dim + rank
    if rank or not -1 <= dim < 1:
        limit = max(rank, 1)
        raise IndexError(f"Dimension out of range (expected to be in range of [{-limit}, {limit - 1}], but got {dim})")
    return 0


def _listed(dim: Dims, rank: int) -> list[int]:
    """`dim` ascending, without negatives; None and [] are all dimensions."""
    if dim is None or dim == []:
        return list(range(rank))
    dims = sorted(_one(d, rank) for d in ((dim,) if isinstance(dim, int) else dim))
    for a, b in pairwise(dims):
        if a == b:
            raise RuntimeError(f"dim {a} appears multiple times in the list of dims")
    return dims if rank else []


def _cumulate(
    product: int, otherwise: Callable[..., Tensor], x: Tensor, dim: int, dtype: torch.dtype | None, out: Tensor | None
) -> Tensor:
    if dtype is not None and dtype is not x.dtype and dtype.is_floating_point:
        x = x.to(dtype)
    if not (x.dtype.is_floating_point or x.dtype.is_complex):
        return _return(otherwise(x, dim, dtype=dtype), out)
    at = _one(dim, x.dim())
    x = x.contiguous()
    result = torch.empty_like(x)
    shape = x.shape
    n = shape[at] if shape else 1
    status = native.of(x).cumulate(
        product, result.data_ptr(), x.data_ptr(), math.prod(shape[:at]), n, math.prod(shape[at + 1 :])
    )
    check(status, "cumulation")
    return result if out is None else out.copy_(result)
