"""Selection by (value, index), bags of embeddings, windows folded back: PyTorch operators."""

from __future__ import annotations

from collections.abc import Sequence
from ctypes import c_int64

import torch
from torch import Tensor

from diva.errors import KernelError
from diva.kernels.library import native
from diva.kernels.operators.indexing import add_rows, axis_of, checked
from diva.kernels.operators.resampling import succeed
from diva.kernels.table import kernel, stock

_PAIR = c_int64 * 2
_MODE_SUM, _MODE_MEAN, _MODE_MAX = range(3)

_stock_sort = stock("sort.stable")
_stock_unique = stock("_unique2")
_stock_unique_consecutive = stock("unique_consecutive")
_stock_bincount = stock("bincount")
_stock_median = stock("median")
_stock_nanmedian = stock("nanmedian")


@kernel("sort.stable")
def sort(x: Tensor, *, stable: bool | None, dim: int = -1, descending: bool = False) -> tuple[Tensor, Tensor]:
    """Sorted values and where they were, equal ones in the order of their indices whether asked for or not; NaN greatest."""
    if x.is_cuda and x.is_floating_point():  # PyTorch sorts the bits there, which tell zeros and kinds of NaN apart
        indices = _stock_sort(_sortable(x), stable=True, dim=dim, descending=descending)[1]
        return x.gather(dim, indices), indices
    values, indices = _stock_sort(x, stable=True, dim=dim, descending=descending)
    return values, indices


def _sortable(x: Tensor) -> Tensor:
    """Integers in the order of the numbers x: zeros are one, and every NaN is the greatest."""
    if x.dtype not in (torch.float32, torch.float64):
        x = x.to(torch.float32)  # 16 bits: exactly
    integers, greatest = (torch.int32, 2**31 - 1) if x.dtype == torch.float32 else (torch.int64, 2**63 - 1)
    bits = x.contiguous().view(integers)
    upwards = torch.where(
        bits < 0, bits ^ greatest, bits
    )  # of negative numbers the greater bits are the smaller number
    return upwards.masked_fill(x == 0, 0).masked_fill(x.isnan(), greatest)


def _rows(x: Tensor, axis: int) -> Tensor:
    """x with `axis` last, dense; a 0-dim tensor as one row of one."""
    return x.movedim(axis, -1).contiguous() if x.dim() else x.reshape(1)


@kernel("topk")
def topk(x: Tensor, k: int, dim: int = -1, largest: bool = True, sorted: bool = True) -> tuple[Tensor, Tensor]:
    """The k largest (smallest) along dim, in order, equal ones by ascending index; NaN greatest."""
    axis = axis_of(dim, x.dim())
    n = x.shape[axis] if x.dim() else 1
    if not 0 <= k <= n:
        raise RuntimeError("selected index k out of range")
    if not x.is_floating_point():
        values, indices = _stock_sort(x, stable=True, dim=dim, descending=largest)
        return (
            (values.narrow(axis, 0, k).contiguous(), indices.narrow(axis, 0, k).contiguous())
            if x.dim()
            else (values, indices)
        )
    rows = _rows(x, axis)
    values = rows.new_empty(*rows.shape[:-1], k)
    indices = torch.empty(values.shape, dtype=torch.int64, device=x.device)
    if values.numel():
        status = native.of(x).select(
            values.data_ptr(), indices.data_ptr(), rows.data_ptr(), rows.numel() // n, n, k, int(largest)
        )
        succeed(status, "topk")
    if not x.dim():
        return values.reshape(()), indices.reshape(())
    return values.movedim(-1, axis).contiguous(), indices.movedim(-1, axis).contiguous()


