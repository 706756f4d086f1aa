"""Sums and products into indexed destinations as PyTorch operators: the order is that of the source."""

from __future__ import annotations

from collections.abc import Sequence
from math import inf

import torch
from torch import Tensor

from diva.errors import KernelError
from diva.kernels.library import native
from diva.kernels.refusal import refused
from diva.kernels.status import failed
from diva.kernels.table import kernel, stock

_SUM, _PRODUCT, _MAXIMUM, _MINIMUM = range(4)
_OPERATIONS = {
    "sum": _SUM,
    "mean": _SUM,
    "add": _SUM,
    "prod": _PRODUCT,
    "multiply": _PRODUCT,
    "amax": _MAXIMUM,
    "amin": _MINIMUM,
}
_NEUTRAL = {"sum": 0.0, "mean": 0.0, "prod": 1.0, "amax": -inf, "amin": inf}
_INTEGERS = (torch.int64, torch.int32)

_stock_index_add = stock("index_add")
_stock_index_reduce = stock("index_reduce")
_stock_scatter_add = stock("scatter_add")
_stock_scatter_reduce = stock("scatter_reduce.two")
_stock_scatter_reduce_source = stock("scatter.reduce")
_stock_scatter_reduce_value = stock("scatter.value_reduce")
_stock_scatter_value = stock("scatter.value")
_stock_index_put = stock("_index_put_impl_")
_stock_put = stock("put_")


def checked(status: int, operator: str, n_dest: int) -> None:
    """Raise what a kernel's status code says: 2 is an index outside [0, n_dest)."""
    if status:
        raise failed(
            status, operator, IndexError(f"{operator}: an index is out of range for dimension of size {n_dest}")
        )


def _refuse_on_gpu(operator: str, x: Tensor) -> None:
    """Integers that PyTorch's CUDA kernel adds up in any order, which changes no bit, but will not under our settings."""
    if x.is_cuda:
        raise refused(operator, "for integers on a GPU")


def axis_of(dim: int, n_dims: int) -> int:
    """dim counted from the front; IndexError when there is no such dimension."""
    n = max(1, n_dims)
    if not -n <= dim < n:
        raise IndexError(f"Dimension out of range (expected to be in range of [{-n}, {n - 1}], but got {dim})")
    return dim % n


def _target(x: Tensor, out: Tensor | None) -> Tensor:
    """A dense tensor that holds x: `out` where it is dense, else a new one."""
    if out is None or not out.is_contiguous():
        return x.clone(memory_format=torch.contiguous_format)
    return out if out.data_ptr() == x.data_ptr() else out.copy_(x)


def _answer(result: Tensor, out: Tensor | None) -> Tensor:
    if out is None or out is result:
        return result
    return out.copy_(result)


def _product(sizes: Sequence[int]) -> int:
    total = 1
    for n in sizes:
        total *= n
    return total


def add_rows(
    result: Tensor, index: Tensor, source: Tensor, axis: int, operator: str, *, operation: int = _SUM, alpha: float = 1.0,
    by_count: bool = False, skip: int = -1,
) -> None:  # fmt: skip
    """result[.., index[i], ..] takes source[.., i, ..] along `axis`, i ascending; result dense, index 1-D int64."""
    source = source.contiguous()
    if not source.numel():
        return
    shape = result.shape
    n_dest = shape[axis] if shape else 1
    n = index.numel()
    index = index.contiguous()
    outer = _product(shape[:axis])
    status = native.of(result).index_reduce(
        result.data_ptr(), index.data_ptr(), source.data_ptr(), outer, n_dest, n, _product(shape[axis + 1 :]), operation, alpha,
        int(by_count), skip,
    )  # fmt: skip
    if status:
        checked(status, operator, n_dest)


def _check_rows(operator: str, x: Tensor, axis: int, index: Tensor, source: Tensor) -> None:
    if index.dim() > 1 or index.dtype not in _INTEGERS:
        raise RuntimeError(f"{operator}: expected a 1-D index of int32 or int64, got {index.dtype} {list(index.shape)}")
    if x.dtype != source.dtype:
        raise RuntimeError(f"{operator}: self and source should have the same type, got {x.dtype} and {source.dtype}")
    expected = [*x.shape[:axis], index.numel(), *x.shape[axis + 1 :]] if x.dim() else None
    if (expected is not None and list(source.shape) != expected) or (
        expected is None and source.numel() != index.numel()
    ):
        raise RuntimeError(f"{operator}: expected source of shape {expected}, got {list(source.shape)}")


