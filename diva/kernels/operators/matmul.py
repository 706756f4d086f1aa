"""Matrix products: mm, addmm, bmm, baddbmm, addbmm, mv, addmv, dot, vdot, addr and what nn.Linear calls."""

from __future__ import annotations

from typing import Any, NoReturn

import torch
from torch import Tensor

from diva.kernels.library import native
from diva.kernels.status import failed
from diva.kernels.table import kernel, stock

_FLOATS = (torch.float32, torch.float64, torch.float16, torch.bfloat16, torch.complex64, torch.complex128)

_stock_mm = stock("mm")
_stock_addmm = stock("addmm")
_stock_bmm = stock("bmm")
_stock_baddbmm = stock("baddbmm")
_stock_addbmm = stock("addbmm")
_stock_addmv = stock("addmv")
_stock_dot = stock("dot")
_stock_vdot = stock("vdot")
_stock_addr = stock("addr")


@kernel("mm")
def mm(self: Tensor, mat2: Tensor, *, out: Tensor | None = None) -> Tensor:
    """DOT of rows and columns, (m, k) x (k, n) -> (m, n). `out` may have any strides."""
    dtype = self.dtype
    if dtype not in _FLOATS:
        return _passed_on(_stock_mm(self, mat2), out)
    try:
        m, k = self.shape
        rows, n = mat2.shape
    except ValueError:
        _refuse("mm", "self and mat2 must be matrices", self, mat2)
    if rows != k or mat2.dtype != dtype:
        _refuse("mm", "mat1 and mat2 shapes cannot be multiplied, or their types differ", self, mat2)
    result = self.new_empty((m, n)) if out is None else _apart(out, self, mat2)
    a, b, c = self.stride(), mat2.stride(), result.stride()
    status = native.of(self).mm(
        m, n, k, self.data_ptr(), a[0], a[1], mat2.data_ptr(), b[0], b[1], result.data_ptr(), c[0], c[1]
    )
    return _finished(status, result, out)


@kernel("addmm")
def addmm(
    self: Tensor, mat1: Tensor, mat2: Tensor, *, beta: Any = 1, alpha: Any = 1, out: Tensor | None = None
) -> Tensor:
    """beta self + alpha (mat1 mat2), the addend broadcast to (m, n). `out` may have any strides and be `self`."""
    dtype = mat1.dtype
    if dtype not in _FLOATS:
        return _passed_on(_stock_addmm(self, mat1, mat2, beta=beta, alpha=alpha), out)
    try:
        m, k = mat1.shape
        rows, n = mat2.shape
    except ValueError:
        _refuse("addmm", "mat1 and mat2 must be matrices", mat1, mat2)
    if rows != k or mat2.dtype != dtype or self.dtype != dtype:
        _refuse("addmm", "mat1 and mat2 shapes cannot be multiplied, or types differ", self, mat1, mat2)
    shape = self.shape
    if len(shape) == 1 and shape[0] == n:
        row, col = 0, self.stride(0)
    else:
        row, col = self.expand(m, n).stride()
    result = self.new_empty((m, n)) if out is None else _apart(out, mat1, mat2)
    a, b, c = mat1.stride(), mat2.stride(), result.stride()
    status = native.of(self).addmm(
        m, n, k, mat1.data_ptr(), a[0], a[1], mat2.data_ptr(), b[0], b[1], result.data_ptr(), c[0], c[1],
        self.data_ptr(), row, col, beta, alpha,
    )  # fmt: skip
    return _finished(status, result, out)


@kernel("_addmm_activation")
def addmm_activation(
    self: Tensor, mat1: Tensor, mat2: Tensor, *, beta: Any = 1, alpha: Any = 1, use_gelu: bool = False
) -> Tensor:
    """addmm, then relu or gelu (erf form), each as its own operator."""
    result = addmm(self, mat1, mat2, beta=beta, alpha=alpha)
    return torch.nn.functional.gelu(result) if use_gelu else torch.relu(result)


