"""The table of operators: which kernel of ours serves which aten operator, and PyTorch's own ones to pass on to."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch

Kernel = Callable[..., Any]

OURS: dict[str, Kernel] = {}
_CPU = torch._C.DispatchKeySet(torch._C.DispatchKey.CPU)


def kernel(*names: str) -> Callable[[Kernel], Kernel]:
    """Declare that the function serves the aten operators `names` ("mm", "add.Tensor": the functional overloads).

    The function takes what the operator's schema says (Python numbers may stand where it says Tensor) and returns new
    tensors. With a keyword `out` it can write its one result into that tensor instead: same shape and dtype as the
    result, any dense layout, it may be `self` itself; in-place and out= forms are made from it.
    """

    def declare(function: Kernel) -> Kernel:
        for name in names:
            if name in OURS:
                raise ValueError(f"aten::{name} has two kernels: {OURS[name].__qualname__} and {function.__qualname__}")
            OURS[name] = function
        return function

    return declare


def stock(name: str) -> Kernel:
    """PyTorch's own CPU kernel of "add.Tensor", fetched now: call it at import, before any override stands."""
    found = torch.library.get_kernel(f"aten::{name}", "CPU")

    def call(*args: Any, **kwargs: Any) -> Any:
        return found.call_boxed(_CPU, *args, **kwargs)

    return call
