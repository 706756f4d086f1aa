"""The scope in which every number comes from a kernel whose order of operations is fixed."""

from __future__ import annotations

import warnings
from collections.abc import Iterator
from contextlib import contextmanager

import torch

from diva.kernels import operators, table


@contextmanager
def exact() -> Iterator[None]:
    """Our kernels serve their operators while this is open."""
    operators.load()
    library = torch.library.Library("aten", "IMPL")
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        for name, function in table.OURS.items():
            library.impl(name, function, "CPU", allow_override=True)
    try:
        yield
    finally:
        library._destroy()
