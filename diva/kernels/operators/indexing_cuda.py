"""Indexed writes on a GPU where PyTorch's own kernels write in no order, though on the CPU they write in order."""

from __future__ import annotations

from math import prod

import torch
from torch import Tensor

from diva.kernels.library import native
from diva.kernels.operators.indexing import axis_of, checked
from diva.kernels.status import failed
from diva.kernels.table import OURS_ON_CUDA, kernel


@kernel("index_copy", into=OURS_ON_CUDA)
def index_copy(x: Tensor, dim: int, index: Tensor, source: Tensor, *, out: Tensor | None = None) -> Tensor:
    """x[index[i]] = source[i] along dim, the last of several for one place winning; any type."""
    axis = axis_of(dim, x.dim())
    shape = x.shape
    n, n_dest = index.numel(), shape[axis] if shape else 1
    if x.dtype != source.dtype or index.dim() > 1 or index.dtype != torch.int64:
        raise RuntimeError(
            f"index_copy_(): expected a 1-D index of int64 and a source of {x.dtype}, got {index.dtype} and {source.dtype}"
        )
    expected = [*shape[:axis], n, *shape[axis + 1 :]] if shape else list(source.shape)
    if source.numel() != prod(expected) or (source.dim() and shape and list(source.shape) != expected):
        raise RuntimeError(f"index_copy_(): expected a source of shape {expected}, got {list(source.shape)}")
    result = x.clone(memory_format=torch.contiguous_format)
    if source.numel():
        index, source = index.contiguous(), source.contiguous()
        row = prod(shape[axis + 1 :]) * x.element_size()
        call = native.on(x).put_rows
        status = call(result.data_ptr(), index.data_ptr(), source.data_ptr(), prod(shape[:axis]), n_dest, n, row)
        checked(status, "index_copy_", n_dest)
    return result if out is None else out.copy_(result)


@kernel("scatter.src", into=OURS_ON_CUDA)
def scatter(x: Tensor, dim: int, index: Tensor, src: Tensor, *, out: Tensor | None = None) -> Tensor:
    """x[index[i]] = src[i] along dim, the last of several for one place winning, in row-major order; any type."""
    if x.dtype != src.dtype or index.dtype != torch.int64:
        raise RuntimeError(
            f"scatter(): expected an index of int64 and a src of {x.dtype}, got {index.dtype} and {src.dtype}"
        )
    result = x.clone(memory_format=torch.contiguous_format)
    if index.numel():
        place, source = _places("scatter", result, dim, index, src)
        call, n = native.on(x).put_rows, place.numel()
        total, size = result.numel(), x.element_size()
        status = call(result.data_ptr(), place.data_ptr(), source.data_ptr(), 1, total, n, size)
        checked(status, "scatter", total)
    return result if out is None else out.copy_(result)


def _places(operator: str, x: Tensor, dim: int, index: Tensor, src: Tensor) -> tuple[Tensor, Tensor]:
    """Where in the dense x each element of index points, and the elements of src beside them, both in row-major order."""
    axis = axis_of(dim, x.dim())
    shape, wanted = x.shape or (1,), index.shape or (1,)
    source = src if src.dim() else src.view(1)
    if len(shape) != len(wanted) or len(shape) != source.dim():
        raise RuntimeError(f"{operator}(): index, src and self should have the same number of dimensions")
    fits = all(
        n <= s and (d == axis or n <= m) for d, (n, s, m) in enumerate(zip(wanted, source.shape, shape, strict=True))
    )
    if not fits:
        raise RuntimeError(
            f"{operator}(): expected index {list(wanted)} to be no larger than self {list(shape)} apart from dimension {axis} "
            f"and to be no larger than src {list(source.shape)}"
        )
    place = torch.zeros(wanted, dtype=torch.int64, device=x.device)
    index = index.reshape(wanted).contiguous()
    status = native.on(x).fold_index(place.data_ptr(), index.data_ptr(), index.numel(), shape[axis])  # checks the range
    if status:
        said = IndexError(f"{operator}: an index is out of range for dimension of size {shape[axis]}")
        raise failed(status, operator, said)
    step = prod(shape[axis + 1 :])
    place = place * step
    for d in range(len(shape)):
        if d != axis and wanted[d] > 1:
            along = torch.arange(wanted[d], device=x.device) * prod(shape[d + 1 :])
            place = place + along.view([-1 if k == d else 1 for k in range(len(shape))])
    return place.contiguous(), source[tuple(slice(n) for n in wanted)].contiguous()


def scatter_add_integers(x: Tensor, dim: int, index: Tensor, src: Tensor) -> Tensor:
    """scatter_add of integers: PyTorch's own kernel refuses to be deterministic, that of index_put does not."""
    result = x.clone(memory_format=torch.contiguous_format)
    if index.numel():
        place, source = _places("scatter_add", result, dim, index.to(torch.int64), src)
        flat = result.view(-1)
        flat.index_put_((place.view(-1),), source.view(-1), accumulate=True)
    return result
