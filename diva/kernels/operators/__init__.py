"""Our kernels as PyTorch operators: one module per family; each declares what it serves in the table."""

from __future__ import annotations

import importlib
import pkgutil


def load() -> None:
    """Import every family, so that the table is complete."""
    for module in pkgutil.iter_modules(__path__):
        importlib.import_module(f"{__name__}.{module.name}")