@kernel("index_add")
def index_add(
    x: Tensor, dim: int, index: Tensor, source: Tensor, *, alpha: float = 1, out: Tensor | None = None
) -> Tensor:
    """x[index[i]] += alpha * source[i] along dim; `out` in any layout."""
    if not x.is_floating_point():
        return _answer(_stock_index_add(x, dim, index, source, alpha=alpha), out)
    axis = axis_of(dim, x.dim())
    _check_rows("index_add", x, axis, index, source)
    result = _target(x, out)
    add_rows(result, index.to(torch.int64), source, axis, "index_add", alpha=float(alpha))
    return _answer(result, out)


@kernel("index_reduce")
def index_reduce(
    x: Tensor,
    dim: int,
    index: Tensor,
    source: Tensor,
    reduce: str,
    *,
    include_self: bool = True,
    out: Tensor | None = None,
) -> Tensor:
    """prod, mean, amax, amin of the sources of each destination, and of what it held when include_self."""
    if not x.is_floating_point():
        _refuse_on_gpu("aten::index_reduce", x)
        return _answer(_stock_index_reduce(x, dim, index, source, reduce, include_self=include_self), out)
    axis = axis_of(dim, x.dim())
    _check_rows("index_reduce", x, axis, index, source)
    if reduce not in ("prod", "mean", "amax", "amin"):
        raise RuntimeError(f"index_reduce(): expected reduce to be one of prod, mean, amax or amin, got {reduce}")
    shape = [1] * max(1, x.dim())
    shape[axis] = index.numel()
    spread = index.to(torch.int64).reshape(shape).expand(source.shape if x.dim() else [index.numel()])
    return _reduce("index_reduce", x, axis, spread, source, reduce, include_self, out)


@kernel("scatter_add")
def scatter_add(x: Tensor, dim: int, index: Tensor, src: Tensor, *, out: Tensor | None = None) -> Tensor:
    """x[index[i]] += src[i] along dim, elementwise in the other dimensions."""
    if not x.is_floating_point():
        if x.is_cuda:
            from diva.kernels.operators.indexing_cuda import scatter_add_integers

            return _answer(scatter_add_integers(x, dim, index, src), out)
        return _answer(_stock_scatter_add(x, dim, index, src), out)
    result = _target(x, out)
    _scatter("scatter_add", result, dim, index, src, _SUM)
    return _answer(result, out)


@kernel("scatter.reduce")
def scatter_reduce_source(
    x: Tensor, dim: int, index: Tensor, src: Tensor, *, reduce: str, out: Tensor | None = None
) -> Tensor:
    """scatter with reduce "add" or "multiply"."""
    if not x.is_floating_point():
        _refuse_on_gpu("aten::scatter.reduce", x)
        return _answer(_stock_scatter_reduce_source(x, dim, index, src, reduce=reduce), out)
    if reduce not in ("add", "multiply"):
        raise RuntimeError("reduce argument must be either add or multiply.")
    result = _target(x, out)
    _scatter("scatter", result, dim, index, src, _OPERATIONS[reduce])
    return _answer(result, out)


@kernel("scatter.value_reduce")
def scatter_reduce_value(
    x: Tensor, dim: int, index: Tensor, value: float, *, reduce: str, out: Tensor | None = None
) -> Tensor:
    """scatter of one number with reduce "add" or "multiply"."""
    if not x.is_floating_point():
        _refuse_on_gpu("aten::scatter.value_reduce", x)
        return _answer(_stock_scatter_reduce_value(x, dim, index, value, reduce=reduce), out)
    src = x.new_full(index.shape, value)
    result: Tensor = scatter_reduce_source(x, dim, index, src, reduce=reduce, out=out)
    return result


@kernel("scatter_reduce.two")
def scatter_reduce(
    x: Tensor,
    dim: int,
    index: Tensor,
    src: Tensor,
    reduce: str,
    *,
    include_self: bool = True,
    out: Tensor | None = None,
) -> Tensor:
    """sum, prod, mean, amax, amin of the sources of each destination, and of what it held when include_self."""
    if not x.is_floating_point():
        _refuse_on_gpu("aten::scatter_reduce.two", x)
        return _answer(_stock_scatter_reduce(x, dim, index, src, reduce, include_self=include_self), out)
    if reduce not in _NEUTRAL:
        raise RuntimeError(f"reduce argument must be one of {', '.join(_NEUTRAL)}, got {reduce}")
    return _reduce("scatter_reduce", x, dim, index, src, reduce, include_self, out)


