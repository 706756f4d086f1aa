"""Every instruction set of this machine, NEON and the GPU's kernels in emulators, behind the same two functions."""

from __future__ import annotations

import importlib.util
import platform
import sys
from functools import cache
from pathlib import Path
from typing import Any

import pytest

from diva.kernels import library

_spec = importlib.util.spec_from_file_location("emulated", Path(__file__).parent / "arm" / "emulated.py")
assert _spec is not None and _spec.loader is not None
emulated: Any = importlib.util.module_from_spec(_spec)
sys.modules["emulated"] = emulated
_spec.loader.exec_module(emulated)

_load, _available = library.load, library.available


@cache
def _arm() -> Any:
    return emulated.EmulatedLibrary()


_others = ["emulated"]
if platform.machine() == "x86_64" and emulated.missing() is None:
    library.load = lambda name: _arm() if name == "neon" else _load(name)
    _others.append("neon")
library.available = lambda: [*_available(), *_others]


@pytest.fixture(autouse=True)
def _the_best_library_with_one_thread():
    """A test may use any library and any number of threads; the next begins as the first did."""
    yield
    library.native.use()
    library.native.set_threads(1)