def _kth(
    x: Tensor, dim: int, k: int, nan: int, keepdim: bool, values: Tensor, indices: Tensor
) -> tuple[Tensor, Tensor]:
    axis = axis_of(dim, x.dim())
    n = x.shape[axis] if x.dim() else 1
    if n == 0:
        raise IndexError(f"Expected reduction dim {axis} to have non-zero size.")
    rows = _rows(x, axis)
    shape = rows.shape[:-1] if x.dim() else torch.Size(())
    if x.is_floating_point():
        value, index = rows.new_empty(shape), rows.new_empty(shape, dtype=torch.int64)
        if value.numel():
            status = native.of(x).kth(value.data_ptr(), index.data_ptr(), rows.data_ptr(), value.numel(), n, k, nan)
            succeed(status, "kthvalue")
    else:
        ordered, places = _stock_sort(rows, stable=True, dim=-1, descending=False)
        at = k if k >= 0 else (n - 1) // 2
        value, index = ordered[..., at].reshape(shape), places[..., at].reshape(shape)
    if keepdim and x.dim():
        value, index = value.unsqueeze(axis), index.unsqueeze(axis)
    for given, found in ((values, value), (indices, index)):
        if given.shape != found.shape:
            given.resize_(found.shape)
        given.copy_(found)
    return values, indices


@kernel("kthvalue.values")
def kthvalue(
    x: Tensor, k: int, dim: int = -1, keepdim: bool = False, *, values: Tensor, indices: Tensor
) -> tuple[Tensor, Tensor]:
    """The k-th smallest along dim (from 1) and where it is, among equal ones by ascending index."""
    n = x.shape[axis_of(dim, x.dim())] if x.dim() else 1
    if not 1 <= k <= n:
        raise RuntimeError(f"kthvalue(): selected number k out of range for dimension {dim}")
    return _kth(x, dim, k - 1, 0, keepdim, values, indices)


@kernel("median.dim_values")
def median_dim(x: Tensor, dim: int, keepdim: bool = False, *, values: Tensor, indices: Tensor) -> tuple[Tensor, Tensor]:
    """The lower median along dim and where it is, by (value, index); the first NaN where there is one."""
    return _kth(x, dim, -1, 1, keepdim, values, indices)


@kernel("nanmedian.dim_values")
def nanmedian_dim(
    x: Tensor, dim: int, keepdim: bool = False, *, values: Tensor, indices: Tensor
) -> tuple[Tensor, Tensor]:
    """The lower median of the numbers along dim and where it is, by (value, index)."""
    return _kth(x, dim, -1, 2, keepdim, values, indices)


@kernel("median")
def median(x: Tensor) -> Tensor:
    """The lower median of all elements by (value, index); NaN when there is one or nothing."""
    if not x.is_floating_point() or not x.numel():
        return torch.as_tensor(_stock_median(x))
    return _kth(x.reshape(-1), 0, -1, 1, False, x.new_empty(()), x.new_empty((), dtype=torch.int64))[0]


@kernel("nanmedian")
def nanmedian(x: Tensor) -> Tensor:
    """The lower median of all numbers by (value, index); NaN when there is none."""
    if not x.is_floating_point() or not x.numel():
        return torch.as_tensor(_stock_nanmedian(x))
    return _kth(x.reshape(-1), 0, -1, 2, False, x.new_empty(()), x.new_empty((), dtype=torch.int64))[0]


@kernel("_unique2")
def unique(
    x: Tensor, sorted: bool = True, return_inverse: bool = False, return_counts: bool = False
) -> tuple[Tensor, Tensor, Tensor]:
    """Distinct values ascending, of -0 and +0 the one that comes first; every NaN by itself, last."""
    if not x.is_floating_point() or not x.numel():
        values, inverse, counts = _stock_unique(x, sorted, return_inverse, return_counts)
        return values, inverse, counts
    ordered, places = sort(x.reshape(-1), stable=True, dim=0)
    values, along, counts = _stock_unique_consecutive(ordered, return_inverse or return_counts, return_counts)
    inverse = torch.empty(0, dtype=torch.int64, device=x.device)
    if along.numel():
        inverse = torch.empty_like(places)
        status = native.on(x).put_rows(
            inverse.data_ptr(), places.data_ptr(), along.data_ptr(), 1, x.numel(), x.numel(), 8
        )
        checked(status, "unique", x.numel())
        inverse = inverse.reshape(x.shape)
    return values, inverse, counts


