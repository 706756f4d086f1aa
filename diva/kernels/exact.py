"""`with exact():`, importable from here as well; `diva.kernels.exact` is both this module and the scope."""

from __future__ import annotations

import sys
from contextlib import AbstractContextManager
from types import ModuleType

from diva.kernels.scope import enter, exact, leave

__all__ = ["enter", "exact", "leave"]


class _Callable(ModuleType):
    """Importing `diva.kernels.exact` puts this module under the name that `diva.kernels` gives to the scope."""

    def __call__(self, seed: int | None = None) -> AbstractContextManager[None]:
        return exact(seed)


sys.modules[__name__].__class__ = _Callable
