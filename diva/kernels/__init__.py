"""How numbers are computed. `with diva.kernels.exact(seed=0): ...` gives anyone's PyTorch code exact kernels."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from diva.kernels.scope import exact
    from diva.kernels.table import declare_safe, declared, register

__all__ = ["declare_safe", "declared", "exact", "register"]


def __getattr__(name: str) -> Any:
    """The public names, each loaded when it is asked for: importing this imports no torch."""
    if name not in __all__:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    from diva.kernels import scope, table

    return getattr(scope if name == "exact" else table, name)