@kernel("bincount")
def bincount(x: Tensor, weights: Tensor | None = None, minlength: int = 0) -> Tensor:
    """How often each number occurs; with weights their sums, added in the order of x."""
    if weights is None:
        return torch.as_tensor(_stock_bincount(x, None, minlength))
    if x.dim() != 1 or x.shape != weights.shape or x.is_floating_point() or minlength < 0:
        raise RuntimeError("bincount: expected 1-D integers and weights of the same length, and minlength >= 0")
    if x.numel() and int(x.min()) < 0:
        raise RuntimeError("bincount only supports 1-d non-negative integral inputs.")
    source = weights if weights.dtype == torch.float32 else weights.to(torch.float64)
    n = max(minlength, int(x.max()) + 1 if x.numel() else 0)
    result = source.new_zeros(n)
    add_rows(result, x.to(torch.int64), source, 0, "bincount")
    return result


@kernel("_embedding_bag", "_embedding_bag_forward_only")
def embedding_bag(
    weight: Tensor, indices: Tensor, offsets: Tensor, scale_grad_by_freq: bool = False, mode: int = 0, sparse: bool = False,
    per_sample_weights: Tensor | None = None, include_last_offset: bool = False, padding_idx: int = -1,
) -> tuple[Tensor, Tensor, Tensor, Tensor]:  # fmt: skip
    """(bags, width), the bag of each index, the number taken by each bag, and for mode max the winning indices."""
    if indices.dim() != 1 or offsets.dim() != 1 or weight.dim() != 2:
        raise RuntimeError("embedding_bag: expected 1-D indices and offsets and a 2-D weight")
    n, (n_dest, width) = indices.numel(), weight.shape
    index, start = indices.to(torch.int64).contiguous(), offsets.to(torch.int64).contiguous()
    if not include_last_offset:
        start = torch.cat([start, start.new_full((1,), n)])
    bags = start.numel() - 1
    if bags and (int(start[0]) != 0 or int(start[-1]) > n):
        raise RuntimeError("embedding_bag: the first offset has to be 0 and the last at most the number of indices")
    weight = weight.contiguous()
    out = weight.new_empty(max(0, bags), width)
    size = start.new_empty(max(0, bags))
    most = start.new_empty((max(0, bags), width) if mode == _MODE_MAX else (0,))
    samples = None
    if per_sample_weights is not None:
        if mode != _MODE_SUM or per_sample_weights.dtype != weight.dtype or per_sample_weights.shape != indices.shape:
            raise RuntimeError(
                "embedding_bag: per_sample_weights need mode sum, the type of weight and one number per index"
            )
        samples = per_sample_weights.contiguous()
    status = native.of(weight).embedding_bag(
        out.data_ptr(), size.data_ptr(), most.data_ptr() or None, weight.data_ptr(), index.data_ptr(), start.data_ptr(),
        None if samples is None else samples.data_ptr(), max(0, bags), n_dest, width, mode, padding_idx,
    )  # fmt: skip
    if status:
        checked(status, "embedding_bag", n_dest)
    bag_of = torch.repeat_interleave(start.diff(), output_size=int(start[-1]) if bags > 0 else 0)
    kind = indices.dtype
    return out, bag_of.to(kind), size.to(kind), most.to(kind)


@kernel("_embedding_bag_dense_backward")
def embedding_bag_dense_backward(
    grad: Tensor, indices: Tensor, offset2bag: Tensor, bag_size: Tensor, maximum_indices: Tensor, num_weights: int,
    scale_grad_by_freq: bool, mode: int, per_sample_weights: Tensor | None, padding_idx: int = -1,
) -> Tensor:  # fmt: skip
    """The gradient of the weight (num_weights, width): contributions in the order of indices (max: of bags)."""
    width = grad.shape[1]
    result = grad.new_zeros(num_weights, width)
    if mode == _MODE_MAX:
        index = maximum_indices.to(torch.int64).clamp(min=0).contiguous()
        source = torch.where(maximum_indices >= 0, grad, 0.0).contiguous()
        if grad.numel():
            status = native.of(grad).scatter_reduce(
                result.data_ptr(), index.data_ptr(), source.data_ptr(), 1, num_weights, grad.shape[0], width, 0
            )
            checked(status, "embedding_bag", num_weights)
        return result
    if mode == _MODE_MEAN:
        grad = grad / bag_size.to(grad.dtype).clamp_min(1)[:, None]
    source = grad.index_select(0, offset2bag)
    if per_sample_weights is not None:
        source = source * per_sample_weights[:, None]
    index = indices[: offset2bag.numel()].to(torch.int64)
    add_rows(result, index, source, 0, "embedding_bag", by_count=scale_grad_by_freq, skip=padding_idx)
    return result