def _reduce(
    operator: str, x: Tensor, dim: int, index: Tensor, src: Tensor, reduce: str, include_self: bool, out: Tensor | None
) -> Tensor:
    result = _target(x, out)
    if index.numel():
        if not include_self:
            result.copy_(_stock_scatter_value(result, dim, index, _NEUTRAL[reduce]))
        _scatter(operator, result, dim, index, src, _OPERATIONS[reduce])
        if reduce == "mean":
            count = torch.ones_like(result) if include_self else torch.zeros_like(result)
            _scatter(operator, count, dim, index, result.new_ones(index.shape), _SUM)
            result.copy_(result / count.clamp_min(1))
    return _answer(result, out)


def _scatter(operator: str, result: Tensor, dim: int, index: Tensor, src: Tensor, operation: int) -> None:
    """result (dense) takes src at index along dim; shapes as torch.scatter has them."""
    axis = axis_of(dim, result.dim())
    if index.dtype not in _INTEGERS or result.dtype != src.dtype:
        raise RuntimeError(
            f"{operator}: expected an index of int32 or int64 and src of the type of self, got {index.dtype}, {src.dtype}"
        )
    if not index.numel():
        return
    if result.dim() == 0 or index.dim() == 0:
        result, index, src = (t.view(1) if t.dim() == 0 else t for t in (result, index, src))
    shape, wanted = result.shape, index.shape
    if len(shape) != len(wanted) or len(shape) != src.dim():
        raise RuntimeError(f"{operator}: index, src and self should have the same number of dimensions")
    if any(n > s for n, s in zip(wanted, src.shape, strict=True)) or any(
        n > s for d, (n, s) in enumerate(zip(wanted, shape, strict=True)) if d != axis
    ):
        raise RuntimeError(
            f"{operator}: expected index {list(wanted)} to be no larger than self {list(shape)} apart from dimension {axis} "
            f"and to be no larger than src {list(src.shape)}"
        )
    if src.shape != wanted:
        src = src[tuple(slice(n) for n in wanted)]
    n_dest, n = shape[axis], wanted[axis]
    whole = all(d == axis or wanted[d] == shape[d] for d in range(len(shape)))
    if whole and all(d == axis or wanted[d] == 1 or s == 0 for d, s in enumerate(index.stride())):  # one index per row
        row = index.as_strided((n,), (index.stride(axis),)).to(torch.int64)
        add_rows(result, row, src, axis, operator, operation=operation)
        return
    part = result
    if not whole:
        view = result[tuple(slice(None) if d == axis else slice(n) for d, n in enumerate(wanted))]
        part = view.contiguous()
    src, index = src.contiguous(), index.to(torch.int64).contiguous()
    outer, inner = _product(wanted[:axis]), _product(wanted[axis + 1 :])
    status = native.of(result).scatter_reduce(
        part.data_ptr(), index.data_ptr(), src.data_ptr(), outer, n_dest, n, inner, operation
    )
    if status:
        checked(status, operator, n_dest)
    if not whole:
        view.copy_(part)


@kernel("_index_put_impl_")
def index_put(
    x: Tensor, indices: Sequence[Tensor | None], values: Tensor, accumulate: bool = False, unsafe: bool = False
) -> Tensor:
    """x[indices] = values, the last of several for one place winning in row-major order; accumulate: += in that order."""
    if (not accumulate and values.numel() == 1) or (accumulate and not x.is_floating_point()):
        _stock_index_put(x, list(indices), values, accumulate, unsafe)  # no order can be seen
        return x
    if x.dtype != values.dtype:
        raise RuntimeError(
            f"Index put requires the source and destination dtypes match, got {x.dtype} for the destination and {values.dtype} "
            "for the source."
        )
    found = _as_integers(x, indices)
    dims = [d for d, index in enumerate(found) if index is not None]
    if not dims:
        raise IndexError("index_put: expected at least one index tensor")
    tensors = torch.broadcast_tensors(*(index for index in found if index is not None))
    at = tensors[0].shape
    first, last = dims[0], dims[-1]
    view = x
    if last - first + 1 != len(dims):  # indices apart: their dimensions come first
        view = x.permute(*dims, *(d for d in range(x.dim()) if d not in dims))
        first, last = 0, len(dims) - 1
    shape = view.shape
    source = values.expand(*shape[:first], *at, *shape[last + 1 :]).contiguous()
    if not source.numel():
        return x
    n = tensors[0].numel()
    linear = torch.zeros(n, dtype=torch.int64, device=x.device)
    for tensor, d in zip(tensors, range(first, last + 1), strict=True):
        tensor = tensor.contiguous()  # kept: an address outlives no tensor
        status = native.on(x).fold_index(linear.data_ptr(), tensor.data_ptr(), n, shape[d])
        if status:
            said = IndexError(f"index is out of bounds for dimension {d} with size {shape[d]}")
            raise failed(status, "index_put_", said)
    dense = view.contiguous()
    outer, width = _product(shape[:first]), _product(shape[last + 1 :])
    n_dest = _product(shape[first : last + 1])
    if accumulate:
        status = native.of(x).index_reduce(
            dense.data_ptr(), linear.data_ptr(), source.data_ptr(), outer, n_dest, n, width, _SUM, 1.0, 0, -1
        )
    else:
        status = native.on(x).put_rows(
            dense.data_ptr(), linear.data_ptr(), source.data_ptr(), outer, n_dest, n, width * x.element_size()
        )
    if status:
        checked(status, "index_put_", n_dest)
    if dense is not view and dense.data_ptr() != view.data_ptr():
        view.copy_(dense)
    return x


