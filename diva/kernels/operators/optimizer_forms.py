"""Which form of its step an optimizer takes when it is not told: on a GPU the one that it takes on the CPU."""

from __future__ import annotations

import importlib
from typing import Any

PINS: list[tuple[Any, str, Any]] = []  # (object, attribute, replacement), to be set while the scope is open


def _neither_fused_nor_foreach(*_: Any, **__: Any) -> tuple[bool, bool]:
    """PyTorch would take foreach on a GPU, which of some optimizers has another order of operations."""
    return False, False


for _name in ("adadelta", "adagrad", "adam", "adamax", "asgd", "nadam", "radam", "rmsprop", "rprop", "sgd"):
    _module = importlib.import_module(f"torch.optim.{_name}")
    if hasattr(_module, "_default_to_fused_or_foreach"):
        PINS.append((_module, "_default_to_fused_or_foreach", _neither_fused_nor_foreach))