@kernel("_embedding_bag_per_sample_weights_backward")
def embedding_bag_per_sample_weights_backward(
    grad: Tensor, weight: Tensor, indices: Tensor, offsets: Tensor, offset2bag: Tensor, mode: int, padding_idx: int = -1
) -> Tensor:
    """The gradient of each sample's weight: DOT of its bag's gradient and its row; 0 for padding."""
    index = indices.to(torch.int64)
    bags = offset2bag if offset2bag.numel() == index.numel() else torch.repeat_interleave(
        torch.cat([offsets, offsets.new_full((1,), index.numel())]).diff()
    )  # fmt: skip
    products = torch.bmm(grad.index_select(0, bags)[:, None, :], weight.index_select(0, index)[:, :, None]).reshape(-1)
    return products if padding_idx < 0 else torch.where(index == padding_idx, 0.0, products)


@kernel("embedding_renorm_")
def embedding_renorm(weight: Tensor, indices: Tensor, max_norm: float, norm_type: float) -> Tensor:
    """Rows that are looked up and longer than max_norm are scaled by max_norm / (norm + 1e-7), in place."""
    index = _stock_unique(indices.reshape(-1).to(torch.int64), True, False, False)[0]
    rows = weight.index_select(0, index)
    norms = torch.linalg.vector_norm(rows, norm_type, dim=1, keepdim=True)
    scale = torch.where(norms > max_norm, max_norm / (norms + 1e-7), 1.0)
    return weight.index_copy_(0, index, rows * scale)


@kernel("col2im")
def col2im(
    x: Tensor, output_size: Sequence[int], kernel_size: Sequence[int], dilation: Sequence[int], padding: Sequence[int],
    stride: Sequence[int],
) -> Tensor:  # fmt: skip
    """Fold: (N, C kernel_h kernel_w, windows) to (N, C, height, width), taps added in ascending order."""
    height, width = output_size
    taps = kernel_size[0] * kernel_size[1]
    batched = x.dim() == 3
    if x.dim() not in (2, 3) or taps <= 0 or min(*stride, *dilation) <= 0 or x.shape[-2] % taps:
        raise RuntimeError(f"col2im: expected (N, C * {taps}, windows) and positive sizes, got {list(x.shape)}")
    windows = [
        (output_size[k] + 2 * padding[k] - dilation[k] * (kernel_size[k] - 1) - 1) // stride[k] + 1 for k in (0, 1)
    ]
    if min(windows) < 1 or windows[0] * windows[1] != x.shape[-1]:
        raise RuntimeError(f"col2im: expected {windows[0]} * {windows[1]} windows, got {x.shape[-1]}")
    channels = x.shape[-2] // taps
    out = x.new_empty((*x.shape[:-2], channels, height, width))
    x = x.contiguous()
    if out.numel():
        status = native.of(x).fold_windows(
            out.data_ptr(), x.data_ptr(), (x.shape[0] if batched else 1) * channels, height, width, _PAIR(*kernel_size),
            _PAIR(*dilation), _PAIR(*padding), _PAIR(*stride), _PAIR(*windows),
        )  # fmt: skip
        succeed(status, "col2im")
    return out


@kernel("_embedding_bag_backward")
def embedding_bag_backward(
    grad: Tensor, indices: Tensor, offsets: Tensor, offset2bag: Tensor, bag_size: Tensor, maximum_indices: Tensor,
    num_weights: int, scale_grad_by_freq: bool, mode: int, sparse: bool, per_sample_weights: Tensor | None, padding_idx: int = -1,
) -> Tensor:  # fmt: skip
    """The dense gradient of the weight; KernelError for a sparse one."""
    if sparse:
        raise KernelError("embedding_bag: sparse gradients have no exact kernel; use sparse=False, or --backend torch")
    gradient: Tensor = embedding_bag_dense_backward(
        grad,
        indices,
        offset2bag,
        bag_size,
        maximum_indices,
        num_weights,
        scale_grad_by_freq,
        mode,
        per_sample_weights,
        padding_idx,
    )
    return gradient