@kernel("bmm")
def bmm(self: Tensor, mat2: Tensor, *, out: Tensor | None = None) -> Tensor:
    """mm for each matrix of a batch, (b, m, k) x (b, k, n) -> (b, m, n). `out` may have any strides."""
    dtype = self.dtype
    if dtype not in _FLOATS:
        return _passed_on(_stock_bmm(self, mat2), out)
    batch, m, n, k = _batched("bmm", self, mat2)
    result = self.new_empty((batch, m, n)) if out is None else _apart(out, self, mat2)
    a, b, c = self.stride(), mat2.stride(), result.stride()
    status = native.of(self).bmm(batch, m, n, k, self.data_ptr(), *a, mat2.data_ptr(), *b, result.data_ptr(), *c)
    return _finished(status, result, out)


@kernel("baddbmm")
def baddbmm(
    self: Tensor, batch1: Tensor, batch2: Tensor, *, beta: Any = 1, alpha: Any = 1, out: Tensor | None = None
) -> Tensor:
    """addmm for each matrix of a batch, the addend broadcast to (b, m, n). `out` may have any strides and be `self`."""
    dtype = batch1.dtype
    if dtype not in _FLOATS:
        return _passed_on(_stock_baddbmm(self, batch1, batch2, beta=beta, alpha=alpha), out)
    batch, m, n, k = _batched("baddbmm", batch1, batch2)
    if self.dtype != dtype:
        _refuse("baddbmm", "types differ", self, batch1, batch2)
    added = self.expand(batch, m, n)
    result = self.new_empty((batch, m, n)) if out is None else _apart(out, batch1, batch2)
    status = native.of(self).baddbmm(
        batch, m, n, k, batch1.data_ptr(), *batch1.stride(), batch2.data_ptr(), *batch2.stride(), result.data_ptr(),
        *result.stride(), added.data_ptr(), *added.stride(), beta, alpha,
    )  # fmt: skip
    return _finished(status, result, out)


@kernel("addbmm")
def addbmm(
    self: Tensor, batch1: Tensor, batch2: Tensor, *, beta: Any = 1, alpha: Any = 1, out: Tensor | None = None
) -> Tensor:
    """beta self + alpha R, R one DOT over (batch, k), batch the slower. `out` may have any strides and be `self`."""
    dtype = batch1.dtype
    if dtype not in _FLOATS:
        return _passed_on(_stock_addbmm(self, batch1, batch2, beta=beta, alpha=alpha), out)
    batch, m, n, k = _batched("addbmm", batch1, batch2)
    if self.dtype != dtype:
        _refuse("addbmm", "types differ", self, batch1, batch2)
    added = self.expand(m, n)
    result = self.new_empty((m, n)) if out is None else _apart(out, batch1, batch2)
    status = native.of(self).addbmm(
        batch, m, n, k, batch1.data_ptr(), *batch1.stride(), batch2.data_ptr(), *batch2.stride(), result.data_ptr(),
        *result.stride(), added.data_ptr(), *added.stride(), beta, alpha,
    )  # fmt: skip
    return _finished(status, result, out)


@kernel("mv")
def mv(self: Tensor, vec: Tensor, *, out: Tensor | None = None) -> Tensor:
    """DOT of each row and the vector, (m, k) x (k) -> (m)."""
    dtype = self.dtype
    if dtype not in _FLOATS:
        return _passed_on(_stock_addmv(vec.new_zeros(self.shape[:1]), self, vec, beta=0), out)
    m, k = _matrix_vector("mv", self, vec)
    result = self.new_empty((m,)) if out is None else _apart(out, self, vec)
    a = self.stride()
    status = native.of(self).mm(
        m, 1, k, self.data_ptr(), a[0], a[1], vec.data_ptr(), vec.stride(0), 1, result.data_ptr(), result.stride(0), 1
    )
    return _finished(status, result, out)