def _as_integers(x: Tensor, indices: Sequence[Tensor | None]) -> list[Tensor | None]:
    """Index tensors of int64, one for each dimension of x that is indexed; masks become the positions of their ones."""
    found: list[Tensor | None] = []
    for index in indices:
        if index is None:
            found.append(None)
        elif index.dtype in (torch.bool, torch.uint8):
            covered = x.shape[len(found) : len(found) + index.dim()]
            if covered != index.shape:
                raise IndexError(
                    f"The shape of the mask {list(index.shape)} does not match that of the tensor {list(x.shape)}"
                )
            found.extend(index.to(x.device).nonzero().unbind(1))
        else:
            found.append(index.to(x.device, torch.int64))
    if len(found) > x.dim():
        raise IndexError(f"too many indices for tensor of dimension {x.dim()} (got {len(found)})")
    return found


@kernel("put_")
def put(x: Tensor, index: Tensor, source: Tensor, accumulate: bool = False) -> Tensor:
    """x.flatten()[index] = source, the last of several for one place winning; accumulate: += in that order."""
    if x.dtype != source.dtype or index.numel() != source.numel() or index.dtype != torch.int64:
        raise RuntimeError(
            f"put_(): expected as many elements of {x.dtype} as indices of int64, got {index.numel()}, {source.dtype}"
        )
    if accumulate and not x.is_floating_point() and not x.is_cuda:
        _stock_put(x, index, source, accumulate)
        return x
    flat = x.contiguous().view(-1)
    if flat.numel() == 0 and index.numel():
        raise IndexError("put_(): cannot put elements into an empty tensor")
    index_put(flat, [index.reshape(-1)], source.reshape(-1), accumulate)
    if flat.data_ptr() != x.data_ptr():
        x.copy_(flat.view(x.shape))
    return x


@kernel("embedding_dense_backward")
def embedding_dense_backward(
    grad: Tensor, indices: Tensor, num_weights: int, padding_idx: int, scale_grad_by_freq: bool
) -> Tensor:
    """The gradient of an embedding's weight (num_weights, width): rows of grad added in the order of indices."""
    if indices.dtype not in _INTEGERS or grad.numel() != indices.numel() * (
        width := grad.shape[-1] if grad.dim() else 1
    ):
        raise RuntimeError(
            f"embedding_dense_backward: grad {list(grad.shape)} does not fit indices {list(indices.shape)}"
        )
    result = grad.new_zeros(num_weights, width)
    index = indices.reshape(-1).to(torch.int64)
    add_rows(result, index, grad, 0, "embedding_dense_backward", by_count=scale_grad_by_freq, skip=padding_idx)
    return result


@kernel("unfold_backward")
def unfold_backward(grad: Tensor, input_sizes: Sequence[int], dim: int, size: int, step: int) -> Tensor:
    """The gradient of x.unfold(dim, size, step): each element adds the windows that hold it, ascending."""
    axis = axis_of(dim, len(input_sizes))
    if not len(input_sizes):
        return grad.reshape(()).clone()
    result = grad.new_zeros(list(input_sizes))
    windows = grad.shape[axis]
    index = torch.arange(windows, device=grad.device)[:, None] * step + torch.arange(size, device=grad.device)
    rows = grad.movedim(-1, axis + 1).reshape(*input_sizes[:axis], windows * size, *input_sizes[axis + 1 :])
    if not grad.is_floating_point():
        raise KernelError(f"unfold_backward: expected a gradient of floating point numbers, got {grad.dtype}")
    add_rows(result, index.reshape(-1), rows, axis, "unfold_backward")
    return result
