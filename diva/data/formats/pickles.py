"""Pickles of dictionaries, lists and arrays of bytes, read without running anything that they ask for.

A pickle is a program: it names functions and calls them. Here every name leads to a stand-in that only keeps its arguments; names other
than the few with which NumPy stores an array are refused.
"""

from __future__ import annotations

import io
import pickle
from typing import Any

import numpy

from diva.errors import DataError


class _Type:
    """What stands for a NumPy type: its name."""

    def __init__(self, name: Any, *_: Any) -> None:
        self.name = name.decode("ascii", "replace") if isinstance(name, bytes) else name

    def __setstate__(self, state: Any) -> None:
        pass  # byte order and alignment, which bytes do not have


class _Array:
    """What stands for an array: what a pickle says that it holds."""

    def __init__(self, *_: Any) -> None:
        self.state: Any = None

    def __setstate__(self, state: Any) -> None:
        self.state = state


def _encode(text: Any, encoding: Any = "latin1") -> bytes:
    """Bytes as Python 3 stores them in a pickle of protocol 2."""
    if not isinstance(text, str) or encoding not in ("latin1", "latin-1"):
        raise pickle.UnpicklingError("bytes in an encoding other than latin1")
    return text.encode("latin1")


_STAND_INS: dict[tuple[str, str], Any] = {
    ("numpy", "ndarray"): "ndarray",
    ("numpy", "dtype"): _Type,
    ("numpy.core.multiarray", "_reconstruct"): _Array,
    ("numpy._core.multiarray", "_reconstruct"): _Array,
    ("_codecs", "encode"): _encode,
}


class _Reader(pickle._Unpickler):  # in Python: the one in C can be told to take any amount of memory
    def find_class(self, module: str, name: str) -> Any:
        if (module, name) not in _STAND_INS:
            raise pickle.UnpicklingError(
                f"it asks for {module}.{name}, which could run code; only arrays, lists, texts and numbers are read"
            )
        return _STAND_INS[module, name]

    def persistent_load(self, pid: Any) -> Any:
        raise pickle.UnpicklingError("it asks for an object outside the file")


def load(content: bytes, name: str) -> dict[str, Any]:
    """The dictionary that a pickle holds, its keys as text and its arrays of bytes as NumPy arrays.

    DataError: another global is named (which one is told), it is damaged, or it holds something else.
    """
    try:
        found = _Reader(io.BytesIO(content), encoding="bytes").load()
    except pickle.UnpicklingError as error:
        raise DataError(f"{name}: this pickle is refused: {error}") from None
    except (
        EOFError,
        ValueError,
        TypeError,
        KeyError,
        IndexError,
        AttributeError,
        MemoryError,
        RecursionError,
    ) as error:
        raise DataError(f"{name}: this pickle is damaged: {error}. Delete the archive and download it again") from None
    if not isinstance(found, dict):
        raise DataError(f"{name}: holds a {type(found).__name__}; expected a dictionary")
    return {text(key): _array(value, name) if isinstance(value, _Array) else value for key, value in found.items()}


def text(value: Any) -> str:
    """A text that Python 2 stored as bytes."""
    return value.decode("utf-8", "replace") if isinstance(value, bytes) else str(value)


def integers(value: Any, name: str) -> numpy.ndarray:
    """A list of integers as an array, int64 (N,)."""
    if not isinstance(value, list) or not all(type(item) is int and abs(item) < 1 << 31 for item in value):
        raise DataError(f"{name}: its labels are no list of integers")
    return numpy.array(value, numpy.int64)


def _array(stored: _Array, name: str) -> numpy.ndarray:
    state = stored.state
    if not (
        isinstance(state, tuple) and len(state) == 5 and isinstance(state[1], tuple) and isinstance(state[2], _Type)
    ):
        raise DataError(f"{name}: holds an array in an unknown form")
    _, shape, kind, by_column, content = state
    sound = all(type(side) is int and side >= 0 for side in shape) and isinstance(content, bytes) and not by_column
    if kind.name not in ("u1", "uint8", "|u1") or not sound or len(content) != numpy.prod(shape, dtype=object):
        size = len(content) if isinstance(content, bytes) else "no"
        raise DataError(
            f"{name}: holds an array of type {kind.name!r}, shape {shape} in {size} bytes; expected uint8, row by row"
        )
    return numpy.frombuffer(content, numpy.uint8).reshape(shape)
