"""Pickles of dictionaries, lists and arrays of bytes, read without running anything that they ask for.

A pickle is a program: it names functions and calls them. Here every name leads to a stand-in that only keeps its arguments; names other
than the few with which NumPy stores an array are refused.
"""

from __future__ import annotations

import io
import math
import pickle
from typing import Any, ClassVar

import numpy

from diva.errors import DataError
from diva.records.files import printable


class _Type:
    """What stands for a NumPy type: its name."""

    name: Any = None  # of one that was made without calling it

    def __init__(self, name: Any, *_: Any) -> None:
        self.name = name.decode("ascii", "replace") if isinstance(name, bytes) else name

    def __setstate__(self, state: Any) -> None:
        pass  # byte order and alignment, which bytes do not have


class _Array:
    """What stands for an array: what a pickle says that it holds."""

    state: Any = None

    def __init__(self, *_: Any) -> None:
        pass

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


_SETS = (pickle.EMPTY_SET[0], pickle.ADDITEMS[0], pickle.FROZENSET[0])


class _Reader(pickle._Unpickler):  # in Python: the one in C can be told to take any amount of memory
    """Only texts are keys: of 57 bytes a pickle can make a key that takes years to hash."""

    def load_dict(self) -> None:
        items = self.pop_mark()  # type: ignore[attr-defined]
        self.append(_filled({}, items))  # type: ignore[attr-defined]

    def load_setitem(self) -> None:
        value, key = self.stack.pop(), self.stack.pop()  # type: ignore[attr-defined]
        _filled(self.stack[-1], [key, value])  # type: ignore[attr-defined]

    def load_setitems(self) -> None:
        items = self.pop_mark()  # type: ignore[attr-defined]
        _filled(self.stack[-1], items)  # type: ignore[attr-defined]

    def load_build(self) -> None:
        state, built = self.stack.pop(), self.stack[-1]  # type: ignore[attr-defined]
        if not isinstance(built, (_Type, _Array)):
            raise pickle.UnpicklingError("it gives a state to what has none")
        built.__setstate__(state)

    _own: ClassVar[dict[int, Any]] = {
        pickle.DICT[0]: load_dict,
        pickle.SETITEM[0]: load_setitem,
        pickle.SETITEMS[0]: load_setitems,
        pickle.BUILD[0]: load_build,
    }
    dispatch = {code: read for code, read in pickle._Unpickler.dispatch.items() if code not in _SETS} | _own

    def find_class(self, module: str, name: str) -> Any:
        if (module, name) not in _STAND_INS:
            raise pickle.UnpicklingError(
                f"it asks for {printable(f'{module}.{name}'[:120])}, which could run code; only arrays, lists, texts and numbers are read"
            )
        return _STAND_INS[module, name]

    def persistent_load(self, pid: Any) -> Any:
        raise pickle.UnpicklingError("it asks for an object outside the file")


def _filled(found: Any, items: list[Any]) -> dict[str | bytes, Any]:
    """The dictionary with these keys and values, which follow each other."""
    if type(found) is not dict or len(items) % 2:
        raise pickle.UnpicklingError("it sets items of what is no dictionary")
    for key, value in zip(items[::2], items[1::2], strict=True):
        if not isinstance(key, (str, bytes)):
            raise pickle.UnpicklingError(f"it has a key of type {type(key).__name__}; only texts are keys")
        found[key] = value
    return found


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
    return {
        text(key, name): _array(value, name) if isinstance(value, _Array) else value for key, value in found.items()
    }


def text(value: Any, name: str) -> str:
    """A text, which Python 2 stored as bytes."""
    if isinstance(value, bytes):
        return value.decode("utf-8", "replace")
    if not isinstance(value, str):
        raise DataError(f"{name}: holds a {type(value).__name__} where a text must be")
    return value


def integers(value: Any, name: str) -> numpy.ndarray:
    """A list of integers as an array, int64 (N,)."""
    if not isinstance(value, list) or not all(type(item) is int and abs(item) < 1 << 31 for item in value):
        raise DataError(f"{name}: its labels are no list of integers")
    return numpy.array(value, numpy.int64)


def _array(stored: _Array, name: str) -> numpy.ndarray:
    state = stored.state
    if not (
        isinstance(state, tuple)
        and len(state) == 5
        and isinstance(state[1], tuple)
        and all(type(side) is int and 0 <= side < 1 << 31 for side in state[1])
        and isinstance(state[2], _Type)
        and isinstance(state[2].name, str)
    ):
        raise DataError(f"{name}: holds an array in an unknown form")
    _, shape, kind, by_column, content = state
    sound = isinstance(content, bytes) and not by_column
    if kind.name not in ("u1", "uint8", "|u1") or not sound or len(content) != math.prod(shape):
        size = len(content) if isinstance(content, bytes) else "no"
        raise DataError(
            f"{name}: holds an array of type {kind.name[:20]!r}, shape {shape[:9]} in {size} bytes; expected uint8, row by row"
        )
    return numpy.frombuffer(content, numpy.uint8).reshape(shape)