@kernel("addmv")
def addmv(
    self: Tensor, mat: Tensor, vec: Tensor, *, beta: Any = 1, alpha: Any = 1, out: Tensor | None = None
) -> Tensor:
    """beta self + alpha (mat vec), the addend broadcast to (m). `out` may be `self`."""
    dtype = mat.dtype
    if dtype not in _FLOATS:
        return _passed_on(_stock_addmv(self, mat, vec, beta=beta, alpha=alpha), out)
    m, k = _matrix_vector("addmv", mat, vec)
    if self.dtype != dtype:
        _refuse("addmv", "types differ", self, mat, vec)
    added = self.expand(m)
    result = self.new_empty((m,)) if out is None else _apart(out, mat, vec)
    a = mat.stride()
    status = native.of(self).addmm(
        m, 1, k, mat.data_ptr(), a[0], a[1], vec.data_ptr(), vec.stride(0), 1, result.data_ptr(), result.stride(0), 1,
        added.data_ptr(), added.stride(0), 0, beta, alpha,
    )  # fmt: skip
    return _finished(status, result, out)


@kernel("dot")
def dot(self: Tensor, tensor: Tensor, *, out: Tensor | None = None) -> Tensor:
    """DOT of two vectors, a 0-dim tensor."""
    if self.dtype not in _FLOATS:
        return _passed_on(_stock_dot(self, tensor), out)
    return _dot("dot", self, tensor, out)


@kernel("vdot")
def vdot(self: Tensor, other: Tensor, *, out: Tensor | None = None) -> Tensor:
    """DOT of two vectors (real numbers: the same as dot)."""
    if self.dtype not in _FLOATS:
        return _passed_on(_stock_vdot(self, other), out)
    return _dot("vdot", self, other, out)


@kernel("addr")
def addr(
    self: Tensor, vec1: Tensor, vec2: Tensor, *, beta: Any = 1, alpha: Any = 1, out: Tensor | None = None
) -> Tensor:
    """beta self + alpha (vec1 outer vec2): addmm with one term."""
    if vec1.dtype not in _FLOATS:
        return _passed_on(_stock_addr(self, vec1, vec2, beta=beta, alpha=alpha), out)
    if vec1.dim() != 1 or vec2.dim() != 1:
        _refuse("addr", "vec1 and vec2 must be vectors", vec1, vec2)
    result: Tensor = addmm(self, vec1.unsqueeze(1), vec2.unsqueeze(0), beta=beta, alpha=alpha, out=out)
    return result


def _dot(name: str, x: Tensor, y: Tensor, out: Tensor | None) -> Tensor:
    if x.dim() != 1 or y.dim() != 1 or x.shape != y.shape or x.dtype != y.dtype:
        _refuse(name, "needs two vectors of one size and type", x, y)
    result = x.new_empty(()) if out is None else out
    status = native.of(x).dot(x.shape[0], x.data_ptr(), x.stride(0), y.data_ptr(), y.stride(0), result.data_ptr())
    return _finished(status, result, out)


def _batched(name: str, a: Tensor, b: Tensor) -> tuple[int, int, int, int]:
    try:
        batch, m, k = a.shape
        other, rows, n = b.shape
    except ValueError:
        _refuse(name, "needs batches of matrices (three dimensions)", a, b)
    if other != batch or rows != k or a.dtype != b.dtype:
        _refuse(name, "batches or shapes do not fit, or types differ", a, b)
    return batch, m, n, k


def _matrix_vector(name: str, mat: Tensor, vec: Tensor) -> tuple[int, int]:
    if mat.dim() != 2 or vec.dim() != 1 or mat.shape[1] != vec.shape[0] or mat.dtype != vec.dtype:
        _refuse(name, "needs a matrix and a vector as long as its rows, of one type", mat, vec)
    return mat.shape[0], mat.shape[1]


def _apart(out: Tensor, a: Tensor, b: Tensor) -> Tensor:
    """`out`, or new memory when `out` is an operand that is still to be read."""
    here = out.data_ptr()
    return torch.empty_like(out) if here in (a.data_ptr(), b.data_ptr()) else out


def _finished(status: int, result: Tensor, out: Tensor | None) -> Tensor:
    if status:
        raise failed(status, "matrix product")
    return result if out is None or out is result else out.copy_(result)


def _passed_on(result: Tensor, out: Tensor | None) -> Tensor:
    return result if out is None else out.copy_(result)


def _refuse(name: str, reason: str, *tensors: Tensor) -> NoReturn:
    found = ", ".join(f"{tuple(t.shape)} {t.dtype}" for t in tensors)
    raise RuntimeError(f"{name}: {reason}; got {found}")
