"""Largest and smallest elements: comparisons in logical order, so that of equal zeros the first is taken; NaN wins."""

from __future__ import annotations

from collections.abc import Sequence

from torch import Tensor

from diva.kernels.table import kernel, stock

# Along one dimension stock PyTorch compares one element after the other, with the rule above; without a dimension, or along
# several, it compares vectors of the processor's width, and which zero comes out depends on them.
_max, _min = stock("max.dim"), stock("min.dim")


@kernel("amax")
def amax(self: Tensor, dim: Sequence[int] = (), keepdim: bool = False) -> Tensor:
    """The largest element over the dimensions `dim`, all when there are none."""
    return _along(_max, self, dim, keepdim)


@kernel("amin")
def amin(self: Tensor, dim: Sequence[int] = (), keepdim: bool = False) -> Tensor:
    """The smallest element over the dimensions `dim`, all when there are none."""
    return _along(_min, self, dim, keepdim)


@kernel("max")
def max_of_all(self: Tensor) -> Tensor:
    """The largest element."""
    return _along(_max, self, (), False)


@kernel("min")
def min_of_all(self: Tensor) -> Tensor:
    """The smallest element."""
    return _along(_min, self, (), False)


@kernel("aminmax")
def aminmax(self: Tensor, *, dim: int | None = None, keepdim: bool = False) -> tuple[Tensor, Tensor]:
    """The smallest and the largest element, along one dimension or of all."""
    over = () if dim is None else (dim,)
    return _along(_min, self, over, keepdim), _along(_max, self, over, keepdim)


def _along(choose: object, x: Tensor, dim: Sequence[int] | int, keepdim: bool) -> Tensor:
    """One row per result: the reduced dimensions go last and become one, in row-major order."""
    assert callable(choose)
    over = sorted(d % max(x.dim(), 1) for d in ((dim,) if isinstance(dim, int) else dim)) or list(range(x.dim()))
    for d in dim if not isinstance(dim, int) else (dim,):
        if not -max(x.dim(), 1) <= d < max(x.dim(), 1):
            raise IndexError(
                f"Dimension out of range (expected to be in range of [{-x.dim()}, {x.dim() - 1}], but got {d})"
            )
    if x.dim() == 0:
        return x.clone()
    kept = [d for d in range(x.dim()) if d not in over]
    rows = x.permute(*kept, *over).reshape([x.shape[d] for d in kept] + [-1]) if x.numel() else None
    if rows is None:
        if any(x.shape[d] == 0 for d in over):
            raise RuntimeError("amax(), amin(): expected a reduction over dimensions that are not empty")
        found = x.new_empty([x.shape[d] for d in kept])
    else:
        found = choose(rows, rows.dim() - 1)[0]
    return found.reshape([1 if d in over else x.shape[d] for d in range(x.dim())]) if keepdim else found
