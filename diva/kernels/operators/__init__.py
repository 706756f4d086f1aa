"""Our kernels as PyTorch operators: one module per family; each declares what it serves in the table."""

from __future__ import annotations

import importlib
import pkgutil
from types import ModuleType
from typing import Any


def load() -> list[ModuleType]:
    """Import every family, so that the table is complete."""
    return [importlib.import_module(f"{__name__}.{module.name}") for module in pkgutil.iter_modules(__path__)]


def replacements() -> list[tuple[Any, str, Any]]:
    """Python functions of PyTorch that families replace while the scope is open: (owner, name, replacement)."""
    return [entry for family in load() for entry in getattr(family, "PINS", [])]
